//! Optimised graphs, kept from one run of a program to the next where it asks for that.
//!
//! What ONNX Runtime makes of a model depends on the model, its own version and the processor: a graph is named by
//! all of them. A checksum tells accidents. Whoever can write into the folder can change answers, as whoever can
//! change this program can; so a graph is used only where nobody but the user could have written it.

use std::collections::{HashMap, HashSet};
use std::env;
use std::fs::{self, File};
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::bundle::{Copy, field_of, sha256};
use crate::memory::Bytes;

const MAGIC: &[u8; 8] = b"ssgraph3";
const LEAST_BYTES: usize = 1024; // smaller weights stay in the graph
const ALIGNED: usize = 64; // bytes: where a weight begins in the file, and so in memory

/// A graph whose larger weights are inputs of it, and these: ONNX Runtime reads inputs where they lie, and copies
/// what a model holds, twice.
pub struct Graph {
    bytes: Bytes,
    model: Range<usize>,
    weights: Vec<Place>,
}

/// Where a tensor of float32 lies among the bytes.
struct Place {
    shape: Vec<i64>,
    values: Range<usize>,
}

impl Graph {
    /// The ONNX file.
    pub fn model(&self) -> &[u8] {
        &self.bytes[self.model.clone()]
    }

    /// The shape and the values of each input after the first, in order.
    pub fn weights(&self) -> impl Iterator<Item = (&[i64], &[f32])> {
        let values = |place: &Place| bytemuck::cast_slice(&self.bytes[place.values.clone()]);
        self.weights.iter().map(move |place| (&place.shape[..], values(place)))
    }
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

/// The graph that was kept there; nothing where there is none, it is spoilt, or others could have written it.
pub fn read(place: &Path) -> Option<Graph> {
    let file = File::open(place).ok()?;
    let status = file.metadata().ok()?;
    let is_own = is_own(&status) && is_own(&fs::metadata(place.parent()?).ok()?);
    if !is_own || cfg!(target_endian = "big") {
        return None;
    }
    let length = usize::try_from(status.len()).ok()?;
    let mut sum = crc32fast::Hasher::new();
    let body = length.checked_sub(8)?;
    let bytes = Bytes::of(&file, body, |piece| sum.update(piece)).ok()?;
    let mut recorded = [0; 8];
    (&file).read_exact(&mut recorded).ok()?;
    if u64::from_le_bytes(recorded) != u64::from(sum.finalize()) {
        return None;
    }
    let (model, weights) = table(&bytes)?;
    Some(Graph { bytes, model, weights })
}

/// Where the model and its weights lie in the bytes of a kept graph.
fn table(bytes: &[u8]) -> Option<(Range<usize>, Vec<Place>)> {
    let mut at = MAGIC.len();
    if bytes.get(..at)? != MAGIC {
        return None;
    }
    let mut number = || {
        let (eight, _) = bytes.get(at..)?.split_first_chunk::<8>()?;
        at += 8;
        usize::try_from(u64::from_le_bytes(*eight)).ok()
    };
    let piece = |number: &mut dyn FnMut() -> Option<usize>, unit: usize| {
        let start = number()?;
        let end = start.checked_add(number()?.checked_mul(unit)?)?;
        (start.is_multiple_of(ALIGNED) && end <= bytes.len()).then_some(start..end)
    };
    let model = piece(&mut number, 1)?;
    let mut weights = Vec::new();
    for _ in 0..number()? {
        let rank = number()?;
        let shape = (0..rank).map(|_| Some(number()? as i64)).collect::<Option<Vec<_>>>()?;
        weights.push(Place { shape, values: piece(&mut number, 4)? });
    }
    Some((model, weights))
}

/// Whether nobody but the user can have changed what has that status.
#[cfg(unix)]
fn is_own(status: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    const WRITTEN_BY_OTHERS: u32 = 0o022;
    // Linux's /proc/self is this process's; where there is none, whose file it is cannot be told without `unsafe`.
    let is_ours = fs::metadata("/proc/self").map_or(true, |own| own.uid() == status.uid());
    is_ours && status.mode() & WRITTEN_BY_OTHERS == 0
}

#[cfg(not(unix))]
fn is_own(_: &fs::Metadata) -> bool {
    true // Windows: a user's folder is the user's
}

/// Keep the model in the file `made`, which is gone afterwards. A cache that cannot be written is done without.
pub fn keep(place: &Path, made: &Path) {
    let model = fs::read(made);
    let _ = fs::remove_file(made);
    let Some(out) = model.as_deref().ok().and_then(kept) else { return };
    let aside = place.with_extension(format!("part-{}", std::process::id()));
    if fs::write(&aside, out).and_then(|()| fs::rename(&aside, place)).is_err() {
        let _ = fs::remove_file(&aside);
    }
}

/// The bytes of a kept graph: a table of numbers, then the model, then the weights, then the checksum of all.
fn kept(model: &[u8]) -> Option<Vec<u8>> {
    let (graph, weights) = split(model)?;
    let numbers = 3 + weights.iter().map(|(_, shape, _)| 3 + shape.len()).sum::<usize>();
    let mut end = MAGIC.len() + 8 * numbers;
    let mut out = MAGIC.to_vec();
    let number = |out: &mut Vec<u8>, value: usize| out.extend_from_slice(&(value as u64).to_le_bytes());
    let mut place = |out: &mut Vec<u8>, bytes: &[u8], unit: usize| {
        let start = end.next_multiple_of(ALIGNED);
        end = start + bytes.len();
        number(out, start);
        number(out, bytes.len() / unit);
    };
    place(&mut out, &graph, 1);
    number(&mut out, weights.len());
    for (_, shape, values) in &weights {
        number(&mut out, shape.len());
        for side in shape {
            number(&mut out, *side as usize);
        }
        place(&mut out, values, 4);
    }
    for bytes in std::iter::once(&graph[..]).chain(weights.iter().map(|(.., values)| *values)) {
        out.resize(out.len().next_multiple_of(ALIGNED), 0);
        out.extend_from_slice(bytes);
    }
    let sum = crc32fast::hash(&out);
    number(&mut out, sum as usize);
    Some(out)
}

/// A weight in a model's bytes: its name, its shape, and its values, little-endian.
type Found<'a> = (&'a [u8], Vec<u64>, &'a [u8]);

// Field numbers of onnx.proto: in ModelProto, GraphProto, NodeProto, AttributeProto, TensorProto.
const GRAPH: u64 = 7;
const NODE: u64 = 1;
const INITIALIZER: u64 = 5;
const GRAPH_INPUT: u64 = 11;
const NODE_INPUT: u64 = 1;
const NODE_ATTRIBUTE: u64 = 5;
const NODE_DOMAIN: u64 = 7;
const ATTRIBUTE_GRAPHS: [u64; 2] = [6, 11];
const DIMS: u64 = 1;
const DATA_TYPE: u64 = 2;
const NAME: u64 = 8;
const RAW_DATA: u64 = 9;
const FLOAT: u64 = 1;
/// Of ONNX Runtime's own operators on blocks of channels. They take weights as they lie, reordered when the graph was
/// optimised; other operators pack constant weights anew when a session begins, and as inputs would give other bits.
const BLOCKED: &[u8] = b"com.microsoft.nchwc";

/// A model whose larger weights are inputs, and these in the inputs' order; nothing where it is no model.
fn split(model: &[u8]) -> Option<(Vec<u8>, Vec<Found<'_>>)> {
    let (mut out, mut rest, mut weights) = (Vec::new(), model, Vec::new());
    while !rest.is_empty() {
        let before = rest;
        match field_of(&mut rest)? {
            (GRAPH, _, Some(graph)) => {
                let (graph, found) = split_graph(graph)?;
                weights.extend(found);
                write_bytes(&mut out, GRAPH, &graph);
            }
            _ => out.extend_from_slice(&before[..before.len() - rest.len()]),
        }
    }
    Some((out, weights))
}

/// The same of a graph.
fn split_graph(graph: &[u8]) -> Option<(Vec<u8>, Vec<Found<'_>>)> {
    let movable = movable(graph)?;
    let (mut out, mut rest, mut weights) = (Vec::new(), graph, Vec::new());
    while !rest.is_empty() {
        let before = rest;
        let field = field_of(&mut rest)?;
        let moved = match field {
            (INITIALIZER, _, Some(tensor)) => weight(tensor)?.filter(|(name, ..)| movable.contains(name)),
            _ => None,
        };
        match moved {
            Some(found) => weights.push(found),
            None => out.extend_from_slice(&before[..before.len() - rest.len()]),
        }
    }
    for (name, shape, _) in &weights {
        write_bytes(&mut out, GRAPH_INPUT, &input(name, shape));
    }
    Some((out, weights))
}

/// The names that only operators on blocks of channels take; none where a graph lies within the graph.
fn movable(graph: &[u8]) -> Option<HashSet<&[u8]>> {
    let mut is_movable: HashMap<&[u8], bool> = HashMap::new();
    let mut rest = graph;
    while !rest.is_empty() {
        match field_of(&mut rest)? {
            (NODE, _, Some(mut node)) => {
                let (mut inputs, mut is_blocked) = (Vec::new(), false);
                while !node.is_empty() {
                    match field_of(&mut node)? {
                        (NODE_INPUT, _, Some(name)) => inputs.push(name),
                        (NODE_DOMAIN, _, Some(domain)) => is_blocked = domain == BLOCKED,
                        (NODE_ATTRIBUTE, _, Some(mut attribute)) => {
                            while !attribute.is_empty() {
                                if ATTRIBUTE_GRAPHS.contains(&field_of(&mut attribute)?.0) {
                                    return Some(HashSet::new());
                                }
                            }
                        }
                        _ => {}
                    }
                }
                for name in inputs {
                    *is_movable.entry(name).or_insert(true) &= is_blocked;
                }
            }
            (GRAPH_INPUT, _, Some(mut value)) => {
                while let Some((field, _, bytes)) = field_of(&mut value) {
                    if let (1, Some(name)) = (field, bytes) {
                        is_movable.insert(name, false); // a weight that is an input already
                    }
                }
            }
            _ => {}
        }
    }
    Some(is_movable.into_iter().filter_map(|(name, is)| is.then_some(name)).collect())
}

/// A large tensor of float32; `None` within where it is another one.
#[allow(clippy::option_option)] // malformed, or not to be moved
fn weight(tensor: &[u8]) -> Option<Option<Found<'_>>> {
    let mut rest = tensor;
    let (mut name, mut shape, mut values, mut kind): (&[u8], _, &[u8], _) = (&[], Vec::new(), &[], 0);
    while !rest.is_empty() {
        match field_of(&mut rest)? {
            (RAW_DATA, _, Some(bytes)) => values = bytes,
            (DIMS, side, None) => shape.push(side),
            (DIMS, ..) => return Some(None), // packed, as no writer of ONNX does it
            (DATA_TYPE, number, None) => kind = number,
            (NAME, _, Some(bytes)) => name = bytes,
            _ => {}
        }
    }
    let is_whole = shape.iter().product::<u64>().checked_mul(4) == Some(values.len() as u64);
    Some((kind == FLOAT && values.len() >= LEAST_BYTES && is_whole).then_some((name, shape, values)))
}

