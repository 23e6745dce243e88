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
/// `malformed_request`, when it is no form, `too_many_tiles` for more parts than any list has
/// items.
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
            "the head of the safetensors body has {head} bytes, and may have at most \
            {MAX_REQUEST_JSON}"
        )));
    }
    let (_, head) = SafeTensors::read_metadata(body).map_err(unreadable)?;
    Ok((head, SafeTensors::deserialize(body).map_err(unreadable)?))
}

/// The tiles of a body's tensor `name`, where they lie; none without such a tensor. `shapes` names
/// the tensor of their sizes, which is there when they are packed.
///
/// # Errors
/// `malformed_request`, when they are neither U8 [n, height, width, 3] nor packed.
pub(super) fn tiles_of(
    body: &Bytes,
    file: &SafeTensors<'_>,
    name: &str,
    shapes: &str,
) -> Result<Vec<TileInput>, Error> {
    let sizes = file.tensor(shapes).ok();
    match (file.tensor(name), &sizes) {
        (Ok(view), sizes) => {
            tensor_tiles(body, (name, &view), sizes.as_ref().map(|sizes| (shapes, sizes)))
        }
        (Err(_), None) => Ok(Vec::new()),
        (Err(_), Some(_)) => Err(malformed(format!(
            "the body has a tensor `{shapes}`, and no `{name}` of these sizes"
        ))),
    }
}

/// The tiles of a tensor of the body, where they lie; `shapes` is the tensor of their sizes, when
/// they are packed.
fn tensor_tiles(
    body: &Bytes,
    (name, view): (&str, &TensorView<'_>),
    shapes: Option<(&str, &TensorView<'_>)>,
) -> Result<Vec<TileInput>, Error> {
    if view.dtype() != Dtype::U8 {
        return Err(malformed(format!("{name} is {:?}, and must be U8", view.dtype())));
    }
    if let Some((of, shapes)) = shapes {
        let sizes = packed_sizes(of, shapes)?;
        return unpacked(body, (name, view), &sizes);
    }
    let &[count, height @ (1..), width @ (1..), 3] = view.shape() else {
        return Err(malformed(format!(
            "{name} is {:?}, and must be [n, height, width, 3], or [bytes] beside a tensor of \
            shapes",
            view.shape()
        )));
    };
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

/// Height and width of packed tiles.
fn packed_sizes(name: &str, view: &TensorView<'_>) -> Result<Vec<(usize, usize)>, Error> {
    let wrong = || {
        let (dtype, shape) = (view.dtype(), view.shape());
        malformed(format!(
            "{name} is {dtype:?} {shape:?}, and must be I64 [n, 2]: the height and width of each \
            tile"
        ))
    };
    let numbers: Vec<i64> = match (view.dtype(), view.shape()) {
        (Dtype::I64, [_, 2]) => {
            view.data().as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()
        }
        (Dtype::U32, [_, 2]) => view
            .data()
            .as_chunks()
            .0
            .iter()
            .map(|bytes| u32::from_le_bytes(*bytes).into())
            .collect(),
        _ => return Err(wrong()),
    };
    let side = |side: i64| usize::try_from(side).ok().filter(|side| (1..1 << 20).contains(side));
    let size = |(index, pair): (usize, &[i64; 2])| {
        let [height, width] = *pair;
        side(height).zip(side(width)).ok_or_else(|| {
            malformed(format!("{name} has {height}×{width} for tile {index}, which is no size"))
        })
    };
    let pairs = numbers.as_chunks::<2>().0;
    check_items(name, pairs.len())?;
    pairs.iter().enumerate().map(size).collect()
}

/// Tiles that lie one after the other.
fn unpacked(
    body: &Bytes,
    (name, view): (&str, &TensorView<'_>),
    sizes: &[(usize, usize)],
) -> Result<Vec<TileInput>, Error> {
    let needed: u64 = sizes.iter().map(|(height, width)| (height * width * 3) as u64).sum();
    if view.shape().len() != 1 || view.data().len() as u64 != needed {
        return Err(malformed(format!(
            "{name} is {:?}, and must be [{needed}]: the bytes of the tiles that the shapes name",
            view.shape()
        )));
    }
    let mut rest = view.data();
    let take = |&(height, width): &(usize, usize)| {
        let (pixels, after) = rest.split_at(height * width * 3);
        rest = after;
        TileInput::Pixels { width, height, pixels: body.slice_ref(pixels) }
    };
    Ok(sizes.iter().map(take).collect())
}
