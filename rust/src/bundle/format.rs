//! bundle.json read strictly: its fields, or the error that says which part is wrong (spec/bundle.md).

use std::collections::{HashMap, HashSet};

use crate::errors::{Error, Kind, Result};
use crate::json::{
    self, MAX_WHOLE, Table, Value, any_number, choice, each, formed, positive, text, text_or_empty, whole,
};
use crate::preprocess::Preprocess;

const FORMAT: &str = "samesight-bundle";
const FORMAT_VERSION: usize = 1;
const MAX_FILES: usize = 20_000;
const MAX_FILE_BYTES: i64 = (1 << 31) - 1; // what one ONNX file can hold
const MAX_LABELS: usize = 100_000;
const MAX_COPIES: usize = 16;
const MAX_PATH: usize = 200;
const MAX_DEPTH: usize = 8;
const KEYS: [&str; 15] = [
    "format",
    "format_version",
    "name",
    "version",
    "created",
    "labels",
    "preprocess",
    "input",
    "output",
    "copies",
    "reference",
    "golden",
    "made",
    "license",
    "files",
];

/// Whether a model takes and gives float32 or float16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// 32 bits
    Float32,
    /// 16 bits
    Float16,
}

impl Dtype {
    /// Its name in bundle.json.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::Float16 => "float16",
        }
    }
}

/// One ONNX file of the network: its precision, what goes in and out, and what was measured of it.
#[derive(Clone, Debug)]
pub struct Copy {
    /// "fp32", "fp16", …
    pub name: String,
    /// Its path among the bundle's files.
    pub file: String,
    /// "fp32", "fp16" or "int8".
    pub precision: String,
    /// Of the file itself.
    pub input_dtype: Dtype,
    /// Of the file itself.
    pub output_dtype: Dtype,
    /// Of the file, as bundle.json has it.
    pub sha256: String,
    /// Figures by name; nothing where one was not measured.
    pub recorded: HashMap<String, Option<f64>>,
}

/// One file of the bundle beside bundle.json.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub path: String,
    pub size_bytes: usize,
    pub sha256: String,
}

/// What bundle.json says of the golden samples.
#[derive(Clone, Debug)]
pub struct GoldenInfo {
    /// Whether they may be shown to others.
    pub publishable: bool,
    /// How many there are.
    pub samples: usize,
    /// Labels that have none.
    pub labels_without_sample: Vec<String>,
}

/// What bundle.json says, as far as it is used here; all of it has been checked.
#[derive(Clone, Debug)]
pub struct Info {
    /// The bundle's name.
    pub name: String,
    /// Its semantic version.
    pub version: String,
    /// The label of each output, in order.
    pub labels: Vec<String>,
    /// From a photo to the tensor.
    pub preprocess: Preprocess,
    /// How many photos a model takes at once; nothing where it is any number.
    pub batch: Option<usize>,
    /// The copies of the network.
    pub copies: Vec<Copy>,
    /// About the golden samples.
    pub golden: GoldenInfo,
}

/// What a parsed bundle.json says, and its list of files.
pub fn read(value: &Value) -> Result<(Info, Vec<File>)> {
    check_format(value)?;
    let top = Table::of(value, "bundle.json", &KEYS)?;
    formed(top.get("name"), "name", 100, "letters, digits, '.', '_', '-'", |name| is_plain(name, is_name_byte))?;
    formed(top.get("version"), "version", 100, "semantic version 2.0.0", is_semantic_version)?;
    formed(top.get("created"), "created", 20, "2026-11-22T02:00:00Z", is_date)?;
    let labels = each(top.get("labels"), "labels", 1, MAX_LABELS, |one, place| Ok(text(one, place, 512)?.to_owned()))?;
    let preprocess = Preprocess::from_json(top.get("preprocess"), "preprocess")?;
    let input = side(top.get("input"), "input", &["name", "dtype", "layout", "shape"], 4)?;
    let output = side(top.get("output"), "output", &["name", "dtype", "shape"], 2)?;
    let copies = each(top.get("copies"), "copies", 1, MAX_COPIES, copy)?;
    let reference = Table::of(top.get("reference"), "reference", &["framework", "recorded"])?;
    text(reference.get("framework"), "reference.framework", 100)?;
    recorded(reference.get("recorded"), "reference.recorded")?;
    let golden = golden(top.get("golden"))?;
    check_made(top.get("made"))?;
    check_license(top.get("license"))?;
    distinct("label", "labels", labels.iter().map(String::as_str))?;
    let files = each(top.get("files"), "files", 1, MAX_FILES, file)?;
    let string = |key| text(top.get(key), key, 100).map(str::to_owned);
    let mut info = Info {
        name: string("name")?,
        version: string("version")?,
        labels,
        preprocess,
        batch: input[0],
        copies,
        golden,
    };
    check_together(&info, &input, &output, &files)?;
    for copy in &mut info.copies {
        let listed = files.iter().find(|(file, _)| file.path == copy.file);
        copy.sha256 = listed.map(|(file, _)| file.sha256.clone()).unwrap_or_default();
    }
    let files = files.into_iter().map(|(file, _)| file).collect();
    Ok((info, files))
}

