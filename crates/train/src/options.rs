//! What several commands of `restain-train` are told: which images, where to compute, how to train.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use tch::Device;

use crate::objective::recipe::{Recipe, RecipeArgs};
use crate::run::monitor::WatchArgs;
use crate::run::warm_start::Origin;
use crate::world::World;
use crate::world::options::WorldArgs;
use restain_bundle::is_plain_name;
use restain_data::SelectionArgs;
use restain_method::{Normalisation, PixelOrder};
use restain_torch::device::{ComputePrecision, DeviceChoice};

/// Where to compute.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ComputeArgs {
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
    pub(crate) fn join(&self, device: Device) -> Result<World> {
        World::join(self.world.place()?.as_ref(), device)
    }

    /// The device, and the precision that was asked for; `before` is that of the run so far.
    pub(crate) fn open(
        &self,
        before: Option<ComputePrecision>,
    ) -> Result<(Device, ComputePrecision)> {
        let device = self.device.open(self.world.local_rank)?;
        let default = if device.is_cuda() { ComputePrecision::Bf16 } else { ComputePrecision::F32 };
        Ok((device, self.precision.or(before).unwrap_or(default)))
    }
}

/// What a run is made of besides the model; kept in its checkpoint, so that `resume` needs none of it again.
#[derive(Clone, Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct TrainingArgs {
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
    pub(crate) fn check(&self) -> Result<()> {
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
    pub(crate) fn normalisation(&self) -> Result<Option<Normalisation>> {
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
pub(crate) fn triple(text: &str) -> Result<[f32; 3], String> {
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
pub(crate) enum Export {
    #[default]
    Last,
    /// Those with the lowest validation loss.
    Best,
}

/// A run's options as the checkpoint holds them.
#[derive(Serialize, Deserialize)]
pub(crate) struct Options {
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
pub(crate) fn bundle_name(out: &Path) -> Result<(String, String)> {
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
pub(crate) fn command_line() -> String {
    COMMAND_LINE.get_or_init(|| as_typed(std::env::args())).clone()
}

/// Says that these words are what the process was told in the end.
pub(crate) fn told(words: impl IntoIterator<Item = String>) {
    COMMAND_LINE.get_or_init(|| as_typed(words));
}

fn as_typed(words: impl IntoIterator<Item = String>) -> String {
    let words = words
        .into_iter()
        .skip(1)
        .map(|word| if word.contains(char::is_whitespace) { format!("{word:?}") } else { word });
    std::iter::once("restain-train".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}
