//! The body of a domain to be added: parts of a form, or a tensor.

use axum::http::{HeaderMap, header};
use bytes::Bytes;
use restain_request::{Operation, Reader, Request, Value, Wire};

use super::accept::SAFETENSORS;
use super::body::BodyKind;
use super::parts::{form_parts, tensors, tiles_of};
use crate::serve::error::{Error, ErrorKind};
use crate::serve::pipeline::TileInput;
use crate::serve::pipeline::request::field_error;
use crate::serve::transport::read_body::malformed;

/// How a body is to be read.
pub(crate) enum AddBody {
    Form { boundary: String },
    Tensor,
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
                    "Content-Type is `{given}`: send multipart/form-data with a boundary, or \
                    {SAFETENSORS}"
                );
                Err(Error::new(ErrorKind::UnsupportedMediaType, detail))
            }
        }
    }

    /// # Errors
    /// `malformed_request`, with the part that cannot be read.
    pub(crate) fn parse(self, body: Bytes) -> Result<(Request, Vec<TileInput>), Error> {
        match self {
            Self::Form { boundary } => form(body, boundary),
            Self::Tensor => tensor(&body),
        }
    }
}

fn form(body: Bytes, boundary: String) -> Result<(Request, Vec<TileInput>), Error> {
    let mut reader = Reader::new(Operation::AddStyles, Wire::Form);
    let mut tiles = Vec::new();
    for (name, bytes) in form_parts(body, boundary)? {
        if name == "tile" {
            tiles.push(TileInput::File(bytes));
            continue;
        }
        let text = std::str::from_utf8(&bytes)
            .map_err(|_| malformed(format!("the part `{name}` is not UTF-8")))?;
        reader.take(&name, text.into()).map_err(field_error)?;
    }
    Ok((reader.finish(), tiles))
}

fn tensor(body: &Bytes) -> Result<(Request, Vec<TileInput>), Error> {
    let (header, file) = tensors(body)?;
    let request = header.metadata().as_ref().and_then(|metadata| metadata.get("request"));
    let request = request
        .ok_or_else(|| malformed("the metadata has no `request`, which names the domain"))?;
    let request = Value::from_json(request.as_bytes())
        .map_err(|error| malformed(format!("the request JSON: {error}")))?;
    let mut reader = Reader::new(Operation::AddStyles, Wire::Json);
    reader.take_object("the request JSON", request).map_err(field_error)?;
    if let Some(other) = file.names().into_iter().find(|name| !["tiles", "shapes"].contains(name)) {
        return Err(malformed(format!(
            "the body has a tensor `{other}`, and tensors are named tiles and shapes"
        )));
    }
    Ok((reader.finish(), tiles_of(body, &file, "tiles", "shapes")?))
}
