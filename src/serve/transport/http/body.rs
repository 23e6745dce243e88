//! What came in, by `Content-Type`: one picture, parts of a form, a tensor, or JSON. Read whole
//! into memory that admission has lent, then taken apart; nothing is decoded here.

use std::borrow::Cow;

use axum::http::{HeaderMap, header};
use bytes::Bytes;
use restain_request::{Operation, Reader, Request, Value, Wire, field};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde::Deserialize;

use super::accept::SAFETENSORS;
use super::parts::{deepest, form_parts, tensors, tiles_of};
use super::texts::Texts;
use crate::serve::error::{Error, ErrorKind};
use crate::serve::pipeline::TileInput;
use crate::serve::pipeline::request::field_error;
use crate::serve::transport::bounds::{MAX_REQUEST_JSON, check_items};
use crate::serve::transport::read_body::{malformed, object};
use crate::serve::transport::{base64_text, json};
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
pub(crate) struct Parsed {
    pub ask: Request,
    /// Those that came whole, then those that came as keys.
    pub tiles: Vec<TileInput>,
    pub references: Vec<TileInput>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AnyJsonBody<'a> {
    request: Option<Value>,
    #[serde(borrow, default)]
    tiles: Texts<'a>,
    #[serde(borrow, default)]
    keys: Texts<'a>,
    #[serde(borrow, default)]
    references: Texts<'a>,
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
    /// `malformed_request`, with the part that cannot be read, or what is wrong with a field.
    pub(crate) fn parse(
        self,
        operation: Operation,
        body: Bytes,
        query: Option<&str>,
    ) -> Result<Parsed, Error> {
        let query = pairs(query)?;
        if self == Self::Image {
            let ask = restain_request::read(operation, Wire::Query, query).map_err(field_error)?;
            return Ok(Parsed { ask, tiles: vec![TileInput::File(body)], references: Vec::new() });
        }
        let is_sheet = sheet(operation, query)?;
        let mut parsed = match self {
            Self::Form { boundary } => form(operation, body, boundary)?,
            Self::Tensor => tensor(operation, &body)?,
            _ => json(operation, &body)?,
        };
        parsed.ask.output_sheet |= is_sheet;
        if operation != Operation::Augment && !parsed.references.is_empty() {
            return Err(malformed(
                "the body holds references, and this route takes tiles and keys alone",
            ));
        }
        Ok(parsed)
    }
}

/// Splits a query string.
fn pairs(query: Option<&str>) -> Result<Vec<(String, Value)>, Error> {
    let uri = format!("/?{}", query.unwrap_or_default())
        .parse()
        .map_err(|_| malformed("the query string cannot be read: percent-encode it"))?;
    let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&uri)
        .map_err(|error| malformed(format!("the query string: {}", deepest(&error))))?;
    Ok(pairs.0.into_iter().map(|(name, text)| (name, Value::Text(text))).collect())
}

/// `?sheet=true`, the one query parameter that goes with every kind of body: all others stand in
/// the request JSON.
fn sheet(operation: Operation, query: Vec<(String, Value)>) -> Result<bool, Error> {
    let others = query.iter().map(|(name, _)| name.as_str());
    let others: Vec<&str> =
        others.filter(|name| !field::output_sheet.is_named(Wire::Query, name)).collect();
    let others = others.join(", ");
    let asked = restain_request::read(operation, Wire::Query, query).map_err(field_error)?;
    if others.is_empty() {
        return Ok(asked.output_sheet);
    }
    Err(malformed(format!(
        "the query string has {others}, which goes with a body that is one picture: put it into \
        the request JSON"
    )))
}

/// Reads the request JSON.
fn request_json(operation: Operation, json: &[u8]) -> Result<Request, Error> {
    if json.len() > MAX_REQUEST_JSON {
        let length = json.len();
        return Err(malformed(format!(
            "the request JSON has {length} bytes, and may have at most {MAX_REQUEST_JSON}"
        )));
    }
    let value =
        Value::from_json(json).map_err(|error| malformed(format!("the request JSON: {error}")))?;
    request_value(operation, value)
}

