//! Distances between two sets of features: Fréchet distance and kernel distance.
//!
//! Both compare sets of vectors that a network computed from two sets of images. The Fréchet
//! distance (Dowson, Landau 1982; for images Heusel et al. 2017) assumes normal distributions and
//! grows as a set becomes smaller: compare such figures only between sets of one size. The kernel
//! distance (Bińkowski et al. 2018) is unbiased at any size, and may be below 0.

/// Rows of one length: `[n, F]`, row-major.
#[derive(Clone, Copy, Debug)]
pub struct Features<'a> {
    values: &'a [f32],
    width: usize,
}

impl<'a> Features<'a> {
    /// Takes the rows of a matrix `[n, width]`.
    ///
    /// # Panics
    /// When `values` are not whole rows of `width`.
    pub fn new(values: &'a [f32], width: usize) -> Self {
        assert!(width > 0 && values.len().is_multiple_of(width), "rows of {width}");
        Self { values, width }
    }

    fn rows(&self) -> std::slice::ChunksExact<'a, f32> {
        self.values.chunks_exact(self.width)
    }

    fn len(&self) -> usize {
        self.values.len() / self.width
    }

    fn mean(&self) -> Vec<f64> {
        let mut mean = vec![0.0; self.width];
        for row in self.rows() {
            mean.iter_mut()
                .zip(row)
                .for_each(|(mean, v)| *mean += f64::from(*v) / self.len() as f64);
        }
        mean
    }

    /// Rows less their mean, over √(n−1): the product of their transpose with them is the
    /// covariance.
    fn spread(&self, mean: &[f64]) -> Vec<Vec<f64>> {
        let scale = ((self.len() - 1) as f64).sqrt();
        self.rows()
            .map(|row| {
                row.iter().zip(mean).map(|(v, mean)| (f64::from(*v) - mean) / scale).collect()
            })
            .collect()
    }
}

/// Returns the Fréchet distance |μ−ν|² + tr Σ + tr Τ − 2·tr (ΣΤ)^½, with covariances over n−1.
///
/// With Σ = AᵀA and Τ = BᵀB the last trace is the sum of the singular values of A·Bᵀ, which is as
/// large as the sets and not as the features: exact, and without the square root of a matrix that
/// has none. NaN below two rows.
///
/// # Panics
/// When the widths differ.
pub fn frechet_distance(a: Features, b: Features) -> f64 {
    assert_eq!(a.width, b.width, "features of one network");
    if a.len() < 2 || b.len() < 2 {
        return f64::NAN;
    }
    let (mean_a, mean_b) = (a.mean(), b.mean());
    let (spread_a, spread_b) = (a.spread(&mean_a), b.spread(&mean_b));
    let trace = |spread: &[Vec<f64>]| spread.iter().map(|row| dot(row, row)).sum::<f64>();
    let between: f64 = mean_a.iter().zip(&mean_b).map(|(a, b)| (a - b).powi(2)).sum();
    let shared = spread_a.iter().map(|a| spread_b.iter().map(|b| dot(a, b)).collect()).collect();
    // Rounding may leave a set a hair from itself, on either side.
    (between + trace(&spread_a) + trace(&spread_b) - 2.0 * nuclear_norm(shared)).max(0.0)
}

/// Returns the unbiased squared maximum mean discrepancy under k(x, y) = (x·y/F + 1)³, over all of
/// both sets. NaN below two rows.
///
/// # Panics
/// When the widths differ.
pub fn kernel_distance(a: Features, b: Features) -> f64 {
    assert_eq!(a.width, b.width, "features of one network");
    if a.len() < 2 || b.len() < 2 {
        return f64::NAN;
    }
    let kernel = |x: &[f32], y: &[f32]| {
        let product: f64 = x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
        (product / a.width as f64 + 1.0).powi(3)
    };
    let within = |set: Features| {
        let pairs = set
            .rows()
            .enumerate()
            .flat_map(|(i, x)| set.rows().skip(i + 1).map(move |y| kernel(x, y)));
        2.0 * pairs.sum::<f64>() / (set.len() * (set.len() - 1)) as f64
    };
    let across: f64 = a.rows().flat_map(|x| b.rows().map(move |y| kernel(x, y))).sum();
    within(a) + within(b) - 2.0 * across / (a.len() * b.len()) as f64
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Sum of the singular values of a matrix, by one-sided Jacobi (Hestenes 1958): rotate pairs of
/// rows until all are orthogonal; their lengths are then the singular values.
fn nuclear_norm(mut rows: Vec<Vec<f64>>) -> f64 {
    let negligible = 1e-24 * rows.iter().map(|row| dot(row, row)).sum::<f64>();
    for _sweep in 0..40 {
        let mut rotated = false;
        for j in 1..rows.len() {
            for i in 0..j {
                let (left, right) = rows.split_at_mut(j);
                let (a, b) = (&mut left[i], &mut right[0]);
                let (aa, bb, ab) = (dot(a, a), dot(b, b), dot(a, b));
                if ab.abs() <= 1e-12 * (aa * bb).sqrt() || ab.abs() <= negligible {
                    continue;
                }
                rotated = true;
                let zeta = (bb - aa) / (2.0 * ab);
                let tangent = zeta.signum() / (zeta.abs() + (1.0 + zeta * zeta).sqrt());
                let cosine = 1.0 / (1.0 + tangent * tangent).sqrt();
                for (a, b) in a.iter_mut().zip(b) {
                    (*a, *b) = (cosine * (*a - tangent * *b), cosine * (tangent * *a + *b));
                }
            }
        }
        if !rotated {
            break;
        }
    }
    rows.iter().map(|row| dot(row, row).sqrt()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(rows: usize, offset: usize) -> Vec<f32> {
        (0..rows * 6)
            .map(|i| ((i * i * 5 + i * 11 + offset * 17) % 23) as f32 / 9.0 + offset as f32)
            .collect()
    }

    #[test]
    fn a_set_is_at_no_distance_from_itself() {
        let set = set(9, 0);
        let features = Features::new(&set, 6);
        assert!(frechet_distance(features, features) < 1e-9);
        // The unbiased estimate leaves the diagonal out on one side only.
        assert!(kernel_distance(features, features) <= 0.0);
    }

    #[test]
    fn sets_that_differ_by_a_shift_are_as_far_apart_as_the_shift_is_long() {
        let set = set(9, 0);
        let moved: Vec<f32> = set.iter().map(|v| v + 2.0).collect();
        let distance = frechet_distance(Features::new(&set, 6), Features::new(&moved, 6));
        assert!((distance - 6.0 * 4.0).abs() < 1e-5, "{distance}");
    }

    #[test]
    fn one_row_has_no_spread() {
        let set = set(3, 0);
        let (one, all) = (Features::new(&set[..6], 6), Features::new(&set, 6));
        assert!(frechet_distance(one, all).is_nan() && kernel_distance(all, one).is_nan());
    }
}
