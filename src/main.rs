//! `restain`: serve tiles, augment a data set, load a server, describe the API, check a bundle.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand};
use restain::augment::{self, AugmentArgs};
use restain::health::{self, HealthArgs};
use restain::serve::cache::faults::{CountFaults, OnlyFaults, WithoutFaults};
use restain::serve::{self, Listeners, ServeArgs, config::KeyArgs, config::LogFormat};
use restain_engine::Device;
use restain_load::{self as load, LoadArgs};
use restain_options::file as options_file;
use tokio::net::TcpListener;
use tracing_subscriber::filter::{EnvFilter, FilterExt};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the bundles of a models directory over HTTP
    Serve(Box<ServeArgs>),
    /// Write variants of a whole data set, without a server: a folder, a WILDS root or WebDataset tars
    Augment(Box<AugmentArgs>),
    /// Load a server with requests and report throughput, latencies and errors
    Load(Box<LoadArgs>),
    /// Ask a running server whether it is ready; for the health checks of containers
    Health(HealthArgs),
    /// Make a key: its token on standard error, once and never again, and its entry for the file of keys on standard output
    Key(KeyArgs),
    /// Print the OpenAPI description, as YAML
    Openapi,
    /// Verify that a bundle can be served: every digest and shape, its styles, and every encoder on a grey tile; exits
    /// with 1 when it cannot
    Check {
        bundle: PathBuf,
        /// Where its encoders are run: cpu, cuda:0 or tensorrt:0
        #[arg(long, default_value = "cpu")]
        device: Device,
    },
}

fn main() -> ExitCode {
    let done = match told().command {
        Command::Serve(args) => serve(*args),
        Command::Augment(args) => augment(*args),
        Command::Load(args) => load(*args),
        Command::Health(args) => health(&args),
        Command::Key(args) => key(&args),
        Command::Openapi => openapi(),
        Command::Check { bundle, device } => check(&bundle, device),
    };
    done.unwrap_or_else(|error| {
        eprintln!("restain: {}", serve::error::with_causes(error.as_ref()));
        ExitCode::FAILURE
    })
}

/// The command line, and what a file given on it adds.
fn told() -> Cli {
    let cli = Cli::command();
    let matches = cli.clone().get_matches();
    let with_file = matches.subcommand().filter(|(name, _)| ["augment", "load"].contains(name));
    let more = with_file.map_or(Ok(Vec::new()), |(name, given)| {
        options_file::flags(cli.find_subcommand(name).expect("it was given"), given)
    });
    match more {
        Ok(more) => Cli::parse_from(std::env::args_os().chain(more.into_iter().map(Into::into))),
        Err(error) => {
            eprintln!("restain: {error}");
            std::process::exit(2);
        }
    }
}

fn key(args: &KeyArgs) -> anyhow::Result<ExitCode> {
    let token = serve::access::token().context("the system gives no random bytes")?;
    let key = match args.key(&token) {
        Ok(key) => key,
        Err(said) => {
            eprintln!("restain: {said}");
            return Ok(ExitCode::from(2));
        }
    };
    eprintln!("token, which is kept nowhere: {token}");
    print!("{}", key.to_toml());
    Ok(ExitCode::SUCCESS)
}

fn openapi() -> anyhow::Result<ExitCode> {
    print!("{}", serve::transport::http::openapi().to_yaml()?);
    Ok(ExitCode::SUCCESS)
}

fn health(args: &HealthArgs) -> anyhow::Result<ExitCode> {
    println!("{}", health::ask(args)?);
    Ok(ExitCode::SUCCESS)
}

fn check(bundle: &std::path::Path, device: Device) -> anyhow::Result<ExitCode> {
    println!("{}", serve::check::check(bundle, device)?);
    Ok(ExitCode::SUCCESS)
}

fn serve(args: ServeArgs) -> anyhow::Result<ExitCode> {
    let print_config = args.print_config;
    let config = match args.resolve() {
        Ok(config) => config,
        Err(error) => {
            eprintln!("restain: {error}");
            return Ok(ExitCode::from(2));
        }
    };
    if print_config {
        print!("{}", config.to_toml());
        return Ok(ExitCode::SUCCESS);
    }
    log(&config.log, config.log_format)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let stop = runtime.block_on(async {
        let signals =
            serve::runtime::signal::Signals::new().context("signals cannot be listened for")?;
        let bind = async |address| {
            TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
        };
        let probes = match config.probes {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        let listeners =
            Listeners { http: bind(config.http).await?, grpc: bind(config.grpc).await?, probes };
        anyhow::Ok(serve::run(config, listeners, signals.asked_to_stop()).await?)
    });
    // Whatever still loads or computes is of no use to anyone.
    runtime.shutdown_background();
    Ok(ExitCode::from(stop?.exit_status()))
}

fn augment(args: AugmentArgs) -> anyhow::Result<ExitCode> {
    let args = match args.resolve() {
        Ok(args) => args,
        Err(said) => {
            eprintln!("restain: {said}");
            return Ok(ExitCode::from(2));
        }
    };
    if args.print_config {
        print!("{}", args.to_toml()?);
        return Ok(ExitCode::SUCCESS);
    }
    log(&args.log, args.log_format)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        let signals =
            serve::runtime::signal::Signals::new().context("signals cannot be listened for")?;
        let stop = async move { _ = signals.asked_to_stop().await };
        anyhow::Ok(augment::run(args, stop).await)
    })?;
    // Whatever is still under way is of no use to anyone.
    runtime.shutdown_background();
    match ended {
        Ok(augment::Ending::Done(summary)) => println!("{summary}"),
        Ok(augment::Ending::Told(told)) => println!("{told}"),
        Ok(augment::Ending::Interrupted(summary)) => {
            eprintln!("restain: stopped; the same command goes on with it\n{summary}");
            return Ok(ExitCode::from(130));
        }
        Err(error) if error.is_wrong_use() => {
            eprintln!("restain: {error}");
            return Ok(ExitCode::from(2));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(ExitCode::SUCCESS)
}

fn load(args: LoadArgs) -> anyhow::Result<ExitCode> {
    let args = match args.resolve() {
        Ok(args) => args,
        Err(said) => {
            eprintln!("restain: {said}");
            return Ok(ExitCode::from(2));
        }
    };
    if args.print_config {
        print!("{}", args.to_toml()?);
        return Ok(ExitCode::SUCCESS);
    }
    tracing_subscriber::fmt()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .with_target(false)
        .init();
    let (report, ending) = load::run(&args)?;
    Ok(match ending {
        load::Ending::Interrupted => ExitCode::from(130),
        load::Ending::Done if args.report.fail_on_error && report.has_errors() => ExitCode::FAILURE,
        load::Ending::Done => ExitCode::SUCCESS,
    })
}

fn log(levels: &str, format: LogFormat) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(levels).with_context(|| format!("log is `{levels}`"))?;
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Text => lines.boxed(),
        // The span of the request is the one there is.
        LogFormat::Json => lines.json().with_span_list(false).boxed(),
    };
    let lines = lines.with_filter(filter.and(WithoutFaults));
    tracing_subscriber::registry().with(lines).with(CountFaults.with_filter(OnlyFaults)).init();
    serve::runtime::panics::log_and_count();
    Ok(())
}
