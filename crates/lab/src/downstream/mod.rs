//! `evaluate --downstream`: whether augmentation improves a classifier on hospitals that it was not
//! trained on.
//!
//! Classifiers are trained on the tiles of some domains; each batch holds tiles and one variant of
//! each. The best epoch is chosen on another domain, and accuracy is measured on yet others. With
//! the same seed all techniques share initial weights, order, flips and turns, so that they are
//! compared in pairs. `split` reads the tiles, `technique` lists what is compared, `variants` makes
//! the variants out of the stains of `looks`, `experiment` runs what `record` does not hold yet,
//! and `statistics`, `summary` and `plot` present the results. No
//! hyperparameter is tuned, and test domains are used once, after the epoch is chosen.

mod encoded;
mod experiment;
mod jitter;
mod looks;
mod options;
mod plot;
mod record;
mod split;
pub(crate) mod statistics;
mod summary;
mod technique;
mod variants;
mod worst;

use anyhow::{Context, Result};

use crate::classifier::Tiles;
use crate::downstream::experiment::Experiment;
use crate::downstream::record::{Configuration, Record};
use crate::downstream::split::Split;
use crate::downstream::summary::Summary;
use crate::downstream::technique::StyleSource;
use crate::downstream::variants::{Maker, Making};
use crate::encodings::Model;

pub use options::DownstreamArgs;

/// Runs the experiment: prints the table, and writes `--json` and `--plot`.
///
/// # Errors
/// If the options contradict each other, the tiles or the bundle cannot be read, `--json` holds
/// another experiment, or a file cannot be written.
pub fn run(args: &DownstreamArgs) -> Result<()> {
    let split = Split::read(args)?;
    let device = args.device.open(0)?;
    let mut model = match &args.bundle {
        Some(bundle) if needs_model(args) => Some(Model::open(bundle, args.encoder)?),
        _ => None,
    };
    let configuration = Configuration::new(args, &split, model.as_ref());
    let mut record = Record::open(args.json.as_deref(), configuration)?;
    tracing::info!("{}", describe(args, &split));
    let maker = Maker::new(&split.training, &split.targets, model.as_mut(), Making::of(args))?;
    Experiment { args, split: &split, maker: &maker, device }.run(&mut record)?;
    let summary = Summary::of(&record, args);
    record.finish(&summary)?;
    println!("{}", summary.table(args));
    if let Some(path) = &args.plot {
        std::fs::write(path, plot::svg(&record, args))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn needs_model(args: &DownstreamArgs) -> bool {
    let bank = args.styles() == StyleSource::Bank;
    args.methods.iter().any(|method| method.encodes() || (method.matches_colours() && bank))
}

/// Describes the tiles for the log.
fn describe(args: &DownstreamArgs, split: &Split) -> String {
    let chosen_on = match &args.validation_domain {
        Some(domain) => domain.clone(),
        None => "a held-out tenth of the training tiles".to_owned(),
    };
    let tests: Vec<String> =
        split.tests.iter().map(|(name, tiles)| format!("{} of {name}", tiles.len())).collect();
    let targets = match split.targets.iter().map(Tiles::len).sum::<usize>() {
        0 => String::new(),
        tiles => format!(", taking target styles from {tiles} others of them without their labels"),
    };
    format!(
        "training on {} tiles of {} px ({}), validating on {} ({chosen_on}), testing on \
        {}{targets}; labels {}",
        split.training.len(),
        split.training.side,
        args.train_domains.join(", "),
        split.validation.len(),
        tests.join(", "),
        split.labels.join(", "),
    )
}
