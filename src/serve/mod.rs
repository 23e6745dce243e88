//! The server: tiles in over HTTP and gRPC, variants out.
//!
//! `http | grpc → admission → pipeline → cache → batch → engine`, each floor calling only those below it. [`run`] is the whole life
//! of a server, given its listeners and what ends it; everything it needs to know is in its [`Config`].

pub mod admission;
mod app;
pub mod batch;
mod buffers;
pub mod cache;
pub mod check;
pub mod config;
mod cpu;
mod encoders;
pub mod error;
pub mod grpc;
pub mod held;
pub mod house;
pub mod http;
mod intake;
mod lifecycle;
pub mod listen;
pub mod metrics;
pub mod models;
pub mod oip;
pub mod pipeline;
mod rpc;
pub mod signal;
pub mod styles;

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;

use app::App;
use cache::{CacheError, EncodingsCache};
pub use config::{Config, ServeArgs};
use cpu::Cpu;
use house::{Ground, House};
use lifecycle::Stage;
use listen::{ListenOptions, Protocol};
use metrics::Metrics;
use models::{LoadError, Registry};
use rpc::Services;
use signal::Stop;

/// A procedural tile that the repository holds.
const EXAMPLE_TILE: &str = "docs/tile.png";

/// Where a server is asked.
pub struct Listeners {
    pub http: TcpListener,
    pub grpc: TcpListener,
}

#[derive(Clone, Copy)]
struct Addresses {
    http: SocketAddr,
    grpc: SocketAddr,
}

/// Why a server could not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error("the state directory {} cannot be used: {source}", .path.display())]
    StateDir { path: std::path::PathBuf, source: std::io::Error },
    #[error("the metrics cannot be set up: {0}")]
    Metrics(#[from] prometheus::Error),
    #[error("the CPU threads cannot be started: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    #[error("a listener has no address: {0}")]
    Listener(std::io::Error),
    #[error("the address file {} cannot be written: {source}", .path.display())]
    AddressFile { path: std::path::PathBuf, source: std::io::Error },
    #[error("{0} requests were cut off: they were not done within drain-timeout")]
    CutOff(usize),
    #[error("a task of the server panicked: {0}")]
    Panicked(#[from] tokio::task::JoinError),
}

/// Serves on `listeners` until `shutdown` says otherwise, and ends with what it said once the last request is done.
///
/// # Errors
/// When the server cannot start, or requests had to be cut off at the end.
pub async fn run(config: Config, listeners: Listeners, shutdown: impl Future<Output = Stop>) -> Result<Stop, ServeError> {
    let address = |listener: &TcpListener| listener.local_addr().map_err(ServeError::Listener);
    let addresses = Addresses { http: address(&listeners.http)?, grpc: address(&listeners.grpc)? };
    let app = Arc::new(App::new(config.clone(), Arc::new(Metrics::new()?), Cpu::new(config.threads.get())?));
    tokio::pin!(shutdown);

    // Listening before the models are there: a probe is told `not_ready` rather than refused.
    let (close, closed) = watch::channel(());
    let server = tokio::spawn(listen(Arc::clone(&app), listeners, closed));

    let (cache, registry) = tokio::select! {
        loaded = load(&app) => loaded?,
        stop = &mut shutdown => return Ok(stop),
    };
    app.lifecycle.enter(Stage::Ready);
    announce(&app, addresses)?;
    let every = config.poll_models.0;
    let polling = (!every.is_zero()).then(|| tokio::spawn(Arc::clone(&registry).poll(every)));

    let stop = shutdown.await;
    tracing::info!(?stop, "asked to stop: not ready from now on");
    app.lifecycle.enter(Stage::Draining);
    if stop == Stop::Terminate {
        tokio::time::sleep(config.drain_delay.0).await;
    }
    app.lifecycle.enter(Stage::Closed);
    drop(close);
    if let Some(polling) = polling {
        polling.abort();
    }
    match tokio::time::timeout(config.drain_timeout.0, server).await {
        Ok(ended) => ended?,
        // Connections that nobody asks anything over are no work that was cut off. They hold what the workers wait for,
        // which the end of the process takes from them.
        Err(_) if app.lifecycle.guests() == 0 => {
            cache.close().await;
            return Ok(stop);
        }
        Err(_) => return Err(ServeError::CutOff(app.lifecycle.guests())),
    }
    end(&registry).await?;
    cache.close().await;
    tracing::info!("ended");
    Ok(stop)
}

/// Both ports, until the sender of `closed` is dropped and the last request is answered.
async fn listen(app: Arc<App>, listeners: Listeners, closed: watch::Receiver<()>) {
    let options = ListenOptions {
        max_connections: app.config.max_connections.get(),
        idle_timeout: app.config.idle_timeout.0,
        write_timeout: app.config.write_timeout.0,
    };
    let mut services = Services::default();
    grpc::add_to(&mut services, Arc::clone(&app));
    oip::add_to(&mut services, Arc::clone(&app));
    let rpc = rpc::router(Arc::clone(&app), services);
    let ended = |mut closed: watch::Receiver<()>| async move { while closed.changed().await.is_ok() {} };
    tokio::join!(
        listen::serve(listeners.http, http::router(app, oip::router()), Protocol::Http1, options, ended(closed.clone())),
        listen::serve(listeners.grpc, rpc, Protocol::Http2, options, ended(closed)),
    );
}

/// Opens the pipeline.
async fn load(app: &Arc<App>) -> Result<(Arc<EncodingsCache>, Arc<Registry>), ServeError> {
    let (admission, cpu, metrics) = (Arc::clone(&app.admission), Arc::clone(&app.cpu), Arc::clone(&app.metrics));
    let House { pipeline, cache } = House::open(&app.config, Ground { admission, cpu, metrics }).await?;
    let registry = Arc::clone(&pipeline.models);
    app.open(pipeline);
    Ok((cache, registry))
}

/// Tells people on standard output, and programs through the address file, that the server is ready.
fn announce(app: &App, addresses: Addresses) -> Result<(), ServeError> {
    let Addresses { http: address, grpc } = addresses;
    tracing::info!(%address, %grpc, "ready");
    // In a checkout there is a tile to try it with; elsewhere the user has one.
    let tile = if std::path::Path::new(EXAMPLE_TILE).exists() { EXAMPLE_TILE } else { "tile.png" };
    let curl = format!("curl --data-binary @{tile} -H 'content-type: image/png' 'http://{address}/v1/augment?resize=true' -o variant.png");
    // Whoever started the server may have closed its end; that is no reason not to serve.
    let _ = writeln!(std::io::stdout(), "ready on http://{address} (page: /, API: /docs)\ngRPC on {grpc}\ntry: {curl}");
    let Some(path) = &app.config.address_file else { return Ok(()) };
    std::fs::write(path, format!("{address}\n{grpc}\n")).map_err(|source| ServeError::AddressFile { path: path.clone(), source })
}

/// Lets the workers end: their queues close with the last handle, and nobody holds one any more.
async fn end(registry: &Registry) -> Result<(), ServeError> {
    let workers = registry.close().await;
    tokio::task::spawn_blocking(move || {
        for worker in workers {
            if worker.join().is_err() {
                tracing::error!("an encoder's thread panicked");
            }
        }
    })
    .await?;
    Ok(())
}
