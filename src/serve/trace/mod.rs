//! Traces, as OpenTelemetry has them: which stages a request went through and how long each took,
//! exported to a collector.
//!
//! The frame of a request opens its span ([`Call`]), below that of its caller, and runs the request
//! in it. The modules below open spans for their stages ([`stage`]) and know nothing of where these
//! go: the span around them, and with it the tracer, is OpenTelemetry's current context. Without a
//! collector, and in a request that is not sampled, there is no tracer in it, and a stage is its
//! work and nothing else.
//!
//! A span holds names, sizes and codes, never what was sent nor who sent it: no keys, no queries,
//! no error messages.

mod call;
mod collector;
mod export;

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use opentelemetry::context::FutureExt;
use opentelemetry::trace::{
    Link, Span, SpanBuilder, SpanContext, Status, TraceContextExt, Tracer, TracerProvider,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::EnvResourceDetector;
use opentelemetry_sdk::trace::{BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider};
use tracing::Instrument;

pub(super) use call::{Call, HttpCall};
pub(crate) use collector::Collector;

use super::error::Error;
pub(crate) use export::ExportError;
use export::Exporter;

/// Where and how traces are exported.
#[derive(Clone, Debug)]
pub(crate) struct Export {
    /// None for the endpoint that the environment names.
    pub collector: Option<Collector>,
    /// Longest time for one batch, retries included.
    pub timeout: Duration,
    /// A PEM file of the certificates to trust, in place of the system's.
    pub certificate: Option<PathBuf>,
    /// In place of `restain`, and of what OTEL_RESOURCE_ATTRIBUTES says.
    pub service_name: Option<String>,
    /// Of the requests that begin a trace, the share that is sampled, 0 to 1.
    pub share: f64,
}

/// Where spans go. A clone is the same.
#[derive(Clone)]
pub(crate) struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Traces {
    /// Exports the spans of requests whose caller's trace is sampled, and of a share of those that
    /// begin one. Within a runtime, which does the sending. Queue, batch and attributes are those
    /// of the `OTEL_BSP_…` and `OTEL_RESOURCE_ATTRIBUTES` variables.
    ///
    /// # Errors
    /// When a setting is wrong.
    pub(crate) fn open(export: &Export) -> Result<Self, ExportError> {
        let resource = Resource::builder_empty()
            .with_service_name(env!("CARGO_PKG_NAME"))
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_detector(Box::new(EnvResourceDetector::new()));
        let resource = match &export.service_name {
            Some(name) => resource.with_service_name(name.clone()).build(),
            None => resource.build(),
        };
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(export.share)));
        let provider = SdkTracerProvider::builder()
            .with_span_processor(BatchSpanProcessor::builder(Exporter::open(export)?).build())
            .with_sampler(sampler)
            .with_resource(resource)
            .build();
        Ok(Self { tracer: provider.tracer(env!("CARGO_PKG_NAME")), provider })
    }

    /// Exports the spans that are left, and waits for that until `deadline`.
    pub(crate) async fn end(&self, deadline: Instant) {
        let provider = self.provider.clone();
        let end = move || {
            provider.shutdown_with_timeout(deadline.saturating_duration_since(Instant::now()))
        };
        match tokio::task::spawn_blocking(end).await {
            Ok(Ok(())) => {}
            // The SDK has logged it.
            Ok(Err(error)) => tracing::debug!(%error, "the last spans did not reach the collector"),
            Err(panicked) => tracing::error!(error = %panicked, "the last spans were not exported"),
        }
    }
}

/// Does `work` as a part of the request under way, which is a span of its own. An error marks it.
///
/// # Errors
/// Those of the work.
pub(super) async fn stage<T>(
    name: &'static str,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let Some((around, tracer)) = current() else { return work.await };
    let part = Part(around.with_span(tracer.start_with_context(name, &around)));
    let done = work.with_context(part.0.clone()).await;
    let span = part.0.span();
    if let Err(error) = &done {
        let code = error.kind.row().code;
        span.set_attribute(KeyValue::new("error.type", code));
        span.set_status(Status::error(code));
    }
    done
}

