//! An answer in the form that was asked for. The bytes depend on the request alone: what differs
//! from run to run (how long it took, the request's id) is in the head.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use base64::display::Base64Display;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use half::f16;
use restain_request::Choice as _;
use safetensors::Dtype;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::accept::{Form, SAFETENSORS, TAR};
use super::tensors::{self, TensorHead};
use crate::serve::admission::{Permit, admit_more};
use crate::serve::app::App;
use crate::serve::batch::TileEncoding;
use crate::serve::error::Error;
use crate::serve::middleware::permit_body::PermitBody;
use crate::serve::pipeline::answer::{
    About, AboutTile, Answer, AnsweredTile, EncodeAnswer, EncodedTile, Origin, Timings, WindowGrid,
    hundredths,
};
use crate::serve::pipeline::render;
use restain_bundle::codec::ImageFormat;

/// `application/json`, and the first part of `multipart/mixed`, where the pictures follow as parts.
#[derive(Serialize, ToSchema)]
pub(super) struct JsonAnswer<'a> {
    #[serde(flatten)]
    about: About,
    /// In the order of the request.
    tiles: Vec<JsonTile<'a>>,
}

#[derive(Serialize, ToSchema)]
struct JsonTile<'a> {
    #[serde(flatten)]
    about: AboutTile,
    variants: Vec<JsonVariant<'a>>,
}

#[derive(Serialize, ToSchema)]
struct JsonVariant<'a> {
    #[serde(flatten)]
    origin: Origin,
    #[schema(pattern = "^image/(png|jpeg|webp)$")]
    media_type: &'static str,
    /// Base64 of the picture; left out where the pictures are parts of their own.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_base64")]
    #[schema(
        value_type = String,
        nullable = false,
        content_encoding = "base64",
        content_media_type = "image/*"
    )]
    image: Option<&'a [u8]>,
}

/// What is written of a variant beside its picture, about.
const RECORD_BYTES: usize = 2 << 10;

/// A body, written.
pub(super) struct Written {
    content_type: String,
    provenance: Option<HeaderValue>,
    pieces: Vec<Bytes>,
    timings: Timings,
    permits: Vec<Arc<Permit>>,
}

/// The pictures of an answer, `[tile][variant]`.
type Pictures = Vec<Vec<Vec<u8>>>;

/// Compresses the pictures and writes the body, on CPU threads.
///
/// # Errors
/// `overloaded` when there is no memory for the body.
pub(super) async fn write(app: &App, answer: Answer, form: Form) -> Result<Written, Error> {
    let answer = Arc::new(answer);
    let (pictures, beyond) = match form {
        Form::Safetensors => (Vec::new(), 0),
        Form::Image(_) if answer.output.sheet => (Vec::new(), render::sheet_bytes(&answer)),
        Form::Json(format) | Form::Multipart(format) | Form::Tar(format) | Form::Image(format) => {
            let pictures = render::pictures(&app.cpu, &answer, format).await?;
            let bytes = pictures.iter().flatten().map(|picture| body_bytes(form, picture)).sum();
            (pictures, bytes)
        }
    };
    let mut permits = answer.permits.clone();
    permits.extend(admit_more(&permits, beyond)?);
    let held = permits.clone();
    let body = app.cpu.run(move || {
        let _held = held;
        body(&answer, form, pictures).map(|written| (written, answer))
    });
    let ((content_type, bytes), answer) = body.await??;
    let provenance = matches!(form, Form::Image(_)).then(|| head_provenance(&answer));
    let mut pieces = vec![Bytes::from(bytes)];
    if form == Form::Safetensors {
        pieces.push(answer.pixels.clone());
    }
    Ok(Written { content_type, provenance, pieces, timings: answer.timings, permits })
}

/// Media type and first piece of the body.
fn body(answer: &Answer, form: Form, pictures: Pictures) -> Result<(String, Vec<u8>), Error> {
    Ok(match form {
        Form::Json(format) => ("application/json".to_owned(), json(answer, format, &pictures)),
        Form::Multipart(format) => multipart(answer, format, &pictures),
        Form::Tar(format) => (TAR.to_owned(), tar(answer, format, &pictures)?),
        Form::Safetensors => (SAFETENSORS.to_owned(), tensor_head(answer)),
        Form::Image(format) => (format.media_type().to_owned(), image(answer, format, pictures)?),
    })
}

/// What a picture adds to a body beside itself: a copy, in base64 a third larger, and its record.
fn body_bytes(form: Form, picture: &[u8]) -> u64 {
    let copy = match form {
        Form::Image(_) | Form::Safetensors => return 0,
        Form::Json(_) => picture.len().div_ceil(3) * 4,
        Form::Multipart(_) | Form::Tar(_) => picture.len(),
    };
    (copy + RECORD_BYTES) as u64
}

