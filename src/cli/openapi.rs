//! `restain openapi`: prints the description of the HTTP API.

use std::process::ExitCode;

use restain::serve::transport::http;

/// Prints the description as YAML.
///
/// # Errors
/// Never in practice: when the description cannot be written as YAML.
pub(crate) fn run() -> anyhow::Result<ExitCode> {
    print!("{}", http::openapi().to_yaml()?);
    Ok(ExitCode::SUCCESS)
}
