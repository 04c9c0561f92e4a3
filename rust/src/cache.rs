//! Optimised graphs, kept from one run of a program to the next where it asks for that.
//!
//! What ONNX Runtime makes of a model depends on the model, its own version and the processor: a graph is named by
//! all of them. A checksum tells accidents. Whoever can write into the folder can change answers, as whoever can
//! change this program can; so it should be the user's own.

use std::env;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::bundle::{Copy, field_of, sha256};

const MAGIC: &[u8; 8] = b"ssgraph2";
const LEAST_BYTES: usize = 1024; // smaller weights stay in the graph
const PIECE_BYTES: usize = 1 << 18;

/// A graph without its larger weights, and these: ONNX Runtime takes them as they are, where it would copy them
/// twice out of a model's file.
pub struct Graph {
    pub model: Vec<u8>,
    pub weights: Vec<Weight>,
}

/// A tensor of float32.
pub struct Weight {
    pub name: String,
    pub shape: Vec<i64>,
    pub values: Vec<f32>,
}

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
pub fn read(place: &Path) -> Option<Graph> {
    let mut file = Checked { file: File::open(place).ok()?, sum: crc32fast::Hasher::new(), piece: Vec::new() };
    let length = file.file.metadata().ok()?.len() as usize;
    let bound = |size: usize| (size <= length).then_some(size);
    if file.bytes(MAGIC.len()).ok()? != MAGIC {
        return None;
    }
    let size = bound(file.number().ok()?)?;
    let model = file.bytes(size).ok()?;
    let mut weights = Vec::new();
    for _ in 0..bound(file.number().ok()?)? {
        let size = bound(file.number().ok()?)?;
        let name = String::from_utf8(file.bytes(size).ok()?).ok()?;
        let rank = bound(file.number().ok()?)?;
        let shape = (0..rank).map(|_| Some(file.number().ok()? as i64)).collect::<Option<Vec<_>>>()?;
        let count = bound(file.number().ok()?)?;
        weights.push(Weight { name, shape, values: file.floats(count).ok()? });
    }
    let sum = u64::from(file.sum.clone().finalize());
    (file.number().ok()? as u64 == sum).then_some(Graph { model, weights })
}

/// A file whose checksum is kept as it is read.
struct Checked {
    file: File,
    sum: crc32fast::Hasher,
    piece: Vec<u8>,
}

impl Checked {
    fn bytes(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut data = vec![0; count];
        self.file.read_exact(&mut data)?;
        self.sum.update(&data);
        Ok(data)
    }

    fn number(&mut self) -> io::Result<usize> {
        let mut eight = [0; 8];
        self.file.read_exact(&mut eight)?;
        self.sum.update(&eight);
        Ok(u64::from_le_bytes(eight) as usize)
    }

    /// Piece by piece, so that no second copy of all is made.
    fn floats(&mut self, count: usize) -> io::Result<Vec<f32>> {
        let mut values = Vec::with_capacity(count);
        while values.len() < count {
            self.piece.resize(PIECE_BYTES.min(4 * (count - values.len())), 0);
            self.file.read_exact(&mut self.piece)?;
            self.sum.update(&self.piece);
            values.extend(self.piece.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)));
        }
        Ok(values)
    }
}

/// Keep the model in the file `made`, which is gone afterwards. A cache that cannot be written is done without.
pub fn keep(place: &Path, made: &Path) {
    let model = fs::read(made);
    let _ = fs::remove_file(made);
    let Some((graph, weights)) = model.as_deref().ok().and_then(split) else { return };
    let mut out = MAGIC.to_vec();
    let number = |out: &mut Vec<u8>, value: usize| out.extend_from_slice(&(value as u64).to_le_bytes());
    number(&mut out, graph.len());
    out.extend_from_slice(&graph);
    number(&mut out, weights.len());
    for (name, shape, values) in weights {
        number(&mut out, name.len());
        out.extend_from_slice(name);
        number(&mut out, shape.len());
        for side in shape {
            number(&mut out, side as usize);
        }
        number(&mut out, values.len() / 4);
        out.extend_from_slice(values);
    }
    let sum = crc32fast::hash(&out);
    number(&mut out, sum as usize);
    let aside = place.with_extension(format!("part-{}", std::process::id()));
    if fs::write(&aside, out).and_then(|()| fs::rename(&aside, place)).is_err() {
        let _ = fs::remove_file(&aside);
    }
}

