//! Stains and distances held against what NumPy, SciPy and scikit-image make of the same pictures.
//! The figures are those that `tools/reference_figures.py` prints.

use super::macenko::{Stain, macenko};
use super::metrics::{Features, dice, frechet_distance, haematoxylin_mask, kernel_distance};
use super::reinhard::{LabStats, reinhard};

/// Two stains in amounts that a formula makes, 24 high and 30 wide.
fn stained(amounts: [f64; 2], offset: usize) -> Vec<u8> {
    let pixel = |i: usize| {
        let (y, x) = (i / 30, i % 30);
        let nuclei = ((x * 7 + y * 13 + (x * y) % 17 + offset) % 31) as f64 / 31.0 * amounts[0];
        let stroma = ((x * 5 + y * 3 + (x * y) % 11 + 2 * offset) % 23) as f64 / 23.0 * amounts[1];
        [(0.65, 0.07), (0.70, 0.99), (0.29, 0.11)]
            .map(|(h, e)| (250.0 * (-(nuclei * h + stroma * e)).exp() + 0.5).floor() as u8)
    };
    (0..720).flat_map(pixel).collect()
}

fn pair() -> (Vec<u8>, Vec<u8>) {
    (stained([1.6, 0.7], 0), stained([1.0, 1.3], 5))
}

/// Some pixels, and the mean.
fn digest(tile: &[u8]) -> ([[u8; 3]; 5], f64) {
    let pixels = tile.as_chunks::<3>().0;
    (
        [0, 1, 100, 333, 719].map(|i| pixels[i]),
        tile.iter().map(|&level| f64::from(level)).sum::<f64>() / tile.len() as f64,
    )
}

/// Pixels to a level, as arithmetic may round a half either way; the mean to a hundredth of one.
fn assert_like(tile: &[u8], pixels: [[u8; 3]; 5], mean: f64) {
    let (own, own_mean) = digest(tile);
    assert!(
        own.as_flattened().iter().zip(pixels.as_flattened()).all(|(a, b)| a.abs_diff(*b) <= 1),
        "{own:?}"
    );
    assert!((own_mean - mean).abs() < 0.01, "{own_mean}");
}

#[test]
fn the_pictures_are_the_same() {
    let (tile, target) = pair();
    let pixels = [[250, 250, 250], [196, 167, 221], [90, 47, 151], [108, 95, 171], [173, 114, 205]];
    assert_eq!(digest(&tile), (pixels, 155.42268518518517));
    let pixels =
        [[216, 128, 224], [183, 82, 204], [227, 149, 231], [127, 65, 175], [182, 168, 216]];
    assert_eq!(digest(&target), (pixels, 163.56851851851852));
}

#[test]
fn reinhards_colours_are_numpys() {
    let (tile, target) = pair();
    let mut out = vec![0; tile.len()];
    reinhard(&tile, &LabStats::of(&tile), &LabStats::of(&target), &mut out);
    assert_like(
        &out,
        [[243, 223, 238], [212, 152, 221], [124, 45, 174], [120, 99, 185], [211, 100, 213]],
        163.782_870_370,
    );
}

#[test]
fn macenkos_stains_and_colours_are_numpys() {
    let (tile, target) = pair();
    let stain = Stain::of(&tile).unwrap();
    let vectors = [
        [0.653_570_813, 0.698_698_453, 0.290_973_647],
        [0.293_197_677, 0.938_195_948, 0.183_911_625],
    ];
    let close =
        |own: &[f64], theirs: &[f64]| own.iter().zip(theirs).all(|(a, b)| (a - b).abs() < 1e-8);
    assert!(close(stain.vectors.as_flattened(), vectors.as_flattened()), "{stain:?}");
    assert!(close(&stain.maxima, &[1.467_315_035, 0.981_327_508]), "{stain:?}");
    let mut out = vec![0; tile.len()];
    macenko(&tile, Some(&stain), Stain::of(&target).as_ref(), &mut out);
    assert_like(
        &out,
        [[251, 253, 253], [214, 164, 231], [129, 42, 172], [146, 125, 197], [197, 94, 214]],
        167.293_518_519,
    );
}

#[test]
fn haematoxylin_is_scikit_images() {
    let (tile, target) = pair();
    let masks = [&tile, &target].map(|tile| haematoxylin_mask(tile));
    assert_eq!(
        masks.each_ref().map(|mask| mask.iter().filter(|marked| **marked).count()),
        [368, 327]
    );
    assert!((dice(&masks[0], &masks[1]) - 0.713_669_064_748).abs() < 1e-9);
}

/// [rows, 6]
fn features(rows: usize, offset: usize) -> Vec<f32> {
    (0..rows * 6)
        .map(|i| {
            (((i * i * 5 + i * 11 + offset * 17) % 23) as f64 / 9.0 + offset as f64 * 0.5) as f32
        })
        .collect()
}

#[test]
fn distances_of_features_are_scipys_with_fewer_rows_than_columns_and_with_more() {
    let sets = [(9, 0), (7, 1), (40, 2), (50, 0)].map(|(rows, offset)| features(rows, offset));
    let [a, b, wide, tall] = sets.each_ref().map(|set| Features::new(set, 6));
    assert!(
        (frechet_distance(a, b) - 4.859_647_102_849).abs() < 1e-6,
        "{}",
        frechet_distance(a, b)
    );
    assert!((kernel_distance(a, b) - 17.016_901_475_168).abs() < 1e-6, "{}", kernel_distance(a, b));
    assert!(
        (frechet_distance(wide, tall) - 3.822_189_278_514).abs() < 1e-6,
        "{}",
        frechet_distance(wide, tall)
    );
}
