//! What came in, by `Content-Type`: one picture, parts of a form, a tensor, or JSON. Read whole into memory that
//! admission has lent, then taken apart; nothing is decoded here.

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, header};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::{IntoParams, ToSchema};

use super::accept::SAFETENSORS;
use crate::codec::ImageFormat;
use crate::serve::error::{Error, ErrorKind};
use crate::serve::pipeline::TileInput;
use crate::serve::pipeline::request::{AugmentRequest, Method, OutputRequest, Placement, Priority, Share, StyleRequest, StyleSource};

/// How a body is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyKind {
    Image,
    Form { boundary: String },
    Tensor,
    Json,
}

/// A body taken apart.
#[derive(Default)]
pub struct Parsed {
    pub ask: AugmentRequest,
    pub tiles: Vec<TileInput>,
    pub references: Vec<TileInput>,
}

/// `application/json`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JsonBody {
    #[serde(default)]
    request: AugmentRequest,
    /// Base64 of PNG, JPEG, WebP or TIFF files.
    tiles: Vec<String>,
    /// The same, for `style.from: reference`.
    #[serde(default)]
    references: Vec<String>,
}

/// `multipart/form-data`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes the form, which is read part by part")]
pub struct FormBody {
    request: Option<AugmentRequest>,
    /// One part of this name for each tile.
    #[schema(value_type = Vec<String>, format = Binary)]
    tile: Vec<Vec<u8>>,
    /// One part of this name for each reference tile.
    #[schema(value_type = Option<Vec<String>>, format = Binary)]
    reference: Option<Vec<Vec<u8>>>,
}

/// The request JSON laid flat, for a body that is one picture. Lists are separated by commas.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct FlatRequest {
    model: Option<String>,
    variants: Option<u64>,
    seed: Option<u64>,
    #[param(inline)]
    method: Method,
    #[param(inline)]
    from: StyleSource,
    domains: Option<String>,
    exclude_domains: Option<String>,
    ids: Option<String>,
    #[param(inline)]
    placement: Placement,
    #[param(inline)]
    share: Share,
    strength: Option<f32>,
    resize: bool,
    /// png, jpeg or webp
    #[param(value_type = Option<String>)]
    format: Option<ImageFormat>,
    quality: Option<u32>,
    /// One picture of all variants. The only parameter that also goes with the other kinds of body.
    sheet: bool,
    #[param(inline)]
    priority: Priority,
    timeout_ms: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SheetOnly {
    sheet: bool,
}

impl BodyKind {
    /// # Errors
    /// `unsupported_media_type`, naming those that are read.
    pub fn of(headers: &HeaderMap) -> Result<Self, Error> {
        let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let refused = |what: &str| {
            let read = format!("image/*, multipart/form-data, application/json or {SAFETENSORS}");
            let given = if given.is_empty() { "there is no Content-Type".to_owned() } else { format!("Content-Type is `{given}`, {what}") };
            Error::new(ErrorKind::UnsupportedMediaType, format!("{given}: send {read}"))
        };
        let media_type: mime::Mime = given.parse().map_err(|_| refused("which is no media type"))?;
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
    pub async fn parse(self, body: Bytes, query: Option<&str>) -> Result<Parsed, Error> {
        if self == Self::Image {
            let ask = from_query::<FlatRequest>(query)?.into();
            return Ok(Parsed { ask, tiles: vec![TileInput::File(body)], references: Vec::new() });
        }
        let SheetOnly { sheet } = from_query(query)?;
        let mut parsed = match self {
            Self::Form { boundary } => form(body, boundary).await?,
            Self::Tensor => tensor(&body)?,
            _ => json(&body)?,
        };
        parsed.ask.output.sheet |= sheet;
        Ok(parsed)
    }
}

/// The whole body, of at most `limit` bytes.
///
/// # Errors
/// `body_too_large`, or `malformed_request` when the caller broke off.
pub async fn read(body: Body, limit: usize) -> Result<Bytes, Error> {
    to_bytes(body, limit).await.map_err(|error| {
        let past_limit = std::error::Error::source(&error).is_some_and(|source| source.to_string().contains("length limit"));
        if past_limit { too_large(limit) } else { malformed(format!("the body broke off: {error}")) }
    })
}

/// How large the body says it is, if it does.
///
/// # Errors
/// `body_too_large`, before a byte of it is read.
pub fn announced(headers: &HeaderMap, limit: usize) -> Result<Option<usize>, Error> {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()).and_then(|text| text.parse::<usize>().ok());
    if length.is_some_and(|length| length > limit) { Err(too_large(limit)) } else { Ok(length) }
}

fn too_large(limit: usize) -> Error {
    Error::new(ErrorKind::BodyTooLarge, format!("the body is larger than the {limit} bytes that are taken: send fewer tiles at once"))
}

pub fn malformed(detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::MalformedRequest, detail)
}

fn from_query<T: DeserializeOwned>(query: Option<&str>) -> Result<T, Error> {
    let uri = format!("/?{}", query.unwrap_or_default()).parse().map_err(|_| malformed("the query string is no query string"))?;
    axum::extract::Query::try_from_uri(&uri)
        .map(|query| query.0)
        .map_err(|error| malformed(format!("the query string: {}", deepest(&error))))
}

fn deepest(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), deepest)
}

/// Serde would take the fields of an object from a list too, in their order.
fn object(json: &[u8]) -> Result<(), &'static str> {
    match json.trim_ascii_start().first() {
        Some(b'[') => Err("a list"),
        None => Err("empty"),
        _ => Ok(()),
    }
}

