//! Examples of requests and answers, each under the name of what it shows. They name no domain of
//! any bundle, so that every server can be sent every one of them.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use utoipa::Modify;
use utoipa::openapi::example::{Example, ExampleBuilder};
use utoipa::openapi::path::Operation;
use utoipa::openapi::{Content, OpenApi, RefOr};

use super::super::accept::{JSON, SAFETENSORS};
use super::operations;
use restain_bundle::codec::TileKey;

/// Two PNGs of 16×16 pixels, pink and purple.
const TILE: &str = "iVBORw0KGgoAAAANSUhEUgAAABAAAAAQCAIAAACQkWg2AAAAM0lEQVR42mO8Nu0IAwy8e/UJK1tFRwbOZmIgEdBeAwsx7kYWH+x+wOXuwe4HYtw9yNMSAH/lIFZ5dXgzAAAAAElFTkSuQmCC";
const REFERENCE: &str = "iVBORw0KGgoAAAANSUhEUgAAABAAAAAQCAIAAACQkWg2AAAAM0lEQVR42mNckbCAAQbevfqEla2iIwNnMzGQCGivgYUYdyOLD3Y/4HL3YPcDMe4e5GkJAOBNH85sjxrwAAAAAElFTkSuQmCC";
const FORM: &str = "multipart/form-data";
const SLIDE: &str = "0123456789abcdef0123456789abcdef";
const DIGEST: &str = "5f0c3a1f4f7a3f1c2f4f0a8e6f7d8c9b0a1b2c3d4e5f60718293a4b5c6d7e8f9";

/// Where an example stands: the operation, the status of an answer or nothing for the request, the
/// media type.
type Place = (&'static str, Option<u16>, &'static str);

pub(super) struct Examples;

impl Modify for Examples {
    fn modify(&self, openapi: &mut OpenApi) {
        let mut all: BTreeMap<Place, Vec<(&str, Example)>> = BTreeMap::new();
        for (place, name, example) in requests().into_iter().chain(answers()) {
            all.entry(place).or_default().push((name, example.build()));
        }
        for (_, _, operation) in operations(openapi) {
            let id = operation.operation_id.clone().expect("every operation has a name");
            all.retain(|(of, status, media_type), examples| {
                if *of != id {
                    return true;
                }
                let content = content(operation, *status, media_type)
                    .expect("examples stand where there is such a body");
                content.examples.extend(
                    examples.drain(..).map(|(name, example)| (name.to_owned(), RefOr::T(example))),
                );
                false
            });
        }
        assert!(all.is_empty(), "examples of operations that there are not");
    }
}

fn content<'a>(
    operation: &'a mut Operation,
    status: Option<u16>,
    media_type: &str,
) -> Option<&'a mut Content> {
    let content = match status {
        None => match operation.request_body.as_mut()? {
            RefOr::T(body) => body.content.get_mut(media_type)?,
            RefOr::Ref(_) => return None,
        },
        Some(status) => match operation.responses.responses.get_mut(&status.to_string())? {
            RefOr::T(response) => response.content.get_mut(media_type)?,
            RefOr::Ref(_) => return None,
        },
    };
    match content {
        RefOr::T(content) => Some(content),
        RefOr::Ref(_) => None,
    }
}

fn value(summary: &str, value: Value) -> ExampleBuilder {
    ExampleBuilder::new().summary(summary).value(Some(value))
}

/// A body that JSON cannot hold: the path of it, in the repository and on the server.
fn file(summary: &str, path: &str) -> ExampleBuilder {
    ExampleBuilder::new().summary(summary).external_value(path)
}

fn key_of(tile: &str) -> String {
    use base64::Engine;
    let bytes = base64::prelude::BASE64_STANDARD.decode(tile).expect("it is base64");
    let limits = restain_bundle::codec::Limits::of_tile(256);
    TileKey::of(&restain_bundle::codec::decode(&bytes, &limits).expect("it is a PNG")).to_string()
}

