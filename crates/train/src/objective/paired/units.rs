//! The units of the paired recipe: what has one stain.
//!
//! A unit is a slide, or all images of a domain whose slides are unknown.

use anyhow::{Result, ensure};
use rayon::prelude::*;

use restain_data::{Dataset, Slide};
use restain_lab::phase::Phase;
use restain_method::field::{FieldStain, SAMPLE, sample};

/// Images of a unit whose pixels are measured.
const MEASURED: usize = 64;
/// Pixels of a unit that are kept, to measure them in other stains.
const KEPT: usize = 4096;

/// Images that share a stain.
pub(crate) struct Unit {
    pub domain: usize,
    /// Places in `Dataset::sources`.
    pub sources: Vec<usize>,
    pub stain: FieldStain,
    /// Some of its pixels, u8 `[n, 3]`.
    pub sample: Vec<u8>,
}

/// All units of a data set that have a stain, by domain.
pub(crate) struct Units {
    pub all: Vec<Unit>,
    /// For each domain with units, their places in `all`.
    pub domains: Vec<Vec<usize>>,
}

impl Units {
    /// Groups the images of a data set and measures each group. `tile` is the side of a tile in
    /// pixels.
    ///
    /// # Errors
    /// If too many images are damaged, or no unit has two stains.
    pub(crate) fn measure(dataset: &Dataset, tile: u32) -> Result<Self> {
        let slides = dataset.slides(tile as usize);
        let count = slides.len();
        let phase = Phase::start("stains of slides measured", count);
        let measured: Vec<Option<Unit>> = dataset.workers().install(|| {
            slides
                .into_par_iter()
                .map(|Slide { domain, sources, .. }| {
                    let pixels = pixels(dataset, &sources)?;
                    let stain = FieldStain::of(&pixels);
                    phase.advance(1);
                    let sample = sample(&pixels, KEPT);
                    Ok(stain.map(|stain| Unit { domain, sources, stain, sample }))
                })
                .collect::<Result<_>>()
        })?;
        let all: Vec<Unit> = measured.into_iter().flatten().collect();
        ensure!(
            !all.is_empty(),
            "--recipe paired measures the stains of whole fields or slides, and none of the \
            {count} of this data set has two stains that can be distinguished; --recipe cross \
            needs none"
        );
        if all.len() < count {
            tracing::warn!(
                "{} of {count} fields without two stains are left out",
                count - all.len()
            );
        }
        let mut domains = vec![Vec::new(); dataset.domains.len()];
        all.iter().enumerate().for_each(|(place, unit)| domains[unit.domain].push(place));
        domains.retain(|units| !units.is_empty());
        Ok(Self { all, domains })
    }
}

/// Reads up to [`SAMPLE`] pixels of up to [`MEASURED`] images, spread evenly.
fn pixels(dataset: &Dataset, sources: &[usize]) -> Result<Vec<u8>> {
    let count = sources.len().min(MEASURED);
    let mut pixels = Vec::with_capacity(3 * SAMPLE);
    for i in 0..count {
        let source = &dataset.sources[sources[i * sources.len() / count]];
        if let Some(image) = dataset.readable(source)? {
            pixels.extend(sample(image.as_raw(), SAMPLE / count));
        }
    }
    Ok(pixels)
}
