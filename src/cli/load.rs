//! `restain load`: loads a server and prints the report.

use std::process::ExitCode;

use restain_load::{Ending, LoadArgs};

/// Loads the server; returns status 1 with `--fail-on-error` when a request failed, 130 when it was
/// interrupted.
///
/// # Errors
/// When there is no run: no server, no tiles.
pub(crate) fn run(args: LoadArgs) -> anyhow::Result<ExitCode> {
    let args = match args.resolve() {
        Ok(args) => args,
        Err(why) => return Ok(super::wrong_use(why)),
    };
    let _log = super::log::start(&args.log)?;
    let (report, ending) = restain_load::run(&args)?;
    Ok(match ending {
        Ending::Interrupted => ExitCode::from(130),
        Ending::Done if args.report.fail_on_error && report.has_errors() => ExitCode::FAILURE,
        Ending::Done => ExitCode::SUCCESS,
    })
}
