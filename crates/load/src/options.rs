//! What `restain load` is told: by flag, by a `RESTAIN_LOAD_…` variable, or in a file. What contradicts itself is refused here,
//! before anything is sent.

use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use clap::builder::PossibleValuesParser;

use super::choices::{Accept, Arrivals, By, Form};
use super::target::{Target, bearer};
use restain_options::file as options_file;
use restain_options::units::Span;
use restain_request::{field, read_flag};

/// Loads a restain server and reports what it did
#[derive(Clone, Debug, Serialize, clap::Args)]
pub struct LoadArgs {
    /// The server: http://HOST:PORT
    #[serde(skip)]
    pub url: Target,
    /// The token of a key, for a server that asks for one; better in the variable than on the command line, which others see
    #[arg(long, env = "RESTAIN_LOAD_KEY", hide_env_values = true, value_name = "TOKEN")]
    #[serde(skip)]
    pub key: Option<String>,
    #[command(flatten)]
    #[serde(flatten)]
    pub pace: PaceArgs,
    #[command(flatten)]
    #[serde(flatten)]
    pub tiles: TilesArgs,
    #[command(flatten)]
    #[serde(flatten)]
    pub ask: AskArgs,
    #[command(flatten)]
    #[serde(flatten)]
    pub report: ReportArgs,
    /// A TOML file of the same options
    #[arg(long, env = "RESTAIN_LOAD_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Print the options as they are resolved, as TOML, and end
    #[arg(long)]
    #[serde(skip)]
    pub print_config: bool,
}

/// How fast, and how long.
#[derive(Clone, Debug, Serialize, clap::Args)]
#[command(next_help_heading = "Pace")]
pub struct PaceArgs {
    /// Closed loop: so many requests are always under way
    #[arg(long, env = "RESTAIN_LOAD_CONCURRENCY", default_value_t = 4)]
    pub concurrency: usize,
    /// Open loop: so many requests begin every second, whether or not earlier ones are answered. Their latency counts
    /// from when they were meant to begin
    #[arg(long, env = "RESTAIN_LOAD_RATE", value_name = "REQUESTS_PER_S")]
    pub rate: Option<f64>,
    /// Open loop: when requests begin
    #[arg(long, env = "RESTAIN_LOAD_ARRIVALS", value_enum, default_value = "poisson")]
    pub arrivals: Arrivals,
    /// Open loop: most requests under way; one more is not sent, and counted as the error `outstanding`
    #[arg(long, env = "RESTAIN_LOAD_MAX_OUTSTANDING", default_value_t = 256)]
    pub max_outstanding: usize,
    /// How long to measure
    #[arg(long, env = "RESTAIN_LOAD_DURATION", default_value = "30s")]
    pub duration: Span,
    /// How many requests to measure, in place of --duration
    #[arg(long, env = "RESTAIN_LOAD_REQUESTS", value_name = "N")]
    pub requests: Option<u64>,
    /// Load before the measurement, which no figure holds [default: 3s, and 0s with --requests]
    #[arg(long, env = "RESTAIN_LOAD_WARMUP")]
    pub warmup: Option<Span>,
    /// A request not answered by then is the error `timeout`
    #[arg(long, env = "RESTAIN_LOAD_GIVE_UP_AFTER", default_value = "60s")]
    pub give_up_after: Span,
    /// Threads of the generator; leave the others to the server when it runs on this machine
    #[arg(long, env = "RESTAIN_LOAD_THREADS", default_value_t = 1)]
    pub threads: usize,
}

/// The tiles that requests draw from.
#[derive(Clone, Debug, Serialize, clap::Args)]
#[command(next_help_heading = "Tiles")]
pub struct TilesArgs {
    /// Pictures, or folders of them (PNG, JPEG, WebP, TIFF) [default: drawn ones]
    #[arg(long, env = "RESTAIN_LOAD_TILES", value_name = "DIR_OR_FILE", num_args = 1.., value_delimiter = ',')]
    pub tiles: Vec<PathBuf>,
    /// Tiles to draw, or at most to read [default: 256, fewer when they are large]
    #[arg(long, env = "RESTAIN_LOAD_DISTINCT", value_name = "N")]
    pub distinct: Option<usize>,
    /// Every tile of every request is one that was never sent before, so that no cache helps
    #[arg(long, env = "RESTAIN_LOAD_UNIQUE")]
    pub unique: bool,
    /// What requests name their tiles by
    #[arg(long, env = "RESTAIN_LOAD_BY", value_enum, default_value = "tile")]
    pub by: By,
}