fn requests() -> Vec<(Place, &'static str, ExampleBuilder)> {
    let key = key_of(TILE);
    let files = "A part that holds a file is given as the file's path, here and on the server.";
    vec![
        (
            ("augment", None, JSON),
            "tile",
            value(
                "Two variants of a tile",
                json!({"tiles": [TILE], "request": {"variants": 2, "seed": 7}}),
            ),
        ),
        (
            ("augment", None, JSON),
            "tile_again",
            value(
                "Eight more of it: it was sent before, and only its key is sent again",
                json!({"keys": [key], "request": {"variants": 8, "seed": 8}}),
            ),
        ),
        (
            ("augment", None, JSON),
            "reference",
            value(
                "Half-way to the look of another tile",
                json!({
                    "tiles": [TILE],
                    "references": [REFERENCE],
                    "request": {"style": {"from": "reference", "placement": "aligned"},
                        "strength": 0.5, "seed": 7},
                }),
            ),
        ),
        (
            ("augment", None, JSON),
            "baseline",
            value(
                "A baseline that needs no model, as JPEG",
                json!({
                    "tiles": [TILE],
                    "request": {"method": "color-match", "seed": 7,
                        "output": {"format": "jpeg", "quality": 95}},
                }),
            ),
        ),
        (
            ("augment", None, FORM),
            "form",
            value(
                "One variant of each of two files",
                json!({"request": {"seed": 7}, "tile": ["docs/tile.png", "docs/tile.png"]}),
            )
            .description(files),
        ),
        (
            ("augment", None, SAFETENSORS),
            "tensor",
            file("Two tiles as one tensor", "docs/tiles.safetensors"),
        ),
        (
            ("augment", None, "image/*"),
            "picture",
            file("A PNG; what is wanted stands in the query string", "docs/tile.png"),
        ),
        (("encode", None, JSON), "tile", value("A tile", json!({"tiles": [TILE], "request": {}}))),
        (
            ("encode", None, JSON),
            "tile_again",
            value("A tile that was sent before", json!({"keys": [key], "request": {}})),
        ),
        (
            ("encode", None, FORM),
            "form",
            value("A file", json!({"request": {"priority": "bulk"}, "tile": ["docs/tile.png"]}))
                .description(files),
        ),
        (
            ("encode", None, SAFETENSORS),
            "tensor",
            file("Two tiles as one tensor", "docs/tiles.safetensors"),
        ),
        (("encode", None, "image/*"), "picture", file("A PNG", "docs/tile.png")),
        (
            ("add_styles", None, FORM),
            "form",
            value(
                "A domain from one file",
                json!({"domain": "ours", "styles": 4, "tile": ["docs/tile.png"]}),
            )
            .description(files),
        ),
        (
            ("add_styles", None, SAFETENSORS),
            "tensor",
            file("A domain from two tiles as one tensor", "docs/references.safetensors"),
        ),
        (
            ("add_slide", None, JSON),
            "tiles",
            value("Tiles of one slide", json!({"tiles": [TILE, REFERENCE], "request": {}})),
        ),
        (
            ("add_slide", None, FORM),
            "form",
            value("Files of one slide", json!({"request": {}, "tile": ["docs/tile.png"]}))
                .description(files),
        ),
        (
            ("add_slide", None, SAFETENSORS),
            "tensor",
            file("Two tiles of one slide as one tensor", "docs/tiles.safetensors"),
        ),
        (("add_slide", None, "image/*"), "picture", file("A PNG", "docs/tile.png")),
        (
            ("load_model", None, JSON),
            "version",
            value("A version, which becomes the default", json!({"version": "1", "default": true})),
        ),
        (
            ("load_model", None, JSON),
            "highest",
            value("The highest version in the models directory", json!({})),
        ),
        (("unload_model", None, JSON), "version", value("A version", json!({"version": "1"}))),
    ]
}

fn answers() -> Vec<(Place, &'static str, ExampleBuilder)> {
    let style = |id: &str| json!({"id": id, "source_mean": [0.71, 0.52, 0.69], "source_std": [0.17, 0.2, 0.14]});
    let bank = json!({"model": "demo", "version": "1", "persistent": false});
    let with = |mut object: Value, further: Value| {
        let fields = object.as_object_mut().expect("it is written above as an object");
        fields.extend(further.as_object().expect("and so is this").clone());
        object
    };
    let domain = |name: &str, origin: &str| json!({"domain": name, "origin": origin, "styles": [style(&format!("{name}/0"))]});
    let geometry = json!({
        "image_size": 128, "in_channels": 3, "patch_size": 8, "embed_dim": 384, "depth": 6,
        "num_heads": 6, "mlp_ratio": 4.0, "style_bias": false,
    });
    let model = json!({
        "state": "ready", "name": "demo", "version": "1", "default": true, "bundle": DIGEST,
        "precision": "fp32", "provider": "cpu",
        "geometry": geometry, "domains": ["centre_1", "centre_2"], "styles": 32, "quality": {},
    });
    let variant = json!({"index": 0, "style": "centre_2/3", "domain": "centre_2", "clipped": 0.0004,
        "media_type": "image/png", "image": REFERENCE});
    let variants = json!({
        "model": "demo", "version": "1", "bundle": DIGEST, "seed": 7, "method": "vit",
        "detail": "carry",
        "tiles": [{"tile_key": key_of(TILE), "fidelity": 31.5, "variants": [variant]}],
    });
    let metrics = "# HELP restain_queue_tiles Tiles waiting for an encoder\n\
        # TYPE restain_queue_tiles gauge\nrestain_queue_tiles 0\n";
    vec![
        (("augment", Some(200), JSON), "variants", value("One variant of one tile", variants)),
        (
            ("list_styles", Some(200), JSON),
            "bank",
            value(
                "A domain of the bundle, and one that was added",
                with(
                    bank.clone(),
                    json!({"domains": [domain("centre_1", "bundle"), domain("ours", "added")]}),
                ),
            ),
        ),
        (
            ("add_styles", Some(201), JSON),
            "added",
            value("It was added", with(bank.clone(), domain("ours", "added"))),
        ),
        (
            ("add_slide", Some(201), JSON),
            "added",
            value("It was added", with(bank.clone(), json!({"slide": SLIDE, "tiles": 2}))),
        ),
        (
            ("list_slides", Some(200), JSON),
            "slides",
            value("One slide", with(bank, json!({"slides": [SLIDE]}))),
        ),
        (
            ("list_models", Some(200), JSON),
            "models",
            value(
                "One that serves, one that was refused and one that is being loaded",
                json!({"models": [
                    model,
                    {"state": "failed", "name": "demo", "version": "2", "default": false,
                        "reason": "encoder.onnx is not what bundle.json says"},
                    {"state": "loading", "name": "demo", "version": "3", "default": false},
                ]}),
            ),
        ),
        (("get_model", Some(200), JSON), "model", value("One version", json!({"models": [model]}))),
        (("load_model", Some(200), JSON), "loaded", value("It is served", model)),
        (
            ("unload_model", Some(200), JSON),
            "unloaded",
            value("Both versions", json!({"unloaded": ["demo/1", "demo/2"]})),
        ),
        (("live", Some(200), JSON), "live", value("It runs", json!({"status": "live"}))),
        (
            ("ready", Some(200), JSON),
            "ready",
            value("It takes requests", json!({"status": "ready"})),
        ),
        (
            ("metrics", Some(200), "text/plain"),
            "metrics",
            value("The beginning of it", json!(metrics)),
        ),
    ]
}
