//! The command line of `restain-train`: its commands, and how their options are read.
//!
//! Every option is a flag, an environment variable `RESTAIN_TRAIN_…` and a key in the file of
//! `--config`. The variables that start the processes of a PyTorch run, such as `WORLD_SIZE`, keep
//! their names.

use std::ffi::OsString;

use anyhow::{Context, Result};
use clap::{
    ArgMatches, Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum,
};

use crate::fit::{self, FitArgs, ResumeArgs};
use crate::options;
use crate::preset::{DataPreset, Preset};
use crate::publish::{self, ExportArgs, Fp16Args, ImportArgs, InitArgs};
use crate::run::trainer::Ending;
use restain_engine::Runtime;
use restain_lab::downstream::{self, DownstreamArgs};
use restain_lab::evaluate::{self, EvaluateArgs};
use restain_lab::phantom;
use restain_lab::styles::{self, StylesArgs};
use restain_options::{CompletionsArgs, Ended, LogArgs, ManArgs, Program};

#[derive(Parser)]
#[command(
    name = "restain-train",
    version,
    about = "Train the encoders that restain serves",
    max_term_width = 0
)]
struct Tasks {
    #[command(subcommand)]
    task: Task,
}

/// A command line, parsed.
pub struct Cli {
    task: Task,
    pub log: LogArgs,
}

/// Options that contradict each other.
#[derive(Debug, thiserror::Error)]
#[error("{0:#}")]
pub struct WrongUse(anyhow::Error);

#[derive(Subcommand)]
enum Task {
    /// Train on a folder of images and write a bundle
    Fit(Box<FitArgs>),
    /// Resume an interrupted fit, exactly where it stopped
    Resume(ResumeArgs),
    /// Write the bundle of a run from its state
    Export(ExportArgs),
    /// Convert a checkpoint of the published code to a bundle
    Import(ImportArgs),
    /// Write a bundle of randomly initialised weights, for benchmarks and tests
    Init(InitArgs),
    /// Add the fp16 encoder, for GPUs, to a bundle
    Fp16(Fp16Args),
    /// Replace the styles of a bundle by those of a folder of images
    Styles(StylesArgs),
    /// Measure a bundle on images that it was not trained on
    #[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
    Evaluate(Evaluation),
    /// Write procedural H&E tiles of several hospitals, with labels
    Phantom(phantom::Args),
    /// Print completions for a shell, to be saved where it looks for them
    Completions(CompletionsArgs),
    /// Write the manual pages of the program and its commands to a directory
    Man(ManArgs),
}

/// The options of `evaluate`, or with `--downstream` first, those of its experiment. `--downstream`
/// is a flag subcommand, so that each of the two has its own options and required ones; clap's
/// derive cannot express this choice.
enum Evaluation {
    Bundle(Box<EvaluateArgs>),
    Other(Downstream),
}

