//! What is said of a value that an option does not take: how it was given, what is wrong, what
//! would be right.

use std::error::Error;
use std::net::AddrParseError;
use std::num::{IntErrorKind, ParseFloatError, ParseIntError};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command};

/// Returns why a value was rejected, if that is what the error is about.
pub(crate) fn reason(error: &clap::Error) -> Option<String> {
    match error.kind() {
        ErrorKind::ValueValidation => error.source().map(plain),
        ErrorKind::InvalidValue => match error.get(ContextKind::ValidValue)? {
            ContextValue::Strings(words) if !words.is_empty() => {
                Some(format!("must be one of {}", words.join(", ")))
            }
            _ => None,
        },
        _ => None,
    }
}

/// Says in plain words what the standard library's parsers say of text that is not a number or
/// address.
pub(crate) fn plain(source: &(dyn Error + 'static)) -> String {
    if let Some(error) = source.downcast_ref::<ParseIntError>() {
        return match error.kind() {
            IntErrorKind::PosOverflow => "the number is too large",
            IntErrorKind::NegOverflow => "the number is too small",
            IntErrorKind::Zero => "must be at least 1",
            _ => "not a whole number",
        }
        .to_owned();
    }
    if source.is::<ParseFloatError>() {
        return "not a number".to_owned();
    }
    if source.is::<AddrParseError>() {
        return "not an address: write HOST:PORT with numbers, for example 127.0.0.1:8080"
            .to_owned();
    }
    source.to_string()
}

/// Spells the error of a command line: `--batch 4x`, or `RESTAIN_TRAIN_BATCH=4x` where the value is
/// the variable's. Returns `None` for errors that are about no value.
pub(crate) fn wrong_value(
    command: &Command,
    words: &[std::ffi::OsString],
    error: &clap::Error,
) -> Option<String> {
    let reason = reason(error)?;
    let (Some(ContextValue::String(named)), Some(ContextValue::String(value))) =
        (error.get(ContextKind::InvalidArg), error.get(ContextKind::InvalidValue))
    else {
        return None;
    };
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    // Only a built command can say how its arguments are written.
    let mut command = command.clone();
    command.build();
    let mut arguments = innermost(&command, &words).get_arguments();
    let argument = arguments.find(|argument| argument.to_string() == *named)?;
    Some(format!("`{}`: {reason}", spelt(argument, &words, value)))
}

fn spelt(argument: &Arg, words: &[impl AsRef<str>], value: &str) -> String {
    let Some(long) = argument.get_long() else {
        return format!("{} {value}", argument.get_id().as_str().to_uppercase());
    };
    let flag = format!("--{long}");
    let is_flag = words.iter().any(|word| {
        word.as_ref()
            .strip_prefix(&flag)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    });
    match argument.get_env() {
        Some(variable) if !is_flag => format!("{}={value}", variable.to_string_lossy()),
        _ => format!("{flag} {value}"),
    }
}

/// Returns the command that the words name, which clap does not say in an error.
fn innermost<'a>(mut command: &'a Command, words: &[impl AsRef<str>]) -> &'a Command {
    for word in words.iter().skip(1).map(AsRef::as_ref) {
        let named = |below: &&Command| {
            below.get_name() == word
                || below.get_long_flag().is_some_and(|flag| word.strip_prefix("--") == Some(flag))
        };
        command = command.get_subcommands().find(named).unwrap_or(command);
    }
    command
}
