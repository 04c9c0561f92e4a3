//! Every error, by the names that Python and the browser use.
//!
//! ```text
//! InputError                an option, a path or a file that does not fit
//! └── PhotoError            one photo that cannot be read; its kind is a `Refusal`
//! BundleError               a bundle that must not be used
//! ├── BundleMissing         no bundle there
//! ├── BundleNewer           written in a later format than this version reads
//! ├── BundleInvalid         bundle.json says something that the format does not allow
//! ├── BundlePath            a listed path leaves the bundle's folder
//! ├── BundleFiles           a file is missing, or one is there that is not listed
//! ├── BundleChanged         a file's size or SHA-256 is not the recorded one
//! ├── BundleLabels          the number of labels is not the number of outputs
//! └── SignatureError        not signed, or not signed by the trusted key
//! RuntimeMissing            no ONNX Runtime to run a network with
//! ```

use std::fmt;

/// Which rule was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An option, a path or a file that does not fit.
    Input,
    /// One photo that cannot be read.
    Photo(Refusal),
    /// No bundle there.
    BundleMissing,
    /// Written in a later format than this version reads.
    BundleNewer,
    /// bundle.json says something that the format does not allow.
    BundleInvalid,
    /// A listed path leaves the bundle's folder.
    BundlePath,
    /// A file is missing, or one is there that is not listed.
    BundleFiles,
    /// A file's size or SHA-256 is not the recorded one.
    BundleChanged,
    /// The number of labels is not the number of outputs.
    BundleLabels,
    /// Not signed, or not signed by the trusted key.
    Signature,
    /// No ONNX Runtime to run a network with.
    RuntimeMissing,
}

impl Kind {
    /// The name that every runtime has for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Input => "InputError",
            Self::Photo(_) => "PhotoError",
            Self::BundleMissing => "BundleMissing",
            Self::BundleNewer => "BundleNewer",
            Self::BundleInvalid => "BundleInvalid",
            Self::BundlePath => "BundlePath",
            Self::BundleFiles => "BundleFiles",
            Self::BundleChanged => "BundleChanged",
            Self::BundleLabels => "BundleLabels",
            Self::Signature => "SignatureError",
            Self::RuntimeMissing => "RuntimeMissing",
        }
    }
}

/// Why a photo is refused, by the names of spec/preprocess.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The file has no bytes.
    Empty,
    /// The file cannot be opened or read.
    Unreadable,
    /// Its first bytes are of no format that is read.
    Unknown,
    /// A limit is passed.
    TooLarge,
    /// The file ends before its picture does.
    Truncated,
    /// A header, checksum or compressed picture is wrong.
    Damaged,
    /// Well formed, but without a rule.
    Unsupported,
}

impl Refusal {
    /// The name in spec/preprocess.md.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Unreadable => "unreadable",
            Self::Unknown => "unknown",
            Self::TooLarge => "too-large",
            Self::Truncated => "truncated",
            Self::Damaged => "damaged",
            Self::Unsupported => "unsupported",
        }
    }

    fn what(self) -> &'static str {
        match self {
            Self::Empty => "a photo's file is empty",
            Self::Unreadable => "a photo cannot be read from the disk",
            Self::Unknown => "a file is not a photo of a kind that Samesight reads",
            Self::TooLarge => "a photo is too large",
            Self::Truncated => "a photo is cut short",
            Self::Damaged => "a photo is damaged",
            Self::Unsupported => "a photo is of a kind that has no rule",
        }
    }
}

/// What went wrong, where, what was expected and found, and what to type next.
#[derive(Debug)]
pub struct Error(Box<Parts>);

/// `Result` with this crate's error.
pub type Result<T> = std::result::Result<T, Error>;

#[derive(Clone, Debug)]
struct Parts {
    kind: Kind,
    what: String,
    place: Option<String>,
    expected: Option<String>,
    found: Option<String>,
    fix: Option<String>,
}

impl Error {
    /// An error of that kind; more about it is added by the methods below.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self(Box::new(Parts { kind, what: what.into(), place: None, expected: None, found: None, fix: None }))
    }

    pub(crate) fn input(what: impl Into<String>) -> Self {
        Self::new(Kind::Input, what)
    }

    pub(crate) fn invalid(what: impl Into<String>) -> Self {
        Self::new(Kind::BundleInvalid, what)
    }

    /// A photo that is refused, and what was found.
    pub(crate) fn photo(refusal: Refusal, found: impl fmt::Display) -> Self {
        Self::new(Kind::Photo(refusal), refusal.what()).found(found)
    }

    pub(crate) fn empty_photo() -> Self {
        Self::new(Kind::Photo(Refusal::Empty), Refusal::Empty.what())
    }

    /// Where.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.0.place = Some(place.to_string());
        self
    }

    /// What was expected.
    #[must_use]
    pub fn expected(mut self, expected: impl fmt::Display) -> Self {
        self.0.expected = Some(expected.to_string());
        self
    }

    /// What was found.
    #[must_use]
    pub fn found(mut self, found: impl fmt::Display) -> Self {
        self.0.found = Some(found.to_string());
        self
    }

    /// What to type next.
    #[must_use]
    pub fn fix(mut self, fix: impl fmt::Display) -> Self {
        self.0.fix = Some(fix.to_string());
        self
    }

    /// The same error, which also says that it is about `place`.
    pub(crate) fn within(mut self, place: impl fmt::Display) -> Self {
        self.0.place = Some(match self.0.place.take() {
            Some(inner) => format!("{place} ({inner})"),
            None => place.to_string(),
        });
        self
    }

    /// Which rule was broken.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Why a photo was refused; nothing where the error is about something else.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        match self.0.kind {
            Kind::Photo(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// What went wrong, without the rest.
    #[must_use]
    pub fn what(&self) -> &str {
        &self.0.what
    }

    /// The parts of the message beside `what`: a word for each, and its text.
    fn rest(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let Parts { place, expected, found, fix, .. } = &*self.0;
        [("where", place), ("expected", expected), ("found", found), ("try", fix)]
            .into_iter()
            .filter_map(|(word, text)| text.as_deref().map(|text| (word, text)))
    }

    /// The error in one line, without the photo that it is about, as answers have it.
    #[must_use]
    pub fn one_line(&self) -> String {
        let mut line = squeezed(&self.0.what);
        for (word, text) in [("expected", &self.0.expected), ("found", &self.0.found)] {
            if let Some(text) = text {
                line.push_str(&squeezed(&format!("; {word} {text}")));
            }
        }
        line
    }
}

fn squeezed(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.0.what)?;
        for (word, text) in self.rest() {
            write!(out, "\n  {:<9} {text}", format!("{word}:"))?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
