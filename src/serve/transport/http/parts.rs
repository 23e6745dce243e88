//! The pieces that bodies are made of: parts of a form, tensors of tiles.

use bytes::Bytes;
use futures_util::FutureExt;
use safetensors::tensor::{Metadata, TensorView};
use safetensors::{Dtype, SafeTensors};

use crate::serve::error::Error;
use crate::serve::pipeline::TileInput;
use crate::serve::transport::bounds::{MAX_ITEMS, MAX_REQUEST_JSON, check_items};
use crate::serve::transport::read_body::malformed;

/// What an error comes from in the end: the layers above it say nothing that a caller could use.
pub(super) fn deepest(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), deepest)
}

/// The parts of a form by their names, in their order.
///
/// # Errors
/// `malformed_request`, when it is no form, `too_many_tiles` for more parts than any list has items.
pub(super) fn form_parts(body: Bytes, boundary: String) -> Result<Vec<(String, Bytes)>, Error> {
    let parts = read_parts(body, boundary).now_or_never();
    parts.expect("the body is in memory, and nothing has to be waited for")
}

async fn read_parts(body: Bytes, boundary: String) -> Result<Vec<(String, Bytes)>, Error> {
    let unreadable = |error: multer::Error| malformed(format!("the form: {}", deepest(&error)));
    let stream =
        futures_util::stream::once(std::future::ready(Ok::<_, std::convert::Infallible>(body)));
    let mut form = multer::Multipart::new(stream, boundary);
    let mut parts = Vec::new();
    while let Some(part) = form.next_field().await.map_err(unreadable)? {
        if parts.len() == MAX_ITEMS {
            check_items("the form", MAX_ITEMS + 1)?;
        }
        let name = part.name().unwrap_or_default().to_owned();
        parts.push((name, part.bytes().await.map_err(unreadable)?));
    }
    Ok(parts)
}

/// The tensors of the body, and what its head says.
///
/// # Errors
/// `malformed_request`, when it is no safetensors file, or its head is longer than a request is.
pub(super) fn tensors(body: &[u8]) -> Result<(Metadata, SafeTensors<'_>), Error> {
    let unreadable = |error| malformed(format!("the safetensors body: {error}"));
    let head = body.first_chunk().map_or(0, |length| u64::from_le_bytes(*length));
    if head > MAX_REQUEST_JSON as u64 {
        return Err(malformed(format!(
            "the head of the safetensors body has {head} bytes, and may have at most {MAX_REQUEST_JSON}"
        )));
    }
    let (_, head) = SafeTensors::read_metadata(body).map_err(unreadable)?;
    Ok((head, SafeTensors::deserialize(body).map_err(unreadable)?))
}

/// The tiles of a tensor of the body.
///
/// # Errors
/// `malformed_request`, when it is not U8 [n, height, width, 3].
pub(super) fn tensor_tiles(
    body: &Bytes,
    name: &str,
    view: &TensorView<'_>,
) -> Result<Vec<TileInput>, Error> {
    let &[count, height @ (1..), width @ (1..), 3] = view.shape() else {
        return Err(malformed(format!(
            "{name} is {:?}, and must be [n, height, width, 3]",
            view.shape()
        )));
    };
    if view.dtype() != Dtype::U8 {
        return Err(malformed(format!("{name} is {:?}, and must be U8", view.dtype())));
    }
    // No tiles of any size are no bytes: only where there are some does the body vouch for their
    // size.
    if count == 0 {
        return Ok(Vec::new());
    }
    check_items(name, count)?;
    let tiles = view.data().chunks_exact(height * width * 3);
    Ok(tiles
        .map(|pixels| TileInput::Pixels { width, height, pixels: body.slice_ref(pixels) })
        .collect())
}
