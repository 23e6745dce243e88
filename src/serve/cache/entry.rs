//! What lies in the cache, and how it is written to disk. foyer adds a checksum over each entry and
//! compares the key, so what is read here is what was written; lengths are checked all the same,
//! since anyone may have changed the file.

use std::io::{Read, Write};
use std::sync::Arc;

use foyer::{Code, Error, ErrorKind};
use half::f16;
use half::slice::HalfFloatSliceExt as _;
use half::vec::HalfBitsVecExt as _;

use crate::serve::batch::{Carried, TileEncoding};
use restain_bundle::codec::TileKey;
use restain_method::geometry::CHANNELS;
use restain_method::glass::{Glass, Run};
use restain_method::synth::Residual;
use restain_method::windows::Windows;

/// More numbers than any encoding has, and more values than any tile: a length above it is damage.
const MOST_NUMBERS: u64 = 1 << 28;
/// No model sees a smaller square: below, a canvas could have windows without number.
const LEAST_SIDE: usize = 2;
/// As many as a tile of the paper's size has, and some.
const VALUES_AT_ONCE: usize = 1 << 18;

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
        self.0.bytes() + TABLES
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

/// Width u32, height u32, fidelity f32, the form of what is carried u32, the count of numbers u64,
/// the side of a window u32, width and height of the canvas u32 each, the count of numbers that are
/// the anatomy of a window u32; the numbers as f16; what is carried, width × height × 3 values; of a residual then the glass: the count of runs u32, start
/// and length of each u32, and the pixels, 3 bytes each. All little-endian.
impl Code for Kept {
    fn encode(&self, writer: &mut impl Write) -> foyer::Result<()> {
        let encoding = &self.0;
        let (width, height) = encoding.size;
        let mut head = [0; HEAD];
        head[..4].copy_from_slice(&width.to_le_bytes());
        head[4..8].copy_from_slice(&height.to_le_bytes());
        head[8..12].copy_from_slice(&encoding.fidelity.to_le_bytes());
        head[12..16].copy_from_slice(&Form::of(encoding.carried()).number().to_le_bytes());
        head[16..24].copy_from_slice(&(encoding.latents().len() as u64).to_le_bytes());
        let (columns, rows) = encoding.windows.canvas();
        let lengths = [encoding.windows.side(), columns, rows, encoding.anatomy_len()];
        for (at, length) in [24, 28, 32, 36].into_iter().zip(lengths) {
            head[at..at + 4].copy_from_slice(&(length as u32).to_le_bytes());
        }
        writer.write_all(&head).map_err(Error::io_error)?;
        write_shorts(writer, encoding.latents().reinterpret_cast())?;
        match encoding.carried() {
            Carried::Residual(Residual::Narrow(values), glass) => {
                writer.write_all(bytemuck::cast_slice(values)).map_err(Error::io_error)?;
                write_glass(writer, glass)
            }
            Carried::Residual(Residual::Wide(values), glass) => {
                write_shorts(writer, bytemuck::cast_slice(values))?;
                write_glass(writer, glass)
            }
            Carried::Pixels(pixels) => writer.write_all(pixels).map_err(Error::io_error),
        }
    }

    fn decode(reader: &mut impl Read) -> foyer::Result<Self> {
        let mut head = [0; HEAD];
        reader.read_exact(&mut head).map_err(Error::io_error)?;
        let word = |at: usize| -> [u8; 4] { head[at..at + 4].try_into().expect("within the head") };
        let [width, height, form] = [0, 4, 12].map(|at| u32::from_le_bytes(word(at)));
        let fidelity = f32::from_le_bytes(word(8));
        let numbers = u64::from_le_bytes(head[16..24].try_into().expect("eight bytes of the head"));
        let [side, columns, rows, anatomy] =
            [24, 28, 32, 36].map(|at| u32::from_le_bytes(word(at)) as usize);
        let values = u128::from(width) * u128::from(height) * CHANNELS as u128;
        let impossible = |what, value: u128| {
            Err(Error::new(ErrorKind::OutOfRange, what).with_context("value", value))
        };
        if numbers > MOST_NUMBERS || values > MOST_NUMBERS.into() {
            return impossible("an encoding of impossible length", values.max(numbers.into()));
        }
        // A window has as many numbers as the tile of its size has values, about.
        let seen = columns as u128 * rows as u128;
        if side < LEAST_SIDE || columns.min(rows) < side || seen > MOST_NUMBERS.into() {
            return impossible("an encoding of impossible windows", seen);
        }
        let Some(form) = Form::numbered(form) else {
            return impossible("an encoding of unknown form", form.into());
        };
        if !(0.0..=99.0).contains(&fidelity) {
            return impossible("an encoding of impossible fidelity", fidelity.to_bits().into());
        }
        let latents = read_shorts(reader, numbers as usize)?;
        let values = values as usize;
        let carried = match form {
            Form::Narrow => {
                let bytes = read_values::<i8>(reader, values)?;
                Carried::Residual(Residual::Narrow(bytes.into()), read_glass(reader, values)?)
            }
            Form::Wide => {
                let shorts: Vec<i16> = bytemuck::cast_vec(read_shorts(reader, values)?);
                Carried::Residual(Residual::Wide(shorts.into()), read_glass(reader, values)?)
            }
            Form::Pixels => Carried::Pixels(read_values::<u8>(reader, values)?.into()),
        };
        let latents: Vec<f16> = latents.reinterpret_into();
        let windows = Windows::of_canvas(side, (columns, rows));
        if anatomy > latents.len() / windows.count() {
            return impossible("an encoding of impossible anatomy", anatomy as u128);
        }
        let (size, latents) = ((width, height), (anatomy, latents));
        Ok(Self(Arc::new(TileEncoding::new(size, windows, fidelity, latents, carried))))
    }

