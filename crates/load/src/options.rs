//! The options of `restain load`. Options that contradict each other are rejected here, before
//! anything is sent.

use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use clap::builder::PossibleValuesParser;

use super::choices::{Accept, Arrivals, BodyFormat, Payload};
use super::target::{Target, bearer};
use super::tls::TlsArgs;
use restain_options::{LogArgs, Span, above, at_least};
use restain_request::{field, read_flag};

/// Send requests to a server and report throughput, latencies and errors
#[derive(Clone, Debug, Serialize, clap::Args)]
pub struct LoadArgs {
    /// The server: http://HOST:PORT, or https://HOST:PORT
    #[serde(skip)]
    pub url: Target,
    #[command(flatten)]
    #[serde(flatten)]
    pub pace: PaceArgs,
    #[command(flatten)]
    #[serde(flatten)]
    pub ask: AskArgs,
    #[command(flatten)]
    #[serde(flatten)]
    pub tiles: TilesArgs,
    #[command(flatten)]
    #[serde(flatten)]
    pub report: ReportArgs,
    /// Authenticate with this key's token; other users of the machine see flags, and not
    /// environment variables
    #[arg(long, help_heading = "Access", hide_env_values = true, value_name = "TOKEN")]
    #[serde(skip)]
    pub key: Option<String>,
    #[command(flatten)]
    #[serde(skip)]
    pub tls: TlsArgs,
    #[command(flatten)]
    #[serde(skip)]
    pub log: LogArgs,
}

/// How fast, and how long.
#[derive(Clone, Debug, Serialize, clap::Args)]
#[command(next_help_heading = "Load")]
pub struct PaceArgs {
    /// Keep this many requests in flight: a closed loop
    #[arg(long, value_name = "REQUESTS", default_value_t = 4, value_parser = at_least(1usize))]
    pub concurrency: usize,
    /// Begin this many requests a second, whether or not earlier ones are answered: an open loop.
    /// Latency counts from the time that a request was due
    #[arg(long, value_name = "REQUESTS_PER_S", value_parser = above(0.0))]
    pub rate: Option<f64>,
    /// Space the requests of an open loop like this
    #[arg(long, value_enum, default_value = "poisson")]
    pub arrivals: Arrivals,
    /// Limit the requests of an open loop in flight; one more is not sent, and counts as the error
    /// `outstanding`
    #[arg(long, value_name = "REQUESTS", default_value_t = 256, value_parser = at_least(1usize))]
    pub max_outstanding: usize,
    /// Measure for this long
    #[arg(long, default_value = "30s")]
    pub duration: Span,
    /// Measure this many requests, instead of --duration
    #[arg(long, value_name = "N", value_parser = at_least(1u64))]
    pub requests: Option<u64>,
    /// Send requests for this long before the measurement [default: 3s, and 0s with --requests]
    #[arg(long, value_name = "DURATION")]
    pub warmup: Option<Span>,
    /// Count a request that is not answered within this time as the error `timeout`
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    pub timeout: Span,
    /// Use this many threads; leave the others to a server on the same machine
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least(1usize))]
    pub threads: usize,
}

/// The fields of each request.
#[derive(Clone, Debug, Serialize, clap::Args)]
#[command(next_help_heading = "Requests")]
pub struct AskArgs {
    /// Ask this model [default: the server's]
    #[arg(long, value_name = "NAME[/VERSION]")]
    pub model: Option<String>,
    /// Send this many tiles a request; of several numbers each request takes one at random
    /// [default: 32, or 1 with images]
    #[arg(long, value_delimiter = ',', value_name = "N", value_parser = at_least(1usize))]
    pub tiles_per_request: Vec<usize>,
    /// Ask for this many variants of each tile; of several numbers each request takes one at random
    #[arg(long, value_delimiter = ',', value_name = "K", default_value = "1")]
    pub variants: Vec<usize>,
    /// Send requests in this format
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "safetensors")]
    pub body_format: BodyFormat,
    /// Ask for answers in this format
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "safetensors")]
    pub accept: Accept,
    /// Ask for variants made by this method
    #[arg(long, default_value = "vit",
        value_parser = PossibleValuesParser::new(field::method.choices()))]
    pub method: String,
    /// Send this priority [default: none, which the server takes as interactive]
    #[arg(long, value_parser = PossibleValuesParser::new(field::priority.choices()))]
    pub priority: Option<String>,
    /// Send this deadline, in milliseconds; later answers do not count as goodput [default: none]
    #[arg(long, value_name = "MS",
        value_parser = |text: &str| read_flag::<u64>(&field::timeout_ms, text))]
    pub timeout_ms: Option<u64>,
    /// Ask for this detail [default: none, which the server takes as carry]
    #[arg(long, value_parser = PossibleValuesParser::new(field::detail.choices()))]
    pub detail: Option<String>,
    /// Draw requests and arrivals from this seed: the same seed sends the same requests [default:
    /// random]
    #[arg(long, value_parser = |text: &str| read_flag::<u64>(&field::seed, text))]
    pub seed: Option<u64>,
    /// Verify every answer: its type, and that it has what was asked for. This costs the generator
    /// time
    #[arg(long)]
    pub check: bool,
}

