//! Health for load balancers, and the metrics that Prometheus scrapes.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::serve::app::App;
use crate::serve::error::Error;

#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    /// `live` or `ready`.
    #[schema(pattern = "^(live|ready)$")]
    status: &'static str,
}

/// Whether the process runs
#[utoipa::path(get, path = "/health/live", tag = "health", operation_id = "live",
    responses((status = 200, description = "It runs", body = Health)))]
pub(super) async fn live() -> Json<Health> {
    Json(Health { status: "live" })
}

/// Whether to send requests here
#[utoipa::path(get, path = "/health/ready", tag = "health", operation_id = "ready",
    responses((status = 200, description = "The models are loaded and warm, and the server is not \
        shutting down", body = Health)))]
pub(super) async fn ready(State(app): State<Arc<App>>) -> Result<Json<Health>, Error> {
    app.is_ready()?;
    Ok(Json(Health { status: "ready" }))
}

/// What Prometheus scrapes
#[utoipa::path(get, path = "/metrics", tag = "health", operation_id = "metrics",
    responses((status = 200, description = "Prometheus \
        text", body = String, content_type = "text/plain")))]
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Result<Response, Error> {
    app.metrics.ready(app.is_ready().is_ok());
    app.metrics.cpu_oldest(app.cpu.oldest());
    let text = app.metrics.text().map_err(|error| Error::internal(&error))?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}
