//! A collector as small as can be: takes OTLP over HTTP and keeps the spans.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

type Taken = Arc<Mutex<Vec<ExportTraceServiceRequest>>>;

pub(super) struct Collector {
    pub url: String,
    taken: Taken,
    /// Serves until dropped.
    _runtime: Runtime,
}

impl Collector {
    pub(super) fn start() -> Self {
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let taken = Taken::default();
        let router = Router::new().route("/v1/traces", post(take)).with_state(Arc::clone(&taken));
        runtime.spawn(async move { axum::serve(listener, router).await.unwrap() });
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
            .flat_map(|taken| &taken.resource_spans)
            .flat_map(|resource| &resource.scope_spans);
        let mut spans: Vec<Span> = scopes.flat_map(|scope| scope.spans.clone()).collect();
        spans.sort_by_key(|span| span.start_time_unix_nano);
        spans
    }

    /// What says whose spans these are.
    pub(super) fn resource(&self) -> Vec<(String, String)> {
        let taken = self.taken.lock().unwrap();
        let resource = taken[0].resource_spans[0].resource.as_ref().unwrap();
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

async fn take(State(taken): State<Taken>, body: Bytes) {
    taken.lock().unwrap().push(ExportTraceServiceRequest::decode(body).unwrap());
}
