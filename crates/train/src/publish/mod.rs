//! From weights to a bundle: what `fit`, `import`, `init` and `export` have in common, and the last
//! three themselves.

mod export;
pub mod import;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tch::{Device, Kind};

use crate::model::inference::encode;
use crate::model::vit::Vit;
use crate::options::{Export, Options, bundle_name, triple};
use crate::preset::GeometryArgs;
use crate::run::checkpoint::{Checkpoint, RunHeader};
use crate::run::validate::Parts;
use crate::splits;
use export::ExportRequest;
use import::read_checkpoint;
use restain_bundle::{Bundle, BundleDraft, MANIFEST_FILE, Weights};
use restain_data::{Dataset, SelectionArgs};
use restain_lab::card;
use restain_lab::styles::{self, Wanted};
use restain_method::{Geometry, Normalisation, PixelOrder};
use restain_options::at_least;

/// Normalisation of CAMELYON17 tiles, for weights that were never trained.
const CAMELYON17: Normalisation =
    Normalisation { mean: [0.7441, 0.5895, 0.7214], std: [0.1301, 0.1489, 0.1107] };

/// What a bundle is made of besides its weights.
pub(crate) struct Product<'a> {
    pub geometry: Geometry,
    pub pixel_order: PixelOrder,
    pub normalisation: Normalisation,
    pub provenance: Value,
    pub out: &'a Path,
    pub overwrite: bool,
    pub int8: bool,
    pub trained: bool,
}

/// Writes weights and encoders into a draft of the bundle, refused unless its graphs agree with
/// these weights run by libtorch. Styles, samples and card are for the caller to add, who publishes
/// it.
pub(crate) fn draft(weights: &Weights, product: &Product<'_>) -> Result<BundleDraft> {
    let (name, version) = bundle_name(product.out)?;
    let vit = Vit::from_weights(product.geometry, weights, Device::Cpu, Kind::Float)?;
    let reference = |tiles: &[u8], batch: usize| encode(&vit, &product.normalisation, tiles, batch);
    let draft = export::export(&ExportRequest {
        weights,
        geometry: product.geometry,
        pixel_order: product.pixel_order,
        normalisation: product.normalisation,
        name,
        version,
        provenance: product.provenance.clone(),
        out: product.out,
        overwrite: product.overwrite,
        int8: product.int8,
        reference: &reference,
        trained: product.trained,
    })?;
    Ok(draft)
}

/// Adds the card and publishes the bundle.
fn publish(mut draft: BundleDraft) -> Result<Bundle> {
    card::add(&mut draft)?;
    Ok(draft.publish()?)
}

/// Publishes the bundle of a run: weights, encoders, and styles and samples of the tiles that it
/// was trained on.
pub(crate) fn finish(
    vit: &Vit,
    header: &RunHeader,
    options: &Options,
    overwrite: bool,
) -> Result<Bundle> {
    let Parts { training, kept_out } = splits::open(&options.data, &options.training, header.seed)?;
    let stated = match options.training.mpp {
        Some(_) => None,
        None => training.stated_microns()?,
    };
    if let Some(stated) = stated {
        tracing::info!("{}: {stated}", options.data.display());
    }
    let mut provenance = provenance(header, options, kept_out.sources.len());
    provenance["mpp_from"] = json!(stated.map(|stated| stated.from.to_string()));
    let product = Product {
        geometry: header.geometry,
        pixel_order: header.pixel_order,
        normalisation: header.normalisation,
        provenance,
        out: &options.out,
        overwrite,
        int8: true,
        trained: true,
    };
    let mut draft = draft(&vit.weights()?, &product)?;
    let magnifications = options.training.magnifications(stated.map(|stated| stated.size));
    let wanted = (Wanted::default(), magnifications);
    styles::add(&mut draft, &training, wanted, header.seed)?;
    let bundle = publish(draft)?;
    tracing::info!(
        "{} written: {} styles of {}",
        options.out.display(),
        bundle.styles.entries.len(),
        bundle.styles.domains.join(", ")
    );
    if let Some(left_out) = training.left_out() {
        tracing::info!("{}: {left_out}", options.data.display());
    }
    Ok(bundle)
}

