//! A message as the pipeline takes it: its fields go through the reader that all transports share.
//! A number that an enum of this version does not have is rejected, as an unknown word of JSON is.

use restain_request::{Operation, Request, Value, Wire};

use super::proto;
use crate::serve::error::{Error, ErrorKind};
use crate::serve::pipeline::TileInput;
use crate::serve::pipeline::request::field_error;
use crate::serve::transport::bounds::check_items;
use restain_bundle::codec::TileKey;

/// A request taken apart.
pub(crate) struct Asked {
    pub ask: Request,
    pub tiles: Vec<TileInput>,
    pub references: Vec<TileInput>,
}

/// Reads the fields of a request for variants.
///
/// # Errors
/// Of the field that cannot be read.
pub(crate) fn augment(request: proto::AugmentRequest) -> Result<Asked, Error> {
    let style = request.style.unwrap_or_default();
    let blend: Vec<Value> = style.blend.into_iter().map(blend_part).collect();
    let fields = [
        ("model", given(request.model)),
        ("variants", number(request.variants.map(u64::from))),
        ("seed", number(request.seed)),
        ("method", word::<proto::Method>(request.method)),
        ("style.from", word::<proto::StyleSource>(style.from)),
        ("style.domains", list(style.domains.into())),
        ("style.exclude_domains", list(style.exclude_domains.into())),
        ("style.ids", list(style.ids.into())),
        ("style.blend", list(Value::List(blend))),
        ("style.placement", word::<proto::Placement>(style.placement)),
        ("style.share", word::<proto::Share>(style.share)),
        ("style.spread", style.spread.map_or(Value::Null, single)),
        ("slide", list(request.slide.into())),
        ("strength", request.strength.map_or(Value::Null, single)),
        ("strength_from", request.strength_from.map_or(Value::Null, single)),
        ("detail", word::<proto::Detail>(request.detail)),
        ("mpp", request.mpp.map_or(Value::Null, single)),
        ("format", format(request.format)),
        ("quality", number(request.quality.map(u64::from))),
        ("priority", word::<proto::Priority>(request.priority)),
        ("timeout_ms", number(request.timeout_ms)),
    ];
    Ok(Asked {
        ask: restain_request::read(Operation::Augment, Wire::Grpc, fields).map_err(field_error)?,
        tiles: tiles("tile", request.tiles)?,
        references: without_keys("reference", request.references)?,
    })
}

/// Reads the fields of a request for encodings.
///
/// # Errors
/// Of the field that cannot be read.
pub(crate) fn encode(request: proto::EncodeRequest) -> Result<(Request, Vec<TileInput>), Error> {
    let fields = [
        ("model", given(request.model)),
        ("detail", word::<proto::Detail>(request.detail)),
        ("mpp", request.mpp.map_or(Value::Null, single)),
        ("priority", word::<proto::Priority>(request.priority)),
        ("timeout_ms", number(request.timeout_ms)),
    ];
    let ask = restain_request::read(Operation::Encode, Wire::Grpc, fields).map_err(field_error)?;
    Ok((ask, tiles("tile", request.tiles)?))
}

/// Reads the fields of a request that adds a slide.
///
/// # Errors
/// Of the field that cannot be read.
pub(crate) fn add_slide(
    request: proto::AddSlideRequest,
) -> Result<(Request, Vec<TileInput>), Error> {
    let fields = [
        ("model", given(request.model)),
        ("mpp", request.mpp.map_or(Value::Null, single)),
        ("priority", word::<proto::Priority>(request.priority)),
        ("timeout_ms", number(request.timeout_ms)),
    ];
    let ask =
        restain_request::read(Operation::AddSlide, Wire::Grpc, fields).map_err(field_error)?;
    Ok((ask, tiles("tile", request.tiles)?))
}

/// Reads the fields of a request that adds a domain.
///
/// # Errors
/// Of the field that cannot be read.
pub(crate) fn add_styles(
    request: proto::AddStylesRequest,
) -> Result<(Request, Vec<TileInput>), Error> {
    let fields = [
        ("domain", request.domain.into()),
        ("model", given(request.model)),
        ("styles", number(request.styles.map(u64::from))),
    ];
    let ask =
        restain_request::read(Operation::AddStyles, Wire::Grpc, fields).map_err(field_error)?;
    Ok((ask, without_keys("tile", request.tiles)?))
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
            "{list}s.pixels has {bytes} bytes of data for tiles of {width}×{height} pixels, and \
            needs {size} for each of them, and more than none"
        )));
    }
    let (width, height, size) = (width as usize, height as usize, size as usize);
    check_items(list, data.len() / size)?;
    while !data.is_empty() {
        tiles.push(TileInput::Pixels { width, height, pixels: data.split_to(size) });
    }
    Ok(())
}

fn given(text: String) -> Value {
    self::text(text).map_or(Value::Null, Value::Text)
}

fn number(number: Option<u64>) -> Value {
    number.map_or(Value::Null, Value::from)
}

/// The number that the float was written as: 0.1 rather than 0.10000000149.
fn single(number: f32) -> Value {
    number.to_string().parse().map_or(Value::Float(number.into()), Value::Float)
}

/// Proto3 has no lists that are given and empty.
fn list(list: Value) -> Value {
    if list == Value::List(Vec::new()) { Value::Null } else { list }
}

fn blend_part(part: proto::BlendPart) -> Value {
    use proto::blend_part::Of;
    let of = part.of.map(|of| match of {
        Of::Id(id) => ("id".to_owned(), Value::Text(id)),
        Of::Domain(domain) => ("domain".to_owned(), Value::Text(domain)),
    });
    Value::Object(of.into_iter().chain([("weight".to_owned(), single(part.weight))]).collect())
}

/// An enum's number as its word: METHOD_COLOR_MATCH as `color-match`. 0 is a field that was left
/// out.
fn word<E: TryFrom<i32> + Named>(number: i32) -> Value {
    match E::try_from(number) {
        _ if number == 0 => Value::Null,
        Ok(value) => {
            let name = value.name().strip_prefix(E::PREFIX).unwrap_or(value.name());
            Value::Text(name.to_ascii_lowercase().replace('_', "-"))
        }
        Err(_) => Value::Integer(number.into()),
    }
}

/// Pixels are what an answer has when it is not given a format.
fn format(number: i32) -> Value {
    let pixels = number == i32::from(proto::Format::Pixels);
    if pixels { Value::Null } else { word::<proto::Format>(number) }
}

/// An enum of the messages.
trait Named {
    /// What its names begin with.
    const PREFIX: &'static str;
    fn name(&self) -> &'static str;
}

macro_rules! named {
    ($($type:ident = $prefix:literal),*) => {$(
        impl Named for proto::$type {
            const PREFIX: &'static str = $prefix;

            fn name(&self) -> &'static str {
                self.as_str_name()
            }
        }
    )*};
}
named!(
    Method = "METHOD_",
    StyleSource = "STYLE_SOURCE_",
    Detail = "DETAIL_",
    Placement = "PLACEMENT_",
    Share = "SHARE_",
    Format = "FORMAT_",
    Priority = "PRIORITY_"
);

fn malformed(detail: String) -> Error {
    Error::new(ErrorKind::MalformedRequest, detail)
}
