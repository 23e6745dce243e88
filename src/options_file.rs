//! The file of `--config` of a command that is not the server: the same options once more, as TOML. What is in it and was
//! given neither as a flag nor as a variable is read as the flag that it stands for, so that there is one way to read an
//! option and one to refuse it.

use std::path::Path;

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};
use serde::Serialize;
use serde_json::Value;

/// Options that only a command line has.
const NOT_IN_A_FILE: [&str; 3] = ["config", "print-config", "help"];

#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("the file {path} cannot be read: {source}")]
    Unreadable { path: String, source: std::io::Error },
    #[error("the file {path} is wrong: {source}")]
    Malformed { path: String, source: toml::de::Error },
    #[error("the file {path} has `{key}`, which is no option; options are {known}")]
    Unknown { path: String, key: String, known: String },
    #[error("the file {path} has `{key}` as a table, and options are strings, numbers, true or false, or lists of those")]
    Table { path: String, key: String },
}

/// The flags of `command` that the file stands for, if one was `given`.
///
/// # Errors
/// When it cannot be read, or has something that is no option.
pub fn flags(command: &Command, given: &ArgMatches) -> Result<Vec<String>, FileError> {
    let Some(path) = given.get_one::<std::path::PathBuf>("config") else { return Ok(Vec::new()) };
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|source| FileError::Unreadable { path: name, source })?;
    flags_in(command, path, &text, |id| matches!(given.value_source(id), Some(ValueSource::CommandLine | ValueSource::EnvVariable)))
}

/// The flags that the `text` of a file stands for, but for those of options that are given otherwise, by their id.
///
/// # Errors
/// When it is no TOML, or has something that is no option.
pub fn flags_in(command: &Command, path: &Path, text: &str, is_given: impl Fn(&str) -> bool) -> Result<Vec<String>, FileError> {
    let path = path.display().to_string();
    let table: toml::Table = toml::from_str(text).map_err(|source| FileError::Malformed { path: path.clone(), source })?;
    let known = || command.get_arguments().filter(|argument| argument.get_long().is_some_and(|long| !NOT_IN_A_FILE.contains(&long)));
    let mut flags = Vec::new();
    for (key, value) in table {
        let Some(argument) = known().find(|argument| argument.get_long() == Some(&key)) else {
            let known = known().filter_map(|argument| argument.get_long()).collect::<Vec<_>>().join(", ");
            return Err(FileError::Unknown { path, key, known });
        };
        if is_given(argument.get_id().as_str()) {
            continue;
        }
        match value {
            toml::Value::Boolean(true) => flags.push(format!("--{key}")),
            toml::Value::Boolean(false) => {}
            toml::Value::Table(_) => return Err(FileError::Table { path, key }),
            toml::Value::Array(items) => flags.push(format!("--{key}={}", items.iter().map(plain).collect::<Vec<_>>().join(","))),
            single => flags.push(format!("--{key}={}", plain(&single))),
        }
    }
    Ok(flags)
}

fn plain(value: &toml::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Options as a TOML file that gives them again; what has no value is left out.
///
/// # Errors
/// When a number is larger than TOML can hold.
pub fn to_toml(options: &impl Serialize) -> Result<String, toml::ser::Error> {
    let Value::Object(options) = serde_json::json!(options) else { unreachable!("a struct is an object") };
    let kept = options.into_iter().filter(|(_, value)| !value.is_null() && *value != Value::Array(Vec::new()));
    let table: serde_json::Map<String, Value> = kept.map(|(name, value)| (name.replace('_', "-"), value)).collect();
    toml::to_string(&table)
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    fn read(text: &str, given: &[&str]) -> Result<Vec<String>, String> {
        let options = ["variants", "unique", "check", "form", "rate", "config"].map(|name| Arg::new(name).long(name));
        let command = Command::new("load").args(options);
        flags_in(&command, Path::new("load.toml"), text, |id| given.contains(&id)).map_err(|error| error.to_string())
    }

    #[test]
    fn what_was_not_given_otherwise_becomes_a_flag() {
        let text = "variants = [1, 4]\nunique = true\ncheck = false\nform = \"json\"\nrate = 2.5";
        let mut flags = read(text, &["form"]).unwrap();
        flags.sort();
        assert_eq!(flags, ["--rate=2.5", "--unique", "--variants=1,4"]);
    }

    #[test]
    fn what_is_no_option_is_named() {
        assert!(read("varients = 1", &[]).unwrap_err().contains("variants"));
        assert!(read("config = \"x\"", &[]).is_err() && read("variants = {a = 1}", &[]).is_err() && read("=", &[]).is_err());
    }
}
