//! The command line of `restain-train`. Every option is an environment variable too: `--batch` is `RESTAIN_BATCH`.

use anyhow::Result;
use clap::{Command, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::train::evaluate::{self, EvaluateArgs};
use crate::train::fit::{self, FitArgs, ResumeArgs};
use crate::train::phantom;
use crate::train::produce::{self, ExportArgs, ImportArgs, InitArgs};
use crate::train::styles::{self, StylesArgs};
use crate::train::trainer::Ending;

#[derive(Parser)]
#[command(name = "restain-train", version, about = "Trains the encoders that restain serves")]
pub struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Train on a folder of images and write a bundle
    Fit(Box<FitArgs>),
    /// Go on with an interrupted fit, exactly where it stopped
    Resume(ResumeArgs),
    /// Write the bundle of a run from its state
    Export(ExportArgs),
    /// Turn a checkpoint of the published code into a bundle
    Import(ImportArgs),
    /// Write a bundle of untrained weights, for benchmarks
    Init(InitArgs),
    /// Take the styles of a bundle from a folder of images
    Styles(StylesArgs),
    /// Measure a bundle on images it was not trained on
    Evaluate(EvaluateArgs),
    /// Draw procedural H&E tiles of several hospitals
    Phantom(phantom::Args),
}

impl Cli {
    /// Flags first, then the environment; wrong use ends the program with status 2.
    pub fn from_process() -> Self {
        let matches = with_environment(Self::command()).get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }
}

/// Gives every option of a command and of those below it its variable.
fn with_environment(command: Command) -> Command {
    let command = command.mut_args(|arg| {
        let variable = format!("RESTAIN_{}", arg.get_id().as_str().to_uppercase());
        if arg.is_positional() { arg } else { arg.env(variable) }
    });
    let below: Vec<String> = command.get_subcommands().map(|below| below.get_name().to_owned()).collect();
    below.into_iter().fold(command, |command, name| command.mut_subcommand(name, with_environment))
}

/// Runs the command; the exit status of the program.
pub fn run(cli: &Cli) -> Result<u8> {
    match &cli.command {
        Task::Fit(args) => fit::fit(args).map(status),
        Task::Resume(args) => fit::resume(args).map(status),
        Task::Export(args) => produce::export(args).map(|()| 0),
        Task::Import(args) => produce::import(args).map(|()| 0),
        Task::Init(args) => produce::init(args).map(|()| 0),
        Task::Styles(args) => styles::styles(args).map(|()| 0),
        Task::Evaluate(args) => evaluate::evaluate(args).map(|()| 0),
        Task::Phantom(args) => phantom::run(args).map(|()| 0),
    }
}

fn status(ending: Ending) -> u8 {
    match ending {
        Ending::Finished => 0,
        Ending::Interrupted => 130,
    }
}
