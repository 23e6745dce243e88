//! One request: its span, below its caller's, and its id, which is on every line of the log about
//! it.

use std::collections::HashMap;

use axum::http::{HeaderMap, StatusCode};
use opentelemetry::context::FutureExt;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{SpanBuilder, SpanKind, Status, TraceContextExt};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tonic::Code;
use tracing::Instrument;

use super::Traces;

/// Bytes of a path that a span keeps: what no route fits may be of any length.
const MAX_PATH: usize = 256;

/// Until dropped, or until the last part of the request that still runs is done.
pub(crate) struct Call {
    /// What its lines of the log stand under.
    log: tracing::Span,
    /// Nothing when it is not traced.
    context: Option<Context>,
}

/// What comes over HTTP.
pub(crate) struct HttpCall<'a> {
    /// `http` or `https`.
    pub scheme: &'static str,
    pub method: &'a str,
    pub path: &'a str,
    /// As the router has it; nothing when no route fits.
    pub route: Option<&'a str>,
}

impl Call {
    /// A request that leaves no trace: a probe's, or a scraper's.
    pub(crate) fn untraced(id: &str) -> Self {
        Self::with(id, None)
    }

    /// `caller`: the request's headers, if its trace continues.
    pub(crate) fn http(
        traces: Option<&Traces>,
        caller: Option<&HeaderMap>,
        id: &str,
        call: &HttpCall<'_>,
    ) -> Self {
        let Some(traces) = traces else { return Self::untraced(id) };
        let HttpCall { scheme, method, path, route } = *call;
        // By the conventions a method that is none is `_OTHER`, and `HTTP` where a name begins with
        // it.
        let (kept, named) = if method == "other" { ("_OTHER", "HTTP") } else { (method, method) };
        let name = route.map_or_else(|| named.to_owned(), |route| format!("{named} {route}"));
        let mut attributes = vec![
            KeyValue::new("http.request.method", kept.to_owned()),
            KeyValue::new("url.path", path[..path.floor_char_boundary(MAX_PATH)].to_owned()),
            KeyValue::new("url.scheme", scheme),
        ];
        attributes.extend(route.map(|route| KeyValue::new("http.route", route.to_owned())));
        Self::with(
            id,
            begin(traces, caller, id, SpanBuilder::from_name(name).with_attributes(attributes)),
        )
    }

    /// A call of gRPC; `path` is `/package.Service/Method`.
    pub(crate) fn grpc(
        traces: Option<&Traces>,
        caller: Option<&HeaderMap>,
        id: &str,
        path: &str,
    ) -> Self {
        let Some(traces) = traces else { return Self::untraced(id) };
        let name = path.trim_start_matches('/');
        let (service, method) = name.split_once('/').unwrap_or((name, ""));
        let attributes = [
            KeyValue::new("rpc.system", "grpc"),
            KeyValue::new("rpc.service", service.to_owned()),
            KeyValue::new("rpc.method", method.to_owned()),
        ];
        Self::with(
            id,
            begin(
                traces,
                caller,
                id,
                SpanBuilder::from_name(name.to_owned()).with_attributes(attributes),
            ),
        )
    }

    fn with(id: &str, context: Option<Context>) -> Self {
        // Of the highest level, so that no choice of what is logged takes the id away.
        let log =
            tracing::error_span!("request", request_id = id, trace_id = tracing::field::Empty);
        if let Some(context) = &context {
            log.record(
                "trace_id",
                tracing::field::display(context.span().span_context().trace_id()),
            );
        }
        Self { log, context }
    }

    /// Runs the work of the request in its trace and its log context.
    pub(crate) async fn run<T>(&self, work: impl Future<Output = T>) -> T {
        match &self.context {
            Some(context) => work.with_context(context.clone()).instrument(self.log.clone()).await,
            None => work.instrument(self.log.clone()).await,
        }
    }

    /// Logs under the request.
    pub(crate) fn log(&self, line: impl FnOnce()) {
        self.log.in_scope(line);
    }

    /// By the conventions, what the caller did wrong is no error of the server's.
    pub(crate) fn http_answered(&self, status: StatusCode) {
        let Some(context) = &self.context else { return };
        let span = context.span();
        span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status.as_u16())));
        if status.is_server_error() {
            span.set_attribute(KeyValue::new("error.type", status.as_str().to_owned()));
            span.set_status(Status::error(""));
        }
    }

    /// `name` is the code's.
    pub(crate) fn grpc_answered(&self, code: Code, name: &'static str) {
        let Some(context) = &self.context else { return };
        let span = context.span();
        span.set_attribute(KeyValue::new("rpc.grpc.status_code", i64::from(code as i32)));
        if is_servers(code) {
            span.set_attribute(KeyValue::new("error.type", name));
            span.set_status(Status::error(""));
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(context) = &self.context {
            context.span().end();
        }
    }
}

/// Whether a code is an error of the server's, by the conventions.
fn is_servers(code: Code) -> bool {
    use Code::{DataLoss, DeadlineExceeded, Internal, Unavailable, Unimplemented, Unknown};
    matches!(code, Unknown | DeadlineExceeded | Unimplemented | Internal | Unavailable | DataLoss)
}

/// The span of a request, below that of its caller, with the tracer for the spans below it; nothing
/// when it is not sampled.
fn begin(
    traces: &Traces,
    caller: Option<&HeaderMap>,
    id: &str,
    span: SpanBuilder,
) -> Option<Context> {
    let carried = caller.map(carried).unwrap_or_default();
    let caller = TraceContextPropagator::new().extract_with_context(&Context::new(), &carried);
    let span = span.with_kind(SpanKind::Server).start_with_context(&traces.tracer, &caller);
    let context = caller.with_span(span);
    context.span().set_attribute(KeyValue::new("restain.request_id", id.to_owned()));
    let is_sampled = context.span().span_context().is_sampled();
    is_sampled.then(|| context.with_value(traces.tracer.clone()))
}

/// The caller's context, as W3C Trace Context writes it: one `traceparent`, and any number of
/// `tracestate`, which are one list.
fn carried(headers: &HeaderMap) -> HashMap<String, String> {
    let all = |name: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok().map(str::to_owned))
            .collect::<Vec<_>>()
    };
    let mut carried = HashMap::new();
    if let [parent] = &all("traceparent")[..] {
        carried.insert("traceparent".to_owned(), parent.clone());
        carried.insert("tracestate".to_owned(), all("tracestate").join(","));
    }
    carried
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn of_two_parents_neither_is_taken_and_states_are_one_list() {
        let mut headers = HeaderMap::new();
        headers.append("traceparent", PARENT.parse().unwrap());
        headers.append("tracestate", "a=1".parse().unwrap());
        headers.append("tracestate", "b=2".parse().unwrap());
        assert_eq!(carried(&headers)["tracestate"], "a=1,b=2");
        headers.append("traceparent", PARENT.parse().unwrap());
        assert!(carried(&headers).is_empty());
    }
}
