//! The training-free baselines: colour matching and HED jitter.
//!
//! They need no model. The server offers them as methods and the evaluation reports them beside the
//! trained method, which has to beat them. Pixels are `[.., 3] u8` in and out, rounded and clamped.

use super::normalise::to_byte;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;
use serde::{Deserialize, Serialize};

/// Per-channel mean and standard deviation of one tile's pixels, scaled to 0..1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChannelStats {
    /// Mean of red, green and blue.
    pub mean: [f32; 3],
    /// Population standard deviation of red, green and blue.
    pub std: [f32; 3],
}

/// A channel flatter than this (one level of 255) has no contrast to stretch: its gain is as if it
/// had this much.
const FLATTEST_STD: f32 = 1.0 / 255.0;

impl ChannelStats {
    /// Returns the weighted mean of the means and of the standard deviations, Σ wᵢ·statsᵢ / Σ wᵢ:
    /// colour matching's counterpart of a blend of styles. Weights must be above 0.
    pub fn blend(weighted: &[(f32, Self)]) -> Self {
        let sum: f32 = weighted.iter().map(|(weight, _)| weight).sum();
        let mean = |of: fn(&Self) -> &[f32; 3]| {
            std::array::from_fn(|c| weighted.iter().map(|(w, stats)| w / sum * of(stats)[c]).sum())
        };
        Self { mean: mean(|stats| &stats.mean), std: mean(|stats| &stats.std) }
    }

    /// Computes the statistics of `[.., 3] u8`; all zero when there are no pixels.
    pub fn from_tile(tile: &[u8]) -> Self {
        Self::from_tiles([tile])
    }

    /// Computes the statistics of all pixels of some tiles, `[.., 3] u8` each; all zero when there
    /// are no pixels.
    pub fn from_tiles<'a>(tiles: impl IntoIterator<Item = &'a [u8]>) -> Self {
        // Sums of integers are exact, so the order of pixels does not matter.
        let (mut sums, mut squares, mut count) = ([0u64; 3], [0u64; 3], 0);
        for tile in tiles {
            let (pixels, _) = tile.as_chunks::<3>();
            count += pixels.len();
            for pixel in pixels {
                for c in 0..3 {
                    sums[c] += u64::from(pixel[c]);
                    squares[c] += u64::from(pixel[c]).pow(2);
                }
            }
        }
        let count = count.max(1) as f64;
        let mean = sums.map(|sum| sum as f64 / count);
        let variance: [f64; 3] =
            std::array::from_fn(|c| (squares[c] as f64 / count - mean[c] * mean[c]).max(0.0));
        Self {
            mean: mean.map(|mean| (mean / 255.0) as f32),
            std: variance.map(|variance| (variance.sqrt() / 255.0) as f32),
        }
    }
}

/// Matches the colours of a tile to `target`: per channel (pixel − source mean) / source std ·
/// target std + target mean, the first- and second-order colour transfer of Reinhard et al. 2001,
/// in RGB. `source` are the statistics of `tile`.
///
/// # Shapes
/// `tile` and `out` `[.., 3] u8`.
///
/// # Panics
/// When the lengths differ.
pub fn color_match(tile: &[u8], source: &ChannelStats, target: &ChannelStats, out: &mut [u8]) {
    assert_eq!(tile.len(), out.len(), "tiles of one size");
    // A channel has 256 levels: three tables are less work than a tile of divisions.
    let tables: [[u8; 256]; 3] = std::array::from_fn(|c| {
        let gain = target.std[c] / source.std[c].max(FLATTEST_STD);
        std::array::from_fn(|level| {
            to_byte((level as f32 - 255.0 * source.mean[c]) * gain + 255.0 * target.mean[c])
        })
    });
    for (pixel, out) in tile.as_chunks::<3>().0.iter().zip(out.as_chunks_mut::<3>().0) {
        *out = std::array::from_fn(|c| tables[c][usize::from(pixel[c])]);
    }
}

/// Optical densities in red, green and blue of haematoxylin, eosin and DAB (Ruifrok, Johnston 2001;
/// scikit-image's `rgb_from_hed`).
const RGB_FROM_HED: [[f32; 3]; 3] = [[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]];

/// The inverse of [`RGB_FROM_HED`].
pub(super) const HED_FROM_RGB: [[f32; 3]; 3] = [
    [1.877_983, -1.007_678, -0.556_116],
    [-0.065_908, 1.134_73, -0.135_522],
    [-0.601_907, -0.480_414, 1.573_588],
];

