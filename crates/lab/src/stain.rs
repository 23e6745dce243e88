//! Stain transforms on batches: they change the colours of tiles and keep the structure. The cross
//! recipe uses them in place of the same tissue on another slide.
//!
//! Every function takes standardised tiles, f32 `[B, C, H, W]`, and returns the same shape. None
//! draws random numbers; the recipe passes them. `other` names another tile of the batch for each
//! tile, i64 `[B]`.

use tch::{Kind, Tensor};

use restain_method::Normalisation;

/// Quantiles that [`quantile_matched`] maps exactly.
const KNOTS: usize = 9;
/// Largest slope beyond the outermost quantiles; a steeper one would amplify the noise of a flat
/// tile.
const STEEPEST: f64 = 2.0;
/// Smallest distance of two quantiles, in standard deviations: about one grey level.
const NARROWEST: f64 = 0.02;
/// Ruifrok and Johnston 2001: optical densities (rows: R, G, B) of haematoxylin, eosin and the
/// residual, each of length 1.
const HED: [f32; 9] = [0.650, 0.072, 0.268, 0.704, 0.990, 0.570, 0.286, 0.105, 0.776];

fn means(tiles: &Tensor) -> Tensor {
    tiles.mean_dim([2, 3].as_slice(), true, Kind::Float)
}

/// `[B, C]` → `[B, C, 1, 1]`.
fn channels(values: &Tensor) -> Tensor {
    values.unsqueeze(-1).unsqueeze(-1)
}

/// Gives each tile the per-channel mean and standard deviation of its other tile.
pub fn color_matched(tiles: &Tensor, other: &Tensor) -> Tensor {
    let mean = means(tiles);
    let deviation = tiles.std_dim([2, 3].as_slice(), false, true) + 1e-3;
    // A blank tile has no contrast to match: unbounded gain would only amplify its noise.
    let gain = (deviation.index_select(0, other) / &deviation).clamp(0.25, 4.0);
    (tiles - &mean) * gain + mean.index_select(0, other)
}

/// Applies [`color_matched`], multiplies the contrast by 1 + 0.15·`gain` and adds 0.2·`offset`.
/// `gain` and `offset` are standard normal, f32 `[B, C]`.
pub fn stain_shift(tiles: &Tensor, other: &Tensor, gain: &Tensor, offset: &Tensor) -> Tensor {
    let mean = means(tiles).index_select(0, other);
    (color_matched(tiles, other) - &mean) * (channels(gain) * 0.15 + 1.0)
        + mean
        + channels(offset) * 0.2
}

/// Matches colours, and corrects coarse structure towards the other tile's quantiles.
///
/// Computes C + `share` · blur(Q − C), where C is [`color_matched`] and Q is [`quantile_matched`].
/// Matching mean and deviation keeps the shape of a tile's histogram, which is wrong for tiles with
/// much background. Matching quantiles corrects the shape, but distorts fine structure. Blurring
/// the correction with a Gaussian of `sigma` pixels keeps the edges of nuclei.
pub fn toned(tiles: &Tensor, other: &Tensor, share: f64, sigma: f64) -> Tensor {
    let matched = color_matched(tiles, other);
    let correction = quantile_matched(tiles, other) - &matched;
    matched + blur(&correction, sigma) * share
}

/// Applies [`toned`] to 8-bit pixels: `tile` gets the tones of `reference`. Both, and the result,
/// are u8 `[side, side, 3]`.
///
/// # Panics
/// If the two have different sizes or are not square.
pub fn toned_pixels(tile: &[u8], reference: &[u8], share: f64, sigma: f64) -> Vec<u8> {
    let side = ((tile.len() / 3) as f64).sqrt() as i64;
    let levels = Tensor::from_slice(&[tile, reference].concat())
        .to_kind(Kind::Float)
        .view([2, side, side, 3])
        .permute([0, 3, 1, 2]);
    // The standard deviation of tissue is about a quarter of the range.
    let standardised = (levels / 255.0 - 0.5) * 4.0;
    let (own, other) = (standardised.contiguous(), Tensor::from_slice(&[1i64, 0]));
    let made = toned(&own, &other, share, sigma).get(0).permute([1, 2, 0]);
    let levels = ((made / 4.0 + 0.5) * 255.0).round().clamp(0.0, 255.0).to_kind(Kind::Uint8);
    Vec::try_from(levels.contiguous().view(-1)).expect("a tile of bytes")
}

