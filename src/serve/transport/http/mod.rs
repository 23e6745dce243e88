//! HTTP: this API's routes in the frame that all requests pass through. Handlers parse requests and
//! write answers; the work is the pipeline's.

mod accept;
pub(crate) mod add_body;
mod answer;
mod augment;
mod bodies;
pub(crate) mod body;
mod cors;
mod drain_body;
mod encode;
mod health;
mod listing;
mod models;
mod openapi;
mod page;
mod parts;
mod problem;
mod read;
mod routes;
mod slides;
mod styles;
mod tensors;
mod texts;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn;
use axum::response::IntoResponse;

pub use openapi::openapi;

use crate::serve::app::App;
use crate::serve::middleware::route::{RouteTable, Routes};
use crate::serve::middleware::{Frame, Wire};

/// Every route of this API, and `further` ones, in one frame.
pub(crate) fn router(app: Arc<App>, further: Routes) -> Router {
    let docs =
        Router::from(utoipa_swagger_ui::SwaggerUi::new("/docs").url("/openapi.json", openapi()));
    let docs = docs.layer(from_fn(problem::instead_of_text)).layer(from_fn(page::of_docs));
    let Routes { router, declared } = routes::operations().merge(routes::pages());
    let router = router
        .merge(docs)
        .fallback(problem::route_not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .merge(further.router);
    let documents = routes::DOCS.map(routes::page_at);
    let declared = declared.into_iter().chain(further.declared).chain(documents);
    let frame = Frame {
        app: Arc::clone(&app),
        routes: Arc::new(RouteTable::new(declared)),
        wire: Wire::Http,
        refuse: IntoResponse::into_response,
    };
    let router = frame.check_access(router);
    // Browsers send preflights without a key.
    let router = match app.config.cors_origin.as_slice() {
        [] => router,
        origins => router.layer(cors::cors(origins)),
    };
    frame.observe(router).layer(from_fn(drain_body::take)).with_state(app)
}

/// Whether the server is well, and nothing else: for probes that have neither keys nor
/// certificates.
pub(crate) fn probes(app: Arc<App>) -> Router {
    routes::probes()
        .router
        .fallback(problem::route_not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .with_state(app)
}
