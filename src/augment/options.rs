//! The options of `restain augment`, and which of them contradict each other.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use super::shard::Shard;
use crate::serve::config::{
    ByteSize, Config, Devices, LogArgs, MOST_BATCH, MOST_ENCODERS, Place, PrecisionChoice, Span,
    all_threads, default_models,
};
use restain_bundle::codec::ImageFormat;
use restain_data::{Format, Selection};
use restain_options::within;
use restain_request::{
    Detail, Method, Placement, Priority, Request, Share, Spelling, StyleSource, Wire, field,
    read_flag,
};

/// Variants are numbered with two digits.
pub(super) const MAX_VARIANTS: u64 = 100;
/// A tile of a job has no deadline worth speaking of.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// Write variants of a data set, without a server
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = include_str!("help.txt"))]
pub struct AugmentArgs {
    /// Tiles: a folder of images, a WILDS root (metadata.csv and patches/), PatchCamelyon's HDF5
    /// files, or WebDataset tars: some, a folder of them, or a pattern such as
    /// 'train-{000000..000099}.tar'; tars may lie at URLs such as s3://bucket/train
    #[arg(value_name = "IN", required = true, num_args = 1..)]
    pub inputs: Vec<PathBuf>,
    /// The folder to write to, or a URL for tars: a new one, or that of an interrupted job
    #[arg(value_name = "OUT", required = true)]
    pub out: Place,
    #[command(flatten)]
    pub ask: AskArgs,
    #[command(flatten)]
    pub job: JobArgs,
    #[command(flatten)]
    pub engine: EngineArgs,
    #[command(flatten)]
    pub log: LogArgs,
}

/// The fields of the request that each tile becomes.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Variants")]
pub struct AskArgs {
    /// Use this model [default: the only name's highest version]
    #[arg(long, value_name = "NAME[/VERSION]")]
    pub model: Option<String>,
    /// Write this many variants of each tile, from 1 to 100
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = variants)]
    pub variants: u64,
    /// Draw styles from this seed: the same seed gives the same bytes [default: drawn, and kept
    /// with the job's state]
    #[arg(long, value_parser = |text: &str| read_flag::<u64>(&field::seed, text))]
    pub seed: Option<u64>,
    /// Make variants by this method: vit, color-match, hed-jitter or identity
    #[arg(long, default_value = "vit",
        value_parser = |text: &str| read_flag::<Method>(&field::method, text))]
    pub method: Method,
    /// Take styles from the model's bank, from the tile's own tokens (own), or from --references
    /// (reference)
    #[arg(long, value_name = "SOURCE", default_value = "bank",
          value_parser = |text: &str| read_flag::<StyleSource>(&field::style_from, text))]
    pub style_from: StyleSource,
    /// Use only styles of these domains; repeat, or separate by commas
    #[arg(long, value_name = "DOMAIN", value_delimiter = ',')]
    pub domains: Vec<String>,
    /// Use no styles of these domains; repeat, or separate by commas
    #[arg(long, value_name = "DOMAIN", value_delimiter = ',')]
    pub exclude_domains: Vec<String>,
    /// Use only these styles; repeat, or separate by commas
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    pub style_ids: Vec<String>,
    /// Take styles from these images, with --style-from reference; repeat, or separate by commas
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    pub references: Vec<PathBuf>,
    /// Give all patches one style (broadcast), or each patch the style of the patch in its place
    /// (aligned)
    #[arg(long, default_value = "broadcast",
          value_parser = |text: &str| read_flag::<Placement>(&field::style_placement, text))]
    pub placement: Placement,
    /// Draw styles for each tile (tile), or one for the n-th variants of all tiles (request)
    #[arg(long, default_value = "tile",
        value_parser = |text: &str| read_flag::<Share>(&field::style_share, text))]
    pub share: Share,
    /// Draw styles of the bank this wide, from 0 to 3: 1 takes them as they are, 0 their mean, 2
    /// spreads them
    #[arg(long, default_value_t = 1.0,
        value_parser = |text: &str| read_flag::<f64>(&field::style_spread, text))]
    pub spread: f64,
    /// Say that the tiles' pixels have this size, µm, so that the model sees them at magnifications
    /// that it knows [default: what a tile's file states as OME, Aperio or a microscope's
    /// resolution, or else unknown: the model sees the tile at its own]
    #[arg(long, value_name = "MICRONS",
        value_parser = |text: &str| read_flag::<f32>(&field::mpp, text))]
    pub mpp: Option<f32>,
    /// Draw the strength of each variant, between this and --strength [default: all have
    /// --strength]
    #[arg(long, value_name = "STRENGTH",
        value_parser = |text: &str| read_flag::<f32>(&field::strength_from, text))]
    pub strength_from: Option<f32>,
    /// Mix this much of the style in: 0 keeps the tile's own characteristics, 1 takes all of the
    /// style's
    #[arg(long, default_value_t = 1.0,
        value_parser = |text: &str| read_flag::<f64>(&field::strength, text))]
    pub strength: f64,
    /// Add what the style changes to the tile itself, at its own size (carry), or write the model's
    /// reconstruction at the model's size (model)
    #[arg(long, default_value = "carry",
        value_parser = |text: &str| read_flag::<Detail>(&field::detail, text))]
    pub detail: Detail,
    /// Write images as png, jpeg or webp [default: png; into tars with --originals, as the name of
    /// the tile's field says, so that all samples have the same fields]
    #[arg(long, value_parser = |text: &str| read_flag::<ImageFormat>(&field::output_format, text))]
    pub format: Option<ImageFormat>,
    /// Compress JPEG and WebP at this quality, from 1 to 100; WebP is lossless at 100
    #[arg(long, default_value_t = 90,
        value_parser = |text: &str| read_flag::<u8>(&field::output_quality, text))]
    pub quality: u8,
}

