//! From the size that the model sees to a tile's own: a change of colour, resampled and added to
//! the tile.
//!
//! Bilinear where the tile is larger than the model's; where it is smaller, a triangle as wide as
//! the pixels that it covers. Pixel centres are aligned, edges are repeated. Rows are made as they
//! are needed, so that working memory grows with the tile's width and not with its area. The
//! arithmetic is plain single precision in a fixed order, so that a client can do the same.

use super::geometry::CHANNELS;
use super::normalise::to_byte;
use super::taps::Taps;
use multiversion::multiversion;

/// Resamples from one size to one tile's size. Both axes are independent.
#[derive(Clone, Debug)]
pub struct Upsampler {
    /// Width and height of the change.
    from: (usize, usize),
    columns: Taps,
    rows: Taps,
}

/// Buffers that calls reuse; one for each thread.
#[derive(Clone, Debug, Default)]
pub struct UpsampleScratch {
    /// `[taps, width, 3]`: rows of the change at the tile's width.
    rows: Vec<f32>,
    /// `[width, 3]`: a row of the change at the tile's size.
    sum: Vec<f32>,
}

impl Upsampler {
    /// Prepares the way from one width and height to another, none of them 0.
    ///
    /// # Panics
    /// When one is.
    pub fn new(from: (usize, usize), to: (usize, usize)) -> Self {
        let all = [from.0, from.1, to.0, to.1];
        assert!(all.iter().all(|length| *length > 0), "a tile has pixels");
        Self { from, columns: Taps::new(from.0, to.0), rows: Taps::new(from.1, to.1) }
    }

    /// Returns how much of each column of a change goes to each column of the tile, `[width,
    /// side]`: the resampling as a matrix, for those who need its gradient.
    pub fn columns(&self) -> Vec<f32> {
        let Taps { each, starts, weights } = &self.columns;
        let mut matrix = vec![0.0; starts.len() * self.from.0];
        for ((row, &start), weights) in
            matrix.chunks_exact_mut(self.from.0).zip(starts).zip(weights.chunks_exact(*each))
        {
            row[start..start + each].copy_from_slice(weights);
        }
        matrix
    }

    /// Adds a change to a tile: out = clamp(round(tile + resampled change)).
    ///
    /// # Shapes
    /// `change` `[from.1, from.0, 3] f32` in levels, `tile` and `out` `[height, width, 3] u8`.
    ///
    /// # Panics
    /// When a length is another.
    pub fn add(&self, change: &[f32], tile: &[u8], scratch: &mut UpsampleScratch, out: &mut [u8]) {
        let (columns, rows) = (&self.columns, &self.rows);
        let width = columns.starts.len() * CHANNELS;
        let length = self.from.0 * CHANNELS;
        assert_eq!(change.len(), length * self.from.1, "change has the size it is resampled from");
        assert_eq!(tile.len(), width * rows.starts.len(), "tile is [height, width, 3]");
        assert_eq!(tile.len(), out.len(), "out is [height, width, 3]");
        scratch.rows.resize(rows.each * width, 0.0);
        scratch.sum.resize(width, 0.0);
        // Rows of the change that are made already; row n lies at n modulo the number of taps.
        let mut made = 0;
        let lines = tile.chunks_exact(width).zip(out.chunks_exact_mut(width));
        for ((tile, out), (&start, weights)) in
            lines.zip(rows.starts.iter().zip(rows.weights.chunks_exact(rows.each)))
        {
            for row in made.max(start)..start + rows.each {
                let at = row % rows.each * width;
                let from = &change[row * length..][..length];
                widen_row(columns, from, &mut scratch.rows[at..][..width]);
            }
            made = start + rows.each;
            let line = |tap: usize| &scratch.rows[(start + tap) % rows.each * width..][..width];
            if let [first, second] = *weights {
                add_two(tile, (line(0), first), (line(1), second), out);
            } else {
                scratch.sum.fill(0.0);
                for (tap, &weight) in weights.iter().enumerate() {
                    accumulate(line(tap), weight, &mut scratch.sum);
                }
                add_one(tile, &scratch.sum, out);
            }
        }
    }
}

