//! OTLP over HTTP: spans as protobuf, one POST for many of them. Nothing is tried again: a collector that is away costs
//! spans, and never memory or a request's time.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use prost::Message;
use tokio::net::TcpStream;
use tokio::runtime::Handle;

use super::collector::Collector;
use crate::serve::error::with_causes;

/// Longest time for one POST.
const LONGEST: Duration = Duration::from_secs(5);
/// Largest answer that is read.
const MAX_ANSWER: usize = 64 << 10;

/// Called by a thread of the SDK's own, one batch after the other; the sending is the runtime's.
#[derive(Debug)]
pub(super) struct Exporter {
    collector: Collector,
    runtime: Handle,
    resource: ResourceAttributesWithSchema,
    /// Spans lost since the collector last took any.
    lost: AtomicU64,
}

#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error("it cannot be reached: {0}")]
    Unreachable(#[from] io::Error),
    #[error("the connection broke: {0}")]
    Broken(#[from] hyper::Error),
    #[error("it answers {0}")]
    Refused(StatusCode),
    #[error("it answers with more than a few words, or none: {0}")]
    Unread(Box<dyn std::error::Error + Send + Sync>),
    #[error("it does not take them in {} s", LONGEST.as_secs())]
    Late(#[from] tokio::time::error::Elapsed),
    #[error("the server has ended")]
    Ended(#[from] tokio::task::JoinError),
}

impl Exporter {
    /// Within a runtime.
    pub(super) fn to(collector: Collector) -> Self {
        Self {
            collector,
            runtime: Handle::current(),
            resource: ResourceAttributesWithSchema::default(),
            lost: AtomicU64::new(0),
        }
    }

    async fn send(&self, body: Vec<u8>) -> Result<u64, SendError> {
        let collector = self.collector.clone();
        self.runtime
            .spawn(async move { tokio::time::timeout(LONGEST, post(&collector, body)).await })
            .await??
    }

    /// Says once that spans are lost, and once that they are not any more: every two seconds would help nobody.
    fn note(&self, spans: u64, sent: Result<u64, SendError>) {
        match sent {
            Ok(refused) => {
                let lost = self.lost.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    tracing::info!(spans_lost = lost, "the collector takes spans again");
                }
                if refused > 0 {
                    tracing::warn!(
                        spans = refused,
                        "the collector took some spans and refused others"
                    );
                }
            }
            Err(error) => {
                let (is_first, error) =
                    (self.lost.fetch_add(spans, Ordering::Relaxed) == 0, with_causes(&error));
                if is_first {
                    tracing::warn!(collector = %self.collector, error, "spans are lost until the collector takes them again");
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
        let request = ExportTraceServiceRequest {
            resource_spans: group_spans_by_resource_and_scope(batch, &self.resource),
        };
        let sent = self.send(request.encode_to_vec()).await;
        self.note(spans, sent);
        // What there is to say is said; the SDK would say it every time.
        Ok(())
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.resource = resource.into();
    }
}

/// Sends one message on a connection of its own, and tells how many of its spans were refused.
async fn post(collector: &Collector, body: Vec<u8>) -> Result<u64, SendError> {
    let Collector { host, port, path } = collector;
    let stream = TcpStream::connect((host.trim_matches(['[', ']']), *port)).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // How it ended is told to whoever waits for the answer.
    tokio::spawn(connection);
    let request = Request::post(path)
        .header(HOST, format!("{host}:{port}"))
        .header(CONTENT_TYPE, "application/x-protobuf");
    let request = request.body(Full::new(Bytes::from(body))).expect("the path was read from a URL");
    let (head, answer) = sender.send_request(request).await?.into_parts();
    if !head.status.is_success() {
        return Err(SendError::Refused(head.status));
    }
    let answer =
        Limited::new(answer, MAX_ANSWER).collect().await.map_err(SendError::Unread)?.to_bytes();
    let answer = ExportTraceServiceResponse::decode(answer).unwrap_or_default();
    Ok(answer.partial_success.map_or(0, |partly| partly.rejected_spans.try_into().unwrap_or(0)))
}
