//! What an image file says of itself before it is decoded: its format, size, orientation and parts.

use super::{damaged, truncated, unsupported};
use crate::errors::{Error, Refusal, Result};

pub(super) const SOI: u8 = 0xd8;
pub(super) const EOI: u8 = 0xd9;
pub(super) const SOS: u8 = 0xda;
pub(super) const COM: u8 = 0xfe;
pub(super) const APP0: u8 = 0xe0;
pub(super) const APP14: u8 = 0xee;
pub(super) const APP15: u8 = 0xef;
const APP1: u8 = 0xe1;
const EXIF: &[u8] = b"Exif\0\0";
const ORIENTATION_TAG: u16 = 0x0112;

/// A format that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Jpeg,
    Png,
    Webp,
}

impl Format {
    /// The format by the first bytes.
    pub fn of(data: &[u8]) -> Result<Self> {
        let left_out = |name| Err(unsupported(format!("a photo of format {name}")).fix("save it as JPEG or PNG"));
        if data.is_empty() {
            return Err(Error::empty_photo());
        }
        if data.starts_with(b"\xff\xd8\xff") {
            return Ok(Self::Jpeg);
        }
        if data.starts_with(b"\x89PNG\r\n\x1a\n") {
            return Ok(Self::Png);
        }
        if data.starts_with(b"RIFF") && data.get(8..12) == Some(b"WEBP") {
            return Ok(Self::Webp);
        }
        if data.starts_with(b"GIF87a") || data.starts_with(b"GIF89a") {
            return left_out("gif");
        }
        if data.starts_with(b"II*\0") || data.starts_with(b"MM\0*") {
            return left_out("tiff");
        }
        if data.starts_with(b"BM") {
            return left_out("bmp");
        }
        let found = format!("it begins \"{}\"", data[..data.len().min(8)].escape_ascii());
        Err(Error::photo(Refusal::Unknown, found).expected("JPEG, PNG or WebP"))
    }
}

/// A segment or a chunk: its payload is `data[start..end]`.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Four letters of a chunk; of a segment the last is its marker.
    pub name: [u8; 4],
    pub start: usize,
    pub end: usize,
}

impl Part {
    pub fn marker(&self) -> u8 {
        self.name[3]
    }

    pub fn of<'a>(&self, data: &'a [u8]) -> &'a [u8] {
        &data[self.start..self.end]
    }
}

/// A JPEG's frame header.
#[derive(Debug)]
pub struct Frame {
    pub marker: u8,
    pub bits: u8,
    pub width: usize,
    pub height: usize,
    pub components: Vec<FrameComponent>,
}

#[derive(Clone, Copy, Debug)]
pub struct FrameComponent {
    pub id: u8,
    pub across: usize,
    pub down: usize,
    pub table: u8,
}

/// Width and height as the header gives them, before the orientation is applied.
pub fn size(data: &[u8], format: Format) -> Result<(usize, usize)> {
    let (width, height) = match format {
        Format::Jpeg => {
            let frame = jpeg_frame(data)?;
            (frame.width, frame.height)
        }
        Format::Png => png_size(data)?,
        Format::Webp => webp_size(data)?,
    };
    if width < 1 || height < 1 {
        return Err(damaged(format!("a size of {width} x {height} pixels")));
    }
    Ok((width, height))
}

/// The Exif orientation, 1 to 8; 1 where there is none, or it or the file is malformed.
#[must_use]
pub fn orientation(data: &[u8]) -> u8 {
    exif_block(data).and_then(|block| exif_orientation(&block)).unwrap_or(1)
}

/// Whether a marker stands alone, without a length: TEM, RST0 … RST7.
pub(super) fn is_lonely(marker: u8) -> bool {
    marker == 0x01 || (0xd0..0xd8).contains(&marker)
}

