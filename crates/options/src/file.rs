//! The TOML file of `--config`: each key is an option's long name, each value what the flag would
//! take.

use std::path::Path;

use clap::{Arg, ArgAction, Command};

use crate::message;

/// Options that only a command line has.
const NOT_IN_A_FILE: [&str; 4] = ["config", "print-config", "help", "version"];

#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("{path}: cannot be read: {source}")]
    Unreadable { path: String, source: std::io::Error },
    #[error("{path}: not valid TOML: {source}")]
    Malformed { path: String, source: toml::de::Error },
    #[error("{path}: unknown option `{key}`; the options are {known}")]
    Unknown { path: String, key: String, known: String },
    #[error("{path}: `{key} = {value}`: {reason}")]
    Value { path: String, key: String, value: String, reason: String },
}

/// An option and the values that a file or a preset has for it, as the flag would take them.
pub(crate) struct Setting {
    pub id: String,
    pub long: String,
    pub values: Vec<String>,
}

/// Reads the settings of a file.
///
/// # Errors
/// When it cannot be read, or as [`parse`].
pub(crate) fn read(command: &Command, path: &Path) -> Result<Vec<Setting>, FileError> {
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => parse(command, &name, &text),
        Err(source) => Err(FileError::Unreadable { path: name, source }),
    }
}

/// Reads the settings of a TOML `text`; `path` names it in errors.
///
/// # Errors
/// When it is not TOML, or has a key that is no option of `command`, or a value that the option
/// does not take.
pub(crate) fn parse(command: &Command, path: &str, text: &str) -> Result<Vec<Setting>, FileError> {
    let table: toml::Table = toml::from_str(text)
        .map_err(|source| FileError::Malformed { path: path.to_owned(), source })?;
    let setting = |(key, value): (String, toml::Value)| {
        let Some(option) = options(command).find(|option| option.get_long() == Some(&key)) else {
            let known: Vec<_> = options(command).filter_map(Arg::get_long).collect();
            return Err(FileError::Unknown { path: path.to_owned(), key, known: known.join(", ") });
        };
        match values(option, &value) {
            Ok(values) => {
                Ok(Setting { id: option.get_id().as_str().to_owned(), long: key, values })
            }
            Err(reason) => {
                let (path, value) = (path.to_owned(), value.to_string());
                Err(FileError::Value { path, key, value, reason })
            }
        }
    };
    table.into_iter().map(setting).collect()
}

/// Returns the options of a command that a file may set.
pub(crate) fn options(command: &Command) -> impl Iterator<Item = &Arg> {
    command
        .get_arguments()
        .filter(|argument| argument.get_long().is_some_and(|long| !NOT_IN_A_FILE.contains(&long)))
}

/// Returns a TOML value as the words that the flag would take, each accepted by the option's own
/// parser.
fn values(option: &Arg, value: &toml::Value) -> Result<Vec<String>, String> {
    let words = match value {
        toml::Value::Array(items) => items.iter().map(word).collect::<Result<Vec<_>, _>>()?,
        single => vec![word(single)?],
    };
    // An option that is given once takes a list as one word: a mean, devices.
    let is_list = matches!(option.get_action(), ArgAction::Append);
    let split = |word: &String| match option.get_value_delimiter() {
        Some(delimiter) if !value.is_array() => {
            word.split(delimiter).map(str::to_owned).collect::<Vec<_>>()
        }
        _ => vec![word.clone()],
    };
    let words = match is_list {
        true => words.iter().flat_map(split).collect(),
        false => vec![words.join(",")],
    };
    words.iter().try_for_each(|word| accept(option, word)).map(|()| words)
}

/// Checks a word with the option's own parser.
fn accept(option: &Arg, word: &str) -> Result<(), String> {
    let long = option.get_long().expect("options of a file have a long name");
    let option = option.clone().required(false).env(None).value_delimiter(None);
    let alone = Command::new("file").no_binary_name(true).disable_help_flag(true).arg(option);
    alone.try_get_matches_from([format!("--{long}={word}")]).map(drop).map_err(|error| {
        message::reason(&error).unwrap_or_else(|| "not a value of this option".to_owned())
    })
}

fn word(value: &toml::Value) -> Result<String, String> {
    match value {
        toml::Value::String(text) => Ok(text.clone()),
        toml::Value::Array(_) | toml::Value::Table(_) => {
            Err("must be a string, a number, true or false, or a list of those".to_owned())
        }
        single => Ok(single.to_string()),
    }
}
