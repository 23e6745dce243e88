//! The options of the log, which every long-running command has.

use serde::{Deserialize, Serialize};

/// The form of log lines, on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Debug, Serialize, clap::Args)]
#[command(next_help_heading = "Logging")]
#[serde(rename_all = "kebab-case")]
pub struct LogArgs {
    /// Write log lines of this level and above, as LEVEL or MODULE=LEVEL,…; levels are error, warn,
    /// info, debug and trace
    #[arg(long, value_name = "FILTER", default_value = "info,ort=warn")]
    pub log: String,
    /// Write log lines, to standard error, as text or as JSON
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,
}
