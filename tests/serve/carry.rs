//! The carry: variants of tiles of every size, with the tile's own detail.

use restain_bundle::codec::{RgbImage, TileKey};
use restain_method::exemplar;
use restain_method::glass::keep_glass;
use restain_method::shrink::shrink;
use restain_method::upsample::{UpsampleScratch, Upsampler};
use restain_method::windows::Scaling;
use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::harness::{
    Parts, SAFETENSORS, Server, decode, packed_body, picture, png, read_tensor, tensor_body, tile,
};

/// Those of the fixture's model, smaller, larger, not square, and in several windows.
const SIZES: [(usize, usize); 6] =
    [(32, 32), (16, 16), (50, 41), (128, 100), (224, 160), (512, 512)];

fn send(server: &Server, body: Vec<u8>) -> (u16, Vec<u8>) {
    let answer = server
        .post("")
        .header("content-type", SAFETENSORS)
        .header("accept", SAFETENSORS)
        .body(body)
        .send()
        .unwrap();
    (answer.status().as_u16(), answer.bytes().unwrap().to_vec())
}

/// A tile as the encoder sees it.
fn at(tile: &RgbImage, side: usize) -> RgbImage {
    let pixels = shrink(&tile.pixels, (tile.width, tile.height), (side, side));
    RgbImage { width: side, height: side, pixels }
}

/// What the server must make of a tile, from its parts: the residual at the model's size, the
/// change elsewhere.
fn carried(parts: &mut Parts, tile: &RgbImage, style: &[f32], strength: f32) -> Vec<u8> {
    let side = parts.synthesiser.geometry().image_size();
    if (tile.width, tile.height) != (side, side) {
        return resampled(parts, tile, style, strength);
    }
    let encodings = parts.encode(tile);
    let synthesiser = &parts.synthesiser;
    let (mut scratch, mut out) = (synthesiser.scratch(), vec![0; tile.pixels.len()]);
    let (anatomy, own) = (&encodings.anatomy[..], &encodings.characteristics[..]);
    let mut mixed = vec![0.0; own.len()];
    let (residual, _) = synthesiser.compare(anatomy, own, &tile.pixels, &mut scratch);
    let carry = restain_method::synth::Carry { anatomy, residual: &residual };
    synthesiser.blend_into(own, style, strength, &mut mixed);
    synthesiser.carry_aligned(carry, &mixed, &mut scratch, &mut out);
    keep_glass(&tile.pixels, &mut out);
    out
}

/// The same for a tile of another size: the changes of its windows, blended, resampled and added.
fn resampled(parts: &mut Parts, tile: &RgbImage, style: &[f32], strength: f32) -> Vec<u8> {
    let (side, size) = (parts.synthesiser.geometry().image_size(), (tile.width, tile.height));
    // The server's own `--window`.
    let windows = Scaling::up_to(side, 4.0).windows(size);
    let canvas = shrink(&tile.pixels, size, windows.canvas());
    let mut change = vec![0.0; canvas.len()];
    let mut encode = |index: usize| {
        let pixels = windows.cut(index, &canvas);
        parts.encode(&RgbImage { width: side, height: side, pixels })
    };
    let encoded: Vec<_> = (0..windows.count()).map(&mut encode).collect();
    let synthesiser = &parts.synthesiser;
    let geometry = synthesiser.geometry();
    // A tile in several windows starts from their mean, and one in one window from each patch.
    let stained = exemplar::stained_in(geometry, &windows, &canvas);
    let characteristics = encoded.iter().map(|window| &window.characteristics[..]);
    let patches = characteristics.zip(stained.chunks_exact(geometry.patches()));
    let mean = exemplar::mean_style(geometry, patches).filter(|_| !windows.is_whole());
    for (index, encodings) in encoded.iter().enumerate() {
        let own = &encodings.characteristics[..];
        let (mut mixed, mut of_window) = (vec![0.0; own.len()], vec![0.0; side * side * 3]);
        match &mean {
            None => synthesiser.difference_into(own, style, strength, &mut mixed),
            Some(mean) => {
                let pairs = mixed.iter_mut().zip(style.iter().zip(&mean.0).cycle());
                pairs.for_each(|(mixed, (style, mean))| *mixed = (style - mean) * strength);
            }
        }
        let mut scratch = synthesiser.scratch();
        synthesiser.change(&encodings.anatomy, &mixed, &mut scratch, &mut of_window);
        match windows.is_whole() {
            true => change.copy_from_slice(&of_window),
            false => windows.blend(index, &of_window, &mut change),
        }
    }
    let (mut scratch, mut out) = (UpsampleScratch::default(), vec![0; tile.pixels.len()]);
    Upsampler::new(windows.canvas(), size).add(&change, &tile.pixels, &mut scratch, &mut out);
    keep_glass(&tile.pixels, &mut out);
    out
}

