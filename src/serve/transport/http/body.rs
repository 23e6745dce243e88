//! What came in, by `Content-Type`: one picture, parts of a form, a tensor, or JSON. Read whole into memory that
//! admission has lent, then taken apart; nothing is decoded here.

use axum::http::{HeaderMap, header};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::accept::SAFETENSORS;
use super::flat::{FlatEncodeRequest, FlatRequest};
use super::parts::{deepest, form_parts, tensor_tiles};
use crate::serve::error::{Error, ErrorKind};
use crate::serve::pipeline::TileInput;
use crate::serve::pipeline::request::{AugmentRequest, EncodeTilesRequest};
use crate::serve::transport::read_body::{json_object, malformed, object};
use restain_bundle::codec::TileKey;

/// How a body is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BodyKind {
    Image,
    Form { boundary: String },
    Tensor,
    Json,
}

/// A body taken apart.
#[derive(Default)]
pub(crate) struct Parsed<A> {
    pub ask: A,
    /// Those that came whole, then those that came as keys.
    pub tiles: Vec<TileInput>,
    pub references: Vec<TileInput>,
}

/// What a route asks for in its request JSON.
pub(crate) trait Ask: Default + DeserializeOwned {
    /// The same laid flat, as a query string has it.
    type Flat: DeserializeOwned + Into<Self>;
    /// Whether reference tiles may come with it.
    const REFERENCES: bool;
    /// `?sheet=true`, the one parameter that goes with every kind of body.
    fn show_sheet(&mut self) {}
}

impl Ask for AugmentRequest {
    type Flat = FlatRequest;
    const REFERENCES: bool = true;
    fn show_sheet(&mut self) {
        self.output.sheet = true;
    }
}

impl Ask for EncodeTilesRequest {
    type Flat = FlatEncodeRequest;
    const REFERENCES: bool = false;
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AnyJsonBody<A> {
    #[serde(default = "none")]
    request: Option<A>,
    #[serde(default)]
    tiles: Vec<String>,
    #[serde(default)]
    keys: Vec<String>,
    #[serde(default)]
    references: Vec<String>,
}

/// Serde would ask for `A: Default` where the derive writes `default`.
fn none<A>() -> Option<A> {
    None
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SheetOnly {
    sheet: bool,
}

impl BodyKind {
    /// # Errors
    /// `unsupported_media_type`, naming those that are read.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Error> {
        let given = headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let refused = |what: &str| {
            let read = format!("image/*, multipart/form-data, application/json or {SAFETENSORS}");
            let given = if given.is_empty() {
                "there is no Content-Type".to_owned()
            } else {
                format!("Content-Type is `{given}`, {what}")
            };
            Error::new(ErrorKind::UnsupportedMediaType, format!("{given}: send {read}"))
        };
        let media_type: mime::Mime =
            given.parse().map_err(|_| refused("which is no media type"))?;
        match (media_type.type_(), media_type.essence_str()) {
            (mime::IMAGE, _) => Ok(Self::Image),
            (_, "application/json") => Ok(Self::Json),
            (_, SAFETENSORS) => Ok(Self::Tensor),
            (_, "multipart/form-data") => match multer::parse_boundary(given) {
                Ok(boundary) => Ok(Self::Form { boundary }),
                Err(_) => Err(refused("which names no boundary")),
            },
            _ => Err(refused("which is not read here")),
        }
    }

    /// Takes the body apart. Computing; the body is in memory already.
    ///
    /// # Errors
    /// `malformed_request`, with the part that cannot be read.
    pub(crate) async fn parse<A: Ask>(
        self,
        body: Bytes,
        query: Option<&str>,
    ) -> Result<Parsed<A>, Error> {
        if self == Self::Image {
            let ask = from_query::<A::Flat>(query)?.into();
            return Ok(Parsed { ask, tiles: vec![TileInput::File(body)], references: Vec::new() });
        }
        let SheetOnly { sheet } = from_query(query)?;
        let mut parsed: Parsed<A> = match self {
            Self::Form { boundary } => form(body, boundary).await?,
            Self::Tensor => tensor(&body)?,
            _ => json(&body)?,
        };
        if sheet {
            parsed.ask.show_sheet();
        }
        if !A::REFERENCES && !parsed.references.is_empty() {
            return Err(malformed(
                "the body holds references, and this route takes tiles and keys alone",
            ));
        }
        Ok(parsed)
    }
}

fn from_query<T: DeserializeOwned>(query: Option<&str>) -> Result<T, Error> {
    let uri = format!("/?{}", query.unwrap_or_default())
        .parse()
        .map_err(|_| malformed("the query string is no query string"))?;
    axum::extract::Query::try_from_uri(&uri)
        .map(|query| query.0)
        .map_err(|error| malformed(format!("the query string: {}", deepest(&error))))
}

fn request_json<A: Ask>(bytes: &[u8]) -> Result<A, Error> {
    json_object("the request JSON", bytes)
}

fn json<A: Ask>(body: &[u8]) -> Result<Parsed<A>, Error> {
    object(body).map_err(|what| {
        malformed(format!("the JSON body is {what}, and must be an object: {{\"tiles\": [base64, …], \"request\": {{…}}}}"))
    })?;
    let AnyJsonBody { request, tiles, keys, references } = serde_json::from_slice(body)
        .map_err(|error| malformed(format!("the JSON body: {error}")))?;
    let files = |list: &'static str, items: Vec<String>| -> Result<Vec<TileInput>, Error> {
        let decode = |(index, item): (usize, String)| {
            // Browsers make data URLs; what stands before the comma says nothing that the bytes do not.
            let base64 = item
                .strip_prefix("data:")
                .and_then(|url| url.split_once(','))
                .map_or(item.as_str(), |(_, data)| data);
            let bytes = BASE64_STANDARD.decode(base64);
            bytes.map(|bytes| TileInput::File(bytes.into())).map_err(|error| {
                malformed(format!("{list} {index} is not base64: {error}")).at(list, index)
            })
        };
        items.into_iter().enumerate().map(decode).collect()
    };
    let mut tiles = files("tile", tiles)?;
    for (index, text) in keys.iter().enumerate() {
        tiles.push(key(index, text)?);
    }
    Ok(Parsed {
        ask: request.unwrap_or_default(),
        tiles,
        references: files("reference", references)?,
    })
}