/// Applies HED jitter (Tellez et al. 2018): each stain's density becomes density·(1+α) + β, with α
/// and β uniform in ±sigma, drawn once for the whole tile. Densities are natural logarithms,
/// −ln(pixel/255). Unlike scikit-image's `rgb2hed`, negative densities are kept, so that sigma 0
/// changes nothing.
///
/// # Shapes
/// `tile` and `out` `[.., 3] u8`.
///
/// # Panics
/// When the lengths differ.
pub fn hed_jitter(tile: &[u8], sigma: f32, rng: &mut ChaCha8Rng, out: &mut [u8]) {
    assert_eq!(tile.len(), out.len(), "tiles of one size");
    let mut draw = || ((rng.next_u32() >> 8) as f32 / (1 << 23) as f32 - 1.0) * sigma;
    let gain: [f32; 3] = std::array::from_fn(|_| 1.0 + draw());
    let shift: [f32; 3] = std::array::from_fn(|_| draw());
    let (matrix, bias) = jitter_map(gain, shift);
    // Black has no finite density; half a level is as dark as eight bits can be.
    let density: [f32; 256] = std::array::from_fn(|level| -((level as f32).max(0.5) / 255.0).ln());
    for (pixel, out) in tile.as_chunks::<3>().0.iter().zip(out.as_chunks_mut::<3>().0) {
        let from = pixel.map(|level| density[usize::from(level)]);
        *out = std::array::from_fn(|c| {
            let to =
                from[0] * matrix[0][c] + from[1] * matrix[1][c] + from[2] * matrix[2][c] + bias[c];
            to_byte(255.0 * (-to).exp())
        });
    }
}

/// To the stains, through the jitter and back, as one affine map of RGB densities.
fn jitter_map(gain: [f32; 3], shift: [f32; 3]) -> ([[f32; 3]; 3], [f32; 3]) {
    let matrix = HED_FROM_RGB.map(|row| {
        std::array::from_fn(|c| (0..3).map(|s| row[s] * gain[s] * RGB_FROM_HED[s][c]).sum())
    });
    let bias = std::array::from_fn(|c| (0..3).map(|s| shift[s] * RGB_FROM_HED[s][c]).sum());
    (matrix, bias)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::rand_core::SeedableRng;

    fn noise(len: usize, low: u32, span: u32) -> Vec<u8> {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        (0..len).map(|_| (low + rng.next_u32() % span) as u8).collect()
    }

    #[test]
    fn statistics_are_population_mean_and_deviation() {
        let stats = ChannelStats::from_tile(&[0, 51, 255, 102, 51, 255]);
        assert_eq!(ChannelStats::from_tiles([&[0, 51, 255][..], &[102, 51, 255]]), stats);
        assert_eq!(stats.mean, [0.2, 0.2, 1.0]);
        assert_eq!(stats.std, [0.2, 0.0, 0.0]);
    }

    #[test]
    fn a_matched_tile_has_the_targets_statistics() {
        let (tile, target) =
            (noise(3000, 90, 60), ChannelStats { mean: [0.5, 0.6, 0.4], std: [0.1, 0.05, 0.08] });
        let mut out = vec![0; tile.len()];
        color_match(&tile, &ChannelStats::from_tile(&tile), &target, &mut out);
        let reached = ChannelStats::from_tile(&out);
        for c in 0..3 {
            assert!(
                (reached.mean[c] - target.mean[c]).abs() < 1e-3
                    && (reached.std[c] - target.std[c]).abs() < 1e-3,
                "{reached:?}"
            );
        }
    }

    #[test]
    fn a_tile_matched_to_itself_and_a_flat_tile_are_safe() {
        let tile = noise(300, 0, 256);
        let stats = ChannelStats::from_tile(&tile);
        let mut out = vec![0; tile.len()];
        color_match(&tile, &stats, &stats, &mut out);
        assert_eq!(tile, out);
        let flat = [200; 300];
        color_match(&flat, &ChannelStats::from_tile(&flat), &stats, &mut out);
        assert_eq!(out[..3], [0, 1, 2].map(|c| to_byte(stats.mean[c] * 255.0)));
    }

    #[test]
    fn the_two_stain_matrices_are_inverses() {
        let (matrix, bias) = jitter_map([1.0; 3], [0.0; 3]);
        for (r, row) in matrix.iter().enumerate() {
            for (c, v) in row.iter().enumerate() {
                assert!((v - f32::from(u8::from(r == c))).abs() < 1e-5, "{matrix:?}");
            }
        }
        assert_eq!(bias, [0.0; 3]);
    }

    #[test]
    fn jitter_of_zero_changes_nothing_and_of_more_depends_on_the_seed_alone() {
        let tile = noise(300, 1, 255);
        let jittered = |sigma, seed| {
            let mut out = vec![0; tile.len()];
            hed_jitter(&tile, sigma, &mut ChaCha8Rng::seed_from_u64(seed), &mut out);
            out
        };
        assert_eq!(jittered(0.0, 1), tile);
        assert_eq!(jittered(0.1, 1), jittered(0.1, 1));
        assert_ne!(jittered(0.1, 1), jittered(0.1, 2));
        assert_ne!(jittered(0.1, 1), tile);
    }

    #[test]
    fn more_haematoxylin_darkens_red_more_than_blue() {
        let (_, bias) = jitter_map([1.0; 3], [0.1, 0.0, 0.0]);
        assert!((bias[0] - 0.065).abs() < 1e-6 && (bias[2] - 0.029).abs() < 1e-6);
    }
}