#[test]
fn strength_0_gives_back_every_tile_byte_for_byte() {
    let server = Server::start(&[]);
    for (number, (width, height)) in SIZES.into_iter().enumerate() {
        let tile = picture(number, width, height);
        let answer = server.png("?strength=0&seed=1", &tile, "image/png");
        assert_eq!(answer.status(), 200);
        assert!(decode(&answer.bytes().unwrap()) == tile, "{width}×{height}");
        // By its key, from what is held of it.
        let key = TileKey::of(&tile).to_string();
        let (status, body) = server.by_key(&[key], &json!({"strength": 0}));
        assert!(status == 200 && read_tensor(&body).0[0] == tile.pixels, "{width}×{height} by key");
    }
}

#[test]
fn a_variant_is_the_tile_and_what_the_style_changes_about_it() {
    let server = Server::start(&[]);
    let mut parts = Parts::of(server.bundle());
    for (number, (width, height)) in SIZES.into_iter().enumerate() {
        let tile = picture(number, width, height);
        for strength in [1.0, 0.25] {
            let request = json!({"seed": number, "variants": 3, "strength": strength});
            let (variants, provenance) = server.tensor(std::slice::from_ref(&tile), &[], &request);
            for (variant, record) in variants.iter().zip(provenance.as_array().unwrap()) {
                assert_eq!(record["detail"], "carry");
                let style = parts.style(record["style"].as_str().unwrap()).to_vec();
                let expected = carried(&mut parts, &tile, &style, strength);
                assert!(*variant == expected, "{width}×{height}, {record}");
            }
            let again = server.tensor(std::slice::from_ref(&tile), &[], &request).0;
            assert!(again == variants, "replayed");
            let key = TileKey::of(&tile).to_string();
            let (status, body) = server.by_key(&[key], &request);
            assert!(status == 200 && read_tensor(&body).0 == variants, "by key");
        }
    }
}

#[test]
fn styles_of_tiles_are_carried_too() {
    let server = Server::start(&[]);
    for (width, height) in [(32, 32), (60, 40)] {
        let (tile, reference) = (picture(0, width, height), [picture(9, 48, 48)]);
        let ask = |request: Value| {
            server.tensor(std::slice::from_ref(&tile), &reference, &request).0.remove(0)
        };
        let own = json!({"style": {"from": "own", "placement": "aligned"}, "seed": 1});
        let far = tile.pixels.iter().zip(ask(own)).map(|(a, b)| a.abs_diff(b)).max();
        assert!(far <= Some(1), "its own characteristics change nothing: {far:?}");
        let aligned = json!({"style": {"from": "reference", "placement": "aligned"}, "seed": 1});
        let half = json!({"style": {"from": "reference", "placement": "aligned"}, "strength": 0.5,
            "seed": 1});
        let (aligned, half) = (ask(aligned), ask(half));
        assert!(aligned != tile.pixels && half != aligned && half != tile.pixels);
    }
}

#[test]
fn the_bare_product_has_the_models_size() {
    let server = Server::start(&[]);
    let (width, height) = (50, 41);
    let tile = picture(0, width, height);
    let request = json!({"detail": "model", "seed": 1});
    let (variants, provenance) = server.tensor(std::slice::from_ref(&tile), &[], &request);
    assert_eq!((variants[0].len(), &provenance[0]["detail"]), (32 * 32 * 3, &json!("model")));
    let mut parts = Parts::of(server.bundle());
    let encodings = parts.encode(&at(&tile, 32));
    let style = parts.style(provenance[0]["style"].as_str().unwrap());
    assert!(variants[0] == parts.broadcast(&encodings, style));
    let sheet = server.png("?detail=model&sheet=true&seed=1", &tile, "image/png");
    assert_eq!(sheet.status(), 200);
}

