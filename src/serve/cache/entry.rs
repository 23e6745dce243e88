//! What lies in the cache, and how it is written to disk. foyer adds a checksum over each entry and
//! compares the key, so what is read here is what was written; lengths are checked all the same,
//! since anyone may have changed the file.

use std::io::{Read, Write};
use std::sync::Arc;

use foyer::{Code, Error, ErrorKind};
use half::f16;
use half::slice::HalfFloatSliceExt as _;

use crate::serve::batch::TileEncoding;
use restain_bundle::codec::TileKey;

/// More numbers than any encoding has: a length above it is damage, not a tile.
const MOST_NUMBERS: u64 = 1 << 28;
/// As many as a tile of the paper's size has, and some.
const NUMBERS_AT_ONCE: usize = 1 << 18;

/// One tile under one encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CacheKey {
    /// Stands for the bundle, the precision and what else decides an encoding's bits.
    pub scope: [u8; 32],
    pub tile: [u8; TileKey::BYTES],
}

/// An encoding, shared with everyone who makes variants of it.
#[derive(Clone, Debug)]
pub(crate) struct Kept(pub Arc<TileEncoding>);

impl Kept {
    /// Memory that it takes, its place in the tables included.
    pub(crate) fn bytes(&self) -> usize {
        const TABLES: usize = 256;
        size_of_val(self.0.latents()) + TABLES
    }
}

impl Code for CacheKey {
    fn encode(&self, writer: &mut impl Write) -> foyer::Result<()> {
        writer
            .write_all(&self.scope)
            .and_then(|()| writer.write_all(&self.tile))
            .map_err(Error::io_error)
    }

    fn decode(reader: &mut impl Read) -> foyer::Result<Self> {
        let mut key = Self { scope: [0; 32], tile: [0; TileKey::BYTES] };
        reader
            .read_exact(&mut key.scope)
            .and_then(|()| reader.read_exact(&mut key.tile))
            .map_err(Error::io_error)?;
        Ok(key)
    }

    fn estimated_size(&self) -> usize {
        size_of::<Self>()
    }
}

/// Width u32, height u32, numbers u64, then the numbers as f16, all little-endian.
impl Code for Kept {
    fn encode(&self, writer: &mut impl Write) -> foyer::Result<()> {
        let (width, height) = self.0.size;
        let latents = self.0.latents();
        let mut head = [0; 16];
        head[..4].copy_from_slice(&width.to_le_bytes());
        head[4..8].copy_from_slice(&height.to_le_bytes());
        head[8..].copy_from_slice(&(latents.len() as u64).to_le_bytes());
        writer.write_all(&head).map_err(Error::io_error)?;
        if cfg!(target_endian = "little") {
            return writer.write_all(bytemuck::cast_slice(latents)).map_err(Error::io_error);
        }
        latents
            .iter()
            .try_for_each(|number| writer.write_all(&number.to_le_bytes()))
            .map_err(Error::io_error)
    }

    fn decode(reader: &mut impl Read) -> foyer::Result<Self> {
        let mut head = [0; 16];
        reader.read_exact(&mut head).map_err(Error::io_error)?;
        let [width, height] = [0, 4]
            .map(|at| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]));
        let numbers = u64::from_le_bytes(head[8..].try_into().expect("the head has sixteen bytes"));
        if numbers > MOST_NUMBERS {
            return Err(Error::new(ErrorKind::OutOfRange, "an encoding of impossible length")
                .with_context("numbers", numbers));
        }
        // Memory is taken as numbers come: a length that lies costs no more than what is there.
        let (mut latents, numbers) = (Vec::new(), numbers as usize);
        while latents.len() < numbers {
            let from = latents.len();
            latents.resize(numbers.min(from + NUMBERS_AT_ONCE), f16::ZERO);
            reader
                .read_exact(bytemuck::cast_slice_mut(&mut latents[from..]))
                .map_err(Error::io_error)?;
        }
        if cfg!(target_endian = "big") {
            latents.reinterpret_cast_mut().iter_mut().for_each(|bits| *bits = u16::from_le(*bits));
        }
        Ok(Self(Arc::new(TileEncoding::new((width, height), latents))))
    }

    fn estimated_size(&self) -> usize {
        16 + size_of_val(self.0.latents())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_as_it_was_written_and_every_cut_of_it_is_refused() {
        let latents = (0..24).map(|n| f16::from_f32(n as f32 / 7.0)).collect();
        let kept = Kept(Arc::new(TileEncoding::new((96, 80), latents)));
        let mut bytes = Vec::new();
        kept.encode(&mut bytes).unwrap();
        assert_eq!(bytes.len(), kept.estimated_size());
        assert_eq!(Kept::decode(&mut &bytes[..]).unwrap().0, kept.0);
        for cut in 0..bytes.len() {
            assert!(Kept::decode(&mut &bytes[..cut]).is_err(), "cut at {cut}");
        }
        bytes[8..16].fill(0xff);
        assert_eq!(Kept::decode(&mut &bytes[..]).unwrap_err().kind(), ErrorKind::OutOfRange);
    }
}
