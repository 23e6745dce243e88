//! The units of the paired recipe: what has one stain.
//!
//! A field of at least two tiles a side is a unit of its own. Images of about one tile belong to
//! the unit of their slide, where their data set names it (WILDS), or else to that of their domain.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, ensure};
use rayon::prelude::*;

use restain_data::{Dataset, Source};
use restain_method::field::{FieldStain, SAMPLE, sample};

/// Images of a unit whose pixels are measured.
const MEASURED: usize = 64;

/// Images that share a stain.
pub(crate) struct Unit {
    pub domain: usize,
    /// Places in `Dataset::sources`.
    pub sources: Vec<usize>,
    pub stain: FieldStain,
}

/// All units of a data set that have a stain, by domain.
pub(crate) struct Units {
    pub all: Vec<Unit>,
    /// For each domain with units, their places in `all`.
    pub domains: Vec<Vec<usize>>,
}

impl Units {
    /// Groups the images of a data set and measures each group. `tile` is the side of a tile in pixels.
    ///
    /// # Errors
    /// If too many images are damaged, or no unit has two stains.
    pub(crate) fn measure(dataset: &Dataset, tile: u32) -> Result<Self> {
        let mut groups: BTreeMap<(usize, &Path), Vec<usize>> = BTreeMap::new();
        for (place, source) in dataset.sources.iter().enumerate() {
            groups.entry((source.domain, name(source, tile))).or_default().push(place);
        }
        let groups: Vec<((usize, &Path), Vec<usize>)> = groups.into_iter().collect();
        let count = groups.len();
        let measured: Vec<Option<Unit>> = dataset.workers().install(|| {
            groups
                .into_par_iter()
                .map(|((domain, _), sources)| {
                    let stain = FieldStain::of(&pixels(dataset, &sources)?);
                    Ok(stain.map(|stain| Unit { domain, sources, stain }))
                })
                .collect::<Result<_>>()
        })?;
        let all: Vec<Unit> = measured.into_iter().flatten().collect();
        ensure!(
            !all.is_empty(),
            "--recipe paired measures the stains of whole fields or slides, and none of the {count} \
             of this data set has two stains that can be distinguished"
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

/// Returns the path that names a unit within its domain.
fn name(source: &Source, tile: u32) -> &Path {
    if source.width.min(source.height) >= 2 * tile {
        return &source.path;
    }
    let is_slide = |folder: &&Path| {
        let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with("patient_") && name.contains("_node_")
    };
    source.path.ancestors().skip(1).find(is_slide).unwrap_or(Path::new(""))
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
