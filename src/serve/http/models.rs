//! The models: which are served, and loading and unloading them while the server runs.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::serve::app::App;
use crate::serve::error::{Error, ErrorKind};
use crate::serve::intake::{self, json_object};
use crate::serve::models::{Key, LoadAsk, Model, Registry, State as LoadState};

/// Bodies here are a field or two.
const MAX_BODY: usize = 16 << 10;

/// The models that are served, and loads that gave none, or not yet.
#[derive(Serialize, ToSchema)]
pub struct ModelList {
    models: Vec<ModelInfo>,
}

#[derive(Serialize, ToSchema)]
pub struct ModelInfo {
    name: String,
    version: String,
    /// Whether a request that names no model means this one.
    default: bool,
    state: ModelState,
    /// Why it `failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// What is known of a model that is `ready`.
    #[serde(flatten)]
    ready: Option<ReadyModel>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum ModelState {
    /// It takes work.
    Ready,
    /// It is being verified and warmed; an older bundle of this name and version serves meanwhile.
    Loading,
    /// The last load was refused; an older bundle of this name and version still serves.
    Failed,
}

#[derive(Serialize, ToSchema)]
struct ReadyModel {
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

/// What is to be loaded. May be left out.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LoadBody {
    /// The highest in the models directory when left out.
    version: Option<String>,
    /// Whether requests that name no model shall mean it from now on: this version when `version` is given, otherwise
    /// the highest of the name.
    default: bool,
}

/// What is to be unloaded. May be left out.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UnloadBody {
    /// Every version when left out.
    version: Option<String>,
}

/// What was unloaded, as NAME/VERSION.
#[derive(Serialize, ToSchema)]
pub struct Unloaded {
    unloaded: Vec<String>,
}

/// The models, with their geometry, quality and state
#[utoipa::path(get, path = "/v1/models", tag = "models", operation_id = "list_models",
    responses((status = 200, description = "The models that are served, and loads that failed or are under way", body = ModelList)))]
pub async fn list(State(app): State<Arc<App>>) -> Result<Json<ModelList>, Error> {
    Ok(Json(ModelList { models: describe_all(&app.pipeline()?.models) }))
}

/// The versions of one model
#[utoipa::path(get, path = "/v1/models/{name}", tag = "models", operation_id = "get_model",
    params(("name" = String, Path, description = "The model's name")),
    responses((status = 200, description = "Its versions, the highest first", body = ModelList)))]
pub async fn one(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<Json<ModelList>, Error> {
    let registry = &app.pipeline()?.models;
    let mut models = describe_all(registry);
    models.retain(|model| model.name == name);
    if models.is_empty() {
        let served = registry.models().names();
        return Err(Error::new(ErrorKind::ModelNotFound, format!("there is no model `{name}`, and served are: {served}")));
    }
    Ok(Json(ModelList { models }))
}

/// Load a bundle of the models directory
///
/// It is verified and warmed before it is served; requests under way, and requests for what is served already, do not
/// notice. A bundle that is served already is loaded anew only when it has changed on disk. Loads are made one at a
/// time, in the order in which they came.
#[utoipa::path(post, path = "/v1/models/{name}/load", tag = "models", operation_id = "load_model",
    params(("name" = String, Path, description = "The model's name")), request_body = Option<LoadBody>,
    responses((status = 200, description = "It is served", body = ModelInfo)))]
pub async fn load(State(app): State<Arc<App>>, Path(name): Path<String>, body: Body) -> Result<Json<ModelInfo>, Error> {
    let registry = Arc::clone(&app.pipeline()?.models);
    let LoadBody { version, default } = read(body).await?;
    let model = registry.load(LoadAsk { name, version, default }).await?;
    Ok(Json(describe(&registry, &model)))
}

/// Unload a model
///
/// Requests that it has begun are finished with it; then its memory is given back. The default is not unloaded while
/// another model could be the default: load that one with `default: true` first.
#[utoipa::path(post, path = "/v1/models/{name}/unload", tag = "models", operation_id = "unload_model",
    params(("name" = String, Path, description = "The model's name")), request_body = Option<UnloadBody>,
    responses((status = 200, description = "It is served no longer", body = Unloaded)))]
pub async fn unload(State(app): State<Arc<App>>, Path(name): Path<String>, body: Body) -> Result<Json<Unloaded>, Error> {
    let registry = &app.pipeline()?.models;
    let UnloadBody { version } = read(body).await?;
    let unloaded = registry.unload(&name, version.as_deref()).await?;
    Ok(Json(Unloaded { unloaded: unloaded.iter().map(Key::to_string).collect() }))
}

/// An object of JSON, or nothing at all.
async fn read<T: Default + DeserializeOwned>(body: Body) -> Result<T, Error> {
    let bytes = intake::read(body, MAX_BODY).await?;
    if bytes.is_empty() { Ok(T::default()) } else { json_object("the JSON body", &bytes) }
}

fn describe_all(registry: &Registry) -> Vec<ModelInfo> {
    let mut all: Vec<ModelInfo> = registry.models().all().iter().map(|model| describe(registry, model)).collect();
    all.extend(registry.states().into_iter().map(|(Key { name, version }, state)| {
        let (state, reason) = match state {
            LoadState::Loading => (ModelState::Loading, None),
            LoadState::Failed { reason } => (ModelState::Failed, Some(reason)),
        };
        ModelInfo { name, version, default: false, state, reason, ready: None }
    }));
    all
}

fn describe(registry: &Registry, model: &Arc<Model>) -> ModelInfo {
    let manifest = &model.bundle.manifest;
    let offer = model.styles.offer();
    let ready = ReadyModel {
        bundle: model.bundle.digest.clone(),
        precision: model.precision.to_string(),
        provider: model.provider,
        geometry: serde_json::to_value(manifest.geometry).expect("a geometry is numbers"),
        domains: offer.domains().map(|(name, _)| name.to_owned()).collect(),
        styles: offer.styles(),
        quality: manifest.quality.clone(),
    };
    ModelInfo {
        name: manifest.name.clone(),
        version: manifest.version.clone(),
        default: registry.models().default_model().is_some_and(|default| Arc::ptr_eq(default, model)),
        state: ModelState::Ready,
        reason: None,
        ready: Some(ready),
    }
}
