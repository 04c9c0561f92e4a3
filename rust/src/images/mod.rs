//! From a photo's bytes to upright RGB pixels, by the rules of spec/preprocess.md. JPEG, PNG and WebP are read.

mod idct;
mod jpeg;
mod jpegbits;
mod jpegcode;
mod jpegplanes;
pub(crate) mod parts;
mod plain;
pub(crate) mod png;
mod webp;

use crate::errors::{Error, Refusal, Result};
use parts::Format;
pub use parts::orientation;

/// The most pixels that a photo, or what it is resized to, may have: 8192 × 8192.
pub const MAX_PIXELS: usize = 8192 * 8192;
/// The most bytes that a photo's file may have.
pub const MAX_BYTES: usize = 256 << 20;

/// RGB pixels, three bytes each, row by row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pixels {
    width: usize,
    height: usize,
    data: Vec<u8>,
}

impl Pixels {
    /// Pixels of `width` × `height`.
    ///
    /// # Panics
    /// Where `data` is not three bytes a pixel, or there is none.
    #[must_use]
    pub fn new(width: usize, height: usize, data: Vec<u8>) -> Self {
        assert!(width > 0 && height > 0 && data.len() == width * height * 3, "three bytes a pixel");
        Self { width, height, data }
    }

    /// In pixels.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// In pixels.
    #[must_use]
    pub fn height(&self) -> usize {
        self.height
    }

    /// Red, green, blue of each pixel, row by row.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// The same turned as Exif's orientation 1 to 8 asks.
    fn upright(self, orientation: u8) -> Self {
        if orientation <= 1 {
            return self;
        }
        let Self { width, height, .. } = self;
        let (across, down) = if orientation >= 5 { (height, width) } else { (width, height) };
        let source = self.data.as_chunks::<3>().0;
        let mut data = vec![0; self.data.len()];
        for (place, pixel) in data.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            let (x, y) = (place % across, place / across);
            let (column, row) = match orientation {
                2 => (width - 1 - x, y),
                3 => (width - 1 - x, height - 1 - y),
                4 => (x, height - 1 - y),
                5 => (y, x),
                6 => (y, height - 1 - x),
                7 => (width - 1 - y, height - 1 - x),
                _ => (width - 1 - y, x),
            };
            *pixel = source[row * width + column];
        }
        Self { width: across, height: down, data }
    }
}

/// The upright pixels of a photo. Sizes are held to their limits before anything is decoded.
///
/// # Errors
/// `PhotoError`, with the kind of refusal, where the file has no rule in spec/preprocess.md.
pub fn decode(data: &[u8]) -> Result<Pixels> {
    let format = Format::of(data)?;
    if data.len() > MAX_BYTES {
        return Err(too_large(format!("at most {MAX_BYTES} bytes"), format!("{} bytes", data.len())));
    }
    let (width, height) = parts::size(data, format)?;
    check_pixels(width, height)?;
    let pixels = match format {
        Format::Jpeg => jpeg::decode(data)?,
        Format::Png => png::decode(data)?,
        Format::Webp => webp::decode(data)?,
    };
    if (pixels.width, pixels.height) != (width, height) {
        let found =
            format!("a header of {width} x {height} but a picture of {} x {} pixels", pixels.width, pixels.height);
        return Err(damaged(found));
    }
    Ok(pixels.upright(orientation(data)))
}

/// Nothing, where so many pixels may be.
pub(crate) fn check_pixels(width: usize, height: usize) -> Result<()> {
    if width.saturating_mul(height) > MAX_PIXELS {
        let found = format!("{width} x {height} pixels");
        return Err(too_large(format!("at most {MAX_PIXELS} pixels"), found));
    }
    Ok(())
}

pub(crate) fn too_large(expected: String, found: String) -> Error {
    Error::photo(Refusal::TooLarge, found).expected(expected)
}

fn damaged(found: impl std::fmt::Display) -> Error {
    Error::photo(Refusal::Damaged, found)
}

fn truncated(found: impl std::fmt::Display) -> Error {
    Error::photo(Refusal::Truncated, found)
}

fn unsupported(found: impl std::fmt::Display) -> Error {
    Error::photo(Refusal::Unsupported, found)
}
