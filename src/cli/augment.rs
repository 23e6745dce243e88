//! `restain augment`: runs a job over a data set until it is done or a signal stops it.

use std::process::ExitCode;

use anyhow::Context;
use restain::augment::{self, AugmentArgs, Ending};
use restain::serve::runtime::signal::Signals;

/// Runs the job; returns status 0 when all of it is done, 130 when it was interrupted.
///
/// # Errors
/// When the job cannot go on.
pub(crate) fn run(args: AugmentArgs) -> anyhow::Result<ExitCode> {
    let args = match args.checked() {
        Ok(args) => args,
        Err(why) => return Ok(super::wrong_use(why)),
    };
    let _log = super::log::start(&args.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        let signals = Signals::new().context("cannot listen for signals")?;
        let stop = async move { _ = signals.asked_to_stop().await };
        anyhow::Ok(augment::run(args, stop).await)
    })?;
    // What is still under way has no use any more.
    runtime.shutdown_background();
    match ended {
        Ok(Ending::Done(summary)) => println!("{summary}"),
        Ok(Ending::DryRun(plan)) => println!("{plan}"),
        Ok(Ending::Interrupted(summary)) => {
            eprintln!("restain: interrupted; run the same command to resume\n{summary}");
            return Ok(ExitCode::from(130));
        }
        Err(error) if error.is_wrong_use() => return Ok(super::wrong_use(error)),
        Err(error) => return Err(error.into()),
    }
    Ok(ExitCode::SUCCESS)
}