/// The segments of a JPEG up to and with its first SOS, or to EOI; bytes between segments are passed over.
pub fn jpeg_segments(data: &[u8]) -> Result<Vec<Part>> {
    let mut found = Vec::new();
    let mut place = 2;
    loop {
        place += find(data, place, 0xff).ok_or_else(|| truncated("the file ends before its picture"))?;
        while data.get(place) == Some(&0xff) {
            place += 1;
        }
        let marker = *data.get(place).ok_or_else(|| truncated("the file ends before its picture"))?;
        place += 1;
        if is_lonely(marker) || marker == 0 || marker == SOI {
            continue;
        }
        if marker == EOI {
            return Ok(found);
        }
        let length = u16_be(data, place).ok_or_else(|| truncated("the file ends within a segment"))?;
        let end = place + usize::from(length);
        if length < 2 {
            return Err(damaged(format!("a JPEG segment {marker:02X} of impossible length")));
        }
        if end > data.len() {
            return Err(truncated("the file ends within a segment"));
        }
        found.push(Part { name: [0, 0, 0, marker], start: place + 2, end });
        if marker == SOS {
            return Ok(found);
        }
        place = end;
    }
}

/// Where from `place` on a byte stands, counted from there.
pub(super) fn find(data: &[u8], place: usize, byte: u8) -> Option<usize> {
    data.get(place..)?.iter().position(|one| *one == byte)
}

/// The first frame header of a JPEG.
pub fn jpeg_frame(data: &[u8]) -> Result<Frame> {
    let is_frame = |part: &Part| matches!(part.marker(), 0xc0..=0xcf) && ![0xc4, 0xc8, 0xcc].contains(&part.marker());
    let part = jpeg_segments(data)?.into_iter().find(is_frame);
    let part = part.ok_or_else(|| damaged("a JPEG without a frame header"))?;
    frame_header(part.marker(), part.of(data))
}

/// A frame header's payload.
pub(super) fn frame_header(marker: u8, payload: &[u8]) -> Result<Frame> {
    let count = payload.get(5).copied().map(usize::from);
    let rows = count.and_then(|count| payload.get(6..6 + 3 * count));
    let rows = rows.ok_or_else(|| damaged("a JPEG frame header that is too short"))?;
    let components = rows.as_chunks::<3>().0.iter().map(|[id, factors, table]| FrameComponent {
        id: *id,
        across: usize::from(factors >> 4),
        down: usize::from(factors & 15),
        table: *table,
    });
    Ok(Frame {
        marker,
        bits: payload[0],
        height: usize::from(u16::from_be_bytes([payload[1], payload[2]])),
        width: usize::from(u16::from_be_bytes([payload[3], payload[4]])),
        components: components.collect(),
    })
}

/// The chunks of a PNG up to and with IEND; the CRC of each critical chunk is checked.
pub fn png_chunks(data: &[u8]) -> Result<Vec<Part>> {
    let mut found = Vec::new();
    let mut place = 8;
    loop {
        let head = data.get(place..place + 12).ok_or_else(|| truncated("the file ends before its IEND chunk"))?;
        let name = [head[4], head[5], head[6], head[7]];
        let (start, length) = (place + 8, u32_be(data, place).unwrap_or(0) as usize);
        let end = start + length;
        let sum = u32_be(data, end)
            .ok_or_else(|| truncated(format!("the file ends within its {} chunk", name.escape_ascii())))?;
        if name[0] & 0x20 == 0 && crc32fast::hash(&data[place + 4..end]) != sum {
            return Err(damaged(format!("a wrong checksum in the {} chunk", name.escape_ascii())));
        }
        found.push(Part { name, start, end });
        if &name == b"IEND" {
            return Ok(found);
        }
        place = end + 4;
    }
}

/// The chunks of a WebP file, within the length that its RIFF header gives.
pub fn webp_chunks(data: &[u8]) -> Result<Vec<Part>> {
    let length = u32_le(data, 4).ok_or_else(|| truncated("the file ends within its header"))?;
    let limit = 8 + length as usize;
    if limit > data.len() {
        return Err(truncated(format!("{} bytes", data.len())).expected(format!("{limit} bytes")));
    }
    riff_chunks(data, 12, limit)
}

/// The RIFF chunks in `data[place..limit]`.
pub fn riff_chunks(data: &[u8], mut place: usize, limit: usize) -> Result<Vec<Part>> {
    let mut found = Vec::new();
    while place + 8 <= limit {
        let name = [data[place], data[place + 1], data[place + 2], data[place + 3]];
        let length = u32_le(data, place + 4).unwrap_or(0) as usize;
        let (start, end) = (place + 8, place + 8 + length);
        if end > limit {
            return Err(truncated(format!("the file ends within its {} chunk", name.escape_ascii())));
        }
        found.push(Part { name, start, end });
        place = end + (length & 1);
    }
    Ok(found)
}

