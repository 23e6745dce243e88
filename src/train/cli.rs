//! The command line of `restain-train`.

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::train::fit::{self, FitArgs, ResumeArgs};
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
}

/// Runs the command; the exit status of the program.
pub fn run(cli: &Cli) -> Result<u8> {
    match &cli.command {
        Command::Fit(args) => fit::fit(args).map(status),
        Command::Resume(args) => fit::resume(args).map(status),
    }
}

fn status(ending: Ending) -> u8 {
    match ending {
        Ending::Finished => 0,
        Ending::Interrupted => 130,
    }
}
