//! The tables and scans of a JPEG, and its entropy-coded data as planes of samples (ITU-T T.81, annexes B to G).

use super::idct::inverse;
use super::jpegbits::{Bits, Huffman};
use super::parts::{APP0, APP14, EOI, Frame, SOI, SOS, find, frame_header, is_lonely, u16_be};
use super::{damaged, unsupported};
use crate::errors::Result;

const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
    28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
    47, 55, 62, 63,
];
const PROGRESSIVE: u8 = 0xc2;
/// The coefficients of low frequency that libjpeg-turbo estimates where a progressive JPEG never sends them.
const SMOOTHED: std::ops::RangeInclusive<usize> = 1..=9;

/// One component: its sampling, its size in whole blocks, and its samples.
pub struct Component {
    id: u8,
    pub across: usize,
    pub down: usize,
    table: usize,
    /// Blocks a row and rows of blocks that hold the picture; memory has whole MCUs of them.
    columns: usize,
    rows: usize,
    /// Blocks a row in memory.
    pub stride: usize,
    /// A byte each, `stride` × 8 a row.
    pub samples: Vec<u8>,
    /// 64 a block, in natural order; only of a progressive JPEG.
    coefficients: Vec<i16>,
    /// As they stood when the component's first scan began, in natural order.
    quantisation: Option<[u16; 64]>,
    /// Of each coefficient in zigzag order, how many low bits are still unknown; all before it was sent.
    unknown_bits: [u8; 64],
}

/// A JPEG's components as planes of samples, and what tells which colours they are.
pub struct Coded {
    pub components: Vec<Component>,
    /// The largest sampling factors, across and down.
    pub most: (usize, usize),
    has_jfif: bool,
    /// Adobe's colour transform.
    pub adobe: Option<u8>,
}

impl Coded {
    /// Whether three components are luma and chroma (spec/preprocess.md, section 3).
    pub fn is_ycc(&self) -> bool {
        match self.adobe {
            _ if self.has_jfif => true,
            Some(transform) => transform != 0,
            None => !self.components.iter().map(|one| one.id).eq(*b"RGB"),
        }
    }
}

/// A scan's header: its components with the numbers of their tables, the band, and its bits.
struct Scan {
    parts: Vec<Part>,
    first: usize,
    last: usize,
    high: u32,
    low: u32,
}

#[derive(Clone, Copy)]
struct Part {
    component: usize,
    dc: usize,
    ac: usize,
}

/// What a scan knows from one block to the next.
struct State<'a> {
    bits: Bits<'a>,
    predictions: [i32; 4],
    blocks_to_skip: u32,
}

struct Reader<'a> {
    data: &'a [u8],
    place: usize,
    is_progressive: bool,
    size: (usize, usize),
    quantisation: [Option<[u16; 64]>; 4],
    dc: [Option<Huffman>; 4],
    ac: [Option<Huffman>; 4],
    interval: usize,
    has_frame: bool,
    coded: Coded,
}

/// The planes of a JPEG without metadata (`plain_jpeg`).
///
/// # Errors
/// `PhotoError` where its data is spoilt, or it is progressive and incomplete.
pub fn read(data: &[u8], frame: &Frame) -> Result<Coded> {
    let mut reader = Reader::new(data, frame)?;
    reader.read_all()?;
    reader.finish()?;
    Ok(reader.coded)
}

