//! Optimised graphs, kept from one run of a program to the next where it asks for that.
//!
//! What ONNX Runtime makes of a model depends on the model, its own version and the processor: a graph is named by
//! all of them. A checksum tells accidents. Whoever can write into the folder can change answers, as whoever can
//! change this program can; so it should be the user's own.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::bundle::{Copy, sha256};

const MAGIC: &[u8; 8] = b"ssgraph1";
const HEAD: usize = 12; // the magic and a CRC-32, little-endian

/// The folder where graphs are kept unless another is named: that of `SAMESIGHT_CACHE`, else the user's.
pub fn default_folder() -> Option<PathBuf> {
    let named = env::var_os("SAMESIGHT_CACHE").map(PathBuf::from);
    let own = || env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".cache")));
    Some(named.or_else(|| Some(own()?.join("samesight")))?.join("graphs"))
}

/// Where the graph of a copy lies, by that library on this processor.
pub fn place(folder: &Path, copy: &Copy, library: &Path) -> PathBuf {
    let size = fs::metadata(library).map_or(0, |status| status.len());
    let about = format!("{} {} {size} {}", copy.sha256, library.display(), abilities());
    folder.join(format!("{}.graph", sha256(about.as_bytes())))
}

/// What ONNX Runtime's choice of kernels and layouts depends on.
fn abilities() -> String {
    let mut found = vec![env::consts::ARCH];
    #[cfg(target_arch = "x86_64")]
    for (name, is_there) in [
        ("avx", is_x86_feature_detected!("avx")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
    ] {
        if is_there {
            found.push(name);
        }
    }
    found.join(" ")
}

/// The graph that was kept there; nothing where there is none, or it is spoilt.
pub fn read(place: &Path) -> Option<Vec<u8>> {
    let mut data = fs::read(place).ok()?;
    let sum = crc32fast::hash(data.get(HEAD..)?).to_le_bytes();
    if !data.starts_with(MAGIC) || data[MAGIC.len()..HEAD] != sum {
        return None;
    }
    data.drain(..HEAD);
    Some(data)
}

/// Keep the graph in the file `made`, which is gone afterwards. A cache that cannot be written is done without.
pub fn keep(place: &Path, made: &Path) {
    let Ok(graph) = fs::read(made) else { return };
    let _ = fs::remove_file(made);
    let sum = crc32fast::hash(&graph).to_le_bytes();
    let aside = place.with_extension(format!("part-{}", std::process::id()));
    let whole = [MAGIC.as_slice(), &sum, &graph].concat();
    if fs::write(&aside, whole).and_then(|()| fs::rename(&aside, place)).is_err() {
        let _ = fs::remove_file(&aside);
    }
}

/// A file beside `place` for ONNX Runtime to write into; nothing where the folder cannot be made.
pub fn aside(place: &Path) -> Option<PathBuf> {
    fs::create_dir_all(place.parent()?).ok()?;
    Some(place.with_extension(format!("onnx-{}", std::process::id())))
}
