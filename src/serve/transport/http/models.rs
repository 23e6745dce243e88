//! The models: which are served, and loading and unloading them while the server runs.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};

use super::read::PathPart;
use crate::serve::app::App;
use crate::serve::error::{Error, ErrorKind};
use crate::serve::models::{Key, LoadAsk, Model, Registry, State as LoadState};
use crate::serve::transport::json;
use crate::serve::transport::read_body::{is_absent, malformed, read_short};

/// Bodies here are a field or two.
const MAX_BODY: usize = 16 << 10;

const READY: &str = "ready";
const LOADING: &str = "loading";
const FAILED: &str = "failed";

/// The models that are served, and loads that gave none, or not yet.
#[derive(Serialize, ToSchema)]
pub(super) struct ModelList {
    models: Vec<ModelInfo>,
}

/// A version of a model, tagged by its `state`.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[schema(discriminator(property_name = "state", mapping(
    ("ready" = "#/components/schemas/ReadyModel"),
    ("loading" = "#/components/schemas/LoadingModel"),
    ("failed" = "#/components/schemas/FailedModel"),
)))]
pub(super) enum ModelInfo {
    /// It takes work.
    Ready(ReadyModel),
    /// It is being verified and warmed; an older bundle of this name and version serves meanwhile.
    Loading(LoadingModel),
    /// The last load was refused; an older bundle of this name and version still serves.
    Failed(FailedModel),
}

/// A model that takes work.
#[derive(Serialize, ToSchema)]
pub(super) struct ReadyModel {
    #[schema(schema_with = ready)]
    state: &'static str,
    name: String,
    version: String,
    /// Whether a request that names no model means this one.
    default: bool,
    /// The bundle's digest.
    bundle: String,
    #[schema(pattern = "^(fp32|fp16|int8)$")]
    precision: String,
    provider: &'static str,
    #[schema(value_type = GeometryInfo)]
    geometry: serde_json::Value,
    /// In the order of `GET /v1/styles`.
    domains: Vec<String>,
    /// How many there are, of all domains.
    styles: usize,
    /// As the bundle has it: what was measured of this model.
    #[schema(value_type = Object)]
    quality: serde_json::Value,
}

/// A bundle that is being verified and warmed.
#[derive(Serialize, ToSchema)]
pub(super) struct LoadingModel {
    #[schema(schema_with = loading)]
    state: &'static str,
    name: String,
    version: String,
    /// Never before it is ready.
    default: bool,
}

/// A bundle whose last load was refused.
#[derive(Serialize, ToSchema)]
pub(super) struct FailedModel {
    #[schema(schema_with = failed)]
    state: &'static str,
    name: String,
    version: String,
    /// Never.
    default: bool,
    /// Why it was refused.
    reason: String,
}

fn ready() -> Object {
    only(READY)
}

fn loading() -> Object {
    only(LOADING)
}

fn failed() -> Object {
    only(FAILED)
}

/// The tag of a state.
fn only(state: &str) -> Object {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some([state])).build()
}

/// The sizes of an encoder.
#[derive(ToSchema)]
#[schema(as = Geometry)]
#[expect(
    dead_code,
    reason = "it describes `method::geometry::Geometry`, which knows nothing of the API"
)]
pub(super) struct GeometryInfo {
    /// Side of a tile, in pixels.
    #[schema(minimum = 1)]
    image_size: u32,
    #[schema(minimum = 3, maximum = 3)]
    in_channels: u32,
    /// Side of a patch, in pixels.
    #[schema(minimum = 1)]
    patch_size: u32,
    /// Numbers in a token of the encoder, E: half of them anatomy, half characteristics.
    #[schema(minimum = 1)]
    embed_dim: u32,
    #[schema(minimum = 1)]
    depth: u32,
    #[schema(minimum = 1)]
    num_heads: u32,
    mlp_ratio: f32,
    /// Whether a style also has a constant for every channel and column of a patch: 3·P numbers
    /// more, added to the product.
    style_bias: bool,
}

impl ModelInfo {
    /// Whether NAME or NAME/VERSION means it.
    fn is_named(&self, asked: &str) -> bool {
        let (Self::Ready(ReadyModel { name, version, .. })
        | Self::Loading(LoadingModel { name, version, .. })
        | Self::Failed(FailedModel { name, version, .. })) = self;
        asked.strip_prefix(name).is_some_and(|rest| match rest.strip_prefix('/') {
            Some(asked) => asked == version,
            None => rest.is_empty(),
        })
    }
}

/// What is to be loaded. May be left out.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LoadBody {
    /// The highest in the models directory when left out.
    version: Option<String>,
    /// Whether requests that name no model shall mean it from now on: this version when `version`
    /// is given, otherwise the highest of the name.
    default: Option<bool>,
}

/// What is to be unloaded. May be left out.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct UnloadBody {
    /// Every version when left out.
    version: Option<String>,
}

/// What was unloaded, as NAME/VERSION.
#[derive(Serialize, ToSchema)]
pub(super) struct Unloaded {
    unloaded: Vec<String>,
}

/// The models, with their geometry, quality and state
#[utoipa::path(get, path = "/v1/models", tag = "models", operation_id = "list_models",
    responses((status = 200, description = "The models that are served, and loads that failed or \
        are under way", body = ModelList)))]
