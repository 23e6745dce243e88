//! A program's command line, completed and resolved: flag, environment variable, file, preset,
//! default.
//!
//! Clap has flags, variables and defaults in that order. A file and a preset become the defaults of
//! the options that were given neither as a flag nor as a variable, and clap then parses the same
//! words once more.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};

use crate::complete::{complete, without_requirements};
use crate::file::{self, FileError, Setting};
use crate::{message, print};

/// Returns what a preset is called and its options as TOML, if the options of a command choose one.
pub type Preset = fn(&ArgMatches) -> Option<(String, String)>;

/// Returns why the options of a command, given its name, contradict each other.
pub type Check = fn(&str, &ArgMatches) -> Result<(), String>;

/// Returns what `--version` prints below the version, each line with its end.
pub type Build = fn() -> String;

/// A program whose options come from flags, environment variables, files, presets and defaults.
pub struct Program {
    command: Command,
    preset: Preset,
    check: Check,
    build: Build,
}

/// A resolved command line.
pub struct Parsed {
    /// All options, for the `FromArgMatches` of the program.
    pub matches: ArgMatches,
    /// What variables, file and preset added to the command line, as the flags that say the same.
    pub added: Vec<String>,
}

/// Why a program ends before it has begun.
#[derive(Debug)]
pub enum Ended {
    /// Help, the version, or wrong use, in clap's words.
    Clap(clap::Error),
    /// Wrong use, in ours.
    Wrong(String),
    /// What `--print-config` prints.
    Printed(String),
}

impl Ended {
    /// Prints it; returns status 0, or 2 for wrong use.
    pub fn report(&self, program: &str) -> ExitCode {
        match self {
            Self::Clap(error) => {
                // A closed pipe is not this program's fault.
                let _ = error.print();
                ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
            }
            Self::Wrong(message) => {
                eprintln!("{program}: {message}");
                ExitCode::from(2)
            }
            Self::Printed(text) => {
                print!("{text}");
                ExitCode::SUCCESS
            }
        }
    }
}

impl From<FileError> for Ended {
    fn from(error: FileError) -> Self {
        Self::Wrong(error.to_string())
    }
}

impl Program {
    /// Completes a command line. `prefix` returns what the variables of a command begin with, by
    /// the command's name; `--batch` of a command with the prefix `RESTAIN_TRAIN` is
    /// `RESTAIN_TRAIN_BATCH`.
    pub fn new(command: Command, prefix: fn(&str) -> String) -> Self {
        let command = complete(command, prefix);
        Self { command, preset: |_| None, check: |_, _| Ok(()), build: String::new }
    }

    /// Sets where presets come from.
    #[must_use]
    pub fn with_preset(self, preset: Preset) -> Self {
        Self { preset, ..self }
    }

    /// Sets what `--print-config` checks before it prints.
    #[must_use]
    pub fn with_check(self, check: Check) -> Self {
        Self { check, ..self }
    }

    /// Sets what `--version` prints below the version: what the program was built from, and what it
    /// finds.
    #[must_use]
    pub fn with_build(self, build: Build) -> Self {
        Self { build, ..self }
    }

    /// Returns the completed command.
    pub(crate) fn command(&self) -> &Command {
        &self.command
    }

    /// Resolves the words of a command line, the program's name first.
    ///
    /// # Errors
    /// When the program has nothing to do: wrong use, help, `--print-config`.
    pub fn parse(&self, words: &[OsString]) -> Result<Parsed, Ended> {
        // What is required may stand in the file.
        let lenient = without_requirements(self.command.clone());
        let first = lenient
            .clone()
            .try_get_matches_from(words)
            .map_err(|error| self.explained(words, self.strict(words, error)))?;
        let path = path(&first);
        let given = innermost(&first, &path);
        let task = path.iter().fold(&self.command, |command, name| {
            command.find_subcommand(name).expect("clap has found it")
        });

        let mut settings = match given.try_get_one::<PathBuf>("config") {
            Ok(Some(path)) => file::read(task, path)?,
            _ => Vec::new(),
        };
        settings.retain(|setting| !is_given(given, &setting.id));
        let with_file = at(lenient.clone(), &path, &|task| with_defaults(task, &settings));
        let matches = with_file.try_get_matches_from(words).map_err(Ended::Clap)?;
        if let Some((name, text)) = (self.preset)(innermost(&matches, &path)) {
            let beneath = file::parse(task, &name, &text)?;
            let is_new = |setting: &Setting| {
                !is_given(given, &setting.id) && settings.iter().all(|above| above.id != setting.id)
            };
            let beneath: Vec<_> = beneath.into_iter().filter(is_new).collect();
            settings.extend(beneath);
        }

        let resolved = |command: Command| {
            at(command, &path, &|task| with_defaults(task, &settings)).try_get_matches_from(words)
        };
        if given.try_get_one::<bool>("print_config").ok().flatten() == Some(&true) {
            let matches = resolved(lenient).map_err(Ended::Clap)?;
            let matches = innermost(&matches, &path);
            (self.check)(task.get_name(), matches).map_err(Ended::Wrong)?;
            return Err(Ended::Printed(print::in_force(task, matches)));
        }
        let added = variables(task, given).chain(settings.iter().map(flag)).collect();
        let matches =
            resolved(self.command.clone()).map_err(|error| self.explained(words, error))?;
        Ok(Parsed { matches, added })
    }

