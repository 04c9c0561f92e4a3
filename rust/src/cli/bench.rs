//! `samesight-rs bench`: how long a photo takes here.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use samesight::images::decode;
use samesight::json::{self, Value, object};
use samesight::resample::resize;
use samesight::{Bundle, Classifier, Error, Kind, Network, Options, Result, Settings, read_photo, threads};

use super::{Words, print, stdout};

pub const HELP: &str =
    "usage: samesight-rs bench BUNDLE [PHOTO...] [--copy NAME]... [--rounds N] [--json] [--engine NAME]
                          [--threads N] [--onnxruntime FILE]

How long a photo takes here, step by step and alone, and how many a second many take over all cores. Photos are those
given, else the bundle's golden samples. Medians over the rounds; each photo is taken once a round.

  --copy NAME         only this copy (may be repeated; default: all)
  --rounds N          how often (default: 3)
  --json              print one object
  --engine NAME       what computes: onnxruntime (default), or tract, where the program was built with it (fp32 copies)
  --threads N         CPU threads (default: those there are, to 8)
  --onnxruntime FILE  ONNX Runtime's shared library (default: ORT_DYLIB_PATH, else that of an installed wheel)";

/// Milliseconds of each step of each photo, in every round.
#[derive(Default)]
struct Steps {
    read: Vec<f64>,
    decode: Vec<f64>,
    resize: Vec<f64>,
    network: Vec<f64>,
}

/// Measure; the exit code.
pub fn run(words: impl Iterator<Item = OsString>) -> Result<u8> {
    let words =
        Words::read(words, &["--json"], &["--copy", "--rounds", "--engine", "--threads", "--onnxruntime"], HELP)?;
    let (folder, photos) = words.bundle()?;
    let rounds = words.number("--rounds")?.unwrap_or(3);
    let opening = words.opening()?;
    let bundle = Bundle::open(&folder)?;
    let photos = if photos.is_empty() { golden_photos(&bundle) } else { photos.iter().map(PathBuf::from).collect() };
    if photos.is_empty() {
        return Err(Error::new(Kind::Input, "there are no photos to measure with").fix("name some: PHOTO..."));
    }
    let all = || bundle.info.copies.iter().map(|copy| copy.name.clone()).collect();
    let names: Vec<String> = if words.all("--copy").is_empty() { all() } else { words.all("--copy") };
    let mut rows = Vec::new();
    for name in &names {
        let (load, steps) = alone(&bundle, name, &photos, rounds, &opening)?;
        let second = together(&folder, name, &photos, rounds, &opening)?;
        rows.push(object([
            ("runner", opening.engine.runner().into()),
            ("copy", name.as_str().into()),
            ("load_ms", load.into()),
            ("read_ms", median(steps.read).into()),
            ("decode_ms", median(steps.decode).into()),
            ("resize_ms", median(steps.resize).into()),
            ("network_ms", median(steps.network).into()),
            ("photos_per_second", second.into()),
        ]));
    }
    let found = object([
        ("bundle", bundle.id.as_str().into()),
        ("photos", photos.len().into()),
        ("rounds", rounds.into()),
        ("threads", threads(opening.threads).into()),
        ("rows", Value::List(rows.clone())),
    ]);
    let mut out = stdout();
    if words.has("--json") {
        print(&mut out, &json::write_indented(&found));
    } else {
        print(&mut out, "copy      load ms  read ms  decode ms  resize ms  network ms  photos/s");
        for row in &rows {
            let name = if let Some(Value::Text(name)) = row.get("copy") { name } else { "" };
            let figure = |key| if let Some(Value::Number(number)) = row.get(key) { *number } else { 0.0 };
            let [load, read, decode, resize, network, second] =
                ["load_ms", "read_ms", "decode_ms", "resize_ms", "network_ms", "photos_per_second"].map(figure);
            let text = format!(
                "{name:<8} {load:>8.1} {read:>8.2} {decode:>10.2} {resize:>10.2} {network:>11.2} {second:>9.1}"
            );
            print(&mut out, &text);
        }
    }
    let _ = out.flush();
    Ok(0)
}

fn golden_photos(bundle: &Bundle) -> Vec<PathBuf> {
    let is_photo = |path: &&str| path.starts_with("golden/") && path.contains("/photo.");
    bundle.paths().filter(is_photo).map(|path| bundle.folder().join(path)).collect()
}

/// How long a copy takes to load, and each step of each photo, one after another on all threads.
fn alone(bundle: &Bundle, name: &str, photos: &[PathBuf], rounds: usize, opening: &Options) -> Result<(f64, Steps)> {
    let copy = bundle.copy(name)?;
    let (engine, threads) = (opening.engine, opening.threads);
    let settings = Settings { engine, threads, library: opening.library.clone(), cache: None };
    let start = Instant::now();
    let mut network = Network::load(&bundle.read(&copy.file)?, copy, &bundle.info, &settings)?;
    let load = 1000.0 * start.elapsed().as_secs_f64();
    let spec = &bundle.info.preprocess;
    let mut steps = Steps::default();
    for round in 0..=rounds {
        for photo in photos {
            let clock = Instant::now();
            let mut last = 0.0;
            let mut lap = || {
                let now = 1000.0 * clock.elapsed().as_secs_f64();
                now - std::mem::replace(&mut last, now)
            };
            let data = read_photo(photo)?;
            let read = lap();
            let pixels = decode(&data)?;
            let decoded = lap();
            let tensor = spec.normalise(&resize(&pixels, spec)?);
            let resized = lap();
            network.logits(&tensor, 1)?;
            if round > 0 {
                // the first round only warms up
                steps.read.push(read);
                steps.decode.push(decoded);
                steps.resize.push(resized);
                steps.network.push(lap());
            }
        }
    }
    Ok((load, steps))
}

/// Photos a second where there are many, each core with photos of its own; loading is not counted.
fn together(folder: &std::path::Path, name: &str, photos: &[PathBuf], rounds: usize, opening: &Options) -> Result<f64> {
    let options = Options { copy: Some(name.to_owned()), many: true, ..opening.clone() };
    let classifier = Classifier::open_with(folder, &options)?;
    let many: Vec<PathBuf> = photos.iter().cycle().take(photos.len().max(64)).cloned().collect();
    let mut found = Vec::new();
    for _ in 0..rounds {
        let mut first = None;
        let mut failed = None;
        classifier.classify_many(&many, 1, |place, answer| {
            first.get_or_insert_with(|| (place, Instant::now()));
            failed = failed.take().or_else(|| answer.err());
            failed.is_none()
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        if let Some((place, start)) = first {
            found.push((many.len() - place - 8) as f64 / start.elapsed().as_secs_f64());
        }
    }
    Ok(median(found))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        count if count % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}
