//! The tiles of an experiment, decoded once: training, validation and test sets.

use anyhow::{Context, Result, ensure};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;

use crate::classifier::Tiles;
use crate::downstream::options::DownstreamArgs;
use restain_data::{Dataset, Source};

/// Without a validation domain, one in this many training tiles is held out.
const HELD_OUT: usize = 10;

/// The sets of an experiment.
pub(super) struct Split {
    pub labels: Vec<String>,
    pub training: Tiles,
    pub validation: Tiles,
    /// Test domains with their tiles.
    pub tests: Vec<(String, Tiles)>,
}

impl Split {
    /// Reads the tiles, which do not depend on the seed of a run.
    ///
    /// # Errors
    /// If a domain does not exist, tiles have no labels or all the same, or there are too few.
    pub(super) fn read(args: &DownstreamArgs) -> Result<Self> {
        let dataset = Dataset::open(&args.data, &args.selection.selection())?;
        ensure!(
            !dataset.labels.is_empty(),
            "{} has no labels: put tiles into <domain>/<label>/",
            args.data.display()
        );
        let side = dataset
            .sources
            .iter()
            .map(|source| source.width.min(source.height))
            .min()
            .expect("no data set is empty") as usize;
        let read = |option: &str, name: &str| tiles(&dataset, (option, name), args, side);
        let mut training = Tiles { side, ..Tiles::default() };
        for name in &args.train_domains {
            append(&mut training, read("--train-domains", name)?);
        }
        let validation = match &args.validation_domain {
            Some(name) => read("--validation-domain", name)?,
            None => hold_out(&mut training),
        };
        ensure!(
            !training.is_empty() && !validation.is_empty(),
            "{} training tiles are too few to hold out a tenth for validation",
            training.len()
        );
        let tests =
            args.test_domains.iter().map(|name| Ok((name.clone(), read("--test-domains", name)?)));
        let split = Self {
            tests: tests.collect::<Result<_>>()?,
            labels: dataset.labels.clone(),
            training,
            validation,
        };
        let first = split.training.labels[0];
        let one_label = split.training.labels.iter().all(|&label| label == first);
        ensure!(
            !one_label,
            "all {} training tiles are {}: a classifier needs at least two labels",
            split.training.len(),
            split.labels[first]
        );
        if let Some(left_out) = dataset.left_out() {
            tracing::info!("{}: {left_out}", args.data.display());
        }
        Ok(split)
    }

    /// Returns the BLAKE3 of every pixel and label in hex, which identifies the tiles of an
    /// experiment.
    pub(super) fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for tiles in [&self.training, &self.validation]
            .into_iter()
            .chain(self.tests.iter().map(|(_, tiles)| tiles))
        {
            hasher.update(&(tiles.len() as u64).to_le_bytes());
            for (pixels, &label) in tiles.pixels.iter().zip(&tiles.labels) {
                hasher.update(&(label as u64).to_le_bytes()).update(pixels);
            }
        }
        hasher.finalize().to_hex().to_string()
    }
}

/// The tiles of one domain, in an order of chance, at most `--per-domain`, as many of every label.
fn tiles(
    dataset: &Dataset,
    (option, name): (&str, &str),
    args: &DownstreamArgs,
    side: usize,
) -> Result<Tiles> {
    let domain = dataset.domains.iter().position(|held| held == name);
    let domain = domain.with_context(|| {
        format!(
            "{option}: no domain {name:?} in {} ({})",
            args.data.display(),
            dataset.domains.join(", ")
        )
    })?;
    let mut sources: Vec<&Source> =
        dataset.sources.iter().filter(|source| source.domain == domain).collect();
    if let Some(source) = sources.iter().find(|source| source.label.is_none()) {
        anyhow::bail!(
            "{} has no label: put it into a folder below its domain's",
            args.data.join(&source.path).display()
        );
    }
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    sources.sort_by_cached_key(|_| rng.next_u64());
    let labelled = |source: &Source| {
        let label = source.label.expect("checked above");
        Ok(dataset
            .grid_tiles(source, side)?
            .into_iter()
            .map(|tile| (label, tile.into_raw()))
            .collect::<Vec<_>>())
    };
    let found = sources.par_iter().map(|source| labelled(source)).collect::<Result<Vec<_>>>()?;
    let limit = args.per_domain.map_or(usize::MAX, |count| count.div_ceil(dataset.labels.len()));
    let (mut of_label, mut tiles) =
        (vec![0; dataset.labels.len()], Tiles { side, ..Tiles::default() });
    for (label, pixels) in found.into_iter().flatten() {
        of_label[label] += 1;
        if of_label[label] <= limit {
            tiles.pixels.push(pixels);
            tiles.labels.push(label);
        }
    }
    Ok(tiles)
}

fn append(tiles: &mut Tiles, more: Tiles) {
    tiles.pixels.extend(more.pixels);
    tiles.labels.extend(more.labels);
}

fn hold_out(training: &mut Tiles) -> Tiles {
    let side = training.side;
    let (mut kept, mut held) =
        (Tiles { side, ..Tiles::default() }, Tiles { side, ..Tiles::default() });
    let pairs =
        std::mem::take(&mut training.pixels).into_iter().zip(std::mem::take(&mut training.labels));
    for (i, (pixels, label)) in pairs.enumerate() {
        let into = if i % HELD_OUT == 0 { &mut held } else { &mut kept };
        into.pixels.push(pixels);
        into.labels.push(label);
    }
    *training = kept;
    held
}
