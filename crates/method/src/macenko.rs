//! Stain normalisation by Macenko, Niethammer, Marron, Borland, Woosley, Guan, Schmitt, Thomas
//! 2009: it estimates the two stains of a tile in the plane of its optical densities, scales their
//! concentrations and recombines them with the stain vectors of the target.
//!
//! A tile in which two stains cannot be separated, such as a white one, has no stain matrix: it is
//! returned unchanged, and as a target it changes nothing. The part of a pixel outside the plane of
//! its two stains is dropped, as in the paper, so that a tile normalised to itself is close to
//! itself but not equal.

use super::normalise::to_byte;

/// β of the paper: a pixel counts where every channel is at least this dense, −ln(pixel/255).
const TRANSPARENT: f64 = 0.15;
/// α of the paper, in percent: robust extremes of the angle.
const EXTREME: f64 = 1.0;
/// The robust maximum of a concentration, in percent.
const MAXIMUM: f64 = 99.0;
/// Pixels in 100 that must count before stains are looked for.
const ENOUGH_PIXELS: usize = 1;
/// |sin| of the angle between two stains, below which they are one.
const ONE_STAIN: f64 = 0.02;

/// The stain matrix of some pixels, and the robust maximum of each stain's concentration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stain {
    /// Unit densities in red, green and blue of haematoxylin, then eosin.
    pub vectors: [[f64; 3]; 2],
    /// 99th percentile of each one's concentration.
    pub maxima: [f64; 2],
}

impl Stain {
    /// Estimates the stains of `[.., 3] u8`; `None` when two stains cannot be separated.
    pub fn of(tile: &[u8]) -> Option<Self> {
        let densities = densities(tile);
        let tissue: Vec<[f64; 3]> =
            densities.iter().copied().filter(|od| od.iter().all(|&od| od >= TRANSPARENT)).collect();
        if tissue.len() < 2 || tissue.len() * 100 < densities.len() * ENOUGH_PIXELS {
            return None;
        }
        let plane = principal_plane(&tissue);
        let mut angles: Vec<f64> =
            tissue.iter().map(|od| dot(od, &plane[1]).atan2(dot(od, &plane[0]))).collect();
        angles.sort_by(f64::total_cmp);
        let at = |percent: f64| {
            let (sin, cos) = percentile(&angles, percent).sin_cos();
            std::array::from_fn(|c| plane[0][c] * cos + plane[1][c] * sin)
        };
        let [low, high]: [[f64; 3]; 2] = [at(EXTREME), at(100.0 - EXTREME)];
        // Haematoxylin takes more red than eosin does.
        let vectors = if low[0] > high[0] { [low, high] } else { [high, low] };
        let unmixing = unmixing(&vectors)?;
        let maxima = [0, 1].map(|stain| {
            let mut amounts: Vec<f64> =
                densities.iter().map(|od| dot(od, &unmixing[stain])).collect();
            amounts.sort_by(f64::total_cmp);
            percentile(&amounts, MAXIMUM)
        });
        maxima.iter().all(|&maximum| maximum > 0.0).then_some(Self { vectors, maxima })
    }
}

/// Normalises `tile`, whose stains are `own`, to the stains and concentrations of `target`; copies
/// it when either is `None`.
///
/// # Shapes
/// `tile` and `out` `[.., 3] u8`.
///
/// # Panics
/// When the lengths differ.
pub fn macenko(tile: &[u8], own: Option<&Stain>, target: Option<&Stain>, out: &mut [u8]) {
    assert_eq!(tile.len(), out.len(), "tiles of one size");
    let (Some(own), Some(target)) = (own, target) else { return out.copy_from_slice(tile) };
    let unmixing = unmixing(&own.vectors).expect("vectors of a Stain are two");
    let gain: [f64; 2] = std::array::from_fn(|stain| target.maxima[stain] / own.maxima[stain]);
    for (density, out) in densities(tile).iter().zip(out.as_chunks_mut::<3>().0) {
        let amounts: [f64; 2] =
            std::array::from_fn(|stain| dot(density, &unmixing[stain]) * gain[stain]);
        let made = |c: usize| amounts[0] * target.vectors[0][c] + amounts[1] * target.vectors[1][c];
        *out = std::array::from_fn(|c| to_byte((255.0 * (-made(c)).exp()) as f32));
    }
}

/// Optical densities −ln(pixel/255). Black has none; half a level is as dark as eight bits can be.
fn densities(tile: &[u8]) -> Vec<[f64; 3]> {
    tile.as_chunks::<3>()
        .0
        .iter()
        .map(|pixel| pixel.map(|level| -(f64::from(level).max(0.5) / 255.0).ln()))
        .collect()
}

/// The two directions of largest variance, each pointing to more red density.
pub(crate) fn principal_plane(points: &[[f64; 3]]) -> [[f64; 3]; 2] {
    let count = points.len() as f64;
    let mean: [f64; 3] = std::array::from_fn(|c| points.iter().map(|p| p[c]).sum::<f64>() / count);
    let covariance = std::array::from_fn(|r| {
        std::array::from_fn(|c| {
            points.iter().map(|p| (p[r] - mean[r]) * (p[c] - mean[c])).sum::<f64>() / (count - 1.0)
        })
    });
    let [first, second, _] = eigenvectors(covariance);
    [first, second].map(|v| if v[0] < 0.0 { v.map(|x| -x) } else { v })
}