/// A row at the tile's width: `from` `[from.0, 3]`, `to` `[width, 3]`.
#[multiversion(targets = "simd")]
fn widen_row(columns: &Taps, from: &[f32], to: &mut [f32]) {
    let to = to.as_chunks_mut::<CHANNELS>().0;
    let from = from.as_chunks::<CHANNELS>().0;
    if columns.each == 2 {
        let pairs = columns.weights.as_chunks::<2>().0;
        for ((to, &start), [first, second]) in to.iter_mut().zip(&columns.starts).zip(pairs) {
            let [a, b]: [[f32; CHANNELS]; 2] = from[start..][..2].try_into().expect("two taps");
            for c in 0..CHANNELS {
                to[c] = a[c] * first + b[c] * second;
            }
        }
        return;
    }
    let weights = columns.weights.chunks_exact(columns.each);
    for ((to, &start), weights) in to.iter_mut().zip(&columns.starts).zip(weights) {
        *to = [0.0; CHANNELS];
        for (from, weight) in from[start..].iter().zip(weights) {
            for c in 0..CHANNELS {
                to[c] += from[c] * weight;
            }
        }
    }
}

#[multiversion(targets = "simd")]
fn add_two(tile: &[u8], first: (&[f32], f32), second: (&[f32], f32), out: &mut [u8]) {
    for (((out, tile), a), b) in out.iter_mut().zip(tile).zip(first.0).zip(second.0) {
        *out = to_byte(f32::from(*tile) + (a * first.1 + b * second.1));
    }
}

#[multiversion(targets = "simd")]
fn accumulate(row: &[f32], weight: f32, sum: &mut [f32]) {
    for (sum, value) in sum.iter_mut().zip(row) {
        *sum += value * weight;
    }
}

#[multiversion(targets = "simd")]
fn add_one(tile: &[u8], change: &[f32], out: &mut [u8]) {
    for ((out, tile), change) in out.iter_mut().zip(tile).zip(change) {
        *out = to_byte(f32::from(*tile) + change);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(side: usize, change: &[f32], (width, height): (usize, usize), tile: u8) -> Vec<u8> {
        let (tile, mut out) = (vec![tile; width * height * 3], vec![7; width * height * 3]);
        Upsampler::new((side, side), (width, height)).add(
            change,
            &tile,
            &mut UpsampleScratch::default(),
            &mut out,
        );
        out
    }

    #[test]
    fn a_constant_change_is_that_change_at_every_size() {
        for size in [(1, 1), (3, 5), (8, 8), (9, 7), (16, 24), (63, 64)] {
            assert!(added(8, &[-20.0; 192], size, 90).iter().all(|&byte| byte == 70), "{size:?}");
            assert!(added(8, &[200.0; 192], size, 90).iter().all(|&byte| byte == 255), "{size:?}");
        }
    }

    #[test]
    fn at_the_same_size_every_value_goes_to_its_own_pixel() {
        let change: Vec<f32> = (0..48).map(|n| n as f32 - 24.0).collect();
        let expected: Vec<u8> = (0..48).map(|n| 76 + n).collect();
        assert_eq!(added(4, &change, (4, 4), 100), expected);
    }

    /// One step from 0 to 16 over two pixels, at four times the size, worked out by hand.
    #[test]
    fn a_step_becomes_a_ramp_with_aligned_centres() {
        let change: Vec<f32> = [[0.0; 3], [16.0; 3]].as_flattened().repeat(2);
        let row: Vec<u8> =
            added(2, &change, (8, 8), 0)[..24].chunks(3).map(|pixel| pixel[0]).collect();
        assert_eq!(row, [0, 0, 2, 6, 10, 14, 16, 16]);
    }

    #[test]
    fn the_matrix_of_the_columns_does_what_adding_does() {
        let row = [-40.0, 0.0, 25.0, 80.0, 10.0, -15.0];
        let change: Vec<f32> =
            row.iter().flat_map(|&value| [value; 3]).collect::<Vec<_>>().repeat(6);
        for width in [3, 6, 11] {
            let matrix = Upsampler::new((6, 6), (width, 6)).columns();
            let expected: Vec<u8> = matrix
                .chunks_exact(6)
                .map(|weights| weights.iter().zip(row).map(|(weight, value)| weight * value).sum())
                .map(|change: f32| to_byte(100.0 + change))
                .collect();
            let out = added(6, &change, (width, 6), 100);
            let first: Vec<u8> = out[..3 * width].chunks_exact(3).map(|pixel| pixel[0]).collect();
            assert_eq!(first, expected, "{width}");
        }
    }

    /// Three pixels from twelve: each is the mean of what it covers and a little beyond.
    #[test]
    fn shrinking_weighs_every_value() {
        let mut change = vec![0.0; 12 * 12 * 3];
        for (n, value) in change.iter_mut().enumerate() {
            *value = if n / 3 % 2 == 0 { 30.0 } else { -30.0 };
        }
        let out = added(12, &change, (3, 3), 100);
        assert!(out.iter().all(|byte| byte.abs_diff(100) <= 2), "stripes even out: {out:?}");
    }
}
