//! Colour transfer in Lαβ (Reinhard, Ashikhmin, Gooch, Shirley 2001): it matches mean and standard
//! deviation per channel, in axes that are nearly independent in natural images. The classical
//! stain normalisation without a stain matrix.
//!
//! It needs no trained model. Pixels are `[.., 3] u8` in and out, rounded and clamped.

use super::normalise::to_byte;

/// RGB to the responses of long, middle and short cones (the paper's equation 4).
const LMS_FROM_RGB: [[f64; 3]; 3] =
    [[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]];

/// Deviations, in log₁₀ of light, below which a channel has no contrast to stretch: one level of
/// 255 at white.
const FLATTEST_STD: f64 = 0.0017;

/// Black has no logarithm; half a level is as dark as eight bits can be.
const DARKEST: f64 = 0.5;

/// Mean and population standard deviation of the channels of a colour space over some pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LabStats {
    /// Mean of L, α and β, or of L*, a* and b*.
    pub mean: [f64; 3],
    /// Population standard deviation of the same.
    pub std: [f64; 3],
}

impl LabStats {
    /// Computes the statistics of `[.., 3] u8` in Lαβ.
    ///
    /// # Panics
    /// When there are no pixels.
    pub fn of(tile: &[u8]) -> Self {
        Self::over(&lab(tile))
    }

    /// Computes the statistics of pixels of any colour space.
    pub(super) fn over(pixels: &[[f64; 3]]) -> Self {
        assert!(!pixels.is_empty(), "a tile has pixels");
        let count = pixels.len() as f64;
        let mean: [f64; 3] =
            std::array::from_fn(|c| pixels.iter().map(|p| p[c]).sum::<f64>() / count);
        let std = std::array::from_fn(|c| {
            (pixels.iter().map(|p| (p[c] - mean[c]).powi(2)).sum::<f64>() / count).sqrt()
        });
        Self { mean, std }
    }
}

/// Matches the colours of a tile, whose statistics are `own`, to `target`: per Lαβ channel (value −
/// own mean) / own std · target std + target mean (the paper's equations 10 and 11).
///
/// # Shapes
/// `tile` and `out` `[.., 3] u8`.
///
/// # Panics
/// When the lengths differ.
pub fn reinhard(tile: &[u8], own: &LabStats, target: &LabStats, out: &mut [u8]) {
    assert_eq!(tile.len(), out.len(), "tiles of one size");
    let to_rgb = inverse(&LMS_FROM_RGB);
    let gain: [f64; 3] = std::array::from_fn(|c| target.std[c] / own.std[c].max(FLATTEST_STD));
    for (pixel, out) in lab(tile).iter().zip(out.as_chunks_mut::<3>().0) {
        let [l, a, b]: [f64; 3] =
            std::array::from_fn(|c| (pixel[c] - own.mean[c]) * gain[c] + target.mean[c]);
        // The paper's equation 8, the inverse of `lab`: its matrices are orthogonal.
        let (l, a, b) = (l / 3f64.sqrt(), a / 6f64.sqrt(), b / 2f64.sqrt());
        let cones = [l + a + b, l + a - b, l - 2.0 * a].map(|log| 10f64.powf(log));
        *out = product(&to_rgb, cones).map(|value| to_byte(255.0 * value as f32));
    }
}

/// Lαβ of every pixel (the paper's equations 4 to 6).
fn lab(tile: &[u8]) -> Vec<[f64; 3]> {
    let pixels = tile.as_chunks::<3>().0.iter();
    pixels
        .map(|pixel| {
            let [l, m, s] =
                product(&LMS_FROM_RGB, pixel.map(|level| f64::from(level).max(DARKEST) / 255.0))
                    .map(f64::log10);
            [(l + m + s) / 3f64.sqrt(), (l + m - 2.0 * s) / 6f64.sqrt(), (l - m) / 2f64.sqrt()]
        })
        .collect()
}

pub(super) fn product(matrix: &[[f64; 3]; 3], vector: [f64; 3]) -> [f64; 3] {
    matrix.map(|row| row.iter().zip(vector).map(|(a, b)| a * b).sum())
}

/// By cofactors. The paper prints the inverse to four digits; computed, a tile matched to itself
/// comes back exactly.
pub(super) fn inverse(m: &[[f64; 3]; 3]) -> [[f64; 3]; 3] {
    let cofactor = |r: usize, c: usize| {
        let at = |dr: usize, dc: usize| m[(r + dr) % 3][(c + dc) % 3];
        at(1, 1) * at(2, 2) - at(1, 2) * at(2, 1)
    };
    let determinant: f64 = (0..3).map(|c| m[0][c] * cofactor(0, c)).sum();
    std::array::from_fn(|r| std::array::from_fn(|c| cofactor(c, r) / determinant))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tile(offset: u32) -> Vec<u8> {
        (0..3 * 500u32).map(|i| (60 + (i * i * 7 + i * 13 + offset) % 170) as u8).collect()
    }

    #[test]
    fn a_tile_with_the_targets_statistics_comes_back_as_it_is() {
        let tile = tile(3);
        let mut out = vec![0; tile.len()];
        reinhard(&tile, &LabStats::of(&tile), &LabStats::of(&tile), &mut out);
        assert_eq!(out, tile);
    }

    #[test]
    fn the_inverse_undoes_the_matrix_where_the_papers_own_is_two_hundredths_off() {
        let inverse = inverse(&LMS_FROM_RGB);
        for axis in 0..3 {
            let unit = std::array::from_fn(|c| f64::from(u8::from(c == axis)));
            let back = product(&inverse, product(&LMS_FROM_RGB, unit));
            back.iter().zip(unit).for_each(|(a, b)| assert!((a - b).abs() < 1e-12, "{back:?}"));
        }
        let printed =
            [[4.4679, -3.5873, 0.1193], [-1.2186, 2.3809, -0.1624], [0.0497, -0.2439, 1.2045]];
        for (row, expected) in inverse.iter().zip(printed) {
            row.iter().zip(expected).for_each(|(a, b)| assert!((a - b).abs() < 0.02, "{row:?}"));
        }
    }

    #[test]
    fn white_and_black_take_the_targets_mean_and_nothing_overflows() {
        for level in [0, 255] {
            let mut out = vec![0; 300];
            reinhard(
                &[level; 300],
                &LabStats::of(&[level; 300]),
                &LabStats::of(&tile(3)),
                &mut out,
            );
            assert!(
                out.chunks_exact(3).all(
                    |pixel| pixel == &out[..3] && pixel.iter().all(|&v| (60..230).contains(&v))
                ),
                "{:?}",
                &out[..3]
            );
        }
    }
}
