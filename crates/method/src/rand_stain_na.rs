//! RandStainNA (Shen, Luo, Shen, Ke 2022): a tile is normalised to a virtual template, whose mean
//! and standard deviation of L*, a* and b* are drawn from those of many tiles.
//!
//! The six numbers of a template are drawn independently, each from a normal distribution with the
//! mean and the standard deviation of that number over the tiles: the paper's form, which is the
//! published code with its default `std_hyper` of 0. The published code rounds L*a*b* to eight bits
//! on the way; here it is not rounded. Pixels are `[.., 3] u8` in and out, rounded and clamped.

use std::sync::LazyLock;

use rand_chacha::ChaCha8Rng;

use super::normalise::to_byte;
use super::random::normal;
use super::reinhard::{LabStats, inverse, product};

/// Linear RGB (sRGB's primaries) to CIE XYZ, as in OpenCV and scikit-image.
const XYZ_FROM_RGB: [[f64; 3]; 3] = [
    [0.412453, 0.357580, 0.180423],
    [0.212671, 0.715160, 0.072169],
    [0.019334, 0.119193, 0.950227],
];
/// XYZ of white: D65, seen at 2°.
const WHITE: [f64; 3] = [0.95047, 1.0, 1.08883];
/// Above this share of white, L*a*b* is a cube root; below, a line.
const LINE: f64 = 0.008856;
/// Slope and offset of that line.
const SLOPE: f64 = 7.787;
const OFFSET: f64 = 16.0 / 116.0;
/// A channel flatter than this, of 100 units, has no contrast to stretch: the published code's
/// limit, .0001 of OpenCV's 255.
const FLATTEST_STD: f64 = 0.00004;

/// The distribution of stains, fitted to tiles.
#[derive(Clone, Debug, PartialEq)]
pub struct RandStainNa {
    /// Mean and standard deviation of the tiles' means, by channel.
    means: [[f64; 2]; 3],
    /// And of their standard deviations.
    stds: [[f64; 2]; 3],
}

impl RandStainNa {
    /// Fits the distribution to the statistics of tiles, see [`statistics`].
    ///
    /// # Panics
    /// When there are no tiles.
    pub fn fit(tiles: &[LabStats]) -> Self {
        let fitted = |of: fn(&LabStats) -> [f64; 3]| {
            let LabStats { mean, std } = LabStats::over(&tiles.iter().map(of).collect::<Vec<_>>());
            std::array::from_fn(|c| [mean[c], std[c]])
        };
        Self { means: fitted(|tile| tile.mean), stds: fitted(|tile| tile.std) }
    }

    /// Draws a virtual template. As in the published code, a standard deviation can be negative,
    /// where those of the tiles vary much.
    pub fn draw(&self, generator: &mut ChaCha8Rng) -> LabStats {
        let mut draw = |[mean, std]: [f64; 2]| mean + std * f64::from(normal(generator));
        LabStats { mean: self.means.map(&mut draw), std: self.stds.map(&mut draw) }
    }
}

/// Computes mean and standard deviation of L*, a* and b* of `[.., 3] u8`.
///
/// # Panics
/// When there are no pixels.
pub fn statistics(tile: &[u8]) -> LabStats {
    LabStats::over(&lab(tile))
}

/// Normalises a tile to a template. Each channel of L*a*b* becomes (value − own mean) · target
/// std / own std, plus the target mean.
///
/// # Shapes
/// `tile` and `out` `[.., 3] u8`.
///
/// # Panics
/// When the lengths differ, or there are no pixels.
pub fn normalise(tile: &[u8], target: &LabStats, out: &mut [u8]) {
    assert_eq!(tile.len(), out.len(), "tiles of one size");
    let pixels = lab(tile);
    let own = LabStats::over(&pixels);
    let gain: [f64; 3] = std::array::from_fn(|c| target.std[c] / own.std[c].max(FLATTEST_STD));
    for (pixel, out) in pixels.iter().zip(out.as_chunks_mut::<3>().0) {
        *out = rgb(std::array::from_fn(|c| (pixel[c] - own.mean[c]) * gain[c] + target.mean[c]));
    }
}

