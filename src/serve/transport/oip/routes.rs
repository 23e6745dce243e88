//! The protocol over HTTP: every route under /v2 in one list.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::body::Body;
use axum::extract::{FromRequestParts, Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use bytes::Bytes;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Value, json};
use tower_http::catch_panic::CatchPanicLayer;

use super::body::{self, Answered};
use super::ignored::Ignored;
use super::infer::{self, Arrival, Infer};
use super::output::{self, Output, Tensor, TensorData};
use super::refusal::{self, Refusal};
use super::{OF_INDEX, OF_INFER, OF_LOAD, OF_MODEL, OF_UNLOAD, model, proto, repository};
use crate::serve::access::Scope;
use crate::serve::admission::admit_more;
use crate::serve::app::App;
use crate::serve::cache::Tenant;
use crate::serve::error::{Error, ErrorKind};
use crate::serve::middleware::permit_body::PermitBody;
use crate::serve::middleware::route::{Observed, Permission, Route, Routes, Rules};
use crate::serve::pipeline::Answer;
use crate::serve::trace;
use crate::serve::transport::errors as e;
use crate::serve::transport::read_body::{
    Copied, is_absent, malformed, parse_body, read_body, read_short,
};

/// Bodies but those of an inference are a field or two.
const MAX_BODY: usize = 16 << 10;
/// A pixel as JSON: three digits and a comma, which is this many bytes more than the one that was
/// admitted.
const JSON_EXTRA: u64 = 3;

/// Paths of one model, with and without its version: metadata, ready, config, statistics,
/// inference.
const MODEL: [[&str; 5]; 2] = [
    [
        "/v2/models/{name}",
        "/v2/models/{name}/ready",
        "/v2/models/{name}/config",
        "/v2/models/{name}/stats",
        "/v2/models/{name}/infer",
    ],
    [
        "/v2/models/{name}/versions/{version}",
        "/v2/models/{name}/versions/{version}/ready",
        "/v2/models/{name}/versions/{version}/config",
        "/v2/models/{name}/versions/{version}/stats",
        "/v2/models/{name}/versions/{version}/infer",
    ],
];
const LOAD: [&str; 2] =
    ["/v2/repository/models/{name}/load", "/v2/repository/models/{name}/{version}/load"];
const UNLOAD: [&str; 2] =
    ["/v2/repository/models/{name}/unload", "/v2/repository/models/{name}/{version}/unload"];

type Answers<T> = Result<Json<T>, Refusal>;

/// A model that a path names; a version that it does not name is empty.
#[derive(Deserialize)]
struct ModelPath {
    #[serde(default)]
    name: String,
    #[serde(default)]
    version: String,
}

#[derive(Default, Deserialize)]
struct IndexBody {
    ready: Option<bool>,
}

#[derive(Default, Deserialize)]
struct LoadBody {
    parameters: Option<BTreeMap<String, IgnoredAny>>,
}

/// Every route of the protocol. `/v2/{*rest}` answers what the protocol or its extensions may have
/// and this server has not.
pub(super) fn routes() -> Routes {
    use Observed::{Fully, Quietly};
    use Scope::{Augment, Metrics, Models};
    let probe = |path, errors| {
        let rules = Rules { permission: Permission::Public, observed: Quietly, errors };
        Route { method: Method::GET, path: Cow::Borrowed(path), rules }
    };
    let of = |scope, method, path, errors| {
        let rules = Rules { permission: Permission::Needs(scope), observed: Fully, errors };
        Route { method, path: Cow::Borrowed(path), rules }
    };
    let mut routes = Routes::default()
        .route(of(Augment, Method::GET, "/v2", &[]), get(async || Json(model::server())))
        .route(of(Augment, Method::GET, "/v2/", &[]), get(async || Json(model::server())))
        .route(probe("/v2/health/live", &[]), get(async || Json(json!({"live": true}))))
        .route(probe("/v2/health/ready", &[e::SERVING]), get(ready))
        .route(of(Metrics, Method::GET, "/v2/models/stats", OF_MODEL), get(statistics))
        .route(of(Augment, Method::POST, "/v2/repository/index", OF_INDEX), post(index));
    for path in LOAD {
        routes = routes.route(of(Models, Method::POST, path, OF_LOAD), post(load));
    }
    for path in UNLOAD {
        routes = routes.route(of(Models, Method::POST, path, OF_UNLOAD), post(unload));
    }
    for [metadata_at, ready_at, config_at, statistics_at, infer_at] in MODEL {
        routes = routes
            .route(of(Augment, Method::GET, metadata_at, OF_MODEL), get(metadata))
            .route(of(Augment, Method::GET, ready_at, OF_MODEL), get(model_ready))
            .route(of(Augment, Method::GET, config_at, OF_MODEL), get(config))
            .route(of(Metrics, Method::GET, statistics_at, OF_MODEL), get(statistics))
            .route(of(Augment, Method::POST, infer_at, OF_INFER), post(infer));
    }
    let rest = of(Augment, Method::GET, "/v2/{*rest}", &[&[ErrorKind::RouteNotFound]]);
    let Routes { router, declared } = routes.route(rest, any(refusal::not_served));
    let router = router
        .method_not_allowed_fallback(refusal::method_not_allowed)
        .layer(CatchPanicLayer::custom(refusal::from_panic));
    Routes { router, declared }
}

async fn ready(State(app): State<Arc<App>>) -> Answers<Value> {
    app.is_ready()?;
    Ok(Json(json!({"ready": true})))
}

async fn model_ready(
    State(app): State<Arc<App>>,
    ModelPath { name, version }: ModelPath,
) -> Answers<Value> {
    model::is_ready(&app, &name, &version)?;
    Ok(Json(json!({"name": name, "ready": true})))
}

