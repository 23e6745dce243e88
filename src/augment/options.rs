//! What `restain augment` is told: by flag, by a `RESTAIN_…` variable, or in a file. What the server is told too (where
//! the models are, how they run) has the server's names; the rest is `RESTAIN_AUGMENT_…`.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::layout::LayoutChoice;
use super::shard::Shard;
use crate::serve::config::{ByteSize, Config, Devices, LogFormat, PrecisionChoice, Span};
use restain_bundle::codec::ImageFormat;
use restain_options::file as options_file;
use restain_request::{
    Method, Placement, Priority, Request, Share, Spelling, StyleSource, Wire, field, read_flag,
};

/// Variants are numbered with two digits.
pub(super) const MAX_VARIANTS: u64 = 100;
/// No tile of a job is given up because it took long.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// Writes variants of a whole data set, without a server
#[derive(Clone, Debug, Serialize, clap::Args)]
#[command(after_help = "\
A folder is mirrored: a/b.png becomes a/b.v00.png, a/b.v01.png, …, each with its provenance in a .json beside it.
A WILDS root becomes one again: variant 0 of node 2 is node 2_v00, in the file's name and in metadata.csv alike.
Tars keep their names: sample KEY becomes KEY_v00, KEY_v01, …, each with its provenance as the field restain.json.

A job that was stopped or killed goes on when it is given again. The parts of a job may run side by side on one OUT:
in an indexed job of Kubernetes with 16 completions, --shard $(JOB_COMPLETION_INDEX)/16.")]
pub struct AugmentArgs {
    /// Tiles: a folder of pictures, a WILDS root (metadata.csv and patches/), or WebDataset tars: some, a folder of
    /// them, or a pattern such as 'train-{000000..000099}.tar'
    #[arg(value_name = "IN", required = true, num_args = 1..)]
    #[serde(skip)]
    pub inputs: Vec<PathBuf>,
    /// The folder to write to: a new one, or that of the job that is to go on
    #[arg(value_name = "OUT", required = true)]
    #[serde(skip)]
    pub out: PathBuf,
    #[command(flatten)]
    #[serde(flatten)]
    pub job: JobArgs,
    #[command(flatten)]
    #[serde(flatten)]
    pub ask: AskArgs,
    #[command(flatten)]
    #[serde(flatten)]
    pub engine: EngineArgs,
    /// text or json
    #[arg(long, env = "RESTAIN_LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,
    /// What is logged, as `level` or `module=level,…`
    #[arg(long, env = "RESTAIN_LOG", default_value = "info,ort=warn")]
    pub log: String,
    /// A TOML file of the same options
    #[arg(long, env = "RESTAIN_AUGMENT_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Print the options as they are resolved, as TOML, and end
    #[arg(long)]
    #[serde(skip)]
    pub print_config: bool,
}

/// What is done to which tiles.
#[derive(Clone, Debug, Serialize, clap::Args)]
#[command(next_help_heading = "Job")]
pub struct JobArgs {
    /// What IN is
    #[arg(long, env = "RESTAIN_AUGMENT_LAYOUT", value_enum, default_value = "auto")]
    pub layout: LayoutChoice,
    /// Does the i-th of n parts, counted from 0: every n-th tile, or every n-th tar
    #[arg(long, env = "RESTAIN_AUGMENT_SHARD", value_name = "I/N", default_value = "0/1")]
    pub shard: Shard,
    /// Write the originals beside their variants, byte for byte
    #[arg(long, env = "RESTAIN_AUGMENT_ORIGINALS")]
    pub originals: bool,
    /// Leave out damaged tiles, up to so many; one more ends the job
    #[arg(long, env = "RESTAIN_AUGMENT_MAX_BAD", value_name = "N", default_value_t = 0)]
    pub max_bad: u64,
    /// The field of a tar's samples that is the tile, such as png or input.png [default: the only picture]
    #[arg(long, env = "RESTAIN_AUGMENT_IMAGE_FIELD", value_name = "FIELD")]
    pub image_field: Option<String>,
    /// Tell what would be done, and end
    #[arg(long)]
    #[serde(skip)]
    pub dry_run: bool,
}

