//! Pillow's 8-bit resampler as integer arithmetic, horizontal pass first (spec/preprocess.md, section 5).

use crate::errors::Result;
use crate::images::{Pixels, check_pixels};
use crate::preprocess::{Interpolation, Preprocess};

const PRECISION: u32 = 22;
const ONE: i32 = 1 << PRECISION;
const HALF: i32 = ONE / 2;

/// What is kept of a resized picture.
#[derive(Clone, Copy)]
struct Frame {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
}

/// `pixels` resized and cropped as `spec` says.
///
/// # Errors
/// `PhotoError` of kind too-large where a long, thin picture would grow beyond the limit.
pub fn resize(pixels: &Pixels, spec: &Preprocess) -> Result<Pixels> {
    let (across, down) = spec.size();
    let size = spec.resized_size(pixels.width(), pixels.height());
    let kept = Frame { left: middle(size.0 - across), top: middle(size.1 - down), width: across, height: down };
    resample(pixels, size, spec.interpolation, kept)
}

/// `pixels` resized to width × height.
///
/// # Errors
/// `PhotoError` of kind too-large.
pub fn resize_exact(pixels: &Pixels, width: usize, height: usize, filter: Interpolation) -> Result<Pixels> {
    resample(pixels, (width, height), filter, Frame { left: 0, top: 0, width, height })
}

/// The part `kept` of `pixels` resized to `size`. Passes do not mix rows (columns): what it does not need is left out.
fn resample(pixels: &Pixels, size: (usize, usize), filter: Interpolation, kept: Frame) -> Result<Pixels> {
    check_pixels(size.0, size.1)?;
    check_pixels(size.0, pixels.height())?;
    let columns = Weights::new(pixels.width(), size.0, filter, kept.left, kept.width);
    let mut rows = Weights::new(pixels.height(), size.1, filter, kept.top, kept.height);
    let top = rows.shift_to_zero();
    let half = along_rows(pixels, top, rows.end(), &columns);
    Ok(along_columns(&half, kept.width, &rows))
}

/// For each target place the first source place, how many there are, and their weights, `width` apart.
struct Weights {
    places: Vec<(usize, usize)>,
    values: Vec<i32>,
    width: usize,
}

impl Weights {
    /// The weights of `count` of the `to` target places, from `start` on, of a row of `from` values.
    fn new(from: usize, to: usize, filter: Interpolation, start: usize, count: usize) -> Self {
        if from == to {
            return Self::copies((start..start + count).collect());
        }
        let scale = from as f64 / to as f64;
        let (reach, weight): (f64, fn(f64) -> f64) = match filter {
            Interpolation::Nearest => return Self::copies(nearest(scale, start, count)),
            Interpolation::Box => (0.5, |x| if x > -0.5 && x <= 0.5 { 1.0 } else { 0.0 }),
            Interpolation::Bilinear => (1.0, |x| (1.0 - x.abs()).max(0.0)),
            Interpolation::Hamming => (1.0, hamming),
            Interpolation::Bicubic => (2.0, bicubic),
            Interpolation::Lanczos => (3.0, lanczos),
        };
        let stretch = scale.max(1.0);
        let support = reach * stretch;
        let inverse = 1.0 / stretch;
        let width = support.ceil() as usize * 2 + 1;
        let mut found = Self { places: Vec::with_capacity(count), values: vec![0; count * width], width };
        let mut parts = vec![0.0; width];
        for (place, values) in found.values.chunks_exact_mut(width).enumerate() {
            let centre = ((start + place) as f64 + 0.5) * scale;
            let first = (centre - support + 0.5) as usize; // a cast makes what is below 0 to 0
            let last = ((centre + support + 0.5) as usize).min(from);
            let parts = &mut parts[..last - first];
            let mut total = 0.0;
            for (j, part) in parts.iter_mut().enumerate() {
                *part = weight(((j + first) as f64 - centre + 0.5) * inverse);
                total += *part;
            }
            for (value, part) in values.iter_mut().zip(parts) {
                let share = if total == 0.0 { *part } else { *part / total };
                *value = (share * f64::from(ONE) + if share < 0.0 { -0.5 } else { 0.5 }) as i32;
            }
            found.places.push((first, last - first));
        }
        found
    }