/// Maps each channel piecewise linearly, so that its quantiles become the other tile's.
pub fn quantile_matched(tiles: &Tensor, other: &Tensor) -> Tensor {
    let (batch, colors, height, width) = tiles.size4().expect("[B, C, H, W]");
    let pixels = height * width;
    let places: Vec<i64> = (0..KNOTS)
        .map(|k| ((k as f64 + 0.5) / KNOTS as f64 * (pixels - 1) as f64).round() as i64)
        .collect();
    let places = Tensor::from_slice(&places).to_device(tiles.device());
    let (sorted, _) = tiles.detach().reshape([batch, colors, pixels]).sort(2, false);
    let from = sorted.index_select(2, &places);
    let to = from.index_select(0, other);
    // The knots of a saturated tile coincide; moving them apart slightly avoids a division by zero.
    let from = from + Tensor::arange(KNOTS as i64, (Kind::Float, tiles.device())) * 1e-3;
    let knot = |of: &Tensor, k: usize| of.narrow(2, k as i64, 1).unsqueeze(-1);
    let outside =
        |k: usize| (rise(&to, k) / rise(&from, k).clamp_min(NARROWEST)).clamp_max(STEEPEST);
    let mut mapped = knot(&to, 0)
        + (tiles - knot(&from, 0)).clamp_max(0.0) * outside(0)
        + (tiles - knot(&from, KNOTS - 1)).clamp_min(0.0) * outside(KNOTS - 2);
    for k in 0..KNOTS - 1 {
        let (run, slope) = (rise(&from, k), rise(&to, k) / rise(&from, k));
        mapped += (tiles - knot(&from, k)).clamp_min(0.0).minimum(&run) * slope;
    }
    mapped
}

/// Returns knot k + 1 minus knot k, `[B, C, KNOTS]` → `[B, C, 1, 1]`.
fn rise(knots: &Tensor, k: usize) -> Tensor {
    (knots.narrow(2, k as i64 + 1, 1) - knots.narrow(2, k as i64, 1)).unsqueeze(-1)
}

/// Blurs with a Gaussian of `sigma` pixels and replicated borders; 0 changes nothing.
pub fn blur(tiles: &Tensor, sigma: f64) -> Tensor {
    if sigma <= 0.0 {
        return tiles.shallow_clone();
    }
    let colors = tiles.size()[1];
    let reach = ((3.0 * sigma).ceil() as i64).min(tiles.size()[2] - 1);
    let offsets = Tensor::arange_start(-reach, reach + 1, (Kind::Float, tiles.device()));
    let taps = (offsets.square() / (-2.0 * sigma * sigma)).exp();
    let taps = &taps / taps.sum(Kind::Float);
    let side = 2 * reach + 1;
    let along = |x: &Tensor, shape: [i64; 2], pad: [i64; 4]| {
        let kernel =
            taps.view([1, 1, shape[0], shape[1]]).expand([colors, 1, shape[0], shape[1]], false);
        x.pad(pad, "replicate", None).conv2d(&kernel, None::<Tensor>, 1, 0, 1, colors)
    };
    along(&along(tiles, [1, side], [reach, reach, 0, 0]), [side, 1], [0, 0, reach, reach])
}

/// Multiplies the amounts of haematoxylin, eosin and residual by 1 + 0.2·`gain` and adds
/// 0.05·`offset` (Tellez et al. 2018). `gain` and `offset` are standard normal, f32 `[B, 3]`.
pub fn density_jitter(
    tiles: &Tensor,
    normalisation: &Normalisation,
    gain: &Tensor,
    offset: &Tensor,
) -> Tensor {
    let stains = Tensor::from_slice(&HED).view([3, 3]).to_device(tiles.device());
    let density = -pixels(tiles, normalisation).clamp_min(1.0 / 255.0).log();
    let amounts = Tensor::einsum("sc,bchw->bshw", &[stains.inverse(), density], None::<i64>);
    let amounts = amounts * (channels(gain) * 0.2 + 1.0) + channels(offset) * 0.05;
    standardised(
        &(-Tensor::einsum("cs,bshw->bchw", &[stains, amounts], None::<i64>)).exp(),
        normalisation,
    )
}

/// Raises pixels in 0..1 to the power exp(0.15·`exponent`); `exponent` is standard normal, f32 `[B,
/// C]`.
pub fn gamma(tiles: &Tensor, normalisation: &Normalisation, exponent: &Tensor) -> Tensor {
    let raised =
        pixels(tiles, normalisation).clamp(1e-3, 1.0).pow(&(channels(exponent) * 0.15).exp());
    standardised(&raised, normalisation)
}

/// Changes the focus, as another scanner would: interpolates from each tile (`focus` 0) to its blur
/// of one pixel (1). Values below 0 sharpen. `focus` is f32 `[B]`.
pub fn refocused(tiles: &Tensor, focus: &Tensor) -> Tensor {
    tiles + (blur(tiles, 1.0) - tiles) * focus.view([-1, 1, 1, 1])
}

fn constants(normalisation: &Normalisation, like: &Tensor) -> (Tensor, Tensor) {
    let of =
        |values: &[f32; 3]| Tensor::from_slice(values).view([1, 3, 1, 1]).to_device(like.device());
    (of(&normalisation.mean), of(&normalisation.std))
}