fn check_format(value: &Value) -> Result<()> {
    if value.get("format") != Some(&FORMAT.into()) {
        return Err(Error::invalid("bundle.json is not of this format").at("format").expected(format!("\"{FORMAT}\"")));
    }
    let version = whole(value.get("format_version").unwrap_or(&Value::Null), "format_version", 1, MAX_WHOLE)?;
    if version > FORMAT_VERSION {
        return Err(Error::new(Kind::BundleNewer, "the bundle was written by a newer Samesight")
            .at("format_version")
            .expected(format!("at most {FORMAT_VERSION}"))
            .found(version)
            .fix("a newer samesight-rs: git pull, make rust"));
    }
    Ok(())
}

/// The shape of the input or output: sizes, the first of which is nothing where it is any number.
fn side(value: &Value, place: &str, keys: &[&str], rank: usize) -> Result<Vec<Option<usize>>> {
    let side = Table::of(value, place, keys)?;
    choice(side.get("name"), &format!("{place}.name"), &[place])?;
    choice(side.get("dtype"), &format!("{place}.dtype"), &["float32"])?;
    if keys.contains(&"layout") {
        choice(side.get("layout"), "input.layout", &["NCHW"])?;
    }
    let is_batch = |value: &Value, at: &str| at.ends_with("[0]") && *value == "batch".into();
    each(side.get("shape"), &format!("{place}.shape"), rank, rank, |one, at| {
        if is_batch(one, at) { Ok(None) } else { whole(one, at, 1, MAX_LABELS as i64).map(Some) }
    })
}

fn copy(value: &Value, place: &str) -> Result<Copy> {
    let keys = ["name", "file", "precision", "opset", "input_dtype", "output_dtype", "recorded"];
    let fields = Table::of(value, place, &keys)?;
    let at = |key| format!("{place}.{key}");
    let form = "lower-case letters, digits, '_', '-'; not pytorch";
    let name = formed(fields.get("name"), &at("name"), 32, form, |name| {
        let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
        let starts_well = name.starts_with(|one: char| one.is_ascii_lowercase() || one.is_ascii_digit());
        name != "pytorch" && starts_well && name.bytes().all(is_allowed)
    })?;
    whole(fields.get("opset"), &at("opset"), 1, 1000)?;
    let dtype = |key| {
        let name = choice(fields.get(key), &at(key), &["float32", "float16"])?;
        Ok(if name == "float32" { Dtype::Float32 } else { Dtype::Float16 })
    };
    Ok(Copy {
        name: name.to_owned(),
        file: text(fields.get("file"), &at("file"), MAX_PATH)?.to_owned(),
        precision: choice(fields.get("precision"), &at("precision"), &["fp32", "fp16", "int8"])?.to_owned(),
        input_dtype: dtype("input_dtype")?,
        output_dtype: dtype("output_dtype")?,
        sha256: String::new(), // once the files are known
        recorded: recorded(fields.get("recorded"), &at("recorded"))?,
    })
}