impl Args for Evaluation {
    fn augment_args(command: Command) -> Command {
        Downstream::augment_subcommands(EvaluateArgs::augment_args(command))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Evaluation {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        match matches.subcommand() {
            Some(_) => Downstream::from_arg_matches(matches).map(Self::Other),
            None => {
                EvaluateArgs::from_arg_matches(matches).map(|args| Self::Bundle(Box::new(args)))
            }
        }
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[derive(Subcommand)]
enum Downstream {
    /// Train classifiers with and without augmentation, and test them on hospitals that they have
    /// not seen
    #[command(long_flag = "downstream")]
    Downstream(Box<DownstreamArgs>),
}

impl Cli {
    /// Parses the command line of this process.
    ///
    /// # Errors
    /// When there is nothing to run: wrong use, help, `--print-config`.
    pub fn parse() -> Result<Self, Ended> {
        #[expect(clippy::disallowed_methods, reason = "this is where the program reads its flags")]
        let words: Vec<OsString> = std::env::args_os().collect();
        let parsed = program().parse(&words)?;
        let typed = words.iter().map(|word| word.to_string_lossy().into_owned());
        options::record_command_line(typed.chain(parsed.added));
        let mut task = &parsed.matches;
        while let Some((_, below)) = task.subcommand() {
            task = below;
        }
        let log = LogArgs::from_arg_matches(task).map_err(Ended::Clap)?;
        let Tasks { task } = Tasks::from_arg_matches(&parsed.matches).map_err(Ended::Clap)?;
        Ok(Self { task, log })
    }
}

fn program() -> Program {
    let command = with_log(Tasks::command());
    Program::new(command, |_| "RESTAIN_TRAIN".to_owned()).with_preset(presets).with_build(build)
}

/// Returns the commit that the program was built from, if `RESTAIN_COMMIT` named it then, and the
/// ONNX Runtime that is found.
fn build() -> String {
    let commit = option_env!("RESTAIN_COMMIT").filter(|commit| !commit.is_empty());
    let commit = commit.map(|commit| format!("commit {commit}\n"));
    commit.unwrap_or_default() + &Runtime::describe()
}

/// Gives each task the options of the log.
fn with_log(command: Command) -> Command {
    let is_task = command.get_arguments().next().is_some();
    let below: Vec<String> =
        command.get_subcommands().map(|below| below.get_name().to_owned()).collect();
    let command = if is_task { LogArgs::augment_args(command) } else { command };
    below.into_iter().fold(command, |command, name| command.mut_subcommand(name, with_log))
}

/// Returns the options of `fit`'s `--data-preset`, or else of its `--preset`, which stand below those
/// of a file.
fn presets(task: &ArgMatches) -> Option<(String, String)> {
    if let Some(preset) = task.try_get_one::<DataPreset>("data_preset").ok()? {
        let name = preset.to_possible_value()?;
        return Some((format!("--data-preset {}", name.get_name()), preset.options()));
    }
    let preset = task.try_get_one::<Preset>("preset").ok()??;
    let (name, options) = (preset.to_possible_value()?, preset.options()?);
    Some((format!("--preset {}", name.get_name()), options.to_owned()))
}

/// Runs the command; returns the exit status of the program.
///
/// # Errors
/// [`WrongUse`] when options contradict each other, and whatever else stops the command.
pub fn run(cli: &Cli) -> Result<u8> {
    match &cli.task {
        Task::Fit(args) => {
            args.check().map_err(WrongUse)?;
            fit::fit(args).map(status)
        }
        Task::Resume(args) => fit::resume(args).map(status),
        Task::Export(args) => publish::export(args).map(|()| 0),
        Task::Import(args) => publish::import(args).map(|()| 0),
        Task::Init(args) => publish::init(args).map(|()| 0),
        Task::Fp16(args) => publish::fp16(args).map(|()| 0),
        Task::Styles(args) => styles::styles(args).map(|()| 0),
        Task::Evaluate(Evaluation::Bundle(args)) => evaluate::evaluate(args).map(|()| 0),
        Task::Evaluate(Evaluation::Other(Downstream::Downstream(args))) => {
            args.check().map_err(WrongUse)?;
            downstream::run(args).map(|()| 0)
        }
        Task::Phantom(args) => phantom::run(args).map(|()| 0),
        Task::Completions(args) => {
            program().write_completions(args.shell, &mut std::io::stdout())?;
            Ok(0)
        }
        Task::Man(args) => {
            let written = program().write_man_pages(args);
            written
                .with_context(|| format!("cannot write manual pages to {}", args.dir.display()))?;
            Ok(0)
        }
    }
}

fn status(ending: Ending) -> u8 {
    match ending {
        Ending::Finished => 0,
        Ending::Interrupted => 130,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_has_help_and_a_heading() {
        assert_eq!(program().undocumented(), Vec::<String>::new());
    }

    #[test]
    fn every_option_has_a_variable_of_the_trainer_or_of_pytorch() {
        for (variable, task) in program().variables() {
            let others = variable.starts_with("TORCHELASTIC_")
                || ["WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"]
                    .contains(&variable.as_str());
            assert!(others || variable.starts_with("RESTAIN_TRAIN_"), "{task}: {variable}");
        }
    }
}
