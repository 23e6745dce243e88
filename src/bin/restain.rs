//! `restain`: serve tiles, load a server, describe the API, check a bundle.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand};
use restain::load::{self, LoadArgs};
use restain::serve::cache::faults::{CountFaults, OnlyFaults, WithoutFaults};
use restain::serve::{self, Listeners, ServeArgs, config::LogFormat};
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
    /// Load a server with requests and report throughput, latencies and errors
    Load(Box<LoadArgs>),
    /// Print the OpenAPI description, as YAML
    Openapi,
    /// Verify a bundle: every digest, every shape, and every encoder on a grey tile
    Check { bundle: PathBuf },
}

fn main() -> ExitCode {
    let done = match told().command {
        Command::Serve(args) => serve(*args),
        Command::Load(args) => load(*args),
        Command::Openapi => openapi(),
        Command::Check { bundle } => check(&bundle),
    };
    done.unwrap_or_else(|error| {
        eprintln!("restain: {}", serve::error::with_causes(error.as_ref()));
        ExitCode::FAILURE
    })
}

/// The command line, and what a file given on it adds.
fn told() -> Cli {
    let matches = Cli::command().get_matches();
    let more = matches.subcommand_matches("load").map_or(Ok(Vec::new()), load::flags_from_file);
    match more {
        Ok(more) => Cli::parse_from(std::env::args_os().chain(more.into_iter().map(Into::into))),
        Err(error) => {
            eprintln!("restain: {error}");
            std::process::exit(2);
        }
    }
}

fn openapi() -> anyhow::Result<ExitCode> {
    print!("{}", serve::http::openapi().to_yaml()?);
    Ok(ExitCode::SUCCESS)
}

fn check(bundle: &std::path::Path) -> anyhow::Result<ExitCode> {
    println!("{}", serve::check::check(bundle)?);
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
    log(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let stop = runtime.block_on(async {
        let signals = serve::signal::Signals::new().context("signals cannot be listened for")?;
        let bind = async |address| TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"));
        let listeners = Listeners { http: bind(config.http).await?, grpc: bind(config.grpc).await? };
        anyhow::Ok(serve::run(config, listeners, signals.asked_to_stop()).await?)
    });
    // Whatever still loads or computes is of no use to anyone.
    runtime.shutdown_background();
    Ok(ExitCode::from(stop?.exit_status()))
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
    tracing_subscriber::fmt().with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr).with_target(false).init();
    let (report, ending) = load::run(&args)?;
    Ok(match ending {
        load::Ending::Interrupted => ExitCode::from(130),
        load::Ending::Done if args.report.fail_on_error && report.has_errors() => ExitCode::FAILURE,
        load::Ending::Done => ExitCode::SUCCESS,
    })
}

fn log(config: &serve::Config) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.log).with_context(|| format!("log is `{}`", config.log))?;
    let lines = tracing_subscriber::fmt::layer().with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr);
    let lines = match config.log_format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    let lines = lines.with_filter(filter.and(WithoutFaults));
    tracing_subscriber::registry().with(lines).with(CountFaults.with_filter(OnlyFaults)).init();
    Ok(())
}