#[test]
fn tiles_of_several_sizes_go_in_one_request_and_come_back_packed() {
    let server = Server::start(&[]);
    let tiles: Vec<RgbImage> =
        SIZES.into_iter().enumerate().map(|(n, (w, h))| picture(n, w, h)).collect();
    let request = json!({"seed": 5, "variants": 2});
    let (status, body) = send(&server, packed_body(&tiles, &request));
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    let file = SafeTensors::deserialize(&body).unwrap();
    let shapes = file.tensor("shapes").unwrap();
    assert_eq!(shapes.shape(), [SIZES.len(), 2]);
    let sides: Vec<i64> =
        shapes.data().as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect();
    let expected: Vec<i64> =
        tiles.iter().flat_map(|tile| [tile.height as i64, tile.width as i64]).collect();
    assert_eq!(sides, expected);
    let mut packed = file.tensor("variants").unwrap().data();
    for tile in &tiles {
        let (alone, _) = server.tensor(std::slice::from_ref(tile), &[], &request);
        for variant in alone {
            let (first, rest) = packed.split_at(variant.len());
            assert!(first == variant, "{}×{}", tile.width, tile.height);
            packed = rest;
        }
    }
    assert!(packed.is_empty());
    // Of one size, packed or not is the same request.
    let (_, packed) = send(&server, packed_body(&[tile(1), tile(2)], &request));
    let (_, plain) = send(&server, tensor_body(&[tile(1), tile(2)], &[], &request));
    assert!(packed == plain);
}

#[test]
fn packed_tiles_that_are_not_what_their_shapes_say_are_refused() {
    let server = Server::start(&[]);
    let tensors = |tiles: usize, shapes: &[i64]| {
        use safetensors::{Dtype, tensor::TensorView};
        let (flat, bytes) = (vec![7; tiles], bytemuck::cast_slice(shapes));
        let shape = vec![shapes.len() / 2, 2];
        let tensors = [
            ("tiles", TensorView::new(Dtype::U8, vec![tiles], &flat).unwrap()),
            ("shapes", TensorView::new(Dtype::I64, shape, bytes).unwrap()),
        ];
        safetensors::serialize(tensors, None).unwrap()
    };
    for (body, status, said) in [
        (tensors(16 * 16 * 3 - 1, &[16, 16]), 400, "must be [768]"),
        (tensors(16 * 16 * 3, &[16, 16, 16, 16]), 400, "must be [1536]"),
        (tensors(0, &[-1, 16]), 400, "tile 0"),
        (tensors(0, &[i64::MAX, i64::MAX]), 400, "tile 0"),
        (tensors(15 * 16 * 3, &[15, 16]), 422, "tile 0 is 16×15 pixels"),
        (tensors(8193 * 16 * 3, &[8193, 16]), 422, "to 8192"),
    ] {
        let (given, body) = send(&server, body);
        let text = String::from_utf8_lossy(&body);
        assert!(given == status && text.contains(said), "{given}: {text}");
    }
}

#[test]
fn every_answer_has_the_fidelity_of_its_tiles() {
    let server = Server::start(&[]);
    let mut parts = Parts::of(server.bundle());
    let encodings = parts.encode(&tile(0));
    let reconstruction = parts.aligned(&encodings, &encodings.characteristics);
    let expected = restain_method::metrics::psnr(&reconstruction, &tile(0).pixels);
    let is_it = |value: &Value| {
        let value = value.as_f64().unwrap();
        assert!((value - expected).abs() < 0.01, "{value} is not {expected}");
    };
    let json: Value = server.png("?variants=2", &tile(0), "application/json").json().unwrap();
    is_it(&json["tiles"][0]["fidelity"]);
    is_it(&server.tensor(&[tile(0)], &[], &json!({"detail": "model"})).1[0]["fidelity"]);
    let image = server.png("", &tile(0), "image/png");
    let head = image.headers()["restain-provenance"].to_str().unwrap().to_owned();
    is_it(&serde_json::from_str::<Value>(&head).unwrap()["fidelity"]);
    let identity = server.tensor(&[tile(0)], &[], &json!({"method": "identity"})).1;
    assert!(identity[0]["fidelity"].is_null() && identity[0]["detail"].is_null());
    assert_eq!(server.metric("restain_fidelity_decibels_count"), 1.0, "encoded once");
}