fn key(index: usize, text: &str) -> Result<TileInput, Error> {
    text.trim()
        .parse()
        .map(TileInput::Key)
        .map_err(|error| malformed(format!("key {index}: {error}")).at("key", index))
}

async fn form<A: Ask>(body: Bytes, boundary: String) -> Result<Parsed<A>, Error> {
    let mut parsed = Parsed::default();
    let (mut keys, mut asked) = (Vec::new(), false);
    for (name, bytes) in form_parts(body, boundary).await? {
        match name.as_str() {
            "request" if asked => return Err(malformed("the form has two parts named `request`")),
            "request" => (parsed.ask, asked) = (request_json(&bytes)?, true),
            "tile" => parsed.tiles.push(TileInput::File(bytes)),
            "key" => keys.push(key(keys.len(), &String::from_utf8_lossy(&bytes))?),
            "reference" => parsed.references.push(TileInput::File(bytes)),
            other => {
                return Err(malformed(format!(
                    "the form has a part named `{other}`, and parts are named request, tile, key and reference"
                )));
            }
        }
    }
    parsed.tiles.append(&mut keys);
    Ok(parsed)
}

fn tensor<A: Ask>(body: &Bytes) -> Result<Parsed<A>, Error> {
    let unreadable = |error| malformed(format!("the safetensors body: {error}"));
    let (_, header) = SafeTensors::read_metadata(body).map_err(unreadable)?;
    let file = SafeTensors::deserialize(body).map_err(unreadable)?;
    let mut parsed = Parsed::default();
    if let Some(request) = header.metadata().as_ref().and_then(|metadata| metadata.get("request")) {
        parsed.ask = request_json(request.as_bytes())?;
    }
    let mut keys = Vec::new();
    for (name, view) in file.tensors() {
        let list = match name.as_str() {
            "tiles" => &mut parsed.tiles,
            "references" => &mut parsed.references,
            "keys" => {
                keys = tensor_keys(&view)?;
                continue;
            }
            other => {
                return Err(malformed(format!(
                    "the body has a tensor `{other}`, and tensors are named tiles, keys and references"
                )));
            }
        };
        *list = tensor_tiles(body, &name, &view)?;
    }
    parsed.tiles.append(&mut keys);
    Ok(parsed)
}

fn tensor_keys(view: &TensorView<'_>) -> Result<Vec<TileInput>, Error> {
    let (&[_, TileKey::BYTES], Dtype::U8) = (view.shape(), view.dtype()) else {
        let (dtype, shape) = (view.dtype(), view.shape());
        return Err(malformed(format!(
            "keys is {dtype:?} {shape:?}, and must be U8 [m, {}]",
            TileKey::BYTES
        )));
    };
    Ok(view
        .data()
        .as_chunks()
        .0
        .iter()
        .map(|bytes| TileInput::Key(TileKey::from_bytes(*bytes)))
        .collect())
}