/// Of a symmetric matrix, the largest eigenvalue's first (Jacobi 1846).
fn eigenvectors(mut m: [[f64; 3]; 3]) -> [[f64; 3]; 3] {
    let mut rows: [[f64; 3]; 3] =
        std::array::from_fn(|r| std::array::from_fn(|c| f64::from(u8::from(r == c))));
    // Convergence is quadratic; ten sweeps are plenty for three numbers.
    for (p, q) in std::iter::repeat_n([(0, 1), (0, 2), (1, 2)], 10).flatten() {
        if m[p][q].abs() < f64::MIN_POSITIVE {
            continue;
        }
        let zeta = (m[q][q] - m[p][p]) / (2.0 * m[p][q]);
        let tangent = zeta.signum() / (zeta.abs() + (1.0 + zeta * zeta).sqrt());
        let cosine = 1.0 / (1.0 + tangent * tangent).sqrt();
        let sine = cosine * tangent;
        let turn = |a: f64, b: f64| (cosine * a - sine * b, sine * a + cosine * b);
        for row in &mut m {
            (row[p], row[q]) = turn(row[p], row[q]);
        }
        for c in 0..3 {
            (m[p][c], m[q][c]) = turn(m[p][c], m[q][c]);
            (rows[p][c], rows[q][c]) = turn(rows[p][c], rows[q][c]);
        }
    }
    let mut order = [0, 1, 2];
    order.sort_by(|&a, &b| m[b][b].total_cmp(&m[a][a]));
    order.map(|i| rows[i])
}

/// The least-squares inverse of two stain vectors: densities · rows = concentrations.
fn unmixing([h, e]: &[[f64; 3]; 2]) -> Option<[[f64; 3]; 2]> {
    let (hh, he, ee) = (dot(h, h), dot(h, e), dot(e, e));
    let determinant = hh * ee - he * he;
    // Both are unit vectors: this is sin² of the angle between them.
    (determinant > ONE_STAIN * ONE_STAIN).then(|| {
        [
            std::array::from_fn(|c| (ee * h[c] - he * e[c]) / determinant),
            std::array::from_fn(|c| (hh * e[c] - he * h[c]) / determinant),
        ]
    })
}

pub(crate) fn dot(a: &[f64; 3], b: &[f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

/// Of sorted values, between neighbours in proportion, as NumPy does by default.
pub(crate) fn percentile(sorted: &[f64], percent: f64) -> f64 {
    let at = percent / 100.0 * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    below + (above - below) * at.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pixels that are made of two stains, in amounts that a formula makes.
    fn stained(h: [f64; 3], e: [f64; 3], scale: f64) -> Vec<u8> {
        let amounts =
            (0..900u32).map(|i| (f64::from(i * i % 31) / 20.0, f64::from((i * 7 + 3) % 29) / 20.0));
        let pixel = |(a, b): (f64, f64)| {
            [0, 1, 2].map(|c| (255.0 * (-scale * (a * h[c] + b * e[c])).exp()).round() as u8)
        };
        amounts.flat_map(pixel).collect()
    }

    const H: [f64; 3] = [0.65, 0.70, 0.29];
    const E: [f64; 3] = [0.07, 0.99, 0.11];

    #[test]
    fn a_tile_of_two_stains_takes_the_targets_stains() {
        let (tile, target) =
            (stained(H, E, 1.0), stained([0.55, 0.75, 0.36], [0.2, 0.9, 0.38], 0.8));
        let mut out = vec![0; tile.len()];
        macenko(&tile, Stain::of(&tile).as_ref(), Stain::of(&target).as_ref(), &mut out);
        let off = |a: &[u8], b: &[u8]| {
            a.iter().zip(b).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / a.len() as f64
        };
        assert!(
            off(&out, &target) < 0.15 * off(&tile, &target),
            "{} of {}",
            off(&out, &target),
            off(&tile, &target)
        );
        let mut same = vec![0; tile.len()];
        macenko(&tile, Stain::of(&tile).as_ref(), Stain::of(&tile).as_ref(), &mut same);
        assert!(off(&same, &tile) < 0.5, "{}", off(&same, &tile));
    }

    #[test]
    fn where_no_stains_can_be_told_apart_a_tile_stays_as_it_is() {
        let stain = Stain::of(&stained(H, E, 1.0));
        let one_stain: Vec<u8> = (0..100)
            .flat_map(|i| {
                [0, 1, 2].map(|c| (255.0 * (-f64::from(i) / 50.0 * H[c]).exp()).round() as u8)
            })
            .collect();
        for tile in
            [vec![255; 300], vec![244; 300], vec![0; 300], vec![120; 300], vec![3; 3], one_stain]
        {
            let mut out = vec![9; tile.len()];
            macenko(&tile, Stain::of(&tile).as_ref(), stain.as_ref(), &mut out);
            assert_eq!(out, tile);
            macenko(&tile, stain.as_ref(), Stain::of(&tile).as_ref(), &mut out);
            assert_eq!(out, tile);
        }
    }
}
