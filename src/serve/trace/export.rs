//! The exporter: OTLP over HTTP or HTTPS, protobuf, as `opentelemetry-otlp` writes it. Headers,
//! endpoint and attributes that the standard `OTEL_…` variables give are read by that library.
//!
//! What it adds is a client that runs on the server's runtime, with rustls and ring as the server
//! itself uses, and a log line for the first span that is lost. A collector that is away costs
//! spans, and never memory or a request's time.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use hyper::{Request, Response};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{ExporterBuildError, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use tokio::runtime::Handle;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use super::Export;
use crate::serve::error::with_causes;

/// Why traces cannot be exported as configured.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("the OTLP exporter cannot be set up: {0}")]
    Build(#[from] ExporterBuildError),
    #[error("OTEL_EXPORTER_OTLP_CERTIFICATE: {path} is not a file of PEM certificates: {source}")]
    Certificate { path: String, source: pem::Error },
    #[error("the OTLP exporter cannot use TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// Called by a thread of the SDK, one batch after the other.
#[derive(Debug)]
pub(super) struct Exporter {
    otlp: opentelemetry_otlp::SpanExporter,
    /// For the log.
    collector: String,
    /// Spans lost since the collector last took any.
    lost: AtomicU64,
}

impl Exporter {
    /// Within a runtime, on which it sends.
    ///
    /// # Errors
    /// When a setting is wrong; a collector that is away is no error.
    pub(super) fn open(export: &Export) -> Result<Self, ExportError> {
        let tls = tls(export.certificate.as_deref())?;
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .build();
        let client = Client {
            http: HyperClient::new(connector, export.timeout, None),
            runtime: Handle::current(),
        };
        let builder = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_timeout(export.timeout);
        let (builder, collector) = match &export.collector {
            Some(collector) => (builder.with_endpoint(collector.endpoint()), collector.to_string()),
            // The library reads it, with its own rules for paths.
            None => (builder, "OTEL_EXPORTER_OTLP_ENDPOINT".to_owned()),
        };
        Ok(Self { otlp: builder.build()?, collector, lost: AtomicU64::new(0) })
    }

    /// Logs the first loss at `warn` and further ones at `debug`, and that the collector takes
    /// spans again.
    fn note(&self, spans: u64, sent: &OTelSdkResult) {
        match sent {
            Ok(()) => {
                let lost = self.lost.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    tracing::info!(spans_lost = lost, "the collector takes spans again");
                }
            }
            Err(error) => {
                let is_first = self.lost.fetch_add(spans, Ordering::Relaxed) == 0;
                let error = with_causes(error);
                if is_first {
                    tracing::warn!(
                        collector = self.collector,
                        error,
                        "spans are lost until the collector takes them again"
                    );
                } else {
                    tracing::debug!(spans, error, "further spans are lost");
                }
            }
        }
    }
}

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let sent = self.otlp.export(batch).await;
        self.note(spans, &sent);
        // The SDK would log every failure again.
        Ok(())
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.otlp.set_resource(resource);
    }
}

/// hyper's client, run by the server's runtime whichever thread calls it.
#[derive(Debug)]
struct Client {
    http: HyperClient<HttpsConnector<HttpConnector>>,
    runtime: Handle,
}

#[tonic::async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let http = self.http.clone();
        self.runtime.spawn(async move { http.send_bytes(request).await }).await?
    }
}

/// Trusts the certificates of a PEM file, or those of the system. None at all are an error only
/// once TLS is spoken.
fn tls(certificate: Option<&Path>) -> Result<ClientConfig, ExportError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = certificate {
        let wrong = |source| ExportError::Certificate { path: path.display().to_string(), source };
        for certificate in CertificateDer::pem_file_iter(path).map_err(wrong)? {
            roots.add(certificate.map_err(wrong)?)?;
        }
    } else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    Ok(ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}