/// Writes encodings as tensors: `anatomy` F16 [W, N, h], `characteristics` F16 [W, N, S], `stain`
/// F32 [n, S].
pub(super) fn write_encodings(answer: EncodeAnswer) -> Written {
    let geometry = answer.about.geometry;
    let (patches, length) = (geometry.patches(), geometry.style_len());
    let windows = answer.tiles.iter().map(|tile| tile.encoding.windows.count()).sum();
    let of_windows = |name, numbers| TensorHead {
        name,
        dtype: Dtype::F16,
        shape: vec![windows, patches, numbers],
    };
    let stain =
        TensorHead { name: "stain", dtype: Dtype::F32, shape: vec![answer.tiles.len(), length] };
    let list = |of: &dyn Fn(&EncodedTile) -> serde_json::Value| {
        serde_json::Value::Array(answer.tiles.iter().map(of).collect()).to_string()
    };
    let about = String::from_utf8(to_json(&answer.about)).expect("JSON is UTF-8");
    let metadata = BTreeMap::from([
        ("detail", answer.detail.name().to_owned()),
        ("fidelity", list(&|tile| hundredths(tile.encoding.fidelity).into())),
        ("keys", list(&|tile| tile.key.to_string().into())),
        ("model", about),
        ("takes_style", list(&|tile| tile.takes_style.into())),
        ("windows", list(&|tile| WindowGrid::of(&tile.encoding.windows).to_json())),
    ]);
    let anatomies = of_windows("anatomy", geometry.half());
    let tensors = [anatomies, of_windows("characteristics", length), stain];
    let mut pieces = vec![Bytes::from(tensors::head(&tensors, metadata))];
    // Of each window anatomy, then characteristics.
    let window = geometry.tile_latents() * size_of::<f16>();
    let anatomy = geometry.tile_anatomy() * size_of::<f16>();
    for part in [0..anatomy, anatomy..window] {
        for tile in &answer.tiles {
            let bytes = Bytes::from_owner(Latents(Arc::clone(&tile.encoding)));
            let starts = (0..tile.encoding.windows.count()).map(|index| index * window);
            pieces.extend(starts.map(|from| bytes.slice(from + part.start..from + part.end)));
        }
    }
    let stains = answer.tiles.iter().flat_map(|tile| tile.stain_or_nan(length));
    pieces.push(stains.flat_map(f32::to_le_bytes).collect());
    Written {
        content_type: SAFETENSORS.to_owned(),
        provenance: None,
        pieces,
        timings: answer.timings,
        permits: answer.permits,
    }
}

/// An encoding as the bytes that it lies in memory as: little-endian, as on every machine this is
/// built for.
struct Latents(Arc<TileEncoding>);

impl AsRef<[u8]> for Latents {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(self.0.latents())
    }
}

impl Written {
    /// The response; `total` is what the caller waited for so far.
    pub(super) fn into_response(self, total: Duration) -> Response {
        let mut response = Body::new(PermitBody::new(self.pieces, self.permits)).into_response();
        let headers = response.headers_mut();
        let ascii =
            |text: String| HeaderValue::try_from(text).expect("media types and numbers are ASCII");
        headers.insert(header::CONTENT_TYPE, ascii(self.content_type));
        headers.insert("server-timing", ascii(self.timings.server_timing(total)));
        if let Some(provenance) = self.provenance {
            headers.insert("restain-provenance", provenance);
        }
        response
    }
}

fn describe<'a>(
    answer: &'a Answer,
    format: ImageFormat,
    mut image: impl FnMut(usize, usize) -> Option<&'a [u8]>,
) -> JsonAnswer<'a> {
    let tiles = answer.tiles.iter().enumerate().map(|(t, tile)| {
        let variants = tile.variants.iter().enumerate().map(|(v, variant)| JsonVariant {
            origin: variant.origin.clone(),
            media_type: format.media_type(),
            image: image(t, v),
        });
        JsonTile { about: tile.about(), variants: variants.collect() }
    });
    JsonAnswer { about: answer.about.clone(), tiles: tiles.collect() }
}

