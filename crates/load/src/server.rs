//! The models of the server, requested once before the run.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Request;
use hyper::header::HOST;
use serde::{Deserialize, Serialize};

use super::connection::{Connection, Frames};
use super::target::Target;

const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("cannot connect to {target}")]
    Absent { target: Target, source: std::io::Error },
    #[error("{target} does not respond within {PATIENCE:?}")]
    Silent { target: Target },
    #[error("{target} closed the connection")]
    Broken { target: Target, source: hyper::Error },
    #[error("{target} returns {status} for /v1/models: {said}")]
    Refused { target: Target, status: hyper::StatusCode, said: String },
    #[error("{target} is not a restain server")]
    Other { target: Target, source: serde_json::Error },
    #[error("--model {asked}: {target} does not serve it; it serves {served}")]
    NoModel { target: Target, asked: String, served: String },
    #[error("{target} has no default model: set --model to one of {served}")]
    NoDefault { target: Target, served: String },
}

/// The model that requests are for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Model {
    pub name: String,
    pub version: String,
    #[serde(default)]
    precision: String,
    #[serde(default)]
    provider: String,
    #[serde(default, skip_serializing)]
    default: bool,
    pub geometry: Geometry,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Geometry {
    /// The side of a tile, in pixels.
    pub image_size: usize,
    #[serde(flatten)]
    rest: serde_json::Map<String, serde_json::Value>,
}

#[derive(Deserialize)]
struct ModelList {
    models: Vec<Model>,
}

/// Returns the model of that name (NAME or NAME/VERSION), or the server's default.
///
/// # Errors
/// When the server cannot be reached, is not restain, or does not serve the model.
pub(crate) async fn model(target: &Target, asked: Option<&str>) -> Result<Model, ServerError> {
    let list = tokio::time::timeout(PATIENCE, models(target)).await;
    let models = list.map_err(|_| ServerError::Silent { target: target.clone() })??;
    let served = || {
        models
            .iter()
            .map(|model| format!("{}/{}", model.name, model.version))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let is_asked = |model: &&Model| match asked {
        Some(asked) => asked == model.name || asked == format!("{}/{}", model.name, model.version),
        None => model.default,
    };
    // Of several versions any will do: they are asked by name, and what is needed is the size of
    // their tiles.
    models.iter().rfind(is_asked).cloned().ok_or_else(|| match asked {
        Some(asked) => ServerError::NoModel {
            target: target.clone(),
            asked: asked.to_owned(),
            served: served(),
        },
        None => ServerError::NoDefault { target: target.clone(), served: served() },
    })
}

async fn models(target: &Target) -> Result<Vec<Model>, ServerError> {
    let mut connection = Connection::open(target)
        .await
        .map_err(|source| ServerError::Absent { target: target.clone(), source })?;
    let broken = |source| ServerError::Broken { target: target.clone(), source };
    let request =
        Request::get("/v1/models").header(HOST, target.authority()).body(Frames::from(Vec::new()));
    let response = connection
        .send(request.expect("the path and the header are ASCII"))
        .await
        .map_err(broken)?;
    let status = response.status();
    let body: Bytes = response.into_body().collect().await.map_err(broken)?.to_bytes();
    if !status.is_success() {
        let said = String::from_utf8_lossy(&body).chars().take(300).collect();
        return Err(ServerError::Refused { target: target.clone(), status, said });
    }
    let list = serde_json::from_slice::<ModelList>(&body);
    list.map(|list| list.models)
        .map_err(|source| ServerError::Other { target: target.clone(), source })
}