    /// Returns an error of the lenient command as the strict one has it: help would call required
    /// arguments optional.
    fn strict(&self, words: &[OsString], error: clap::Error) -> clap::Error {
        match self.command.clone().try_get_matches_from(words) {
            Err(strict) if strict.kind() == error.kind() => strict,
            _ => error,
        }
    }

    /// Returns an error of clap in our words if it is about a value.
    fn explained(&self, words: &[OsString], error: clap::Error) -> Ended {
        if error.kind() == ErrorKind::DisplayVersion {
            return Ended::Printed(format!("{error}{}", (self.build)()));
        }
        message::wrong_value(&self.command, words, &error).map_or(Ended::Clap(error), Ended::Wrong)
    }

    /// Returns the options that have no help or stand under no heading, as `command --option`.
    pub fn undocumented(&self) -> Vec<String> {
        let mut found = Vec::new();
        each(&self.command, String::new(), &mut |name, option| {
            let is_documented = option.get_help().is_some() && option.get_help_heading().is_some();
            if !option.is_hide_set() && !is_documented {
                found.push(format!("{name} --{}", option.get_long().unwrap_or_default()));
            }
        });
        found
    }

    /// Returns the environment variables, each with the command that reads it.
    pub fn variables(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        each(&self.command, String::new(), &mut |name, option| {
            let variable = option.get_env().map(|variable| variable.to_string_lossy().into_owned());
            found.extend(variable.map(|variable| (variable, name.to_owned())));
        });
        found
    }
}

/// Visits the options of a command and of those below it, with the command's name.
fn each(command: &Command, above: String, visit: &mut dyn FnMut(&str, &Arg)) {
    let name = format!("{above} {}", command.get_name()).trim_start().to_owned();
    command
        .get_arguments()
        .filter(|option| option.get_long().is_some())
        .for_each(|option| visit(&name, option));
    command.get_subcommands().for_each(|below| each(below, name.clone(), visit));
}

/// Returns the names of the commands that were given, the outermost first.
fn path(mut matches: &ArgMatches) -> Vec<String> {
    let mut path = Vec::new();
    while let Some((name, below)) = matches.subcommand() {
        path.push(name.to_owned());
        matches = below;
    }
    path
}

fn innermost<'a>(matches: &'a ArgMatches, path: &[String]) -> &'a ArgMatches {
    path.iter().fold(matches, |matches, name| {
        matches.subcommand_matches(name).expect("the same words name the same command")
    })
}

/// Changes the command at the end of a path.
fn at(command: Command, path: &[String], change: &dyn Fn(Command) -> Command) -> Command {
    match path.split_first() {
        None => change(command),
        Some((name, rest)) => command.mut_subcommand(name, |below| at(below, rest, change)),
    }
}

fn with_defaults(task: Command, settings: &[Setting]) -> Command {
    settings.iter().fold(task, |task, Setting { id, values, .. }| {
        // Neither a flag nor a variable gives it, so that nothing is left to split.
        task.mut_arg(id, |option| {
            option.required(false).value_delimiter(None).default_values(values)
        })
    })
}

fn is_given(matches: &ArgMatches, id: &str) -> bool {
    matches!(matches.value_source(id), Some(ValueSource::CommandLine | ValueSource::EnvVariable))
}

fn flag(setting: &Setting) -> String {
    format!("--{}={}", setting.long, setting.values.join(","))
}

/// Returns what variables of this program gave, as flags. Secrets are left out.
fn variables<'a>(
    task: &'a Command,
    given: &'a ArgMatches,
) -> impl Iterator<Item = String> + use<'a> {
    let is_own = |option: &&Arg| {
        option.get_env().is_some_and(|name| name.to_string_lossy().starts_with("RESTAIN_"))
            && !option.is_hide_env_values_set()
            && given.value_source(option.get_id().as_str()) == Some(ValueSource::EnvVariable)
    };
    file::options(task).filter(is_own).filter_map(|option| {
        let values: Vec<_> = given
            .get_raw(option.get_id().as_str())?
            .map(|value| value.to_string_lossy().into_owned())
            .collect();
        Some(format!("--{}={}", option.get_long()?, values.join(",")))
    })
}

#[cfg(test)]
mod tests {
    use clap::ArgAction;

    use super::*;