fn provenance(header: &RunHeader, options: &Options, kept_out: usize) -> Value {
    json!({
        "command": options.command,
        "started_from": options.origin,
        "recipe": header.recipe,
        "seed": header.seed,
        "steps": header.step,
        "tiles_seen": header.step * (options.training.batch * options.training.grad_accum_steps) as u64,
        "training_seconds": header.seconds.round(),
        "device": header.device,
        "images_kept_out": kept_out,
        "validation": header.validated,
        "data": options.data.file_name().map(|name| name.to_string_lossy().into_owned()),
        "about_data": options.training.about_data,
        "excluded": options.training.selection.exclude,
        "program": concat!("restain-train ", env!("CARGO_PKG_VERSION")),
    })
}

/// Whether the bundle that lies where a run would publish is the one that this run, which is over,
/// has published.
pub(crate) fn is_published(state: &Path, last: &RunHeader, options: &Options) -> Result<bool> {
    if last.step < last.total_steps || !options.out.join(MANIFEST_FILE).is_file() {
        return Ok(false);
    }
    let best = match options.export {
        Export::Best => Some(Checkpoint::open_best(state)?.header),
        Export::Last => None,
    };
    let found = Bundle::open(&options.out)?.manifest.provenance;
    let made = provenance(best.as_ref().unwrap_or(last), options, 0);
    let of_run = ["command", "seed", "steps", "training_seconds", "validation"];
    Ok(of_run.iter().all(|field| found[field] == made[field]))
}

/// The bundle of the weights with the lowest validation loss.
pub(crate) fn finish_best(state: &Path, options: &Options, overwrite: bool) -> Result<Bundle> {
    finish_saved(&Checkpoint::open_best(state)?, options, overwrite)
}

fn finish_saved(checkpoint: &Checkpoint, options: &Options, overwrite: bool) -> Result<Bundle> {
    let header = &checkpoint.header;
    let vit = Vit::init(header.geometry, header.seed, Device::Cpu, Kind::Float)?;
    checkpoint.restore_weights(&vit)?;
    finish(&vit, header, options, overwrite)
}

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Bundle")]
pub(crate) struct ExportArgs {
    /// The state of a run, finished or not
    pub state: PathBuf,
    /// Write this bundle, models/NAME/VERSION [default: the one of the run]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Write the weights with the lowest validation loss, instead of the last
    #[arg(long)]
    pub best: bool,
    /// Replace an existing bundle
    #[arg(long)]
    pub overwrite: bool,
}

pub(crate) fn export(args: &ExportArgs) -> Result<()> {
    let checkpoint = if args.best {
        Checkpoint::open_best(&args.state)?
    } else {
        Checkpoint::open(&args.state)?
    };
    let mut options: Options = serde_json::from_value(checkpoint.header.options.clone())?;
    options.out = args.out.clone().unwrap_or(options.out);
    finish_saved(&checkpoint, &options, args.overwrite).map(drop)
}

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Checkpoint")]
pub(crate) struct ImportArgs {
    /// A checkpoint of the published code (.pth), or its weights as .safetensors
    pub file: PathBuf,
    /// Use this number of attention heads, which the weights do not show
    #[arg(long, value_name = "HEADS")]
    pub num_heads: usize,
    /// Use tiles with this side, in pixels, which the weights do not show
    #[arg(long, value_name = "PIXELS")]
    pub image_size: usize,
    /// Normalise pixels, from 0 to 1, by this mean of each channel
    #[arg(long, value_name = "R,G,B", value_parser = triple)]
    pub mean: [f32; 3],
    /// Normalise pixels, from 0 to 1, by this standard deviation of each channel
    #[arg(long, value_name = "R,G,B", value_parser = triple)]
    pub std: [f32; 3],
    /// Take the bundle's styles from this folder of images, or of `<domain>/…` folders; without it,
    /// the bundle has none
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Order the pixels of a patch as planar or interleaved; the published code trains interleaved
    #[arg(long, value_name = "ORDER", default_value = "interleaved")]
    pub pixel_order: PixelOrder,
    /// Write this bundle, models/NAME/VERSION
    #[arg(long, help_heading = "Bundle", value_name = "DIR")]
    pub out: PathBuf,
    /// Replace an existing bundle
    #[arg(long, help_heading = "Bundle")]
    pub overwrite: bool,
    /// Leave out the int8 encoder
    #[arg(long, help_heading = "Bundle")]
    pub no_int8: bool,
}

