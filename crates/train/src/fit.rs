//! `fit` and `resume`: from a folder of images to a bundle.

use std::path::{Path, PathBuf};
use std::sync::{Arc, atomic::Ordering};

use anyhow::{Context, Result, ensure};

use crate::input::loader::{BatchSource, Loader, Turns};
use crate::input::transforms::TransformConfig;
use crate::model::vit::Vit;
use crate::objective::paired::pairs::Pairs;
use crate::objective::recipe::Recipe;
use crate::options::{ComputeArgs, Export, Options, TrainingArgs, bundle_name, command_line};
use crate::preset::{self, DataPreset, GeometryArgs};
use crate::publish::{finish, finish_best, is_published};
use crate::report::{self, Counts};
use crate::run::checkpoint::{CHECKPOINT_FILE, Checkpoint, RunHeader};
use crate::run::monitor::Monitor;
use crate::run::progress::Progress;
use crate::run::trainer::{Ending, INTERRUPTED, LoopConfig, Trainer};
use crate::run::validate::Parts;
use crate::run::warm_start::WarmStart;
use crate::splits;
use crate::world::World;
use restain_bundle::{BundleDraft, MANIFEST_FILE};
use restain_data::{Dataset, measure};
use restain_engine::Runtime;
use restain_lab::styles::require_tissue;
use restain_method::{Geometry, Normalisation, PixelOrder};
use restain_options::at_least;
use restain_torch::adamw::{AdamW, AdamWConfig};
use restain_torch::device::{describe, device_name};

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Run")]
pub(crate) struct FitArgs {
    /// Train on the images of this folder or URL, or of the `<domain>/…` folders in it
    #[arg(long, value_name = "DIR|URL")]
    pub data: PathBuf,
    /// Write this bundle, models/NAME/VERSION
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Keep the state of the run in this directory [default: runs/NAME-VERSION]
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Start from this bundle's weights; its geometry, pixel order and normalisation are defaults
    #[arg(long, value_name = "BUNDLE")]
    pub from: Option<PathBuf>,
    /// Use the paper's options for this data set, where no flag, variable or file sets them
    #[arg(long, value_name = "PRESET", value_enum)]
    pub data_preset: Option<DataPreset>,
    /// Write the last weights into the bundle, or those with the lowest validation loss
    #[arg(long, value_name = "WEIGHTS", value_enum, default_value = "last")]
    pub export: Export,
    #[command(flatten)]
    pub geometry: GeometryArgs,
    #[command(flatten)]
    pub training: TrainingArgs,
    #[command(flatten)]
    pub compute: ComputeArgs,
}

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Run")]
pub(crate) struct ResumeArgs {
    /// The state of the run, as fit printed it
    pub state: PathBuf,
    /// End the schedule after this many updates instead, sooner or later
    #[arg(long, value_name = "UPDATES", value_parser = at_least(1u64))]
    pub steps: Option<u64>,
    #[command(flatten)]
    pub compute: ComputeArgs,
}

/// A run that is about to start or to resume.
struct Run<'a> {
    parts: Parts,
    options: Options,
    header: RunHeader,
    vit: Vit,
    /// The processes of the run.
    world: World,
    /// The checkpoint to resume from.
    from: Option<Checkpoint>,
    state: &'a Path,
}

impl FitArgs {
    /// Checks the options together, before anything is read.
    ///
    /// # Errors
    /// When two options contradict each other.
    pub(crate) fn check(&self) -> Result<()> {
        self.training.check()?;
        bundle_name(&self.out).map(drop)
    }
}

pub(crate) fn fit(args: &FitArgs) -> Result<Ending> {
    let (name, version) = bundle_name(&args.out)?;
    let state =
        args.state.clone().unwrap_or_else(|| PathBuf::from(format!("runs/{name}-{version}")));
    let start = args.from.as_deref().map(WarmStart::open).transpose()?;
    let geometry = geometry(args, start.as_ref())?;
    require_writable(&args.out)?;
    require_new(&state)?;
    let (device, precision) = args.compute.open(None)?;
    let world = args.compute.join(device)?;
    // The batches of one update, over all processes.
    let training = TrainingArgs {
        grad_accum_steps: args.training.grad_accum_steps * world.size(),
        ..args.training.clone()
    };
    let parts = splits::open(&args.data, &training, training.seed)?;
    let (normalisation, pixel_order) = pixels(args, start.as_ref(), &parts.training)?;
    let options = Options {
        command: command_line(),
        data: args.data.clone(),
        out: args.out.clone(),
        export: args.export,
        precision: Some(precision),
        origin: start.as_ref().map(|start| start.origin.clone()),
        training,
    };
    let header = RunHeader {
        geometry,
        pixel_order,
        normalisation,
        recipe: args.training.objective.recipe,
        seed: args.training.seed,
        total_steps: total_steps(&options.training, parts.training.tiles(geometry.image_size())),
        step: 0,
        seconds: 0.0,
        waited_seconds: 0.0,
        validated: None,
        best: None,
        scalars_bytes: 0,
        device: describe(device, precision.kind()),
        options: serde_json::to_value(&options)?,
    };
    let vit = match start {
        Some(start) => {
            Vit::from_weights(geometry, &start.weights_for(&geometry), device, precision.kind())?
        }
        None => Vit::init(geometry, header.seed, device, precision.kind())?,
    };
    let vit = vit.checkpointing(args.compute.gradient_checkpointing);
    run(Run { parts, options, header, vit, world, from: None, state: &state })
}

