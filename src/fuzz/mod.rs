//! Every decoder of bytes that come from outside, as one function of those bytes: what the fuzzers
//! of fuzz/ call, and what the tests below replay its corpus through. Each goes the way that a
//! transport or a loader goes, and asserts what the next reader relies upon; whether something is
//! refused or taken is no concern of theirs.
//!
//! Not here: `encoder.onnx`, which ONNX Runtime reads. It comes from the operator, with its digest
//! in the manifest.

use std::path::Path;

use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use bytes::Bytes;
use foyer::Code;
use prost::Message;
use restain_request::Operation;
use sha2::{Digest, Sha256};

use crate::serve::cache::entry::{CacheKey, Kept};
use crate::serve::error::Error;
use crate::serve::pipeline::TileInput;
use crate::serve::transport::grpc::{ask, proto};
use crate::serve::transport::http::add_body::AddBody;
use crate::serve::transport::http::body::BodyKind;
use crate::serve::transport::oip;
use crate::serve::transport::rpc::check_message;
use restain_bundle::codec::{self, Limits};
use restain_bundle::{
    Bundle, MANIFEST_FILE, Precision, STYLES_FILE, StyleBank, WEIGHTS_FILE, Weights,
};
use restain_method::exemplar;

#[cfg(test)]
mod replay;

/// A tile has fewer; what a fuzzer gains from larger ones is only waiting.
const LIMITS: Limits = Limits::of_tile(1 << 16);
/// Numbers of a style, as tests/fixtures/bundle-tiny has them.
const HALF: usize = 24;

pub type Target = fn(&[u8]);

/// By the name of the fuzzer and of its corpus.
pub const TARGETS: [(&str, Target); 14] = [
    ("image", image),
    ("json", json),
    ("query", query),
    ("form", form),
    ("add_form", add_form),
    ("safetensors", safetensors),
    ("oip", open_inference),
    ("oip_grpc", open_inference_message),
    ("grpc", message),
    ("bundle", bundle),
    ("weights", weights),
    ("styles", styles),
    ("cache_entry", cache_entry),
    ("pixels", pixels),
];

/// A picture file.
pub fn image(bytes: &[u8]) {
    let size = codec::probe(bytes, &LIMITS);
    let Ok(picture) = codec::decode(bytes, &LIMITS) else { return };
    assert_eq!(size.expect("what can be decoded can be probed"), (picture.width, picture.height));
    assert!((picture.width * picture.height) as u64 <= LIMITS.max_pixels);
    assert_eq!(picture.pixels.len(), picture.width * picture.height * 3);
}

/// Two bytes, the format and the quality of an answer, and a picture file: everything that is done
/// to its pixels on their way through the server, but for the encoder.
pub fn pixels(bytes: &[u8]) {
    let Some((&[format, quality], file)) = bytes.split_first_chunk() else { return };
    let Ok(picture) = codec::decode(file, &LIMITS) else { return };
    let (width, height) = (picture.width, picture.height);
    let _ = exemplar::has_stain(&picture.pixels, width, 16);
    let tile = codec::resize(&picture, 32, 32);
    let back = codec::resize(&tile, width, height);
    assert_eq!((back.width, back.height, back.pixels.len()), (width, height, width * height * 3));
    let formats = [codec::ImageFormat::Png, codec::ImageFormat::Jpeg, codec::ImageFormat::Webp];
    let written = codec::encode(formats[usize::from(format) % 3], quality, &back);
    let again = codec::decode(&written.expect("a tile's sides suit every format"), &LIMITS);
    let again = again.expect("what was written can be read");
    assert_eq!((again.width, again.height), (width, height));
}

/// A JSON body.
pub fn json(bytes: &[u8]) {
    body(&BodyKind::Json, bytes, None);
}

/// A query string.
pub fn query(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    body(&BodyKind::Image, b"", Some(text));
    body(&BodyKind::Json, b"{}", Some(text));
}