/// A weight in a model's bytes: its name, its shape, and its values, little-endian.
type Found<'a> = (&'a [u8], Vec<u64>, &'a [u8]);

// Field numbers of onnx.proto: in ModelProto, GraphProto, TensorProto.
const GRAPH: u64 = 7;
const INITIALIZER: u64 = 5;
const DIMS: u64 = 1;
const DATA_TYPE: u64 = 2;
const NAME: u64 = 8;
const RAW_DATA: u64 = 9;
const FLOAT: u64 = 1;
/// TensorProto's external_data (location: weights) and data_location (external), as they are written.
const ELSEWHERE: &[u8] = b"\x6a\x13\x0a\x08location\x12\x07weights\x70\x01";

/// A model without its larger weights, and these; nothing where it is no model.
fn split(model: &[u8]) -> Option<(Vec<u8>, Vec<Found<'_>>)> {
    let mut weights = Vec::new();
    let split = rewritten(model, GRAPH, &mut |graph| {
        rewritten(graph, INITIALIZER, &mut |tensor| match without_values(tensor) {
            Some((rest, found)) => {
                weights.push(found);
                Some(rest)
            }
            None => Some(tensor.to_vec()),
        })
    })?;
    Some((split, weights))
}

/// A message whose fields of number `wanted` are what `change` makes of them.
fn rewritten<'a>(
    message: &'a [u8],
    wanted: u64,
    change: &mut dyn FnMut(&'a [u8]) -> Option<Vec<u8>>,
) -> Option<Vec<u8>> {
    let (mut out, mut rest) = (Vec::new(), message);
    while !rest.is_empty() {
        let before = rest;
        match field_of(&mut rest)? {
            (field, _, Some(bytes)) if field == wanted => {
                let changed = change(bytes)?;
                write_varint(&mut out, field << 3 | 2);
                write_varint(&mut out, changed.len() as u64);
                out.extend_from_slice(&changed);
            }
            _ => out.extend_from_slice(&before[..before.len() - rest.len()]),
        }
    }
    Some(out)
}

/// A large tensor of float32 as one that lies elsewhere, and what it holds; nothing where it is to stay.
fn without_values(tensor: &[u8]) -> Option<(Vec<u8>, Found<'_>)> {
    let (mut out, mut rest) = (Vec::new(), tensor);
    let (mut name, mut shape, mut values, mut kind): (&[u8], _, &[u8], _) = (&[], Vec::new(), &[], 0);
    while !rest.is_empty() {
        let before = rest;
        match field_of(&mut rest)? {
            (RAW_DATA, _, Some(bytes)) => {
                values = bytes;
                continue;
            }
            (DIMS, side, None) => shape.push(side),
            (DIMS, ..) => return None, // packed, as no writer of ONNX does it
            (DATA_TYPE, number, None) => kind = number,
            (NAME, _, Some(bytes)) => name = bytes,
            _ => {}
        }
        out.extend_from_slice(&before[..before.len() - rest.len()]);
    }
    let is_whole = shape.iter().product::<u64>().checked_mul(4) == Some(values.len() as u64);
    if kind != FLOAT || values.len() < LEAST_BYTES || !is_whole {
        return None;
    }
    out.extend_from_slice(ELSEWHERE);
    Some((out, (name, shape, values)))
}

fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        out.push(value as u8 & 0x7f | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A file beside `place` for ONNX Runtime to write into; nothing where the folder cannot be made.
pub fn aside(place: &Path) -> Option<PathBuf> {
    fs::create_dir_all(place.parent()?).ok()?;
    Some(place.with_extension(format!("onnx-{}", std::process::id())))
}
