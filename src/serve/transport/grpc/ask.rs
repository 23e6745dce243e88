//! What came in, as the pipeline takes it. An enum's number that this version does not know is refused, as an unknown
//! field of JSON is.

use super::proto;
use crate::serve::error::{Error, ErrorKind};
use crate::serve::pipeline::TileInput;
use crate::serve::pipeline::request::{
    AugmentRequest, BlendPart, EncodeTilesRequest, Method, OutputRequest, Placement, Priority,
    Share, StyleRequest, StyleSource,
};
use restain_bundle::codec::{ImageFormat, TileKey};

/// A request taken apart.
pub(crate) struct Asked {
    pub ask: AugmentRequest,
    pub tiles: Vec<TileInput>,
    pub references: Vec<TileInput>,
}

/// # Errors
/// `malformed_request`, with the field that cannot be read.
pub(crate) fn augment(request: proto::AugmentRequest) -> Result<Asked, Error> {
    let ask = AugmentRequest {
        model: text(request.model),
        variants: request.variants.map(u64::from),
        seed: request.seed,
        method: method(request.method)?,
        style: style(request.style.unwrap_or_default())?,
        strength: request.strength,
        resize: request.resize,
        output: OutputRequest {
            format: format(request.format)?,
            quality: request.quality,
            sheet: false,
        },
        priority: priority(request.priority)?,
        timeout_ms: request.timeout_ms,
    };
    Ok(Asked {
        ask,
        tiles: tiles("tile", request.tiles)?,
        references: without_keys("reference", request.references)?,
    })
}

/// # Errors
/// `malformed_request`, with the field that cannot be read.
pub(crate) fn encode(
    request: proto::EncodeRequest,
) -> Result<(EncodeTilesRequest, Vec<TileInput>), Error> {
    let priority = priority(request.priority)?;
    let ask = EncodeTilesRequest {
        model: text(request.model),
        resize: request.resize,
        priority,
        timeout_ms: request.timeout_ms,
    };
    Ok((ask, tiles("tile", request.tiles)?))
}

/// # Errors
/// `malformed_request`, when a key came where a tile's pixels are needed.
pub(crate) fn without_keys(
    list: &'static str,
    given: Option<proto::Tiles>,
) -> Result<Vec<TileInput>, Error> {
    if given.as_ref().is_some_and(|tiles| !tiles.keys.is_empty()) {
        return Err(malformed(format!("{list}s.keys is given, and {list}s are images or pixels")));
    }
    tiles(list, given)
}

/// Proto3 writes a text that was left out as an empty one.
pub(crate) fn text(text: String) -> Option<String> {
    if text.is_empty() { None } else { Some(text) }
}

/// Images, then pixels, then keys.
fn tiles(list: &'static str, tiles: Option<proto::Tiles>) -> Result<Vec<TileInput>, Error> {
    let proto::Tiles { images, pixels, keys } = tiles.unwrap_or_default();
    let mut read: Vec<TileInput> = images.into_iter().map(TileInput::File).collect();
    if let Some(pixels) = pixels {
        split(list, pixels, &mut read)?;
    }
    for (index, key) in keys.iter().enumerate() {
        let bytes: [u8; TileKey::BYTES] = key[..].try_into().map_err(|_| {
            malformed(format!(
                "key {index} has {} bytes, and a key has {}",
                key.len(),
                TileKey::BYTES
            ))
            .at("key", index)
        })?;
        read.push(TileInput::Key(TileKey::from_bytes(bytes)));
    }
    Ok(read)
}

fn split(list: &str, pixels: proto::Pixels, tiles: &mut Vec<TileInput>) -> Result<(), Error> {
    let proto::Pixels { height, width, mut data } = pixels;
    let size = u64::from(height) * u64::from(width) * 3;
    if size == 0 || !(data.len() as u64).is_multiple_of(size) {
        let bytes = data.len();
        return Err(malformed(format!(
            "{list}s.pixels has {bytes} bytes of data for tiles of {width}×{height} pixels, and needs {size} for each of them, and more than none"
        )));
    }
    let (width, height, size) = (width as usize, height as usize, size as usize);
    while !data.is_empty() {
        tiles.push(TileInput::Pixels { width, height, pixels: data.split_to(size) });
    }
    Ok(())
}

fn style(style: proto::Style) -> Result<StyleRequest, Error> {
    let list = |list: Vec<String>| if list.is_empty() { None } else { Some(list) };
    let blend: Vec<BlendPart> = style.blend.into_iter().map(blend_part).collect();
    let from = match known("style.from", style.from)? {
        proto::StyleSource::Unspecified | proto::StyleSource::Bank => StyleSource::Bank,
        proto::StyleSource::Batch => StyleSource::Batch,
        proto::StyleSource::Reference => StyleSource::Reference,
        proto::StyleSource::Own => StyleSource::Own,
    };
    let placement = match known("style.placement", style.placement)? {
        proto::Placement::Unspecified | proto::Placement::Broadcast => Placement::Broadcast,
        proto::Placement::Aligned => Placement::Aligned,
    };
    let share = match known("style.share", style.share)? {
        proto::Share::Unspecified | proto::Share::Tile => Share::Tile,
        proto::Share::Request => Share::Request,
    };
    Ok(StyleRequest {
        from,
        domains: list(style.domains),
        exclude_domains: list(style.exclude_domains),
        ids: list(style.ids),
        blend: if blend.is_empty() { None } else { Some(blend) },
        placement,
        share,
    })
}

fn blend_part(part: proto::BlendPart) -> BlendPart {
    use proto::blend_part::Of;
    let (id, domain) = match part.of {
        Some(Of::Id(id)) => (Some(id), None),
        Some(Of::Domain(domain)) => (None, Some(domain)),
        None => (None, None),
    };
    BlendPart { id, domain, weight: part.weight }
}

fn method(number: i32) -> Result<Method, Error> {
    Ok(match known("method", number)? {
        proto::Method::Unspecified | proto::Method::Vit => Method::Vit,
        proto::Method::ColorMatch => Method::ColorMatch,
        proto::Method::HedJitter => Method::HedJitter,
        proto::Method::Identity => Method::Identity,
    })
}

fn format(number: i32) -> Result<Option<ImageFormat>, Error> {
    Ok(match known("format", number)? {
        proto::Format::Unspecified | proto::Format::Pixels => None,
        proto::Format::Png => Some(ImageFormat::Png),
        proto::Format::Jpeg => Some(ImageFormat::Jpeg),
        proto::Format::Webp => Some(ImageFormat::Webp),
    })
}

fn priority(number: i32) -> Result<Priority, Error> {
    Ok(match known("priority", number)? {
        proto::Priority::Unspecified | proto::Priority::Interactive => Priority::Interactive,
        proto::Priority::Bulk => Priority::Bulk,
    })
}

fn known<E: TryFrom<i32>>(field: &str, number: i32) -> Result<E, Error> {
    E::try_from(number)
        .map_err(|_| malformed(format!("{field} is {number}, which is none of its numbers")))
}

fn malformed(detail: String) -> Error {
    Error::new(ErrorKind::MalformedRequest, detail)
}
