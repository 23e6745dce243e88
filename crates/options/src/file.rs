//! The file of `--config` of a command that is not the server: the same options once more, as TOML. What is in it and was
//! given neither as a flag nor as a variable is read as the flag that it stands for, so that there is one way to read an
//! option and one to refuse it.

use std::path::Path;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
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
    #[error(
        "the file {path} has `{key}` as a table, and options are strings, numbers, true or false, or lists of those"
    )]
    Table { path: String, key: String },
}

/// The flags of `command` that the file stands for, if one was `given`.
///
/// # Errors
/// When it cannot be read, or has something that is no option.
pub fn flags(command: &Command, given: &ArgMatches) -> Result<Vec<String>, FileError> {
    let Some(path) = given.get_one::<std::path::PathBuf>("config") else { return Ok(Vec::new()) };
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|source| FileError::Unreadable { path: name, source })?;
    flags_beneath(command, given, path, &text)
}

/// The flags that a `text` stands for, but for those of options that were `given`; `path` names it in errors.
///
/// # Errors
/// As [`flags_in`].
pub fn flags_beneath(
    command: &Command,
    given: &ArgMatches,
    path: &Path,
    text: &str,
) -> Result<Vec<String>, FileError> {
    flags_in(command, path, text, |id| {
        matches!(given.value_source(id), Some(ValueSource::CommandLine | ValueSource::EnvVariable))
    })
}

/// The flags that the `text` of a file stands for, but for those of options that are given otherwise, by their id.
///
/// # Errors
/// When it is no TOML, or has something that is no option.
pub fn flags_in(
    command: &Command,
    path: &Path,
    text: &str,
    is_given: impl Fn(&str) -> bool,
) -> Result<Vec<String>, FileError> {
    let path = path.display().to_string();
    let table: toml::Table = toml::from_str(text)
        .map_err(|source| FileError::Malformed { path: path.clone(), source })?;
    let known = || in_files(command);
    let mut flags = Vec::new();
    for (key, value) in table {
        let Some(argument) = known().find(|argument| argument.get_long() == Some(&key)) else {
            let known =
                known().filter_map(|argument| argument.get_long()).collect::<Vec<_>>().join(", ");
            return Err(FileError::Unknown { path, key, known });
        };
        if is_given(argument.get_id().as_str()) {
            continue;
        }
        match value {
            toml::Value::Boolean(true) => flags.push(format!("--{key}")),
            toml::Value::Boolean(false) => {}
            toml::Value::Table(_) => return Err(FileError::Table { path, key }),
            toml::Value::Array(items) => flags
                .push(format!("--{key}={}", items.iter().map(plain).collect::<Vec<_>>().join(","))),
            single => flags.push(format!("--{key}={}", plain(&single))),
        }
    }
    Ok(flags)
}

/// The options of a command that can stand in a file.
fn in_files(command: &Command) -> impl Iterator<Item = &Arg> {
    command
        .get_arguments()
        .filter(|argument| argument.get_long().is_some_and(|long| !NOT_IN_A_FILE.contains(&long)))
}

/// Every option that has a value, defaults too, as a TOML file that gives them again.
pub fn in_force(command: &Command, given: &ArgMatches) -> String {
    let line = |argument: &Arg| {
        let id = argument.get_id().as_str();
        let value = match argument.get_action() {
            ArgAction::SetTrue => toml::Value::Boolean(given.get_flag(id)),
            action => {
                let mut values: Vec<toml::Value> =
                    given.get_raw(id)?.map(|raw| typed(&raw.to_string_lossy())).collect();
                let is_list = values.len() != 1 || matches!(action, ArgAction::Append);
                if is_list { toml::Value::Array(values) } else { values.remove(0) }
            }
        };
        Some(format!("{} = {value}\n", argument.get_long()?))
    };
    in_files(command).filter_map(line).collect()
}

/// A number where a number says the same, or a string.
fn typed(raw: &str) -> toml::Value {
    let integer = raw.parse().map(toml::Value::Integer).ok();
    let float = || raw.parse().map(toml::Value::Float).ok();
    let same = |value: &toml::Value| plain(value) == raw;
    integer.filter(same).or_else(|| float().filter(same)).unwrap_or_else(|| raw.into())
}

fn plain(value: &toml::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Options as a TOML file that gives them again; what has no value is left out.
///
/// # Errors
/// When a number is larger than TOML can hold.
pub fn to_toml(options: &impl Serialize) -> Result<String, toml::ser::Error> {
    let Value::Object(options) = serde_json::json!(options) else {
        unreachable!("a struct is an object")
    };
    let kept = options
        .into_iter()
        .filter(|(_, value)| !value.is_null() && *value != Value::Array(Vec::new()));
    let table: serde_json::Map<String, Value> =
        kept.map(|(name, value)| (name.replace('_', "-"), value)).collect();
    toml::to_string(&table)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, given: &[&str]) -> Result<Vec<String>, String> {
        let options = ["variants", "unique", "check", "form", "rate", "config"]
            .map(|name| Arg::new(name).long(name));
        let command = Command::new("load").args(options);
        flags_in(&command, Path::new("load.toml"), text, |id| given.contains(&id))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn what_was_not_given_otherwise_becomes_a_flag() {
        let text = "variants = [1, 4]\nunique = true\ncheck = false\nform = \"json\"\nrate = 2.5";
        let mut flags = read(text, &["form"]).unwrap();
        flags.sort();
        assert_eq!(flags, ["--rate=2.5", "--unique", "--variants=1,4"]);
    }

    #[test]
    fn what_is_in_force_gives_itself_again() {
        let options = [
            Arg::new("name").long("name").default_value("007"),
            Arg::new("rate").long("rate").default_value("0.5"),
            Arg::new("seed").long("seed").default_value("18446744073709551615"),
            Arg::new("some").long("some").value_delimiter(',').action(ArgAction::Append),
            Arg::new("unset").long("unset"),
            Arg::new("fast").long("fast").action(ArgAction::SetTrue),
            Arg::new("path"),
        ];
        let command = Command::new("load").args(options);
        let print =
            |words: Vec<String>| in_force(&command, &command.clone().get_matches_from(words));
        let text = print(["load", "x", "--some=1,b", "--rate=1e-3"].map(str::to_owned).to_vec());
        let all = [
            "name = \"007\"",
            "rate = \"1e-3\"",
            "seed = \"18446744073709551615\"",
            "some = [1, \"b\"]",
            "fast = false",
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), all);
        let again = flags_in(&command, Path::new("load.toml"), &text, |_| false).unwrap();
        assert_eq!(print(["load".to_owned()].into_iter().chain(again).collect()), text);
    }

    #[test]
    fn what_is_no_option_is_named() {
        assert!(read("varients = 1", &[]).unwrap_err().contains("variants"));
        assert!(
            read("config = \"x\"", &[]).is_err()
                && read("variants = {a = 1}", &[]).is_err()
                && read("=", &[]).is_err()
        );
    }
}
