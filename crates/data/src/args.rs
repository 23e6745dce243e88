//! The options that choose images of a data set.

use std::path::PathBuf;

use restain_options::ByteSize;
use serde::{Deserialize, Serialize};

use crate::{Format, LABEL, Selection};

/// Which images of `--data` take part, by their paths relative to it, and how they are read.
#[derive(Clone, Debug, clap::Args, Serialize, Deserialize)]
#[command(next_help_heading = "Data")]
pub struct SelectionArgs {
    /// Read the data set in this layout
    #[arg(long, value_enum, default_value_t)]
    pub layout: Format,
    /// Take the images from this table instead: a CSV file with the column file, the path below
    /// --data, and, if known, domain, slide, label and split
    #[arg(long, value_name = "FILE")]
    #[serde(default)]
    pub manifest: Option<PathBuf>,
    /// Take labels from this column of --manifest
    #[arg(long, value_name = "COLUMN", default_value = LABEL)]
    #[serde(default = "label")]
    pub label_column: String,
    /// Use only these official splits; repeat, or separate by commas [default: all; fit: the
    /// training split]
    #[arg(long = "split", value_name = "SPLIT", value_delimiter = ',')]
    pub splits: Vec<String>,
    /// Use only these domains; repeat, or separate by commas
    #[arg(long, value_name = "DOMAIN", value_delimiter = ',')]
    pub domains: Vec<String>,
    /// Leave these domains out; repeat, or separate by commas
    #[arg(long, value_name = "DOMAIN", value_delimiter = ',')]
    pub exclude_domains: Vec<String>,
    /// Use only these images, by their path below --data; repeat, or separate by commas
    #[arg(long, value_name = "IMAGE", value_delimiter = ',')]
    pub only: Vec<PathBuf>,
    /// Leave these images out, by their path below --data; repeat, or separate by commas
    #[arg(long, value_name = "IMAGE", value_delimiter = ',')]
    pub exclude: Vec<PathBuf>,
    /// Take the image from this field of a tar's samples, such as png or input.png [default: the
    /// only image; or, of several, the only one named by its ending alone]
    #[arg(long, value_name = "FIELD")]
    #[serde(default)]
    pub image_field: Option<String>,
    /// Skip up to this many damaged images; one more ends the run
    #[arg(long, value_name = "IMAGES", default_value_t = 100)]
    pub max_damaged: u64,
    /// Read, decode and augment images with this many threads; 0 uses one a core
    #[arg(long, value_name = "THREADS", default_value_t = 0)]
    pub workers: usize,
    /// Keep decoded images in memory up to this size
    #[arg(long, value_name = "BYTES", default_value = "4GiB")]
    pub cache_memory: ByteSize,
    /// Keep the copy of a --data URL, such as s3://bucket/tiles, in this directory [default:
    /// .cache/restain/data in the user's home]
    #[arg(long, value_name = "DIR")]
    #[serde(default)]
    pub data_cache: Option<PathBuf>,
}

fn label() -> String {
    LABEL.to_owned()
}

impl SelectionArgs {
    /// Returns the selection that these options describe.
    pub fn selection(&self) -> Selection {
        Selection {
            format: self.layout,
            manifest: self.manifest.clone(),
            label_column: self.label_column.clone(),
            splits: self.splits.clone(),
            domains: self.domains.clone(),
            exclude_domains: self.exclude_domains.clone(),
            only: self.only.clone(),
            exclude: self.exclude.clone(),
            image_field: self.image_field.clone(),
            max_damaged: self.max_damaged,
            workers: self.workers,
            cache_bytes: self.cache_memory.0,
            data_cache: self.data_cache.clone(),
            ..Selection::default()
        }
    }
}

/// A bundle, and the images to try it on.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Data")]
pub struct BundleDataArgs {
    /// Use this bundle, models/NAME/VERSION
    #[arg(long, value_name = "DIR")]
    pub bundle: PathBuf,
    /// Use the images of this folder or URL, or of the `<domain>/…` folders in it
    #[arg(long, value_name = "DIR|URL")]
    pub data: PathBuf,
    /// Which of its images are used.
    #[command(flatten)]
    pub selection: SelectionArgs,
}
