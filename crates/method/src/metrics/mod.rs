//! Metrics: PSNR, SSIM, Wasserstein colour distance and overlap of nuclei between two tiles; the
//! PSNR that a rank allows; the blocking artefact of a tile; and Fréchet and kernel distance
//! between two sets of features.
//!
//! All but the last two take 8-bit pixels, `[.., 3] u8`, as an image viewer shows them, not
//! standardised values.
//!
//! ```
//! use restain_method::metrics::{psnr, wasserstein};
//!
//! let (tile, brighter) = ([100; 48], [101; 48]);
//! assert!((psnr(&tile, &brighter) - 48.13).abs() < 0.01);
//! assert_eq!(wasserstein(&tile, &brighter), 1.0);
//! ```

#[cfg(test)]
mod against_scikit_image;
mod ceiling;
mod edges;
mod frechet;
mod haematoxylin;
mod ssim;

pub use ceiling::{Ceiling, rank_ceiling_psnr};
pub use edges::BlockEdges;
pub use frechet::{Features, frechet_distance, kernel_distance};
pub use haematoxylin::{dice, haematoxylin_mask};
pub use ssim::ssim;

/// Returns the peak signal-to-noise ratio in dB with peak 255: 10·log₁₀(255² / MSE). Infinite when
/// the tiles are equal.
///
/// # Shapes
/// `a` and `b` `[.., 3] u8`.
///
/// # Panics
/// When the lengths differ.
pub fn psnr(a: &[u8], b: &[u8]) -> f64 {
    assert_eq!(a.len(), b.len(), "tiles of one size");
    let squares: u64 = a.iter().zip(b).map(|(a, b)| u64::from(a.abs_diff(*b)).pow(2)).sum();
    if squares == 0 {
        return f64::INFINITY;
    }
    10.0 * (255.0 * 255.0 * a.len() as f64 / squares as f64).log10()
}

/// A histogram of levels per channel. Adding several tiles pools them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColorHistogram(pub [[u64; 256]; 3]);

impl Default for ColorHistogram {
    fn default() -> Self {
        Self([[0; 256]; 3])
    }
}

impl ColorHistogram {
    /// Adds every pixel of `tile` `[.., 3] u8`.
    pub fn add(&mut self, tile: &[u8]) {
        for pixel in tile.as_chunks::<3>().0 {
            for (levels, level) in self.0.iter_mut().zip(pixel) {
                levels[usize::from(*level)] += 1;
            }
        }
    }

    /// Adds what another histogram has counted.
    pub fn merge(&mut self, other: &Self) {
        for (levels, others) in self.0.as_flattened_mut().iter_mut().zip(other.0.as_flattened()) {
            *levels += others;
        }
    }

    /// Returns the 1-D Wasserstein-1 distance in pixel levels, mean over channels: Σ |CDF − CDF′|.
    /// The two may have counted different numbers of pixels. NaN when either has counted none.
    pub fn wasserstein(&self, other: &Self) -> f64 {
        let channel = |ours: &[u64; 256], theirs: &[u64; 256]| {
            let (our_sum, their_sum) =
                (ours.iter().sum::<u64>() as f64, theirs.iter().sum::<u64>() as f64);
            let (mut ours_below, mut theirs_below) = (0, 0);
            let mut distance = 0.0;
            for (our, their) in ours.iter().zip(theirs) {
                ours_below += our;
                theirs_below += their;
                distance += (ours_below as f64 / our_sum - theirs_below as f64 / their_sum).abs();
            }
            distance
        };
        self.0.iter().zip(&other.0).map(|(ours, theirs)| channel(ours, theirs)).sum::<f64>() / 3.0
    }
}

/// Returns [`ColorHistogram::wasserstein`] of two tiles `[.., 3] u8`.
pub fn wasserstein(a: &[u8], b: &[u8]) -> f64 {
    let (mut of_a, mut of_b) = (ColorHistogram::default(), ColorHistogram::default());
    of_a.add(a);
    of_b.add(b);
    of_a.wasserstein(&of_b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn psnr_of_one_level_everywhere_is_48_dot_13() {
        let (a, b) = ([100; 300], [101; 300]);
        assert!((psnr(&a, &b) - 48.130_803_608_679_1).abs() < 1e-9);
        assert_eq!(psnr(&a, &a), f64::INFINITY);
    }

    #[test]
    fn wasserstein_is_how_far_levels_move() {
        assert_eq!(wasserstein(&[10, 20, 30], &[13, 20, 24]), 3.0, "(3 + 0 + 6) / 3");
        // Half the red pixels move by 100; order does not matter.
        assert!(
            (wasserstein(&[0, 5, 5, 100, 5, 5], &[100, 5, 5, 100, 5, 5]) - 50.0 / 3.0).abs()
                < 1e-12
        );
        assert_eq!(wasserstein(&[0, 1, 2, 9, 8, 7], &[9, 8, 7, 0, 1, 2]), 0.0);
        assert_eq!(wasserstein(&[0; 3], &[255; 3]), 255.0);
    }

    #[test]
    fn pooled_histograms_of_different_sizes_compare_as_distributions() {
        let (mut one, mut three, mut half) =
            (ColorHistogram::default(), ColorHistogram::default(), ColorHistogram::default());
        one.add(&[7; 3]);
        half.add(&[7; 3]);
        three.add(&[7; 6]);
        three.merge(&half);
        assert_eq!(three.0[1][7], 3);
        assert_eq!(one.wasserstein(&three), 0.0);
        assert!(one.wasserstein(&ColorHistogram::default()).is_nan());
    }
}
