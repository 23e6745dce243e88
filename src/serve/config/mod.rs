//! Every option of the server, and which of them contradict each other.
//!
//! `restain serve` resolves a [`Config`] from flags, `RESTAIN_…` variables, a file and defaults;
//! everything else of the server is given the result and reads none of them.

mod access;
mod devices;
mod precision;
mod telemetry;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::FromArgMatches;

use super::cache::LEAST_DISK_BYTES;
use super::trace::Collector;
pub use access::TlsFiles;
pub use devices::Devices;
pub(crate) use devices::SHARED_COPIES;
pub use precision::PrecisionChoice;
use restain_bundle::MANIFEST_FILE;
use restain_options::within;
pub use restain_options::{ByteSize, LogArgs, Span};
pub use restain_store::Place;

/// Most encoders of one device: on a GPU each has its own copy of the weights.
pub(crate) const MOST_ENCODERS: usize = 16;
/// Most tiles of one batch.
pub(crate) const MOST_BATCH: usize = 1024;

/// Most that `--max-tiles` may be: what a list of a request is read up to.
pub const MOST_TILES: usize = 16_384;

const MODELS: &str = "Models";
const ADDRESSES: &str = "Addresses";
const ACCESS: &str = "Access";
const ENGINE: &str = "Engine";
const BATCHING: &str = "Batching and queue";
const CACHE: &str = "Encoding cache";
const LIMITS: &str = "Limits of a request";
const CONNECTIONS: &str = "Connections";
const SHUTDOWN: &str = "Shutdown";
const TRACING: &str = "Tracing";

