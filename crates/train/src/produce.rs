//! From weights to a bundle: what `fit`, `import`, `init` and `export` have in common, and the last three themselves.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tch::{Device, Kind};

use crate::checkpoint::{Checkpoint, RunHeader};
use crate::export::{self, ExportRequest};
use crate::import::read_checkpoint;
use crate::inference::encode;
use crate::options::{Options, bundle_name, triple};
use crate::parts;
use crate::preset::GeometryArgs;
use crate::validate::Parts;
use crate::vit::Vit;
use restain_bundle::{Bundle, BundleEditor, Weights, rewrite};
use restain_lab::card::{self, CARD_FILE};
use restain_lab::encoded::Model;
use restain_lab::styles;
use restain_method::{Geometry, Normalisation, PixelOrder};
use restain_options::at_least;

/// Styles that `fit` and `export` put into a bundle for each domain.
const STYLES_PER_DOMAIN: usize = 64;

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

/// Writes the bundle, refused unless its graphs agree with these weights run by libtorch.
pub(crate) fn write_bundle(weights: &Weights, product: &Product<'_>) -> Result<Bundle> {
    let (name, version) = bundle_name(product.out)?;
    let vit = Vit::from_weights(product.geometry, weights, Device::Cpu, Kind::Float)?;
    let reference = |tiles: &[u8], batch: usize| encode(&vit, &product.normalisation, tiles, batch);
    let bundle = export::export(&ExportRequest {
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
    write_card(&bundle.dir)
}

fn write_card(dir: &Path) -> Result<Bundle> {
    rewrite(dir, |editor: &mut BundleEditor| -> Result<()> {
        let card = card::render(&editor.manifest);
        Ok(editor.add(CARD_FILE, card.as_bytes())?)
    })
}

/// The bundle of a run: weights, graphs, and styles from the tiles that it was trained on.
pub(crate) fn finish(
    vit: &Vit,
    header: &RunHeader,
    options: &Options,
    overwrite: bool,
) -> Result<Bundle> {
    let out = &options.out;
    let Parts { training, kept_out } = parts::open(&options.data, &options.training, header.seed)?;
    let provenance = json!({
        "command": options.command,
        "started_from": options.origin,
        "recipe": header.recipe,
        "seed": header.seed,
        "steps": header.step,
        "tiles_seen": header.step * (options.training.batch * options.training.grad_accum_steps) as u64,
        "training_seconds": header.seconds.round(),
        "device": header.device,
        "images_kept_out": kept_out.sources.len(),
        "validation": header.validated,
        "data": options.data.file_name().map(|name| name.to_string_lossy().into_owned()),
        "about_data": options.training.about_data,
        "excluded": options.training.selection.exclude,
        "program": concat!("restain-train ", env!("CARGO_PKG_VERSION")),
    });
    let product = Product {
        geometry: header.geometry,
        pixel_order: header.pixel_order,
        normalisation: header.normalisation,
        provenance,
        out,
        overwrite,
        int8: true,
        trained: true,
    };
    write_bundle(&vit.weights()?, &product)?;
    let mut model = Model::open(out, restain_bundle::Precision::Fp32)?;
    let bank = styles::build(&mut model, &training, STYLES_PER_DOMAIN, header.seed)?;
    let bundle =
        rewrite(out, |editor: &mut BundleEditor| -> Result<()> { Ok(editor.set_styles(&bank)?) })?;
    tracing::info!(
        "{} written: {} styles of {}",
        out.display(),
        bundle.styles.entries.len(),
        bundle.styles.domains.join(", ")
    );
    Ok(bundle)
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
    let bundle = write_bundle(&weights, &product)?;
    tracing::info!(
        "{} written; it has no styles yet: restain-train styles --bundle {0} --data DIR",
        bundle.dir.display()
    );
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
    let found = export::add_fp16(&args.bundle)?;
    write_card(&args.bundle)?;
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
    write_bundle(&vit.weights()?, &product)?;
    let bank = styles::random(&geometry, args.styles, args.seed);
    rewrite(&args.out, |editor: &mut BundleEditor| -> Result<()> {
        Ok(editor.set_styles(&bank)?)
    })?;
    tracing::info!(
        "{} written: untrained weights, {} random styles",
        args.out.display(),
        args.styles
    );
    Ok(())
}
