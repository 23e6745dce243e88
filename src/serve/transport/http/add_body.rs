//! The body of a domain to be added: parts of a form, or a tensor.

use axum::http::{HeaderMap, header};
use bytes::Bytes;
use safetensors::SafeTensors;
use serde::Deserialize;
use utoipa::ToSchema;

use super::accept::SAFETENSORS;
use super::body::BodyKind;
use super::parts::{form_parts, tensor_tiles};
use crate::serve::error::{Error, ErrorKind};
use crate::serve::pipeline::TileInput;
use crate::serve::pipeline::request::whole;
use crate::serve::transport::read_body::{json_object, malformed};

/// How a body is to be read.
pub(crate) enum AddBody {
    Form { boundary: String },
    Tensor,
}

/// What is asked for, besides the tiles.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = AddRequest)]
pub(crate) struct AddAsk {
    /// Letters, digits, `.`, `_` and `-`; not beginning with `.`.
    #[schema(pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]*$", max_length = 128)]
    pub domain: String,
    /// NAME or NAME/VERSION; the default model when left out.
    #[schema(pattern = r"^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)?$")]
    pub model: Option<String>,
    /// Most styles to be taken.
    #[schema(minimum = 1, maximum = 256, default = 16)]
    #[serde(default, deserialize_with = "whole")]
    pub styles: Option<u64>,
    /// Resize tiles of another size to the model's, instead of refusing them.
    #[serde(default)]
    pub resize: bool,
}

impl AddBody {
    /// # Errors
    /// `unsupported_media_type`, naming those that are read.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Error> {
        match BodyKind::of(headers) {
            Ok(BodyKind::Form { boundary }) => Ok(Self::Form { boundary }),
            Ok(BodyKind::Tensor) => Ok(Self::Tensor),
            _ => {
                let given = headers
                    .get(header::CONTENT_TYPE)
                    .and_then(|value| value.to_str().ok())
                    .unwrap_or_default();
                let detail = format!(
                    "Content-Type is `{given}`: send multipart/form-data with a boundary, or {SAFETENSORS}"
                );
                Err(Error::new(ErrorKind::UnsupportedMediaType, detail))
            }
        }
    }

    /// # Errors
    /// `malformed_request`, with the part that cannot be read.
    pub(crate) async fn parse(self, body: Bytes) -> Result<(AddAsk, Vec<TileInput>), Error> {
        match self {
            Self::Form { boundary } => form(body, boundary).await,
            Self::Tensor => tensor(&body),
        }
    }
}

async fn form(body: Bytes, boundary: String) -> Result<(AddAsk, Vec<TileInput>), Error> {
    let (mut ask, mut tiles) = (AddAsk::default(), Vec::new());
    let mut said = Vec::new();
    for (name, bytes) in form_parts(body, boundary).await? {
        if name == "tile" {
            tiles.push(TileInput::File(bytes));
            continue;
        }
        if said.contains(&name) {
            return Err(malformed(format!("the form has two parts named `{name}`")));
        }
        let text = std::str::from_utf8(&bytes)
            .map_err(|_| malformed(format!("the part `{name}` is no text")))?
            .trim();
        let wrong = |what: &str| malformed(format!("{name} is `{text}`, and must be {what}"));
        match name.as_str() {
            "domain" => ask.domain = text.to_owned(),
            "model" => ask.model = Some(text.to_owned()),
            "styles" => ask.styles = Some(text.parse().map_err(|_| wrong("a number"))?),
            "resize" => {
                ask.resize =
                    text.to_ascii_lowercase().parse().map_err(|_| wrong("true or false"))?
            }
            other => {
                let names = "domain, model, styles, resize and tile";
                return Err(malformed(format!(
                    "the form has a part named `{other}`, and parts are named {names}"
                )));
            }
        }
        said.push(name);
    }
    Ok((ask, tiles))
}

fn tensor(body: &Bytes) -> Result<(AddAsk, Vec<TileInput>), Error> {
    let unreadable = |error| malformed(format!("the safetensors body: {error}"));
    let (_, header) = SafeTensors::read_metadata(body).map_err(unreadable)?;
    let file = SafeTensors::deserialize(body).map_err(unreadable)?;
    let request = header.metadata().as_ref().and_then(|metadata| metadata.get("request"));
    let request = request
        .ok_or_else(|| malformed("the metadata has no `request`, which names the domain"))?;
    let ask = json_object("the request JSON", request.as_bytes())?;
    let mut tiles = Vec::new();
    for (name, view) in file.tensors() {
        if name != "tiles" {
            return Err(malformed(format!(
                "the body has a tensor `{name}`, and its one tensor is named tiles"
            )));
        }
        tiles = tensor_tiles(body, &name, &view)?;
    }
    Ok((ask, tiles))
}
