//! `restain check`: verifies a bundle.

use std::path::PathBuf;
use std::process::ExitCode;

use restain::serve;
use restain_engine::Device;

#[derive(clap::Args)]
pub(crate) struct CheckArgs {
    /// The bundle: a directory NAME/VERSION
    bundle: PathBuf,
    /// Run its encoders on cpu, cuda:0 or tensorrt:0
    #[arg(long, help_heading = "Engine", default_value = "cpu")]
    device: Device,
}

/// Prints what the bundle has, and which nodes ran where.
///
/// # Errors
/// When the bundle cannot be served.
pub(crate) fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    println!("{}", serve::check::check(&args.bundle, args.device)?);
    Ok(ExitCode::SUCCESS)
}