/// ValueInfoProto of a tensor of float32: its name, and in its type (tensor_type: elem_type, shape) its sides.
fn input(name: &[u8], shape: &[u64]) -> Vec<u8> {
    let mut sides = Vec::new();
    for side in shape {
        let mut dimension = vec![1 << 3]; // dim_value
        write_varint(&mut dimension, *side);
        write_bytes(&mut sides, 1, &dimension);
    }
    let (mut tensor, mut kind, mut out) = (vec![1 << 3, FLOAT as u8], Vec::new(), Vec::new());
    write_bytes(&mut tensor, 2, &sides);
    write_bytes(&mut kind, 1, &tensor);
    write_bytes(&mut out, 1, name);
    write_bytes(&mut out, 2, &kind);
    out
}

fn write_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    write_varint(out, field << 3 | 2);
    write_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
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
    let mut folder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut folder, 0o700);
    folder.recursive(true).create(place.parent()?).ok()?;
    Some(place.with_extension(format!("onnx-{}", std::process::id())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(fields: &[(u64, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (field, bytes) in fields {
            write_bytes(&mut out, *field, bytes);
        }
        out
    }

    /// A tensor of `count` values of float32.
    fn tensor(name: &str, count: u64) -> Vec<u8> {
        let values: Vec<u8> = (0..count).flat_map(|value| (value as f32).to_le_bytes()).collect();
        let mut out = vec![1 << 3];
        write_varint(&mut out, count);
        out.extend([2 << 3, FLOAT as u8]);
        out.extend(message(&[(NAME, name.as_bytes()), (RAW_DATA, &values)]));
        out
    }

    fn node(input: &str, domain: &[u8], more: &[u8]) -> Vec<u8> {
        let mut out = message(&[(NODE_INPUT, b"x"), (NODE_INPUT, input.as_bytes()), (NODE_DOMAIN, domain)]);
        out.extend(more);
        out
    }

    fn model(nodes: &[Vec<u8>], tensors: &[Vec<u8>]) -> Vec<u8> {
        let mut graph = Vec::new();
        for one in nodes {
            write_bytes(&mut graph, NODE, one);
        }
        for one in tensors {
            write_bytes(&mut graph, INITIALIZER, one);
        }
        message(&[(GRAPH, &graph)])
    }

    /// The names of the weights that are moved out of a model with these nodes.
    fn moved(nodes: &[Vec<u8>]) -> Vec<String> {
        let model = model(nodes, &[tensor("a", 300), tensor("b", 300), tensor("small", 255)]);
        let (_, weights) = split(&model).unwrap();
        weights.into_iter().map(|(name, ..)| String::from_utf8(name.to_vec()).unwrap()).collect()
    }

    #[test]
    fn large_weights_that_only_blocked_operators_take_are_moved() {
        let blocked = ["a", "b", "small"].map(|name| node(name, BLOCKED, b""));
        assert_eq!(moved(&blocked), ["a", "b"]);
        assert_eq!(moved(&[node("a", BLOCKED, b""), node("a", b"", b""), node("b", BLOCKED, b"")]), ["b"]);
        let attribute = message(&[(NODE_ATTRIBUTE, &message(&[(ATTRIBUTE_GRAPHS[0], b"")]))]);
        assert!(moved(&[node("a", BLOCKED, &attribute)]).is_empty(), "a graph within may take them, too");
        assert!(split(b"\xff").is_none());
    }

    #[test]
    fn a_kept_graph_is_read_as_it_was_written_and_not_after_a_change() {
        let folder = env::temp_dir().join(format!("samesight-cache-{}", std::process::id()));
        let place = folder.join("graphs").join("one.graph");
        let made = aside(&place).unwrap();
        fs::write(&made, model(&[node("a", BLOCKED, b"")], &[tensor("a", 300)])).unwrap();
        keep(&place, &made);
        assert!(!made.exists());
        let graph = read(&place).unwrap();
        let weights: Vec<_> = graph.weights().collect();
        assert_eq!(weights.len(), 1);
        assert_eq!(weights[0].0, [300]);
        assert_eq!(weights[0].1[299].to_bits(), 299_f32.to_bits());
        assert!(!graph.model().is_empty());
        let mut bytes = fs::read(&place).unwrap();
        bytes[70] ^= 1;
        fs::write(&place, &bytes).unwrap();
        assert!(read(&place).is_none());
        for length in [0, 7, 8, 15, 40, bytes.len() - 1] {
            fs::write(&place, &bytes[..length]).unwrap();
            assert!(read(&place).is_none());
        }
        fs::remove_dir_all(folder).unwrap();
    }
}