/// Converts standardised values to pixels in 0..1, without clamping.
fn pixels(tiles: &Tensor, normalisation: &Normalisation) -> Tensor {
    let (mean, std) = constants(normalisation, tiles);
    tiles * std + mean
}

fn standardised(pixels: &Tensor, normalisation: &Normalisation) -> Tensor {
    let (mean, std) = constants(normalisation, pixels);
    (pixels - mean) / std
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    const NORMALISATION: Normalisation =
        Normalisation { mean: [0.6, 0.4, 0.6], std: [0.2, 0.25, 0.2] };

    /// Two tiles [2, 3, 16, 16], the first skewed.
    fn tiles() -> (Tensor, Tensor) {
        tch::manual_seed(1);
        let skewed =
            Tensor::rand([1, 3, 16, 16], (Kind::Float, Device::Cpu)).pow_tensor_scalar(2.0) - 1.0;
        let plain = Tensor::rand([1, 3, 16, 16], (Kind::Float, Device::Cpu)) * 2.0;
        (Tensor::cat(&[skewed, plain], 0), Tensor::from_slice(&[1i64, 0]))
    }

    fn farthest(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).abs().max().double_value(&[])
    }

    fn quantiles(tiles: &Tensor, tile: i64) -> Vec<f64> {
        let (sorted, _) = tiles.get(tile).get(0).reshape([-1]).sort(0, false);
        [14, 71, 128, 184, 241].iter().map(|&i| sorted.double_value(&[i])).collect()
    }

    #[test]
    fn quantile_matching_takes_quantiles_to_quantiles_and_keeps_the_order_of_pixels() {
        let (x, other) = tiles();
        let mapped = quantile_matched(&x, &other);
        for (found, wanted) in quantiles(&mapped, 0).into_iter().zip(quantiles(&x, 1)) {
            assert!((found - wanted).abs() < 0.1, "{found}, wanted {wanted}");
        }
        let order = |t: &Tensor| {
            Vec::<i64>::try_from(t.get(0).get(0).reshape([-1]).argsort(0, false)).unwrap()
        };
        assert_eq!(order(&mapped), order(&x));
    }

    #[test]
    fn a_tile_toned_like_itself_is_itself_and_a_blank_one_stays_finite() {
        let (x, _) = tiles();
        let own = Tensor::from_slice(&[0i64, 1]);
        assert!(farthest(&toned(&x, &own, 1.0, 1.5), &x) < 0.02);
        let blank = Tensor::cat(
            &[x.get(0).unsqueeze(0), Tensor::ones([1, 3, 16, 16], (Kind::Float, Device::Cpu))],
            0,
        );
        let toned = toned(&blank, &Tensor::from_slice(&[1i64, 0]), 1.0, 1.5);
        assert!(toned.abs().max().double_value(&[]) < 10.0);
    }

    #[test]
    fn toning_is_nearer_to_the_other_histogram_than_two_moments_are() {
        let (x, other) = tiles();
        let away = |t: &Tensor| {
            quantiles(t, 0).iter().zip(quantiles(&x, 1)).map(|(a, b)| (a - b).abs()).sum::<f64>()
        };
        assert!(away(&toned(&x, &other, 1.0, 0.5)) < 0.7 * away(&color_matched(&x, &other)));
    }

    #[test]
    fn a_blur_keeps_the_mean_of_a_flat_tile_and_flattens_noise() {
        let (x, _) = tiles();
        let flat = Tensor::ones([1, 3, 16, 16], (Kind::Float, Device::Cpu)) * 0.3;
        assert!(farthest(&blur(&flat, 2.0), &flat) < 1e-5);
        assert!(blur(&x, 2.0).std(true).double_value(&[]) < x.std(true).double_value(&[]));
    }

    #[test]
    fn jitters_of_nothing_change_nothing_and_of_something_do() {
        let x = standardised(
            &(Tensor::rand([2, 3, 16, 16], (Kind::Float, Device::Cpu)) * 0.8 + 0.1),
            &NORMALISATION,
        );
        let (none, some) = (
            Tensor::zeros([2, 3], (Kind::Float, Device::Cpu)),
            Tensor::ones([2, 3], (Kind::Float, Device::Cpu)),
        );
        assert!(farthest(&density_jitter(&x, &NORMALISATION, &none, &none), &x) < 1e-4);
        assert!(farthest(&density_jitter(&x, &NORMALISATION, &some, &none), &x) > 0.05);
        assert!(farthest(&gamma(&x, &NORMALISATION, &none), &x) < 1e-4);
        assert!(farthest(&gamma(&x, &NORMALISATION, &some), &x) > 0.05);
        assert!(farthest(&refocused(&x, &none.select(1, 0)), &x) < 1e-6);
        assert!(farthest(&refocused(&x, &some.select(1, 0)), &x) > 0.05);
    }
}
