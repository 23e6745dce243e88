//! The door of gRPC: which call needs which scope. It stands before the services, so that no message is read of a call
//! that is not let in.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;

use super::status::status;
use crate::serve::access::Scope;
use crate::serve::app::App;

/// Whose key a call came with, for the log; an extension of its response.
#[derive(Clone)]
pub(super) struct KeyName(pub Arc<str>);

/// What a call is for. `None` is open: whether the server is well.
fn scope(path: &str) -> Option<Scope> {
    let call = path.rsplit('/').next().unwrap_or_default();
    match call {
        _ if path.starts_with("/grpc.health.") => None,
        "ServerLive" | "ServerReady" => None,
        "AddStyles" => Some(Scope::Styles),
        "RepositoryModelLoad" | "RepositoryModelUnload" => Some(Scope::Models),
        "ModelStatistics" => Some(Scope::Metrics),
        _ => Some(Scope::Augment),
    }
}

pub(super) async fn guard(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(scope) = scope(request.uri().path()) else { return next.run(request).await };
    let authorization = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    let pass = match app.access.judge(authorization, scope).pass {
        Ok(pass) => pass,
        Err(error) => return status(error).into_http(),
    };
    let key = pass.name();
    request.extensions_mut().insert(pass.ticket());
    let mut response = next.run(request).await.map(|body| Body::new(pass.with(body)));
    if let Some(key) = key {
        response.extensions_mut().insert(KeyName(key));
    }
    response
}