/// What is asked for each tile. Types, ranges and meanings are those of the table that a server's requests have.
#[derive(Clone, Debug, Serialize, clap::Args)]
#[command(next_help_heading = "Variants")]
pub struct AskArgs {
    /// Model to use: NAME or NAME/VERSION [default: the only name's highest version]
    #[arg(long, env = "RESTAIN_AUGMENT_MODEL")]
    pub model: Option<String>,
    /// Variants of each tile, 1 to 100
    #[arg(long, env = "RESTAIN_AUGMENT_VARIANTS", value_name = "K", default_value_t = 1, value_parser = variants)]
    pub variants: u64,
    /// The same seed gives the same bytes [default: drawn, and kept in OUT]
    #[arg(long, env = "RESTAIN_AUGMENT_SEED", value_parser = |text: &str| read_flag::<u64>(&field::seed, text))]
    pub seed: Option<u64>,
    #[arg(long, env = "RESTAIN_AUGMENT_METHOD", default_value = "vit", help = choices(&field::method),
          value_parser = |text: &str| read_flag::<Method>(&field::method, text))]
    pub method: Method,
    #[arg(long, env = "RESTAIN_AUGMENT_STYLE_FROM", default_value = "bank", help = "Where styles come from: bank, own or reference",
          value_parser = |text: &str| read_flag::<StyleSource>(&field::style_from, text))]
    pub style_from: StyleSource,
    /// Only styles of these domains of the bank
    #[arg(long, env = "RESTAIN_AUGMENT_DOMAINS", value_name = "DOMAIN", value_delimiter = ',')]
    pub domains: Vec<String>,
    /// No styles of these domains of the bank
    #[arg(
        long,
        env = "RESTAIN_AUGMENT_EXCLUDE_DOMAINS",
        value_name = "DOMAIN",
        value_delimiter = ','
    )]
    pub exclude_domains: Vec<String>,
    /// Only these styles of the bank, by their ids
    #[arg(long, env = "RESTAIN_AUGMENT_STYLE_IDS", value_name = "ID", value_delimiter = ',')]
    pub style_ids: Vec<String>,
    /// Pictures to take styles from, with --style-from reference
    #[arg(long, env = "RESTAIN_AUGMENT_REFERENCES", value_name = "FILE", value_delimiter = ',')]
    pub references: Vec<PathBuf>,
    #[arg(long, env = "RESTAIN_AUGMENT_PLACEMENT", default_value = "broadcast", help = choices(&field::style_placement),
          value_parser = |text: &str| read_flag::<Placement>(&field::style_placement, text))]
    pub placement: Placement,
    #[arg(long, env = "RESTAIN_AUGMENT_SHARE", default_value = "tile", help = choices(&field::style_share),
          value_parser = |text: &str| read_flag::<Share>(&field::style_share, text))]
    pub share: Share,
    #[arg(long, env = "RESTAIN_AUGMENT_STRENGTH", default_value_t = 1.0, help = field::strength.doc,
          value_parser = |text: &str| read_flag::<f64>(&field::strength, text))]
    pub strength: f64,
    #[arg(long, env = "RESTAIN_AUGMENT_RESIZE", help = field::resize.doc)]
    pub resize: bool,
    /// Format of the pictures: png, jpeg or webp
    #[arg(long, env = "RESTAIN_AUGMENT_FORMAT", default_value = "png",
          value_parser = |text: &str| read_flag::<ImageFormat>(&field::output_format, text))]
    pub format: ImageFormat,
    #[arg(long, env = "RESTAIN_AUGMENT_QUALITY", default_value_t = 90, help = field::output_quality.doc,
          value_parser = |text: &str| read_flag::<u8>(&field::output_quality, text))]
    pub quality: u8,
}

/// How the model runs: as the server is told it.
#[derive(Clone, Debug, Serialize, clap::Args)]
#[command(next_help_heading = "Engine")]
pub struct EngineArgs {
    /// The directory of models, laid out as NAME/VERSION/bundle.json
    #[arg(long, env = "RESTAIN_MODELS", default_value = "models")]
    pub models: PathBuf,
    /// Which of a bundle's encoders runs: fp32, fp16, int8, or auto: fp16 on a GPU where the bundle has it, fp32 otherwise
    #[arg(long, env = "RESTAIN_PRECISION", default_value = "auto")]
    pub precision: PrecisionChoice,
    /// Where encoders run: cpu, cuda:0, tensorrt:0, or a list of one kind such as cuda:0,cuda:1
    #[arg(long, env = "RESTAIN_DEVICES", default_value = "cpu")]
    pub devices: Devices,
    /// Encoders on each of them; 0 chooses: 2 on a GPU, 1 on a CPU
    #[arg(long, env = "RESTAIN_ENCODERS_PER_DEVICE", default_value_t = 0, value_parser = up_to::<16>)]
    pub encoders_per_device: usize,
    /// Where encoders run when they cannot run on --devices; without it the job does not begin then
    #[arg(long, env = "RESTAIN_FALLBACK_DEVICES")]
    pub fallback_devices: Option<Devices>,
    /// Most memory that an encoder takes of its GPU, for weights and work [default: all there is]
    #[arg(long, env = "RESTAIN_GPU_MEMORY")]
    pub gpu_memory: Option<ByteSize>,
    /// CPU threads for the encoders, and as many for decoding, synthesis and compression [default: all]
    #[arg(long, env = "RESTAIN_THREADS")]
    pub threads: Option<NonZeroUsize>,
    /// CPU threads of each encoder; 0 shares those of `threads` among them
    #[arg(long, env = "RESTAIN_ENCODER_THREADS", default_value_t = 0)]
    pub encoder_threads: usize,
    /// Most tiles encoded at once; 0 chooses: 32 on a GPU, on a CPU as many as an encoder has threads, up to 16
    #[arg(long, env = "RESTAIN_MAX_BATCH", default_value_t = 0, value_parser = up_to::<1024>)]
    pub max_batch: usize,
    /// Memory for encodings: of use where a data set holds a tile more than once
    #[arg(long, env = "RESTAIN_CACHE_MEMORY", default_value = "64MiB")]
    pub cache_memory: ByteSize,
    /// Most memory for tiles and variants at once; a larger one goes alone
    #[arg(long, env = "RESTAIN_MAX_INFLIGHT_BYTES", default_value = "1GiB")]
    pub max_inflight_bytes: ByteSize,
    /// Most pixels of one picture
    #[arg(long, env = "RESTAIN_MAX_PIXELS", default_value_t = 4096 * 4096)]
    pub max_pixels: u64,
}