impl<'a> Reader<'a> {
    fn new(data: &'a [u8], frame: &Frame) -> Result<Self> {
        let factors = frame.components.iter().flat_map(|one| [one.across, one.down]);
        if factors.clone().any(|factor| !(1..=4).contains(&factor)) {
            return Err(damaged("an impossible sampling"));
        }
        let most = (
            frame.components.iter().map(|one| one.across).max().unwrap_or(1),
            frame.components.iter().map(|one| one.down).max().unwrap_or(1),
        );
        let is_progressive = frame.marker == PROGRESSIVE;
        let (mcus_across, mcus_down) = (frame.width.div_ceil(8 * most.0), frame.height.div_ceil(8 * most.1));
        let components = frame.components.iter().map(|one| {
            let (stride, height) = (mcus_across * one.across, mcus_down * one.down);
            Component {
                id: one.id,
                across: one.across,
                down: one.down,
                table: usize::from(one.table),
                columns: (frame.width * one.across).div_ceil(most.0).div_ceil(8),
                rows: (frame.height * one.down).div_ceil(most.1).div_ceil(8),
                stride,
                samples: vec![0; 64 * stride * height],
                coefficients: if is_progressive { vec![0; 64 * stride * height] } else { Vec::new() },
                quantisation: None,
                unknown_bits: [u8::MAX; 64],
            }
        });
        let coded = Coded { components: components.collect(), most, has_jfif: false, adobe: None };
        Ok(Self {
            data,
            place: 2,
            is_progressive,
            size: (frame.width, frame.height),
            quantisation: [None; 4],
            dc: [const { None }; 4],
            ac: [const { None }; 4],
            interval: 0,
            has_frame: false,
            coded,
        })
    }

    fn read_all(&mut self) -> Result<()> {
        loop {
            let marker = self.marker()?;
            if marker == EOI {
                return Ok(());
            }
            if marker == SOI || marker == 0 || is_lonely(marker) {
                continue;
            }
            let end = self.place + usize::from(u16_be(self.data, self.place).unwrap_or(0));
            let payload = self.data.get(self.place + 2..end);
            let payload = payload.ok_or_else(|| damaged("a segment that is too long or too short"))?;
            self.place = end;
            match marker {
                0xdb => self.read_quantisation(payload)?,
                0xc4 => self.read_huffman(payload)?,
                0xdd => self.interval = usize::from(u16_be(payload, 0).unwrap_or(0)),
                APP0 => self.coded.has_jfif |= payload.starts_with(b"JFIF\0"),
                APP14 if payload.starts_with(b"Adobe") => self.coded.adobe = payload.get(11).copied(),
                0xc0..=0xc2 => self.check_frame(marker, payload)?,
                SOS => {
                    let scan = self.scan_header(payload)?;
                    self.read_scan(&scan)?;
                }
                0xc3 | 0xc5..=0xcf => return Err(damaged("a second frame")),
                _ => {}
            }
        }
    }

    fn marker(&mut self) -> Result<u8> {
        let cut = || damaged("a JPEG that ends within its picture");
        self.place += find(self.data, self.place, 0xff).ok_or_else(cut)?;
        while self.data.get(self.place) == Some(&0xff) {
            self.place += 1;
        }
        let marker = *self.data.get(self.place).ok_or_else(cut)?;
        self.place += 1;
        Ok(marker)
    }

    /// There is one frame only, the one whose header was read before.
    fn check_frame(&mut self, marker: u8, payload: &[u8]) -> Result<()> {
        if std::mem::replace(&mut self.has_frame, true) {
            return Err(damaged("a second frame"));
        }
        let frame = frame_header(marker, payload)?;
        if frame.components.len() != self.coded.components.len() {
            return Err(damaged("a second frame"));
        }
        Ok(())
    }

    fn read_quantisation(&mut self, mut payload: &[u8]) -> Result<()> {
        let short = || damaged("a quantisation table that is too short");
        while let Some((about, rest)) = payload.split_first() {
            let bytes = if about >> 4 == 0 { 1 } else { 2 };
            let values = rest.get(..64 * bytes).ok_or_else(short)?;
            let mut table = [0; 64];
            for (natural, value) in ZIGZAG.iter().zip(values.chunks_exact(bytes)) {
                table[usize::from(*natural)] = value.iter().fold(0, |sum, byte| sum << 8 | u16::from(*byte));
            }
            let place = self.quantisation.get_mut(usize::from(about & 15));
            *place.ok_or_else(|| damaged("a quantisation table of an impossible number"))? = Some(table);
            payload = &rest[64 * bytes..];
        }
        Ok(())
    }

