//! `restain serve`: opens the listeners and runs the server until a signal stops it.

use std::process::ExitCode;

use anyhow::Context;
use restain::serve::runtime::signal::Signals;
use restain::serve::{self, Config, Listeners};
use tokio::net::TcpListener;

/// Serves until a signal asks it to stop.
///
/// # Errors
/// When it cannot listen or start, or does not end well.
pub(crate) fn run(config: Config) -> anyhow::Result<ExitCode> {
    let config = match config.checked() {
        Ok(config) => config,
        Err(why) => return Ok(super::wrong_use(why)),
    };
    let _log = super::log::start(&config.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let stop = runtime.block_on(async {
        let signals = Signals::new().context("cannot listen for signals")?;
        let bind = async |address| {
            TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
        };
        let probes = match config.probes {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        let listeners =
            Listeners { http: bind(config.http).await?, grpc: bind(config.grpc).await?, probes };
        anyhow::Ok(serve::run(config, listeners, signals.asked_to_stop()).await?)
    });
    // What is still loading or computing has no use any more.
    runtime.shutdown_background();
    Ok(ExitCode::from(stop?.exit_status()))
}
