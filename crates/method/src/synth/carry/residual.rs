//! What a tile has beyond its reconstruction.

use super::super::super::geometry::CHANNELS;
use super::super::super::patches::PixelOrder;
use multiversion::multiversion;

/// tile − round(reconstruction) in levels, `[H, W, 3]` in the order of the product, which only the
/// synthesiser knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Residual {
    /// One byte a value, when none is beyond ±127: nearly every tile that a model reconstructs.
    Narrow(Box<[i8]>),
    /// Any tile.
    Wide(Box<[i16]>),
}

impl Residual {
    /// Chooses the narrow form where it holds every value.
    pub(super) fn new(wide: Vec<i16>) -> Self {
        let most = wide.iter().fold(0, |most, value| value.unsigned_abs().max(most));
        if most <= i8::MAX.unsigned_abs().into() {
            Self::Narrow(wide.iter().map(|value| *value as i8).collect())
        } else {
            Self::Wide(wide.into())
        }
    }

    /// Returns the number of values, H·W·3.
    #[expect(clippy::len_without_is_empty, reason = "no tile is empty")]
    pub fn len(&self) -> usize {
        match self {
            Self::Narrow(values) => values.len(),
            Self::Wide(values) => values.len(),
        }
    }

    /// Returns the bytes that the values take.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Narrow(values) => size_of_val(&**values),
            Self::Wide(values) => size_of_val(&**values),
        }
    }

    /// Fills `out` with the values from `start` on, each with the offset of its channel added; one
    /// that is read as planes has three times the same.
    pub(super) fn shift(&self, start: usize, offset: [f32; CHANNELS], out: &mut [f32]) {
        match self {
            Self::Narrow(values) => shift_narrow(&values[start..][..out.len()], offset, out),
            Self::Wide(values) => shift_wide(&values[start..][..out.len()], offset, out),
        }
    }

    /// Adds the levels of one band, which begins at `start`, and puts the bytes into the order of
    /// pixels.
    pub(super) fn add(&self, order: PixelOrder, start: usize, levels: &[f32], out: &mut [u8]) {
        let value = |at: usize| -> i32 {
            match self {
                Self::Narrow(values) => values[start + at].into(),
                Self::Wide(values) => values[start + at].into(),
            }
        };
        let plane = levels.len() / CHANNELS;
        for (at, byte) in out.iter_mut().enumerate() {
            let from = match order {
                PixelOrder::Planar => at % CHANNELS * plane + at / CHANNELS,
                PixelOrder::Interleaved => at,
            };
            *byte = (levels[from] as i32 + value(from)).clamp(0, 255) as u8;
        }
    }
}

#[multiversion(targets = "simd")]
fn shift_narrow(values: &[i8], offset: [f32; CHANNELS], out: &mut [f32]) {
    shift(values, offset, out);
}

#[multiversion(targets = "simd")]
fn shift_wide(values: &[i16], offset: [f32; CHANNELS], out: &mut [f32]) {
    shift(values, offset, out);
}

#[inline(always)]
fn shift<T: Copy + Into<f32>>(values: &[T], offset: [f32; CHANNELS], out: &mut [f32]) {
    if offset[0] == offset[1] && offset[0] == offset[2] {
        for (out, value) in out.iter_mut().zip(values) {
            *out = (*value).into() + offset[0];
        }
        return;
    }
    let (out, values) = (out.as_chunks_mut::<CHANNELS>().0, values.as_chunks::<CHANNELS>().0);
    for (out, values) in out.iter_mut().zip(values) {
        for c in 0..CHANNELS {
            out[c] = values[c].into() + offset[c];
        }
    }
}

/// Fills `wide` with what is missing to the tile's levels, in the order of the product, and returns
/// the sum of squares of what a picture of the levels would miss.
pub(super) fn subtract(order: PixelOrder, levels: &[f32], tile: &[u8], wide: &mut [i16]) -> f64 {
    let (pixels, _) = tile.as_chunks::<CHANNELS>();
    match order {
        PixelOrder::Interleaved => subtract_plane(levels, tile.iter(), wide),
        PixelOrder::Planar => {
            let plane = levels.len() / CHANNELS;
            let planes = levels.chunks_exact(plane).zip(wide.chunks_exact_mut(plane)).enumerate();
            planes
                .map(|(c, (levels, wide))| {
                    subtract_plane(levels, pixels.iter().map(move |pixel| &pixel[c]), wide)
                })
                .sum()
        }
    }
}

#[inline(always)]
fn subtract_plane<'a>(levels: &[f32], tile: impl Iterator<Item = &'a u8>, wide: &mut [i16]) -> f64 {
    let mut squares = 0;
    for ((wide, level), pixel) in wide.iter_mut().zip(levels).zip(tile) {
        let level = *level as i32;
        let missing = i32::from(*pixel) - level.clamp(0, 255);
        squares += u64::from((missing * missing).unsigned_abs());
        *wide = (i32::from(*pixel) - level) as i16;
    }
    squares as f64
}
