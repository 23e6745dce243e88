//! How near a variant is to the truth: the same tile through a known change of stain and scanner.
//!
//! The transforms here go towards published stain matrices, with amounts, white and gamma of their
//! own. Training never draws them, so that a figure measured with them says what a model does with
//! stains that it has not seen.

use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};

use crate::transform::{Ranges, Transform};
use restain_data::{below, unit as uniform};
use restain_method::field::{FieldStain, QUANTILES, unit};

/// Haematoxylin and eosin by Ruifrok and Johnston 2001, and by Macenko et al. 2009.
const PUBLISHED: [[[f64; 3]; 2]; 2] = [
    [[0.65, 0.704, 0.286], [0.072, 0.99, 0.105]],
    [[0.5626, 0.7201, 0.4062], [0.2159, 0.8012, 0.5581]],
];

/// Linear sRGB to CIE XYZ over the white point D65.
const XYZ: [f32; 9] = [
    0.433_949, 0.376_209, 0.189_828, 0.212_673, 0.715_152, 0.072_175, 0.017_757, 0.109_477,
    0.872_965,
];

/// Draws a change of a field's stain and scanner of a kind that training does not draw.
pub fn unseen(from: &FieldStain, rng: &mut ChaCha8Rng) -> Transform {
    let [h, e] = PUBLISHED[below(rng, 2) as usize].map(unit);
    let residual =
        [h[1] * e[2] - h[2] * e[1], h[2] * e[0] - h[0] * e[2], h[0] * e[1] - h[1] * e[0]];
    let mut between = |low: f64, high: f64| low + (high - low) * uniform(rng);
    let amounts = [between(0.0, 1.1).exp(), between(-0.7, 0.7).exp()];
    let (warm, bright) = (between(-0.06, 0.06), between(0.87, 0.97));
    let gamma = between(-0.3, 0.3).exp();
    let to = FieldStain {
        white: [bright + warm, bright, bright - warm].map(|v: f64| v.clamp(0.82, 1.0)),
        stains: [h, e, unit(residual)],
        amounts,
        knots: [QUANTILES; 3],
    };
    let ranges = Ranges { residual: (0.7, 0.7), ..Ranges::exactly(1.0) };
    Transform { gamma: [gamma; 3], ..Transform::beer_lambert(from, &to, &ranges, rng) }
}

/// Computes ΔE*ab of each pixel of sRGB pictures in 0..1, `[B, 3, H, W]` → `[B, H, W]`.
pub fn delta_e(a: &Tensor, b: &Tensor) -> Tensor {
    let difference = cielab(a) - cielab(b);
    difference.square().sum_dim_intlist(1, false, Kind::Float).sqrt()
}

/// Computes the PSNR of each picture in dB, on 8 bits: `[B, 3, H, W]` in 0..1 → `[B]`.
pub fn psnr(a: &Tensor, b: &Tensor) -> Tensor {
    let levels = |x: &Tensor| (x.clamp(0.0, 1.0) * 255.0).round() / 255.0;
    let error = (levels(a) - levels(b)).square().mean_dim([1, 2, 3].as_slice(), false, Kind::Float);
    error.clamp_min(1e-9).log10() * -10.0
}

/// Converts sRGB in 0..1 to CIE L*a*b* (D65).
fn cielab(pixels: &Tensor) -> Tensor {
    let x = pixels.clamp(0.0, 1.0);
    let linear =
        ((&x + 0.055) / 1.055).pow_tensor_scalar(2.4).where_self(&x.gt(0.04045), &(&x / 12.92));
    let matrix = Tensor::from_slice(&XYZ).view([3, 3]).to_device(x.device());
    let xyz = Tensor::einsum("dc,bchw->bdhw", &[&matrix, &linear], None::<i64>);
    let root = xyz.clamp_min(1e-9).pow_tensor_scalar(1.0 / 3.0);
    let f = root.where_self(&xyz.gt(0.008_856), &(&xyz * 7.787 + 16.0 / 116.0));
    let [x, y, z] = [0, 1, 2].map(|c| f.narrow(1, c, 1));
    Tensor::cat(&[&y * 116.0 - 16.0, (x - &y) * 500.0, (y - z) * 200.0], 1)
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng;
    use tch::Device;

    use super::*;

    fn colour(rgb: [f32; 3]) -> Tensor {
        Tensor::from_slice(&rgb).view([1, 3, 1, 1])
    }

    #[test]
    fn delta_e_is_that_of_published_colours() {
        // L*a*b* of sRGB red is 53.24, 80.09, 67.20; of green 87.73, −86.18, 83.18 (D65, 2°).
        let found =
            delta_e(&colour([1.0, 0.0, 0.0]), &colour([0.0, 1.0, 0.0])).double_value(&[0, 0, 0]);
        let wanted = (34.49f64.powi(2) + 166.27f64.powi(2) + 15.98f64.powi(2)).sqrt();
        assert!((found - wanted).abs() < 0.2, "{found}, and not {wanted}");
        let grey = delta_e(&colour([1.0; 3]), &colour([0.0; 3])).double_value(&[0, 0, 0]);
        assert!((grey - 100.0).abs() < 0.1, "{grey}");
    }

    #[test]
    fn psnr_of_one_level_everywhere_is_that_of_one_level() {
        let a = Tensor::full([2, 3, 4, 4], 100.0 / 255.0, (Kind::Float, Device::Cpu));
        let found = psnr(&a, &(&a + 1.0 / 255.0));
        assert!((found.double_value(&[1]) - 48.13).abs() < 0.01);
    }

    #[test]
    fn what_is_unseen_has_another_white_and_other_stains() {
        let (h, e) = (unit([0.6, 0.7, 0.4]), unit([0.2, 0.9, 0.3]));
        let from = FieldStain {
            white: [0.95; 3],
            stains: [h, e, unit([-0.15, -0.1, 0.4])],
            amounts: [1.0; 2],
            knots: [QUANTILES; 3],
        };
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let drawn = unseen(&from, &mut rng);
        assert_ne!(drawn, unseen(&from, &mut rng));
        assert_eq!(drawn.white, from.white);
        assert_ne!(drawn.new_white, from.white);
    }
}