/// Figures by name. Those that the format knows are held to their range; others are finite, or null.
fn recorded(value: &Value, place: &str) -> Result<HashMap<String, Option<f64>>> {
    let mut found = HashMap::new();
    for (key, figure) in json::open_table(value, place)? {
        let at = format!("{place}.{key}");
        let number = match key.as_str() {
            _ if *figure == Value::Null => None,
            "test_photos" | "train_photos" => Some(whole(figure, &at, 0, MAX_WHOLE)? as f64),
            "test_accuracy" | "train_accuracy" | "label_agreement" => Some(json::number(figure, &at, 0.0, 1.0)?),
            "max_abs_difference" | "mean_abs_difference" => Some(positive(figure, &at)?),
            _ => Some(any_number(figure, &at)?),
        };
        found.insert(key.clone(), number);
    }
    Ok(found)
}

fn golden(value: &Value) -> Result<GoldenInfo> {
    let fields = Table::of(value, "golden", &["publishable", "samples", "origin", "labels_without_sample"])?;
    text_or_empty(fields.get("origin"), "golden.origin", 4096)?;
    let without = fields.get("labels_without_sample");
    Ok(GoldenInfo {
        publishable: json::flag(fields.get("publishable"), "golden.publishable")?,
        samples: whole(fields.get("samples"), "golden.samples", 0, MAX_FILES as i64)?,
        labels_without_sample: each(without, "golden.labels_without_sample", 0, MAX_LABELS, |one, place| {
            Ok(text(one, place, 512)?.to_owned())
        })?,
    })
}

/// How the bundle was made: `by`, `model` and `how`, and beside them free values, lists and objects of these.
fn check_made(value: &Value) -> Result<()> {
    for key in ["by", "model", "how"] {
        text(value.get(key).unwrap_or(&Value::Null), &format!("made.{key}"), 4096)?;
    }
    for (key, one) in json::open_table(value, "made")? {
        let place = format!("made.{key}");
        match one {
            Value::List(_) => drop(each(one, &place, 0, MAX_LABELS, check_free)?),
            Value::Object(_) => {
                for (inner, leaf) in json::open_table(one, &place)? {
                    check_free(leaf, &format!("{place}.{inner}"))?;
                }
            }
            _ => check_free(one, &place)?,
        }
    }
    Ok(())
}

fn check_free(value: &Value, place: &str) -> Result<()> {
    match value {
        Value::Null | Value::Bool(_) => Ok(()),
        Value::Text(_) => text_or_empty(value, place, 4096).map(drop),
        _ => any_number(value, place).map(drop),
    }
}

fn check_license(value: &Value) -> Result<()> {
    text(value.get("weights").unwrap_or(&Value::Null), "license.weights", 4096)?;
    for (key, one) in json::open_table(value, "license")? {
        text(one, &format!("license.{key}"), 4096)?;
    }
    Ok(())
}

/// A listed file and its role.
fn file(value: &Value, place: &str) -> Result<(File, String)> {
    let fields = Table::of(value, place, &["path", "role", "size_bytes", "sha256"])?;
    let at = |key| format!("{place}.{key}");
    let Value::Text(path) = fields.get("path") else {
        return Err(json::refused("a string is needed here", &at("path"), "a string", fields.get("path")));
    };
    check_path(path, &at("path"))?;
    let roles = ["model", "golden", "labels", "info", "checksums", "document"];
    let role = choice(fields.get("role"), &at("role"), &roles)?.to_owned();
    let form = "64 lower-case hexadecimal digits";
    let sha256 = formed(fields.get("sha256"), &at("sha256"), 64, form, |sum| {
        sum.len() == 64 && sum.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    })?;
    let file = File {
        path: path.clone(),
        size_bytes: whole(fields.get("size_bytes"), &at("size_bytes"), 0, MAX_FILE_BYTES)?,
        sha256: sha256.to_owned(),
    };
    Ok((file, role))
}

