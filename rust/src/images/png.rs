//! PNG of every kind to RGB: alpha dropped, 16 bits cut to the high byte, small greys spread.

use miniz_oxide::inflate::{TINFLStatus, decompress_to_vec_zlib_with_limit};

use super::parts::png_chunks;
use super::{Pixels, damaged, truncated};
use crate::errors::Result;

const PALETTE: u8 = 3;
/// Adam7: first column, first row, step across, step down of each pass.
const PASSES: [[usize; 4]; 7] =
    [[0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2], [0, 1, 1, 2]];
const WHOLE: [[usize; 4]; 1] = [[0, 0, 1, 1]];

struct Header {
    width: usize,
    height: usize,
    depth: u8,
    colour: u8,
    is_interlaced: bool,
}

impl Header {
    fn read(payload: &[u8]) -> Result<Self> {
        let wrong = || damaged("a PNG header that says what no PNG can be");
        let &[a, b, c, d, e, f, g, h, depth, colour, packing, filtering, interlacing] = payload else {
            return Err(wrong());
        };
        let depths: &[u8] = match colour {
            0 => &[1, 2, 4, 8, 16],
            PALETTE => &[1, 2, 4, 8],
            2 | 4 | 6 => &[8, 16],
            _ => &[],
        };
        if !depths.contains(&depth) || packing != 0 || filtering != 0 || interlacing > 1 {
            return Err(wrong());
        }
        let (width, height) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
        Ok(Self { width: width as usize, height: height as usize, depth, colour, is_interlaced: interlacing == 1 })
    }

    fn channels(&self) -> usize {
        [1, 0, 3, 1, 2, 0, 4][usize::from(self.colour)]
    }

    fn row_bytes(&self, across: usize) -> usize {
        (across * self.channels() * usize::from(self.depth)).div_ceil(8)
    }

    /// Width and height of a pass, in pixels.
    fn pass_size(&self, [left, top, right, down]: [usize; 4]) -> (usize, usize) {
        (self.width.saturating_sub(left).div_ceil(right), self.height.saturating_sub(top).div_ceil(down))
    }

    fn passes(&self) -> &'static [[usize; 4]] {
        if self.is_interlaced { &PASSES } else { &WHOLE }
    }
}

/// The pixels of a PNG file, not turned.
///
/// # Errors
/// `PhotoError` where it is cut short or damaged.
pub fn decode(data: &[u8]) -> Result<Pixels> {
    let mut header = None;
    let mut palette: &[u8] = &[];
    let mut packed = Vec::new();
    for chunk in png_chunks(data)? {
        match &chunk.name {
            b"IHDR" if header.is_none() => header = Some(Header::read(chunk.of(data))?),
            b"PLTE" => palette = chunk.of(data),
            b"IDAT" => packed.extend_from_slice(chunk.of(data)),
            _ => {}
        }
    }
    let Some(header) = header.filter(|_| !packed.is_empty()) else {
        return Err(damaged("a PNG without a picture"));
    };
    super::check_pixels(header.width, header.height)?;
    let sizes = header.passes().iter().map(|pass| (*pass, header.pass_size(*pass)));
    let sizes: Vec<_> = sizes.filter(|(_, (across, down))| *across > 0 && *down > 0).collect();
    let length = sizes.iter().map(|(_, (across, down))| down * (1 + header.row_bytes(*across))).sum();
    let mut rows = inflate(&packed, length)?;
    let mut pixels = vec![0; header.width * header.height * 3];
    let mut rest = &mut rows[..];
    for (pass, (across, down)) in sizes {
        let row_bytes = header.row_bytes(across);
        let (here, after) = rest.split_at_mut(down * (row_bytes + 1));
        rest = after;
        let step = (header.channels() * usize::from(header.depth) / 8).max(1);
        unfilter(here, row_bytes, step)?;
        for (number, row) in here.chunks_exact(row_bytes + 1).enumerate() {
            paint(&mut pixels, &header, palette, &row[1..], pass, number, across);
        }
    }
    Ok(Pixels::new(header.width, header.height, pixels))
}

