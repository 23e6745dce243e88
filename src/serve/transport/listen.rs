//! The accept loop, with limits on connections, idle time and write time. axum's and tonic's own
//! loops have none of these.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::middleware::AddExtension;
use axum::{Extension, Router};
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, BufWriter};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_io_timeout::TimeoutStream;
use tower::Layer;

use super::places::{Place, Places};
pub use super::tls::Protocol;
use super::tls::Tls;
use crate::serve::metrics::{Connected, Metrics};
use crate::serve::middleware::Peer;

/// Pause after an accept that failed for want of file descriptors or memory: at once it would fail
/// again.
const BREATHER: Duration = Duration::from_millis(100);
/// Calls at once of one HTTP/2 connection.
const MAX_STREAMS: u32 = 128;
/// What a caller may send ahead of our reading, on one HTTP/2 stream and on all of a connection
/// together. Several times what a loopback or a data centre has under way, so that large tensors do
/// not wait for window updates.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
/// Largest HTTP/2 frame taken; the protocol's default of 16 KiB would cut a tensor into hundreds.
const MAX_FRAME: u32 = 256 << 10;
/// Bytes of frames that go to the system at once. Callers take frames of 16 KiB unless they say
/// otherwise, and each would be a call of its own and wake the reader.
const GATHERED: usize = 128 << 10;
/// Largest head of a call.
const MAX_HEAD: u32 = 64 << 10;

#[derive(Clone)]
pub struct ListenOptions {
    /// Counts connections under this name.
    pub port: &'static str,
    pub metrics: Arc<Metrics>,
    /// What is spoken lies inside of TLS.
    pub tls: Option<Tls>,
    /// Connections at once; further ones wait in the system's backlog.
    pub max_connections: usize,
    /// Those of one address; further ones are closed.
    pub max_connections_of_address: usize,
    /// How long a connection may take over the head of a request, or be silent between two. Over
    /// HTTP/2, where a connection without calls is a client's idle channel, it must answer pings
    /// within this time.
    pub idle_timeout: Duration,
    /// How long an answer may wait for its reader to take some more of it.
    pub write_timeout: Duration,
}

/// Serves until `shutdown`, then accepts no connection and ends when the last request is answered.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    protocol: Protocol,
    options: ListenOptions,
    shutdown: impl Future<Output = ()>,
) {
    let mut http1 = http1::Builder::new();
    // A caller who closes its half is taken to have left: the end of a connection looks like
    // the end of what it sends, and nothing is computed for a caller who left.
    http1.timer(TokioTimer::new()).header_read_timeout(options.idle_timeout).half_close(false);
    let mut http2 = http2::Builder::new(TokioExecutor::new());
    http2
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(options.idle_timeout / 2))
        .keep_alive_timeout(options.idle_timeout / 2)
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME)
        .max_header_list_size(MAX_HEAD);
    let graceful = GracefulShutdown::new();
    let places = Places::new(options.max_connections, options.max_connections_of_address);
    // Dropped at the end: hands that are not shaken by then will not be.
    let (close, closing) = watch::channel(());
    tokio::pin!(shutdown);
    loop {
        let (stream, place) = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            () = &mut shutdown => break,
        };
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(options.write_timeout));
        if protocol == Protocol::Http2 {
            // Pings have answers: a peer that is there is never silent for so long.
            stream.set_read_timeout(Some(options.idle_timeout));
        }
        let stream = Box::pin(stream);
        let connection = Connection {
            http1: http1.clone(),
            http2: http2.clone(),
            service: TowerToHyperService::new(
                Extension(Peer(place.address())).layer(router.clone()),
            ),
            watcher: graceful.watcher(),
            _counted: options.metrics.connected(options.port),
            _place: place,
        };
        // They go on by themselves, and end before the loop does by way of `graceful`.
        match options.tls.clone() {
            None => drop(tokio::spawn(connection.serve(stream, protocol))),
            Some(tls) => {
                let mut closing = closing.clone();
                drop(tokio::spawn(async move {
                    let shaken = tokio::select! {
                        shaken = tls.accept(stream, protocol) => shaken,
                        _ = closing.changed() => return,
                    };
                    match shaken {
                        Ok(stream) => connection.serve(stream, protocol).await,
                        Err(error) => tracing::debug!(%error, "the TLS handshake failed"),
                    }
                }));
            }
        }
    }
    drop((listener, close));
    graceful.shutdown().await;
}

/// One connection, which counts against `max_connections`.
struct Connection {
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
    service: TowerToHyperService<AddExtension<Router, Peer>>,
    watcher: Watcher,
    _place: Place,
    _counted: Connected,
}

impl Connection {
    /// To its end.
    async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        self,
        stream: S,
        protocol: Protocol,
    ) {
        let ended = match protocol {
            Protocol::Http1 => {
                self.watcher
                    .watch(self.http1.serve_connection(TokioIo::new(stream), self.service))
                    .await
            }
            Protocol::Http2 => {
                let stream = BufWriter::with_capacity(GATHERED, stream);
                self.watcher
                    .watch(self.http2.serve_connection(TokioIo::new(stream), self.service))
                    .await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended early");
        }
    }
}

async fn accept(listener: &TcpListener, places: &Arc<Places>) -> (TcpStream, Place) {
    let mut free = places.free().await;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Answers are written whole; waiting for more would only delay the last packet.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "no TCP_NODELAY");
                }
                match places.take(peer.ip(), free) {
                    Ok(place) => return (stream, place),
                    Err(unused) => free = unused,
                }
                tracing::debug!(address = %peer.ip(), "closed: too many connections from there");
            }
            Err(error) if is_the_peers(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(BREATHER).await;
            }
        }
    }
}

/// The peer gave up before the connection was accepted.
fn is_the_peers(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}
