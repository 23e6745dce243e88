//! HTTP: every route in one list, and what is around all of them. Handlers translate; the work is the pipeline's.

mod accept;
pub(crate) mod add_body;
mod answer;
mod augment;
mod bodies;
pub(crate) mod body;
mod door;
mod drain_body;
mod encode;
mod health;
mod models;
mod openapi;
mod page;
mod parts;
mod problem;
mod read;
mod styles;
mod tensors;

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::{delete, get, post};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};

pub use openapi::openapi;

use crate::serve::app::App;
use crate::serve::metrics::Served;
use crate::serve::middleware::request_id;
use crate::serve::trace::{Call, HttpCall};

/// Where probes and scrapers go: not worth a log line each.
const QUIET: &[&str] =
    &["/health/live", "/health/ready", "/metrics", "/v2/health/live", "/v2/health/ready"];

/// What stands for a route in metrics and log when none fits.
const UNMATCHED: &str = "unmatched";

/// Every route of this API, and `further` ones; what is around them is around all.
pub fn router(app: Arc<App>, further: Router<Arc<App>>) -> Router {
    // What the examples of the API's description name.
    let files =
        openapi::FILES.into_iter().fold(Router::new(), |files, (path, media_type, bytes)| {
            files.route(
                path,
                get(move || async move { ([(header::CONTENT_TYPE, media_type)], bytes) }),
            )
        });
    let docs =
        Router::from(utoipa_swagger_ui::SwaggerUi::new("/docs").url("/openapi.json", openapi()));
    let docs = docs.layer(from_fn(problem::instead_of_text));
    let router = Router::new()
        .route("/v1/augment", post(augment::augment))
        .route("/v1/encode", post(encode::encode))
        .route("/v1/styles", get(styles::list).post(styles::add))
        .route("/v1/styles/{domain}", delete(styles::remove))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{name}", get(models::one))
        .route("/v1/models/{name}/load", post(models::load))
        .route("/v1/models/{name}/unload", post(models::unload))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/metrics", get(health::metrics))
        .route("/", get(page::page))
        .merge(files)
        .merge(docs)
        .fallback(problem::route_not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .merge(further)
        .layer(from_fn_with_state(Arc::clone(&app), door::guard));
    // Browsers ask beforehand, without a key.
    let router = match app.config.cors_origin.as_slice() {
        [] => router,
        origins => router.layer(door::cors(origins)),
    };
    router
        .layer(CatchPanicLayer::custom(problem::from_panic))
        .layer(PropagateRequestIdLayer::x_request_id())
        .layer(from_fn_with_state(Arc::clone(&app), observe))
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
        .layer(from_fn(request_id::sift))
        .layer(from_fn(drain_body::take))
        .with_state(app)
}

/// Whether the server is well, and nothing else: for probes that have neither keys nor certificates.
pub fn probes(app: Arc<App>) -> Router {
    Router::new()
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .fallback(problem::route_not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .with_state(app)
}

/// Counts and logs every request, whatever becomes of it.
async fn observe(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let _guest = app.lifecycle.guest();
    let started = Instant::now();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map(MatchedPath::as_str)
        .unwrap_or(UNMATCHED)
        .to_owned();
    let method = match request.method().as_str() {
        known @ ("GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "OPTIONS" | "PATCH") => {
            known.to_owned()
        }
        // A caller may make up methods; labels may not grow with them.
        _ => "other".to_owned(),
    };
    let id = request
        .headers()
        .get("x-request-id")
        .and_then(|id| id.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let call = match route.as_str() {
        quiet if QUIET.contains(&quiet) => Call::untraced(&id),
        route => {
            let route = Some(route).filter(|route| *route != UNMATCHED);
            let call = HttpCall {
                scheme: app.config.scheme(),
                method: &method,
                path: request.uri().path(),
                route,
            };
            Call::http(app.traces.as_ref(), app.known(request.headers()), &id, &call)
        }
    };
    let response = call.around(next.run(request)).await;
    call.http_answered(response.status());
    let (status, took) = (response.status(), started.elapsed());
    app.metrics.served(&Served { route: &route, method: &method, code: status.as_str(), took });
    let status = status.as_u16();
    let key = response.extensions().get::<door::KeyName>().map(|key| key.0.as_ref());
    call.log(|| match QUIET.contains(&route.as_str()) {
        true => tracing::debug!(method, route, status, ?took, key, "answered"),
        false => tracing::info!(method, route, status, ?took, key, "answered"),
    });
    response
}