    fn read_huffman(&mut self, mut payload: &[u8]) -> Result<()> {
        let short = || damaged("a Huffman table that is too short");
        while let Some((about, rest)) = payload.split_first() {
            let counts = rest.get(..16).ok_or_else(short)?;
            let total: usize = counts.iter().map(|count| usize::from(*count)).sum();
            let symbols = rest.get(16..16 + total).ok_or_else(short)?;
            let tables = if about >> 4 == 0 { &mut self.dc } else { &mut self.ac };
            if about >> 4 == 0 && symbols.iter().any(|symbol| *symbol > 15) {
                return Err(damaged("a Huffman table of impossible sizes"));
            }
            let place = tables.get_mut(usize::from(about & 15));
            *place.ok_or_else(|| damaged("a Huffman table of an impossible number"))? =
                Some(Huffman::new(counts, symbols)?);
            payload = &rest[16 + total..];
        }
        Ok(())
    }

    fn scan_header(&mut self, payload: &[u8]) -> Result<Scan> {
        let wrong = || damaged("a scan header of the wrong length");
        let count = usize::from(*payload.first().ok_or_else(wrong)?);
        let rows = payload.get(1..1 + 2 * count).ok_or_else(wrong)?;
        let band = payload.get(1 + 2 * count..4 + 2 * count).ok_or_else(wrong)?;
        if !(1..=4).contains(&count) || !self.has_frame {
            return Err(wrong());
        }
        let mut parts: Vec<Part> = Vec::with_capacity(count);
        for [id, tables] in rows.as_chunks::<2>().0 {
            let component = self.coded.components.iter().position(|one| one.id == *id);
            let component = component.ok_or_else(|| damaged("a scan of an unknown component"))?;
            if parts.iter().any(|one| one.component == component) {
                return Err(damaged("a scan with a component twice"));
            }
            parts.push(Part { component, dc: usize::from(tables >> 4), ac: usize::from(tables & 15) });
        }
        let (first, last) = (usize::from(band[0]), usize::from(band[1]));
        let (high, low) = (u32::from(band[2] >> 4), u32::from(band[2] & 15));
        if !self.is_progressive {
            return Ok(Scan { parts, first: 0, last: 63, high: 0, low: 0 });
        }
        let is_dc = first == 0;
        if last > 63 || first > last || (is_dc && last != 0) || (!is_dc && count != 1) || low > 13 {
            return Err(damaged("an impossible progressive scan"));
        }
        for part in &parts {
            self.coded.components[part.component].unknown_bits[first..=last].fill(low as u8);
        }
        Ok(Scan { parts, first, last, high, low })
    }

    fn read_scan(&mut self, scan: &Scan) -> Result<()> {
        for part in &scan.parts {
            let component = &mut self.coded.components[part.component];
            if component.quantisation.is_none() {
                let table = self.quantisation.get(component.table).copied().flatten();
                component.quantisation = Some(table.ok_or_else(|| damaged("a quantisation table that is missing"))?);
            }
        }
        let bits = Bits::new(self.data, self.place);
        let mut state = State { bits, predictions: [0; 4], blocks_to_skip: 0 };
        let most = self.coded.most;
        let (mcus_across, mcus_down) = match scan.parts[..] {
            [part] => {
                let one = &self.coded.components[part.component];
                (one.columns, one.rows)
            }
            _ => (self.size.0.div_ceil(8 * most.0), self.size.1.div_ceil(8 * most.1)),
        };
        let (mut until_restart, mut restarts) = (self.interval, 0);
        for row in 0..mcus_down {
            for column in 0..mcus_across {
                if self.interval > 0 {
                    if until_restart == 0 {
                        state.bits.restart(restarts)?;
                        (state.predictions, state.blocks_to_skip) = ([0; 4], 0);
                        (until_restart, restarts) = (self.interval, restarts + 1);
                    }
                    until_restart -= 1;
                }
                self.read_mcu(scan, &mut state, column, row)?;
            }
        }
        self.place = state.bits.place();
        Ok(())
    }