/// The meaning of a field, and the words that it can be.
fn choices(field: &restain_request::Field) -> String {
    format!("{} [{}]", field.doc.trim_end_matches('.').replace('`', ""), field.choices().join(", "))
}

fn variants(text: &str) -> Result<u64, String> {
    read_flag(&field::variants, text)
        .ok()
        .filter(|variants| *variants <= MAX_VARIANTS)
        .ok_or_else(|| format!("must be a whole number from 1 to {MAX_VARIANTS}"))
}

fn up_to<const MOST: usize>(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|number| *number <= MOST)
        .ok_or_else(|| format!("a whole number, at most {MOST}, is needed"))
}

impl AugmentArgs {
    /// What contradicts itself is refused before anything is loaded.
    ///
    /// # Errors
    /// In one sentence, which options do.
    pub fn resolve(mut self) -> Result<Self, String> {
        let wrong = |so: bool, said: &str| if so { Err(said.to_owned()) } else { Ok(()) };
        let ask = &self.ask;
        wrong(
            ask.style_from == StyleSource::Batch,
            "--style-from batch takes styles from the other tiles of a request, and a job has none",
        )?;
        let takes_references = ask.style_from == StyleSource::Reference;
        wrong(
            takes_references && ask.references.is_empty(),
            "--style-from reference needs --references",
        )?;
        wrong(
            !takes_references && !ask.references.is_empty(),
            "--references are used with --style-from reference",
        )?;
        self.engine.threads.get_or_insert_with(|| {
            std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
        });
        Ok(self)
    }

    /// # Errors
    /// When a number is larger than TOML can hold.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        options_file::to_toml(self)
    }
}

impl AskArgs {
    /// Returns the request that each tile is, but for its model.
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
            strength: self.strength as f32,
            resize: self.resize,
            output_format: Some(self.format),
            output_quality: self.quality,
            priority: Priority::Bulk,
            spelling: Spelling::of(Wire::Flag),
            ..Request::default()
        }
    }
}

impl AugmentArgs {
    /// The engine's options among the server's.
    pub fn engine_config(&self) -> Config {
        let engine = &self.engine;
        let defaults = Config::default();
        Config {
            models: engine.models.clone(),
            default_model: self.ask.model.clone(),
            precision: engine.precision,
            devices: engine.devices.clone(),
            encoders_per_device: engine.encoders_per_device,
            fallback_devices: engine.fallback_devices.clone(),
            gpu_memory: engine.gpu_memory,
            threads: engine.threads.unwrap_or(defaults.threads),
            encoder_threads: engine.encoder_threads,
            max_batch: engine.max_batch,
            max_queue_wait: Span(PATIENCE),
            request_timeout: Span(PATIENCE),
            cache_memory: engine.cache_memory,
            max_variants: NonZeroUsize::new(MAX_VARIANTS as usize)
                .expect("it is written above, and is not zero"),
            max_pixels: engine.max_pixels,
            ..defaults
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args, FromArgMatches};

    use super::*;

    fn told(flags: &str) -> Result<AugmentArgs, String> {
        let words = ["augment"].into_iter().chain(flags.split_whitespace());
        let matches =
            AugmentArgs::augment_args(clap::Command::new("augment")).try_get_matches_from(words);
        let args = AugmentArgs::from_arg_matches(&matches.map_err(|error| error.to_string())?);
        args.map_err(|error| error.to_string())?.resolve()
    }

    #[test]
    fn the_last_of_several_paths_is_where_it_goes() {
        let args = told("a.tar b.tar out --variants 3").unwrap();
        assert_eq!(args.inputs, [PathBuf::from("a.tar"), PathBuf::from("b.tar")]);
        assert_eq!((args.out, args.ask.variants), (PathBuf::from("out"), 3));
    }

    #[test]
    fn what_is_wrong_is_named() {
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
            let error = told(flags).unwrap_err();
            assert!(error.contains(said), "{flags}: {error}");
        }
    }

    #[test]
    fn every_option_has_a_variable() {
        let command = AugmentArgs::augment_args(clap::Command::new("augment"));
        let options = command.get_arguments().filter(|option| option.get_long().is_some());
        let bare: Vec<_> = options
            .filter(|option| option.get_env().is_none())
            .filter_map(|option| option.get_long())
            .collect();
        assert_eq!(bare, ["dry-run", "print-config"]);
    }
}
