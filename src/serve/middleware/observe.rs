//! The layer that counts, times, traces and logs a request, and counts it as in flight until the
//! last byte of its answer.

use std::time::Instant;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::access::KeyName;
use super::guarded_body::GuardedBody;
use super::route::{Observed, Route, UNMATCHED};
use super::{Frame, Matched, Wire};
use crate::serve::error::ErrorKind;
use crate::serve::metrics::Served;
use crate::serve::trace::{Call, HttpCall};

/// The status of an answer, as its wire writes it.
enum Outcome {
    Http(StatusCode),
    Grpc(Code),
}

pub(super) async fn observe(
    State(frame): State<Frame>,
    mut request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let route = frame.route_of(&request);
    let is_quiet = route.as_ref().is_some_and(|route| route.rules.observed == Observed::Quietly);
    let method = method_label(frame.wire, request.method());
    // A watcher of health does no work that a stopping server would have to wait for.
    let in_flight = (!is_quiet).then(|| frame.app.lifecycle.begin_request());
    let call = start_call(&frame, &request, route.as_deref().filter(|_| !is_quiet), is_quiet);
    request.extensions_mut().insert(Matched(route.clone()));

    let response = call.run(next.run(request)).await;

    let outcome = Outcome::of(frame.wire, &response);
    match outcome {
        Outcome::Http(status) => call.http_answered(status),
        Outcome::Grpc(code) => call.grpc_answered(code, grpc_name(code)),
    }
    let took = started.elapsed();
    let (status, error) = (outcome.label(), error_kind(&response));
    let path = route.as_ref().map_or(UNMATCHED, |route| &route.path);
    frame.app.metrics.served(&Served { route: path, method, code: status, took });
    let key = response.extensions().get::<KeyName>().map(|key| key.0.as_ref());
    let code = error.map(|kind| kind.row().code);
    call.log(|| match is_quiet {
        true => tracing::debug!(method, route = path, status, code, ?took, key, "answered"),
        false => tracing::info!(method, route = path, status, code, ?took, key, "answered"),
    });
    debug_assert!(
        is_declared(frame.wire, route.as_deref(), error),
        "{path} gives {code:?}, which its declaration leaves out"
    );
    response.map(|body| Body::new(GuardedBody::new(body, (in_flight, call))))
}

/// Opens the request's span and its log context; probes leave no trace.
fn start_call(frame: &Frame, request: &Request, route: Option<&Route>, is_quiet: bool) -> Call {
    let (headers, app) = (request.headers(), &frame.app);
    let id = headers.get("x-request-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
    let path = route.map(|route| route.path.as_ref());
    match (frame.wire, path) {
        _ if is_quiet => Call::untraced(id),
        (Wire::Http, route) => {
            let method = method_label(frame.wire, request.method());
            let path = request.uri().path();
            let call = HttpCall { scheme: app.config.scheme(), method, path, route };
            Call::http(app.traces.as_ref(), app.known(headers), id, &call)
        }
        (Wire::Grpc, Some(path)) => Call::grpc(app.traces.as_ref(), app.known(headers), id, path),
        // Callers make up paths; names of spans must not grow with them.
        (Wire::Grpc, None) => Call::untraced(id),
    }
}

/// The value of the label `method`. Callers may make up methods, so the set is fixed.
fn method_label(wire: Wire, method: &Method) -> &'static str {
    if wire == Wire::Grpc {
        return "GRPC";
    }
    let known = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"];
    known.into_iter().find(|known| method == known).unwrap_or("other")
}

impl Outcome {
    fn of(wire: Wire, response: &Response) -> Self {
        match wire {
            Wire::Http => Self::Http(response.status()),
            // An error is in the head; a success, or the start of one, has its status in the
            // trailers alone.
            Wire::Grpc => Self::Grpc(
                response
                    .headers()
                    .get("grpc-status")
                    .map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes())),
            ),
        }
    }

    fn label(&self) -> &str {
        match self {
            Self::Http(status) => status.as_str(),
            Self::Grpc(code) => grpc_name(*code),
        }
    }
}

/// The kind of error that a response carries: over HTTP among its extensions, over gRPC in its
/// standard details.
fn error_kind(response: &Response) -> Option<ErrorKind> {
    let extension = response.extensions().get::<ErrorKind>().copied();
    extension.or_else(|| {
        let status = Status::from_header_map(response.headers())?;
        let reason = status.get_details_error_info()?.reason;
        ErrorKind::ALL.iter().copied().find(|kind| kind.row().code == reason)
    })
}

/// Whether a route may give this error. Every route may fail and refuse heads that say a thing
/// twice, every path has methods that it does not serve, and over gRPC every call refuses pages.
fn is_declared(wire: Wire, route: Option<&Route>, error: Option<ErrorKind>) -> bool {
    use ErrorKind as Kind;
    let (Some(route), Some(kind)) = (route, error) else { return true };
    let of_pages = matches!(kind, Kind::UnsupportedMediaType | Kind::OriginForbidden);
    matches!(kind, Kind::Internal | Kind::MethodNotAllowed | Kind::MalformedRequest)
        || (wire == Wire::Grpc && of_pages)
        || route.can_give(kind)
}

/// As the specification of gRPC writes it.
fn grpc_name(code: Code) -> &'static str {
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