/// The options of the server.
#[derive(Clone, Debug, clap::Args)]
pub struct Config {
    /// Serve the bundles of this directory, laid out as NAME/VERSION/bundle.json, or of a URL such
    /// as s3://bucket/models [default: models, or the installed ones if there is no bundle in it]
    #[arg(long, help_heading = MODELS, value_name = "DIR|URL",
        default_value_os_t = default_models(),
          hide_default_value = true)]
    pub models: Place,
    /// Keep copies of the bundles of a --models URL in this directory; several servers may share it
    /// [default: .cache/restain/models in the user's home]
    #[arg(long, help_heading = MODELS, value_name = "DIR")]
    pub models_cache: Option<PathBuf>,
    /// Use this model for requests without `model`; required if several names are served [default:
    /// the only name's highest version]
    #[arg(long, help_heading = MODELS, value_name = "NAME[/VERSION]")]
    pub default_model: Option<String>,
    /// Look for new, changed and removed bundles this often; 0s never looks
    #[arg(long, help_heading = MODELS, value_name = "DURATION", default_value = "0s")]
    pub poll_models: Span,
    /// Keep domains and slides that are added at run time in this directory, used by this server
    /// alone, or at a URL such as s3://bucket/state, which all replicas share [default: keep them
    /// in memory, until the server exits]
    #[arg(long, help_heading = MODELS, value_name = "DIR|URL")]
    pub state: Option<Place>,
    /// Look this often for what other replicas added at a --state URL
    #[arg(long, help_heading = MODELS, value_name = "DURATION", default_value = "5s")]
    pub poll_state: Span,
    /// Never use or list styles of this domain, for training data that must not have seen it;
    /// repeat, or separate by commas
    #[arg(long, help_heading = MODELS, value_name = "DOMAIN", value_delimiter = ',')]
    pub forbid_domain: Vec<String>,

    /// Listen for HTTP on this address; port 0 picks a free one
    #[arg(long, help_heading = ADDRESSES, value_name = "HOST:PORT",
        default_value = "127.0.0.1:8080")]
    pub http: SocketAddr,
    /// Listen for gRPC on this address; port 0 picks a free one
    #[arg(long, help_heading = ADDRESSES, value_name = "HOST:PORT",
        default_value = "127.0.0.1:8081")]
    pub grpc: SocketAddr,
    /// Serve /health/live and /health/ready alone on this further address, always over plain HTTP
    #[arg(long, help_heading = ADDRESSES, value_name = "HOST:PORT")]
    pub probes: Option<SocketAddr>,
    /// Write the bound addresses to this file once the server is ready: HTTP, gRPC, and probes if
    /// any, one a line
    #[arg(long, help_heading = ADDRESSES, value_name = "FILE")]
    pub address_file: Option<PathBuf>,

    /// Require a bearer key of this TOML file, as `restain key` writes them; re-read when it
    /// changes [default: accept all requests]
    #[arg(long, help_heading = ACCESS, value_name = "FILE")]
    pub keys: Option<PathBuf>,
    /// Serve TLS on both ports with this certificate chain, in PEM; re-read when it changes
    #[arg(long, help_heading = ACCESS, value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// Use this private key for --tls-cert, in PEM
    #[arg(long, help_heading = ACCESS, value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Require a client certificate issued by one of these roots, in PEM
    #[arg(long, help_heading = ACCESS, value_name = "FILE")]
    pub tls_client_ca: Option<PathBuf>,
    /// Allow pages of this origin, such as `https://example.org`, to send HTTP requests; `*` allows
    /// any; repeat, or separate by commas
    #[arg(long, help_heading = ACCESS, value_name = "ORIGIN", value_delimiter = ',')]
    pub cors_origin: Vec<String>,
    /// Listen on a non-loopback address without --keys or --tls-client-ca: every client may do
    /// everything
    #[arg(long, help_heading = ACCESS)]
    pub insecure: bool,

    /// Run encoders on cpu, cuda:0, tensorrt:0, or a list of one kind such as cuda:0,cuda:1
    #[arg(long, help_heading = ENGINE, value_name = "DEVICES", default_value = "cpu")]
    pub devices: Devices,
    /// Run encoders on these devices if --devices cannot run them, as on a machine whose GPU has
    /// failed [default: do not serve the model then]
    #[arg(long, help_heading = ENGINE, value_name = "DEVICES")]
    pub fallback_devices: Option<Devices>,
    /// Run the bundle's encoder of this precision: fp32, fp16, int8, or auto: fp16 on a GPU if the
    /// bundle has it, else fp32
    #[arg(long, help_heading = ENGINE, value_name = "PRECISION", default_value = "auto")]
    pub precision: PrecisionChoice,
    /// Run this many encoders on each device. 0 picks 2 on a GPU, so that one computes while
    /// another's tiles are copied; on a CPU up to 4 that share its threads, and one with all of
    /// them for a tile that comes alone
    #[arg(long, help_heading = ENGINE, value_name = "N", default_value = "0",
        value_parser = within(0, MOST_ENCODERS))]
    pub encoders_per_device: usize,
    /// Limit the GPU memory of each encoder, for weights and work [default: all there is]
    #[arg(long, help_heading = ENGINE, value_name = "BYTES")]
    pub gpu_memory: Option<ByteSize>,
    /// Use this many CPU threads for encoders, and as many for decoding, synthesis and compression
    /// [default: all]
    #[arg(long, help_heading = ENGINE, value_name = "N", default_value_t = all_threads(),
        hide_default_value = true)]
    pub threads: NonZeroUsize,
    /// Use this many CPU threads for each encoder; 0 divides --threads as --encoders-per-device
    /// says
    #[arg(long, help_heading = ENGINE, value_name = "N", default_value = "0")]
    pub encoder_threads: usize,

    /// Encode at most this many tiles at once; 0 picks 32 on a GPU, and on a CPU the threads of an
    /// encoder, up to 16
    #[arg(long, help_heading = BATCHING, value_name = "TILES", default_value = "0",
        value_parser = within(0, MOST_BATCH))]
    pub max_batch: usize,
    /// Stop an encoder that takes longer than this for a batch, when it is loaded too; TensorRT,
    /// which builds engines then, is left alone
    #[arg(long, help_heading = BATCHING, value_name = "DURATION", default_value = "2m")]
    pub encode_timeout: Span,
    /// Hold a tile this long for others to share its batch while the encoder is idle
    #[arg(long, help_heading = BATCHING, value_name = "DURATION", default_value = "0s")]
    pub max_delay: Span,
    /// Reject requests that would queue longer than this, or have, with 429 and Retry-After
    #[arg(long, help_heading = BATCHING, value_name = "DURATION", default_value = "20s")]
    pub max_queue_wait: Span,
    /// Admit at most this many tiles, waiting or in work; further requests are rejected with 429
    /// and Retry-After
    #[arg(long, help_heading = BATCHING, value_name = "TILES", default_value = "1024")]
    pub max_queue_tiles: NonZeroUsize,
    /// Limit the memory of requests and answers in flight; further requests are rejected with 429
    /// and Retry-After
    #[arg(long, help_heading = BATCHING, value_name = "BYTES", default_value = "2GiB")]
    pub max_inflight_bytes: ByteSize,
    /// Reject new work with 429 while the process uses nine tenths of this memory [default: the
    /// limit of its control group, or the machine's memory]
    #[arg(long, help_heading = BATCHING, value_name = "BYTES")]
    pub memory_limit: Option<ByteSize>,

    /// Use this much memory for encodings, so that a tile is encoded once and not for each variant
    #[arg(long, help_heading = CACHE, value_name = "BYTES", default_value = "1GiB")]
    pub cache_memory: ByteSize,
    /// Keep encodings in this directory as well, where they survive a restart; one server a
    /// directory [default: keep them in memory only]
    #[arg(long, help_heading = CACHE, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// Use this much disk of --cache-dir for encodings
    #[arg(long, help_heading = CACHE, value_name = "BYTES", default_value = "10GiB")]
    pub cache_disk: ByteSize,
    /// Let the holders of all --keys use each other's encodings; without it a tile's key names only
    /// tiles that its own key has sent
    #[arg(long, help_heading = CACHE)]
    pub share_encodings: bool,

    /// Reject bodies larger than this
    #[arg(long, help_heading = LIMITS, value_name = "BYTES", default_value = "64MiB")]
    pub max_body: ByteSize,
    /// Reject requests with more tiles than this, references included
    #[arg(long, help_heading = LIMITS, value_name = "TILES", default_value = "256")]
    pub max_tiles: NonZeroUsize,
    /// Reject requests for more variants of a tile than this
    #[arg(long, help_heading = LIMITS, value_name = "VARIANTS", default_value = "64")]
    pub max_variants: NonZeroUsize,
    /// Let the model see tiles shrunk by at most this; larger tiles are seen in overlapping windows
    #[arg(long, help_heading = ENGINE, value_name = "TIMES", default_value = "4",
        value_parser = within(1.0, 64.0))]
    pub window: f64,
    /// Reject images with more pixels than this
    #[arg(long, help_heading = LIMITS, value_name = "PIXELS", default_value = "16777216")]
    pub max_pixels: u64,
    /// End a request after this long; a request may ask for less with timeout_ms
    #[arg(long, help_heading = LIMITS, value_name = "DURATION", default_value = "1m")]
    pub request_timeout: Span,

    /// Accept at most this many connections at once; further ones wait. An address may have seven
    /// eighths of them
    #[arg(long, help_heading = CONNECTIONS, value_name = "N", default_value = "4096")]
    pub max_connections: NonZeroUsize,
    /// Close a connection that is silent this long between requests, or takes this long to send a
    /// request's head
    #[arg(long, help_heading = CONNECTIONS, value_name = "DURATION", default_value = "75s")]
    pub idle_timeout: Span,
    /// Close a connection whose client reads nothing of its answer for this long
    #[arg(long, help_heading = CONNECTIONS, value_name = "DURATION", default_value = "30s")]
    pub write_timeout: Span,

    /// Accept requests for this long after SIGTERM, while /health/ready answers 503
    #[arg(long, help_heading = SHUTDOWN, value_name = "DURATION", default_value = "5s")]
    pub drain_delay: Span,
    /// Wait this long after --drain-delay for requests in flight
    #[arg(long, help_heading = SHUTDOWN, value_name = "DURATION", default_value = "30s")]
    pub drain_timeout: Span,

    /// Send spans to this OpenTelemetry collector over OTLP/HTTP, such as http://collector:4318
    #[arg(long, help_heading = TRACING, value_name = "URL")]
    pub otlp: Option<Collector>,
    /// Trace this share of the requests whose caller has not decided, from 0 to 1
    #[arg(long, help_heading = TRACING, value_name = "SHARE", default_value = "1",
        value_parser = within(0.0, 1.0))]
    pub trace_share: f64,

    #[command(flatten)]
    pub log: LogArgs,
}