/// A line that is the `Content-Type`, and the body.
pub fn form(bytes: &[u8]) {
    let Some((headers, rest)) = headed(bytes) else { return };
    if let Ok(kind) = BodyKind::of(&headers) {
        body(&kind, rest, None);
    }
}

/// A line that is the `Content-Type`, and the body, of POST /v1/styles.
pub fn add_form(bytes: &[u8]) {
    let Some((headers, rest)) = headed(bytes) else { return };
    if let Ok(kind) = AddBody::of(&headers)
        && let Ok((_, tiles)) = kind.parse(Bytes::copy_from_slice(rest))
    {
        whole(&tiles);
    }
}

/// A safetensors body.
pub fn safetensors(bytes: &[u8]) {
    body(&BodyKind::Tensor, bytes, None);
    if let Ok((_, tiles)) = AddBody::Tensor.parse(Bytes::copy_from_slice(bytes)) {
        whole(&tiles);
    }
}

/// Two bytes, the length of the JSON (all of the body where they are 0xffff), and a body of the
/// Open Inference Protocol.
pub fn open_inference(bytes: &[u8]) {
    let Some((length, rest)) = bytes.split_first_chunk() else { return };
    let length =
        Some(u16::from_le_bytes(*length)).filter(|&length| length != u16::MAX).map(usize::from);
    let Ok(mut asked) = oip::body::read(Bytes::copy_from_slice(rest), length) else { return };
    // Both are asked, whatever the first one says.
    let (parameters, inputs) = (
        oip::parameters::ask(asked.parameters, &mut asked.ignored),
        oip::input::pictures(asked.inputs),
    );
    drop(parameters);
    pictures(inputs);
}

/// A byte whose lowest bit says whether it came in a stream, and a message.
pub fn open_inference_message(bytes: &[u8]) {
    let Some((way, rest)) = bytes.split_first() else { return };
    if check_message::<oip::proto::ModelInferRequest>(rest).is_err() {
        return;
    }
    let Ok(request) = oip::proto::ModelInferRequest::decode(rest) else { return };
    let Ok(mut asked) = oip::message::read(request, way & 1 == 1) else { return };
    let (parameters, inputs) = (
        oip::parameters::ask(asked.infer.parameters, &mut asked.infer.ignored),
        oip::input::pictures(asked.infer.inputs),
    );
    drop(parameters);
    pictures(inputs);
}

/// A byte whose lowest bit says which call, and its message.
pub fn message(bytes: &[u8]) {
    let Some((call, rest)) = bytes.split_first() else { return };
    if call & 1 == 0 {
        if check_message::<proto::AugmentRequest>(rest).is_err() {
            return;
        }
        let Ok(request) = proto::AugmentRequest::decode(rest) else { return };
        let Ok(asked) = ask::augment(request) else { return };
        whole(&asked.tiles);
        whole(&asked.references);
    } else {
        let Ok(request) = proto::EncodeRequest::decode(rest) else { return };
        let Ok((_, tiles)) = ask::encode(request) else { return };
        whole(&tiles);
    }
}

/// Four bytes, the length of the manifest; the manifest; the style bank. The digest of the bank is
/// made to agree, as the makers of bundles see to, and the encoder is an empty file.
pub fn bundle(bytes: &[u8]) {
    let Some((length, rest)) = bytes.split_first_chunk() else { return };
    let (manifest, bank) = rest.split_at((u32::from_le_bytes(*length) as usize).min(rest.len()));
    let manifest = match serde_json::from_slice::<serde_json::Value>(manifest) {
        Ok(mut manifest) => {
            if let Some(digest) = manifest.pointer_mut(&format!("/files/{STYLES_FILE}")) {
                *digest = Sha256::digest(bank)
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect::<String>()
                    .into();
            }
            manifest.to_string().into_bytes()
        }
        Err(_) => manifest.to_vec(),
    };
    in_a_directory(
        &[(MANIFEST_FILE, &manifest), (STYLES_FILE, bank), (Precision::Fp32.file_name(), b"")],
        |dir| {
            let Ok(bundle) = Bundle::open(dir) else { return };
            assert_eq!(
                Bundle::digest_in(dir).expect("the manifest was read before"),
                bundle.digest
            );
            bundle.manifest.files.keys().for_each(|file| {
                assert_eq!(Path::new(file).components().count(), 1, "{file} leaves the directory")
            });
            let length = bundle.manifest.geometry.style_len();
            assert!(bundle.styles.entries.iter().all(|entry| entry.style.0.len() == length));
        },
    );
}