/// Nothing, where a path is relative, normalised, and an ordinary file name on every system.
fn check_path(path: &str, place: &str) -> Result<()> {
    let parts: Vec<&str> = path.split('/').collect();
    let wrong = |what: &str| Err(Error::new(Kind::BundlePath, what).at(place).found(json::shown(&path.into())));
    if path.chars().count() > MAX_PATH || parts.len() > MAX_DEPTH || !parts.iter().all(|part| is_ordinary(part)) {
        return wrong("a listed path is not an ordinary one inside the bundle");
    }
    if ["bundle.json", "bundle.sha256", "bundle.sig"].contains(&path.to_ascii_lowercase().as_str()) {
        return wrong("bundle.json, its hash and its signature are never listed");
    }
    Ok(())
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._-".contains(&byte)
}

/// Whether a name begins with a letter or digit, and all of it is `allowed`.
fn is_plain(name: &str, allowed: impl Fn(u8) -> bool) -> bool {
    name.starts_with(|one: char| one.is_ascii_alphanumeric()) && name.bytes().all(allowed)
}

fn is_ordinary(part: &str) -> bool {
    let starts_well = part.starts_with(|one: char| one.is_ascii_alphanumeric() || one == '_');
    starts_well && part.bytes().all(is_name_byte) && !part.ends_with('.') && !is_device(part)
}

/// Whether a name is that of a device on Windows, with any suffix.
fn is_device(part: &str) -> bool {
    let stem = part.split('.').next().unwrap_or(part).to_ascii_lowercase();
    match stem.strip_prefix("com").or_else(|| stem.strip_prefix("lpt")) {
        Some(number) => number.len() == 1 && number.bytes().all(|byte| byte.is_ascii_digit()),
        None => ["con", "prn", "aux", "nul"].contains(&stem.as_str()),
    }
}

/// semver.org: three numbers, perhaps a pre-release, perhaps a build.
fn is_semantic_version(text: &str) -> bool {
    let is_word =
        |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let is_digits = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    let is_number = |word: &str| is_digits(word) && (word == "0" || !word.starts_with('0'));
    let (rest, build) = text.split_once('+').map_or((text, None), |(rest, build)| (rest, Some(build)));
    let (core, pre) = rest.split_once('-').map_or((rest, None), |(core, pre)| (core, Some(pre)));
    let numbers: Vec<&str> = core.split('.').collect();
    numbers.len() == 3
        && numbers.iter().all(|word| is_number(word))
        && pre.is_none_or(|pre| pre.split('.').all(|word| is_word(word) && (!is_digits(word) || is_number(word))))
        && build.is_none_or(|build| build.split('.').all(is_word))
}

/// Whether a text has the form 2026-11-22T02:00:00Z.
fn is_date(text: &str) -> bool {
    let is_like = |byte: u8, pattern: u8| if pattern == b'0' { byte.is_ascii_digit() } else { byte == pattern };
    let pattern = b"0000-00-00T00:00:00Z";
    let has_form = text.len() == pattern.len() && text.bytes().zip(*pattern).all(|(byte, one)| is_like(byte, one));
    let number = |from: usize| text.get(from..from + 2).and_then(|two| two.parse::<u8>().ok());
    let within = |from, low, high| number(from).is_some_and(|number| (low..=high).contains(&number));
    has_form && within(5, 1, 12) && within(8, 1, 31) && within(11, 0, 23) && within(14, 0, 59) && within(17, 0, 59)
}

/// What a file is for, told by its path alone.
fn role_of(path: &str) -> &'static str {
    match path {
        _ if path.starts_with("golden/") => "golden",
        "labels_mapping.json" => "labels",
        "model_info.json" => "info",
        "model_checksums.json" => "checksums",
        _ if path.strip_suffix(".onnx").is_some() => "model",
        _ => "document",
    }
}

