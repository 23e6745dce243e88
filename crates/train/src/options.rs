//! Options that several commands of `restain-train` share: which images, where to compute, how to
//! train.

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
use restain_lab::familiar::Microns;
use restain_method::{Normalisation, PixelOrder};
use restain_options::{above, at_least, within};
use restain_torch::device::{ComputePrecision, DeviceChoice};

/// Where to compute.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Compute")]
pub(crate) struct ComputeArgs {
    /// Train on auto, cpu, cuda or cuda:N; auto uses CUDA if there is any
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
    /// Multiply matrices in f32 or bf16 (fast on CUDA, and on CPUs with AMX or AVX512-BF16);
    /// weights stay f32 [default: that of the resumed run; bf16 on CUDA, f32 on a CPU]
    #[arg(long, value_enum)]
    pub precision: Option<ComputePrecision>,
    /// Recompute activations in the backward pass: far less memory, up to a third more time
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

/// What a run is made of besides the model; kept in its checkpoint, so that `resume` needs none of
/// it again.
#[derive(Clone, Debug, clap::Args, Serialize, Deserialize)]
#[command(next_help_heading = "Training")]
pub(crate) struct TrainingArgs {
    /// Train for this many passes over the data
    #[arg(long, default_value_t = 50, value_parser = at_least(1u64))]
    pub epochs: u64,
    /// Train for this many updates, instead of --epochs
    #[arg(long, value_name = "UPDATES", value_parser = at_least(1u64))]
    pub steps: Option<u64>,
    /// Put this many tiles in a batch
    #[arg(long, value_name = "TILES", default_value_t = 64, value_parser = at_least(1usize))]
    pub batch: usize,
    /// Accumulate the gradients of this many batches, in each process, for one update
    #[arg(long, value_name = "BATCHES", default_value_t = 1, value_parser = at_least(1usize))]
    pub grad_accum_steps: usize,
    /// Peak learning rate of AdamW
    #[arg(long, value_name = "RATE", default_value_t = 1e-3, value_parser = above(0.0))]
    pub learning_rate: f64,
    /// Raise the learning rate from 0 to its schedule over this many updates
    #[arg(long, value_name = "UPDATES", default_value_t = 0)]
    pub warm_up_steps: u64,
    /// Weight decay of AdamW
    #[arg(long, value_name = "DECAY", default_value_t = 0.05, value_parser = at_least(0.0))]
    pub weight_decay: f64,
    /// Clip gradients to this L2 norm; 0 disables clipping
    #[arg(long, value_name = "NORM", default_value_t = 0.0, value_parser = at_least(0.0))]
    pub grad_clip: f64,
    /// Apply each augmentation with this probability
    #[arg(long, value_name = "PROBABILITY", default_value_t = 0.1, value_parser = within(0.0, 1.0))]
    pub augment: f64,
    /// Draw weights, tiles and augmentations from this seed
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Save the state every this many updates
    #[arg(long, value_name = "UPDATES", default_value_t = 200, value_parser = at_least(1u64))]
    pub save_every: u64,
    #[command(flatten)]
    #[serde(flatten)]
    pub objective: RecipeArgs,
    #[command(flatten)]
    pub watch: WatchArgs,
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Normalise pixels, from 0 to 1, by this mean of each channel, with --std [default: that of
    /// --from, or measured]
    #[arg(long, help_heading = "Data", value_name = "R,G,B", value_parser = triple)]
    pub mean: Option<[f32; 3]>,
    /// Normalise pixels, from 0 to 1, by this standard deviation of each channel, with --mean
    /// [default: that of --from, or measured]
    #[arg(long, help_heading = "Data", value_name = "R,G,B", value_parser = triple)]
    pub std: Option<[f32; 3]>,
    /// Order the pixels of a patch as planar or interleaved [default: that of --from, or planar]
    #[arg(long, help_heading = "Model", value_name = "ORDER")]
    pub pixel_order: Option<PixelOrder>,
    /// Say in the model card what the images are, where they come from and under which licence
    #[arg(long, help_heading = "Data", value_name = "TEXT")]
    pub about_data: Option<String>,
    /// Size of the images' pixels, µm: recorded with the magnifications that the recipe draws, so
    /// that servers know which tiles the model knows [default: what TIFF files state as OME, Aperio
    /// or a microscope's resolution]
    #[arg(long, help_heading = "Data", value_name = "MICRONS", value_parser = within(0.01, 100.0))]
    #[serde(default)]
    pub mpp: Option<f64>,
}

impl TrainingArgs {
    /// The magnifications that a model is trained on, µm a pixel, if that of the images is named or
    /// `stated` by their files.
    pub(crate) fn magnifications(&self, stated: Option<f64>) -> Option<Microns> {
        let coarsest = match self.objective.recipe {
            Recipe::Paired => self.objective.paired.largest_crop.floor().max(1.0),
            _ => 1.0,
        };
        self.mpp.or(stated).map(|mpp| [mpp, mpp * coarsest])
    }

    /// Checks the options together, before anything is read.
    ///
    /// # Errors
    /// When two options contradict each other.
    pub(crate) fn check(&self) -> Result<()> {
        let matches =
            self.objective.recipe == Recipe::Cross && self.objective.weights.match_weight > 0.0;
        ensure!(
            !matches || self.batch > 1,
            "--match-weight takes styles from other tiles of a batch, and --batch is 1: make it \
            larger, or give --match-weight 0"
        );
        self.normalisation()?;
        ensure!(
            self.objective.recipe != Recipe::Paired || self.batch.is_multiple_of(2),
            "--batch is {}, and must be even: --recipe paired takes two tiles of a field at a time",
            self.batch
        );
        self.watch.check()?;
        self.objective.check()
    }

    /// Returns the normalisation of --mean and --std, which belong together.
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

/// Parses three numbers separated by commas.
pub(crate) fn triple(text: &str) -> Result<[f32; 3], String> {
    let values: Result<Vec<f32>, _> =
        text.split(',').map(|part| part.trim().parse::<f32>()).collect();
    values
        .ok()
        .and_then(|v| v.try_into().ok())
        .ok_or_else(|| "must be three numbers, for example 0.5,0.5,0.5".to_owned())
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

/// Returns the command line of this process as it would be typed again, with the options that
/// variables, a file and a preset added.
pub(crate) fn command_line() -> String {
    COMMAND_LINE.get().cloned().unwrap_or_default()
}

/// Keeps the words of the command line, and the flags that stand for what was added to them, for
/// the provenance.
pub(crate) fn record_command_line(words: impl IntoIterator<Item = String>) {
    COMMAND_LINE.get_or_init(|| as_typed(words));
}

fn as_typed(words: impl IntoIterator<Item = String>) -> String {
    let words = words
        .into_iter()
        .skip(1)
        .map(|word| if word.contains(char::is_whitespace) { format!("{word:?}") } else { word });
    std::iter::once("restain-train".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}
