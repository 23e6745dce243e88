//! What several commands of `restain-train` are told: which images, where to compute, how to train.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use tch::Device;

use crate::method::PixelOrder;
use crate::train::dataset::Selection;
use crate::train::device::{ComputePrecision, DeviceChoice};
use crate::train::recipe::Recipe;

/// Which images of `--data` take part, by their paths relative to it.
#[derive(Clone, Debug, Default, clap::Args, Serialize, Deserialize)]
pub struct SelectionArgs {
    /// Image to leave out, relative to --data; repeat or separate by commas
    #[arg(long, value_delimiter = ',')]
    pub exclude: Vec<PathBuf>,
    /// Use just these images
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<PathBuf>,
}

impl SelectionArgs {
    pub fn selection(&self) -> Selection {
        Selection { only: self.only.clone(), exclude: self.exclude.clone() }
    }
}

/// A bundle, and the images to try it on.
#[derive(Clone, Debug, clap::Args)]
pub struct BundleDataArgs {
    #[arg(long)]
    pub bundle: PathBuf,
    /// Folder of images, or of `<domain>/…` folders
    #[arg(long)]
    pub data: PathBuf,
    #[command(flatten)]
    pub selection: SelectionArgs,
}

/// Where to compute.
#[derive(Clone, Debug, clap::Args)]
pub struct ComputeArgs {
    /// auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
    /// Matrix products in f32 or bf16 (fast on CUDA and on CPUs with AMX); weights stay f32 [default: bf16 on CUDA, f32 on CPU]
    #[arg(long, value_enum)]
    pub precision: Option<ComputePrecision>,
}

impl ComputeArgs {
    pub fn open(&self) -> Result<(Device, tch::Kind)> {
        let device = self.device.open()?;
        let default = if device.is_cuda() { ComputePrecision::Bf16 } else { ComputePrecision::F32 };
        Ok((device, self.precision.unwrap_or(default).kind()))
    }
}

/// What a run is made of besides the model; kept in its checkpoint, so that `resume` needs none of it again.
#[derive(Clone, Debug, clap::Args, Serialize, Deserialize)]
pub struct TrainingArgs {
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// What the images are, where they come from and under which licence: for the model card
    #[arg(long)]
    #[serde(default)]
    pub about_data: Option<String>,
    #[arg(long, value_enum, default_value = "cross")]
    pub recipe: Recipe,
    #[arg(long, default_value = "planar")]
    pub pixel_order: PixelOrder,
    #[arg(long, default_value_t = 50)]
    pub epochs: u64,
    /// Updates in all, in place of --epochs
    #[arg(long)]
    pub steps: Option<u64>,
    #[arg(long, default_value_t = 64)]
    pub batch: usize,
    /// Batches summed into one update
    #[arg(long, default_value_t = 1)]
    pub accumulate: usize,
    /// Styles mixed into every tile in a step, K
    #[arg(long, default_value_t = 4)]
    pub mixes: usize,
    /// Weight of trying every style on another tile, against that tile's colour-matched copy (recipe cross)
    #[arg(long, default_value_t = 0.0)]
    #[serde(default)]
    pub match_weight: f64,
    #[arg(long, default_value_t = 1e-3)]
    pub learning_rate: f64,
    #[arg(long, default_value_t = 0.05)]
    pub weight_decay: f64,
    /// Longest gradient, Euclidean norm; 0 leaves gradients alone
    #[arg(long, default_value_t = 0.0)]
    pub clip: f64,
    /// Chance of each augmentation
    #[arg(long, default_value_t = 0.1)]
    pub augment: f64,
    /// Per-channel mean of pixels in 0..1 [default: measured on the data]
    #[arg(long, value_parser = triple)]
    pub mean: Option<[f32; 3]>,
    /// Per-channel standard deviation of pixels in 0..1
    #[arg(long, value_parser = triple)]
    pub std: Option<[f32; 3]>,
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Updates between two saves of the state
    #[arg(long, default_value_t = 200)]
    pub save_every: u64,
}

impl TrainingArgs {
    /// Refuses what cannot be meant, before anything is read.
    pub fn check(&self) -> Result<()> {
        ensure!(self.batch > 0, "--batch is 0, and must be at least 1");
        ensure!(self.accumulate > 0, "--accumulate is 0, and must be at least 1");
        ensure!(self.steps != Some(0) && self.epochs > 0, "--steps and --epochs must be at least 1");
        ensure!((0.0..=1.0).contains(&self.augment), "--augment is {}, and must be from 0 to 1", self.augment);
        ensure!(self.match_weight >= 0.0, "--match-weight is {}, and must be at least 0", self.match_weight);
        let has_match = self.match_weight == 0.0 || self.recipe == Recipe::Cross;
        ensure!(has_match, "--match-weight is for --recipe cross: the published loss has no such term");
        Ok(())
    }
}

/// `R,G,B`.
pub fn triple(text: &str) -> Result<[f32; 3], String> {
    let values: Result<Vec<f32>, _> = text.split(',').map(|part| part.trim().parse::<f32>()).collect();
    values.ok().and_then(|v| v.try_into().ok()).ok_or_else(|| format!("{text:?} is not three numbers R,G,B"))
}

/// A run's options as the checkpoint holds them.
#[derive(Serialize, Deserialize)]
pub struct Options {
    /// The command line that started it.
    #[serde(default)]
    pub command: String,
    pub data: PathBuf,
    pub out: PathBuf,
    pub training: TrainingArgs,
}

/// models/NAME/VERSION → NAME and VERSION.
pub fn bundle_name(out: &Path) -> Result<(String, String)> {
    let part = |path: Option<&Path>| path.and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    part(out.parent()).zip(part(Some(out))).with_context(|| format!("{} does not end in NAME/VERSION", out.display()))
}

/// The command line of this process, as it would be typed again.
pub fn command_line() -> String {
    let words = std::env::args().enumerate().map(|(i, word)| match i {
        0 => "restain-train".to_owned(),
        _ => word,
    });
    words.collect::<Vec<_>>().join(" ")
}
