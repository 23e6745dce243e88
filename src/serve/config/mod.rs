//! Every option of the server, resolved once: flag, then `RESTAIN_…` variable, then the file of `--config`, then the
//! default. The only place of the server that reads any of them; everything else is handed a [`Config`].

mod devices;
mod door;
mod precision;
mod telemetry;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::cache::LEAST_DISK_BYTES;
use super::trace::Collector;
pub use devices::Devices;
pub use door::{KeyArgs, TlsFiles};
pub use precision::PrecisionChoice;
use restain_engine::Device;
pub use restain_options::units::{ByteSize, Span};

/// Most encoders of one device: each has its own copy of the weights there.
const MOST_ENCODERS: usize = 16;

/// How log lines are written, to standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

/// Writes lists of options as three things that must not drift apart: what flags and variables may give, what the file
/// may give, and what comes out. First those with a default, then those that may be left out, then lists.
macro_rules! options {
    (
        $($(#[doc = $help:literal])+ $name:ident ($variable:literal): $type:ty = $default:expr;)*
        { $($(#[doc = $optional_help:literal])+ $optional:ident ($optional_variable:literal): $optional_type:ty;)* }
        { $($(#[doc = $list_help:literal])+ $list:ident ($list_variable:literal, $list_value:literal): $list_type:ty;)* }
    ) => {
        /// What was given, in one of the places.
        #[derive(Clone, Debug, Default, clap::Args, Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
        pub struct Options {
            $($(#[doc = $help])+ #[arg(long, env = $variable)] $name: Option<$type>,)*
            $($(#[doc = $optional_help])+ #[arg(long, env = $optional_variable)] $optional: Option<$optional_type>,)*
            $(
                $(#[doc = $list_help])+
                #[arg(long, env = $list_variable, value_name = $list_value, value_delimiter = ',')]
                $list: Option<Vec<$list_type>>,
            )*
            /// Listens on an address that others can reach although everyone there may do everything [default: false]
            #[arg(long, env = "RESTAIN_INSECURE", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
            insecure: Option<bool>,
        }

        /// Every option, with its value.
        #[derive(Clone, Debug, Serialize)]
        #[serde(rename_all = "kebab-case")]
        pub struct Config {
            $($(#[doc = $help])+ pub $name: $type,)*
            $($(#[doc = $optional_help])+ #[serde(skip_serializing_if = "Option::is_none")] pub $optional: Option<$optional_type>,)*
            $($(#[doc = $list_help])+ #[serde(skip_serializing_if = "Vec::is_empty")] pub $list: Vec<$list_type>,)*
            pub insecure: bool,
        }

        impl Options {
            fn over(self, file: Self) -> Config {
                Config {
                    $($name: self.$name.or(file.$name).unwrap_or_else(|| $default),)*
                    $($optional: self.$optional.or(file.$optional),)*
                    $($list: self.$list.or(file.$list).unwrap_or_default(),)*
                    insecure: self.insecure.or(file.insecure).unwrap_or_default(),
                }
            }
        }
    };
}

options! {
    /// The directory of models, laid out as NAME/VERSION/bundle.json [default: models]
    models("RESTAIN_MODELS"): PathBuf = PathBuf::from("models");
    /// The address to listen on for HTTP; port 0 picks a free one [default: 127.0.0.1:8080]
    http("RESTAIN_HTTP"): SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8080));
    /// The address to listen on for gRPC; port 0 picks a free one [default: 127.0.0.1:8081]
    grpc("RESTAIN_GRPC"): SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8081));
    /// How often the models directory is looked through for bundles that are new, changed or gone; 0s is never [default: 0ms]
    poll_models("RESTAIN_POLL_MODELS"): Span = Span(std::time::Duration::ZERO);
    /// Which of a bundle's encoders runs: fp32, fp16, int8, or auto: fp16 on a GPU where the bundle has it, fp32 otherwise [default: auto]
    precision("RESTAIN_PRECISION"): PrecisionChoice = PrecisionChoice::Auto;
    /// Where encoders run: cpu, cuda:0, tensorrt:0, or a list of one kind such as cuda:0,cuda:1 [default: cpu]
    devices("RESTAIN_DEVICES"): Devices = Devices(vec![Device::Cpu]);
    /// Encoders on each of them: one computes while the tiles of another are copied; 0 chooses: 2 on a GPU, 1 on a CPU [default: 0]
    encoders_per_device("RESTAIN_ENCODERS_PER_DEVICE"): usize = 0;
    /// CPU threads for the encoders, and as many for decoding, synthesis and compression [default: all]
    threads("RESTAIN_THREADS"): NonZeroUsize = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    /// CPU threads of each encoder; 0 shares those of `threads` among them [default: 0]
    encoder_threads("RESTAIN_ENCODER_THREADS"): usize = 0;
    /// Most tiles encoded at once; 0 chooses: 32 on a GPU, on a CPU as many as an encoder has threads, up to 16 [default: 0]
    max_batch("RESTAIN_MAX_BATCH"): usize = 0;
    /// How long a tile waits for others to share its batch, when the encoder is idle [default: 0ms]
    max_delay("RESTAIN_MAX_DELAY"): Span = Span(std::time::Duration::ZERO);
    /// Longest wait for the encoder; what would wait longer is told to come back later [default: 20s]
    max_queue_wait("RESTAIN_MAX_QUEUE_WAIT"): Span = Span(std::time::Duration::from_secs(20));
    /// Memory for encodings, so that a tile is encoded once and not for every variant [default: 1GiB]
    cache_memory("RESTAIN_CACHE_MEMORY"): ByteSize = ByteSize(1 << 30);
    /// Disk for encodings, in cache-dir [default: 10GiB]
    cache_disk("RESTAIN_CACHE_DISK"): ByteSize = ByteSize(10 << 30);
    /// Most tiles admitted at once, waiting or in work; past it requests are told to come back later [default: 1024]
    max_queue_tiles("RESTAIN_MAX_QUEUE_TILES"): NonZeroUsize = at_least_one(1024);
    /// Most memory lent to requests and their answers at once [default: 2GiB]
    max_inflight_bytes("RESTAIN_MAX_INFLIGHT_BYTES"): ByteSize = ByteSize(2 << 30);
    /// Largest body of a request [default: 64MiB]
    max_body("RESTAIN_MAX_BODY"): ByteSize = ByteSize(64 << 20);
    /// Most tiles of one request, its references included [default: 256]
    max_tiles("RESTAIN_MAX_TILES"): NonZeroUsize = at_least_one(256);
    /// Most variants of one tile in one request [default: 64]
    max_variants("RESTAIN_MAX_VARIANTS"): NonZeroUsize = at_least_one(64);
    /// Most pixels of one picture [default: 16777216]
    max_pixels("RESTAIN_MAX_PIXELS"): u64 = 4096 * 4096;
    /// Longest time for one request; a request may ask for less with timeout_ms [default: 1m]
    request_timeout("RESTAIN_REQUEST_TIMEOUT"): Span = Span(std::time::Duration::from_secs(60));
    /// Most connections at once; further ones wait to be accepted [default: 4096]
    max_connections("RESTAIN_MAX_CONNECTIONS"): NonZeroUsize = at_least_one(4096);
    /// Longest silence of a connection between two requests, and longest time for the head of one [default: 75s]
    idle_timeout("RESTAIN_IDLE_TIMEOUT"): Span = Span(std::time::Duration::from_secs(75));
    /// Longest time for which a caller may leave its answer unread [default: 30s]
    write_timeout("RESTAIN_WRITE_TIMEOUT"): Span = Span(std::time::Duration::from_secs(30));
    /// How long the server still takes requests after SIGTERM, while telling the load balancer that it is not ready [default: 5s]
    drain_delay("RESTAIN_DRAIN_DELAY"): Span = Span(std::time::Duration::from_secs(5));
    /// How long work in flight may then take to finish [default: 30s]
    drain_timeout("RESTAIN_DRAIN_TIMEOUT"): Span = Span(std::time::Duration::from_secs(30));
    /// Of the requests that begin a trace, the share that is traced; one whose caller has begun it follows the caller [default: 1.0]
    trace_share("RESTAIN_TRACE_SHARE"): f64 = 1.0;
    /// text or json [default: text]
    log_format("RESTAIN_LOG_FORMAT"): LogFormat = LogFormat::Text;
    /// What is logged, as `level` or `module=level,…` [default: info,ort=warn]
    log("RESTAIN_LOG"): String = "info,ort=warn".to_owned();
    {
        /// The most specific model that a request without `model` means: NAME or NAME/VERSION. May be left out when one
        /// name is served
        default_model("RESTAIN_DEFAULT_MODEL"): String;
        /// Where encoders run when they cannot run on `devices`, as on a machine whose GPU is gone; without it the model
        /// is not served then
        fallback_devices("RESTAIN_FALLBACK_DEVICES"): Devices;
        /// Most memory that an encoder takes of its GPU, for weights and work [default: all there is]
        gpu_memory("RESTAIN_GPU_MEMORY"): ByteSize;
        /// Keeps the domains that are added while the server runs in this directory, which is this server's alone;
        /// without one they are forgotten when it ends
        state_dir("RESTAIN_STATE_DIR"): PathBuf;
        /// Keeps encodings in this directory as well, where they survive a restart; one server a directory
        cache_dir("RESTAIN_CACHE_DIR"): PathBuf;
        /// Writes the bound addresses to this file once the server is ready: that of HTTP, that of gRPC, and that of
        /// probes if there is one, a line each
        address_file("RESTAIN_ADDRESS_FILE"): PathBuf;
        /// A TOML file of bearer keys, as `restain key` makes them, read again when it changes; without one everyone may
        /// do everything
        keys("RESTAIN_KEYS"): PathBuf;
        /// The certificate for TLS on both ports, with what leads up to its root, in PEM; read again when it changes
        tls_cert("RESTAIN_TLS_CERT"): PathBuf;
        /// The private key of `tls-cert`, in PEM
        tls_key("RESTAIN_TLS_KEY"): PathBuf;
        /// Asks clients for a certificate of one of these roots, in PEM; who has none is not let in
        tls_client_ca("RESTAIN_TLS_CLIENT_CA"): PathBuf;
        /// Exports traces to this OpenTelemetry collector over OTLP/HTTP, for example http://collector:4318 or https://…; the
        /// standard OTEL_… variables set headers, timeout, certificate and resource attributes
        otlp("RESTAIN_OTLP"): Collector;
        /// A further address, plain HTTP whatever the others are, where /health/live and /health/ready alone are served
        probes("RESTAIN_PROBES"): SocketAddr;
    }
    {
        /// Never uses nor lists styles of this domain, whatever a request says, for training data that must not have seen
        /// it. May be given several times, or as a list with commas
        forbid_domain("RESTAIN_FORBID_DOMAIN", "DOMAIN"): String;
        /// Lets pages of this origin, as `https://example.org`, ask over HTTP; `*` is any. May be given several times, or
        /// as a list with commas
        cors_origin("RESTAIN_CORS_ORIGIN", "ORIGIN"): String;
    }
}

/// What `restain serve` takes on its command line.
#[derive(Clone, Debug, clap::Args)]
pub struct ServeArgs {
    #[command(flatten)]
    options: Options,
    /// A TOML file of the same options
    #[arg(long, env = "RESTAIN_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the options as they are resolved, as TOML, and end
    #[arg(long)]
    pub print_config: bool,
}

/// Options that cannot be served with.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("the file {} cannot be read: {source}", .path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("the file {} is wrong: {source}", .path.display())]
    Malformed { path: PathBuf, source: Box<toml::de::Error> },
    #[error(
        "max-tiles is {max_tiles} and max-queue-tiles {max_queue_tiles}: a request as large as allowed would never be admitted"
    )]
    QueueBelowRequest { max_tiles: usize, max_queue_tiles: usize },
    #[error(
        "max-body is {max_body} and max-inflight-bytes {max_inflight}: a body as large as allowed would never be admitted"
    )]
    MemoryBelowBody { max_body: ByteSize, max_inflight: ByteSize },
    #[error("max-batch is {0}, and may be at most 1024")]
    BatchTooLarge(usize),
    #[error("encoders-per-device is {0}, and may be at most {MOST_ENCODERS}")]
    TooManyEncoders(usize),
    #[error(
        "{option} is {address}, which others can reach, and nobody would be asked for a key: give keys or tls-client-ca, or insecure to do it all the same"
    )]
    Public { option: &'static str, address: SocketAddr },
    #[error("{given} is given and {missing} is not: TLS needs both tls-cert and tls-key")]
    HalfTls { given: &'static str, missing: &'static str },
    #[error(
        "cors-origin is {0:?}, and must be `*` or an origin such as https://example.org, without a path"
    )]
    CorsOrigin(String),
    #[error("cache-disk is {0}, and must be at least {least}", least = ByteSize(LEAST_DISK_BYTES))]
    DiskTooSmall(ByteSize),
    #[error("trace-share is {0}, and must be from 0 to 1")]
    NoShare(f64),
}

impl ServeArgs {
    /// # Errors
    /// When the file is wrong, or two options contradict each other.
    pub fn resolve(self) -> Result<Config, ConfigError> {
        let file = self.config.as_deref().map(read).transpose()?.unwrap_or_default();
        self.options.over(file).checked()
    }
}

/// Every option at its default, whatever the environment says.
impl Default for Config {
    fn default() -> Self {
        Options::default().over(Options::default())
    }
}

impl Config {
    /// The options as a TOML file that gives them again.
    pub fn to_toml(&self) -> String {
        toml::to_string(self)
            .expect("every option is a string, a number or an enum, which TOML can write")
    }

    fn checked(self) -> Result<Self, ConfigError> {
        let (max_tiles, max_queue_tiles) = (self.max_tiles.get(), self.max_queue_tiles.get());
        if max_tiles > max_queue_tiles {
            return Err(ConfigError::QueueBelowRequest { max_tiles, max_queue_tiles });
        }
        if self.max_body.0 > self.max_inflight_bytes.0 {
            return Err(ConfigError::MemoryBelowBody {
                max_body: self.max_body,
                max_inflight: self.max_inflight_bytes,
            });
        }
        if self.max_batch > 1024 {
            return Err(ConfigError::BatchTooLarge(self.max_batch));
        }
        if self.encoders_per_device > MOST_ENCODERS {
            return Err(ConfigError::TooManyEncoders(self.encoders_per_device));
        }
        if !(0.0..=1.0).contains(&self.trace_share) {
            return Err(ConfigError::NoShare(self.trace_share));
        }
        if self.cache_dir.is_some() && self.cache_disk.0 < LEAST_DISK_BYTES {
            return Err(ConfigError::DiskTooSmall(self.cache_disk));
        }
        door::check(&self)?;
        Ok(self)
    }
}

fn read(path: &Path) -> Result<Options, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    toml::from_str(&text).map_err(|source| ConfigError::Malformed {
        path: path.to_owned(),
        source: Box::new(source),
    })
}

fn at_least_one(value: usize) -> NonZeroUsize {
    NonZeroUsize::new(value).expect("the default is written above, and is not zero")
}

#[cfg(test)]
mod tests {
    use clap::{Args, FromArgMatches};

    use super::*;

    fn options(toml: &str) -> Options {
        toml::from_str(toml).unwrap()
    }

    #[test]
    fn a_flag_beats_the_file_and_the_file_beats_the_default() {
        let config = options("max-batch = 4")
            .over(options("max-batch = 8\nmax-tiles = 9\nrequest-timeout = \"2s\""));
        assert_eq!(
            (config.max_batch, config.max_tiles.get(), config.max_variants.get()),
            (4, 9, 64)
        );
        assert_eq!(config.request_timeout.0.as_secs(), 2);
    }

    #[test]
    fn what_is_printed_is_the_same_options_again() {
        let printed =
            options("max-body = \"3MiB\"\nprecision = \"int8\"").over(Options::default()).to_toml();
        assert_eq!(options(&printed).over(Options::default()).to_toml(), printed);
        assert!(
            printed.contains("max-body = \"3MiB\"") && printed.contains("precision = \"int8\""),
            "{printed}"
        );
    }

    #[test]
    fn the_help_names_every_default() {
        let command = ServeArgs::augment_args(clap::Command::new("serve"));
        let defaults: toml::Table =
            toml::from_str(&Options::default().over(Options::default()).to_toml()).unwrap();
        for (name, value) in defaults.iter().filter(|(name, _)| *name != "threads") {
            let help = command
                .get_arguments()
                .find(|argument| argument.get_long() == Some(name))
                .unwrap()
                .get_help()
                .unwrap();
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            assert!(
                help.to_string().ends_with(&format!("[default: {value}]")),
                "{name} is {value}, and its help says: {help}"
            );
        }
    }

    #[test]
    fn an_unknown_option_in_the_file_is_named() {
        let error = toml::from_str::<Options>("max-bach = 4").unwrap_err().to_string();
        assert!(error.contains("max-bach") && error.contains("max-batch"), "{error}");
    }

    #[test]
    fn forbidden_domains_are_a_list_in_every_place() {
        let command = ServeArgs::augment_args(clap::Command::new("serve"));
        let flags =
            command.get_matches_from(["serve", "--forbid-domain", "a,b", "--forbid-domain", "c"]);
        let given = ServeArgs::from_arg_matches(&flags).unwrap().options;
        let file = "forbid-domain = [\"d\", \"e, f\"]\nstate-dir = \"state\"";
        assert_eq!(given.over(options(file)).forbid_domain, ["a", "b", "c"]);
        let printed = options(file).over(Options::default()).to_toml();
        let again = options(&printed).over(Options::default());
        assert_eq!(
            (again.forbid_domain, again.state_dir),
            (vec!["d".to_owned(), "e, f".to_owned()], Some(PathBuf::from("state")))
        );
    }

    #[test]
    fn limits_that_contradict_each_other_are_refused() {
        let refused =
            |toml| options(toml).over(Options::default()).checked().unwrap_err().to_string();
        assert!(refused("max-tiles = 2000").contains("max-queue-tiles 1024"));
        assert!(refused("max-body = \"4GiB\"").contains("max-inflight-bytes 2GiB"));
        assert!(refused("trace-share = 1.5").contains("from 0 to 1"));
        assert!(refused("max-batch = 5000").contains("at most 1024"));
        assert!(refused("cache-dir = \"x\"\ncache-disk = \"1MiB\"").contains("64MiB"));
    }
}
