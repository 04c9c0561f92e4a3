//! A JPEG's entropy-coded data bit by bit, and the Huffman codes in it (ITU-T T.81, annex F).

use super::damaged;
use super::parts::find;
use crate::errors::Result;

const LOOKUP_BITS: u32 = 9;

/// A Huffman code.
#[derive(Clone)]
pub struct Huffman {
    /// By the next `LOOKUP_BITS` bits: the length of the code and its symbol; length 0 where the code is longer.
    lookup: Vec<[u8; 2]>,
    /// For each length the first code that is too large for it, left-aligned in 16 bits, and what is to be
    /// subtracted from a code to find its symbol.
    limits: [(u32, i32); 17],
    symbols: Vec<u8>,
}

impl Huffman {
    pub fn new(counts: &[u8], symbols: &[u8]) -> Result<Self> {
        let mut lookup = vec![[0, 0]; 1 << LOOKUP_BITS];
        let mut limits = [(0, 0); 17];
        let (mut code, mut index) = (0_u32, 0_usize);
        for length in 1..=16_u32 {
            let count = usize::from(counts[length as usize - 1]);
            let first = code;
            for symbol in &symbols[index..index + count] {
                if length <= LOOKUP_BITS {
                    let spare = LOOKUP_BITS - length;
                    let start = (code << spare) as usize;
                    let end = start + (1 << spare);
                    if let Some(entries) = lookup.get_mut(start..end) {
                        entries.fill([length as u8, *symbol]);
                    }
                }
                code += 1;
            }
            if code > 1 << length {
                return Err(damaged("a Huffman table with more codes than there can be"));
            }
            limits[length as usize] = (code << (16 - length), index as i32 - first as i32);
            index += count;
            code <<= 1;
        }
        Ok(Self { lookup, limits, symbols: symbols.to_vec() })
    }
}

/// Entropy-coded data, read bit by bit up to the next marker.
pub struct Bits<'a> {
    data: &'a [u8],
    place: usize,
    /// The next bits, the first of them topmost; below `count` of them others may stand already.
    next: u64,
    count: u32,
}

impl<'a> Bits<'a> {
    pub fn new(data: &'a [u8], place: usize) -> Self {
        Self { data, place, next: 0, count: 0 }
    }

    /// Where the first byte stands that has not been read.
    pub fn place(&self) -> usize {
        self.place
    }

    /// Have at least 32 bits at hand, or all that there are before the next marker.
    #[inline(always)]
    fn fill(&mut self) {
        if self.count >= 32 {
            return;
        }
        if let Some(eight) = self.data.get(self.place..self.place + 8) {
            let word =
                u64::from_be_bytes([eight[0], eight[1], eight[2], eight[3], eight[4], eight[5], eight[6], eight[7]]);
            let has_ff = (!word).wrapping_sub(0x0101_0101_0101_0101) & word & 0x8080_8080_8080_8080 != 0;
            if !has_ff {
                self.next |= word >> self.count;
                self.place += ((63 - self.count) / 8) as usize;
                self.count |= 0b11_1000;
                return;
            }
        }
        self.fill_slowly();
    }

    #[cold]
    fn fill_slowly(&mut self) {
        while self.count <= 56 {
            let Some(byte) = self.data.get(self.place) else { return };
            if *byte == 0xff {
                if self.data.get(self.place + 1) != Some(&0) {
                    return;
                }
                self.place += 1;
            }
            self.place += 1;
            self.next |= u64::from(*byte) << (56 - self.count);
            self.count += 8;
        }
    }

    #[inline(always)]
    fn drop(&mut self, count: u32) -> Result<()> {
        if count > self.count {
            return Err(damaged("a marker within compressed data"));
        }
        self.next <<= count;
        self.count -= count;
        Ok(())
    }

    /// A number of `size` bits, at most 16.
    #[inline(always)]
    pub fn number(&mut self, size: u32) -> Result<u32> {
        if size == 0 {
            return Ok(0);
        }
        self.fill();
        let value = (self.next >> (64 - size)) as u32;
        self.drop(size)?;
        Ok(value)
    }

    pub fn bit(&mut self) -> Result<bool> {
        Ok(self.number(1)? == 1)
    }

    /// A number of `size` bits, of which those that begin with 0 are negative. There are enough bits at hand.
    #[inline(always)]
    pub fn signed(&mut self, size: u32) -> Result<i32> {
        if size == 0 {
            return Ok(0);
        }
        let value = (self.next >> (64 - size)) as i32;
        self.drop(size)?;
        Ok(if value < 1 << (size - 1) { value - (1 << size) + 1 } else { value })
    }

    /// The next symbol; afterwards there are still 16 bits at hand, where the data has so many.
    #[inline(always)]
    pub fn symbol(&mut self, table: &Huffman) -> Result<u8> {
        self.fill();
        let [length, symbol] = table.lookup[(self.next >> (64 - LOOKUP_BITS)) as usize];
        if length != 0 {
            self.drop(u32::from(length))?;
            return Ok(symbol);
        }
        self.long_symbol(table)
    }

    #[cold]
    fn long_symbol(&mut self, table: &Huffman) -> Result<u8> {
        let next = (self.next >> 48) as u32;
        for length in LOOKUP_BITS + 1..=16 {
            let (limit, offset) = table.limits[length as usize];
            if next < limit {
                let index = (next >> (16 - length)) as i32 + offset;
                let symbol = usize::try_from(index).ok().and_then(|index| table.symbols.get(index));
                self.drop(length)?;
                return symbol.copied().ok_or_else(|| damaged("bits that are no Huffman code"));
            }
        }
        Err(damaged("bits that are no Huffman code"))
    }

    /// Go on behind the next restart marker, which is the one of that number.
    pub fn restart(&mut self, number: usize) -> Result<()> {
        (self.next, self.count) = (0, 0);
        let start = find(self.data, self.place, 0xff).map_or(self.data.len(), |at| self.place + at);
        let mut end = start;
        while self.data.get(end) == Some(&0xff) {
            end += 1;
        }
        if self.data.get(end) != Some(&(0xd0 + (number % 8) as u8)) {
            return Err(damaged("a restart marker that is missing"));
        }
        self.place = end + 1;
        Ok(())
    }
}
