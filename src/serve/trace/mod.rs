//! Traces, as OpenTelemetry has them: which parts a request went through and how long each took, told to a collector.
//!
//! `http` and `rpc` open the span of a request ([`Call`]), below that of its caller, and run the request in it. The floors
//! under them open spans for their parts ([`stage`]) and know nothing of where these go: the span around them, and with it
//! the tracer, is OpenTelemetry's current context. Without a collector, and in a request that is not sampled, there is no
//! tracer to be found, and a stage is its work and nothing else.
//!
//! A span holds names, sizes and codes, never what was sent nor who sent it: no keys, no queries, no sentences of errors.

mod call;
mod collector;
mod export;

use std::time::{Duration, Instant, SystemTime};

use opentelemetry::context::FutureExt;
use opentelemetry::trace::{
    Link, Span, SpanBuilder, SpanContext, Status, TraceContextExt, Tracer, TracerProvider,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider, SpanLimits,
};
use tracing::Instrument;

pub(super) use call::{Call, HttpCall};
pub(super) use collector::Collector;

use super::error::Error;
use export::Exporter;

/// Spans that wait for the collector; what comes beyond is dropped, and counted.
const MAX_WAITING: usize = 4096;
/// Spans told at once.
const MAX_BATCH: usize = 512;
/// How often the collector is told.
const EVERY: Duration = Duration::from_secs(2);

/// Where spans go. A clone is the same.
#[derive(Clone)]
pub(crate) struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Traces {
    /// Spans to `collector`: of requests whose caller's trace is sampled, and of `share` of those that begin one. Within a
    /// runtime, which does the sending.
    pub(crate) fn to(collector: &Collector, share: f64) -> Self {
        // All that could be read from the environment is said here: it is not for others to configure this server.
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(MAX_WAITING)
            .with_max_export_batch_size(MAX_BATCH);
        let config = config.with_scheduled_delay(EVERY).build();
        let resource = Resource::builder_empty().with_service_name(env!("CARGO_PKG_NAME"));
        let resource = resource
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(
                BatchSpanProcessor::builder(Exporter::to(collector.clone()))
                    .with_batch_config(config)
                    .build(),
            )
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(share))))
            .with_span_limits(SpanLimits::default())
            .with_resource(resource)
            .build();
        Self { tracer: provider.tracer(env!("CARGO_PKG_NAME")), provider }
    }

    /// Tells the collector what it has not been told, and waits for that until `deadline`.
    pub(crate) async fn end(&self, deadline: Instant) {
        let provider = self.provider.clone();
        let end = move || {
            provider.shutdown_with_timeout(deadline.saturating_duration_since(Instant::now()))
        };
        match tokio::task::spawn_blocking(end).await {
            Ok(Ok(())) => {}
            // The SDK has said so.
            Ok(Err(error)) => tracing::debug!(%error, "the last spans did not reach the collector"),
            Err(panicked) => tracing::error!(error = %panicked, "the last spans were not told"),
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
    /// A span of the run, which says by links whom it was for. It belongs to the trace of the first of them: a trace of its
    /// own would be kept or not by chance, whatever becomes of theirs.
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

/// A moment by the clock on the wall, which spans are told in.
fn wall(moment: Instant) -> SystemTime {
    let (now, wall) = (Instant::now(), SystemTime::now());
    if moment > now { wall + (moment - now) } else { wall - (now - moment) }
}
