//! WebP: the picture, or the first frame of an animation on its canvas.

use std::io::Cursor;

use image_webp::WebPDecoder;

use super::parts::{Part, riff_chunks, u32_le, webp_chunks};
use super::{Pixels, damaged, truncated};
use crate::errors::Result;

const HAS_ALPHA: u8 = 0x10;

/// A picture without animation as a WebP file of its own, and its place on the canvas.
struct Still {
    file: Vec<u8>,
    left: usize,
    top: usize,
}

/// The pixels of a WebP file, not turned. What a frame leaves free of the canvas is black.
///
/// # Errors
/// `PhotoError` where it is cut short or damaged.
pub fn decode(data: &[u8]) -> Result<Pixels> {
    let (width, height) = super::parts::size(data, super::parts::Format::Webp)?;
    let still = still(data)?;
    let frame = decode_still(&still.file)?;
    if (still.left, still.top, frame.width, frame.height) == (0, 0, width, height) {
        return Ok(frame);
    }
    if still.left + frame.width > width || still.top + frame.height > height {
        return Err(damaged("a WebP frame beyond its canvas"));
    }
    let mut canvas = vec![0; width * height * 3];
    for (row, line) in frame.data.chunks_exact(frame.width * 3).enumerate() {
        let at = ((still.top + row) * width + still.left) * 3;
        canvas[at..at + line.len()].copy_from_slice(line);
    }
    Ok(Pixels::new(width, height, canvas))
}

fn decode_still(file: &[u8]) -> Result<Pixels> {
    let spoilt = |error: image_webp::DecodingError| {
        let words = error.to_string();
        let is_cut = matches!(&error, image_webp::DecodingError::IoError(inner)
            if inner.kind() == std::io::ErrorKind::UnexpectedEof);
        if is_cut { truncated(words) } else { damaged(words) }
    };
    let mut decoder = WebPDecoder::new(Cursor::new(file)).map_err(spoilt)?;
    let (width, height) = decoder.dimensions();
    let (width, height) = (width as usize, height as usize);
    super::check_pixels(width, height)?;
    let has_alpha = decoder.has_alpha();
    let mut data = vec![0; width * height * if has_alpha { 4 } else { 3 }];
    decoder.read_image(&mut data).map_err(spoilt)?;
    if has_alpha {
        data = data.as_chunks::<4>().0.iter().flat_map(|[red, green, blue, _]| [*red, *green, *blue]).collect();
    }
    Ok(Pixels::new(width, height, data))
}

/// The picture of a WebP file, or the first frame of its animation, without metadata.
fn still(data: &[u8]) -> Result<Still> {
    for chunk in webp_chunks(data)? {
        if &chunk.name != b"ANMF" {
            continue;
        }
        let head = chunk.of(data);
        let Some(head) = head.get(..16) else {
            return Err(damaged("a WebP frame that is too short"));
        };
        let place =
            |at: usize| 2 * (usize::from(head[at]) | usize::from(head[at + 1]) << 8 | usize::from(head[at + 2]) << 16);
        let chunks = picture_chunks(data, chunk.start + 16, chunk.end)?;
        let file = file(data, &chunks, &head[6..12]);
        return Ok(Still { file, left: place(0), top: place(3) });
    }
    let limit = 8 + u32_le(data, 4).unwrap_or(0) as usize;
    let chunks = picture_chunks(data, 12, limit)?;
    Ok(Still { file: file(data, &chunks, data.get(24..30).unwrap_or(&[0; 6])), left: 0, top: 0 })
}

/// The chunks of a picture in `data[place..limit]`.
fn picture_chunks(data: &[u8], place: usize, limit: usize) -> Result<Vec<Part>> {
    let mut chunks = riff_chunks(data, place, limit)?;
    chunks.retain(|chunk| matches!(&chunk.name, b"ALPH" | b"VP8 " | b"VP8L"));
    if chunks.iter().all(|chunk| &chunk.name == b"ALPH") {
        return Err(damaged("a WebP without a picture"));
    }
    Ok(chunks)
}

/// A WebP file of these chunks; `size` are the six bytes of VP8X's canvas size.
fn file(data: &[u8], chunks: &[Part], size: &[u8]) -> Vec<u8> {
    let mut body = b"WEBP".to_vec();
    if chunks.iter().any(|chunk| &chunk.name == b"ALPH") {
        body.extend_from_slice(b"VP8X\x0a\0\0\0");
        body.extend_from_slice(&[HAS_ALPHA, 0, 0, 0]);
        body.extend_from_slice(size);
    }
    for chunk in chunks {
        body.extend_from_slice(&chunk.name);
        body.extend_from_slice(&((chunk.end - chunk.start) as u32).to_le_bytes());
        body.extend_from_slice(chunk.of(data));
        if (chunk.end - chunk.start) % 2 == 1 {
            body.push(0);
        }
    }
    let mut file = b"RIFF".to_vec();
    file.extend_from_slice(&(body.len() as u32).to_le_bytes());
    file.extend(body);
    file
}
