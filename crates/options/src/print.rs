//! What `--print-config` writes: the options in force, as a file that gives them again.

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::file;

/// Writes every option of `command` as a line of TOML. An option without a value, and a secret, is
/// a comment.
pub(crate) fn in_force(command: &Command, given: &ArgMatches) -> String {
    file::options(command).map(|option| format!("{}\n", line(option, given))).collect()
}

fn line(option: &Arg, given: &ArgMatches) -> String {
    let (id, long) = (option.get_id().as_str(), option.get_long().expect("it is an option"));
    if let Ok(Some(&flag)) = given.try_get_one::<bool>(id) {
        return format!("{long} = {flag}");
    }
    let Some(raw) = given.get_raw(id) else { return format!("# {long} is not set") };
    if option.is_hide_env_values_set() {
        return format!("# {long} is set, and not shown");
    }
    let mut values: Vec<toml::Value> = raw.map(|raw| typed(&raw.to_string_lossy())).collect();
    let value = match option.get_action() {
        ArgAction::Append => toml::Value::Array(values),
        _ => values.remove(0),
    };
    format!("{long} = {value}")
}

/// Returns a number where a number is written in the same way, otherwise a string.
fn typed(raw: &str) -> toml::Value {
    let same = |value: &toml::Value| value.to_string() == raw;
    let integer = raw.parse().map(toml::Value::Integer).ok();
    let float = || raw.parse().map(toml::Value::Float).ok();
    integer.filter(same).or_else(|| float().filter(same)).unwrap_or_else(|| raw.into())
}