/// Options that contradict each other.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(
        "--max-tiles {max_tiles} is more than --max-queue-tiles {max_queue_tiles}: the largest \
        request would never be admitted"
    )]
    QueueBelowRequest { max_tiles: usize, max_queue_tiles: usize },
    #[error("--max-tiles {0} is more than {MOST_TILES}, the most items that a list may have")]
    TooManyTiles(usize),
    #[error(
        "--max-body {max_body} is more than --max-inflight-bytes {max_inflight}: the largest body \
        would never be admitted"
    )]
    MemoryBelowBody { max_body: ByteSize, max_inflight: ByteSize },
    #[error(
        "--{option} {address} is not a loopback address: set --keys or --tls-client-ca to listen \
        there, or --insecure to let every client do everything"
    )]
    Public { option: &'static str, address: SocketAddr },
    #[error("--{given} is set and --{missing} is not: TLS needs both --tls-cert and --tls-key")]
    HalfTls { given: &'static str, missing: &'static str },
    #[error(
        "--cors-origin {0:?} is not an origin: use `*`, or a scheme and host without a path, for \
        example https://example.org"
    )]
    CorsOrigin(String),
    #[error("--cache-disk {0} is too little: use at least \
        {least}", least = ByteSize(LEAST_DISK_BYTES))]
    DiskTooSmall(ByteSize),
}

