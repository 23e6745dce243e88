//! The rank ceiling: the best PSNR that any encoder of a geometry could reach on a tile.
//!
//! Every channel of a patch is a product of rank L, so the best approximation is a truncated
//! singular value decomposition (Eckart, Young 1936). Reports show it beside every PSNR: the
//! distance to it is what a better model could gain.

use super::super::{Geometry, Normalisation, PixelOrder, patches};
use super::psnr;

/// The basis `[L, P]` that the rows of a patch's channel are combined from.
#[derive(Clone, Copy, Debug)]
pub enum Ceiling<'a> {
    /// Every patch has its own: aligned characteristics, as in a reconstruction.
    PerPatch,
    /// All patches share the best one: a broadcast style made for this very tile.
    Shared,
    /// The best one of a patch of another tile: a broadcast style taken from one token.
    Foreign {
        /// The other tile, `[H, W, 3] u8`.
        tile: &'a [u8],
        /// The patch, row by row, from 0.
        patch: usize,
    },
}

/// Returns the 8-bit PSNR, in dB, of the best approximation of `tile` at the geometry's rank.
/// Infinite when L ≥ P.
///
/// # Shapes
/// `tile` `[H, W, 3] u8`.
///
/// # Panics
/// When a length does not fit the geometry, or the patch is not less than N.
pub fn rank_ceiling_psnr(
    tile: &[u8],
    geometry: &Geometry,
    order: PixelOrder,
    normalisation: &Normalisation,
    kind: Ceiling,
) -> f64 {
    let (size, rank) = (geometry.patch_size(), geometry.rank());
    if rank >= size {
        return f64::INFINITY;
    }
    let fit = |rows: &[f64]| Fit::to(rows, size, rank, geometry.style_bias());
    let mut rows = product_rows(tile, geometry, order, normalisation);
    let plane = size * size;
    match kind {
        Ceiling::PerPatch => {
            for rows in rows.chunks_exact_mut(plane) {
                let fit = fit(rows);
                fit.project(rows);
            }
        }
        Ceiling::Shared => {
            for channel in 0..3 {
                let own: Vec<f64> =
                    rows.chunks_exact(plane).skip(channel).step_by(3).flatten().copied().collect();
                let fit = fit(&own);
                rows.chunks_exact_mut(plane)
                    .skip(channel)
                    .step_by(3)
                    .for_each(|rows| fit.project(rows));
            }
        }
        Ceiling::Foreign { tile, patch } => {
            let foreign = product_rows(tile, geometry, order, normalisation);
            for channel in 0..3 {
                let fit = fit(&foreign[(patch * 3 + channel) * plane..][..plane]);
                rows.chunks_exact_mut(plane)
                    .skip(channel)
                    .step_by(3)
                    .for_each(|rows| fit.project(rows));
            }
        }
    }
    psnr(tile, &pixels(&rows, geometry, order, normalisation))
}

/// Standardised values as the product holds them, `[N, C, P, P]`.
fn product_rows(
    tile: &[u8],
    geometry: &Geometry,
    order: PixelOrder,
    normalisation: &Normalisation,
) -> Vec<f64> {
    let mut values = vec![0.0; tile.len()];
    let mut product = vec![0.0; tile.len()];
    normalisation.to_values(tile, &mut values);
    patches::patchify(order, geometry, &values, &mut product);
    product.into_iter().map(f64::from).collect()
}

fn pixels(
    rows: &[f64],
    geometry: &Geometry,
    order: PixelOrder,
    normalisation: &Normalisation,
) -> Vec<u8> {
    let product: Vec<f32> = rows.iter().map(|v| *v as f32).collect();
    let mut values = vec![0.0; product.len()];
    let mut tile = vec![0; product.len()];
    patches::unpatchify(order, geometry, &product, &mut values);
    normalisation.to_pixels(&values, &mut tile);
    tile
}

