//! The server: tiles in over HTTP and gRPC, variants out.
//!
//! `http | grpc → admission → pipeline → cache → batch → engine`, each floor calling only those below it. [`run`] is the whole life
//! of a server, given its listeners and what ends it; everything it needs to know is in its [`Config`].

pub mod access;
pub mod admission;
mod app;
pub mod batch;
pub mod cache;
pub mod check;
pub mod config;
pub mod error;
pub mod metrics;
pub mod middleware;
pub mod models;
pub mod pipeline;
pub mod runtime;
pub mod services;
pub mod styles;
mod trace;
pub mod transport;

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use access::Access;
use app::App;
use cache::{CacheError, EncodingsCache};
pub use config::Config;
use metrics::{Metrics, Most};
use models::{LoadError, Registry};
use runtime::cpu::Cpu;
use runtime::lifecycle::Stage;
use runtime::reload::RereadError;
use runtime::signal::Stop;
use services::{Ground, House};
use trace::Traces;
use transport::listen::ListenOptions;
use transport::rpc::Services;
use transport::tls::{Protocol, Tls};

/// A procedural tile that the repository holds.
const EXAMPLE_TILE: &str = "docs/tile.png";

/// Connections at once on the port for probes, and how long one may be silent: it is open to all, and who is silent must
/// keep no probe out.
const PROBES: usize = 256;
const PATIENCE: Duration = Duration::from_secs(1);

/// Where a server is asked.
pub struct Listeners {
    pub http: TcpListener,
    pub grpc: TcpListener,
    pub probes: Option<TcpListener>,
}

#[derive(Clone, Copy)]
struct Addresses {
    http: SocketAddr,
    grpc: SocketAddr,
    probes: Option<SocketAddr>,
}

