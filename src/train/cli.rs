//! The command line of `restain-train`.

use anyhow::Result;
use clap::{Parser, Subcommand};

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
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train on a folder of images and write a bundle
    Fit(FitArgs),
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

/// Runs the command; the exit status of the program.
pub fn run(cli: &Cli) -> Result<u8> {
    match &cli.command {
        Command::Fit(args) => fit::fit(args).map(status),
        Command::Resume(args) => fit::resume(args).map(status),
        Command::Export(args) => produce::export(args).map(|()| 0),
        Command::Import(args) => produce::import(args).map(|()| 0),
        Command::Init(args) => produce::init(args).map(|()| 0),
        Command::Styles(args) => styles::styles(args).map(|()| 0),
        Command::Evaluate(args) => evaluate::evaluate(args).map(|()| 0),
        Command::Phantom(args) => phantom::run(args).map(|()| 0),
    }
}

fn status(ending: Ending) -> u8 {
    match ending {
        Ending::Finished => 0,
        Ending::Interrupted => 130,
    }
}