pub(crate) fn resume(args: &ResumeArgs) -> Result<Ending> {
    let checkpoint = Checkpoint::open(&args.state)?;
    let options: Options =
        serde_json::from_value(checkpoint.header.options.clone()).with_context(|| {
            format!("the options in {}", args.state.join(CHECKPOINT_FILE).display())
        })?;
    let mut header = checkpoint.header.clone();
    header.total_steps = args.steps.unwrap_or(header.total_steps);
    if is_published(&args.state, &header, &options)? {
        let (steps, out) = (header.step, options.out.display());
        tracing::info!(
            "the run is over after {steps} steps and has written {out}: nothing is left to do"
        );
        return Ok(Ending::Finished);
    }
    require_writable(&options.out)?;
    let (device, precision) = args.compute.open(options.precision)?;
    let world = args.compute.join(device)?;
    header.device = describe(device, precision.kind());
    let parts = splits::open(&options.data, &options.training, header.seed)?;
    let vit = Vit::init(header.geometry, header.seed, device, precision.kind())?
        .checkpointing(args.compute.gradient_checkpointing);
    run(Run { parts, options, header, vit, world, from: Some(checkpoint), state: &args.state })
}

fn run(run: Run<'_>) -> Result<Ending> {
    ctrlc::set_handler(interrupt).context("cannot listen for Ctrl-C")?;
    let Run { parts, options, header, vit, world, from, state } = run;
    let training = &options.training;
    let own_batches = world.share(training.grad_accum_steps)?;
    announce((&parts, &options, &header), &vit, &world, state);
    require_exportable(&options, &parts, &header.geometry)?;
    let mut optimiser = AdamW::new(
        AdamWConfig { weight_decay: training.weight_decay, ..AdamWConfig::default() },
        vit.parameters(),
    );
    if let Some(checkpoint) = &from {
        checkpoint.restore(&vit, &mut optimiser)?;
    }
    world.agree(&identity(&parts.training, &header, training, &vit, &optimiser)?)?;
    let monitor = world.is_first().then(|| {
        Monitor::open(state, &training.watch, &training.objective, &parts, &header, training.batch)
    });
    let monitor = monitor.transpose()?;
    let counts = Counts::of(&parts, header.geometry.image_size());
    let turns = Turns {
        first: header.step * training.grad_accum_steps as u64 + world.rank() as u64,
        every: world.size(),
    };
    let tile = header.geometry.image_size();
    let source = batch_source(parts.training, training, &header.geometry)?;
    let loader = Loader::start(source, tile, training.batch, header.seed, turns);
    let mut progress = Progress::start(header.step, header.total_steps);
    let mut trainer = Trainer {
        vit: &vit,
        optimiser,
        header,
        config: loop_config(training, own_batches),
        monitor,
        dir: state,
        world: &world,
    };
    if from.is_none() && world.is_first() {
        // From here on the run can be resumed; a folder that cannot hold its state is an error
        // before the first step.
        trainer.save()?;
    }
    if world.is_first() && trainer.header.step < trainer.header.total_steps {
        trainer.estimate();
    }
    if trainer.header.step >= trainer.header.total_steps && world.is_first() {
        let steps = trainer.header.step;
        tracing::info!("all {steps} steps are done, and the bundle is not written yet: writing it");
    }
    let ending = trainer.run(&loader, &mut progress)?;
    if !world.is_first() {
        // The first process writes for all.
        return Ok(ending);
    }
    report::write(state, &trainer.header, &counts)?;
    tracing::info!("the report is in {}", state.join(report::REPORT_FILE).display());
    match ending {
        Ending::Interrupted => {
            tracing::info!("stopped; to continue: restain-train resume {}", state.display())
        }
        Ending::Finished if options.export == Export::Best => {
            drop(finish_best(state, &options, false)?)
        }
        Ending::Finished => drop(finish(&vit, &trainer.header, &options, false)?),
    }
    Ok(ending)
}

/// What Ctrl-C does: the first stops after the current step, the second at once.
fn interrupt() {
    if INTERRUPTED.swap(true, Ordering::Relaxed) {
        tracing::warn!("stopped at once: the state is the one that was saved last");
        crate::exit::at_once(130);
    }
    tracing::info!("stopping after this step and its validation; press Ctrl-C again to stop now");
}