/// The `rank` leading right singular vectors of `[rows, size]`, by one-sided Jacobi (Hestenes
/// 1958): rotate pairs of columns until all are orthogonal; their lengths are then the singular
/// values.
fn basis(rows: &[f64], size: usize, rank: usize) -> Vec<Vec<f64>> {
    // Columns of the matrix above, columns of V below, so that one rotation turns both.
    let height = rows.len() / size;
    let mut columns: Vec<Vec<f64>> = (0..size)
        .map(|j| {
            rows.iter()
                .skip(j)
                .step_by(size)
                .copied()
                .chain((0..size).map(|i| f64::from(u8::from(i == j))))
                .collect()
        })
        .collect();
    let dot = |a: &[f64], b: &[f64]| {
        a[..height].iter().zip(&b[..height]).map(|(a, b)| a * b).sum::<f64>()
    };
    // Convergence is quadratic; ten sweeps are plenty for any patch.
    for _sweep in 0..30 {
        let mut rotated = false;
        for j in 1..size {
            for i in 0..j {
                let (left, right) = columns.split_at_mut(j);
                let (a, b) = (&mut left[i], &mut right[0]);
                let (aa, bb, ab) = (dot(a, a), dot(b, b), dot(a, b));
                if ab.abs() <= 1e-12 * (aa * bb).sqrt() {
                    continue;
                }
                rotated = true;
                rotate(a, b, (bb - aa) / (2.0 * ab));
            }
        }
        if !rotated {
            break;
        }
    }
    columns.sort_by(|a, b| dot(b, b).total_cmp(&dot(a, a)));
    columns.into_iter().take(rank).map(|column| column[height..].to_vec()).collect()
}

/// Turns `a` and `b` by the angle whose tangent solves t² + 2ζt − 1 = 0, the smaller one.
fn rotate(a: &mut [f64], b: &mut [f64], zeta: f64) {
    let tangent = zeta.signum() / (zeta.abs() + (1.0 + zeta * zeta).sqrt());
    let cosine = 1.0 / (1.0 + tangent * tangent).sqrt();
    let sine = cosine * tangent;
    for (a, b) in a.iter_mut().zip(b) {
        (*a, *b) = (cosine * *a - sine * *b, sine * *a + cosine * *b);
    }
}

/// What rows of a product can be: a constant row, which is the style bias or zero, and a
/// combination of basis rows.
struct Fit {
    constant: Vec<f64>,
    basis: Vec<Vec<f64>>,
}

impl Fit {
    /// The best constant and basis for `[rows, size]`: with a bias the mean row, and the leading
    /// singular vectors of what is left (Pearson 1901).
    fn to(rows: &[f64], size: usize, rank: usize, bias: bool) -> Self {
        let mut constant = vec![0.0; size];
        if bias {
            let share = size as f64 / rows.len() as f64;
            for row in rows.chunks_exact(size) {
                constant.iter_mut().zip(row).for_each(|(mean, value)| *mean += share * value);
            }
        }
        let rest: Vec<f64> =
            rows.iter().zip(constant.iter().cycle()).map(|(value, mean)| value - mean).collect();
        Self { basis: basis(&rest, size, rank), constant }
    }

    /// Replaces every row `[size]` by the nearest that this fit allows.
    fn project(&self, rows: &mut [f64]) {
        for row in rows.chunks_exact_mut(self.constant.len()) {
            row.iter_mut().zip(&self.constant).for_each(|(v, c)| *v -= c);
            let coefficients: Vec<f64> = self
                .basis
                .iter()
                .map(|axis| axis.iter().zip(&*row).map(|(a, v)| a * v).sum())
                .collect();
            row.copy_from_slice(&self.constant);
            for (coefficient, axis) in coefficients.iter().zip(&self.basis) {
                row.iter_mut().zip(axis).for_each(|(v, a)| *v += coefficient * a);
            }
        }
    }
}