async fn metadata(
    State(app): State<Arc<App>>,
    ModelPath { name, version }: ModelPath,
) -> Answers<proto::ModelMetadataResponse> {
    Ok(Json(model::metadata(&app, &name, &version)?))
}

async fn config(
    State(app): State<Arc<App>>,
    ModelPath { name, version }: ModelPath,
) -> Answers<proto::ModelConfig> {
    Ok(Json(model::config(&app, &name, &version)?))
}

async fn statistics(
    State(app): State<Arc<App>>,
    ModelPath { name, version }: ModelPath,
) -> Answers<proto::ModelStatisticsResponse> {
    Ok(Json(model::statistics(&app, &name, &version)?))
}

async fn index(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Answers<Vec<proto::repository_index_response::ModelIndex>> {
    let IndexBody { ready } = read(&app, &headers, body).await?;
    Ok(Json(repository::index(&app, ready.unwrap_or_default()).await?))
}

async fn load(
    State(app): State<Arc<App>>,
    path: ModelPath,
    headers: HeaderMap,
    body: Body,
) -> Answers<Value> {
    let parameters = read::<LoadBody>(&app, &headers, body).await?.parameters.unwrap_or_default();
    repository::load(&app, &path.qualified_name(), parameters.keys().map(String::as_str)).await?;
    Ok(Json(json!({})))
}

async fn unload(
    State(app): State<Arc<App>>,
    path: ModelPath,
    headers: HeaderMap,
    body: Body,
) -> Answers<Value> {
    read::<LoadBody>(&app, &headers, body).await?;
    repository::unload(&app, &path.qualified_name()).await?;
    Ok(Json(json!({})))
}

async fn infer(
    State(app): State<Arc<App>>,
    ModelPath { name, version }: ModelPath,
    request: Request,
) -> Result<Response, Refusal> {
    let received = Instant::now();
    app.pipeline()?;
    let (head, body) = request.into_parts();
    let json_length = body::json_length(&head.headers)?;
    let copied = json_length.map_or(Copied::All, Copied::Head);
    let (bytes, permit) = read_body(&app, &head.headers, body, received, copied).await?;
    let tenant = head.extensions.get::<Tenant>().copied().unwrap_or_default();
    let json = json_length.unwrap_or(bytes.len());
    let body::Asked { id, parameters, inputs, wanted, ignored } =
        parse_body(&app, json, move || body::read(bytes, json_length)).await?;
    let ask = Infer { model: infer::model(&name, &version), parameters, inputs, ignored };
    let answer =
        infer::infer(&app, ask, Arrival { permit, tenant, received, deadline_ms: None }).await?;
    Ok(trace::stage("write", answered(&app, id, answer, wanted, received)).await?)
}

/// The answer as a body. What is binary is sent from where it lies.
async fn answered(
    app: &App,
    id: String,
    answer: Answer,
    wanted: Vec<(Output, bool)>,
    received: Instant,
) -> Result<Response, Error> {
    let (wanted, binary): (Vec<Output>, Vec<bool>) = wanted.into_iter().unzip();
    let (answer, tensors) = output::tensors(app, answer, wanted).await?;
    let tensors: Vec<_> = tensors.into_iter().zip(binary).collect();
    let mut permits = answer.permits.clone();
    let as_json = numbers_as_json(&tensors);
    if as_json > 0 {
        permits.extend(admit_more(&permits, JSON_EXTRA * as_json)?);
    }
    let timings = answer.timings;
    let held = permits.clone();
    let write = move || {
        let _held = held;
        let (model, version) = (&answer.about.model, &answer.about.version);
        body::write(Answered {
            model,
            version,
            id: &id,
            parameters: output::parameters(&answer),
            tensors,
        })
    };
    let (pieces, json_length): (Vec<Bytes>, Option<usize>) =
        if as_json > 0 { app.cpu.run(write).await? } else { write() };
    let mut response = Body::new(PermitBody::new(pieces, permits)).into_response();
    let headers = response.headers_mut();
    let kind = if json_length.is_some() { "application/octet-stream" } else { "application/json" };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Some(length) = json_length {
        headers.insert(body::JSON_LENGTH, HeaderValue::from(length));
    }
    let timing = HeaderValue::try_from(timings.server_timing(received.elapsed()));
    headers.insert("server-timing", timing.expect("numbers are ASCII"));
    Ok(response)
}

/// Bytes that will be written as numbers of JSON.
fn numbers_as_json(tensors: &[(Tensor, bool)]) -> u64 {
    let numbers = |(tensor, is_binary): &(Tensor, bool)| match &tensor.data {
        TensorData::Numbers(bytes) if !is_binary => bytes.len() as u64,
        _ => 0,
    };
    tensors.iter().map(numbers).sum()
}

/// An object of JSON, or nothing at all.
async fn read<T: Default + DeserializeOwned>(
    app: &App,
    headers: &HeaderMap,
    body: Body,
) -> Result<T, Error> {
    let bytes = read_short(app, headers, body, MAX_BODY).await?;
    if is_absent(&bytes) {
        return Ok(T::default());
    }
    let mut ignored = Ignored::default();
    let read = ignored.read_object("the JSON body", &bytes)?;
    ignored.log();
    Ok(read)
}

impl<S: Send + Sync> FromRequestParts<S> for ModelPath {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let path = Path::<Self>::from_request_parts(parts, state).await;
        path.map(|path| path.0)
            .map_err(|error| malformed(format!("the path: {}", error.body_text())).into())
    }
}

impl ModelPath {
    /// NAME or NAME/VERSION.
    fn qualified_name(&self) -> String {
        infer::model(&self.name, &self.version).unwrap_or_default()
    }
}