/// What is done to which tiles.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Job")]
pub struct JobArgs {
    /// Read IN in this layout
    #[arg(long, value_enum, default_value_t)]
    pub layout: Format,
    /// Use only tiles of these official splits; repeat, or separate by commas
    #[arg(long = "split", value_name = "SPLIT", value_delimiter = ',')]
    pub splits: Vec<String>,
    /// Use only tiles of these domains; repeat, or separate by commas
    #[arg(long, value_name = "DOMAIN", value_delimiter = ',')]
    pub tile_domains: Vec<String>,
    /// Leave tiles of these domains out; repeat, or separate by commas
    #[arg(long, value_name = "DOMAIN", value_delimiter = ',')]
    pub exclude_tile_domains: Vec<String>,
    /// Use only these tiles, by their path below IN; repeat, or separate by commas
    #[arg(long, value_name = "IMAGE", value_delimiter = ',')]
    pub only: Vec<PathBuf>,
    /// Leave these tiles out, by their path below IN; repeat, or separate by commas
    #[arg(long, value_name = "IMAGE", value_delimiter = ',')]
    pub exclude: Vec<PathBuf>,
    /// Do the I-th of N parts, counted from 0: every N-th tile, or every N-th tar
    #[arg(long, value_name = "I/N", default_value = "0/1")]
    pub shard: Shard,
    /// Write the originals beside their variants, byte for byte; into tars, where their format is
    /// another than that of their variants, pixel for pixel in the variants'
    #[arg(long)]
    pub originals: bool,
    /// Take the folder that a tile lies in as its slide, as in WILDS roots: the change of stain
    /// starts from the slide's stain, measured on some of its tiles
    #[arg(long)]
    pub slides: bool,
    /// Skip up to this many damaged tiles; one more ends the job
    #[arg(long, value_name = "TILES", default_value_t = 0)]
    pub max_damaged: u64,
    /// Keep what the job has to remember in this folder, on the file system of OUT; if OUT is a
    /// URL, what is under way [default: OUT.restain, beside OUT; of a URL, in this folder]
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Take the tile from this field of a tar's samples, such as png or input.png [default: the
    /// only image; or, of several, the only one named by its ending alone]
    #[arg(long, value_name = "FIELD")]
    pub image_field: Option<String>,
    /// Print what the job would do, and exit
    #[arg(long)]
    pub dry_run: bool,
}

