//! The command line: words to options. stdout is the answer, stderr is trouble; 0 yes, 1 checked and no, 2 could not
//! check.

pub mod bench;
pub mod logits;
pub mod predict;
pub mod prepare;
pub mod verify;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;

use samesight::{Engine, Error, Kind, Options, Result};

/// The words of a command line after the command's name.
pub struct Words {
    places: Vec<OsString>,
    options: Vec<(String, Option<OsString>)>,
    help: &'static str,
}

impl Words {
    /// Read `words`: options in `flags` stand alone, those in `valued` have a value, all else are places.
    pub fn read(
        words: impl Iterator<Item = OsString>,
        flags: &[&str],
        valued: &[&str],
        help: &'static str,
    ) -> Result<Self> {
        let mut found = Self { places: Vec::new(), options: Vec::new(), help };
        let mut words = words;
        let mut only_places = false;
        while let Some(word) = words.next() {
            let text = word.to_string_lossy().into_owned();
            if only_places || !text.starts_with("--") {
                found.places.push(word);
                continue;
            }
            if text == "--" {
                only_places = true;
                continue;
            }
            let (name, value) = match text.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(OsString::from(value))),
                None => (text, None),
            };
            let value = match (flags.contains(&&*name), valued.contains(&&*name)) {
                (true, _) if value.is_none() => None,
                (_, true) => {
                    let next = value.or_else(|| words.next());
                    Some(next.ok_or_else(|| usage(&format!("{name} needs a value"), help))?)
                }
                _ => return Err(usage(&format!("there is no option {name}"), help)),
            };
            found.options.push((name, value));
        }
        Ok(found)
    }

    pub fn has(&self, name: &str) -> bool {
        self.options.iter().any(|(one, _)| one == name)
    }

    pub fn all(&self, name: &str) -> Vec<String> {
        let named = self.options.iter().filter(|(one, _)| one == name);
        named.filter_map(|(_, value)| Some(value.as_ref()?.to_string_lossy().into_owned())).collect()
    }

    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.options.iter().rev().find(|(one, _)| one == name)?.1.clone().map(PathBuf::from)
    }

    pub fn text(&self, name: &str) -> Option<String> {
        self.all(name).pop()
    }

    /// A whole number from 1 on.
    pub fn number(&self, name: &str) -> Result<Option<usize>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        match text.parse() {
            Ok(number @ 1..=100_000) => Ok(Some(number)),
            _ => Err(Error::new(Kind::Input, format!("{name} is not a whole number from 1 to 100000")).found(text)),
        }
    }

    /// The bundle's folder, and what follows.
    pub fn bundle(&self) -> Result<(PathBuf, &[OsString])> {
        match self.places.split_first() {
            Some((bundle, rest)) => Ok((PathBuf::from(bundle), rest)),
            None => Err(usage("the bundle's folder is missing", self.help)),
        }
    }

    /// How a bundle is opened.
    pub fn opening(&self) -> Result<Options> {
        Ok(Options {
            copy: self.text("--copy"),
            engine: self.text("--engine").map_or(Ok(Engine::default()), |name| Engine::named(&name))?,
            threads: self.number("--threads")?,
            trust: self.path("--trust"),
            library: self.path("--onnxruntime"),
            cache: if self.has("--cache") { Options::usual_cache() } else { None },
            many: false,
        })
    }
}

/// A mistake on the command line.
pub fn usage(what: &str, help: &'static str) -> Error {
    Error::new(Kind::Input, what.to_owned()).fix(help.lines().next().unwrap_or_default().trim_start_matches("usage: "))
}

/// Print a line of the answer; whether somebody still reads it.
pub fn print(out: &mut impl Write, line: &str) -> bool {
    out.write_all(line.as_bytes()).and_then(|()| out.write_all(b"\n")).is_ok()
}

/// What stdout is given, a buffer at a time.
pub fn stdout() -> io::BufWriter<io::StdoutLock<'static>> {
    io::BufWriter::new(io::stdout().lock())
}