/// The rules that bind several fields, which a schema cannot say.
fn check_together(
    info: &Info,
    input: &[Option<usize>],
    output: &[Option<usize>],
    files: &[(File, String)],
) -> Result<()> {
    if output[1] != Some(info.labels.len()) {
        return Err(Error::new(Kind::BundleLabels, "the number of labels is not the number of outputs")
            .at("labels")
            .expected(format!("{} (output.shape[1])", output[1].unwrap_or(0)))
            .found(info.labels.len()));
    }
    let (width, height) = info.preprocess.size();
    same("input.shape", &[Some(3), Some(height), Some(width)][..], &input[1..])?;
    same("output.shape[0]", &input[0], &output[0])?;
    check_files(files)?;
    distinct("copy", "copies", info.copies.iter().map(|copy| copy.name.as_str()))?;
    let mut models: Vec<&str> = files.iter().filter(|(_, role)| role == "model").map(|(file, _)| &*file.path).collect();
    let mut copies: Vec<&str> = info.copies.iter().map(|copy| &*copy.file).collect();
    models.sort_unstable();
    copies.sort_unstable();
    same("the models in files", &copies, &models)?;
    let labels: HashSet<&str> = info.labels.iter().map(String::as_str).collect();
    match info.golden.labels_without_sample.iter().find(|label| !labels.contains(label.as_str())) {
        Some(label) => Err(Error::invalid("not a label").at("golden.labels_without_sample").found(json::quoted(label))),
        None => Ok(()),
    }
}

/// Every role is that of its path, and no two paths are one where letters have no case.
fn check_files(files: &[(File, String)]) -> Result<()> {
    let twice = |one: &str, other: &str| {
        let what = "two listed paths are one on some systems";
        Err(Error::new(Kind::BundlePath, what).at("files").found(format!("{one}, {other}")))
    };
    let mut folders: HashMap<String, &str> = HashMap::new();
    for (file, role) in files {
        same(&format!("the role of {}", file.path), role_of(&file.path), role.as_str())?;
        for (end, _) in file.path.match_indices('/') {
            let folder = &file.path[..end];
            let before = *folders.entry(folder.to_ascii_lowercase()).or_insert(folder);
            if before != folder {
                return twice(before, folder);
            }
        }
    }
    let mut paths: HashMap<String, &str> = HashMap::new();
    for (file, _) in files {
        let key = file.path.to_ascii_lowercase();
        if let Some(before) = folders.get(&key).copied().or(paths.get(&key).copied()) {
            return twice(before, &file.path);
        }
        paths.insert(key, &file.path);
    }
    Ok(())
}

fn distinct<'a>(what: &str, place: &str, names: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut seen = HashSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(Error::invalid(format!("a {what} stands twice")).at(place).found(json::quoted(name)));
        }
    }
    Ok(())
}

fn same<T: PartialEq + std::fmt::Debug + ?Sized>(place: &str, expected: &T, found: &T) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    Err(Error::invalid("two parts of bundle.json disagree")
        .at(place)
        .expected(format!("{expected:?}"))
        .found(format!("{found:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_semantic() {
        for good in ["1.0.0", "0.0.10", "1.0.0-alpha.1", "1.0.0+published", "1.2.3-0.x-y+001", "1.0.0--"] {
            assert!(is_semantic_version(good), "{good}");
        }
        for bad in ["1", "1.0", "01.0.0", "1.0.0-", "1.0.0-01", "1.0.0+", "1.0.0-a..b", "1.0.0 ", "v1.0.0"] {
            assert!(!is_semantic_version(bad), "{bad}");
        }
    }

    #[test]
    fn dates_have_one_form() {
        assert!(is_date("2026-11-22T02:00:00Z"));
        for bad in ["2026-13-22T02:00:00Z", "2026-11-32T02:00:00Z", "2026-11-22T24:00:00Z", "2026-11-22 02:00:00Z"] {
            assert!(!is_date(bad), "{bad}");
        }
    }

    #[test]
    fn paths_stay_inside_and_are_files_everywhere() {
        for good in ["model.onnx", "golden/0001/photo.jpg", "a-b_c.d", "_x", "console.txt", "com10"] {
            assert!(check_path(good, "here").is_ok(), "{good}");
        }
        let bad = [
            "",
            "/etc/passwd",
            "../x",
            "a/../b",
            "a//b",
            "a/",
            ".hidden",
            "a/.b",
            "a\\b",
            "C:x",
            "nul",
            "a/COM1.txt",
            "x.",
            "ä",
            "bundle.json",
            "BUNDLE.SIG",
            "a b",
            "1/2/3/4/5/6/7/8/9",
        ];
        for path in bad {
            assert_eq!(check_path(path, "here").unwrap_err().kind(), Kind::BundlePath, "{path}");
        }
    }
}
