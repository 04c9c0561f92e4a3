//! Large pieces of memory, got cheaply: 20 MB cost ten page faults where the system has large pages, not five thousand.

use std::io::{self, Read};
use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;

/// Bytes that begin at a page's start. They belong to this process alone.
pub struct Bytes {
    map: MmapMut,
    length: usize,
}

impl Bytes {
    /// So many zeros.
    pub fn new(length: usize) -> io::Result<Self> {
        let map = MmapMut::map_anon(length.max(1))?; // nothing cannot be mapped
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage); // a system without them is only slower
        Ok(Self { map, length })
    }

    /// The next `length` bytes of `source`, which must have them; `each` is shown them piece by piece.
    pub fn of(mut source: impl Read, length: usize, mut each: impl FnMut(&[u8])) -> io::Result<Self> {
        const PIECE: usize = 1 << 18; // stays in the processor's cache until it was shown
        let mut bytes = Self::new(length)?;
        for piece in bytes.chunks_mut(PIECE) {
            source.read_exact(piece)?;
            each(piece);
        }
        Ok(bytes)
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map[..self.length]
    }
}

impl DerefMut for Bytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.map[..self.length]
    }
}
