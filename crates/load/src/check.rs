//! Verification of responses: whether a response holds what its request asked for. The pixels are
//! left to the tests of the server.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::HeaderMap;
use hyper::header::CONTENT_TYPE;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use super::body::Prepared;
use super::choices::Accept;
use super::tiles::Key;
use restain_bundle::codec::{self, Limits};

const LIMITS: Limits = Limits { max_pixels: 1 << 26, max_side: u32::MAX };

/// # Errors
/// The first problem, in words.
pub(crate) fn check(headers: &HeaderMap, body: &[u8], request: &Prepared) -> Result<(), String> {
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let wanted = request.accept.media_type();
    if given.split(';').next().map(str::trim) != Some(wanted) {
        return Err(format!("Content-Type is `{given}`, and asked for was {wanted}"));
    }
    let keys = match request.accept {
        Accept::Safetensors => tensor(body, request)?,
        Accept::Json => json(body, request)?,
        Accept::Multipart => multipart(body, given, request)?,
        Accept::Tar => tar(body, request)?,
        Accept::Png | Accept::Jpeg | Accept::Webp => picture(body).map(|()| Vec::new())?,
    };
    let differs = |(given, wanted): &(&String, &Key)| {
        **given != blake3::Hash::from_bytes(**wanted).to_string()
    };
    match keys.iter().zip(&request.keys).position(|pair| differs(&pair)) {
        Some(tile) => {
            Err(format!("tile {tile} has the key {}, which is not the one asked for", keys[tile]))
        }
        None => Ok(()),
    }
}

fn counted(what: &str, given: usize, wanted: usize) -> Result<(), String> {
    if given == wanted {
        Ok(())
    } else {
        Err(format!("{given} {what}, and asked for were {wanted}"))
    }
}

fn picture(bytes: &[u8]) -> Result<(), String> {
    codec::probe(bytes, &LIMITS).map(drop).map_err(|error| error.to_string())
}

/// The key of each tile.
fn tensor(body: &[u8], request: &Prepared) -> Result<Vec<String>, String> {
    let unreadable = |error: safetensors::SafeTensorError| format!("no safetensors: {error}");
    let (_, header) = SafeTensors::read_metadata(body).map_err(unreadable)?;
    let file = SafeTensors::deserialize(body).map_err(unreadable)?;
    let view = file.tensor("variants").map_err(unreadable)?;
    let [tiles, variants, _, _, 3] = *view.shape() else {
        return Err(format!("variants is {:?}", view.shape()));
    };
    if (tiles, variants, view.dtype()) != (request.tiles, request.variants, Dtype::U8) {
        let (n, k) = (request.tiles, request.variants);
        return Err(format!(
            "variants is {:?} {:?}, and asked for were {n} tiles × {k}",
            view.dtype(),
            view.shape()
        ));
    }
    let provenance = header
        .metadata()
        .as_ref()
        .and_then(|metadata| metadata.get("provenance"))
        .ok_or("there is no provenance")?;
    let records: Vec<Value> =
        serde_json::from_str(provenance).map_err(|error| format!("the provenance: {error}"))?;
    counted("records", records.len(), tiles * variants)?;
    Ok(records.iter().step_by(variants.max(1)).map(key).collect())
}

fn key(record: &Value) -> String {
    record["tile_key"].as_str().unwrap_or_default().to_owned()
}

fn json(body: &[u8], request: &Prepared) -> Result<Vec<String>, String> {
    let answer: Value =
        serde_json::from_slice(body).map_err(|error| format!("no JSON: {error}"))?;
    let tiles = answer["tiles"].as_array().ok_or("there is no list `tiles`")?;
    counted("tiles", tiles.len(), request.tiles)?;
    for tile in tiles {
        let variants = tile["variants"].as_array().ok_or("a tile has no list `variants`")?;
        counted("variants", variants.len(), request.variants)?;
        for variant in variants {
            let image = BASE64_STANDARD.decode(variant["image"].as_str().unwrap_or_default());
            picture(&image.map_err(|error| format!("an image: {error}"))?)?;
        }
    }
    Ok(tiles.iter().map(key).collect())
}

fn multipart(body: &[u8], content_type: &str, request: &Prepared) -> Result<Vec<String>, String> {
    // The parts are not those of a form, and have no names; between the boundaries they are read
    // alike.
    let boundary = content_type
        .split_once("boundary=")
        .map(|(_, boundary)| boundary.trim_matches('"'))
        .ok_or("there is no boundary")?;
    let delimiter = format!("--{boundary}\r\n");
    let mut starts = Vec::new();
    let mut from = 0;
    while let Some(at) = find(&body[from..], delimiter.as_bytes()) {
        from += at + delimiter.len();
        starts.push(from);
    }
    // The first describes the pictures.
    counted("pictures", starts.len().saturating_sub(1), request.tiles * request.variants)?;
    for &start in &starts[1..] {
        let head = find(&body[start..], b"\r\n\r\n").ok_or("a part has no end to its head")?;
        picture(&body[start + head + 4..])?;
    }
    Ok(Vec::new())
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    let first = *wanted.first()?;
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|&byte| byte == first) {
        if bytes[from + at..].starts_with(wanted) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

fn tar(body: &[u8], request: &Prepared) -> Result<Vec<String>, String> {
    let unreadable = |error: std::io::Error| format!("no tar: {error}");
    let mut pictures = 0;
    for entry in tar::Archive::new(body).entries().map_err(unreadable)? {
        let mut entry = entry.map_err(unreadable)?;
        if entry.path().map_err(unreadable)?.extension().is_some_and(|ending| ending != "json") {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut bytes).map_err(unreadable)?;
            picture(&bytes)?;
            pictures += 1;
        }
    }
    counted("pictures", pictures, request.tiles * request.variants).map(|()| Vec::new())
}
