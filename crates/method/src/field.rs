//! The stain of a field: what a large picture of one slide says about its stain and scanner, apart
//! from the tissue.
//!
//! A single tile cannot say it: its statistics measure what the tile is made of. A field, or many
//! tiles of one slide, has glass to measure the white of the illumination on, and enough tissue for
//! Macenko's two stains. The optical density of a pixel is −ln(pixel/white), so that glass has
//! density 0.

use super::macenko::{dot, percentile, principal_plane};

/// Pixels that are enough to measure a field: more change no digit that matters.
pub const SAMPLE: usize = 60_000;
/// Inner knots of the map between two fields' densities, as quantiles of tissue.
pub const QUANTILES: [f64; 9] = [0.02, 0.1, 0.25, 0.4, 0.55, 0.7, 0.82, 0.92, 0.98];
/// Luminance in 0..1 above which a pixel is glass.
pub const GLASS: f64 = 0.85;
/// Mean luminance in 0..1 below which a patch is tissue.
pub const TISSUE_PATCH: f64 = 0.82;

/// Densest a pixel is in at least one channel, to count for the stains.
const STAINED: f64 = 0.15;
/// Mean density of a pixel above which it counts as tissue.
const TISSUE: f64 = 0.12;
/// Share of a field's pixels that must be glass for its glass to be measured.
const GLASS_SHARE: f64 = 0.01;
/// The brightest pixels, in percent, that stand for glass where a field has none.
const BRIGHTEST: f64 = 99.5;
/// Least white of a field with glass, and of one without, whose brightest pixels are pale tissue.
const LEAST_WHITE: [f64; 2] = [0.85, 0.92];
/// Largest difference between the channels of a white: scanners are balanced, so that the brightest
/// pixels of a field with more colour than this are pale tissue.
const LARGEST_CAST: f64 = 0.04;
/// Least amount of a stain.
const LEAST_AMOUNT: f64 = 0.2;
/// Pixels that must be stained, or two stains are noise.
const ENOUGH: usize = 200;
/// Least |sin| of the angle between two stains.
const ONE_STAIN: f64 = 0.02;
/// Darkest pixel: the density of a black one would be infinite.
const DARKEST: f64 = 1.0 / 255.0;

/// The stain and the scanner of one field or slide.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldStain {
    /// Colour of glass, in 0..1.
    pub white: [f64; 3],
    /// Unit densities in red, green and blue: haematoxylin, eosin, and what is perpendicular to
    /// both.
    pub stains: [[f64; 3]; 3],
    /// 99th percentile of the amounts of haematoxylin and eosin in tissue.
    pub amounts: [f64; 2],
    /// For each channel the [`QUANTILES`] of density in tissue.
    pub knots: [[f64; 9]; 3],
}

impl FieldStain {
    /// Measures pixels of one field, u8 `[.., 3]`. Returns `None` if two stains cannot be
    /// distinguished.
    pub fn of(pixels: &[u8]) -> Option<Self> {
        let pixels: Vec<[f64; 3]> =
            pixels.as_chunks::<3>().0.iter().map(|p| p.map(|v| f64::from(v) / 255.0)).collect();
        if pixels.len() < ENOUGH {
            return None;
        }
        let white = white(&pixels);
        let densities: Vec<[f64; 3]> = pixels.iter().map(|pixel| density(pixel, &white)).collect();
        let stains = stains(&densities)?;
        let unmixing = inverse(&stains)?;
        let tissue: Vec<[f64; 3]> =
            densities.into_iter().filter(|od| od.iter().sum::<f64>() / 3.0 > TISSUE).collect();
        if tissue.len() < ENOUGH {
            return None;
        }
        let amounts = [0, 1].map(|stain| {
            let column: [f64; 3] = std::array::from_fn(|c| unmixing[c][stain]);
            percentile(&sorted(tissue.iter().map(|od| dot(od, &column))), 99.0).max(LEAST_AMOUNT)
        });
        let knots = [0, 1, 2].map(|channel| {
            let of_channel = sorted(tissue.iter().map(|od| od[channel]));
            QUANTILES.map(|quantile| percentile(&of_channel, 100.0 * quantile))
        });
        Some(Self { white, stains, amounts, knots })
    }
}