/// L*a*b* of every pixel.
fn lab(tile: &[u8]) -> Vec<[f64; 3]> {
    /// The light of each level of sRGB (IEC 61966-2-1).
    static LIGHT: LazyLock<[f64; 256]> = LazyLock::new(|| {
        std::array::from_fn(|level| {
            let value = level as f64 / 255.0;
            if value > 0.04045 { ((value + 0.055) / 1.055).powf(2.4) } else { value / 12.92 }
        })
    });
    let light: &[f64; 256] = &LIGHT;
    let root = |share: f64| if share > LINE { share.cbrt() } else { SLOPE * share + OFFSET };
    let pixels = tile.as_chunks::<3>().0.iter();
    pixels
        .map(|pixel| {
            let xyz = product(&XYZ_FROM_RGB, pixel.map(|level| light[usize::from(level)]));
            let [x, y, z] = std::array::from_fn(|c| root(xyz[c] / WHITE[c]));
            [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
        })
        .collect()
}

/// The pixel of an L*a*b*, each channel clamped to what a level can be.
fn rgb([l, a, b]: [f64; 3]) -> [u8; 3] {
    /// The inverse of [`XYZ_FROM_RGB`].
    static RGB_FROM_XYZ: LazyLock<[[f64; 3]; 3]> = LazyLock::new(|| inverse(&XYZ_FROM_RGB));
    let y = (l + 16.0) / 116.0;
    let roots = [y + a / 500.0, y, y - b / 200.0];
    let cubed = |root: f64| {
        if root > LINE.cbrt() { root.powi(3) } else { (root - OFFSET) / SLOPE }
    };
    let xyz = std::array::from_fn(|c| cubed(roots[c]) * WHITE[c]);
    product(&RGB_FROM_XYZ, xyz).map(|light| {
        let value =
            if light > 0.0031308 { 1.055 * light.powf(1.0 / 2.4) - 0.055 } else { 12.92 * light };
        to_byte(255.0 * value as f32)
    })
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    fn tile(offset: u32) -> Vec<u8> {
        (0..3 * 64u32).map(|i| (60 + (i * i * 7 + i * 13 + offset) % 170) as u8).collect()
    }

    /// By scikit-image 0.26 (`color.rgb2lab`, `color.lab2rgb`) and numpy: the means and standard
    /// deviations of the 8 × 8 tile, and `lab2rgb((lab − mean) / std · target std + target mean)`.
    #[test]
    fn a_normalised_tile_is_what_scikit_image_and_numpy_make_of_it() {
        let (tile, near) = (tile(0), |a: [f64; 3], b: [f64; 3]| {
            a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6)
        });
        let own = statistics(&tile);
        assert!(near(own.mean, [61.30496895, 2.76100724, 1.84304637]), "{own:?}");
        assert!(near(own.std, [14.61530083, 34.64345852, 33.52675634]), "{own:?}");
        let target = LabStats { mean: [62.0, 21.0, -14.0], std: [15.0, 6.0, 8.0] };
        let mut out = vec![0; tile.len()];
        normalise(&tile, &target, &mut out);
        let first = [
            [97, 68, 111],
            [234, 202, 221],
            [209, 156, 182],
            [205, 186, 222],
            [247, 205, 215],
            [199, 168, 185],
        ];
        assert_eq!(out.as_chunks::<3>().0[..6], first);
        let sum = |c: usize| out.as_chunks::<3>().0.iter().map(|p| u32::from(p[c])).sum::<u32>();
        assert_eq!([0, 1, 2].map(sum), [11266, 8866, 11236]);
    }

    #[test]
    fn a_tile_normalised_to_itself_comes_back_and_a_flat_one_takes_the_mean() {
        let (tile, mut out) = (tile(5), vec![0; 192]);
        normalise(&tile, &statistics(&tile), &mut out);
        assert_eq!(out, tile);
        normalise(&[200; 192], &statistics(&[90; 192]), &mut out);
        assert_eq!(out, [90; 192]);
    }

    #[test]
    fn templates_have_the_means_and_the_deviations_of_the_tiles_statistics() {
        let tile = |mean: f64, std: f64| LabStats { mean: [mean, 1.0, 2.0], std: [std, 5.0, 6.0] };
        let fitted = RandStainNa::fit(&[tile(40.0, 9.0), tile(60.0, 11.0), tile(80.0, 13.0)]);
        let deviation = (800f64 / 3.0).sqrt();
        assert_eq!(fitted.means, [[60.0, deviation], [1.0, 0.0], [2.0, 0.0]]);
        assert_eq!(fitted.stds[0], [11.0, (8f64 / 3.0).sqrt()]);
        let mut generator = ChaCha8Rng::seed_from_u64(1);
        let drawn: Vec<[f64; 3]> = (0..4000)
            .map(|_| {
                let LabStats { mean, std } = fitted.draw(&mut generator);
                assert_eq!((mean[1], std[2]), (1.0, 6.0));
                [mean[0], std[0], mean[0] * std[0]]
            })
            .collect();
        let of = LabStats::over(&drawn);
        assert!((of.mean[0] - 60.0).abs() < 1.0 && (of.std[0] - deviation).abs() < 0.5, "{of:?}");
        assert!((of.mean[1] - 11.0).abs() < 0.1 && (of.std[1] - 1.633).abs() < 0.1, "{of:?}");
        // Independent: the mean of the products is the product of the means.
        assert!((of.mean[2] - 660.0).abs() < 15.0, "{of:?}");
    }
}
