//! The program `restain-train`: parses the command line and runs the command.

use std::process::ExitCode;

use restain_train::cli::{self, Cli};

fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| "info,ort=warn".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match cli::run(&Cli::from_process()) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("restain-train: {error:#}");
            ExitCode::FAILURE
        }
    }
}
