//! The frame of every gRPC service: memory is granted before a message is gathered, answers that
//! are not read are dropped, errors become statuses, and health and reflection are served. The
//! services themselves are transports (`grpc`, `oip`); what they share is here, because transports
//! do not import each other.

mod codec;
mod deadline;
mod health;
mod memory_limit;
mod status;
mod stream;
mod write_timeout;
mod zero_copy;

use std::borrow::Cow;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use tonic::service::Routes;

pub(crate) use codec::BoundedCodec;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) use codec::check as check_message;
pub(crate) use deadline::timeout_ms;
pub(crate) use memory_limit::{Message, Messages};
pub(crate) use status::status;
pub(crate) use stream::{Calls, answers};
pub(crate) use write_timeout::ResponsePermits;
pub(crate) use zero_copy::ZeroCopyFields;

use crate::serve::access::Scope;
use crate::serve::app::App;
use crate::serve::error::{Error, ErrorKind};
use crate::serve::middleware::route::{Observed, Permission, Route, RouteTable, Rules};
use crate::serve::middleware::{Frame, Matched, Wire};
use crate::serve::transport::errors::MESSAGE;

/// Every file of `proto/`, for reflection.
const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Every call of `proto/` as `/package.Service/Method`, and whether its client streams.
const CALLS: &[(&str, bool)] = include!(concat!(env!("OUT_DIR"), "/calls.rs"));

/// The calls that are not of `proto/`: open probes, and reflection.
const STANDARD_CALLS: &[Route] = &[
    call("/grpc.health.v1.Health/Check", Permission::Public, Observed::Quietly, &[MESSAGE]),
    call("/grpc.health.v1.Health/List", Permission::Public, Observed::Quietly, &[MESSAGE]),
    call("/grpc.health.v1.Health/Watch", Permission::Public, Observed::Quietly, &[MESSAGE]),
    call(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        Permission::Needs(Scope::Augment),
        Observed::Quietly,
        &[MESSAGE],
    ),
    call(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        Permission::Needs(Scope::Augment),
        Observed::Quietly,
        &[MESSAGE],
    ),
];

/// The services of the transports.
#[derive(Default)]
pub(crate) struct GrpcServices {
    pub routes: Routes,
    /// Their names as `package.Service`, under which health is served.
    pub names: Vec<&'static str>,
    pub calls: Vec<Route>,
}

/// Declares a call, `/package.Service/Method`.
pub(crate) const fn call(
    path: &'static str,
    permission: Permission,
    observed: Observed,
    errors: &'static [&'static [ErrorKind]],
) -> Route {
    let rules = Rules { permission, observed, errors };
    Route { method: Method::POST, path: Cow::Borrowed(path), rules }
}

/// A router of `services`, health and reflection. The task that publishes health ends with the
/// server.
///
/// # Panics
/// When a call of `proto/` has no declaration.
pub(crate) fn router(app: Arc<App>, services: GrpcServices) -> Router {
    let GrpcServices { routes, names, calls } = services;
    let table = RouteTable::new(calls.into_iter().chain(STANDARD_CALLS.iter().cloned()));
    for (path, _) in CALLS {
        assert!(table.find(&Method::POST, path).is_some(), "{path} is not declared");
    }
    let frame = Frame {
        app: Arc::clone(&app),
        routes: Arc::new(table),
        wire: Wire::Grpc,
        refuse: |error| status(error).into_http(),
    };
    let reflection = || {
        let all = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS);
        all.register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let built = "the descriptors come from the build of this very program";
    let router = routes
        .add_service(health::service(&app, names))
        .add_service(reflection().build_v1().expect(built))
        // For clients as old as grpcurl's.
        .add_service(reflection().build_v1alpha().expect(built))
        .into_axum_router()
        .layer(from_fn_with_state(Arc::clone(&app), memory_limit::limit_memory))
        .layer(from_fn(refuse_unknown));
    let router = frame.check_access(router).layer(from_fn(refuse_pages));
    frame.observe(router).layer(from_fn_with_state(app, write_timeout::limit_write_time))
}

/// Refuses what a page in a browser can send. A page of any origin may POST to this port without a
/// preflight as long as it names no content type of its own, and tonic reads no content type.
async fn refuse_pages(request: Request, next: Next) -> Response {
    let headers = request.headers();
    if headers.contains_key(header::ORIGIN) {
        let detail = "the request has an Origin, and pages of no origin may call this port";
        return status(Error::new(ErrorKind::OriginForbidden, detail)).into_http();
    }
    let given = headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let is_grpc = given
        .strip_prefix(b"application/grpc")
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')));
    if is_grpc {
        return next.run(request).await;
    }
    let given = String::from_utf8_lossy(given);
    let detail = format!("Content-Type is `{given}`, and this port takes application/grpc");
    let mut refused = status(Error::new(ErrorKind::UnsupportedMediaType, detail)).into_http();
    // As the protocol asks: a client that sends something else may not read a gRPC status.
    *refused.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    refused
}

/// tonic answers calls that no service has with a status alone; this adds the code and the
/// sentence.
async fn refuse_unknown(request: Request, next: Next) -> Response {
    let is_known = request.extensions().get::<Matched>().is_some_and(|matched| matched.0.is_some());
    if is_known {
        return next.run(request).await;
    }
    let detail = format!("nothing is served under {}", request.uri().path());
    status(Error::new(ErrorKind::RouteNotFound, detail)).into_http()
}