    fn program() -> Program {
        let train = Command::new("train")
            .arg(Arg::new("folder").required(true))
            .arg(Arg::new("out").long("out").required(true).help("Write this").help_heading("Run"))
            .arg(
                Arg::new("batch")
                    .long("batch")
                    .default_value("64")
                    .value_parser(crate::at_least(1u64))
                    .help("Tiles")
                    .help_heading("Run"),
            )
            .arg(
                Arg::new("names")
                    .long("name")
                    .action(ArgAction::Append)
                    .value_delimiter(',')
                    .help("Names")
                    .help_heading("Run"),
            )
            .arg(Arg::new("mean").long("mean").help("R,G,B").help_heading("Run"))
            .arg(Arg::new("fast").long("fast").action(ArgAction::SetTrue))
            .arg(Arg::new("preset").long("preset").help("Start").help_heading("Run"));
        Program::new(Command::new("program").subcommand(train), |_| "RESTAIN_TEST_ONLY".to_owned())
            .with_preset(|task| {
                let preset = task.get_one::<String>("preset")?;
                let options = "batch = 7\nmean = [0.5, 0.25, 1e-3]\nname = ['p']\n";
                Some((format!("--preset {preset}"), options.to_owned()))
            })
    }

    fn parse(words: &str, file: Option<&str>) -> Result<Parsed, String> {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("options.toml");
        let mut words: Vec<OsString> = words.split_whitespace().map(OsString::from).collect();
        if let Some(text) = file {
            std::fs::write(&path, text).unwrap();
            words.extend(["--config".into(), path.clone().into()]);
        }
        program().parse(&words).map_err(|ended| match ended {
            Ended::Clap(error) => error.to_string(),
            Ended::Wrong(text) | Ended::Printed(text) => {
                text.replace(path.to_str().unwrap(), "options.toml")
            }
        })
    }

    fn get<T: Clone + Send + Sync + 'static>(parsed: &Parsed, id: &str) -> Vec<T> {
        let task = parsed.matches.subcommand_matches("train").unwrap();
        task.get_many::<T>(id).into_iter().flatten().cloned().collect()
    }

    #[test]
    fn a_flag_goes_before_a_file_that_before_a_preset_and_that_before_the_default() {
        let batch = |words: &str, file| get::<u64>(&parse(words, file).unwrap(), "batch");
        let words = "program train folder --out o";
        let all = "preset = 'paper'\nbatch = 8";
        assert_eq!(batch(&format!("{words} --batch 9"), Some(all)), [9]);
        assert_eq!(batch(words, Some(all)), [8]);
        assert_eq!(batch(words, Some("preset = 'paper'")), [7]);
        assert_eq!(batch(words, None), [64]);
    }

    #[test]
    fn a_file_gives_what_is_required_and_items_with_a_comma() {
        let file = "out = 'o'\nname = ['a', 'b, c']\nmean = [1, 2, 3]\nfast = true";
        let parsed = parse("program train folder", Some(file)).unwrap();
        assert_eq!(get::<String>(&parsed, "names"), ["a", "b, c"]);
        assert_eq!(get::<String>(&parsed, "mean"), ["1,2,3"]);
        assert_eq!(get::<bool>(&parsed, "fast"), [true]);
        assert_eq!(parsed.added, ["--fast=true", "--mean=1,2,3", "--name=a,b, c", "--out=o"]);
        let parsed = parse("program train folder --fast=false --name x,y", Some(file)).unwrap();
        assert_eq!(get::<String>(&parsed, "names"), ["x", "y"]);
        assert_eq!(get::<bool>(&parsed, "fast"), [false]);
        assert!(parse("program train folder", None).err().unwrap().contains("--out"));
        let missing = parse("program train", Some("out = 'o'")).err().unwrap();
        assert!(missing.contains("<folder>") && !missing.contains("--out <out>"), "{missing}");
    }

    #[test]
    fn what_is_in_force_reads_back_to_itself() {
        let words = "program train --print-config --preset paper --name 007,7";
        let first = parse(words, None).err().unwrap();
        let lines = [
            "# out is not set",
            "batch = 7",
            "name = [\"007\", 7]",
            "mean = \"0.5,0.25,0.001\"",
            "fast = false",
            "preset = \"paper\"",
        ];
        assert_eq!(first.lines().collect::<Vec<_>>(), lines);
        assert_eq!(parse("program train --print-config", Some(&first)).err().unwrap(), first);
    }

    #[test]
    fn a_wrong_value_of_a_file_names_file_key_and_value() {
        let said = |file| parse("program train folder --out o", Some(file)).err().unwrap();
        assert_eq!(said("batch = 0"), "options.toml: `batch = 0`: must be at least 1");
        assert_eq!(said("batch = '4x'"), "options.toml: `batch = \"4x\"`: not a whole number");
        assert!(said("bacth = 4").contains("unknown option `bacth`; the options are out, batch,"));
        assert!(said("config = 'x'").contains("unknown option `config`"));
        assert!(said("mean = [[1]]").contains("must be a string, a number, true or false"));
        let wrong = |words: &str| parse(words, None).err().unwrap();
        let folder = "program train folder --out o";
        assert_eq!(wrong(&format!("{folder} --batch 0")), "`--batch 0`: must be at least 1");
        assert_eq!(wrong(&format!("{folder} --batch=4x")), "`--batch 4x`: not a whole number");
        // A value that a flag overrides is read all the same.
        let file = Some("batch = 0");
        assert!(parse("program train folder --out o --batch 3", file).is_err());
    }

    #[test]
    fn options_without_help_or_heading_are_found() {
        let found = program().undocumented();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("program train --fast"), "{found:?}");
    }
}
