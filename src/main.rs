//! `restain`: serves tiles, augments a data set, loads a server, describes the API, checks a
//! bundle.

mod cli;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use restain::augment::AugmentArgs;
use restain::serve::{Config, error};
use restain_load::LoadArgs;
use restain_options::{CompletionsArgs, ManArgs};

/// Faster than glibc's at the small allocations of requests by key, and gives back what large bodies
/// took, whichever thread frees them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
// Help is as wide as the terminal, or as COLUMNS says; in a pipe, 100 columns.
#[command(version, about, max_term_width = 0)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the bundles of a directory over HTTP and gRPC
    Serve(Box<Config>),
    /// Write variants of a data set, without a server: a folder, a WILDS root or WebDataset tars
    Augment(Box<AugmentArgs>),
    /// Send requests to a server and report throughput, latencies and errors
    Load(Box<LoadArgs>),
    /// Verify a bundle: every digest, every shape, and every encoder on a grey tile; print which
    /// nodes ran where
    Check(cli::check::CheckArgs),
    /// Make a bearer key: print its token on standard error, once, and its entry for --keys on
    /// standard output
    Key(cli::key::KeyArgs),
    /// Ask a running server whether it is ready, for health checks of containers
    Health(cli::health::HealthArgs),
    /// Print the OpenAPI description of the HTTP API, as YAML
    Openapi,
    /// Print completions for a shell, to be saved where it looks for them
    Completions(CompletionsArgs),
    /// Write the manual pages of the program and its commands to a directory
    Man(ManArgs),
}

fn main() -> ExitCode {
    let command = match cli::parse() {
        Ok(cli) => cli.command,
        Err(ended) => return ended.report("restain"),
    };
    let done = match command {
        Command::Serve(config) => cli::serve::run(*config),
        Command::Augment(args) => cli::augment::run(*args),
        Command::Load(args) => cli::load::run(*args),
        Command::Check(args) => cli::check::run(&args),
        Command::Key(args) => cli::key::run(&args),
        Command::Health(args) => cli::health::run(&args),
        Command::Openapi => cli::openapi::run(),
        Command::Completions(args) => cli::completions(&args),
        Command::Man(args) => cli::man(&args),
    };
    done.unwrap_or_else(|error| {
        eprintln!("restain: {}", error::with_causes(error.as_ref()));
        ExitCode::FAILURE
    })
}