/// Written from where it lies: a text of it would be another copy.
fn as_base64<S: Serializer>(picture: &Option<&[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
    let picture = picture.unwrap_or_default();
    serializer.collect_str(&Base64Display::new(picture, &BASE64_STANDARD))
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("answers are strings, numbers and lists")
}

fn json(answer: &Answer, format: ImageFormat, pictures: &Pictures) -> Vec<u8> {
    let form = Form::Json(format);
    let bytes: u64 = pictures.iter().flatten().map(|picture| body_bytes(form, picture)).sum();
    let mut json = Vec::with_capacity(bytes as usize);
    let described =
        describe(answer, format, |tile, variant| Some(pictures[tile][variant].as_slice()));
    serde_json::to_writer(&mut json, &described).expect("answers are strings, numbers and lists");
    json
}

fn multipart(answer: &Answer, format: ImageFormat, pictures: &Pictures) -> (String, Vec<u8>) {
    let description = to_json(&describe(answer, format, |_, _| None));
    // From the answer itself, so that the same request gives the same bytes; no picture holds its
    // own hash.
    let boundary = format!("restain-{}", &blake3::hash(&description).to_hex()[..32]);
    let form = Form::Multipart(format);
    let size: u64 = pictures.iter().flatten().map(|picture| body_bytes(form, picture)).sum();
    let mut bytes = Vec::with_capacity(size as usize);
    let mut part = |head: String, body: &[u8]| {
        bytes.extend_from_slice(format!("--{boundary}\r\n{head}\r\n").as_bytes());
        bytes.extend_from_slice(body);
        bytes.extend_from_slice(b"\r\n");
    };
    part("Content-Type: application/json\r\n".to_owned(), &description);
    for (t, (tile, pictures)) in answer.tiles.iter().zip(pictures).enumerate() {
        for (variant, picture) in tile.variants.iter().zip(pictures) {
            let name = file_name(t, variant.origin.index, format);
            let provenance = ascii_json(&answer.provenance(tile, variant));
            let kind = format.media_type();
            part(
                format!(
                    "Content-Type: {kind}\r\nContent-Disposition: attachment; \
                    filename=\"{name}\"\r\nRestain-Provenance: {provenance}\r\n"
                ),
                picture,
            );
        }
    }
    bytes.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    (format!("multipart/mixed; boundary={boundary}"), bytes)
}

/// WebDataset takes what stands before the first dot as the sample's key, and the rest as the
/// field's.
fn file_name(tile: usize, variant: usize, format: ImageFormat) -> String {
    format!("{tile:06}_{variant:03}.{}", format.extension())
}

fn tar(answer: &Answer, format: ImageFormat, pictures: &Pictures) -> Result<Vec<u8>, Error> {
    let form = Form::Tar(format);
    let size: u64 = pictures.iter().flatten().map(|picture| body_bytes(form, picture)).sum();
    let mut archive = tar::Builder::new(Vec::with_capacity(size as usize));
    let mut append = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, bytes)
    };
    for (t, (tile, pictures)) in answer.tiles.iter().zip(pictures).enumerate() {
        for (variant, picture) in tile.variants.iter().zip(pictures) {
            let name = file_name(t, variant.origin.index, format);
            let (key, _) = name.split_once('.').expect("the name has an ending");
            let provenance = to_json(&answer.provenance(tile, variant));
            append(&name, picture)
                .and_then(|()| append(&format!("{key}.json"), &provenance))
                .map_err(|error| Error::internal(&error))?;
        }
    }
    archive.into_inner().map_err(|error| Error::internal(&error))
}

/// What goes before the pixels: `variants` U8 [n, K, H, W, 3], or packed where sizes are mixed:
/// `shapes` I64 [n, 2], the height and width of each tile's variants, and `variants` U8 [bytes].
fn tensor_head(answer: &Answer) -> Vec<u8> {
    let provenance = String::from_utf8(to_json(&answer.provenances())).expect("JSON is UTF-8");
    let metadata = BTreeMap::from([("provenance", provenance)]);
    let variants = |shape| TensorHead { name: "variants", dtype: Dtype::U8, shape };
    if let Some(shape) = answer.tensor_shape() {
        return tensors::head(&[variants(shape.to_vec())], metadata);
    }
    let shapes =
        TensorHead { name: "shapes", dtype: Dtype::I64, shape: vec![answer.tiles.len(), 2] };
    let mut head = tensors::head(&[shapes, variants(vec![answer.pixels.len()])], metadata);
    for tile in &answer.tiles {
        for side in [tile.height, tile.width] {
            head.extend_from_slice(&(side as i64).to_le_bytes());
        }
    }
    head
}

fn image(answer: &Answer, format: ImageFormat, mut pictures: Pictures) -> Result<Vec<u8>, Error> {
    if answer.output.sheet {
        return render::sheet(answer, format);
    }
    pictures
        .pop()
        .and_then(|mut tile| tile.pop())
        .ok_or_else(|| Error::internal(&"a picture was promised, and none was made"))
}

/// A record for one variant; for a sheet, what is common once and then only what differs, so that
/// it fits into a head.
fn head_provenance(answer: &Answer) -> HeaderValue {
    let text = if answer.output.sheet {
        let tile = |tile: &AnsweredTile| SheetTile {
            about: tile.about(),
            variants: tile.variants.iter().map(|variant| variant.origin.clone()).collect(),
        };
        ascii_json(&SheetProvenance {
            about: &answer.about,
            tiles: answer.tiles.iter().map(tile).collect(),
        })
    } else {
        ascii_json(&answer.provenances()[0])
    };
    HeaderValue::try_from(text).expect("the JSON is ASCII without control characters")
}

#[derive(Serialize)]
struct SheetProvenance<'a> {
    #[serde(flatten)]
    about: &'a About,
    tiles: Vec<SheetTile>,
}

#[derive(Serialize)]
struct SheetTile {
    #[serde(flatten)]
    about: AboutTile,
    variants: Vec<Origin>,
}

/// JSON without a byte that a header could not carry: what is not ASCII is escaped, as JSON allows.
fn ascii_json(value: &impl Serialize) -> String {
    let text = serde_json::to_string(value).expect("answers are strings, numbers and lists");
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() && c != '\u{7f}' {
            escaped.push(c);
        } else {
            escaped.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    escaped
}
