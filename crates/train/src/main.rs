//! The program `restain-train`: parses the command line and runs the command.

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::{Context, Result};
use restain_options::{LogArgs, LogFormat};
use restain_train::cli::{self, Cli, WrongUse};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = match Cli::parse() {
        Ok(cli) => cli,
        Err(ended) => return ended.report("restain-train"),
    };
    match start_log(&cli.log).and_then(|()| cli::run(&cli)) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("restain-train: {error:#}");
            ExitCode::from(if error.is::<WrongUse>() { 2 } else { 1 })
        }
    }
}

/// Starts the log on standard error, in colour only on a terminal.
fn start_log(args: &LogArgs) -> Result<()> {
    let filter = EnvFilter::try_new(&args.log).with_context(|| format!("`--log {}`", args.log))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match args.log_format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().init(),
    }
    Ok(())
}