pub(crate) fn import(args: &ImportArgs) -> Result<()> {
    let weights = read_checkpoint(&args.file)?;
    let geometry = weights.geometry(args.num_heads, args.image_size)?;
    let file =
        args.file.file_name().context("the checkpoint is a file")?.to_string_lossy().into_owned();
    let product = Product {
        geometry,
        pixel_order: args.pixel_order,
        normalisation: Normalisation::new(args.mean, args.std)?,
        provenance: json!({ "imported": file }),
        out: &args.out,
        overwrite: args.overwrite,
        int8: !args.no_int8,
        trained: true,
    };
    let mut draft = draft(&weights, &product)?;
    match &args.data {
        Some(data) => {
            let dataset = Dataset::open(data, &args.selection.selection())?;
            styles::add(&mut draft, &dataset, (Wanted::default(), None), 0)?;
        }
        None => tracing::warn!(
            "the bundle has no styles, so a server does not make it the default: add some with \
             restain-train styles --bundle {} --data DIR",
            args.out.display()
        ),
    }
    publish(draft)?;
    tracing::info!("{} written", args.out.display());
    Ok(())
}

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Bundle")]
pub(crate) struct Fp16Args {
    /// Add the encoder to this bundle
    #[arg(long, value_name = "DIR")]
    pub bundle: PathBuf,
}

/// For bundles that were written before there was such a graph.
pub(crate) fn fp16(args: &Fp16Args) -> Result<()> {
    let bundle = &args.bundle;
    let mut draft =
        BundleDraft::of(bundle).with_context(|| format!("the bundle {}", bundle.display()))?;
    let found = export::add_fp16(&mut draft)?;
    publish(draft)?;
    tracing::info!(
        "{}: its fp16 encoder reconstructs at {found:.1} dB of fp32",
        args.bundle.display()
    );
    Ok(())
}

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Bundle")]
pub(crate) struct InitArgs {
    /// Write this bundle, models/NAME/VERSION
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Replace an existing bundle
    #[arg(long)]
    pub overwrite: bool,
    /// Add this many random styles, so that the bundle can be served
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = at_least(1usize))]
    pub styles: usize,
    /// Draw weights and styles from this seed
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    #[command(flatten)]
    pub geometry: GeometryArgs,
    /// Order the pixels of a patch as planar or interleaved
    #[arg(long, help_heading = "Model", value_name = "ORDER", default_value = "planar")]
    pub pixel_order: PixelOrder,
}

/// Untrained weights, for benchmarks and tests: as fast as trained ones, and as good as noise.
pub(crate) fn init(args: &InitArgs) -> Result<()> {
    let geometry = args.geometry.geometry()?;
    let vit = Vit::init(geometry, args.seed, Device::Cpu, Kind::Float)?;
    let product = Product {
        geometry,
        pixel_order: args.pixel_order,
        normalisation: CAMELYON17,
        provenance: json!({ "untrained": true, "seed": args.seed }),
        out: &args.out,
        overwrite: args.overwrite,
        int8: true,
        trained: false,
    };
    let mut draft = draft(&vit.weights()?, &product)?;
    draft.set_styles(styles::random(&geometry, args.styles, args.seed))?;
    publish(draft)?;
    tracing::info!(
        "{} written: untrained weights, {} random styles",
        args.out.display(),
        args.styles
    );
    Ok(())
}
