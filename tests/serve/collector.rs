//! A small collector: takes OTLP over HTTP or HTTPS, and keeps the spans and the headers that they
//! came with.

use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;

type Taken = Arc<Mutex<Vec<(HeaderMap, ExportTraceServiceRequest)>>>;

pub(super) struct Collector {
    pub url: String,
    taken: Taken,
    /// Serves until dropped.
    _runtime: Runtime,
}

impl Collector {
    pub(super) fn start() -> Self {
        Self::start_with(None)
    }

    /// With TLS for `localhost`, by a certificate below `root`, which is written as PEM.
    pub(super) fn start_tls(root: &Path) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        std::fs::write(root, issuer.pem()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let leaf = leaf.signed_by(&key, &issuer).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key.into())
            .unwrap();
        Self::start_with(Some(TlsAcceptor::from(Arc::new(config))))
    }

    fn start_with(tls: Option<TlsAcceptor>) -> Self {
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let taken = Taken::default();
        let router = Router::new().route("/v1/traces", post(take)).with_state(Arc::clone(&taken));
        let url = match tls {
            None => {
                runtime.spawn(async move { axum::serve(listener, router).await.unwrap() });
                format!("http://{address}")
            }
            Some(tls) => {
                runtime.spawn(serve_tls(listener, tls, router));
                format!("https://localhost:{}", address.port())
            }
        };
        Self { url, taken, _runtime: runtime }
    }

    /// The address of one that was there.
    pub(super) fn gone() -> String {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    }

    /// Every span so far, by when it began.
    pub(super) fn spans(&self) -> Vec<Span> {
        let taken = self.taken.lock().unwrap();
        let scopes = taken
            .iter()
            .flat_map(|(_, taken)| &taken.resource_spans)
            .flat_map(|resource| &resource.scope_spans);
        let mut spans: Vec<Span> = scopes.flat_map(|scope| scope.spans.clone()).collect();
        spans.sort_by_key(|span| span.start_time_unix_nano);
        spans
    }

    /// A header of the first request.
    pub(super) fn header(&self, name: &str) -> Option<String> {
        let taken = self.taken.lock().unwrap();
        Some(taken.first()?.0.get(name)?.to_str().unwrap().to_owned())
    }

    /// The attributes of the service that the spans are from.
    pub(super) fn resource(&self) -> Vec<(String, String)> {
        let taken = self.taken.lock().unwrap();
        let resource = taken[0].1.resource_spans[0].resource.as_ref().unwrap();
        let text = |value: &Option<Value>| match value {
            Some(Value::StringValue(text)) => text.clone(),
            other => panic!("{other:?}"),
        };
        let attributes = resource.attributes.iter();
        attributes
            .map(|attribute| {
                (attribute.key.clone(), text(&attribute.value.as_ref().unwrap().value))
            })
            .collect()
    }
}

async fn serve_tls(listener: TcpListener, tls: TlsAcceptor, router: Router) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (tls, service) = (tls.clone(), TowerToHyperService::new(router.clone()));
        tokio::spawn(async move {
            // A client that does not trust the certificate ends the handshake.
            if let Ok(stream) = tls.accept(stream).await {
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            }
        });
    }
}

async fn take(State(taken): State<Taken>, headers: HeaderMap, body: Bytes) {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    taken.lock().unwrap().push((headers, request));
}
