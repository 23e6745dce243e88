//! Structural similarity (Wang, Bovik, Sheikh, Simoncelli 2004), as scikit-image computes it with
//! `gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255,
//! channel_axis=-1`.

/// Taps of the window: σ 1.5 cut off at 3.5 σ.
const WINDOW: usize = 11;
const SIGMA: f64 = 1.5;
/// (K₁·255)² and (K₂·255)², K₁ = .01 and K₂ = .03.
const C1: f64 = (0.01 * 255.0) * (0.01 * 255.0);
const C2: f64 = (0.03 * 255.0) * (0.03 * 255.0);

/// Returns the mean SSIM over channels and over the pixels whose whole window lies inside the tile.
/// NaN when a side is under 11 pixels, so that no window fits.
///
/// # Shapes
/// `a` and `b` `[height, width, 3] u8`.
///
/// # Panics
/// When a length is not height·width·3.
pub fn ssim(a: &[u8], b: &[u8], width: usize, height: usize) -> f64 {
    assert_eq!(
        (a.len(), b.len()),
        (width * height * 3, width * height * 3),
        "tiles of the given size"
    );
    if width < WINDOW || height < WINDOW {
        return f64::NAN;
    }
    (0..3).map(|channel| channel_ssim(a, b, width, channel)).sum::<f64>() / 3.0
}

fn channel_ssim(a: &[u8], b: &[u8], width: usize, channel: usize) -> f64 {
    let plane = |tile: &[u8]| -> Vec<f64> {
        tile.iter().skip(channel).step_by(3).map(|v| f64::from(*v)).collect()
    };
    let (a, b) = (plane(a), plane(b));
    let mean = |of: &dyn Fn(f64, f64) -> f64| {
        let plane: Vec<f64> = a.iter().zip(&b).map(|(a, b)| of(*a, *b)).collect();
        blur(&plane, width)
    };
    let (mean_a, mean_b) = (mean(&|a, _| a), mean(&|_, b| b));
    let (mean_aa, mean_bb, mean_ab) =
        (mean(&|a, _| a * a), mean(&|_, b| b * b), mean(&|a, b| a * b));
    let similarity = |i: usize| {
        let (a, b) = (mean_a[i], mean_b[i]);
        let (var_a, var_b, covariance) =
            (mean_aa[i] - a * a, mean_bb[i] - b * b, mean_ab[i] - a * b);
        ((2.0 * a * b + C1) * (2.0 * covariance + C2))
            / ((a * a + b * b + C1) * (var_a + var_b + C2))
    };
    (0..mean_a.len()).map(similarity).sum::<f64>() / mean_a.len() as f64
}

/// Gaussian mean of `[height, width]` where the window fits: `[height−10, width−10]`.
fn blur(plane: &[f64], width: usize) -> Vec<f64> {
    let taps: [f64; WINDOW] =
        std::array::from_fn(|i| (-0.5 * ((i as f64 - 5.0) / SIGMA).powi(2)).exp());
    let sum: f64 = taps.iter().sum();
    let taps = taps.map(|tap| tap / sum);
    let inner = width - WINDOW + 1;
    let rows: Vec<f64> = plane
        .chunks_exact(width)
        .flat_map(|row| {
            row.windows(WINDOW).map(|window| window.iter().zip(&taps).map(|(v, tap)| v * tap).sum())
        })
        .collect();
    let height = rows.len() / inner;
    let mut blurred = vec![0.0; (height - WINDOW + 1) * inner];
    for (y, out) in blurred.chunks_exact_mut(inner).enumerate() {
        for (row, tap) in rows[y * inner..].chunks_exact(inner).zip(&taps) {
            for (out, v) in out.iter_mut().zip(row) {
                *out += tap * v;
            }
        }
    }
    blurred
}
