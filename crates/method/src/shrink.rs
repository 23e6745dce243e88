//! A tile at the size that a model sees, for the encoder: antialiased, as the tiles that a model is
//! trained on.
//!
//! Rows are read one after the other, so that working memory grows with the model's size and not
//! with the tile's.

use super::geometry::CHANNELS;
use super::normalise::to_byte;
use super::taps::Taps;
use multiversion::multiversion;

/// Returns `pixels` at another width and height, `to`, u8 `[to.1, to.0, 3]`; a smaller tile is
/// enlarged.
///
/// # Shapes
/// `pixels` `[height, width, 3] u8`.
///
/// # Panics
/// When the length is another, or a side is 0.
pub fn shrink(pixels: &[u8], (width, height): (usize, usize), to: (usize, usize)) -> Vec<u8> {
    assert!(width > 0 && height > 0 && to.0 > 0 && to.1 > 0, "a tile has pixels");
    assert_eq!(pixels.len(), width * height * CHANNELS, "pixels are [height, width, 3]");
    let (columns, rows) = (Taps::new(width, to.0), Taps::new(height, to.1));
    let length = to.0 * CHANNELS;
    let (mut narrow, mut sum) = (vec![0.0; rows.each * length], vec![0.0; length]);
    let mut out = vec![0; to.1 * length];
    // Row n lies at n modulo the number of taps.
    let mut made = 0;
    let lines = out.chunks_exact_mut(length).zip(&rows.starts);
    for ((out, &start), weights) in lines.zip(rows.weights.chunks_exact(rows.each)) {
        for row in made.max(start)..start + rows.each {
            let from = &pixels[row * width * CHANNELS..][..width * CHANNELS];
            narrow_row(&columns, from, &mut narrow[row % rows.each * length..][..length]);
        }
        made = start + rows.each;
        sum.fill(0.0);
        for (tap, &weight) in weights.iter().enumerate() {
            accumulate(&narrow[(start + tap) % rows.each * length..][..length], weight, &mut sum);
        }
        for (out, sum) in out.iter_mut().zip(&sum) {
            *out = to_byte(*sum);
        }
    }
    out
}

/// A row at the other width: `from` `[width, 3]`, `to` `[to.0, 3]`.
#[multiversion(targets = "simd")]
fn narrow_row(columns: &Taps, from: &[u8], to: &mut [f32]) {
    let from = from.as_chunks::<CHANNELS>().0;
    let weights = columns.weights.chunks_exact(columns.each);
    let to = to.as_chunks_mut::<CHANNELS>().0.iter_mut();
    for ((to, &start), weights) in to.zip(&columns.starts).zip(weights) {
        let mut sum = [0.0; CHANNELS];
        for (from, weight) in from[start..][..weights.len()].iter().zip(weights) {
            for c in 0..CHANNELS {
                sum[c] += f32::from(from[c]) * weight;
            }
        }
        *to = sum;
    }
}

#[multiversion(targets = "simd")]
fn accumulate(row: &[f32], weight: f32, sum: &mut [f32]) {
    for (sum, value) in sum.iter_mut().zip(row) {
        *sum += value * weight;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_tile_stays_flat_and_one_of_the_size_stays_as_it_is() {
        for size in [(8, 8), (7, 9), (3, 5), (1, 1), (64, 20)] {
            let flat = vec![90; size.0 * size.1 * 3];
            assert_eq!(shrink(&flat, size, (8, 8)), vec![90; 192], "{size:?}");
        }
        let tile: Vec<u8> = (0..192).collect();
        assert_eq!(shrink(&tile, (8, 8), (8, 8)), tile);
    }

    #[test]
    fn fine_stripes_even_out_instead_of_aliasing() {
        let stripes: Vec<u8> =
            (0..64 * 64).flat_map(|n| [if n % 2 == 0 { 0 } else { 200 }; 3]).collect();
        let out = shrink(&stripes, (64, 64), (9, 9));
        assert!(out.iter().all(|&byte| byte.abs_diff(100) < 12), "{out:?}");
    }

    /// Four pixels to two, the weights worked out by hand: a triangle of radius 2 around 0.5 weighs
    /// .75, .75, .25 of pixels 0, 1 and 2.
    #[test]
    fn weights_are_those_of_a_triangle() {
        let row = [[0; 3], [70; 3], [140; 3], [210; 3]];
        let tile = row.as_flattened().repeat(4);
        let out = shrink(&tile, (4, 4), (2, 2));
        assert_eq!(&out[..6], &[50, 50, 50, 160, 160, 160]);
    }
}
