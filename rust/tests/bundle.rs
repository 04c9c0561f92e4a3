//! A small sealed bundle, and every way to break it: each has its own error. Python's tests hold both readers to the same
//! words on real bundles.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use samesight::{Bundle, Kind, sha256};

/// A folder of its own, gone with the value.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const MODEL: &[u8] = b"not looked at by these tests";

fn document() -> String {
    let file = |path: &str, role: &str, data: &[u8]| {
        let sum = sha256(data);
        let size = data.len();
        format!(r#"{{"path": "{path}", "role": "{role}", "size_bytes": {size}, "sha256": "{sum}"}}"#)
    };
    format!(
        r#"{{"format": "samesight-bundle", "format_version": 1, "name": "small", "version": "1.0.0",
 "created": "2026-01-01T00:00:00Z", "labels": ["cat", "dog"],
 "preprocess": {{"resize": {{"kind": "shortest_edge", "size": 40}}, "crop": {{"width": 32, "height": 32}},
  "interpolation": "bilinear", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}},
 "input": {{"name": "input", "dtype": "float32", "layout": "NCHW", "shape": ["batch", 3, 32, 32]}},
 "output": {{"name": "output", "dtype": "float32", "shape": ["batch", 2]}},
 "copies": [{{"name": "fp32", "file": "model.onnx", "precision": "fp32", "opset": 17, "input_dtype": "float32",
  "output_dtype": "float32", "recorded": {{"test_accuracy": 0.5, "test_photos": null}}}}],
 "reference": {{"framework": "pytorch 2", "recorded": {{}}}},
 "golden": {{"publishable": true, "samples": 0, "origin": "", "labels_without_sample": ["cat"]}},
 "made": {{"by": "tests", "model": "none", "how": "train", "steps": [1, 2.5, null], "more": {{"a": true}}}},
 "license": {{"weights": "Apache-2.0"}},
 "files": [{}, {}]}}"#,
        file("model.onnx", "model", MODEL),
        file("docs/about.md", "document", b"words")
    )
}

fn seal(folder: &Path, text: &str) {
    fs::write(folder.join("bundle.json"), text).unwrap();
    fs::write(folder.join("bundle.sha256"), format!("{}  bundle.json\n", sha256(text.as_bytes()))).unwrap();
}

fn bundle() -> Folder {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("samesight-rs-{}-{number}", std::process::id()));
    fs::create_dir_all(folder.join("docs")).unwrap();
    fs::write(folder.join("model.onnx"), MODEL).unwrap();
    fs::write(folder.join("docs/about.md"), b"words").unwrap();
    seal(&folder, &document());
    Folder(folder)
}

fn refused(folder: &Folder) -> Kind {
    Bundle::open(&folder.0).expect_err("it was not refused").kind()
}

#[test]
fn a_whole_bundle_is_opened() {
    let folder = bundle();
    let opened = Bundle::open(&folder.0).unwrap();
    assert_eq!(opened.info.labels, ["cat", "dog"]);
    assert_eq!(opened.id, sha256(document().as_bytes()));
    assert_eq!(opened.read("model.onnx").unwrap(), MODEL);
    assert_eq!(opened.copy("int8").unwrap_err().kind(), Kind::Input);
}

#[test]
fn what_is_not_there_or_not_listed_is_refused() {
    for name in ["model.onnx", "docs/about.md", "bundle.sha256"] {
        let folder = bundle();
        fs::remove_file(folder.0.join(name)).unwrap();
        assert_eq!(refused(&folder), Kind::BundleFiles, "{name}");
    }
    let folder = bundle();
    fs::remove_file(folder.0.join("bundle.json")).unwrap();
    assert_eq!(refused(&folder), Kind::BundleMissing);
    for name in ["extra.txt", ".hidden", "docs/more.md"] {
        let folder = bundle();
        fs::write(folder.0.join(name), b"x").unwrap();
        assert_eq!(refused(&folder), Kind::BundleFiles, "{name}");
    }
    let folder = bundle();
    fs::create_dir(folder.0.join("empty")).unwrap();
    assert_eq!(refused(&folder), Kind::BundleFiles);
}

#[cfg(unix)]
#[test]
fn links_are_refused_inside_and_followed_outside() {
    for name in ["model.onnx", "bundle.json", "bundle.sha256"] {
        let (folder, other) = (bundle(), bundle());
        fs::remove_file(folder.0.join(name)).unwrap();
        std::os::unix::fs::symlink(other.0.join(name), folder.0.join(name)).unwrap();
        assert_eq!(refused(&folder), Kind::BundleFiles, "{name}");
    }
    let folder = bundle();
    let link = Folder(folder.0.with_extension("link"));
    std::os::unix::fs::symlink(&folder.0, &link.0).unwrap();
    Bundle::open(&link.0).unwrap();
    fs::remove_file(&link.0).unwrap();
}

