//! The log of the programs: lines on standard error, in colour only on a terminal.

use std::io::IsTerminal;

use anyhow::Context;
use restain::serve::cache::faults::{CountFaults, OnlyFaults, WithoutFaults};
use restain::serve::runtime::log_lines::{self, LogThread};
use restain::serve::runtime::panics;
use restain_options::{LogArgs, LogFormat};
use tracing_subscriber::filter::{EnvFilter, FilterExt};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// Starts the log. What is returned is kept until the program ends: dropping it writes the last
/// lines.
///
/// # Errors
/// When `--log` is not a filter.
pub(super) fn start(args: &LogArgs) -> anyhow::Result<LogThread> {
    let filter = EnvFilter::try_new(&args.log).with_context(|| format!("`--log {}`", args.log))?;
    let (lines, thread) = log_lines::start(std::io::stderr());
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(lines);
    let lines = match args.log_format {
        LogFormat::Text => lines.boxed(),
        // The span of the request is the one there is.
        LogFormat::Json => lines.json().with_span_list(false).boxed(),
    };
    let lines = lines.with_filter(filter.and(WithoutFaults));
    tracing_subscriber::registry().with(lines).with(CountFaults.with_filter(OnlyFaults)).init();
    panics::log_and_count();
    Ok(thread)
}