fn request_value(operation: Operation, value: Value) -> Result<Request, Error> {
    let mut reader = Reader::new(operation, Wire::Json);
    reader.take_object("the request JSON", value).map_err(field_error)?;
    Ok(reader.finish())
}

fn json(operation: Operation, body: &[u8]) -> Result<Parsed, Error> {
    object(body).map_err(|what| {
        malformed(format!(
            "the JSON body is {what}, and must be an object: {{\"tiles\": [base64, …], \
            \"request\": {{…}}}}"
        ))
    })?;
    // Null is a body without fields.
    let body = serde_json::from_slice::<Option<AnyJsonBody<'_>>>(body)
        .map_err(|error| json::wrong::<Option<AnyJsonBody<'_>>>("the JSON body", body, &error))?;
    let AnyJsonBody { request, tiles, keys, references } = body.unwrap_or_default();
    let files = |name, one, items: Texts<'_>| -> Result<Vec<TileInput>, Error> {
        let decode = |(index, item): (usize, &Cow<'_, str>)| {
            // Browsers make data URLs; what stands before the comma says nothing that the bytes do
            // not.
            let base64 = item
                .strip_prefix("data:")
                .and_then(|url| url.split_once(','))
                .map_or(&**item, |(_, data)| data);
            base64_text::decode(base64)
                .map(TileInput::File)
                .map_err(|error| malformed(format!("{one} {index} {error}")).at(one, index))
        };
        items.read(name, one, "base64 text")?.iter().enumerate().map(decode).collect()
    };
    let mut tiles = files("tiles", "tile", tiles)?;
    for (index, text) in keys.read("keys", "key", "64 hex digits")?.iter().enumerate() {
        tiles.push(key(index, text)?);
    }
    Ok(Parsed {
        ask: request_value(operation, request.unwrap_or(Value::Null))?,
        tiles,
        references: files("references", "reference", references)?,
    })
}

fn key(index: usize, text: &str) -> Result<TileInput, Error> {
    text.trim()
        .parse()
        .map(TileInput::Key)
        .map_err(|error| malformed(format!("key {index}: {error}")).at("key", index))
}

fn form(operation: Operation, body: Bytes, boundary: String) -> Result<Parsed, Error> {
    let mut parsed = Parsed::default();
    let (mut keys, mut asked) = (Vec::new(), false);
    for (name, bytes) in form_parts(body, boundary)? {
        match name.as_str() {
            "request" if asked => return Err(malformed("the form has two parts named `request`")),
            "request" => (parsed.ask, asked) = (request_json(operation, &bytes)?, true),
            "tile" => parsed.tiles.push(TileInput::File(bytes)),
            "key" => keys.push(key(keys.len(), &String::from_utf8_lossy(&bytes))?),
            "reference" => parsed.references.push(TileInput::File(bytes)),
            other => {
                return Err(malformed(format!(
                    "the form has a part named `{other}`, and parts are named request, tile, key \
                    and reference"
                )));
            }
        }
    }
    parsed.tiles.append(&mut keys);
    Ok(parsed)
}

/// The tensors of a body.
const TENSORS: [&str; 5] = ["tiles", "shapes", "keys", "references", "reference_shapes"];

fn tensor(operation: Operation, body: &Bytes) -> Result<Parsed, Error> {
    let (header, file) = tensors(body)?;
    let mut parsed = Parsed::default();
    if let Some(request) = header.metadata().as_ref().and_then(|metadata| metadata.get("request")) {
        parsed.ask = request_json(operation, request.as_bytes())?;
    }
    if let Some(other) = file.names().into_iter().find(|name| !TENSORS.contains(name)) {
        return Err(malformed(format!(
            "the body has a tensor `{other}`, and tensors are named {}",
            TENSORS.join(", ")
        )));
    }
    parsed.tiles = tiles_of(body, &file, "tiles", "shapes")?;
    parsed.references = tiles_of(body, &file, "references", "reference_shapes")?;
    if let Ok(keys) = file.tensor("keys") {
        parsed.tiles.append(&mut tensor_keys(&keys)?);
    }
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
    check_items("keys", view.shape()[0])?;
    Ok(view
        .data()
        .as_chunks()
        .0
        .iter()
        .map(|bytes| TileInput::Key(TileKey::from_bytes(*bytes)))
        .collect())
}