/// How the model runs: options of the server, with its names and meanings.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Engine")]
pub struct EngineArgs {
    /// Find the model in this directory, laid out as NAME/VERSION/bundle.json, or below a URL such
    /// as s3://bucket/models [default: models, or the installed ones if there is no bundle in it]
    #[arg(long, value_name = "DIR|URL", default_value_os_t = default_models(),
          hide_default_value = true)]
    pub models: Place,
    /// Keep a copy of the bundle of a --models URL in this directory [default:
    /// .cache/restain/models in the user's home]
    #[arg(long, value_name = "DIR")]
    pub models_cache: Option<PathBuf>,
    /// Run encoders on cpu, cuda:0, tensorrt:0, or a list of one kind such as cuda:0,cuda:1
    #[arg(long, value_name = "DEVICES", default_value = "cpu")]
    pub devices: Devices,
    /// Run encoders on these devices if --devices cannot run them [default: do not begin then]
    #[arg(long, value_name = "DEVICES")]
    pub fallback_devices: Option<Devices>,
    /// Run the bundle's encoder of this precision: fp32, fp16, int8, or auto: fp16 on a GPU if the
    /// bundle has it, else fp32
    #[arg(long, value_name = "PRECISION", default_value = "auto")]
    pub precision: PrecisionChoice,
    /// Run this many encoders on each device; 0 picks 2 on a GPU and 1 on a CPU
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = within(0, MOST_ENCODERS))]
    pub encoders_per_device: usize,
    /// Limit the GPU memory of each encoder, for weights and work [default: all there is]
    #[arg(long, value_name = "BYTES")]
    pub gpu_memory: Option<ByteSize>,
    /// Use this many CPU threads for encoders, and as many for decoding, synthesis and compression
    /// [default: all]
    #[arg(long, value_name = "N", default_value_t = all_threads(), hide_default_value = true)]
    pub threads: NonZeroUsize,
    /// Use this many CPU threads for each encoder; 0 divides --threads evenly
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub encoder_threads: usize,
    /// Encode at most this many tiles at once; 0 picks 32 on a GPU, and on a CPU the threads of an
    /// encoder, up to 16
    #[arg(long, value_name = "TILES", default_value_t = 0, value_parser = within(0, MOST_BATCH))]
    pub max_batch: usize,
    /// Let the model see tiles shrunk by at most this; larger tiles are seen in overlapping windows
    #[arg(long, value_name = "TIMES", default_value_t = 4.0, value_parser = within(1.0, 64.0))]
    pub window: f64,
    /// Use this much memory for encodings, of use where a data set has a tile more than once
    #[arg(long, value_name = "BYTES", default_value = "64MiB")]
    pub cache_memory: ByteSize,
    /// Limit the memory of tiles and variants in flight; a larger tile goes alone
    #[arg(long, value_name = "BYTES", default_value = "1GiB")]
    pub max_inflight_bytes: ByteSize,
    /// Reject images with more pixels than this
    #[arg(long, value_name = "PIXELS", default_value_t = 4096 * 4096)]
    pub max_pixels: u64,
}

fn variants(text: &str) -> Result<u64, String> {
    read_flag(&field::variants, text)
        .ok()
        .filter(|variants| *variants <= MAX_VARIANTS)
        .ok_or_else(|| format!("must be a whole number from 1 to {MAX_VARIANTS}"))
}

impl AugmentArgs {
    /// Checks the options together, before anything is loaded.
    ///
    /// # Errors
    /// In one sentence, which options contradict each other.
    pub fn checked(self) -> Result<Self, String> {
        let reject = |so: bool, why: &str| if so { Err(why.to_owned()) } else { Ok(()) };
        let ask = &self.ask;
        reject(
            ask.style_from == StyleSource::Batch,
            "--style-from batch takes styles from the other tiles of a request, and each tile of a \
            job is a request: use bank, own or reference",
        )?;
        let takes_references = ask.style_from == StyleSource::Reference;
        reject(
            takes_references && ask.references.is_empty(),
            "--style-from reference needs --references",
        )?;
        reject(
            !takes_references && !ask.references.is_empty(),
            "--references needs --style-from reference",
        )?;
        reject(
            self.job.slides && !matches!(ask.method, Method::Vit | Method::ColorMatch),
            "--slides is for --method vit and color-match",
        )?;
        Ok(self)
    }
}