/// Ends when it is dropped, as when a caller leaves: others may hold its context for longer.
struct Part(Context);

impl Drop for Part {
    fn drop(&mut self) {
        self.0.span().end();
    }
}

/// Says more of the part under way.
pub(super) fn note(name: &'static str, value: impl Into<Value>) {
    Context::map_current(|now| {
        if now.has_active_span() {
            now.span().set_attribute(KeyValue::new(name, value));
        }
    });
}

/// The part under way waited, and does so no longer.
pub(super) fn waited(since: Instant, waited: Duration) {
    let Some((around, tracer)) = current() else { return };
    let span = SpanBuilder::from_name("queue").with_start_time(wall(since));
    span.start_with_context(&tracer, &around).end_with_timestamp(wall(since + waited));
}

/// The part under way was done in these runs.
pub(super) fn done_in(runs: Vec<RunSpan>) {
    let Some((around, _)) = current() else { return };
    let mut seen = Vec::new();
    for RunSpan(run) in runs {
        if !seen.contains(&run.span_id()) {
            seen.push(run.span_id());
            around.span().add_link(run, Vec::new());
        }
    }
}

/// A task of its own that belongs to the request under way, in its trace and in the log.
pub(super) fn within<Work: Future>(work: Work) -> impl Future<Output = Work::Output> {
    work.with_context(Context::current()).instrument(tracing::Span::current())
}

/// The part of a request that waits for others to do its work, kept beside that work.
#[derive(Clone, Debug)]
pub(super) struct Asker(Context);

impl Asker {
    /// The part under way; nothing when it is not traced.
    pub(super) fn now() -> Option<Self> {
        current().map(|(now, _)| Self(now))
    }
}

/// What names the span of a run elsewhere.
#[derive(Clone, Debug)]
pub struct RunSpan(SpanContext);

/// One run of an encoder.
pub(super) struct Run {
    pub started: Instant,
    pub took: Duration,
    pub tiles: usize,
    /// Tiles and padding.
    pub size: usize,
    pub failed: bool,
}

impl Run {
    /// Records a span of the run, linked to the requests that it was for. It belongs to the trace
    /// of the first of them: a trace of its own would be sampled or not by chance, independently of
    /// theirs.
    pub(super) fn record<'a>(&self, askers: impl Iterator<Item = &'a Asker>) -> Option<RunSpan> {
        let mut all: Vec<&Context> = Vec::new();
        for Asker(asker) in askers {
            if !all.iter().any(|seen| seen.span().span_context() == asker.span().span_context()) {
                all.push(asker);
            }
        }
        let first = all.first()?;
        let tracer = first.get::<SdkTracer>()?;
        let number = |tiles: usize| Value::I64(i64::try_from(tiles).unwrap_or(i64::MAX));
        let builder = SpanBuilder::from_name("batch")
            .with_start_time(wall(self.started))
            .with_attributes([
                KeyValue::new("restain.batch.tiles", number(self.tiles)),
                KeyValue::new("restain.batch.size", number(self.size)),
            ])
            .with_links(
                all.iter()
                    .map(|asker| Link::with_context(asker.span().span_context().clone()))
                    .collect(),
            );
        let mut span = builder.start_with_context(tracer, first);
        if self.failed {
            span.set_status(Status::error("internal"));
        }
        span.end_with_timestamp(wall(self.started + self.took));
        Some(RunSpan(span.span_context().clone()))
    }
}

/// The context of a request that is traced.
fn current() -> Option<(Context, SdkTracer)> {
    Context::map_current(|now| now.get::<SdkTracer>().map(|tracer| (now.clone(), tracer.clone())))
}

/// Converts a moment to wall-clock time, which spans carry.
fn wall(moment: Instant) -> SystemTime {
    let (now, wall) = (Instant::now(), SystemTime::now());
    if moment > now { wall + (moment - now) } else { wall - (now - moment) }
}