/// An object of JSON; `what` it is stands in the error.
///
/// # Errors
/// `malformed_request`, with the field at fault.
pub fn json_object<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, Error> {
    object(bytes).map_err(|found| malformed(format!("{what} is {found}, and must be an object")))?;
    serde_json::from_slice(bytes).map_err(|error| malformed(format!("{what}: {error}")))
}

fn request_json(bytes: &[u8]) -> Result<AugmentRequest, Error> {
    json_object("the request JSON", bytes)
}

fn json(body: &[u8]) -> Result<Parsed, Error> {
    object(body).map_err(|what| {
        malformed(format!("the JSON body is {what}, and must be an object: {{\"tiles\": [base64, …], \"request\": {{…}}}}"))
    })?;
    let JsonBody { request, tiles, references } =
        serde_json::from_slice(body).map_err(|error| malformed(format!("the JSON body: {error}")))?;
    let files = |list: &'static str, items: Vec<String>| -> Result<Vec<TileInput>, Error> {
        let decode = |(index, item): (usize, String)| {
            // Browsers make data URLs; what stands before the comma says nothing that the bytes do not.
            let base64 = item.strip_prefix("data:").and_then(|url| url.split_once(',')).map_or(item.as_str(), |(_, data)| data);
            let bytes = BASE64_STANDARD.decode(base64);
            bytes
                .map(|bytes| TileInput::File(bytes.into()))
                .map_err(|error| malformed(format!("{list} {index} is not base64: {error}")).at(list, index))
        };
        items.into_iter().enumerate().map(decode).collect()
    };
    Ok(Parsed { ask: request, tiles: files("tile", tiles)?, references: files("reference", references)? })
}

/// The parts of a form by their names, in their order.
///
/// # Errors
/// `malformed_request`, when it is no form.
pub async fn form_parts(body: Bytes, boundary: String) -> Result<Vec<(String, Bytes)>, Error> {
    let unreadable = |error: multer::Error| malformed(format!("the form: {}", deepest(&error)));
    let stream = futures_util::stream::once(std::future::ready(Ok::<_, std::convert::Infallible>(body)));
    let mut form = multer::Multipart::new(stream, boundary);
    let mut parts = Vec::new();
    while let Some(part) = form.next_field().await.map_err(unreadable)? {
        let name = part.name().unwrap_or_default().to_owned();
        parts.push((name, part.bytes().await.map_err(unreadable)?));
    }
    Ok(parts)
}

async fn form(body: Bytes, boundary: String) -> Result<Parsed, Error> {
    let mut parsed = Parsed::default();
    let mut asked = false;
    for (name, bytes) in form_parts(body, boundary).await? {
        match name.as_str() {
            "request" if asked => return Err(malformed("the form has two parts named `request`")),
            "request" => (parsed.ask, asked) = (request_json(&bytes)?, true),
            "tile" => parsed.tiles.push(TileInput::File(bytes)),
            "reference" => parsed.references.push(TileInput::File(bytes)),
            other => {
                return Err(malformed(format!("the form has a part named `{other}`, and parts are named request, tile and reference")));
            }
        }
    }
    Ok(parsed)
}

fn tensor(body: &Bytes) -> Result<Parsed, Error> {
    let unreadable = |error| malformed(format!("the safetensors body: {error}"));
    let (_, header) = SafeTensors::read_metadata(body).map_err(unreadable)?;
    let file = SafeTensors::deserialize(body).map_err(unreadable)?;
    let mut parsed = Parsed::default();
    if let Some(request) = header.metadata().as_ref().and_then(|metadata| metadata.get("request")) {
        parsed.ask = request_json(request.as_bytes())?;
    }
    for (name, view) in file.tensors() {
        let list = match name.as_str() {
            "tiles" => &mut parsed.tiles,
            "references" => &mut parsed.references,
            other => return Err(malformed(format!("the body has a tensor `{other}`, and tensors are named tiles and references"))),
        };
        *list = tensor_tiles(body, &name, &view)?;
    }
    Ok(parsed)
}

/// The tiles of a tensor of the body.
///
/// # Errors
/// `malformed_request`, when it is not U8 [n, height, width, 3].
pub fn tensor_tiles(body: &Bytes, name: &str, view: &TensorView<'_>) -> Result<Vec<TileInput>, Error> {
    let &[count, height @ (1..), width @ (1..), 3] = view.shape() else {
        return Err(malformed(format!("{name} is {:?}, and must be [n, height, width, 3]", view.shape())));
    };
    if view.dtype() != Dtype::U8 {
        return Err(malformed(format!("{name} is {:?}, and must be U8", view.dtype())));
    }
    // No tiles of any size are no bytes: only where there are some does the body vouch for their size.
    if count == 0 {
        return Ok(Vec::new());
    }
    let tiles = view.data().chunks_exact(height * width * 3);
    Ok(tiles.map(|pixels| TileInput::Pixels { width, height, pixels: body.slice_ref(pixels) }).collect())
}

impl From<FlatRequest> for AugmentRequest {
    fn from(flat: FlatRequest) -> Self {
        let items = |text: &str| text.split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect();
        let list = |text: Option<String>| text.as_deref().map(items);
        Self {
            model: flat.model,
            variants: flat.variants,
            seed: flat.seed,
            method: flat.method,
            style: StyleRequest {
                from: flat.from,
                domains: list(flat.domains),
                exclude_domains: list(flat.exclude_domains),
                ids: list(flat.ids),
                blend: None,
                placement: flat.placement,
                share: flat.share,
            },
            strength: flat.strength,
            resize: flat.resize,
            output: OutputRequest { format: flat.format, quality: flat.quality, sheet: flat.sheet },
            priority: flat.priority,
            timeout_ms: flat.timeout_ms,
        }
    }
}