/// The TIFF block that an Exif orientation would stand in.
fn exif_block(data: &[u8]) -> Option<Vec<u8>> {
    match Format::of(data).ok()? {
        Format::Jpeg => {
            let segments = jpeg_segments(data).ok()?;
            let is_exif = |part: &&Part| part.marker() == APP1 && part.of(data).starts_with(EXIF);
            segments.iter().find(is_exif).map(|part| part.of(data)[EXIF.len()..].to_vec())
        }
        Format::Png => {
            let chunks = png_chunks(data).ok()?;
            chunks.iter().find(|chunk| &chunk.name == b"eXIf").map(|chunk| chunk.of(data).to_vec())
        }
        Format::Webp => {
            if data.get(12..16) != Some(b"VP8X") {
                return None;
            }
            let chunks = webp_chunks(data).ok()?;
            let block = chunks.iter().find(|chunk| &chunk.name == b"EXIF")?.of(data);
            Some(block.strip_prefix(EXIF).unwrap_or(block).to_vec())
        }
    }
}

/// The orientation in the first directory of a TIFF block: its first entry 0x0112, if one SHORT from 1 to 8.
fn exif_orientation(block: &[u8]) -> Option<u8> {
    let is_little = match block.get(..4)? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let short = |place| {
        let pair = block.get(place..place + 2)?;
        let pair = [pair[0], pair[1]];
        Some(if is_little { u16::from_le_bytes(pair) } else { u16::from_be_bytes(pair) })
    };
    let long = |place| if is_little { u32_le(block, place) } else { u32_be(block, place) };
    let start = long(4)? as usize;
    let count = usize::from(short(start)?);
    for entry in (start + 2..).step_by(12).take(count) {
        block.get(entry..entry + 12)?;
        if short(entry)? == ORIENTATION_TAG {
            let (kind, items, value) = (short(entry + 2)?, long(entry + 4)?, short(entry + 8)?);
            return (kind == 3 && items == 1 && (1..=8).contains(&value)).then_some(value as u8);
        }
    }
    None
}

fn png_size(data: &[u8]) -> Result<(usize, usize)> {
    let cut = || truncated("the file ends within its header");
    let (width, height) = (u32_be(data, 16).ok_or_else(cut)?, u32_be(data, 20).ok_or_else(cut)?);
    if &data[12..16] != b"IHDR" {
        return Err(damaged("a PNG that does not begin with IHDR"));
    }
    Ok((width as usize, height as usize))
}

fn webp_size(data: &[u8]) -> Result<(usize, usize)> {
    let cut = || truncated("the file ends within its header");
    let name = data.get(12..16).ok_or_else(cut)?;
    match name {
        b"VP8X" => {
            let sides = data.get(24..30).ok_or_else(cut)?;
            let side =
                |at: usize| usize::from(sides[at]) | usize::from(sides[at + 1]) << 8 | usize::from(sides[at + 2]) << 16;
            Ok((1 + side(0), 1 + side(3)))
        }
        b"VP8L" => {
            let bits = u32_le(data, 21).ok_or_else(cut)? as usize;
            Ok((1 + (bits & 0x3fff), 1 + (bits >> 14 & 0x3fff)))
        }
        b"VP8 " => {
            let bits = u32_le(data, 26).ok_or_else(cut)? as usize;
            Ok((bits & 0x3fff, bits >> 16 & 0x3fff))
        }
        _ => Err(damaged(format!("a WebP that begins with a {} chunk", name.escape_ascii()))),
    }
}

pub(super) fn u16_be(data: &[u8], place: usize) -> Option<u16> {
    data.get(place..place + 2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
}

pub(super) fn u32_be(data: &[u8], place: usize) -> Option<u32> {
    data.get(place..place + 4).map(|four| u32::from_be_bytes([four[0], four[1], four[2], four[3]]))
}

pub(super) fn u32_le(data: &[u8], place: usize) -> Option<u32> {
    data.get(place..place + 4).map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]]))
}