/// `length` bytes out of a zlib stream.
fn inflate(packed: &[u8], length: usize) -> Result<Vec<u8>> {
    let mut found = match decompress_to_vec_zlib_with_limit(packed, length) {
        Ok(found) => found,
        // What a stream holds beyond the picture is not looked at.
        Err(error) if error.status == TINFLStatus::HasMoreOutput => error.output,
        Err(error) if error.status == TINFLStatus::FailedCannotMakeProgress => {
            return Err(truncated("a picture that ends too early"));
        }
        Err(error) => return Err(damaged(format!("compressed data that is spoilt ({:?})", error.status))),
    };
    if found.len() < length {
        return Err(truncated("a picture that ends too early"));
    }
    found.truncate(length);
    Ok(found)
}

/// Undo the filters of rows, each a filter byte and `row_bytes` bytes, in place.
fn unfilter(rows: &mut [u8], row_bytes: usize, step: usize) -> Result<()> {
    let mut above = vec![0; row_bytes];
    for row in rows.chunks_exact_mut(row_bytes + 1) {
        let (filter, row) = (row[0], &mut row[1..]);
        match filter {
            0 => {}
            1 => {
                for at in step..row_bytes {
                    row[at] = row[at].wrapping_add(row[at - step]);
                }
            }
            2 => {
                for (byte, up) in row.iter_mut().zip(&above) {
                    *byte = byte.wrapping_add(*up);
                }
            }
            3 => {
                for at in 0..row_bytes {
                    let left = if at >= step { row[at - step] } else { 0 };
                    row[at] = row[at].wrapping_add(u8::midpoint(left, above[at]));
                }
            }
            4 => {
                for at in 0..row_bytes {
                    let (left, corner) = if at >= step { (row[at - step], above[at - step]) } else { (0, 0) };
                    row[at] = row[at].wrapping_add(paeth(left, above[at], corner));
                }
            }
            _ => return Err(damaged(format!("a PNG row filter {filter}"))),
        }
        above.copy_from_slice(row);
    }
    Ok(())
}

fn paeth(left: u8, up: u8, corner: u8) -> u8 {
    let (a, b, c) = (i16::from(left), i16::from(up), i16::from(corner));
    let (by_left, by_up, by_corner) = ((b - c).abs(), (a - c).abs(), (a + b - 2 * c).abs());
    if by_left <= by_up && by_left <= by_corner {
        left
    } else if by_up <= by_corner {
        up
    } else {
        corner
    }
}

/// Put row `number` of a pass into the picture.
fn paint(
    pixels: &mut [u8],
    header: &Header,
    palette: &[u8],
    row: &[u8],
    [left, top, right, down]: [usize; 4],
    number: usize,
    across: usize,
) {
    let start = ((top + number * down) * header.width + left) * 3;
    let bytes = if header.depth == 16 { 2 } else { 1 };
    let channels = header.channels();
    let colours = palette.as_chunks::<3>().0;
    let depth = usize::from(header.depth);
    let most = (1_u16 << depth.min(8)) - 1;
    let targets = pixels[start..].chunks_mut(right * 3).take(across);
    for (x, target) in targets.enumerate() {
        let value = if depth < 8 {
            let bit = x * depth;
            row[bit / 8] >> (8 - depth - bit % 8) & most as u8
        } else {
            row[x * channels * bytes]
        };
        let colour = match header.colour {
            // An index beyond the palette is black.
            PALETTE => colours.get(usize::from(value)).copied().unwrap_or([0; 3]),
            2 | 6 => {
                let at = x * channels * bytes;
                [row[at], row[at + bytes], row[at + 2 * bytes]]
            }
            _ if depth < 8 => [(u16::from(value) * (255 / most)) as u8; 3],
            _ => [value; 3],
        };
        target[..3].copy_from_slice(&colour);
    }
}