/// `weights.safetensors`.
pub fn weights(bytes: &[u8]) {
    in_a_directory(&[(WEIGHTS_FILE, bytes)], |dir| {
        let Ok(weights) = Weights::read(&dir.join(WEIGHTS_FILE)) else { return };
        if let Ok(geometry) = weights.geometry(1, 32) {
            // Whether they are of this geometry is their own affair.
            let _ = weights.check(&geometry);
        }
    });
}

/// A style bank: of a bundle, or of what was added to one.
pub fn styles(bytes: &[u8]) {
    let Ok(bank) = StyleBank::from_bytes(bytes, HALF) else { return };
    assert!(
        bank.entries
            .iter()
            .all(|entry| entry.style.0.len() == HALF && entry.domain < bank.domains.len())
    );
    let again =
        StyleBank::from_bytes(&bank.to_bytes(HALF).expect("what was read can be written"), HALF);
    assert_eq!(again.expect("what was written can be read"), bank);
}

/// A key and an encoding off the disk.
pub fn cache_entry(bytes: &[u8]) {
    let mut rest = bytes;
    let Ok(key) = CacheKey::decode(&mut rest) else { return };
    let Ok(kept) = Kept::decode(&mut rest) else { return };
    let read = bytes.len() - rest.len();
    let mut written = Vec::new();
    key.encode(&mut written)
        .and_then(|()| kept.encode(&mut written))
        .expect("memory takes everything");
    assert_eq!(written, bytes[..read]);
}

/// A body of both routes that take tiles.
fn body(kind: &BodyKind, bytes: &[u8], query: Option<&str>) {
    let bytes = Bytes::copy_from_slice(bytes);
    let augment = kind.clone().parse(Operation::Augment, bytes.clone(), query);
    if let Ok(parsed) = augment {
        whole(&parsed.tiles);
        whole(&parsed.references);
    }
    let encode = kind.clone().parse(Operation::Encode, bytes, query);
    if let Ok(parsed) = encode {
        whole(&parsed.tiles);
        assert!(parsed.references.is_empty());
    }
}

fn headed(bytes: &[u8]) -> Option<(HeaderMap, &[u8])> {
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    let value = bytes[..end].try_into().ok()?;
    Some((HeaderMap::from_iter([(CONTENT_TYPE, value)]), &bytes[end + 1..]))
}

fn pictures(read: Result<oip::input::Pictures, Error>) {
    if let Ok(oip::input::Pictures { tiles, references }) = read {
        whole(&tiles);
        whole(&references);
    }
}

/// Tiles have the pixels that their size says.
fn whole(tiles: &[TileInput]) {
    for tile in tiles {
        if let TileInput::Pixels { width, height, pixels } = tile {
            assert!(
                !pixels.is_empty() && pixels.len() == width * height * 3,
                "{width}×{height} with {} bytes",
                pixels.len()
            );
        }
    }
}

/// Files in a directory of the thread's own.
fn in_a_directory(files: &[(&str, &[u8])], work: impl FnOnce(&Path)) {
    thread_local! {
        // In memory, where Linux has that: a disk takes forty times as long.
        static DIRECTORY: tempfile::TempDir =
            tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("there is a \
                place for temporary files");
    }
    DIRECTORY.with(|dir| {
        files.iter().for_each(|(name, bytes)| {
            std::fs::write(dir.path().join(name), bytes).expect("a temporary file can be written")
        });
        work(dir.path());
    });
}
