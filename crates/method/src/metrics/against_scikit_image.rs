//! Figures of scikit-image 0.26's `structural_similarity`, `peak_signal_noise_ratio`, SciPy's
//! `wasserstein_distance` and NumPy's `linalg.svd` for pictures that a formula makes.

use super::*;
use crate::geometry::GeometrySpec;
use crate::{Geometry, Normalisation, PixelOrder};

fn picture(height: usize, width: usize, of: impl Fn(usize, usize, usize) -> usize) -> Vec<u8> {
    (0..height * width * 3).map(|i| (of(i / 3 / width, i / 3 % width, i % 3) % 256) as u8).collect()
}

/// Two pictures, 24 high and 30 wide.
fn pair() -> (Vec<u8>, Vec<u8>) {
    let a = picture(24, 30, |y, x, c| x * 7 + y * 13 + c * 40 + (x * y) % 17 * 3);
    let b = picture(24, 30, |y, x, c| {
        usize::from(a[(y * 30 + x) * 3 + c]) * 3 / 4 + (x * 5 + y * 3 + c) % 23 * 2
    });
    (a, b)
}

#[test]
fn ssim_is_theirs() {
    let (a, b) = pair();
    let negative: Vec<u8> = a.iter().map(|v| 255 - v).collect();
    assert!((ssim(&a, &b, 30, 24) - 0.878_000_798_235_630_7).abs() < 1e-9);
    assert!((ssim(&a, &negative, 30, 24) + 0.720_350_238_283_311_6).abs() < 1e-9);
    assert_eq!(ssim(&a, &a, 30, 24), 1.0);
    assert!(ssim(&[0; 300], &[0; 300], 10, 10).is_nan(), "no window fits");
}

#[test]
fn psnr_and_wasserstein_are_theirs() {
    let (a, b) = pair();
    assert!((psnr(&a, &b) - 20.162_254_020_236_887).abs() < 1e-9);
    assert!((wasserstein(&a, &b) - 16.948_148_148_148_146).abs() < 1e-9);
}

fn ceiling_of(rank: usize, kind: Ceiling) -> f64 {
    ceiling_with(false, rank, kind)
}

fn ceiling_with(style_bias: bool, rank: usize, kind: Ceiling) -> f64 {
    let spec = GeometrySpec {
        image_size: 8,
        in_channels: 3,
        patch_size: 4,
        embed_dim: 24 * rank,
        depth: 1,
        num_heads: 1,
        mlp_ratio: 4.0,
        style_bias,
    };
    let normalisation = Normalisation::new([0.5, 0.4, 0.6], [0.25, 0.2, 0.3]).unwrap();
    rank_ceiling_psnr(
        &tile(),
        &Geometry::new(spec).unwrap(),
        PixelOrder::Planar,
        &normalisation,
        kind,
    )
}

fn tile() -> Vec<u8> {
    picture(8, 8, |y, x, c| x * 31 + y * 17 + c * 40 + (x * y) % 5 * 20)
}

#[test]
fn rank_ceilings_are_those_of_a_truncated_svd() {
    let other: Vec<u8> = tile().iter().map(|v| ((255 - usize::from(*v)) * 3 / 4) as u8).collect();
    assert!((ceiling_of(1, Ceiling::PerPatch) - 14.224_349_903_846_008).abs() < 1e-3);
    assert!((ceiling_of(1, Ceiling::Shared) - 12.408_902_974_839_062).abs() < 1e-3);
    assert!(
        (ceiling_of(1, Ceiling::Foreign { tile: &other, patch: 2 }) - 11.700_772_225_674_015).abs()
            < 1e-3
    );
}

/// Those of NumPy with the mean row taken away before the decomposition and added afterwards.
#[test]
fn with_a_style_bias_the_mean_row_costs_no_rank() {
    let other: Vec<u8> = tile().iter().map(|v| ((255 - usize::from(*v)) * 3 / 4) as u8).collect();
    let found = [
        ceiling_with(true, 1, Ceiling::PerPatch),
        ceiling_with(true, 1, Ceiling::Shared),
        ceiling_with(true, 1, Ceiling::Foreign { tile: &other, patch: 2 }),
    ];
    let expected = [18.975_376_312_778, 13.151_448_064_309_385, 9.660_529_683_008_155];
    for (found, expected) in found.into_iter().zip(expected) {
        assert!((found - expected).abs() < 1e-3, "{found} is not {expected}");
    }
    assert!(found[1] > ceiling_of(1, Ceiling::Shared));
}

#[test]
fn rank_ceilings_rise_with_the_rank_and_fall_with_what_is_shared() {
    let (tile, mut below) = (tile(), 0.0);
    for rank in 1..4 {
        let ceilings =
            [Ceiling::Foreign { tile: &tile, patch: 1 }, Ceiling::Shared, Ceiling::PerPatch]
                .map(|kind| ceiling_of(rank, kind));
        assert!(
            ceilings[0] <= ceilings[1] && ceilings[1] <= ceilings[2] && ceilings[1] > below,
            "rank {rank}: {ceilings:?}"
        );
        below = ceilings[1];
    }
    assert_eq!(ceiling_of(4, Ceiling::Shared), f64::INFINITY, "full rank");
}
