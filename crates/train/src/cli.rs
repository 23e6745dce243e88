//! The command line of `restain-train`. Every option is an environment variable too (`--batch` is `RESTAIN_BATCH`) and can
//! stand in the file of `--config`; a flag goes before the environment, that before the file, that before `--data-preset`.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Result;
use clap::{
    Arg, ArgAction, ArgMatches, Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand,
};

use crate::fit::{self, FitArgs, ResumeArgs};
use crate::options;
use crate::preset::DataPreset;
use crate::publish::{self, ExportArgs, Fp16Args, ImportArgs, InitArgs};
use crate::run::trainer::Ending;
use restain_lab::downstream::{self, DownstreamArgs};
use restain_lab::evaluate::{self, EvaluateArgs};
use restain_lab::phantom;
use restain_lab::styles::{self, StylesArgs};
use restain_options::file::{self as options_file, FileError};

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
    /// Add the encoder for GPUs to a bundle that was written without it
    Fp16(Fp16Args),
    /// Take the styles of a bundle from a folder of images
    Styles(StylesArgs),
    /// Measure a bundle on images it was not trained on
    #[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
    Evaluate(Evaluation),
    /// Draw procedural H&E tiles of several hospitals
    Phantom(phantom::Args),
}

/// Of a bundle, or, with `--downstream` first, of what it does for a classifier. A flag subcommand, so that each has options
/// of its own and the bundle's are not asked for in vain; clap derives structs of both, and no choice between them.
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
    /// Train classifiers with and without augmentation, and test them on hospitals that they have not seen
    #[command(long_flag = "downstream")]
    Downstream(Box<DownstreamArgs>),
}

impl Cli {
    /// What the process was told; wrong use ends it with status 2, and `--print-config` with 0.
    pub fn from_process() -> Self {
        let command = complete(Self::command());
        let words = with_files(&command, std::env::args_os().collect()).unwrap_or_else(|error| {
            eprintln!("restain-train: {error}");
            std::process::exit(2)
        });
        options::told(words.iter().map(|word| word.to_string_lossy().into_owned()));
        let matches = command.get_matches_from(words);
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }
}

/// The words of the command line and, as flags behind them, what a file and a data preset say of options that were given
/// neither as a flag nor as a variable.
fn with_files(command: &Command, mut words: Vec<OsString>) -> Result<Vec<OsString>, FileError> {
    // What is required may stand in the file.
    let lenient = without_requirements(command.clone());
    for read in [options_file::flags, preset_flags] {
        // What is wrong, and help, is told by the command as it is.
        let Ok(matches) = lenient.clone().try_get_matches_from(&words) else { return Ok(words) };
        let (task, given) = task(&lenient, &matches);
        words.extend(read(task, given)?.into_iter().map(OsString::from));
    }
    let Ok(matches) = lenient.clone().try_get_matches_from(&words) else { return Ok(words) };
    let (task, given) = task(&lenient, &matches);
    if given.get_flag("print-config") {
        print!("{}", options_file::in_force(task, given));
        std::process::exit(0);
    }
    Ok(words)
}

/// The flags that `--data-preset` stands for.
fn preset_flags(task: &Command, given: &ArgMatches) -> Result<Vec<String>, FileError> {
    let preset = given.try_get_one::<DataPreset>("data_preset").ok().flatten();
    preset.map_or(Ok(Vec::new()), |preset| {
        options_file::flags_beneath(task, given, "--data-preset".as_ref(), &preset.options())
    })
}

/// The innermost command that was given, and what was given to it.
fn task<'a>(
    mut command: &'a Command,
    mut matches: &'a ArgMatches,
) -> (&'a Command, &'a ArgMatches) {
    while let Some((name, below)) = matches.subcommand() {
        (command, matches) = (command.find_subcommand(name).expect("clap found it"), below);
    }
    (command, matches)
}

/// Gives every option of a command and of those below it its variable, unless it has one of the field's, and every task a
/// file of options.
fn complete(command: Command) -> Command {
    let command = command.mut_args(|arg| {
        let variable = format!("RESTAIN_{}", arg.get_id().as_str().to_uppercase());
        if arg.is_positional() || arg.get_env().is_some() { arg } else { arg.env(variable) }
    });
    // What has options is a task, even where there are others below it.
    let is_task = command.get_arguments().next().is_some();
    let below: Vec<String> =
        command.get_subcommands().map(|below| below.get_name().to_owned()).collect();
    let command = if is_task { command.args(file_options()) } else { command };
    below.into_iter().fold(command, |command, name| command.mut_subcommand(name, complete))
}

fn file_options() -> [Arg; 2] {
    [
        Arg::new("config")
            .long("config")
            .env("RESTAIN_TRAIN_CONFIG")
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help("A TOML file of the same options"),
        Arg::new("print-config")
            .long("print-config")
            .action(ArgAction::SetTrue)
            .help("Print what is in force as such a file, and end"),
    ]
}

fn without_requirements(command: Command) -> Command {
    let command = command.mut_args(|arg| arg.required(false));
    let below: Vec<String> =
        command.get_subcommands().map(|below| below.get_name().to_owned()).collect();
    below
        .into_iter()
        .fold(command, |command, name| command.mut_subcommand(name, without_requirements))
}

/// Runs the command; the exit status of the program.
pub fn run(cli: &Cli) -> Result<u8> {
    match &cli.command {
        Task::Fit(args) => fit::fit(args).map(status),
        Task::Resume(args) => fit::resume(args).map(status),
        Task::Export(args) => publish::export(args).map(|()| 0),
        Task::Import(args) => publish::import(args).map(|()| 0),
        Task::Init(args) => publish::init(args).map(|()| 0),
        Task::Fp16(args) => publish::fp16(args).map(|()| 0),
        Task::Styles(args) => styles::styles(args).map(|()| 0),
        Task::Evaluate(Evaluation::Bundle(args)) => evaluate::evaluate(args).map(|()| 0),
        Task::Evaluate(Evaluation::Other(Downstream::Downstream(args))) => {
            downstream::run(args).map(|()| 0)
        }
        Task::Phantom(args) => phantom::run(args).map(|()| 0),
    }
}

fn status(ending: Ending) -> u8 {
    match ending {
        Ending::Finished => 0,
        Ending::Interrupted => 130,
    }
}
