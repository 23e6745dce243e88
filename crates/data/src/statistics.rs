//! Mean and standard deviation of a data set's pixels: its normalisation.

use anyhow::{Result, ensure};
use rayon::prelude::*;

use super::Dataset;
use restain_method::Normalisation;

/// At most this many images of a domain are read; more would not change the result noticeably.
const IMAGES_PER_DOMAIN: usize = 4096;

/// Per channel the sum and the sum of squares of pixels in 0..1, and the number of pixels.
#[derive(Clone, Copy, Default)]
struct Sums {
    powers: [[f64; 3]; 2],
    count: f64,
}

/// Measures mean and standard deviation of each channel, of pixels in 0..1. Every domain has the
/// same weight. Damaged images are skipped.
///
/// # Errors
/// If more images are damaged than the selection allows, or none can be decoded.
pub fn measure(dataset: &Dataset) -> Result<Normalisation> {
    let of_domain = dataset.members.iter().map(|members| {
        let step = members.len().div_ceil(IMAGES_PER_DOMAIN);
        let chosen: Vec<u32> = members.iter().copied().step_by(step).collect();
        let sums = dataset.pool.install(|| {
            let sums = chosen.par_iter().map(|&source| {
                Ok(dataset.readable(&dataset.sources[source as usize])?.map(|image| sums(&image)))
            });
            sums.collect::<Result<Vec<_>>>()
        })?;
        // In order: the sum must not depend on the order in which threads finish.
        Ok(sums.into_iter().flatten().fold(Sums::default(), add))
    });
    let domains = of_domain.collect::<Result<Vec<Sums>>>()?;
    let seen: Vec<Sums> = domains.into_iter().filter(|sums| sums.count > 0.0).collect();
    ensure!(
        !seen.is_empty(),
        "cannot measure mean and standard deviation: no image can be decoded"
    );
    let average = |power: usize, channel: usize| {
        seen.iter().map(|sums| sums.powers[power][channel] / sums.count).sum::<f64>()
            / seen.len() as f64
    };
    let mean: [f64; 3] = std::array::from_fn(|c| average(0, c));
    let std: [f64; 3] =
        std::array::from_fn(|c| (average(1, c) - mean[c] * mean[c]).max(1e-6).sqrt());
    Ok(Normalisation::new(mean.map(|v| v as f32), std.map(|v| v as f32))?)
}

fn sums(image: &image::RgbImage) -> Sums {
    let mut sums = Sums::default();
    // Every 7th pixel gives the same result as all of them.
    for pixel in image.pixels().step_by(7) {
        sums.count += 1.0;
        for (channel, value) in pixel.0.into_iter().enumerate() {
            let value = value as f64 / 255.0;
            sums.powers[0][channel] += value;
            sums.powers[1][channel] += value * value;
        }
    }
    sums
}

fn add(a: Sums, b: Sums) -> Sums {
    let powers = std::array::from_fn(|power| {
        std::array::from_fn(|c| a.powers[power][c] + b.powers[power][c])
    });
    Sums { powers, count: a.count + b.count }
}