/// Returns what the recipe draws its batches from: pairs of tiles, or single tiles.
fn batch_source(
    dataset: Dataset,
    training: &TrainingArgs,
    geometry: &Geometry,
) -> Result<BatchSource> {
    let (dataset, tile) = (Arc::new(dataset), geometry.image_size());
    if training.objective.recipe == Recipe::Paired {
        let args = training.objective.paired;
        let pairs = Pairs::new(dataset, args, tile, geometry.patch_size())?;
        return Ok(BatchSource::Pairs(Arc::new(pairs)));
    }
    let transforms = TransformConfig {
        probability: training.augment,
        ..TransformConfig::published(tile as u32)
    };
    Ok(BatchSource::Tiles(dataset, transforms))
}

fn announce(run: (&Parts, &Options, &RunHeader), vit: &Vit, world: &World, state: &Path) {
    let (parts, options, header) = run;
    tracing::info!(
        "{} images of {} domains ({}), {} kept out; {} steps of {} tiles; {} on {}{}; state in {}",
        parts.training.sources.len(),
        parts.training.domains.len(),
        parts.training.describe(),
        parts.kept_out.sources.len(),
        header.total_steps,
        options.training.batch * options.training.grad_accum_steps,
        preset::describe(header.geometry),
        device_name(vit.device()),
        if world.size() == 1 {
            String::new()
        } else {
            format!(", process {} of {}", world.rank(), world.size())
        },
        state.display()
    );
}

fn geometry(args: &FitArgs, start: Option<&WarmStart>) -> Result<Geometry> {
    match start {
        Some(start) => start.agree(args.geometry.geometry_beside(start.geometry())?),
        None => args.geometry.geometry(),
    }
}

/// Returns normalisation and pixel order: of the bundle to start from, the options, or defaults.
fn pixels(
    args: &FitArgs,
    start: Option<&WarmStart>,
    training: &Dataset,
) -> Result<(Normalisation, PixelOrder)> {
    let (normalisation, order) = (args.training.normalisation()?, args.training.pixel_order);
    match start {
        Some(start) => Ok((start.normalisation(normalisation)?, start.pixel_order(order)?)),
        None => Ok((
            normalisation.map_or_else(|| measure(training), Ok)?,
            order.unwrap_or(PixelOrder::Planar),
        )),
    }
}

fn total_steps(training: &TrainingArgs, tiles: u64) -> u64 {
    let per_epoch = (tiles / (training.batch * training.grad_accum_steps) as u64).max(1);
    training.steps.unwrap_or(training.epochs * per_epoch)
}

fn loop_config(training: &TrainingArgs, own_batches: usize) -> LoopConfig {
    LoopConfig {
        batch: training.batch,
        accumulate: own_batches,
        objective: training.objective.clone(),
        learning_rate: training.learning_rate,
        warm_up: training.warm_up_steps,
        clip: training.grad_clip,
        save_every: training.save_every,
    }
}

/// Checks before training that the bundle can be written.
fn require_writable(out: &Path) -> Result<()> {
    ensure!(
        !out.join(MANIFEST_FILE).exists(),
        "{} is already a bundle: name another --out, in fit or in export",
        out.display()
    );
    BundleDraft::check_place(out).with_context(|| format!("--out {}", out.display()))
}

/// Checks that the folder holds no state of another run, which may have taken hours.
fn require_new(state: &Path) -> Result<()> {
    let taken = state.join(CHECKPOINT_FILE);
    let said = "continue it with `restain-train resume`, or name another --state";
    ensure!(!taken.exists(), "{} already holds the state of a run: {said}", state.display());
    Ok(())
}

/// Checks before training what the export at its end needs.
fn require_exportable(options: &Options, parts: &Parts, geometry: &Geometry) -> Result<()> {
    Runtime::load().context("a bundle is checked with ONNX Runtime")?;
    require_tissue(&parts.training, geometry)?;
    let validates = !parts.kept_out.sources.is_empty() && options.training.watch.validate_every > 0;
    ensure!(
        options.export == Export::Last || validates,
        "--export best needs images to validate on: give a --validation-share, and \
        --validate-every above 0"
    );
    Ok(())
}

/// Serialises what must be equal in every process of a run: images, options and training state.
fn identity(
    dataset: &Dataset,
    header: &RunHeader,
    training: &TrainingArgs,
    vit: &Vit,
    optimiser: &AdamW,
) -> Result<Vec<u8>> {
    let sources: Vec<_> =
        dataset.sources.iter().map(|source| (&source.path, source.width, source.height)).collect();
    let run = (
        header.geometry,
        header.pixel_order,
        header.normalisation,
        header.step,
        header.total_steps,
    );
    let mut bytes = serde_json::to_vec(&(sources, run, training))?;
    let numbers = vit
        .parameters()
        .iter()
        .map(|(_, parameter)| parameter)
        .chain(optimiser.moments.iter().flat_map(|(m, v)| [m, v]));
    for tensor in numbers {
        let held = Vec::<f32>::try_from(tensor.detach().to_device(tch::Device::Cpu).reshape([-1]))?;
        bytes.extend_from_slice(blake3::hash(bytemuck::cast_slice(&held)).as_bytes());
    }
    Ok(bytes)
}
