//! What every command of a program has besides its own options: variables, a file of options,
//! switches that turn off.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Arg, ArgAction, Command};

/// Gives each option a variable, unless it has one, and each command that has arguments a file of
/// options.
pub(crate) fn complete(command: Command, prefix: fn(&str) -> String) -> Command {
    let begins = prefix(command.get_name());
    let command = command.mut_args(|option| {
        let option = if is_switch(&option) { overridable(option) } else { option };
        match option.get_long().map(|long| long.replace('-', "_").to_uppercase()) {
            Some(name) if option.get_env().is_none() => option.env(format!("{begins}_{name}")),
            _ => option,
        }
    });
    let has_options = command.get_arguments().any(|argument| !argument.is_positional());
    let below: Vec<String> =
        command.get_subcommands().map(|below| below.get_name().to_owned()).collect();
    let command = if has_options { command.args(file_options(&begins)) } else { command };
    below.into_iter().fold(command, |command, name| {
        command.mut_subcommand(name, |below| complete(below, prefix))
    })
}

fn is_switch(option: &Arg) -> bool {
    matches!(option.get_action(), ArgAction::SetTrue)
}

/// Lets a switch be turned off again, as `--originals=false`: a flag goes before the file that
/// turned it on.
fn overridable(option: Arg) -> Arg {
    option
        .action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .default_value("false")
        .default_missing_value("true")
        .value_parser(BoolishValueParser::new())
        .value_name("BOOL")
        .hide_default_value(true)
        .hide_possible_values(true)
}

fn file_options(prefix: &str) -> [Arg; 2] {
    [
        Arg::new("config")
            .long("config")
            .env(format!("{prefix}_CONFIG"))
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help_heading("Configuration")
            .help(
                "Read options from this TOML file; flags and environment variables take precedence",
            ),
        Arg::new("print_config")
            .long("print-config")
            .action(ArgAction::SetTrue)
            .help_heading("Configuration")
            .help("Print the options in force as TOML, for --config, and exit"),
    ]
}

/// Lets every argument be left out.
pub(crate) fn without_requirements(command: Command) -> Command {
    let below: Vec<String> =
        command.get_subcommands().map(|below| below.get_name().to_owned()).collect();
    let mut after_several = false;
    let command = command.mut_args(|argument| {
        let is_behind = argument.is_positional() && after_several;
        after_several |=
            argument.is_positional() && matches!(argument.get_action(), ArgAction::Append);
        // Behind an argument with several values clap takes an optional one only after `--`; the
        // one before it then has all the values, and they are parsed again with the requirements.
        argument.required(false).last(is_behind)
    });
    below
        .into_iter()
        .fold(command, |command, name| command.mut_subcommand(name, without_requirements))
}
