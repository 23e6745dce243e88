//! One call, from its head to its last byte: counted, logged, its memory accounted for.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use tonic::Code;

use super::door::KeyName;
use super::status::status;
use crate::serve::app::App;
use crate::serve::error::{Error, ErrorKind};
use crate::serve::metrics::Served;
use crate::serve::trace::Call;
use crate::serve::transport::rpc::memory_limit::{MemoryLimitBody, Messages};
use crate::serve::transport::rpc::write_timeout::{ResponsePermits, WriteTimeoutBody};
use crate::serve::transport::rpc::zero_copy::ZeroCopyFields;

/// Who asks about health or services: not worth a log line each.
const QUIET: &[&str] = &[
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/List",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// Calls that there are, as `/package.Service/Method`.
const CALLS: &[&str] = include!(concat!(env!("OUT_DIR"), "/calls.rs"));

/// `stream`: whether it may have many messages.
pub(super) async fn around(app: Arc<App>, stream: bool, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let (mut head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let is_quiet = QUIET.contains(&path.as_str());
    // A caller may make up paths, before any door: labels, lines and names of spans may not grow with them.
    let known = CALLS.iter().find(|call| **call == path).copied();
    let route = known
        .or_else(|| QUIET.iter().find(|quiet| **quiet == path).copied())
        .unwrap_or("unmatched");
    // Who watches health does no work that the end of the server would wait for.
    let guest = (!is_quiet).then(|| app.lifecycle.begin_request());
    let id = head
        .headers
        .get("x-request-id")
        .and_then(|id| id.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let messages = Messages::default();
    head.extensions.insert(messages.clone());
    let body = Body::new(MemoryLimitBody::new(body, Arc::clone(&app), stream, messages));

    let call = match known {
        Some(path) => Call::grpc(app.traces.as_ref(), app.known(&head.headers), &id, path),
        None => Call::untraced(&id),
    };
    let mut response = call.around(next.run(Request::from_parts(head, body))).await;
    let code = code(&response);
    // Of calls that no service has, tonic says the number alone.
    if code == Code::Unimplemented && !response.headers().contains_key("grpc-message") {
        response =
            status(Error::new(ErrorKind::RouteNotFound, format!("nothing is served under {path}")))
                .into_http();
    }
    let took = started.elapsed();
    let name = name(code);
    app.metrics.served(&Served { route, method: "GRPC", code: name, took });
    let key = response.extensions().get::<KeyName>().map(|key| key.0.as_ref());
    call.grpc_answered(code, name);
    call.log(|| match is_quiet {
        true => tracing::debug!(route, status = name, ?took, key, "answered"),
        false => tracing::info!(route, status = name, ?took, key, "answered"),
    });
    let held = response.extensions_mut().remove::<ResponsePermits>().unwrap_or_default();
    let tail = response.extensions_mut().remove::<ZeroCopyFields>().unwrap_or_default();
    let timeout = app.config.write_timeout.0;
    response.map(|body| Body::new(WriteTimeoutBody::new(body, tail, (held, guest, call), timeout)))
}

/// An error stands in the head; what succeeds, or begins to, says so only in its trailers.
fn code(response: &Response) -> Code {
    response.headers().get("grpc-status").map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes()))
}

/// As the specification of gRPC writes it.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