    fn estimated_size(&self) -> usize {
        let runs = match self.0.carried() {
            Carried::Residual(..) => size_of::<u32>(),
            Carried::Pixels(_) => 0,
        };
        HEAD + self.0.bytes() + runs
    }
}

/// Bytes before the numbers.
const HEAD: usize = 40;

/// How what is carried is written.
#[derive(Clone, Copy)]
enum Form {
    Narrow,
    Wide,
    Pixels,
}

impl Form {
    const ALL: [Self; 3] = [Self::Narrow, Self::Wide, Self::Pixels];

    fn of(carried: &Carried) -> Self {
        match carried {
            Carried::Residual(Residual::Narrow(_), _) => Self::Narrow,
            Carried::Residual(Residual::Wide(_), _) => Self::Wide,
            Carried::Pixels(_) => Self::Pixels,
        }
    }

    fn number(self) -> u32 {
        self as u32
    }

    fn numbered(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|form| form.number() == number)
    }
}

fn write_glass(writer: &mut impl Write, glass: &Glass) -> foyer::Result<()> {
    let count = glass.runs().len() as u32;
    let words = glass.runs().iter().flat_map(|run| [run.start, run.len]);
    let head: Vec<u8> = std::iter::once(count).chain(words).flat_map(u32::to_le_bytes).collect();
    writer.write_all(&head).and_then(|()| writer.write_all(glass.pixels())).map_err(Error::io_error)
}

/// The glass of a tile of so many values.
fn read_glass(reader: &mut impl Read, values: usize) -> foyer::Result<Glass> {
    let mut count = [0; size_of::<u32>()];
    reader.read_exact(&mut count).map_err(Error::io_error)?;
    let (count, pixels) = (u32::from_le_bytes(count) as usize, values / CHANNELS);
    let damaged = || Error::new(ErrorKind::OutOfRange, "glass that lies on no tile");
    if count > pixels {
        return Err(damaged());
    }
    let words = read_values::<[u32; 2]>(reader, count)?;
    let runs: Vec<Run> = words
        .into_iter()
        .map(|word| word.map(u32::from_le))
        .map(|[start, len]| Run { start, len })
        .collect();
    let covered: u64 = runs.iter().map(|run| u64::from(run.len)).sum();
    if covered > pixels as u64 {
        return Err(damaged());
    }
    let bytes = read_values::<u8>(reader, covered as usize * CHANNELS)?;
    Glass::from_parts(runs, &bytes, pixels).ok_or_else(damaged)
}

fn write_shorts(writer: &mut impl Write, shorts: &[u16]) -> foyer::Result<()> {
    if cfg!(target_endian = "little") {
        return writer.write_all(bytemuck::cast_slice(shorts)).map_err(Error::io_error);
    }
    shorts
        .iter()
        .try_for_each(|short| writer.write_all(&short.to_le_bytes()))
        .map_err(Error::io_error)
}

fn read_shorts(reader: &mut impl Read, count: usize) -> foyer::Result<Vec<u16>> {
    let mut shorts: Vec<u16> = read_values(reader, count)?;
    if cfg!(target_endian = "big") {
        shorts.iter_mut().for_each(|short| *short = u16::from_le(*short));
    }
    Ok(shorts)
}

/// Memory is taken as values come: a length that lies costs no more than what is there.
fn read_values<T: bytemuck::Pod>(reader: &mut impl Read, count: usize) -> foyer::Result<Vec<T>> {
    let mut values = Vec::new();
    while values.len() < count {
        let from = values.len();
        values.resize(count.min(from + VALUES_AT_ONCE), T::zeroed());
        reader
            .read_exact(bytemuck::cast_slice_mut(&mut values[from..]))
            .map_err(Error::io_error)?;
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_as_it_was_written_and_every_cut_of_it_is_refused() {
        let latents: Vec<f16> = (0..24).map(|n| f16::from_f32(n as f32 / 7.0)).collect();
        let glass = Glass::of(&(0..60).map(|n| 190 + n).collect::<Vec<u8>>());
        assert!(!glass.runs().is_empty());
        let narrow: Box<[i8]> = (0..60).map(|n| n - 30).collect();
        for carried in [
            Carried::Residual(Residual::Narrow(narrow.clone()), glass),
            Carried::Residual(Residual::Narrow(narrow), Glass::default()),
            Carried::Residual(
                Residual::Wide((0..60).map(|n| n * 17 - 400).collect()),
                Glass::default(),
            ),
            Carried::Pixels((0..60).collect::<Vec<u8>>().into()),
        ] {
            whole_or_refused(&Kept(Arc::new(TileEncoding::new(
                (4, 5),
                Windows::of_canvas(4, (4, 9)),
                31.5,
                (3, latents.clone()),
                carried,
            ))));
        }
    }

    fn whole_or_refused(kept: &Kept) {
        let mut bytes = Vec::new();
        kept.encode(&mut bytes).unwrap();
        assert_eq!(bytes.len(), kept.estimated_size());
        assert_eq!(Kept::decode(&mut &bytes[..]).unwrap().0, kept.0);
        for cut in 0..bytes.len() {
            assert!(Kept::decode(&mut &bytes[..cut]).is_err(), "cut at {cut}");
        }
        for damaged in [0..8, 8..12, 12..16, 16..24, 24..28, 28..32, 32..36, 36..40] {
            let mut bytes = bytes.clone();
            bytes[damaged].fill(0xff);
            assert_eq!(Kept::decode(&mut &bytes[..]).unwrap_err().kind(), ErrorKind::OutOfRange);
        }
    }
}
