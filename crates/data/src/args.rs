//! The options that choose images of a data set.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Format, Selection};

/// Which images of `--data` take part, by their paths relative to it, and how they are read.
#[derive(Clone, Debug, clap::Args, Serialize, Deserialize)]
#[serde(default)]
pub struct SelectionArgs {
    /// How the data set lies on disk
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Use just these official splits; repeat or separate by commas [default for fit: the training split]
    #[arg(long = "split", value_name = "SPLIT", value_delimiter = ',')]
    pub splits: Vec<String>,
    /// Use just these domains
    #[arg(long, value_delimiter = ',')]
    pub domains: Vec<String>,
    /// Leave these domains out
    #[arg(long, value_delimiter = ',')]
    pub exclude_domains: Vec<String>,
    /// Image to leave out, relative to --data; repeat or separate by commas
    #[arg(long, value_delimiter = ',')]
    pub exclude: Vec<PathBuf>,
    /// Use just these images
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<PathBuf>,
    /// Damaged images that are named and skipped before the run ends
    #[arg(long, value_name = "IMAGES", default_value_t = 100)]
    pub max_damaged: u64,
    /// Threads that read, decode and augment; 0 is one for each core
    #[arg(long, default_value_t = 0)]
    pub workers: usize,
    /// Memory for decoded images, which are kept while they fit
    #[arg(long, value_name = "GIB", default_value_t = 4.0)]
    pub cache_gib: f64,
}

impl SelectionArgs {
    /// Returns the selection that these options describe.
    pub fn selection(&self) -> Selection {
        Selection {
            format: self.format,
            splits: self.splits.clone(),
            domains: self.domains.clone(),
            exclude_domains: self.exclude_domains.clone(),
            only: self.only.clone(),
            exclude: self.exclude.clone(),
            training_by_default: false,
            max_damaged: self.max_damaged,
            workers: self.workers,
            cache_bytes: (self.cache_gib.max(0.0) * (1u64 << 30) as f64) as u64,
        }
    }
}

impl Default for SelectionArgs {
    fn default() -> Self {
        let Selection {
            format,
            splits,
            domains,
            exclude_domains,
            only,
            exclude,
            max_damaged,
            workers,
            ..
        } = Selection::default();
        Self {
            format,
            splits,
            domains,
            exclude_domains,
            exclude,
            only,
            max_damaged,
            workers,
            cache_gib: 4.0,
        }
    }
}

/// A bundle, and the images to try it on.
#[derive(Clone, Debug, clap::Args)]
pub struct BundleDataArgs {
    /// The bundle, models/NAME/VERSION
    #[arg(long)]
    pub bundle: PathBuf,
    /// Folder of images, or of `<domain>/…` folders
    #[arg(long)]
    pub data: PathBuf,
    /// Which of its images are used.
    #[command(flatten)]
    pub selection: SelectionArgs,
}
