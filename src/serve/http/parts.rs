//! The pieces that bodies are made of: parts of a form, objects of JSON, tensors of tiles.

use bytes::Bytes;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde::de::DeserializeOwned;

use crate::serve::error::{Error, ErrorKind};
use crate::serve::pipeline::TileInput;

pub fn malformed(detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::MalformedRequest, detail)
}

/// What an error comes from in the end: the layers above it say nothing that a caller could use.
pub fn deepest(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), deepest)
}

/// Serde would take the fields of an object from a list too, in their order.
pub fn object(json: &[u8]) -> Result<(), &'static str> {
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