/// What each request asks for.
#[derive(Clone, Debug, Serialize, clap::Args)]
#[command(next_help_heading = "Requests")]
pub struct AskArgs {
    /// NAME or NAME/VERSION [default: the server's]
    #[arg(long, env = "RESTAIN_LOAD_MODEL")]
    pub model: Option<String>,
    /// Tiles of a request; of several numbers each request takes one at random [default: 32, or 1 with pictures]
    #[arg(long, env = "RESTAIN_LOAD_TILES_PER_REQUEST", value_delimiter = ',', value_name = "N")]
    pub tiles_per_request: Vec<usize>,
    /// Variants of each tile; of several numbers each request takes one at random
    #[arg(
        long,
        env = "RESTAIN_LOAD_VARIANTS",
        value_delimiter = ',',
        value_name = "K",
        default_value = "1"
    )]
    pub variants: Vec<usize>,
    /// Form of the requests
    #[arg(long, env = "RESTAIN_LOAD_FORM", value_enum, default_value = "safetensors")]
    pub form: Form,
    /// Form of the answers
    #[arg(long, env = "RESTAIN_LOAD_ACCEPT", value_enum, default_value = "safetensors")]
    pub accept: Accept,
    #[arg(long, env = "RESTAIN_LOAD_METHOD", default_value = "vit", help = field::method.doc,
          value_parser = PossibleValuesParser::new(field::method.choices()))]
    pub method: String,
    /// Priority to send [default: none is sent]
    #[arg(long, env = "RESTAIN_LOAD_PRIORITY", value_parser = PossibleValuesParser::new(field::priority.choices()))]
    pub priority: Option<String>,
    /// Timeout to send, in milliseconds; a later answer does not count as goodput [default: none is sent]
    #[arg(long, env = "RESTAIN_LOAD_TIMEOUT_MS", value_name = "MS",
          value_parser = |text: &str| read_flag::<u64>(&field::timeout_ms, text))]
    pub timeout_ms: Option<u64>,
    /// Send tiles of another size than the model's, and let the server resize them
    #[arg(long, env = "RESTAIN_LOAD_RESIZE")]
    pub resize: bool,
    /// Makes the requests of a run those of another, arrivals included [default: drawn]
    #[arg(long, env = "RESTAIN_LOAD_SEED", value_parser = |text: &str| read_flag::<u64>(&field::seed, text))]
    pub seed: Option<u64>,
    /// Verify every answer: its kind, and that it holds what was asked for. Costs the generator time
    #[arg(long, env = "RESTAIN_LOAD_CHECK")]
    pub check: bool,
}

/// What becomes of the figures.
#[derive(Clone, Debug, Serialize, clap::Args)]
#[command(next_help_heading = "Report")]
pub struct ReportArgs {
    /// Write the report as JSON; `-` is standard output, and the summary then goes to standard error
    #[arg(long, env = "RESTAIN_LOAD_JSON", value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the report as a page with plots
    #[arg(long, env = "RESTAIN_LOAD_HTML", value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// End with status 1 when a request failed
    #[arg(long, env = "RESTAIN_LOAD_FAIL_ON_ERROR")]
    pub fail_on_error: bool,
}

