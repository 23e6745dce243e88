//! The life of a server: listen, load, serve, drain, end.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::access::Access;
use super::app::App;
use super::cache::EncodingsCache;
use super::config::Config;
use super::metrics::{Metrics, Most};
use super::models::Registry;
use super::runtime::cpu::Cpu;
use super::runtime::descriptors;
use super::runtime::lifecycle::Stage;
use super::runtime::reload::RereadError;
use super::runtime::signal::Stop;
use super::services::{OpenError, Resources, Services};
use super::trace::{ExportError, Traces};
use super::transport;
use super::transport::listen::ListenOptions;
use super::transport::rpc::GrpcServices;
use super::transport::tls::{Protocol, Tls};

/// A procedural tile that the repository holds.
const EXAMPLE_TILE: &str = "docs/tile.png";

/// Connections at once on the port for probes, and how long one may be silent: the port is open to
/// all, and silent connections must not keep probes out.
const PROBES: usize = 256;
const PATIENCE: Duration = Duration::from_secs(1);

/// The listeners of a server.
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

impl Addresses {
    fn of(listeners: &Listeners) -> Result<Self, ServeError> {
        let address = |listener: &TcpListener| listener.local_addr().map_err(ServeError::Listener);
        Ok(Self {
            http: address(&listeners.http)?,
            grpc: address(&listeners.grpc)?,
            probes: listeners.probes.as_ref().map(address).transpose()?,
        })
    }
}

