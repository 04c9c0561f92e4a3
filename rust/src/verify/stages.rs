//! From a golden photo to its tensor, stage by stage, each judged on the right input of that stage.
//!
//! A fault in one stage is never reported as a fault of the next: where decoding differs, resizing is judged on the
//! recorded pixels, and so on. Where the right input of a stage is not known, the stage is not judged.

use crate::bundle::{Bundle, sha256};
use crate::errors::Result;
use crate::images::{Pixels, decode, png};
use crate::json::{self, Value, object};
use crate::preprocess::Preprocess;
use crate::resample::resize;

use super::golden::{Golden, Sample};
use super::words::general;

/// The stages, in order.
pub const STAGES: [&str; 6] = ["record", "decode", "resize", "normalise", "network", "labels"];
pub const RECORD: usize = 0;
pub const DECODE: usize = 1;
pub const RESIZE: usize = 2;
pub const NORMALISE: usize = 3;
pub const NETWORK: usize = 4;
pub const LABELS: usize = 5;

/// How two arrays of one size differ. A value that is no number on one side only counts as an infinite difference.
#[derive(Clone)]
pub struct Comparison {
    different: usize,
    values: usize,
    pub most: f64,
    mean: f64,
    first: Vec<(&'static str, usize)>,
    at: Vec<(&'static str, usize)>,
    expected: f64,
    found: f64,
}

impl Comparison {
    /// How `found` differs from `expected`; nothing where no value does by more than `allowed`. `axes` name the
    /// dimensions with their lengths.
    pub fn of(found: &[f64], expected: &[f64], axes: &[(&'static str, usize)], allowed: f64) -> Option<Self> {
        let distance = |one: f64, other: f64| {
            if one.total_cmp(&other).is_eq() {
                return 0.0; // also of two infinities, or two that are no numbers
            }
            let distance = (one - other).abs();
            if distance.is_nan() { f64::INFINITY } else { distance }
        };
        let distances: Vec<f64> = found.iter().zip(expected).map(|(one, other)| distance(*one, *other)).collect();
        let first = distances.iter().position(|distance| *distance > allowed)?;
        let mut at = first;
        for (place, distance) in distances.iter().enumerate() {
            if *distance > distances[at] {
                at = place;
            }
        }
        let named = |mut place: usize| {
            let mut places: Vec<_> = axes
                .iter()
                .rev()
                .map(|(name, length)| {
                    let one = (*name, place % length);
                    place /= length;
                    one
                })
                .collect();
            places.reverse();
            places
        };
        Some(Self {
            different: distances.iter().filter(|distance| **distance > allowed).count(),
            values: distances.len(),
            most: distances[at],
            mean: distances.iter().sum::<f64>() / distances.len() as f64,
            first: named(first),
            at: named(at),
            expected: expected[at],
            found: found[at],
        })
    }

    /// The difference in one line.
    pub fn words(&self) -> String {
        let place =
            |axes: &[(&str, usize)]| axes.iter().map(|(name, at)| format!("{name} {at}")).collect::<Vec<_>>().join(" ");
        format!(
            "{} of {} values differ, first at {}, most by {} at {} (expected {}, found {})",
            self.different,
            self.values,
            place(&self.first),
            general(self.most, 4),
            place(&self.at),
            general(self.expected, 8),
            general(self.found, 8),
        )
    }
}

/// One stage of one sample that is not as recorded.
#[derive(Clone)]
pub struct Fault {
    pub stage: usize,
    pub sample: String,
    pub what: String,
    pub comparison: Option<Comparison>,
    /// Which of the copies, where the stage is the network.
    pub runner: Option<usize>,
}

impl Fault {
    pub fn new(stage: usize, sample: &str, what: impl Into<String>) -> Self {
        Self { stage, sample: sample.to_owned(), what: what.into(), comparison: None, runner: None }
    }

    fn with(mut self, comparison: Option<Comparison>) -> Self {
        if let Some(comparison) = &comparison {
            self.what = format!("{}: {}", self.what, comparison.words());
        }
        self.comparison = comparison;
        self
    }

    /// The fault as a JSON object.
    pub fn to_json(&self) -> Vec<(String, Value)> {
        let Value::Object(mut pairs) = object([
            ("stage", STAGES[self.stage].into()),
            ("sample", self.sample.as_str().into()),
            ("what", self.what.as_str().into()),
        ]) else {
            return Vec::new();
        };
        if let Some(one) = &self.comparison {
            let figure = |value: f64| {
                let word = if value.is_nan() {
                    "nan"
                } else if value > 0.0 {
                    "inf"
                } else {
                    "-inf"
                };
                if value.is_finite() { Value::Number(value) } else { word.into() }
            };
            let place = |axes: &[(&'static str, usize)]| {
                Value::Object(axes.iter().map(|(name, at)| ((*name).to_owned(), (*at).into())).collect())
            };
            let rest = object([
                ("different", one.different.into()),
                ("values", one.values.into()),
                ("max_abs_difference", figure(one.most)),
                ("mean_abs_difference", figure(one.mean)),
                ("first", place(&one.first)),
                ("at", place(&one.at)),
                ("expected", figure(one.expected)),
                ("found", figure(one.found)),
            ]);
            if let Value::Object(rest) = rest {
                pairs.extend(rest);
            }
        }
        pairs
    }
}

/// What was found of one sample: of the stages that could be judged, the fault or none.
#[derive(Default)]
pub struct Judged {
    pub faults: Vec<(usize, Option<Fault>)>,
    /// The right one, where it is known.
    pub tensor: Option<Vec<f32>>,
}

/// The stages decode, resize and normalise of one golden sample.
///
/// # Errors
/// A bundle's error where a file has changed since it was opened.
pub fn judge(bundle: &Bundle, golden: &Golden, sample: &Sample) -> Result<Judged> {
    let mut judged = Judged::default();
    let pixels = judge_decode(bundle, sample, &mut judged)?;
    if let Some(small) = judge_resize(bundle, golden, sample, pixels, &mut judged)? {
        judge_normalise(&bundle.info.preprocess, &golden.preprocess, sample, &small, &mut judged);
    }
    Ok(judged)
}

/// The right decoded pixels, where they are known.
fn judge_decode(bundle: &Bundle, sample: &Sample, judged: &mut Judged) -> Result<Option<Pixels>> {
    let kept = match &sample.lossless {
        Some(path) => kept(bundle, path, &sample.decoded_sha256)?,
        None => None,
    };
    let fault = match decode(&bundle.read(&sample.photo)?) {
        Err(error) => {
            let what = format!("{} cannot be decoded: {}", sample.photo, error.one_line());
            Fault::new(DECODE, &sample.id, what)
        }
        Ok(pixels) => {
            let has_size = (pixels.width(), pixels.height()) == (sample.width, sample.height);
            if has_size && sha256(pixels.data()) == sample.decoded_sha256 {
                let what = "does not hold the pixels that golden.json records";
                let is_wrong = sample.lossless.as_ref().filter(|_| kept.is_none());
                let fault = is_wrong.map(|path| Fault::new(DECODE, &sample.id, format!("{path} {what}")));
                judged.faults.push((DECODE, fault));
                return Ok(Some(pixels));
            }
            let what = format!("{} gives other pixels than golden.json records", sample.photo);
            let fault = Fault::new(DECODE, &sample.id, what);
            kept.as_ref().map_or(fault.clone(), |kept| differ(fault, &pixels, kept))
        }
    };
    judged.faults.push((DECODE, Some(fault)));
    Ok(kept)
}

/// The right resized pixels, where they are known.
fn judge_resize(
    bundle: &Bundle,
    golden: &Golden,
    sample: &Sample,
    pixels: Option<Pixels>,
    judged: &mut Judged,
) -> Result<Option<Pixels>> {
    let kept = kept(bundle, &sample.resized, &sample.resized_sha256)?;
    let Some(pixels) = pixels else {
        return Ok(kept);
    };
    let mut fault = match resize(&pixels, &bundle.info.preprocess) {
        Err(error) => Fault::new(RESIZE, &sample.id, format!("the photo cannot be resized: {}", error.one_line())),
        Ok(small) if sha256(small.data()) == sample.resized_sha256 => {
            let what = format!("{} does not hold the pixels that golden.json records", sample.resized);
            let fault = kept.is_none().then(|| Fault::new(RESIZE, &sample.id, what));
            judged.faults.push((RESIZE, fault));
            return Ok(Some(small));
        }
        Ok(small) => {
            let fault = Fault::new(RESIZE, &sample.id, "resizing gives other pixels than golden.json records");
            kept.as_ref().map_or(fault.clone(), |kept| differ(fault, &small, kept))
        }
    };
    fault.what += &other_words(&bundle.info.preprocess, &golden.preprocess, &["resize", "crop", "interpolation"]);
    judged.faults.push((RESIZE, Some(fault)));
    Ok(kept)
}

/// Judge the tensor of the right pixels, and set `judged.tensor` where the right one is known.
fn judge_normalise(spec: &Preprocess, recorded: &Preprocess, sample: &Sample, small: &Pixels, judged: &mut Judged) {
    let tensor = spec.normalise(small);
    if sha256(&bytes(&tensor)) == sample.tensor_sha256 {
        judged.faults.push((NORMALISE, None));
        judged.tensor = Some(tensor);
        return;
    }
    let what = "normalising gives another tensor than golden.json records";
    let mut fault = Fault::new(NORMALISE, &sample.id, what);
    let right = recorded.normalise(small);
    if sha256(&bytes(&right)) == sample.tensor_sha256 {
        let axes = [("channel", 3), ("row", small.height()), ("column", small.width())];
        let wide = |values: &[f32]| values.iter().map(|value| f64::from(*value)).collect::<Vec<_>>();
        fault = fault.with(Comparison::of(&wide(&tensor), &wide(&right), &axes, 0.0));
        judged.tensor = Some(right);
    }
    fault.what += &other_words(spec, recorded, &["mean", "std"]);
    judged.faults.push((NORMALISE, Some(fault)));
}

/// The bytes of a tensor, little-endian.
pub fn bytes(tensor: &[f32]) -> Vec<u8> {
    tensor.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// The pixels in a file of reference pixels; nothing where they are not the recorded ones.
fn kept(bundle: &Bundle, path: &str, hash: &str) -> Result<Option<Pixels>> {
    let pixels = png::decode(&bundle.read(path)?).ok();
    Ok(pixels.filter(|pixels| sha256(pixels.data()) == hash))
}

fn differ(mut fault: Fault, found: &Pixels, expected: &Pixels) -> Fault {
    let size = |pixels: &Pixels| format!("{} × {} pixels", pixels.width(), pixels.height());
    if (found.width(), found.height()) != (expected.width(), expected.height()) {
        fault.what += &format!(": {}, not {}", size(found), size(expected));
        return fault;
    }
    let wide = |pixels: &Pixels| pixels.data().iter().map(|value| f64::from(*value)).collect::<Vec<_>>();
    let axes = [("row", found.height()), ("column", found.width()), ("channel", 3)];
    fault.with(Comparison::of(&wide(found), &wide(expected), &axes, 0.0))
}

/// What bundle.json says otherwise than the preprocessing that the golden samples were made by.
fn other_words(spec: &Preprocess, recorded: &Preprocess, names: &[&str]) -> String {
    let (here, there) = (spec.to_json(), recorded.to_json());
    let shown = |value: &Value, name: &str| value.get(name).map_or(String::new(), json::write);
    let other: Vec<String> = names
        .iter()
        .filter(|name| here.get(name) != there.get(name))
        .map(|name| format!("{name} {}, not {}", shown(&here, name), shown(&there, name)))
        .collect();
    if other.is_empty() {
        return String::new();
    }
    format!(". bundle.json has {} as the golden samples were made by", other.join("; "))
}