#[test]
fn each_broken_rule_has_its_error() {
    for (from, to, kind) in [
        ("\"format_version\": 1", "\"format_version\": 2", Kind::BundleNewer),
        ("\"format_version\": 1", "\"format_version\": 0", Kind::BundleInvalid),
        ("\"samesight-bundle\"", "\"bundle\"", Kind::BundleInvalid),
        ("\"name\": \"small\"", "\"name\": \"small\", \"extra\": 1", Kind::BundleInvalid),
        ("\"name\": \"small\"", "\"name\": \"small\", \"name\": \"small\"", Kind::BundleInvalid),
        ("\"name\": \"small\"", "\"name\": \"-small\"", Kind::BundleInvalid),
        ("\"version\": \"1.0.0\"", "\"version\": \"1.0\"", Kind::BundleInvalid),
        ("2026-01-01", "2026-13-01", Kind::BundleInvalid),
        ("[\"cat\", \"dog\"]", "[\"cat\", \"cat\"]", Kind::BundleInvalid),
        ("[\"cat\", \"dog\"]", "[\"cat\"]", Kind::BundleLabels),
        ("[\"cat\", \"dog\"]", "[\"cat\", \"d\\u0007g\"]", Kind::BundleInvalid),
        ("[\"batch\", 2]", "[\"batch\", 3]", Kind::BundleLabels),
        ("[\"batch\", 2]", "[4, 2]", Kind::BundleInvalid),
        ("[\"batch\", 3, 32, 32]", "[\"batch\", 3, 32, 31]", Kind::BundleInvalid),
        ("[\"batch\", 3, 32, 32]", "[\"batch\", 1, 32, 32]", Kind::BundleInvalid),
        ("\"width\": 32", "\"width\": 41", Kind::BundleInvalid),
        ("\"bilinear\"", "\"linear\"", Kind::BundleInvalid),
        ("\"std\": [0.5", "\"std\": [0", Kind::BundleInvalid),
        ("\"std\": [0.5", "\"std\": [1e-300", Kind::BundleInvalid),
        ("\"opset\": 17", "\"opset\": true", Kind::BundleInvalid),
        ("\"test_accuracy\": 0.5", "\"test_accuracy\": 1.5", Kind::BundleInvalid),
        ("\"test_photos\": null", "\"test_photos\": NaN", Kind::BundleInvalid),
        ("[\"cat\"]}", "[\"bird\"]}", Kind::BundleInvalid),
        ("\"path\": \"docs/about.md\"", "\"path\": \"../about.md\"", Kind::BundlePath),
        ("\"path\": \"docs/about.md\"", "\"path\": \"/etc/passwd\"", Kind::BundlePath),
        ("\"path\": \"docs/about.md\"", "\"path\": \"model.onnx/about.md\"", Kind::BundlePath),
        ("\"path\": \"docs/about.md\"", "\"path\": \"bundle.sig\"", Kind::BundlePath),
        ("\"role\": \"document\"", "\"role\": \"golden\"", Kind::BundleInvalid),
        ("\"file\": \"model.onnx\"", "\"file\": \"docs/about.md\"", Kind::BundleInvalid),
        ("\"size_bytes\": 5", "\"size_bytes\": 6", Kind::BundleChanged),
        ("\"size_bytes\": 5", "\"size_bytes\": 4294967296", Kind::BundleInvalid),
        ("\"how\": \"train\"", "\"how\": {}", Kind::BundleInvalid),
        ("\"a\": true", "\"a\": []", Kind::BundleInvalid),
    ] {
        let folder = bundle();
        let text = document();
        assert!(text.contains(from), "{from}");
        seal(&folder.0, &text.replacen(from, to, 1));
        assert_eq!(refused(&folder), kind, "{from} → {to}");
    }
}

#[test]
fn a_whole_number_is_its_value() {
    let folder = bundle();
    seal(&folder.0, &document().replace("\"opset\": 17", "\"opset\": 1.7e1"));
    Bundle::open(&folder.0).unwrap();
}

#[test]
fn a_file_that_changes_after_opening_is_not_used() {
    let folder = bundle();
    let opened = Bundle::open(&folder.0).unwrap();
    fs::write(folder.0.join("model.onnx"), b"NOT looked at by these tests").unwrap();
    assert_eq!(opened.read("model.onnx").unwrap_err().kind(), Kind::BundleChanged);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_flipped_byte_is_refused(which in 0_usize..4, place in any::<prop::sample::Index>(), flip in 1_u8..=255) {
        let folder = bundle();
        let path = folder.0.join(["bundle.json", "bundle.sha256", "model.onnx", "docs/about.md"][which]);
        let mut data = fs::read(&path).unwrap();
        let place = place.index(data.len());
        data[place] ^= flip;
        fs::write(&path, data).unwrap();
        prop_assert_eq!(refused(&folder), Kind::BundleChanged);
    }

    #[test]
    fn any_document_is_a_bundle_or_refused(place in any::<prop::sample::Index>(), length in 0_usize..40, text in ".{0,20}") {
        let folder = bundle();
        let whole = document();
        let start = place.index(whole.len());
        let end = (start + length).min(whole.len());
        seal(&folder.0, &format!("{}{text}{}", &whole[..start], &whole[end..]));
        if let Err(error) = Bundle::open(&folder.0) {
            prop_assert!(error.kind().name().starts_with("Bundle"), "{}", error);
        }
    }
}