/// Computes the luminance of a pixel (Rec. 601).
pub fn luminance([red, green, blue]: [f64; 3]) -> f64 {
    0.299 * red + 0.587 * green + 0.114 * blue
}

/// Returns `count` pixels of u8 `[.., 3]` at even distances, or all of them if there are fewer.
pub fn sample(pixels: &[u8], count: usize) -> Vec<u8> {
    let pixels = pixels.as_chunks::<3>().0;
    let count = count.min(pixels.len());
    (0..count).flat_map(|i| pixels[i * pixels.len() / count]).collect()
}

/// Inverts a matrix; returns `None` if its rows nearly lie in a plane.
pub fn inverse(m: &[[f64; 3]; 3]) -> Option<[[f64; 3]; 3]> {
    let [a, b, c] = [cross(&m[1], &m[2]), cross(&m[2], &m[0]), cross(&m[0], &m[1])];
    let determinant = dot(&m[0], &a);
    // The columns of the inverse are the cross products over the determinant.
    (determinant.abs() > ONE_STAIN)
        .then(|| std::array::from_fn(|r| [a[r], b[r], c[r]].map(|entry| entry / determinant)))
}

/// Averages the least coloured quarter of the glass, which leaves out pale tissue; the darker
/// channels are raised to within [`LARGEST_CAST`] of the brightest.
fn white(pixels: &[[f64; 3]]) -> [f64; 3] {
    let luminances = || pixels.iter().map(|&pixel| luminance(pixel));
    let share = luminances().filter(|&l| l > GLASS).count() as f64 / pixels.len() as f64;
    let has_glass = share > GLASS_SHARE;
    let least = if has_glass { GLASS } else { percentile(&sorted(luminances()), BRIGHTEST) };
    let is_bright = |pixel: &&[f64; 3]| {
        let l = luminance(**pixel);
        if has_glass { l > least } else { l >= least }
    };
    let bright: Vec<&[f64; 3]> = pixels.iter().filter(is_bright).collect();
    let smallest = |pixel: &[f64; 3]| pixel.iter().copied().fold(f64::INFINITY, f64::min);
    let quarter = percentile(&sorted(bright.iter().map(|pixel| smallest(pixel))), 75.0);
    let chosen: Vec<_> = bright.into_iter().filter(|pixel| smallest(pixel) >= quarter).collect();
    let floor = LEAST_WHITE[usize::from(!has_glass)];
    let mean: [f64; 3] =
        std::array::from_fn(|c| chosen.iter().map(|p| p[c]).sum::<f64>() / chosen.len() as f64);
    let brightest = mean.iter().copied().fold(floor, f64::max);
    mean.map(|level| level.max(floor).max(brightest - LARGEST_CAST))
}

fn density(pixel: &[f64; 3], white: &[f64; 3]) -> [f64; 3] {
    std::array::from_fn(|c| -(pixel[c].max(DARKEST) / white[c]).ln())
}

/// Returns Macenko's two stains, haematoxylin first, and the direction that is perpendicular to
/// both.
fn stains(densities: &[[f64; 3]]) -> Option<[[f64; 3]; 3]> {
    let stained: Vec<[f64; 3]> =
        densities.iter().copied().filter(|od| od.iter().any(|&d| d > STAINED)).collect();
    if stained.len() < ENOUGH {
        return None;
    }
    let plane = principal_plane(&stained);
    let angles = sorted(stained.iter().map(|od| dot(od, &plane[1]).atan2(dot(od, &plane[0]))));
    let [low, high] = [1.0, 99.0].map(|percent| {
        let (sin, cos) = percentile(&angles, percent).sin_cos();
        unit(std::array::from_fn(|c| (plane[0][c] * cos + plane[1][c] * sin).abs()))
    });
    // Haematoxylin takes more red than eosin does.
    let (h, e) = if low[0] > high[0] { (low, high) } else { (high, low) };
    let residual = cross(&h, &e);
    (dot(&residual, &residual).sqrt() > ONE_STAIN).then(|| [h, e, unit(residual)])
}

