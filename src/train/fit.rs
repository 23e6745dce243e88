//! `fit` and `resume`: from a folder of images to a bundle.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, ensure};

use crate::bundle::MANIFEST_FILE;
use crate::method::Normalisation;
use crate::method::geometry::GeometrySpec;
use crate::train::adamw::{AdamW, AdamWConfig};
use crate::train::augment::AugmentConfig;
use crate::train::checkpoint::{Checkpoint, RunHeader};
use crate::train::dataset::Dataset;
use crate::train::device::describe;
use crate::train::loader::Loader;
use crate::train::options::{ComputeArgs, Options, TrainingArgs, bundle_name, command_line};
use crate::train::preset::GeometryArgs;
use crate::train::produce::finish;
use crate::train::progress::Progress;
use crate::train::recipe::Mixing;
use crate::train::trainer::{Ending, INTERRUPTED, LoopConfig, Trainer};
use crate::train::vit::Vit;

#[derive(Clone, Debug, clap::Args)]
pub struct FitArgs {
    /// Folder of images, or of `<domain>/…` folders
    #[arg(long)]
    pub data: PathBuf,
    /// The bundle to write, models/NAME/VERSION
    #[arg(long)]
    pub out: PathBuf,
    /// Where the state of the run is kept [default: runs/NAME-VERSION]
    #[arg(long)]
    pub state: Option<PathBuf>,
    #[command(flatten)]
    pub geometry: GeometryArgs,
    #[command(flatten)]
    pub training: TrainingArgs,
    #[command(flatten)]
    pub compute: ComputeArgs,
}

#[derive(Clone, Debug, clap::Args)]
pub struct ResumeArgs {
    /// The state of the run, as fit printed it
    pub state: PathBuf,
    /// End the schedule at this many updates instead: sooner, or later
    #[arg(long)]
    pub steps: Option<u64>,
    #[command(flatten)]
    pub compute: ComputeArgs,
}

pub fn fit(args: &FitArgs) -> Result<Ending> {
    let (name, version) = bundle_name(&args.out)?;
    let state = args.state.clone().unwrap_or_else(|| PathBuf::from(format!("runs/{name}-{version}")));
    let geometry = args.geometry.geometry()?;
    let (device, precision) = args.compute.open()?;
    let training = &args.training;
    training.check()?;
    let dataset = Dataset::open(&args.data, &training.selection.selection())?;
    let normalisation = match (training.mean, training.std) {
        (Some(mean), Some(std)) => Normalisation::new(mean, std)?,
        (None, None) => measure(&dataset)?,
        _ => anyhow::bail!("give both --mean and --std, or neither"),
    };
    let per_epoch = (dataset.tiles(geometry.image_size()) / (training.batch * training.accumulate) as u64).max(1);
    let options = Options { command: command_line(), data: args.data.clone(), out: args.out.clone(), training: training.clone() };
    let header = RunHeader {
        geometry,
        pixel_order: training.pixel_order,
        normalisation,
        recipe: training.recipe,
        seed: training.seed,
        total_steps: training.steps.unwrap_or(training.epochs * per_epoch),
        step: 0,
        seconds: 0.0,
        device: describe(device, precision),
        options: serde_json::to_value(&options)?,
    };
    let vit = Vit::init(geometry, training.seed, device, precision)?;
    run(dataset, options, header, vit, None, &state)
}

pub fn resume(args: &ResumeArgs) -> Result<Ending> {
    let checkpoint = Checkpoint::open(&args.state)?;
    let options: Options = serde_json::from_value(checkpoint.header.options.clone())?;
    let dataset = Dataset::open(&options.data, &options.training.selection.selection())?;
    let (device, precision) = args.compute.open()?;
    let mut header = checkpoint.header.clone();
    header.total_steps = args.steps.unwrap_or(header.total_steps);
    header.device = describe(device, precision);
    let vit = Vit::init(header.geometry, header.seed, device, precision)?;
    run(dataset, options, header, vit, Some(checkpoint), &args.state)
}

fn run(dataset: Dataset, options: Options, header: RunHeader, vit: Vit, from: Option<Checkpoint>, state: &Path) -> Result<Ending> {
    ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed)).context("cannot listen for Ctrl-C")?;
    // Before hours of work, not after them.
    ensure!(!options.out.join(MANIFEST_FILE).exists(), "{} is already a bundle: name another --out", options.out.display());
    let training = &options.training;
    tracing::info!(
        "{} images of {} domains ({}); {} steps of {} tiles; {:?} on {:?}; state in {}",
        dataset.sources.len(),
        dataset.domains.len(),
        dataset.domains.join(", "),
        header.total_steps,
        training.batch * training.accumulate,
        GeometrySpec::from(header.geometry),
        vit.device(),
        state.display()
    );
    let mut optimiser = AdamW::new(AdamWConfig { weight_decay: training.weight_decay, ..AdamWConfig::default() }, vit.parameters());
    if let Some(checkpoint) = from {
        checkpoint.restore(&vit, &mut optimiser)?;
    }
    let augment = AugmentConfig { probability: training.augment, ..AugmentConfig::published(header.geometry.image_size() as u32) };
    let first = header.step * training.accumulate as u64;
    let loader = Loader::start(Arc::new(dataset), augment, training.batch, header.seed, first);
    let config = LoopConfig {
        batch: training.batch,
        accumulate: training.accumulate,
        mixing: Mixing { mixes: training.mixes, match_weight: training.match_weight, seed: header.seed },
        learning_rate: training.learning_rate,
        clip: training.clip,
        save_every: training.save_every.max(1),
    };
    let mut progress = Progress::start(header.step, header.total_steps);
    let mut trainer = Trainer { vit: &vit, optimiser, header, config, dir: state };
    let ending = trainer.run(&loader, &mut progress)?;
    match ending {
        Ending::Interrupted => tracing::info!("stopped; go on with: restain-train resume {}", state.display()),
        Ending::Finished => drop(finish(&vit, &trainer.header, &options, false)?),
    }
    Ok(ending)
}

/// Mean and deviation of all pixels, each domain weighing the same.
fn measure(dataset: &Dataset) -> Result<Normalisation> {
    let domains = dataset.domains.len();
    let mut sums = vec![[[0f64; 3]; 2]; domains];
    let mut counts = vec![0f64; domains];
    for source in &dataset.sources {
        let image = dataset.image(source)?;
        // Every 7th pixel says the same as all of them.
        for pixel in image.pixels().step_by(7) {
            counts[source.domain] += 1.0;
            for (channel, value) in pixel.0.into_iter().enumerate() {
                let value = value as f64 / 255.0;
                sums[source.domain][0][channel] += value;
                sums[source.domain][1][channel] += value * value;
            }
        }
    }
    let average = |power: usize, channel: usize| (0..domains).map(|d| sums[d][power][channel] / counts[d]).sum::<f64>() / domains as f64;
    let mean: [f64; 3] = std::array::from_fn(|c| average(0, c));
    let std: [f64; 3] = std::array::from_fn(|c| (average(1, c) - mean[c] * mean[c]).max(1e-6).sqrt());
    Ok(Normalisation::new(mean.map(|v| v as f32), std.map(|v| v as f32))?)
}
