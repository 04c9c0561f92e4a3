//! `samesight-rs prepare`: what becomes of photos before a network sees them, as hashes.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::Path;

use samesight::images::{decode, orientation};
use samesight::json::{self, Value};
use samesight::preprocess::Preprocess;
use samesight::resample::resize;
use samesight::{Bundle, Error, Kind, Result, read_photo, sha256};

use super::{Words, print, stdout};

pub const HELP: &str = "usage: samesight-rs prepare BUNDLE|PREPROCESS.json PHOTO...

What becomes of photos before a network sees them: one JSON object a line and photo, with the size of the upright photo
and the SHA-256 of its pixels, of the resized and cropped pixels and of the tensor, as golden samples and spec/vectors
record them; or the error and the kind of refusal. Where two runtimes disagree, the first hash that differs names the step.

The preprocessing is that of a bundle, or an object as spec/preprocess.md has it.

Exit code: 0 every photo could be read, 2 one or more could not.";

/// Prepare the photos; the exit code.
pub fn run(words: impl Iterator<Item = OsString>) -> Result<u8> {
    let words = Words::read(words, &[], &[], HELP)?;
    let (source, photos) = words.bundle()?;
    let spec = preprocess(&source)?;
    let mut out = stdout();
    let mut failed = 0;
    for photo in photos {
        let photo = Path::new(photo);
        let path = ("path", Value::Written(json::quoted_path(photo)));
        let row = prepared(photo, &spec).unwrap_or_else(|error| {
            failed += 1;
            let kind = error.refusal().map(samesight::Refusal::name);
            vec![("kind", kind.into()), ("error", error.one_line().into())]
        });
        let pairs = std::iter::once(path).chain(row).map(|(key, value)| (key.to_owned(), value));
        print(&mut out, &json::write(&Value::Object(pairs.collect())));
    }
    let _ = out.flush();
    Ok(if failed > 0 { 2 } else { 0 })
}

fn preprocess(source: &Path) -> Result<Preprocess> {
    if source.is_dir() {
        return Ok(Bundle::open(source)?.info.preprocess.clone());
    }
    let data = fs::read(source);
    let data = data.map_err(|error| Error::new(Kind::Input, "cannot read a file").at(source.display()).found(error))?;
    Preprocess::from_json(&json::parse(&data, "preprocess")?, "preprocess")
}

fn prepared(photo: &Path, spec: &Preprocess) -> Result<Vec<(&'static str, Value)>> {
    let data = read_photo(photo)?;
    let pixels = decode(&data)?;
    let resized = resize(&pixels, spec)?;
    let tensor: Vec<u8> = spec.normalise(&resized).iter().flat_map(|value| value.to_le_bytes()).collect();
    Ok(vec![
        ("orientation", usize::from(orientation(&data)).into()),
        ("width", pixels.width().into()),
        ("height", pixels.height().into()),
        ("decoded_sha256", sha256(pixels.data()).into()),
        ("resized_sha256", sha256(resized.data()).into()),
        ("tensor_sha256", sha256(&tensor).into()),
    ])
}
