//! From a JPEG's planes of samples to rows of red, green and blue (libjpeg-turbo's jdsample.c and jdcolor.c).

use super::jpegcode::Component;
use super::unsupported;
use crate::errors::Result;

/// How a plane grows.
#[derive(Clone, Copy)]
enum Growth {
    Same,
    Repeat { across: usize, down: usize },
    SmoothAcross,
    SmoothDown,
    Smooth,
}

/// One component's plane, grown a row at a time to the picture's size: smoothly by two, else by repeating samples.
pub struct Upsampler<'a> {
    samples: &'a [u8],
    stride: usize,
    width: usize,
    height: usize,
    growth: Growth,
    sums: Vec<u16>,
    out: Vec<u8>,
}

impl<'a> Upsampler<'a> {
    /// Raises `PhotoError` where the ratio is not whole.
    pub fn new(one: &'a Component, most: (usize, usize), width: usize, height: usize) -> Result<Self> {
        if !most.0.is_multiple_of(one.across) || !most.1.is_multiple_of(one.down) {
            return Err(unsupported("a JPEG whose colour is sampled in a ratio that is not whole"));
        }
        let own_width = (width * one.across).div_ceil(most.0);
        let own_height = (height * one.down).div_ceil(most.1);
        let growth = match (most.0 / one.across, most.1 / one.down) {
            (1, 1) => Growth::Same,
            (2, 1) if own_width > 2 => Growth::SmoothAcross,
            (2, 2) if own_width > 2 => Growth::Smooth,
            (1, 2) => Growth::SmoothDown,
            (across, down) => Growth::Repeat { across, down },
        };
        let out = vec![0; (own_width * most.0 / one.across).max(width)];
        Ok(Self {
            samples: &one.samples,
            stride: one.stride * 8,
            width: own_width,
            height: own_height,
            growth,
            sums: vec![0; own_width],
            out,
        })
    }

    /// The row that was grown last; it may go on beyond the picture's width.
    pub fn row(&self) -> &[u8] {
        &self.out
    }

    /// Make row `y` of the picture.
    pub fn grow(&mut self, y: usize) {
        match self.growth {
            Growth::Same => self.out[..self.width].copy_from_slice(line(self.samples, self.stride, y, self.width)),
            Growth::Repeat { across, down } => {
                let source = line(self.samples, self.stride, y / down, self.width);
                for (target, value) in self.out.chunks_mut(across).zip(source) {
                    target.fill(*value);
                }
            }
            Growth::SmoothAcross => {
                let source = line(self.samples, self.stride, y, self.width);
                widen(source, &mut self.out);
            }
            Growth::SmoothDown => {
                self.blend_rows(y);
                let bias = if y.is_multiple_of(2) { 1 } else { 2 };
                for (target, sum) in self.out.iter_mut().zip(&self.sums) {
                    *target = ((sum + bias) >> 2) as u8;
                }
            }
            Growth::Smooth => {
                self.blend_rows(y);
                widen_sums(&self.sums, &mut self.out);
            }
        }
    }

    /// Three parts of the nearer row and one of the next; at an edge there is no other row.
    fn blend_rows(&mut self, y: usize) {
        let near = y / 2;
        let other = if y.is_multiple_of(2) { near.saturating_sub(1) } else { (near + 1).min(self.height - 1) };
        let near = line(self.samples, self.stride, near, self.width);
        let other = line(self.samples, self.stride, other, self.width);
        for ((sum, near), other) in self.sums.iter_mut().zip(near).zip(other) {
            *sum = 3 * u16::from(*near) + u16::from(*other);
        }
    }
}

fn line(samples: &[u8], stride: usize, y: usize, width: usize) -> &[u8] {
    &samples[y * stride..][..width]
}

/// A row to twice its width, of at least three samples; the rounding alternates.
fn widen(source: &[u8], out: &mut [u8]) {
    let last = source.len() - 1;
    let out = out.as_chunks_mut::<2>().0;
    for (pair, three) in out[1..].iter_mut().zip(source.windows(3)) {
        let [left, here, right] = [0, 1, 2].map(|at| u16::from(three[at]));
        *pair = [((3 * here + left + 1) >> 2) as u8, ((3 * here + right + 2) >> 2) as u8];
    }
    let blend = |near: u8, other: u8, bias| ((3 * u16::from(near) + u16::from(other) + bias) >> 2) as u8;
    out[0] = [source[0], blend(source[0], source[1], 2)];
    out[last] = [blend(source[last], source[last - 1], 1), source[last]];
}

/// The same of sums of two rows.
fn widen_sums(sums: &[u16], out: &mut [u8]) {
    let last = sums.len() - 1;
    let out = out.as_chunks_mut::<2>().0;
    for (pair, three) in out[1..].iter_mut().zip(sums.windows(3)) {
        let [left, here, right] = [three[0], three[1], three[2]];
        *pair = [((3 * here + left + 8) >> 4) as u8, ((3 * here + right + 7) >> 4) as u8];
    }
    out[0] = [((4 * sums[0] + 8) >> 4) as u8, ((3 * sums[0] + sums[1] + 7) >> 4) as u8];
    out[last] = [((3 * sums[last] + sums[last - 1] + 8) >> 4) as u8, ((4 * sums[last] + 7) >> 4) as u8];
}

/// Grey three times.
pub fn fill_grey(grey: &[u8], row: &mut [u8]) {
    for (pixel, value) in row.as_chunks_mut::<3>().0.iter_mut().zip(grey) {
        *pixel = [*value; 3];
    }
}

/// Luma and chroma to red, green and blue.
pub fn ycc_row(luma: &[u8], blue: &[u8], red: &[u8], row: &mut [u8]) {
    let samples = luma.iter().zip(blue).zip(red);
    for (pixel, ((luma, blue), red)) in row.as_chunks_mut::<3>().0.iter_mut().zip(samples) {
        *pixel = from_ycc(*luma, *blue, *red);
    }
}

/// By jdcolor.c's fixed-point numbers of 16 bits.
#[inline(always)]
fn from_ycc(luma: u8, blue: u8, red: u8) -> [u8; 3] {
    let (luma, blue, red) = (i32::from(luma), i32::from(blue) - 128, i32::from(red) - 128);
    [
        luma + ((91881 * red + 32768) >> 16),
        luma + ((-22554 * blue - 46802 * red + 32768) >> 16),
        luma + ((116_130 * blue + 32768) >> 16),
    ]
    .map(|value| value.clamp(0, 255) as u8)
}

/// Four inverted samples: first to ink, then to light by the formula of spec/preprocess.md.
pub fn cmyk_row(planes: [&[u8]; 4], is_ycck: bool, row: &mut [u8]) {
    for (x, pixel) in row.as_chunks_mut::<3>().0.iter_mut().enumerate() {
        let [a, b, c, k] = planes.map(|plane| plane[x]);
        let ink = if is_ycck { from_ycc(a, b, c).map(|value| 255 - value) } else { [a, b, c] };
        *pixel = ink.map(|value| {
            let product = (255 - i32::from(value)) * i32::from(k) + 128;
            (i32::from(k) - (((product >> 8) + product) >> 8)).clamp(0, 255) as u8
        });
    }
}
