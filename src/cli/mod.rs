//! The commands of `restain`, and how their options are read.

use std::ffi::OsString;
use std::fmt::Display;
use std::process::ExitCode;

use anyhow::Context;
use clap::{ArgMatches, CommandFactory, FromArgMatches};
use restain::augment::AugmentArgs;
use restain::serve::Config;
use restain_engine::Runtime;
use restain_load::LoadArgs;
use restain_options::{CompletionsArgs, Ended, ManArgs, Program};

use crate::Cli;

pub(crate) mod augment;
pub(crate) mod check;
pub(crate) mod health;
pub(crate) mod key;
pub(crate) mod load;
mod log;
pub(crate) mod openapi;
pub(crate) mod serve;

/// Parses the command line of this process.
///
/// # Errors
/// When there is nothing to run: wrong use, help, `--print-config`.
pub(crate) fn parse() -> Result<Cli, Ended> {
    #[expect(clippy::disallowed_methods, reason = "this is where the program reads its flags")]
    let words: Vec<OsString> = std::env::args_os().collect();
    let parsed = program().parse(&words)?;
    Cli::from_arg_matches(&parsed.matches).map_err(Ended::Clap)
}

/// The server's variables begin with `RESTAIN_`, those of another command with `RESTAIN_` and its
/// name.
fn program() -> Program {
    Program::new(Cli::command(), |command| match command {
        "restain" | "serve" => "RESTAIN".to_owned(),
        other => format!("RESTAIN_{}", other.to_uppercase()),
    })
    .with_check(check)
    .with_build(build)
}

/// Returns the commit that the program was built from, if `RESTAIN_COMMIT` named it then, and the
/// ONNX Runtime that is found.
fn build() -> String {
    let commit = option_env!("RESTAIN_COMMIT").filter(|commit| !commit.is_empty());
    let commit = commit.map(|commit| format!("commit {commit}\n"));
    commit.unwrap_or_default() + &Runtime::describe()
}

/// Prints the completions of a shell.
///
/// # Errors
/// When standard output is closed.
pub(crate) fn completions(args: &CompletionsArgs) -> anyhow::Result<ExitCode> {
    program().write_completions(args.shell, &mut std::io::stdout())?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the manual pages.
///
/// # Errors
/// When the directory cannot be written to.
pub(crate) fn man(args: &ManArgs) -> anyhow::Result<ExitCode> {
    let written = program().write_man_pages(args);
    written.with_context(|| format!("cannot write manual pages to {}", args.dir.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// Checks the options of a command together, as the command itself does. Where arguments are
/// missing there is nothing to check.
fn check(command: &str, options: &ArgMatches) -> Result<(), String> {
    match command {
        "serve" => Config::from_arg_matches(options)
            .map_or(Ok(()), |config| config.checked().map(drop).map_err(|error| error.to_string())),
        "augment" => {
            AugmentArgs::from_arg_matches(options).map_or(Ok(()), |args| args.checked().map(drop))
        }
        "load" => {
            LoadArgs::from_arg_matches(options).map_or(Ok(()), |args| args.resolve().map(drop))
        }
        _ => Ok(()),
    }
}

/// Prints why the options cannot be used; returns status 2.
fn wrong_use(why: impl Display) -> ExitCode {
    eprintln!("restain: {why}");
    ExitCode::from(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_has_help_and_a_heading() {
        assert_eq!(program().undocumented(), Vec::<String>::new());
    }

    #[test]
    fn every_option_has_a_variable_of_its_own() {
        let variables = program().variables();
        for (place, (variable, command)) in variables.iter().enumerate() {
            let twice = variables[..place].iter().find(|(other, _)| other == variable);
            assert_eq!(twice, None, "{variable} of {command}");
        }
        let named = |name: &str| variables.iter().any(|(variable, _)| variable == name);
        for name in ["RESTAIN_MODELS", "RESTAIN_AUGMENT_MODELS", "RESTAIN_LOAD_CONCURRENCY"] {
            assert!(named(name), "{name}");
        }
    }
}