    #[inline]
    fn read_mcu(&mut self, scan: &Scan, state: &mut State, column: usize, row: usize) -> Result<()> {
        let is_alone = scan.parts.len() == 1;
        for (index, part) in scan.parts.iter().enumerate() {
            let one = &mut self.coded.components[part.component];
            let (across, down) = if is_alone { (1, 1) } else { (one.across, one.down) };
            for y in row * down..(row + 1) * down {
                for x in column * across..(column + 1) * across {
                    let (dc, ac) = (self.dc.get(part.dc), self.ac.get(part.ac));
                    let (dc, ac) = (dc.and_then(Option::as_ref), ac.and_then(Option::as_ref));
                    if self.is_progressive {
                        let block = &mut one.coefficients.as_chunks_mut::<64>().0[y * one.stride + x];
                        refine_block(scan, state, index, dc, ac, block)?;
                    } else {
                        let (Some(dc), Some(ac), Some(scale)) = (dc, ac, &one.quantisation) else {
                            return Err(damaged("a Huffman table that is missing"));
                        };
                        let (block, is_flat) = baseline_block(state, index, dc, ac, scale)?;
                        let stride = one.stride * 8;
                        inverse(&block, is_flat, &mut one.samples[8 * (y * stride + x)..], stride)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Transform what a progressive JPEG's scans have gathered; and nothing may be missing.
    fn finish(&mut self) -> Result<()> {
        for one in &mut self.coded.components {
            let Some(scale) = &one.quantisation else {
                return Err(damaged("a component without a scan"));
            };
            if !self.is_progressive {
                continue;
            }
            if one.unknown_bits[0] == u8::MAX {
                return Err(damaged("a component without a scan"));
            }
            if one.unknown_bits[SMOOTHED].iter().any(|bits| *bits != 0) {
                return Err(unsupported("a progressive JPEG that does not send all its coefficients"));
            }
            let stride = one.stride * 8;
            for (place, coefficients) in one.coefficients.as_chunks::<64>().0.iter().enumerate() {
                let (x, y) = (place % one.stride, place / one.stride);
                let block = std::array::from_fn(|at| i32::from(coefficients[at]) * i32::from(scale[at]));
                let is_flat = coefficients[1..].iter().all(|value| *value == 0);
                inverse(&block, is_flat, &mut one.samples[8 * (y * stride + x)..], stride)?;
            }
        }
        Ok(())
    }
}

/// A block of a baseline scan, multiplied by its quantisation, in natural order; and whether it has nothing but a mean.
#[inline(always)]
fn baseline_block(
    state: &mut State,
    index: usize,
    dc: &Huffman,
    ac: &Huffman,
    scale: &[u16; 64],
) -> Result<([i32; 64], bool)> {
    let mut block = [0; 64];
    let bits = &mut state.bits;
    let size = u32::from(bits.symbol(dc)?);
    let prediction = state.predictions[index].wrapping_add(bits.signed(size)?);
    state.predictions[index] = prediction;
    block[0] = prediction.wrapping_mul(i32::from(scale[0]));
    let (mut k, mut is_flat) = (1, true);
    while k < 64 {
        let symbol = bits.symbol(ac)?;
        let size = u32::from(symbol & 15);
        if size == 0 {
            if symbol != 0xf0 {
                break;
            }
            k += 16;
            continue;
        }
        k += usize::from(symbol >> 4);
        let Some(natural) = ZIGZAG.get(k) else {
            return Err(damaged("a run beyond its block"));
        };
        let natural = usize::from(*natural);
        block[natural] = bits.signed(size)?.wrapping_mul(i32::from(scale[natural]));
        is_flat = false;
        k += 1;
    }
    Ok((block, is_flat))
}

/// One scan's part of a block of a progressive JPEG.
fn refine_block(
    scan: &Scan,
    state: &mut State,
    index: usize,
    dc: Option<&Huffman>,
    ac: Option<&Huffman>,
    block: &mut [i16; 64],
) -> Result<()> {
    let missing = || damaged("a Huffman table that is missing");
    if scan.first > 0 {
        let table = ac.ok_or_else(missing)?;
        return if scan.high == 0 {
            first_band(scan, state, table, block)
        } else {
            refine_band(scan, state, table, block)
        };
    }
    if scan.high != 0 {
        block[0] |= i16::from(state.bits.bit()?) << scan.low;
        return Ok(());
    }
    let size = u32::from(state.bits.symbol(dc.ok_or_else(missing)?)?);
    let prediction = state.predictions[index].wrapping_add(state.bits.signed(size)?);
    state.predictions[index] = prediction;
    block[0] = (prediction << scan.low) as i16;
    Ok(())
}

/// The first scan of a band of AC coefficients.
fn first_band(scan: &Scan, state: &mut State, table: &Huffman, block: &mut [i16; 64]) -> Result<()> {
    if state.blocks_to_skip > 0 {
        state.blocks_to_skip -= 1;
        return Ok(());
    }
    let mut k = scan.first;
    while k <= scan.last {
        let symbol = state.bits.symbol(table)?;
        let (run, size) = (u32::from(symbol >> 4), u32::from(symbol & 15));
        if size == 0 {
            if run < 15 {
                state.blocks_to_skip = (1 << run) + state.bits.number(run)? - 1;
                return Ok(());
            }
            k += 16;
            continue;
        }
        k += run as usize;
        let Some(natural) = ZIGZAG.get(k) else {
            return Err(damaged("a run beyond its block"));
        };
        block[usize::from(*natural)] = (state.bits.signed(size)? << scan.low) as i16;
        k += 1;
    }
    Ok(())
}

/// A scan that adds one bit to a band of AC coefficients.
fn refine_band(scan: &Scan, state: &mut State, table: &Huffman, block: &mut [i16; 64]) -> Result<()> {
    let bit = 1_i16 << scan.low;
    let mut k = scan.first;
    while state.blocks_to_skip == 0 && k <= scan.last {
        let symbol = state.bits.symbol(table)?;
        let mut run = u32::from(symbol >> 4);
        let value = match symbol & 15 {
            0 if run < 15 => {
                state.blocks_to_skip = (1 << run) + state.bits.number(run)?;
                break;
            }
            0 => 0,
            1 if state.bits.bit()? => bit,
            1 => -bit,
            _ => return Err(damaged("a refinement of more than one bit")),
        };
        while k <= scan.last {
            let place = usize::from(ZIGZAG[k]);
            if block[place] != 0 {
                correct(&mut state.bits, &mut block[place], bit)?;
            } else if run == 0 {
                break;
            } else {
                run -= 1;
            }
            k += 1;
        }
        if value != 0 {
            if k > scan.last {
                return Err(damaged("a run beyond its band"));
            }
            block[usize::from(ZIGZAG[k])] = value;
        }
        k += 1;
    }
    if state.blocks_to_skip > 0 {
        while k <= scan.last {
            let place = usize::from(ZIGZAG[k]);
            if block[place] != 0 {
                correct(&mut state.bits, &mut block[place], bit)?;
            }
            k += 1;
        }
        state.blocks_to_skip -= 1;
    }
    Ok(())
}

/// One more bit of a coefficient that is not 0.
fn correct(bits: &mut Bits, value: &mut i16, bit: i16) -> Result<()> {
    if bits.bit()? && *value & bit == 0 {
        *value = value.wrapping_add(if *value > 0 { bit } else { -bit });
    }
    Ok(())
}