impl LoadArgs {
    /// Fills in the defaults that depend on other options.
    ///
    /// # Errors
    /// In one sentence, which options contradict each other.
    pub fn resolve(mut self) -> Result<Self, String> {
        self.url.authorization = self.key.take().map(|token| bearer(&token)).transpose()?;
        let Self { pace, tiles, ask, .. } = &mut self;
        let warmup = if pace.requests.is_some() { Duration::ZERO } else { Duration::from_secs(3) };
        pace.warmup.get_or_insert(Span(warmup));
        ask.seed.get_or_insert_with(draw_seed);
        let one = ask.form == Form::Image || ask.accept.is_picture();
        if ask.tiles_per_request.is_empty() {
            ask.tiles_per_request.push(if one { 1 } else { 32 });
        }
        let wrong = |so: bool, said: &str| if so { Err(said.to_owned()) } else { Ok(()) };
        wrong(
            ask.tiles_per_request.contains(&0),
            "--tiles-per-request is 0, and a request has at least one tile",
        )?;
        wrong(
            ask.form == Form::Image && ask.tiles_per_request != [1],
            "--form image has one tile a request: --tiles-per-request 1",
        )?;
        let several = ask.tiles_per_request != [1] || ask.variants != [1];
        wrong(
            ask.accept.is_picture() && several,
            "--accept of a picture has one: --tiles-per-request 1 --variants 1",
        )?;
        let no_keys = tiles.by == By::Key && matches!(ask.form, Form::Image | Form::Multipart);
        wrong(no_keys, "--by key takes --form safetensors or json: the other forms carry no keys")?;
        wrong(
            tiles.by == By::Key && tiles.unique,
            "--unique tiles were never sent before, and have no key to be named --by",
        )?;
        wrong(
            tiles.distinct == Some(0),
            "--distinct is 0, and requests draw from at least one tile",
        )?;
        wrong(
            pace.concurrency == 0,
            "--concurrency is 0, and at least one request must be under way",
        )?;
        wrong(
            pace.max_outstanding == 0,
            "--max-outstanding is 0, and at least one request must be under way",
        )?;
        wrong(pace.threads == 0, "--threads is 0, and one is needed")?;
        let rate_ok = pace.rate.is_none_or(|rate| rate.is_finite() && rate > 0.0);
        wrong(!rate_ok, "--rate is not above 0")?;
        wrong(
            pace.requests == Some(0) || pace.duration.0.is_zero(),
            "--requests or --duration is 0, and nothing would be measured",
        )?;
        Ok(self)
    }

    /// The options as a TOML file that gives them again. The URL is none of them.
    ///
    /// # Errors
    /// When a number is larger than TOML can hold.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        options_file::to_toml(self)
    }

    pub fn seed(&self) -> u64 {
        self.ask.seed.expect("resolve has drawn one")
    }

    pub fn warmup(&self) -> Duration {
        self.pace.warmup.expect("resolve has set it").0
    }
}

/// 53 random bits, which JSON carries exactly. `RandomState` is keyed by the operating system and differs from call to call.
fn draw_seed() -> u64 {
    RandomState::new().hash_one("seed") >> 11
}

#[cfg(test)]
impl LoadArgs {
    /// What the program would be told by these flags.
    pub(super) fn told(flags: &str) -> Result<Self, String> {
        use clap::{Args, FromArgMatches};
        let words = ["load", "127.0.0.1:1"].into_iter().chain(flags.split_whitespace());
        let matches = Self::augment_args(clap::Command::new("load")).get_matches_from(words);
        Self::from_arg_matches(&matches).map_err(|error| error.to_string())?.resolve()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_follow_from_what_was_given() {
        let args = LoadArgs::told("").unwrap();
        assert_eq!(
            (args.ask.tiles_per_request.as_slice(), args.warmup().as_secs()),
            ([32].as_slice(), 3)
        );
        assert_ne!(args.seed(), LoadArgs::told("").unwrap().seed());
        let args = LoadArgs::told("--accept png --requests 5 --seed 9").unwrap();
        assert_eq!(
            (args.ask.tiles_per_request.as_slice(), args.warmup().as_secs(), args.seed()),
            ([1].as_slice(), 0, 9)
        );
    }

    #[test]
    fn contradictions_are_named() {
        for (flags, said) in [
            ("--by key --unique", "--unique"),
            ("--by key --form multipart", "--form"),
            ("--form image --tiles-per-request 1,8", "--tiles-per-request 1"),
            ("--accept webp --variants 2", "--variants 1"),
            ("--rate 0", "--rate"),
            ("--requests 0", "--requests"),
        ] {
            let error = LoadArgs::told(flags).unwrap_err();
            assert!(error.contains(said), "{flags}: {error}");
        }
    }
    #[test]
    fn what_is_printed_is_the_same_options_again() {
        let command = <LoadArgs as clap::Args>::augment_args(clap::Command::new("load"));
        let printed = LoadArgs::told("--variants 1,4 --seed 5 --unique --rate 3 --duration 1500ms")
            .unwrap()
            .to_toml()
            .unwrap();
        assert!(
            printed.contains("duration = \"1500ms\"")
                && printed.contains("tiles-per-request = [32]"),
            "{printed}"
        );
        let flags =
            options_file::flags_in(&command, std::path::Path::new("load.toml"), &printed, |_| {
                false
            })
            .unwrap();
        assert_eq!(LoadArgs::told(&flags.join(" ")).unwrap().to_toml().unwrap(), printed);
    }
}