impl AugmentArgs {
    /// Returns the format of all variants; nothing where each has that of its tile's field.
    pub fn format(&self) -> Option<ImageFormat> {
        self.ask.format.or((!self.job.originals).then_some(ImageFormat::Png))
    }
}

impl JobArgs {
    /// Returns which tiles take part.
    pub fn selection(&self) -> Selection {
        let named = |list: &[String]| list.iter().map(|name| name.trim().to_owned()).collect();
        Selection {
            format: self.layout,
            splits: named(&self.splits),
            domains: named(&self.tile_domains),
            exclude_domains: named(&self.exclude_tile_domains),
            only: self.only.clone(),
            exclude: self.exclude.clone(),
            image_field: self.image_field.clone(),
            domain_options: ["tile-domains", "exclude-tile-domains"],
            ..Selection::default()
        }
    }
}

impl AskArgs {
    /// Returns the request that each tile becomes, without its seed.
    pub fn request(&self) -> Request {
        let some = |list: &Vec<String>| {
            let names: Vec<String> = list.iter().map(|name| name.trim().to_owned()).collect();
            (!names.is_empty()).then_some(names)
        };
        Request {
            variants: self.variants,
            seed: self.seed,
            method: self.method,
            style_from: self.style_from,
            style_domains: some(&self.domains),
            style_exclude_domains: some(&self.exclude_domains),
            style_ids: some(&self.style_ids),
            style_placement: self.placement,
            style_share: self.share,
            style_spread: self.spread as f32,
            mpp: self.mpp,
            strength_from: self.strength_from,
            strength: self.strength as f32,
            detail: self.detail,
            output_format: self.format,
            output_quality: self.quality,
            priority: Priority::Bulk,
            spelling: Spelling::of(Wire::Flag),
            ..Request::default()
        }
    }
}

impl AugmentArgs {
    /// Returns the server's options that the engine needs.
    pub fn engine_config(&self) -> Config {
        let engine = &self.engine;
        let defaults = Config::default();
        Config {
            models: engine.models.clone(),
            models_cache: engine.models_cache.clone(),
            default_model: self.ask.model.clone(),
            precision: engine.precision,
            devices: engine.devices.clone(),
            encoders_per_device: engine.encoders_per_device,
            fallback_devices: engine.fallback_devices.clone(),
            gpu_memory: engine.gpu_memory,
            threads: engine.threads,
            encoder_threads: engine.encoder_threads,
            max_batch: engine.max_batch,
            max_queue_wait: Span(PATIENCE),
            request_timeout: Span(PATIENCE),
            cache_memory: engine.cache_memory,
            max_variants: NonZeroUsize::new(MAX_VARIANTS as usize)
                .expect("it is written above, and is not zero"),
            window: engine.window,
            max_pixels: engine.max_pixels,
            ..defaults
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args, FromArgMatches};

    use super::*;

    fn parse(flags: &str) -> Result<AugmentArgs, String> {
        let words = ["augment"].into_iter().chain(flags.split_whitespace());
        let matches =
            AugmentArgs::augment_args(clap::Command::new("augment")).try_get_matches_from(words);
        let args = AugmentArgs::from_arg_matches(&matches.map_err(|error| error.to_string())?);
        args.map_err(|error| error.to_string())?.checked()
    }

    #[test]
    fn the_last_path_is_the_output() {
        let args = parse("a.tar b.tar out --variants 3").unwrap();
        assert_eq!(args.inputs, [PathBuf::from("a.tar"), PathBuf::from("b.tar")]);
        assert_eq!((args.out, args.ask.variants), (PathBuf::from("out").into(), 3));
    }

    #[test]
    fn wrong_use_names_the_option() {
        for (flags, said) in [
            ("in", "OUT"),
            ("in out --variants 0", "--variants"),
            ("in out --variants 101", "from 1 to 100"),
            ("in out --method vitt", "color-match"),
            ("in out --shard 4/4", "from 0 to 3"),
            ("in out --style-from batch", "--style-from"),
            ("in out --style-from reference", "--references"),
            ("in out --references a.png", "--style-from reference"),
            ("in out --strength 2", "--strength"),
            ("in out --seed 9007199254740992", "--seed"),
        ] {
            let error = parse(flags).unwrap_err();
            assert!(error.contains(said), "{flags}: {error}");
        }
    }
}
