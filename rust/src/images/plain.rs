//! A JPEG without what decoding does not need, so that no metadata can mislead a decoder.

use super::parts::{APP0, APP14, APP15, COM, EOI, Part, SOS, find, is_lonely, jpeg_segments, u16_be};
use super::{damaged, truncated};
use crate::errors::Result;

/// The JPEG with its tables, frame and scans only, its compressed picture as it was.
///
/// # Errors
/// `PhotoError` where the segments cannot be followed to an EOI.
pub fn plain_jpeg(data: &[u8]) -> Result<Vec<u8>> {
    let mut kept = Vec::with_capacity(data.len());
    kept.extend_from_slice(b"\xff\xd8");
    for part in jpeg_segments(data)? {
        keep_segment(&mut kept, data, part);
        if part.marker() == SOS {
            keep_scans(&mut kept, data, part.end)?;
            return Ok(kept);
        }
    }
    Err(damaged("a JPEG without a scan"))
}

/// What stays of a segment: JFIF without its thumbnail, Adobe's transform, all that is coding.
fn keep_segment(kept: &mut Vec<u8>, data: &[u8], part: Part) {
    let payload = part.of(data);
    let (payload, end): (&[u8], &[u8]) = match part.marker() {
        APP0 if payload.starts_with(b"JFIF\0") && payload.len() >= 14 => (&payload[..12], b"\0\0"),
        APP14 if payload.starts_with(b"Adobe") && payload.len() >= 12 => (&payload[..12], b""),
        APP0..=APP15 | COM => return,
        _ => (payload, b""),
    };
    let length = (payload.len() + end.len() + 2) as u16;
    kept.extend_from_slice(&[0xff, part.marker()]);
    kept.extend_from_slice(&length.to_be_bytes());
    kept.extend_from_slice(payload);
    kept.extend_from_slice(end);
}

/// From the first scan's entropy-coded data to EOI, without the metadata that may stand between scans.
fn keep_scans(kept: &mut Vec<u8>, data: &[u8], mut place: usize) -> Result<()> {
    loop {
        let (start, marker, after) =
            next_marker(data, place).ok_or_else(|| truncated("the file ends within its picture"))?;
        kept.extend_from_slice(&data[place..start]);
        if marker == EOI {
            kept.extend_from_slice(&[0xff, EOI]);
            return Ok(());
        }
        let length = usize::from(u16_be(data, after).unwrap_or(0));
        let end = after + length;
        if length < 2 || end > data.len() {
            return Err(truncated("the file ends within a segment"));
        }
        // Metadata is followed by a marker; what is not is a scan's header, or damage that decoders are to see.
        if next_marker(data, end).is_some_and(|(next, ..)| next == end) {
            keep_segment(kept, data, Part { name: [0, 0, 0, marker], start: after + 2, end });
        } else {
            kept.extend_from_slice(&data[start..end]);
        }
        place = end;
    }
}

/// The next marker in entropy-coded data, to which stuffed zeros, restarts and a stray TEM belong: where it
/// begins, which it is, and where it ends.
fn next_marker(data: &[u8], mut place: usize) -> Option<(usize, u8, usize)> {
    loop {
        let start = place + find(data, place, 0xff)?;
        let mut end = start;
        while data.get(end) == Some(&0xff) {
            end += 1;
        }
        let marker = *data.get(end)?;
        if marker != 0 && !is_lonely(marker) {
            return Some((start, marker, end + 1));
        }
        place = end + 1;
    }
}
