//! The server inside another program: the same routes, called as functions and without a listener.
//!
//! A request passes the same layers as over HTTP, so that its answer has the same bytes. There are
//! no keys, and no limits that protect a server from its clients: no end of a request but the
//! caller's, and no longest wait in the queue.

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use bytes::Bytes;
use http_body_util::BodyExt;
use restain_engine::{EngineError, Runtime as OnnxRuntime};
use tokio::runtime::Runtime;
use tokio::task::AbortHandle;
use tower::ServiceExt;

use super::access::Access;
use super::app::App;
use super::cache::EncodingsCache;
use super::config::{Config, Span};
use super::metrics::Metrics;
use super::models::Registry;
use super::runtime::cpu::Cpu;
use super::runtime::lifecycle::Stage;
use super::runtime::reload::RereadError;
use super::services::{OpenError, Resources, Services};
use super::transport;

/// Threads that take requests apart and put answers together; others encode and compute.
const THREADS: usize = 2;
/// As good as no limit.
const PATIENCE: Span = Span(Duration::from_secs(30 * 24 * 3600));

/// Why a model could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    #[error(transparent)]
    Library(#[from] EngineError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Keys(#[from] RereadError),
    #[error("the metrics cannot be registered: {0}")]
    Metrics(#[from] prometheus::Error),
    #[error("threads cannot be started: {0}")]
    Threads(#[from] std::io::Error),
}

/// One model, ready for requests from any thread.
pub struct Embedded {
    runtime: Option<Runtime>,
    router: Router,
    app: Arc<App>,
    registry: Arc<Registry>,
    cache: Arc<EncodingsCache>,
}

/// The answer to a request.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    /// The body, in pieces as it was written.
    pub pieces: Vec<Bytes>,
}

/// A request in work; dropping it ends the work.
#[derive(Debug)]
pub struct Pending {
    /// Locked by the one thread that waits.
    reply: Mutex<Receiver<Reply>>,
    task: AbortHandle,
}

/// The state of a request in work.
#[derive(Debug)]
pub enum Progress {
    Done(Reply),
    Working,
    /// Ended by [`Pending::cancel`], or by the end of its model.
    Cancelled,
}

impl Embedded {
    /// Loads the one model that `default_model` of the configuration names, and warms it up.
    /// `library` is ONNX Runtime's; without it the library is found as by the programs.
    ///
    /// # Errors
    /// When the library, the bundle or a directory of the configuration cannot be used.
    pub fn open(mut config: Config, library: Option<&Path>) -> Result<Self, EmbeddedError> {
        if let Some(library) = library {
            OnnxRuntime::load_from(library)?;
        }
        (config.request_timeout, config.max_queue_wait) = (PATIENCE, PATIENCE);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .enable_all()
            .build()?;
        let metrics = Arc::new(Metrics::new()?);
        let access = Access::open(None, Arc::clone(&metrics))?;
        let cpu = Cpu::new(config.threads)?;
        let app = Arc::new(App::new(config, access, metrics, cpu, None));
        let (admission, cpu, metrics) =
            (Arc::clone(&app.admission), Arc::clone(&app.cpu), Arc::clone(&app.metrics));
        let resources = Resources { admission, cpu, metrics };
        let Services { pipeline, cache } =
            runtime.block_on(Services::one(&app.config, resources))?;
        let registry = Arc::clone(&pipeline.models);
        app.open(pipeline);
        app.lifecycle.enter(Stage::Ready);
        let router = transport::http::router(Arc::clone(&app), transport::oip::routes());
        Ok(Self { runtime: Some(runtime), router, app, registry, cache })
    }

    /// Begins a request.
    pub fn begin(&self, request: Request<Bytes>) -> Pending {
        let (sender, reply) = sync_channel(1);
        let router = self.router.clone();
        let work = async move {
            let Ok(response) = router.oneshot(request.map(Body::from)).await;
            if let Some(reply) = gather(response).await {
                // An error means that the caller has left.
                drop(sender.send(reply));
            }
        };
        let task = self.runtime().spawn(work).abort_handle();
        Pending { reply: Mutex::new(reply), task }
    }

    /// Ends the encoders, and waits for them. Further requests get the error `draining`.
    pub fn close(&self) {
        self.app.lifecycle.enter(Stage::Closed);
        self.runtime().block_on(async {
            if let Err(error) = self.registry.join_workers().await {
                tracing::error!(%error, "an encoder did not end well");
            }
            self.cache.close().await;
        });
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("taken only when this is dropped")
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // What is still computing has no use any more.
        self.runtime.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

impl Pending {
    /// Waits for the reply, no longer than `time`.
    pub fn wait(&self, time: Duration) -> Progress {
        let reply = self.reply.lock().expect("nothing panics while it is locked");
        match reply.recv_timeout(time) {
            Ok(reply) => Progress::Done(reply),
            Err(RecvTimeoutError::Timeout) => Progress::Working,
            Err(RecvTimeoutError::Disconnected) => Progress::Cancelled,
        }
    }

    /// Ends the request, and with it a wait for its reply.
    pub fn cancel(&self) {
        self.task.abort();
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// Collects an answer; none if its body broke off.
async fn gather(response: Response<Body>) -> Option<Reply> {
    let (head, mut body) = response.into_parts();
    let mut pieces = Vec::new();
    while let Some(frame) = body.frame().await {
        let data =
            frame.inspect_err(|error| tracing::error!(%error, "an answer broke off")).ok()?;
        pieces.extend(data.into_data().ok());
    }
    let header = |(name, value): (&axum::http::HeaderName, &axum::http::HeaderValue)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let headers = head.headers.iter().map(header).collect();
    Some(Reply { status: head.status.as_u16(), headers, pieces })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> Embedded {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
        let default_model = Some("demo".to_owned());
        Embedded::open(Config { models: models.into(), default_model, ..Config::default() }, None)
            .unwrap()
    }

    fn get(path: &str) -> Request<Bytes> {
        Request::get(path).body(Bytes::new()).unwrap()
    }

    fn reply(pending: &Pending) -> Reply {
        match pending.wait(Duration::from_secs(60)) {
            Progress::Done(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_model_answers_without_a_listener_until_it_is_closed() {
        let embedded = open();
        let ready = reply(&embedded.begin(get("/health/ready")));
        assert_eq!(ready.status, 200, "{ready:?}");
        let tile = include_bytes!("../../docs/tile.png").as_slice();
        let request = Request::post("/v1/augment?seed=7")
            .header("content-type", "image/png")
            .header("accept", "image/png");
        let made = reply(&embedded.begin(request.body(Bytes::from_static(tile)).unwrap()));
        assert_eq!(made.status, 200, "{made:?}");
        assert!(made.headers.iter().any(|(name, _)| name == "restain-provenance"), "{made:?}");
        assert!(made.pieces[0].starts_with(b"\x89PNG"));
        embedded.close();
        assert_eq!(reply(&embedded.begin(get("/v1/models"))).status, 503);
    }

    #[test]
    fn a_cancelled_request_ends_its_wait() {
        let embedded = open();
        let pending = embedded.begin(get("/v1/models"));
        pending.cancel();
        assert!(!matches!(pending.wait(Duration::from_secs(60)), Progress::Working));
    }
}