fn cross(a: &[f64; 3], b: &[f64; 3]) -> [f64; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

/// Returns a vector of length 1 in the same direction.
pub fn unit(v: [f64; 3]) -> [f64; 3] {
    let length = dot(&v, &v).sqrt();
    v.map(|x| x / length)
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    const H: [f64; 3] = [0.65, 0.70, 0.29];
    const E: [f64; 3] = [0.07, 0.99, 0.11];

    /// A fifth glass of this white, and tissue with amounts of two stains that a formula makes.
    fn field(white: [f64; 3], scale: f64) -> Vec<u8> {
        let (h, e) = (unit(H), unit(E));
        (0..10_000u32)
            .flat_map(|i| {
                let amounts = match i % 5 {
                    0 => [0.0, 0.0],
                    _ => [f64::from(i * i % 31) / 25.0, f64::from((i * 7 + 3) % 29) / 25.0],
                };
                std::array::from_fn::<u8, 3, _>(|c| {
                    let od = scale * (amounts[0] * h[c] + amounts[1] * e[c]);
                    (255.0 * white[c] * (-od).exp()).round() as u8
                })
            })
            .collect()
    }

    fn off(a: &[f64; 3], b: &[f64; 3]) -> f64 {
        a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
    }

    #[test]
    fn a_field_of_two_stains_has_their_vectors_their_amounts_and_the_white_of_its_glass() {
        let white = [0.95, 0.93, 0.96];
        let found = FieldStain::of(&field(white, 1.0)).unwrap();
        assert!(off(&found.white, &white) < 0.005, "{:?}", found.white);
        assert!(off(&found.stains[0], &unit(H)) < 0.03, "{:?}", found.stains);
        assert!(off(&found.stains[1], &unit(E)) < 0.03, "{:?}", found.stains);
        assert!(found.amounts.iter().all(|a| (1.0..1.3).contains(a)), "{:?}", found.amounts);
        let stronger = FieldStain::of(&field(white, 1.5)).unwrap();
        for (one, other) in found.amounts.iter().zip(stronger.amounts) {
            assert!((other / one - 1.5).abs() < 0.1, "{one} and {other}");
        }
        assert!(found.knots.iter().all(|knots| knots.is_sorted()));
    }

    #[test]
    fn the_pale_tissue_of_a_field_without_glass_is_not_its_white() {
        // The glass is covered by pale eosin, whose luminance is that of glass.
        let mut pixels = field([0.98; 3], 1.0).as_chunks::<3>().0.to_vec();
        pixels.iter_mut().step_by(5).for_each(|pixel| *pixel = [248, 214, 240]);
        let white = FieldStain::of(pixels.as_flattened()).unwrap().white;
        let darkest = white.iter().copied().fold(1.0, f64::min);
        assert!(off(&white, &[darkest; 3]) <= LARGEST_CAST + 1e-9, "{white:?}");
    }

    #[test]
    fn a_field_without_two_stains_has_none() {
        let grey: Vec<u8> = (0..3000).flat_map(|i| [(i % 200) as u8 + 20; 3]).collect();
        for field in [vec![245; 30_000], vec![0; 30_000], vec![7; 30], grey] {
            assert_eq!(FieldStain::of(&field), None);
        }
    }

    #[test]
    fn a_sample_is_spread_over_all_pixels_and_never_more_than_there_are() {
        let pixels: Vec<u8> = (0..=255).flat_map(|v| [v; 3]).collect();
        assert_eq!(sample(&pixels, 4), [0, 0, 0, 64, 64, 64, 128, 128, 128, 192, 192, 192]);
        assert_eq!(sample(&pixels, 1000), pixels);
    }

    #[test]
    fn a_matrix_times_its_inverse_is_one() {
        let m = [[0.6, 0.7, 0.3], [0.1, 0.9, 0.2], [0.3, -0.2, 0.8]];
        let inverse = inverse(&m).unwrap();
        for (r, row) in m.iter().enumerate() {
            let column = |c: usize| inverse.map(|row| row[c]);
            for (c, column) in [0, 1, 2].map(column).iter().enumerate() {
                let product: f64 = row.iter().zip(column).map(|(a, b)| a * b).sum();
                assert!((product - f64::from(u8::from(r == c))).abs() < 1e-12);
            }
        }
        assert_eq!(super::inverse(&[[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]), None);
    }
}
