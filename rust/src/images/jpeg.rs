//! A JPEG decoder that does what libjpeg-turbo does at its default settings, to the last bit.
//!
//! Safe Rust, so that a hostile photo can be refused and nothing worse. Crates that decode JPEG were measured
//! (docs/rust.md): those that are exact are C, or tens of thousands of lines with unsafe parts.

use super::jpegcode::{self, Coded};
use super::jpegplanes::{Upsampler, cmyk_row, fill_grey, ycc_row};
use super::parts::jpeg_frame;
use super::plain::plain_jpeg;
use super::{Pixels, unsupported};
use crate::errors::Result;

/// The pixels of a JPEG, not turned.
///
/// # Errors
/// `PhotoError` where it is of a coding without a rule, cut short, or spoilt.
pub fn decode(data: &[u8]) -> Result<Pixels> {
    let frame = jpeg_frame(data)?;
    let count = frame.components.len();
    if !matches!(frame.marker, 0xc0..=0xc2) {
        return Err(unsupported(format!("a JPEG of coding SOF{}", frame.marker - 0xc0)).fix("save it anew"));
    }
    if frame.bits != 8 || !matches!(count, 1 | 3 | 4) {
        return Err(unsupported(format!("a JPEG of {count} channels of {} bits", frame.bits)));
    }
    let (width, height) = (frame.width, frame.height);
    let coded = jpegcode::read(&plain_jpeg(data)?, &frame)?;
    let mut data = vec![0; width * height * 3];
    paint(&coded, width, height, &mut data)?;
    Ok(Pixels::new(width, height, data))
}

/// Colour, row by row: each component grown to the picture's size, then together to red, green and blue.
fn paint(coded: &Coded, width: usize, height: usize, data: &mut [u8]) -> Result<()> {
    let components = coded.components.iter();
    let planes = components.map(|one| Upsampler::new(one, coded.most, width, height));
    let mut planes = planes.collect::<Result<Vec<_>>>()?;
    let is_ycc = coded.is_ycc();
    for (y, row) in data.chunks_exact_mut(width * 3).enumerate() {
        for plane in &mut planes {
            plane.grow(y);
        }
        match &planes[..] {
            [grey] => fill_grey(grey.row(), row),
            [a, b, c] if is_ycc => ycc_row(a.row(), b.row(), c.row(), row),
            [a, b, c] => {
                let channels = a.row().iter().zip(b.row()).zip(c.row());
                for (pixel, ((red, green), blue)) in row.as_chunks_mut::<3>().0.iter_mut().zip(channels) {
                    *pixel = [*red, *green, *blue];
                }
            }
            [a, b, c, d] => cmyk_row([a.row(), b.row(), c.row(), d.row()], coded.adobe == Some(2), row),
            _ => {}
        }
    }
    Ok(())
}
