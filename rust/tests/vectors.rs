//! spec/vectors: what every runtime must give. What is left out, and why, is in tests/conformance/exemptions.json.

use std::fs;
use std::path::PathBuf;

use samesight::images::{Pixels, decode, orientation};
use samesight::json::{Value, parse};
use samesight::preprocess::{Interpolation, Preprocess};
use samesight::resample::{resize, resize_exact};
use samesight::sha256;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn cases(kind: &str) -> Vec<Value> {
    let data = fs::read(root().join("spec/vectors/vectors.json")).unwrap();
    match parse(&data, "vectors.json").unwrap().get(kind) {
        Some(Value::List(items)) => items.clone(),
        _ => panic!("no {kind}"),
    }
}

/// The formats that this runtime leaves out.
fn left_out() -> Vec<String> {
    let data = fs::read(root().join("tests/conformance/exemptions.json")).unwrap();
    let all = parse(&data, "exemptions.json").unwrap();
    let Some(Value::List(rows)) = all.get("rust").and_then(|rust| rust.get("formats")) else {
        panic!("no formats");
    };
    rows.iter().map(|row| text(row, "format").to_owned()).collect()
}

fn text<'a>(case: &'a Value, key: &str) -> &'a str {
    match case.get(key) {
        Some(Value::Text(text)) => text,
        other => panic!("{key}: {other:?}"),
    }
}

fn number(case: &Value, key: &str) -> usize {
    match case.get(key) {
        Some(Value::Whole(number)) => *number as usize,
        other => panic!("{key}: {other:?}"),
    }
}

fn sides(case: &Value, key: &str) -> (usize, usize) {
    let size = case.get(key).unwrap();
    (number(size, "width"), number(size, "height"))
}

fn file(case: &Value) -> Vec<u8> {
    fs::read(root().join("spec/vectors/files").join(text(case, "file"))).unwrap()
}

fn spec(case: &Value) -> Preprocess {
    Preprocess::from_json(case.get("preprocess").unwrap(), "preprocess").unwrap()
}

fn bytes(tensor: &[f32]) -> Vec<u8> {
    tensor.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Noise by the generator of spec/preprocess.md, section 8.
fn noise(case: &Value) -> Pixels {
    let (width, height) = sides(case, "from");
    let mut x = 1_u32;
    let next = || {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (x >> 24) as u8
    };
    let data = std::iter::repeat_with(next).take(width * height * 3).collect();
    Pixels::new(width, height, data)
}

#[test]
fn photos_become_what_the_vectors_say() {
    let left_out = left_out();
    let mut seen = 0;
    for case in cases("valid") {
        let (name, data) = (text(&case, "file"), file(&case));
        if left_out.iter().any(|format| format == text(&case, "format")) {
            assert_eq!(decode(&data).unwrap_err().refusal().unwrap().name(), "unsupported", "{name}");
            continue;
        }
        let pixels = decode(&data).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((pixels.width(), pixels.height()), (number(&case, "width"), number(&case, "height")), "{name}");
        assert_eq!(usize::from(orientation(&data)), number(&case, "orientation"), "{name}");
        assert_eq!(sha256(pixels.data()), text(&case, "decoded_sha256"), "{name}: decoded");
        let spec = spec(&case);
        let resized = resize(&pixels, &spec).unwrap();
        assert_eq!(sha256(resized.data()), text(&case, "resized_sha256"), "{name}: resized");
        assert_eq!(sha256(&bytes(&spec.normalise(&resized))), text(&case, "tensor_sha256"), "{name}: tensor");
        seen += 1;
    }
    assert!(seen >= 60, "{seen}");
}

#[test]
fn photos_are_refused_as_the_vectors_say() {
    let left_out = left_out();
    for case in cases("invalid") {
        let (name, spec) = (text(&case, "file"), spec(&case));
        let result = decode(&file(&case)).and_then(|pixels| resize(&pixels, &spec));
        let kind = result.expect_err(name).refusal().unwrap().name();
        let suffix = name.rsplit('.').next().unwrap();
        let format = if suffix == "tif" { "tiff" } else { suffix };
        let is_left_out = left_out.iter().any(|one| one == format);
        assert_eq!(kind, if is_left_out { "unsupported" } else { text(&case, "kind") }, "{name}");
    }
}

#[test]
fn resamples_are_what_the_vectors_say() {
    for case in cases("resample") {
        let (width, height) = sides(&case, "to");
        let filter = Interpolation::named(text(&case, "interpolation")).unwrap();
        let found = resize_exact(&noise(&case), width, height, filter).unwrap();
        assert_eq!(sha256(found.data()), text(&case, "sha256"), "{case:?}");
    }
}

#[test]
fn resizes_are_what_the_vectors_say() {
    for case in cases("resize") {
        let found = resize(&noise(&case), &spec(&case)).unwrap();
        assert_eq!(sha256(found.data()), text(&case, "sha256"), "{case:?}");
    }
}

#[test]
fn tables_are_what_the_vectors_say() {
    for case in cases("table") {
        let three = |key| match case.get(key) {
            Some(Value::List(items)) => items.clone(),
            _ => panic!("no {key}"),
        };
        let size = [("width", 1_usize), ("height", 1)].map(|(key, value)| (key.to_owned(), value.into()));
        let exact = [vec![("kind".to_owned(), "exact".into())], size.to_vec()].concat();
        let spec = Value::Object(vec![
            ("resize".to_owned(), Value::Object(exact)),
            ("crop".to_owned(), Value::Null),
            ("interpolation".to_owned(), "bilinear".into()),
            ("mean".to_owned(), Value::List(three("mean"))),
            ("std".to_owned(), Value::List(three("std"))),
        ]);
        let spec = Preprocess::from_json(&spec, "preprocess").unwrap();
        assert_eq!(sha256(&bytes(spec.table().as_flattened())), text(&case, "sha256"), "{case:?}");
    }
}