/// Why a server could not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Files(#[from] RereadError),
    #[error(transparent)]
    Traces(#[from] ExportError),
    #[error("the metrics cannot be set up: {0}")]
    Metrics(#[from] prometheus::Error),
    #[error("the CPU threads cannot be started: {0}")]
    Threads(std::io::Error),
    #[error("a listener has no address: {0}")]
    Listener(std::io::Error),
    #[error("the address file {} cannot be written: {source}", .path.display())]
    AddressFile { path: std::path::PathBuf, source: std::io::Error },
    #[error("{0} requests were cut off: they took longer than drain-timeout")]
    CutOff(usize),
    #[error("a task of the server panicked: {0}")]
    Panicked(#[from] tokio::task::JoinError),
}

/// Serves on `listeners` until `shutdown` resolves, and returns its value once the last request is
/// answered.
///
/// # Errors
/// When the server cannot start, or requests had to be cut off at the end.
pub async fn run(
    config: Config,
    listeners: Listeners,
    shutdown: impl Future<Output = Stop>,
) -> Result<Stop, ServeError> {
    // Each port has that many.
    descriptors::raise(2 * config.max_connections.get());
    let addresses = Addresses::of(&listeners)?;
    let (app, tls) = prepare(&config)?;
    let _reloading = reload(&app, tls.clone());
    tokio::pin!(shutdown);

    // Listening before the models are loaded: a probe gets `not_ready`, not a refused connection.
    let (close, closed) = watch::channel(());
    let server = tokio::spawn(listen(Arc::clone(&app), listeners, tls, closed));

    let (cache, registry) = tokio::select! {
        loaded = load(&app) => loaded?,
        stop = &mut shutdown => return Ok(stop),
    };
    app.lifecycle.enter(Stage::Ready);
    // Both ports are ready before "ready" is printed.
    tokio::select! {
        () = app.lifecycle.until_published(Stage::Ready) => {}
        stop = &mut shutdown => return Ok(stop),
    }
    announce(&app, addresses)?;
    let every = config.poll_models.0;
    let mut polling = JoinSet::new();
    if !every.is_zero() {
        polling.spawn(Arc::clone(&registry).poll(every));
    }
    polling.spawn(Arc::clone(&registry).poll_state(config.poll_state.0));

    let stop = shutdown.await;
    tracing::info!(?stop, "shutting down: not ready from now on");
    app.lifecycle.enter(Stage::Draining);
    if stop == Stop::Terminate {
        tokio::time::sleep(config.drain_delay.0).await;
    }
    app.lifecycle.enter(Stage::Closed);
    drop(close);
    polling.abort_all();
    drain(&app, server, &registry, &cache).await?;
    tracing::info!("ended");
    Ok(stop)
}

/// Everything but the models.
fn prepare(config: &Config) -> Result<(Arc<App>, Option<Tls>), ServeError> {
    let metrics = Arc::new(Metrics::new()?);
    metrics.set_limits(&Most {
        queue_tiles: config.max_queue_tiles.get(),
        inflight_bytes: config.max_inflight_bytes.0,
        cache_bytes: config.cache_memory.0,
        connections: config.max_connections.get(),
    })?;
    let access = Access::open(config.keys.as_deref(), Arc::clone(&metrics))?;
    let tls = config.tls().map(|files| Tls::open(&files, &metrics)).transpose()?;
    let traces = config.traces().map(|export| Traces::open(&export)).transpose()?;
    let app = Arc::new(App::new(
        config.clone(),
        access,
        metrics,
        Cpu::new(config.threads).map_err(ServeError::Threads)?,
        traces,
    ));
    if config.tells_tokens() {
        tracing::warn!("keys without TLS: tokens cross the network in clear text");
    }
    Ok((app, tls))
}

/// Waits until the requests in flight are answered, for `--drain-timeout` at most, and ends the
/// workers.
async fn drain(
    app: &App,
    server: JoinHandle<()>,
    registry: &Registry,
    cache: &EncodingsCache,
) -> Result<(), ServeError> {
    let deadline = Instant::now() + app.config.drain_timeout.0;
    let drained = tokio::time::timeout_at(deadline.into(), server).await;
    if let Some(traces) = &app.traces {
        traces.end(deadline).await;
    }
    let Ok(ended) = drained else {
        // Idle connections are not work that was cut off. They hold what the workers wait for,
        // until the process ends.
        let cut_off = app.lifecycle.in_flight();
        cache.close().await;
        return if cut_off == 0 { Ok(()) } else { Err(ServeError::CutOff(cut_off)) };
    };
    ended?;
    registry.join_workers().await?;
    cache.close().await;
    Ok(())
}

/// Tasks that reload keys and certificates, until dropped.
fn reload(app: &App, tls: Option<Tls>) -> JoinSet<()> {
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
    let most = app.config.max_connections.get();
    let options = ListenOptions {
        port: "http",
        metrics: Arc::clone(&app.metrics),
        tls,
        max_connections: most,
        max_connections_of_address: most - most / 8,
        idle_timeout: app.config.idle_timeout.0,
        write_timeout: app.config.write_timeout.0,
    };
    let mut services = GrpcServices::default();
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
        // Further ones wait: a probe may come from the address of what fills the port.
        max_connections_of_address: PROBES,
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
            transport::http::router(app, transport::oip::routes()),
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
    let Services { pipeline, cache } =
        Services::open(&app.config, Resources { admission, cpu, metrics }).await?;
    let registry = Arc::clone(&pipeline.models);
    app.open(pipeline);
    Ok((cache, registry))
}

/// Announces that the server is ready: in the address file for programs, on standard output for
/// people.
fn announce(app: &App, addresses: Addresses) -> Result<(), ServeError> {
    let Addresses { http: address, grpc, probes } = addresses;
    tracing::info!(%address, %grpc, probes = probes.map(tracing::field::display), "ready");
    if let Some(path) = &app.config.address_file {
        let probes = probes.map_or_else(String::new, |probes| format!("{probes}\n"));
        let written = std::fs::write(path, format!("{address}\n{grpc}\n{probes}"));
        written.map_err(|source| ServeError::AddressFile { path: path.clone(), source })?;
    }
    let url = format!("{}://{address}", app.config.scheme());
    // A checkout has a tile to try it with; elsewhere the user has one.
    let tile = if std::path::Path::new(EXAMPLE_TILE).exists() { EXAMPLE_TILE } else { "tile.png" };
    let key = if app.config.keys.is_some() { " -H \"authorization: Bearer $TOKEN\"" } else { "" };
    let curl = format!(
        "curl --data-binary @{tile} -H 'content-type: image/png'{key} '{url}/v1/augment' -o \
        variant.png"
    );
    // Standard output may be closed; that is no reason not to serve.
    let _ = writeln!(
        std::io::stdout(),
        "ready on {url} (page: /, API: /docs)\ngRPC on {grpc}\ntry: {curl}"
    );
    Ok(())
}
