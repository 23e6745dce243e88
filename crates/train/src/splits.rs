//! The images of a run, split into those to train on and those to validate on.
//!
//! The split depends on the options alone, so that `fit`, `resume` and `export` get the same.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Result, bail};

use crate::options::TrainingArgs;
use crate::run::validate::{Parts, split};
use restain_data::{Dataset, Selection};

/// Opens the data set with the options' selection and splits it: by official splits if
/// `--validation-split` names some, else by a share of every domain's images.
///
/// # Errors
/// If the data set cannot be opened, or an image is in both parts.
pub(crate) fn open(data: &Path, training: &TrainingArgs, seed: u64) -> Result<Parts> {
    let selection = training.selection.selection();
    let dataset = Dataset::open(data, &selection.clone().for_training())?;
    let splits = &training.watch.validation_splits;
    if splits.is_empty() {
        return split(dataset, training.watch.validation_share, seed);
    }
    let kept_out = Dataset::open(data, &Selection { splits: splits.clone(), ..selection })?;
    let trained: HashSet<&Path> =
        dataset.sources.iter().map(|source| source.path.as_path()).collect();
    if let Some(both) =
        kept_out.sources.iter().find(|source| trained.contains(source.path.as_path()))
    {
        bail!(
            "--validation-split {}: {} is also in the training split",
            splits.join(","),
            both.path.display()
        );
    }
    Ok(Parts { training: dataset, kept_out })
}
