//! The frame of a request: what happens around every handler, over HTTP and gRPC alike.
//!
//! A transport declares its `route::Route`s and puts its router into a `Frame`, which adds
//! tower layers. From the outside in: the request id is validated or made (`request_id`), the
//! request is counted, timed, traced and logged (`observe`), a panic becomes an `internal` error,
//! and origin, key and scope are checked (`access`). A transport adds layers of its own between
//! these, such as CORS. What is written of an answer's body is not decided here.

pub(crate) mod access;
pub(crate) mod guarded_body;
mod observe;
mod origin;
pub mod permit_body;
mod request_id;
pub(crate) mod route;

use std::any::Any;
use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::MatchedPath;
use axum::extract::Request;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::Response;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};

use crate::serve::app::App;
use crate::serve::error::Error;
use route::{Route, RouteTable};

/// The protocol that a request came by: how its path names a route, and how its answer says what
/// became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Http,
    Grpc,
}

/// What the layers need to know of their transport.
#[derive(Clone)]
pub(crate) struct Frame {
    pub app: Arc<App>,
    pub routes: Arc<RouteTable>,
    pub wire: Wire,
    /// Writes an error as this transport's response.
    pub refuse: fn(Error) -> Response,
}

/// The address that a request came from, among its extensions.
#[derive(Clone, Copy)]
pub(crate) struct Peer(pub IpAddr);

/// The route of a request, among its extensions; `None` when the transport declares none that fits.
#[derive(Clone)]
pub(crate) struct Matched(pub Option<Arc<Route>>);

impl Frame {
    /// Adds the check of origin, key and scope. Nothing of a body is read before it.
    pub(crate) fn check_access<S>(&self, router: Router<S>) -> Router<S>
    where
        S: Clone + Send + Sync + 'static,
    {
        router.layer(from_fn_with_state(self.clone(), access::check_access))
    }

    /// Adds request ids, metrics, traces, log lines, the count of requests in flight, and the end
    /// of a panic.
    pub(crate) fn observe<S>(&self, router: Router<S>) -> Router<S>
    where
        S: Clone + Send + Sync + 'static,
    {
        let refuse = self.refuse;
        let on_panic = move |_: Box<dyn Any + Send>| refuse(Error::panicked());
        router
            .layer(CatchPanicLayer::custom(on_panic))
            .layer(PropagateRequestIdLayer::x_request_id())
            .layer(from_fn_with_state(self.clone(), observe::observe))
            .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
            .layer(from_fn(request_id::validate_request_id))
    }

    fn route_of(&self, request: &Request) -> Option<Arc<Route>> {
        let path = match self.wire {
            Wire::Http => request.extensions().get::<MatchedPath>()?.as_str(),
            Wire::Grpc => request.uri().path(),
        };
        self.routes.find(request.method(), path).cloned()
    }
}