/// Every option at its default, whatever the environment says.
impl Default for Config {
    fn default() -> Self {
        Self::from_words(["serve"]).expect("every option has a default or may be left out")
    }
}

impl Config {
    /// Reads flags alone: no variables and no file.
    fn from_words<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self, clap::Error> {
        let command = <Self as clap::Args>::augment_args(clap::Command::new("serve"));
        Self::from_arg_matches(&command.try_get_matches_from(words)?)
    }

    /// Returns the options if they go together.
    ///
    /// # Errors
    /// When two options contradict each other.
    pub fn checked(self) -> Result<Self, ConfigError> {
        let (max_tiles, max_queue_tiles) = (self.max_tiles.get(), self.max_queue_tiles.get());
        if max_tiles > MOST_TILES {
            return Err(ConfigError::TooManyTiles(max_tiles));
        }
        if max_tiles > max_queue_tiles {
            return Err(ConfigError::QueueBelowRequest { max_tiles, max_queue_tiles });
        }
        if self.max_body.0 > self.max_inflight_bytes.0 {
            return Err(ConfigError::MemoryBelowBody {
                max_body: self.max_body,
                max_inflight: self.max_inflight_bytes,
            });
        }
        if self.cache_dir.is_some() && self.cache_disk.0 < LEAST_DISK_BYTES {
            return Err(ConfigError::DiskTooSmall(self.cache_disk));
        }
        access::check(&self)?;
        Ok(self)
    }
}

/// The directory `models` here, unless there is no bundle in it and some are installed beside the
/// program: as PREFIX/share/restain/models of PREFIX/bin/restain.
pub(crate) fn default_models() -> Place {
    let here = PathBuf::from("models");
    let executable = std::env::current_exe().ok();
    let prefix = executable.as_deref().and_then(|path| path.parent()?.parent());
    let installed = prefix.map(|prefix| prefix.join("share/restain/models"));
    installed.filter(|installed| !has_bundle(&here) && installed.is_dir()).unwrap_or(here).into()
}

/// Whether a directory has NAME/VERSION with a manifest.
fn has_bundle(models: &Path) -> bool {
    let below = |directory: &Path| {
        std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
    };
    below(models).any(|name| below(&name).any(|version| version.join(MANIFEST_FILE).is_file()))
}

pub(crate) fn all_threads() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns what is said of options that contradict each other.
    pub(super) fn checked(flags: &str) -> Result<(), String> {
        let words = ["serve"].into_iter().chain(flags.split_whitespace());
        let config = Config::from_words(words).unwrap();
        config.checked().map(drop).map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_go_together() {
        assert_eq!(checked(""), Ok(()));
        let config = Config::default();
        assert_eq!((config.max_body, config.request_timeout.0.as_secs()), (ByteSize(64 << 20), 60));
    }

    #[test]
    fn limits_that_contradict_each_other_are_rejected() {
        let rejected = |flags| checked(flags).unwrap_err();
        assert!(rejected("--max-tiles 2000").contains("--max-queue-tiles 1024"));
        assert!(rejected("--max-tiles 16385 --max-queue-tiles 20000").contains("16384"));
        assert!(rejected("--max-body 4GiB").contains("--max-inflight-bytes 2GiB"));
        assert!(rejected("--cache-dir x --cache-disk 1MiB").contains("64MiB"));
    }
}
