//! What several commands of `restain-train` are told: which images, where to compute, how to train.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use tch::Device;

use crate::bundle::is_plain_name;
use crate::method::{Normalisation, PixelOrder};
use crate::train::dataset::{Format, Selection};
use crate::train::device::{ComputePrecision, DeviceChoice};
use crate::train::recipe::{Recipe, RecipeArgs};
use crate::train::warm::Origin;
use crate::train::watch::WatchArgs;
use crate::train::world::World;
use crate::train::world::options::WorldArgs;

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
    /// Matrix products in f32 or bf16 (fast on CUDA and on CPUs with AMX or AVX512-BF16); weights stay f32 [default: what the run that is resumed had; bf16 on CUDA, f32 on CPU]
    #[arg(long, value_enum)]
    pub precision: Option<ComputePrecision>,
    /// Compute activations again in place of keeping them: far less memory, up to a third more time
    #[arg(long)]
    pub gradient_checkpointing: bool,
    #[command(flatten)]
    pub world: WorldArgs,
}

impl ComputeArgs {
    /// Meets the other processes of the run, where there are any.
    pub fn join(&self, device: Device) -> Result<World> {
        World::join(self.world.place()?.as_ref(), device)
    }

    /// The device, and the precision that was asked for; `before` is that of the run so far.
    pub fn open(&self, before: Option<ComputePrecision>) -> Result<(Device, ComputePrecision)> {
        let device = self.device.open(self.world.local_rank)?;
        let default = if device.is_cuda() { ComputePrecision::Bf16 } else { ComputePrecision::F32 };
        Ok((device, self.precision.or(before).unwrap_or(default)))
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
    #[command(flatten)]
    #[serde(flatten)]
    pub objective: RecipeArgs,
    /// [default: planar, or what the weights of --from were trained with]
    #[arg(long)]
    pub pixel_order: Option<PixelOrder>,
    #[arg(long, default_value_t = 50)]
    pub epochs: u64,
    /// Updates in all, in place of --epochs
    #[arg(long)]
    pub steps: Option<u64>,
    #[arg(long, default_value_t = 64)]
    pub batch: usize,
    /// Batches summed into one update, by every process
    #[arg(long, default_value_t = 1)]
    pub accumulate: usize,
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
    #[command(flatten)]
    #[serde(default)]
    pub watch: WatchArgs,
}

impl TrainingArgs {
    /// Refuses what cannot be meant, before anything is read.
    pub fn check(&self) -> Result<()> {
        ensure!(self.batch > 0, "--batch is 0, and must be at least 1");
        ensure!(self.accumulate > 0, "--accumulate is 0, and must be at least 1");
        ensure!(
            self.steps != Some(0) && self.epochs > 0,
            "--steps and --epochs must be at least 1"
        );
        ensure!(self.save_every > 0, "--save-every is 0, and must be at least 1");
        let at_least_zero = |value: f64| value.is_finite() && value >= 0.0;
        ensure!(
            at_least_zero(self.learning_rate) && self.learning_rate > 0.0,
            "--learning-rate is {}, and must be above 0",
            self.learning_rate
        );
        ensure!(
            at_least_zero(self.weight_decay),
            "--weight-decay is {}, and must be at least 0",
            self.weight_decay
        );
        ensure!(at_least_zero(self.clip), "--clip is {}, and must be at least 0", self.clip);
        let matches =
            self.objective.recipe == Recipe::Cross && self.objective.weights.match_weight > 0.0;
        ensure!(
            !matches || self.batch > 1,
            "--match-weight takes styles from other tiles of a batch, and --batch is 1: make it larger, or give --match-weight 0"
        );
        self.watch.check()?;
        ensure!(
            (0.0..=1.0).contains(&self.augment),
            "--augment is {}, and must be from 0 to 1",
            self.augment
        );
        self.objective.check()
    }

    /// What --mean and --std say, which belong together.
    pub fn normalisation(&self) -> Result<Option<Normalisation>> {
        match (self.mean, self.std) {
            (Some(mean), Some(std)) => {
                Ok(Some(Normalisation::new(mean, std).context("--mean and --std")?))
            }
            (None, None) => Ok(None),
            (Some(_), None) => {
                bail!("--mean is given without --std: give both, or neither to have them measured")
            }
            (None, Some(_)) => {
                bail!("--std is given without --mean: give both, or neither to have them measured")
            }
        }
    }
}

/// `R,G,B`.
pub fn triple(text: &str) -> Result<[f32; 3], String> {
    let values: Result<Vec<f32>, _> =
        text.split(',').map(|part| part.trim().parse::<f32>()).collect();
    values
        .ok()
        .and_then(|v| v.try_into().ok())
        .ok_or_else(|| format!("{text:?} is not three numbers R,G,B"))
}

/// `--export`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Export {
    #[default]
    Last,
    /// Those with the lowest validation loss.
    Best,
}

/// A run's options as the checkpoint holds them.
#[derive(Serialize, Deserialize)]
pub struct Options {
    /// The command line that started it.
    #[serde(default)]
    pub command: String,
    pub data: PathBuf,
    pub out: PathBuf,
    /// Which weights become the bundle.
    #[serde(default)]
    pub export: Export,
    /// What matrix products were computed in.
    #[serde(default)]
    pub precision: Option<ComputePrecision>,
    /// The bundle whose weights it started from.
    #[serde(default)]
    pub origin: Option<Origin>,
    pub training: TrainingArgs,
}

/// models/NAME/VERSION → NAME and VERSION.
pub fn bundle_name(out: &Path) -> Result<(String, String)> {
    let part = |path: Option<&Path>| {
        path.and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned())
    };
    let named = part(out.parent())
        .zip(part(Some(out)))
        .with_context(|| format!("--out {} does not end in NAME/VERSION", out.display()))?;
    for word in [&named.0, &named.1] {
        ensure!(
            is_plain_name(word),
            "--out {}: {word:?} is no name: letters, digits, `.`, `_` and `-` are",
            out.display()
        );
    }
    Ok(named)
}

static COMMAND_LINE: OnceLock<String> = OnceLock::new();

/// The command line of this process as it would be typed again, with what a file of options and a preset added to it.
pub fn command_line() -> String {
    COMMAND_LINE.get_or_init(|| as_typed(std::env::args())).clone()
}

/// Says that these words are what the process was told in the end.
pub fn told(words: impl IntoIterator<Item = String>) {
    COMMAND_LINE.get_or_init(|| as_typed(words));
}

fn as_typed(words: impl IntoIterator<Item = String>) -> String {
    let words = words
        .into_iter()
        .skip(1)
        .map(|word| if word.contains(char::is_whitespace) { format!("{word:?}") } else { word });
    std::iter::once("restain-train".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}