/// Why a server could not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error(transparent)]
    Door(#[from] RereadError),
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
pub async fn run(
    config: Config,
    listeners: Listeners,
    shutdown: impl Future<Output = Stop>,
) -> Result<Stop, ServeError> {
    // Each port has that many.
    runtime::descriptors::raise(2 * config.max_connections.get());
    let address = |listener: &TcpListener| listener.local_addr().map_err(ServeError::Listener);
    let probes = listeners.probes.as_ref().map(address).transpose()?;
    let addresses =
        Addresses { http: address(&listeners.http)?, grpc: address(&listeners.grpc)?, probes };
    let metrics = Arc::new(Metrics::new()?);
    metrics.tell_limits(&Most {
        queue_tiles: config.max_queue_tiles.get(),
        inflight_bytes: config.max_inflight_bytes.0,
        cache_bytes: config.cache_memory.0,
        connections: config.max_connections.get(),
    })?;
    let access = Access::open(config.keys.as_deref(), Arc::clone(&metrics))?;
    let tls = config.tls().map(|files| Tls::open(&files, &metrics)).transpose()?;
    let traces = config.otlp.as_ref().map(|collector| Traces::to(collector, config.trace_share));
    let app = Arc::new(App::new(
        config.clone(),
        access,
        metrics,
        Cpu::new(config.threads.get())?,
        traces,
    ));
    if config.tells_tokens() {
        tracing::warn!("keys without TLS: whoever listens to the network reads the tokens");
    }
    let _rereading = reread(&app, tls.clone());
    tokio::pin!(shutdown);

    // Listening before the models are there: a probe is told `not_ready` rather than refused.
    let (close, closed) = watch::channel(());
    let server = tokio::spawn(listen(Arc::clone(&app), listeners, tls, closed));

    let (cache, registry) = tokio::select! {
        loaded = load(&app) => loaded?,
        stop = &mut shutdown => return Ok(stop),
    };
    app.lifecycle.enter(Stage::Ready);
    // Whoever reads "ready" finds both ports ready.
    tokio::select! {
        () = app.lifecycle.until_told(Stage::Ready) => {}
        stop = &mut shutdown => return Ok(stop),
    }
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
    let deadline = Instant::now() + config.drain_timeout.0;
    let drained = tokio::time::timeout_at(deadline.into(), server).await;
    if let Some(traces) = &app.traces {
        traces.end(deadline).await;
    }
    match drained {
        Ok(ended) => ended?,
        // Connections that nobody asks anything over are no work that was cut off. They hold what the workers wait for,
        // which the end of the process takes from them.
        Err(_) if app.lifecycle.guests() == 0 => {
            cache.close().await;
            return Ok(stop);
        }
        Err(_) => {
            cache.close().await;
            return Err(ServeError::CutOff(app.lifecycle.guests()));
        }
    }
    end(&registry).await?;
    cache.close().await;
    tracing::info!("ended");
    Ok(stop)
}

/// What is replaced under a running server, looked at until dropped.
fn reread(app: &App, tls: Option<Tls>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(app.access.watch());
    if let Some(tls) = tls {
        tasks.spawn(tls.watch());
    }
    tasks
}

/// Every port, until the sender of `closed` is dropped and the last request is answered.
async fn listen(
    app: Arc<App>,
    listeners: Listeners,
    tls: Option<Tls>,
    closed: watch::Receiver<()>,
) {
    let options = ListenOptions {
        port: "http",
        metrics: Arc::clone(&app.metrics),
        tls,
        max_connections: app.config.max_connections.get(),
        idle_timeout: app.config.idle_timeout.0,
        write_timeout: app.config.write_timeout.0,
    };
    let mut services = Services::default();
    transport::grpc::add_to(&mut services, Arc::clone(&app));
    transport::oip::add_to(&mut services, Arc::clone(&app));
    let rpc = transport::rpc::router(Arc::clone(&app), services);
    let ended =
        |mut closed: watch::Receiver<()>| async move { while closed.changed().await.is_ok() {} };
    let of_grpc = ListenOptions { port: "grpc", ..options.clone() };
    let of_probes = ListenOptions {
        port: "probes",
        tls: None,
        max_connections: PROBES,
        idle_timeout: PATIENCE,
        ..options.clone()
    };
    let (probed, closing) = (Arc::clone(&app), ended(closed.clone()));
    let probes = async move {
        if let Some(listener) = listeners.probes {
            transport::listen::serve(
                listener,
                transport::http::probes(probed),
                Protocol::Http1,
                of_probes,
                closing,
            )
            .await;
        }
    };
    tokio::join!(
        transport::listen::serve(
            listeners.http,
            transport::http::router(app, transport::oip::router()),
            Protocol::Http1,
            options,
            ended(closed.clone())
        ),
        transport::listen::serve(listeners.grpc, rpc, Protocol::Http2, of_grpc, ended(closed)),
        probes,
    );
}

/// Opens the pipeline.
async fn load(app: &Arc<App>) -> Result<(Arc<EncodingsCache>, Arc<Registry>), ServeError> {
    let (admission, cpu, metrics) =
        (Arc::clone(&app.admission), Arc::clone(&app.cpu), Arc::clone(&app.metrics));
    let House { pipeline, cache } =
        House::open(&app.config, Ground { admission, cpu, metrics }).await?;
    let registry = Arc::clone(&pipeline.models);
    app.open(pipeline);
    Ok((cache, registry))
}

/// Tells programs through the address file, and people on standard output, that the server is ready.
fn announce(app: &App, addresses: Addresses) -> Result<(), ServeError> {
    let Addresses { http: address, grpc, probes } = addresses;
    tracing::info!(%address, %grpc, probes = probes.map(tracing::field::display), "ready");
    if let Some(path) = &app.config.address_file {
        let probes = probes.map_or_else(String::new, |probes| format!("{probes}\n"));
        let written = std::fs::write(path, format!("{address}\n{grpc}\n{probes}"));
        written.map_err(|source| ServeError::AddressFile { path: path.clone(), source })?;
    }
    let url = format!("{}://{address}", app.config.scheme());
    // In a checkout there is a tile to try it with; elsewhere the user has one.
    let tile = if std::path::Path::new(EXAMPLE_TILE).exists() { EXAMPLE_TILE } else { "tile.png" };
    let key = if app.config.keys.is_some() { " -H \"authorization: Bearer $TOKEN\"" } else { "" };
    let curl = format!(
        "curl --data-binary @{tile} -H 'content-type: image/png'{key} '{url}/v1/augment?resize=true' -o variant.png"
    );
    // Whoever started the server may have closed its end; that is no reason not to serve.
    let _ = writeln!(
        std::io::stdout(),
        "ready on {url} (page: /, API: /docs)\ngRPC on {grpc}\ntry: {curl}"
    );
    Ok(())
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
