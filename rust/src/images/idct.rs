//! The accurate integer inverse transform of libjpeg ("islow", jidctint.c).
//!
//! Written over arrays of eight, which compilers turn into vector instructions.
//!
//! libjpeg-turbo's vector code holds what goes into each pass in 16 bits, and its C code wraps samples beyond four
//! times their range, so that damaged data becomes other pixels on other machines. No encoder's data goes so far: it
//! is refused here, and sums may wrap.

use super::damaged;
use crate::errors::Result;

type Eight = [i32; 8];

/// `round(value × 2^13)`.
const fn fixed(value: f64) -> i32 {
    (value * 8192.0 + 0.5) as i32
}

const F0298: i32 = fixed(0.298_631_336);
const F0390: i32 = fixed(0.390_180_644);
const F0541: i32 = fixed(0.541_196_1);
const F0765: i32 = fixed(0.765_366_865);
const F0899: i32 = fixed(0.899_976_223);
const F1175: i32 = fixed(1.175_875_602);
const F1501: i32 = fixed(1.501_321_110);
const F1847: i32 = fixed(1.847_759_065);
const F1961: i32 = fixed(1.961_570_56);
const F2053: i32 = fixed(2.053_119_869);
const F2562: i32 = fixed(2.562_915_447);
const F3072: i32 = fixed(3.072_711_026);

/// The samples of a block from its coefficients, multiplied by their quantisation, in natural order: eight rows
/// of eight, the first at `out[0]`, the next `stride` on. `is_flat`: all but the first coefficient are 0.
///
/// # Errors
/// `PhotoError` where coefficients are larger than those of any picture.
pub fn inverse(block: &[i32; 64], is_flat: bool, out: &mut [u8], stride: usize) -> Result<()> {
    if is_flat {
        // What the two passes come to where there is nothing but the mean.
        let value = block[0].wrapping_mul(4).wrapping_add(16) >> 5;
        check(bits_of(block[0]), bits_of(value))?;
        for row in out.chunks_mut(stride).take(8) {
            row[..8].fill(sample(value));
        }
        return Ok(());
    }
    let mut rows = [[0; 8]; 8];
    for (row, values) in rows.iter_mut().zip(block.as_chunks::<8>().0) {
        *row = *values;
    }
    let columns = transposed(&pass::<11>(&rows));
    let given = bits_of_all(&rows) | bits_of_all(&columns);
    let rows = transposed(&pass::<18>(&columns));
    check(given, bits_of_all(&rows))?;
    for (row, values) in out.chunks_mut(stride).zip(&rows) {
        for (byte, value) in row[..8].iter_mut().zip(values) {
            *byte = sample(*value);
        }
    }
    Ok(())
}

/// The bits that `value` needs beside its sign.
#[inline(always)]
fn bits_of(value: i32) -> i32 {
    value ^ (value >> 31)
}

#[inline(always)]
fn bits_of_all(rows: &[Eight; 8]) -> i32 {
    let mut all = [0; 8];
    for row in rows {
        for (bits, value) in all.iter_mut().zip(row) {
            *bits |= bits_of(*value);
        }
    }
    all.into_iter().fold(0, |one, other| one | other)
}

/// Whether what goes into the passes, and comes out, is of a picture: two of the first may be added within 16 bits.
#[inline(always)]
fn check(given: i32, samples: i32) -> Result<()> {
    const GIVEN_BITS: u32 = 14;
    const SAMPLE_BITS: u32 = 9;
    if given >> GIVEN_BITS != 0 || samples >> SAMPLE_BITS != 0 {
        return Err(damaged("coefficients beyond those of any picture"));
    }
    Ok(())
}

fn sample(value: i32) -> u8 {
    value.wrapping_add(128).clamp(0, 255) as u8
}

fn transposed(rows: &[Eight; 8]) -> [Eight; 8] {
    std::array::from_fn(|column| std::array::from_fn(|row| rows[row][column]))
}

/// One direction of the transform for eight lines at once: `v[k]` has coefficient k of each line. Results are
/// rounded to the right by `SHIFT` bits.
#[inline(always)]
fn pass<const SHIFT: u32>(v: &[Eight; 8]) -> [Eight; 8] {
    let mut out = [[0; 8]; 8];
    for i in 0..8 {
        let [t0, t1, t2, t3] = even(v[0][i], v[2][i], v[4][i], v[6][i]);
        let [s0, s1, s2, s3] = odd(v[7][i], v[5][i], v[3][i], v[1][i]);
        let halves = [(t0, s3), (t1, s2), (t2, s1), (t3, s0)];
        for (k, (t, s)) in halves.into_iter().enumerate() {
            let rounded = t.wrapping_add(1 << (SHIFT - 1));
            out[k][i] = rounded.wrapping_add(s) >> SHIFT;
            out[7 - k][i] = rounded.wrapping_sub(s) >> SHIFT;
        }
    }
    out
}

#[inline(always)]
fn even(v0: i32, v2: i32, v4: i32, v6: i32) -> [i32; 4] {
    let turn = v2.wrapping_add(v6).wrapping_mul(F0541);
    let t2 = turn.wrapping_sub(v6.wrapping_mul(F1847));
    let t3 = turn.wrapping_add(v2.wrapping_mul(F0765));
    let t0 = v0.wrapping_add(v4).wrapping_mul(8192);
    let t1 = v0.wrapping_sub(v4).wrapping_mul(8192);
    [t0.wrapping_add(t3), t1.wrapping_add(t2), t1.wrapping_sub(t2), t0.wrapping_sub(t3)]
}

/// The odd half, its inputs in the order 7, 5, 3, 1; what comes out is for the outputs 3, 2, 1, 0.
#[inline(always)]
fn odd(s0: i32, s1: i32, s2: i32, s3: i32) -> [i32; 4] {
    let z5 = s0.wrapping_add(s1).wrapping_add(s2).wrapping_add(s3).wrapping_mul(F1175);
    let z1 = s0.wrapping_add(s3).wrapping_mul(-F0899);
    let z2 = s1.wrapping_add(s2).wrapping_mul(-F2562);
    let z3 = s0.wrapping_add(s2).wrapping_mul(-F1961).wrapping_add(z5);
    let z4 = s1.wrapping_add(s3).wrapping_mul(-F0390).wrapping_add(z5);
    [
        s0.wrapping_mul(F0298).wrapping_add(z1).wrapping_add(z3),
        s1.wrapping_mul(F2053).wrapping_add(z2).wrapping_add(z4),
        s2.wrapping_mul(F3072).wrapping_add(z2).wrapping_add(z3),
        s3.wrapping_mul(F1501).wrapping_add(z1).wrapping_add(z4),
    ]
}