/// At 0 or 255, and not there in the tile; for every way to make a change of it.
#[test]
fn every_variant_has_the_share_of_its_values_that_is_clipped() {
    let server = Server::start(&[]);
    let at_limits =
        |pixels: &[u8]| pixels.iter().filter(|value| [0, 255].contains(*value)).count() as f64;
    let mut most = 0.0f64;
    for (number, (width, height)) in SIZES.into_iter().enumerate() {
        // Near the limits, and in part on them.
        let mut tile = picture(number, width, height);
        let near = |value: u8| if value < 128 { value / 16 } else { 255 - (255 - value) / 16 };
        tile.pixels.iter_mut().for_each(|value| *value = near(*value));
        for method in ["vit", "color-match", "hed-jitter", "identity"] {
            let request = json!({"method": method, "variants": 3, "seed": number});
            let (variants, provenance) = server.tensor(std::slice::from_ref(&tile), &[], &request);
            for (variant, record) in variants.iter().zip(provenance.as_array().unwrap()) {
                let beyond = at_limits(variant) - at_limits(&tile.pixels);
                let expected = beyond.max(0.0) / variant.len() as f64;
                let clipped = record["clipped"].as_f64().unwrap();
                assert!((clipped - expected).abs() < 1e-4, "{record}: {expected}");
                most = most.max(clipped);
            }
        }
    }
    assert!(most > 0.001, "something was clipped: {most}");
    let count = server.metric("restain_clipped_values_ratio_count");
    assert_eq!(count, (SIZES.len() * 4 * 3) as f64);
    let bare = server.tensor(&[tile(0)], &[], &json!({"detail": "model"})).1;
    assert!(bare[0]["clipped"].is_null(), "{bare}");
}

/// The largest tile is bounded by the server's pixels, and what it needs is admitted before it is
/// decoded.
#[test]
fn a_large_tile_is_bounded_by_pixels_and_by_memory() {
    let server = Server::start(&[
        "--max-pixels",
        "1000000",
        "--max-body",
        "8MiB",
        "--max-inflight-bytes",
        "48MiB",
    ]);
    let large = server.png("", &picture(0, 1200, 900), "image/png");
    assert_eq!(large.status(), 413);
    assert_eq!(large.json::<Value>().unwrap()["code"], "image_too_large");
    let (width, height) = (1000, 900);
    assert_eq!(server.png("", &picture(0, width, height), "image/png").status(), 200);
    let many = server.png("?variants=16", &picture(0, width, height), "application/json");
    assert_eq!(many.json::<Value>().unwrap()["code"], "request_too_large");
}

#[test]
fn a_picture_may_be_sent_by_form_with_others_of_another_size() {
    use reqwest::blocking::multipart::{Form, Part};
    let server = Server::start(&[]);
    let form = [(32, 32), (64, 48)].into_iter().fold(Form::new(), |form, (width, height)| {
        form.part("tile", Part::bytes(png(&picture(0, width, height))))
    });
    let form = form.text("request", r#"{"strength": 0}"#);
    let answer = server.post("").header("accept", "application/x-tar").multipart(form).send();
    let bytes = answer.unwrap().bytes().unwrap();
    let mut archive = tar::Archive::new(&bytes[..]);
    let mut sizes = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.path().unwrap().extension().is_some_and(|ending| ending == "png") {
            let mut picture = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut picture).unwrap();
            sizes.push((decode(&picture).width, decode(&picture).height));
        }
    }
    assert_eq!(sizes, [(32, 32), (64, 48)]);
}

#[test]
fn glass_changes_by_three_levels_at_most_whatever_the_model_makes_of_it() {
    let server = Server::start(&[]);
    for (width, height) in SIZES {
        let mut tile = picture(1, width, height);
        // The upper half is glass: bright and grey, with noise. The other is tissue.
        let glass = tile.pixels.len() / width / 6 * width * 3;
        for (n, value) in tile.pixels.iter_mut().enumerate() {
            let noise = (n * 7919 % 7) as u8;
            *value = if n < glass { 240 + noise } else { 120 + 11 * noise };
        }
        let furthest = |variant: &[u8]| {
            let changes = variant[..glass].iter().zip(&tile.pixels).map(|(a, b)| a.abs_diff(*b));
            changes.max().unwrap()
        };
        // Twice: encoded now, and from what is held of it.
        for query in ["?seed=3", "?seed=3", "?seed=3&style.from=own&strength=0.5"] {
            let answer = server.png(query, &tile, "image/png");
            assert_eq!(answer.status(), 200);
            let variant = decode(&answer.bytes().unwrap());
            let change = furthest(&variant.pixels);
            assert!(change <= 3, "{width}×{height} {query}: {change} levels");
            if !query.contains("own") {
                assert!(variant.pixels[glass..] != tile.pixels[glass..], "tissue is restained");
            }
        }
    }
    let blank = RgbImage { width: 32, height: 32, pixels: vec![243; 32 * 32 * 3] };
    let answer = server.png("?seed=3&detail=model", &blank, "image/png");
    let bare = decode(&answer.bytes().unwrap());
    assert!(bare.pixels.iter().any(|level| level.abs_diff(243) > 3), "the bare product is bare");
}