pub(super) async fn list(State(app): State<Arc<App>>) -> Result<Json<ModelList>, Error> {
    Ok(Json(ModelList { models: describe_all(&app.pipeline()?.models) }))
}

/// The versions of one model
#[utoipa::path(get, path = "/v1/models/{name}", tag = "models", operation_id = "get_model",
    params(("name" = String, Path, description = "The model's name, or NAME%2FVERSION",
        min_length = 1, example = "demo")),
    responses((status = 200, description = "Its versions, the highest first", body = ModelList)))]
pub(super) async fn one(
    State(app): State<Arc<App>>,
    PathPart(name): PathPart,
) -> Result<Json<ModelList>, Error> {
    let registry = &app.pipeline()?.models;
    let mut models = describe_all(registry);
    models.retain(|model| model.is_named(&name));
    if models.is_empty() {
        let served = registry.models().names();
        return Err(Error::new(
            ErrorKind::ModelNotFound,
            format!("no model `{name}` is served; served models: {served}"),
        ));
    }
    Ok(Json(ModelList { models }))
}

/// Load a bundle of the models directory
///
/// It is verified and warmed before it is served; requests under way, and requests for what is
/// served already, do not notice. A bundle that is served already is loaded anew only when it has
/// changed on disk. Loads are made one at a time, in the order in which they came.
#[utoipa::path(post, path = "/v1/models/{name}/load", tag = "models", operation_id = "load_model",
    params(("name" = String, Path, description = "The model's name, or NAME%2FVERSION",
        min_length = 1, example = "demo")), request_body = Option<LoadBody>,
    responses((status = 200, description = "It is served", body = ModelInfo)))]
pub(super) async fn load(
    State(app): State<Arc<App>>,
    PathPart(name): PathPart,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ModelInfo>, Error> {
    let registry = Arc::clone(&app.pipeline()?.models);
    let LoadBody { version, default } = read(&app, &headers, body).await?;
    let (name, version) = one_version(name, version)?;
    let ask = LoadAsk { name, version, default: default.unwrap_or_default() };
    let model = registry.load(ask).await?;
    Ok(Json(describe(&registry, &model)))
}

/// Unload a model
///
/// Requests that it has begun are finished with it; then its memory is given back. The default is
/// not unloaded while another model could be the default: load that one with `default: true` first.
#[utoipa::path(post, path = "/v1/models/{name}/unload", tag = "models",
    operation_id = "unload_model",
    params(("name" = String, Path, description = "The model's name, or NAME%2FVERSION",
        min_length = 1, example = "demo")), request_body = Option<UnloadBody>,
    responses((status = 200, description = "It is served no longer", body = Unloaded)))]
pub(super) async fn unload(
    State(app): State<Arc<App>>,
    PathPart(name): PathPart,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Unloaded>, Error> {
    let registry = &app.pipeline()?.models;
    let UnloadBody { version } = read(&app, &headers, body).await?;
    let (name, version) = one_version(name, version)?;
    let unloaded = registry.unload(&name, version.as_deref()).await?;
    Ok(Json(Unloaded { unloaded: unloaded.iter().map(Key::to_string).collect() }))
}

/// A path may name a version too, as `model` of a request does: NAME%2FVERSION.
///
/// # Errors
/// `malformed_request`, when the body names another.
fn one_version(name: String, version: Option<String>) -> Result<(String, Option<String>), Error> {
    let Some((name, of_path)) = name.split_once('/') else { return Ok((name, version)) };
    match version {
        Some(version) if version != of_path => Err(malformed(format!(
            "version is `{version}`, and the path names version `{of_path}` of {name}: name one"
        ))),
        _ => Ok((name.to_owned(), Some(of_path.to_owned()))),
    }
}

/// An object of JSON, or nothing at all.
async fn read<T: Default + DeserializeOwned>(
    app: &App,
    headers: &HeaderMap,
    body: Body,
) -> Result<T, Error> {
    let bytes = read_short(app, headers, body, MAX_BODY).await?;
    if is_absent(&bytes) { Ok(T::default()) } else { json::read_object("the JSON body", &bytes) }
}

fn describe_all(registry: &Registry) -> Vec<ModelInfo> {
    let mut all: Vec<ModelInfo> =
        registry.models().all().iter().map(|model| describe(registry, model)).collect();
    all.extend(registry.states().into_iter().map(|(Key { name, version }, state)| match state {
        LoadState::Loading => {
            ModelInfo::Loading(LoadingModel { state: LOADING, name, version, default: false })
        }
        LoadState::Failed { reason } => {
            ModelInfo::Failed(FailedModel { state: FAILED, name, version, default: false, reason })
        }
    }));
    all
}

fn describe(registry: &Registry, model: &Arc<Model>) -> ModelInfo {
    let manifest = &model.bundle.manifest;
    let offer = model.styles.offer();
    ModelInfo::Ready(ReadyModel {
        state: READY,
        name: manifest.name.clone(),
        version: manifest.version.clone(),
        default: registry
            .models()
            .default_model()
            .is_some_and(|default| Arc::ptr_eq(default, model)),
        bundle: model.bundle.digest.clone(),
        precision: model.precision.to_string(),
        provider: model.provider,
        geometry: serde_json::to_value(manifest.geometry).expect("a geometry is numbers"),
        domains: offer.domains().map(|(name, _)| name.to_owned()).collect(),
        styles: offer.styles(),
        quality: manifest.quality.clone(),
    })
}