/// The tiles that requests draw from.
#[derive(Clone, Debug, Serialize, clap::Args)]
#[command(next_help_heading = "Tiles")]
pub struct TilesArgs {
    /// Send these images, or those in these folders (PNG, JPEG, WebP, TIFF) [default: generated
    /// tiles]
    #[arg(long, value_name = "DIR_OR_FILE", num_args = 1.., value_delimiter = ',')]
    pub tiles: Vec<PathBuf>,
    /// Generate this many tiles, or read at most this many [default: 256, fewer when they are
    /// large]
    #[arg(long, value_name = "N", value_parser = at_least(1usize))]
    pub distinct: Option<usize>,
    /// Generate tiles of this many pixels a side [default: the model's]
    #[arg(long, value_name = "PX", value_parser = at_least(16usize))]
    pub tile_size: Option<usize>,
    /// Make each tile of each request new, so that no cache helps
    #[arg(long)]
    pub unique: bool,
    /// Send the tiles, or the keys of tiles that were sent before the measurement
    #[arg(long, value_name = "WHAT", value_enum, default_value = "tile")]
    pub send: Payload,
}

/// Where the figures go.
#[derive(Clone, Debug, Serialize, clap::Args)]
#[command(next_help_heading = "Report")]
pub struct ReportArgs {
    /// Write the report as JSON; `-` is standard output, and the summary then goes to standard
    /// error
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the report as an HTML page with plots
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Exit with status 1 if a request failed
    #[arg(long)]
    pub fail_on_error: bool,
}

impl LoadArgs {
    /// Sets the defaults that depend on other options.
    ///
    /// # Errors
    /// In one sentence, which options contradict each other.
    pub fn resolve(mut self) -> Result<Self, String> {
        self.url.authorization =
            self.key.take().map(|token| bearer(&token).map(Box::new)).transpose()?;
        match self.url.is_secure {
            true => self.url.tls = Some(self.tls.config()?),
            false => self.tls.check_unused()?,
        }
        let Self { pace, tiles, ask, .. } = &mut self;
        let warmup = if pace.requests.is_some() { Duration::ZERO } else { Duration::from_secs(3) };
        pace.warmup.get_or_insert(Span(warmup));
        ask.seed.get_or_insert_with(draw_seed);
        let one = ask.body_format == BodyFormat::Image || ask.accept.is_picture();
        if ask.tiles_per_request.is_empty() {
            ask.tiles_per_request.push(if one { 1 } else { 32 });
        }
        let reject = |so: bool, why: &str| if so { Err(why.to_owned()) } else { Ok(()) };
        reject(
            ask.body_format == BodyFormat::Image && ask.tiles_per_request != [1],
            "--body-format image has one tile a request: use --tiles-per-request 1",
        )?;
        let several = ask.tiles_per_request != [1] || ask.variants != [1];
        reject(
            ask.accept.is_picture() && several,
            "--accept png, jpeg and webp are one image: use --tiles-per-request 1 --variants 1",
        )?;
        let no_keys = matches!(ask.body_format, BodyFormat::Image | BodyFormat::Multipart);
        reject(
            tiles.send == Payload::Key && no_keys,
            "--send key needs --body-format safetensors or json: the others have no keys",
        )?;
        reject(
            tiles.send == Payload::Key && tiles.unique,
            "--send key and --unique exclude each other: the server knows no key of a new tile",
        )?;
        reject(pace.duration.0.is_zero(), "--duration 0s measures nothing")?;
        Ok(self)
    }

    pub fn seed(&self) -> u64 {
        self.ask.seed.expect("resolve has drawn one")
    }

    pub fn warmup(&self) -> Duration {
        self.pace.warmup.expect("resolve has set it").0
    }
}

/// 53 random bits, which JSON carries exactly. `RandomState` is keyed by the operating system and
/// differs from call to call.
fn draw_seed() -> u64 {
    RandomState::new().hash_one("seed") >> 11
}

#[cfg(test)]
impl LoadArgs {
    /// Reads flags as the program does.
    pub(super) fn parse(flags: &str) -> Result<Self, String> {
        use clap::{Args, FromArgMatches};
        let words = ["load", "127.0.0.1:1"].into_iter().chain(flags.split_whitespace());
        let command = Self::augment_args(clap::Command::new("load"));
        let matches = command.try_get_matches_from(words).map_err(|error| error.to_string())?;
        Self::from_arg_matches(&matches).map_err(|error| error.to_string())?.resolve()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_follow_from_other_options() {
        let args = LoadArgs::parse("").unwrap();
        assert_eq!(
            (args.ask.tiles_per_request.as_slice(), args.warmup().as_secs()),
            ([32].as_slice(), 3)
        );
        assert_ne!(args.seed(), LoadArgs::parse("").unwrap().seed());
        let args = LoadArgs::parse("--accept png --requests 5 --seed 9").unwrap();
        assert_eq!(
            (args.ask.tiles_per_request.as_slice(), args.warmup().as_secs(), args.seed()),
            ([1].as_slice(), 0, 9)
        );
    }

    #[test]
    fn contradictions_are_named() {
        for (flags, said) in [
            ("--send key --unique", "--unique"),
            ("--send key --body-format multipart", "--body-format"),
            ("--body-format image --tiles-per-request 1,8", "--tiles-per-request 1"),
            ("--accept webp --variants 2", "--variants 1"),
            ("--rate 0", "--rate"),
            ("--requests 0", "--requests"),
            ("--duration 0s", "--duration"),
        ] {
            let error = LoadArgs::parse(flags).unwrap_err();
            assert!(error.contains(said), "{flags}: {error}");
        }
    }
}