    /// Each target place takes one source place, as it is.
    fn copies(sources: Vec<usize>) -> Self {
        let values = vec![ONE; sources.len()];
        Self { places: sources.into_iter().map(|first| (first, 1)).collect(), values, width: 1 }
    }

    fn end(&self) -> usize {
        self.places.iter().map(|(first, count)| first + count).max().unwrap_or(0)
    }

    /// Count the source places from the first that is drawn on; which that was.
    fn shift_to_zero(&mut self) -> usize {
        let top = self.places.iter().map(|(first, _)| *first).min().unwrap_or(0);
        for (first, _) in &mut self.places {
            *first -= top;
        }
        top
    }

    fn iter(&self) -> impl Iterator<Item = (usize, &[i32])> {
        let rows = self.values.chunks_exact(self.width);
        self.places.iter().zip(rows).map(|((first, count), values)| (*first, &values[..*count]))
    }
}

/// Rows `top` to `top + count` of `pixels`, each as `columns` has it; three bytes a pixel.
fn along_rows(pixels: &Pixels, top: usize, count: usize, columns: &Weights) -> Vec<u8> {
    let stride = pixels.width() * 3;
    let across = columns.places.len() * 3;
    let source = &pixels.data()[top * stride..(top + count) * stride];
    let mut out = vec![0; across * count];
    for (row, target) in source.chunks_exact(stride).zip(out.chunks_exact_mut(across)) {
        let row = row.as_chunks::<3>().0;
        for ((first, values), pixel) in columns.iter().zip(target.as_chunks_mut::<3>().0) {
            let mut sums = [HALF; 3];
            for (value, source) in values.iter().zip(&row[first..first + values.len()]) {
                for channel in 0..3 {
                    sums[channel] += i32::from(source[channel]) * value;
                }
            }
            *pixel = sums.map(clip);
        }
    }
    out
}

/// The rows of `source`, `across` pixels wide, mixed as `rows` has it.
fn along_columns(source: &[u8], across: usize, rows: &Weights) -> Pixels {
    let stride = across * 3;
    let mut out = vec![0; stride * rows.places.len()];
    let mut sums = vec![0; stride];
    for ((first, values), target) in rows.iter().zip(out.chunks_exact_mut(stride)) {
        sums.fill(HALF);
        for (value, row) in values.iter().zip(source[first * stride..].chunks_exact(stride)) {
            for (sum, source) in sums.iter_mut().zip(row) {
                *sum += i32::from(*source) * value;
            }
        }
        for (byte, sum) in target.iter_mut().zip(&sums) {
            *byte = clip(*sum);
        }
    }
    Pixels::new(across, rows.places.len(), out)
}

fn clip(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

/// The source places of nearest: the position is added up, as Pillow does it.
fn nearest(scale: f64, start: usize, count: usize) -> Vec<usize> {
    let mut at = scale * 0.5;
    let mut sources = Vec::with_capacity(count);
    for place in 0..start + count {
        if place >= start {
            sources.push(at as usize);
        }
        at += scale;
    }
    sources
}

/// Half of `spare`, a half rounded to the even neighbour (section 6).
fn middle(spare: usize) -> usize {
    let half = spare / 2;
    half + if spare % 2 == 1 { half % 2 } else { 0 }
}

fn hamming(x: f64) -> f64 {
    let distance = x.abs();
    if distance == 0.0 {
        return 1.0;
    }
    if distance >= 1.0 {
        return 0.0;
    }
    let turn = distance * std::f64::consts::PI;
    turn.sin() / turn * (f64::from(0.54_f32) + f64::from(0.46_f32) * turn.cos())
}

fn bicubic(x: f64) -> f64 {
    let d = x.abs();
    if d < 1.0 {
        (1.5 * d - 2.5) * d * d + 1.0
    } else if d < 2.0 {
        (((d - 5.0) * d + 8.0) * d - 4.0) * -0.5
    } else {
        0.0
    }
}

fn lanczos(x: f64) -> f64 {
    if (-3.0..3.0).contains(&x) { sinc(x) * sinc(x / 3.0) } else { 0.0 }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let turn = x * std::f64::consts::PI;
    turn.sin() / turn
}
