//! Golden samples: real photos with what every stage must make of them, kept in a bundle's `golden/`.

use std::collections::{BTreeMap, HashSet};

use crate::bundle::Bundle;
use crate::errors::{Error, Result};
use crate::images::MAX_PIXELS;
use crate::json::{self, Table, Value, any_number, each, flag, formed, parse, text, whole};
use crate::preprocess::Preprocess;

/// Whose logits lie among those of the copies.
pub const REFERENCE: &str = "pytorch";
const RECORD: &str = "golden/golden.json";
const KEYS: [&str; 7] = ["format", "format_version", "classes", "preprocess", "chosen", "samples", "logits"];
const SAMPLE_KEYS: [&str; 14] = [
    "id",
    "label",
    "predicted",
    "photo",
    "original",
    "lossless",
    "resized",
    "width",
    "height",
    "decoded_sha256",
    "resized_sha256",
    "tensor_sha256",
    "margin",
    "source_sha256",
];

/// One photo and what each stage must make of it; fields are named as in golden.json.
pub struct Sample {
    pub id: String,
    pub predicted: String,
    pub photo: String,
    pub lossless: Option<String>,
    pub resized: String,
    pub width: usize,
    pub height: usize,
    pub decoded_sha256: String,
    pub resized_sha256: String,
    pub tensor_sha256: String,
    pub margin: f64,
}

/// The golden samples of a bundle, and the logits that were recorded of them: a row a sample, by copy.
pub struct Golden {
    pub samples: Vec<Sample>,
    pub logits: BTreeMap<String, Vec<Vec<f32>>>,
    pub preprocess: Preprocess,
}

impl Golden {
    /// The golden samples that `bundle` carries.
    ///
    /// # Errors
    /// `BundleInvalid` where golden.json or a file of logits is not as the format says.
    pub fn read(bundle: &Bundle) -> Result<Self> {
        let value = parse(&bundle.read(RECORD)?, RECORD)?;
        let record = Table::of(&value, RECORD, &KEYS)?;
        json::choice(record.get("format"), "golden.json format", &["samesight-golden"])?;
        let classes = bundle.info.labels.len() as i64;
        whole(record.get("format_version"), "golden.json format_version", 1, 1)?;
        whole(record.get("classes"), "golden.json classes", classes, classes)?;
        let samples = each(record.get("samples"), "golden.json samples", 0, 9999, |one, at| sample(bundle, one, at))?;
        let ids: HashSet<&str> = samples.iter().map(|sample| sample.id.as_str()).collect();
        if ids.len() != samples.len() {
            return Err(Error::invalid("two golden samples have one id").at(RECORD));
        }
        if samples.len() != bundle.info.golden.samples {
            return Err(Error::invalid("two parts of the bundle disagree")
                .at("golden.json number of samples")
                .expected(bundle.info.golden.samples)
                .found(samples.len()));
        }
        let rows = each(record.get("logits"), "golden.json logits", 0, 100, |one, at| {
            let row = Table::of(one, at, &["copy", "file"])?;
            let name = text(row.get("copy"), at, 100)?.to_owned();
            Ok((name, logits(bundle, &listed(bundle, row.get("file"), at)?, samples.len())?))
        })?;
        let count = rows.len();
        let logits: BTreeMap<_, _> = rows.into_iter().collect();
        if !logits.contains_key(REFERENCE) || logits.len() != count {
            return Err(Error::invalid("the recorded logits are not complete")
                .at(RECORD)
                .expected(format!("one file for {REFERENCE} and one a copy")));
        }
        let preprocess = Preprocess::from_json(record.get("preprocess"), "golden.json preprocess")?;
        Ok(Self { samples, logits, preprocess })
    }

    /// The first `count` samples alone.
    pub fn keep_first(&mut self, count: usize) {
        self.samples.truncate(count);
        for rows in self.logits.values_mut() {
            rows.truncate(count);
        }
    }
}

fn sample(bundle: &Bundle, value: &Value, place: &str) -> Result<Sample> {
    let fields = Table::of(value, place, &SAMPLE_KEYS)?;
    let at = |key: &str| format!("{place} {key}");
    let word = |key| text(fields.get(key), &at(key), 1000).map(str::to_owned);
    let hash = |key| -> Result<String> {
        let is_hash = |sum: &str| sum.len() == 64 && sum.bytes().all(|byte| b"0123456789abcdef".contains(&byte));
        Ok(formed(fields.get(key), &at(key), 64, "64 lower-case hexadecimal digits", is_hash)?.to_owned())
    };
    let path = |key| listed(bundle, fields.get(key), &at(key));
    if *fields.get("label") != Value::Null {
        text(fields.get("label"), &at("label"), 1000)?;
    }
    flag(fields.get("original"), &at("original"))?;
    hash("source_sha256")?;
    let side = |key| whole(fields.get(key), &at(key), 1, MAX_PIXELS as i64);
    Ok(Sample {
        id: word("id")?,
        predicted: word("predicted")?,
        photo: path("photo")?,
        lossless: if *fields.get("lossless") == Value::Null { None } else { Some(path("lossless")?) },
        resized: path("resized")?,
        width: side("width")?,
        height: side("height")?,
        decoded_sha256: hash("decoded_sha256")?,
        resized_sha256: hash("resized_sha256")?,
        tensor_sha256: hash("tensor_sha256")?,
        margin: any_number(fields.get("margin"), &at("margin"))?,
    })
}

/// The logits in a file: float32, little-endian, samples × classes.
fn logits(bundle: &Bundle, path: &str, samples: usize) -> Result<Vec<Vec<f32>>> {
    let data = bundle.read(path)?;
    let classes = bundle.info.labels.len();
    let size = samples * classes * 4;
    if data.len() != size {
        return Err(Error::invalid("a file of logits has the wrong size")
            .at(path)
            .expected(format!("{size} bytes: {samples} samples × {classes} classes × 4"))
            .found(format!("{} bytes", data.len())));
    }
    let values: Vec<f32> = data.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect();
    if values.iter().any(|value| !value.is_finite()) {
        return Err(Error::invalid("recorded logits are not finite").at(path));
    }
    Ok(values.chunks_exact(classes).map(<[f32]>::to_vec).collect())
}

/// `value`, which is the path of a file that bundle.json lists under golden/.
fn listed(bundle: &Bundle, value: &Value, place: &str) -> Result<String> {
    let path = text(value, place, 200)?;
    if path.starts_with("golden/") && bundle.has(path) {
        return Ok(path.to_owned());
    }
    Err(Error::invalid("a path is not one that bundle.json lists under golden/").at(place).found(json::quoted(path)))
}

/// Where the largest value stands; the first of equal ones.
pub fn likeliest(logits: &[f32]) -> usize {
    let mut best = 0;
    for (place, value) in logits.iter().enumerate() {
        if *value > logits[best] {
            best = place;
        }
    }
    best
}

/// The largest of `logits` less the second largest; the largest's size if there is but one.
pub fn margin(logits: &[f32]) -> f64 {
    let best = likeliest(logits);
    let others = logits.iter().enumerate().filter(|(place, _)| *place != best).map(|(_, value)| *value);
    let first = logits.get(best).copied().unwrap_or(0.0);
    match others.reduce(f32::max) {
        Some(second) => f64::from(first - second),
        None => f64::from(first.abs()),
    }
}

/// The largest absolute value.
pub fn scale(logits: &[f32]) -> f64 {
    logits.iter().map(|value| f64::from(value.abs())).fold(0.0, f64::max)
}
