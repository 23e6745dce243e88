//! The routes that tell rather than work: styles, models, health, metrics.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State, rejection::QueryRejection};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::method::color::ChannelStats;
use crate::serve::app::App;
use crate::serve::error::{Error, ErrorKind};
use crate::serve::models::Model;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StylesQuery {
    /// NAME or NAME/VERSION; the default model when left out.
    model: Option<String>,
}

/// The style bank of one model.
#[derive(Serialize, ToSchema)]
pub struct Styles {
    model: String,
    version: String,
    domains: Vec<DomainStyles>,
}

#[derive(Serialize, ToSchema)]
struct DomainStyles {
    domain: String,
    styles: Vec<StyleInfo>,
}

#[derive(Serialize, ToSchema)]
struct StyleInfo {
    id: String,
    /// Per channel, of the tile that the style was taken from, pixels in 0..1.
    source_mean: [f32; 3],
    source_std: [f32; 3],
}

/// The style bank, by domain
#[utoipa::path(get, path = "/v1/styles", tag = "models", operation_id = "list_styles", params(StylesQuery),
    responses((status = 200, description = "The styles on offer", body = Styles)))]
pub async fn styles(State(app): State<Arc<App>>, query: Result<Query<StylesQuery>, QueryRejection>) -> Result<Json<Styles>, Error> {
    let Query(query) =
        query.map_err(|error| Error::new(ErrorKind::MalformedRequest, format!("the query string: {}", error.body_text())))?;
    let model = app.pipeline()?.models.find(query.model.as_deref())?;
    let bank = &model.bundle.styles;
    let domain = |(index, domain): (usize, &String)| {
        let of_domain = bank.entries.iter().filter(|entry| entry.domain == index);
        let info =
            |id: &str, &ChannelStats { mean, std }: &ChannelStats| StyleInfo { id: id.to_owned(), source_mean: mean, source_std: std };
        DomainStyles { domain: domain.clone(), styles: of_domain.map(|entry| info(&entry.id, &entry.source)).collect() }
    };
    let domains = bank.domains.iter().enumerate().map(domain).collect();
    Ok(Json(Styles { model: model.name().to_owned(), version: model.version().to_owned(), domains }))
}

/// The models that are served.
#[derive(Serialize, ToSchema)]
pub struct ModelList {
    models: Vec<ModelInfo>,
}

#[derive(Serialize, ToSchema)]
struct ModelInfo {
    name: String,
    version: String,
    /// Whether a request that names no model means this one.
    default: bool,
    /// `ready`: it takes work.
    state: &'static str,
    /// The bundle's digest.
    bundle: String,
    precision: String,
    provider: &'static str,
    #[schema(value_type = Object)]
    geometry: serde_json::Value,
    domains: Vec<String>,
    styles: usize,
    /// As the bundle has it: what was measured of this model.
    #[schema(value_type = Object)]
    quality: serde_json::Value,
}

/// The models, with their geometry, quality and state
#[utoipa::path(get, path = "/v1/models", tag = "models", operation_id = "list_models",
    responses((status = 200, description = "The models that are served", body = ModelList)))]
pub async fn models(State(app): State<Arc<App>>) -> Result<Json<ModelList>, Error> {
    let models = &app.pipeline()?.models;
    let default = models.default();
    let info = |model: &Arc<Model>| describe(model, default.is_some_and(|default| Arc::ptr_eq(default, model)));
    Ok(Json(ModelList { models: models.all().iter().map(info).collect() }))
}

fn describe(model: &Model, default: bool) -> ModelInfo {
    let manifest = &model.bundle.manifest;
    ModelInfo {
        name: manifest.name.clone(),
        version: manifest.version.clone(),
        default,
        state: "ready",
        bundle: model.bundle.digest.clone(),
        precision: model.precision.to_string(),
        provider: model.provider(),
        geometry: serde_json::to_value(manifest.geometry).expect("a geometry is numbers"),
        domains: model.bundle.styles.domains.clone(),
        styles: model.bundle.styles.entries.len(),
        quality: manifest.quality.clone(),
    }
}

#[derive(Serialize, ToSchema)]
pub struct Health {
    status: &'static str,
}

/// Whether the process runs
#[utoipa::path(get, path = "/health/live", tag = "health", operation_id = "live",
    responses((status = 200, description = "It runs", body = Health)))]
pub async fn live() -> Json<Health> {
    Json(Health { status: "live" })
}

/// Whether to send requests here
#[utoipa::path(get, path = "/health/ready", tag = "health", operation_id = "ready",
    responses((status = 200, description = "The models are loaded and warm, and nobody has asked the server to stop", body = Health)))]
pub async fn ready(State(app): State<Arc<App>>) -> Result<Json<Health>, Error> {
    app.lifecycle.is_ready()?;
    Ok(Json(Health { status: "ready" }))
}

/// What Prometheus scrapes
#[utoipa::path(get, path = "/metrics", tag = "health", operation_id = "metrics",
    responses((status = 200, description = "Prometheus text", body = String, content_type = "text/plain")))]
pub async fn metrics(State(app): State<Arc<App>>) -> Result<Response, Error> {
    let text = app.metrics.text().map_err(|error| Error::internal(&error))?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}
