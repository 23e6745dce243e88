//! What becomes of the product's sums: pixels, pixels with a residual, whole levels, or the change
//! alone.

use super::super::normalise::to_byte;

/// Takes the sums of the product, in its own order.
pub(super) trait Sink {
    /// Takes the P sums that go to `start..start + P`, with the scale and the offset of each.
    fn row<const P: usize, const FUSED: bool>(
        &mut self,
        start: usize,
        sums: &[f32; P],
        map: (&[f32; P], &[f32; P]),
    );

    /// Takes one sum, in unfused arithmetic.
    fn value(&mut self, at: usize, sum: f32, map: (f32, f32));
}

/// Pixels, rounded and clamped.
pub(super) struct Bytes<'a>(pub &'a mut [u8]);

/// Pixels, rounded and clamped, with an offset of its own for every value.
pub(super) struct Carried<'a> {
    pub bytes: &'a mut [u8],
    pub offset: &'a [f32],
}

/// Whole levels, not clamped to 0..=255.
pub(super) struct Levels<'a>(pub &'a mut [f32]);

/// The product in levels, without the offset.
pub(super) struct Change<'a>(pub &'a mut [f32]);

/// Levels beyond these are as good as infinite: every residual of a pixel still fits into 16 bits.
const FURTHEST: f32 = 8192.0;
/// A sum with 1.5 · 2²³ has no fraction.
const WHOLE: f32 = 12_582_912.0;

/// Rounds to the nearest whole level, halves to even, as [`to_byte`] does without its clamp.
/// `f32::round_ties_even` does the same, but does not vectorise everywhere.
#[inline(always)]
#[allow(clippy::manual_clamp, reason = "clamp would keep NaN")]
fn to_level(value: f32) -> f32 {
    let value = value.max(-FURTHEST).min(FURTHEST);
    (value + WHOLE) - WHOLE
}

/// a·b + c, rounded once where the processor can.
#[inline(always)]
pub(super) fn multiply_add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

const FILLED: &str = "the product fills the target";

impl Sink for Bytes<'_> {
    #[inline(always)]
    fn row<const P: usize, const FUSED: bool>(
        &mut self,
        start: usize,
        sums: &[f32; P],
        (scale, offset): (&[f32; P], &[f32; P]),
    ) {
        let bytes: &mut [u8; P] = self.0[start..].first_chunk_mut().expect(FILLED);
        for j in 0..P {
            bytes[j] = to_byte(multiply_add::<FUSED>(sums[j], scale[j], offset[j]));
        }
    }

    #[inline(always)]
    fn value(&mut self, at: usize, sum: f32, (scale, offset): (f32, f32)) {
        self.0[at] = to_byte(sum * scale + offset);
    }
}

impl Sink for Carried<'_> {
    #[inline(always)]
    fn row<const P: usize, const FUSED: bool>(
        &mut self,
        start: usize,
        sums: &[f32; P],
        (scale, _): (&[f32; P], &[f32; P]),
    ) {
        // A copy: the compiler cannot know that writing bytes leaves the offsets alone, and would
        // read them one by one.
        let offset: [f32; P] = *self.offset[start..].first_chunk().expect(FILLED);
        let bytes: &mut [u8; P] = self.bytes[start..].first_chunk_mut().expect(FILLED);
        for j in 0..P {
            bytes[j] = to_byte(multiply_add::<FUSED>(sums[j], scale[j], offset[j]));
        }
    }

    #[inline(always)]
    fn value(&mut self, at: usize, sum: f32, (scale, _): (f32, f32)) {
        self.bytes[at] = to_byte(sum * scale + self.offset[at]);
    }
}

impl Sink for Levels<'_> {
    #[inline(always)]
    fn row<const P: usize, const FUSED: bool>(
        &mut self,
        start: usize,
        sums: &[f32; P],
        (scale, offset): (&[f32; P], &[f32; P]),
    ) {
        let levels: &mut [f32; P] = self.0[start..].first_chunk_mut().expect(FILLED);
        for j in 0..P {
            levels[j] = to_level(multiply_add::<FUSED>(sums[j], scale[j], offset[j]));
        }
    }

    #[inline(always)]
    fn value(&mut self, at: usize, sum: f32, (scale, offset): (f32, f32)) {
        self.0[at] = to_level(sum * scale + offset);
    }
}

impl Sink for Change<'_> {
    #[inline(always)]
    fn row<const P: usize, const FUSED: bool>(
        &mut self,
        start: usize,
        sums: &[f32; P],
        (scale, _): (&[f32; P], &[f32; P]),
    ) {
        let change: &mut [f32; P] = self.0[start..].first_chunk_mut().expect(FILLED);
        for j in 0..P {
            change[j] = sums[j] * scale[j];
        }
    }

    #[inline(always)]
    fn value(&mut self, at: usize, sum: f32, (scale, _): (f32, f32)) {
        self.0[at] = sum * scale;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_rounded_as_bytes_are_and_not_clamped() {
        let levels = [-0.5, 0.5, 1.5, 2.4, -3.6, 300.2, 1e30, f32::NEG_INFINITY, f32::NAN];
        let expected = [0.0, 0.0, 2.0, 2.0, -4.0, 300.0, 8192.0, -8192.0, -8192.0];
        assert_eq!(levels.map(to_level), expected);
        for level in (0..=255 * 4).map(|quarter| quarter as f32 / 4.0) {
            assert_eq!(to_level(level), f32::from(to_byte(level)), "{level}");
        }
    }
}
