//! Whether an ONNX file is whole: no tensor of it lies in another file, for which no bundle vouches.
//!
//! Reads protobuf's wire format (protobuf.dev/programming-guides/encoding) and of onnx.proto only the way to the
//! tensors; what they hold is skipped.

use crate::errors::{Error, Result};

/// A message of onnx.proto that leads to tensors.
#[derive(Clone, Copy, PartialEq)]
enum Message {
    Model,
    Training,
    Function,
    Graph,
    Node,
    Attribute,
    Sparse,
    Tensor,
}

impl Message {
    /// What a field of this number holds, where it leads on.
    fn way(self, field: u64) -> Option<Self> {
        Some(match (self, field) {
            (Self::Model, 7) | (Self::Training, 1 | 2) | (Self::Attribute, 6 | 11) => Self::Graph,
            (Self::Model, 20) => Self::Training,
            (Self::Model, 25) => Self::Function,
            (Self::Function, 7) | (Self::Graph, 1) => Self::Node,
            (Self::Function, 11) | (Self::Node, 5) => Self::Attribute,
            (Self::Graph, 15) | (Self::Attribute, 22 | 23) => Self::Sparse,
            (Self::Graph | Self::Attribute, 5) | (Self::Attribute, 10) | (Self::Sparse, 1 | 2) => Self::Tensor,
            _ => return None,
        })
    }
}

const EXTERNAL_DATA: u64 = 13;
const DATA_LOCATION: u64 = 14;

/// Nothing, where the model of that copy is ONNX and keeps all its tensors in itself.
///
/// # Errors
/// `BundleInvalid`.
pub fn check_whole(model: &[u8], copy: &str) -> Result<()> {
    let place = format!("the {copy} copy");
    let mut waiting = vec![(Message::Model, model)];
    while let Some((message, mut rest)) = waiting.pop() {
        while !rest.is_empty() {
            let (field, value, bytes) = next_field(&mut rest)
                .ok_or_else(|| Error::invalid("a model is not an ONNX file").at(&place).found("no protobuf"))?;
            let is_elsewhere = message == Message::Tensor
                && (field == EXTERNAL_DATA || field == DATA_LOCATION && (bytes.is_some() || value != 0));
            if is_elsewhere {
                return Err(Error::invalid("a model keeps tensors in another file, which no bundle vouches for")
                    .at(&place)
                    .fix("export it anew, with its tensors inside"));
            }
            if let (Some(way), Some(bytes)) = (message.way(field), bytes) {
                waiting.push((way, bytes));
            }
        }
    }
    Ok(())
}

/// The next field's number, its value, and its bytes where it has some; nothing where it is malformed.
pub fn next_field<'a>(rest: &mut &'a [u8]) -> Option<(u64, u64, Option<&'a [u8]>)> {
    let tag = varint(rest)?;
    let mut take = |count: u64| {
        let (bytes, after) = rest.split_at_checked(usize::try_from(count).ok()?)?;
        *rest = after;
        Some(bytes)
    };
    match tag & 7 {
        0 => Some((tag >> 3, varint(rest)?, None)),
        1 => take(8).map(|_| (tag >> 3, 0, None)),
        2 => {
            let length = varint(rest)?;
            let (bytes, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            *rest = after;
            Some((tag >> 3, length, Some(bytes)))
        }
        5 => take(4).map(|_| (tag >> 3, 0, None)),
        _ => None,
    }
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..70).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if *byte < 0x80 {
            return Some(value);
        }
    }
    None
}
