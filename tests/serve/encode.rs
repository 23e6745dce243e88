//! Encodings for a client that makes the variants itself.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use restain::serve::transport::grpc::proto;
use restain_bundle::codec::TileKey;
use restain_method::geometry::Geometry;
use restain_method::normalise::Normalisation;
use restain_method::{PixelOrder, synth::reference::values_broadcast};
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};

use super::grpc::{client, files};
use crate::harness::{
    Parts, SAFETENSORS, Server, key_body, packed_body, picture, png, tensor_body, tile,
};

fn encode(server: &Server, body: Vec<u8>) -> (u16, Vec<u8>) {
    let answer = server
        .client
        .post(server.url("/v1/encode"))
        .header("content-type", SAFETENSORS)
        .body(body)
        .send()
        .unwrap();
    (answer.status().as_u16(), answer.bytes().unwrap().to_vec())
}

fn halves(file: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let view = file.tensor(name).unwrap();
    assert_eq!(view.dtype(), Dtype::F16);
    view.data()
        .chunks_exact(2)
        .map(|two| half::f16::from_le_bytes([two[0], two[1]]).to_f32())
        .collect()
}

#[test]
fn the_product_done_by_the_client_is_the_servers_variant() {
    let server = Server::start(&[]);
    let tiles = [tile(0), tile(1)];
    let (variants, provenance) = server.tensor(&tiles, &[], &json!({"seed": 5, "detail": "model"}));
    let (status, body) = encode(&server, tensor_body(&tiles, &[], &json!({})));
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    let (_, head) = SafeTensors::read_metadata(&body).unwrap();
    let metadata = head.metadata().as_ref().unwrap();
    let keys: Vec<String> = serde_json::from_str(&metadata["keys"]).unwrap();
    assert_eq!(keys, tiles.each_ref().map(|tile| TileKey::of(tile).to_string()));
    let model: Value = serde_json::from_str(&metadata["model"]).unwrap();
    let geometry: Geometry = serde_json::from_value(model["geometry"].clone()).unwrap();
    let normalisation: Normalisation =
        serde_json::from_value(model["normalisation"].clone()).unwrap();
    let order: PixelOrder = serde_json::from_value(model["pixel_order"].clone()).unwrap();

    let file = SafeTensors::deserialize(&body).unwrap();
    assert_eq!(
        file.tensor("characteristics").unwrap().shape(),
        [2, geometry.patches(), geometry.style_len()]
    );
    let anatomy = halves(&file, "anatomy");
    let parts = Parts::of(server.bundle());
    for (n, variant) in variants.iter().enumerate() {
        let style = parts.style(provenance[n]["style"].as_str().unwrap());
        let values = values_broadcast(
            &geometry,
            order,
            &anatomy[n * geometry.tile_anatomy()..][..geometry.tile_anatomy()],
            style,
        );
        let pixels = geometry.image_size().pow(2);
        for (at, byte) in variant.iter().enumerate() {
            let (pixel, channel) = (at / 3, at % 3);
            let value = values[channel * pixels + pixel] * normalisation.std[channel]
                + normalisation.mean[channel];
            // The sums are in another order here: half a level at the most.
            assert!(
                (value * 255.0 - f32::from(*byte)).abs() < 0.51 || !(0.0..=1.0).contains(&value),
                "{at}: {value} {byte}"
            );
        }
    }
    assert_eq!(
        server.metric("restain_tiles_total"),
        2.0,
        "what was augmented is not encoded again"
    );
}

#[test]
fn an_encoding_is_given_by_key_too_and_in_every_form() {
    let server = Server::start(&[]);
    let (_, first) = encode(&server, tensor_body(&[tile(0)], &[], &json!({"model": "tiny"})));
    let key = TileKey::of(&tile(0)).to_string();
    let (status, by_key) = encode(&server, key_body(&[key], &json!({})));
    assert!(status == 200 && by_key == first);
    let image = server
        .client
        .post(server.url("/v1/encode?priority=bulk"))
        .header("content-type", "image/png")
        .body(png(&tile(0)));
    assert!(image.send().unwrap().bytes().unwrap() == first);
}

#[test]
fn what_encoding_has_no_use_for_is_refused() {
    let server = Server::start(&[]);
    let (status, body) = encode(&server, tensor_body(&[tile(0)], &[tile(1)], &json!({})));
    assert_eq!(status, 400, "{}", String::from_utf8_lossy(&body));
    assert!(String::from_utf8_lossy(&body).contains("references"));
    let (status, body) = encode(&server, tensor_body(&[tile(0)], &[], &json!({"variants": 2})));
    assert!(status == 400 && String::from_utf8_lossy(&body).contains("variants"));
}

#[test]
fn a_large_tile_has_an_encoding_for_each_of_its_windows_and_says_where_they_lie() {
    let server = Server::start(&[]);
    let side = server.bundle().manifest.geometry.image_size();
    let (large, small) = (picture(2, 5 * side, 5 * side), tile(1));
    let packed = packed_body(&[large.clone(), small.clone()], &json!({}));
    let (status, body) = encode(&server, packed);
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    let (_, head) = SafeTensors::read_metadata(&body).unwrap();
    let metadata = head.metadata().as_ref().unwrap();
    let windows: Value = serde_json::from_str(&metadata["windows"]).unwrap();
    let canvas = (5 * side) as u64 / 4;
    let starts = json!([0, canvas - side as u64]);
    let grid = json!({"height": canvas, "width": canvas, "rows": starts, "columns": starts});
    let whole = json!({"height": side, "width": side, "rows": [0], "columns": [0]});
    assert_eq!(windows, json!([grid, whole]));
    assert_eq!(metadata["takes_style"], "[true,true]");
    let file = SafeTensors::deserialize(&body).unwrap();
    assert_eq!(file.tensor("anatomy").unwrap().shape()[0], 5);
    assert_eq!(file.tensor("stain").unwrap().shape()[0], 2);

    // By key it is the same, and for the bare product it is one window.
    let keys = [large, small].map(|tile| TileKey::of(&tile).to_string());
    assert!(encode(&server, key_body(&keys, &json!({}))).1 == body);
    let (_, bare) = encode(&server, key_body(&keys, &json!({"detail": "model"})));
    let file = SafeTensors::deserialize(&bare).unwrap();
    assert_eq!(file.tensor("anatomy").unwrap().shape()[0], 2);
}

#[test]
fn encodings_over_grpc_are_those_of_http() {
    let server = Server::start(&[]);
    let (runtime, mut client) = client(&server);
    let side = tile(0).width;
    for (tiles, windows) in
        [([tile(0), tile(1)], 1), ([picture(3, 5 * side, 5 * side), tile(2)], 4)]
    {
        let ask = proto::EncodeRequest { tiles: Some(files(&tiles)), ..Default::default() };
        let answer = runtime.block_on(client.encode(ask)).unwrap().into_inner();
        let pictures: Vec<String> =
            tiles.iter().map(|tile| BASE64_STANDARD.encode(png(tile))).collect();
        let http = server.client.post(server.url("/v1/encode")).json(&json!({"tiles": pictures}));
        let bytes = http.send().unwrap().bytes().unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(&answer.anatomy[..], file.tensor("anatomy").unwrap().data());
        assert_eq!(&answer.characteristics[..], file.tensor("characteristics").unwrap().data());
        assert_eq!(&answer.stain[..], file.tensor("stain").unwrap().data());
        let info = answer.encoder.unwrap();
        let numbers = (info.patches * info.half) as usize;
        assert_eq!(answer.anatomy.len(), (windows + 1) * numbers * 2);
        let grid = &answer.windows[0];
        assert_eq!(grid.rows.len() * grid.columns.len(), windows);
        assert_eq!(answer.takes_style, [true, true]);
        assert_eq!(info.image_size as usize, side);
    }
    let (detail, tiles) =
        (proto::Detail::Model.into(), Some(files(&[picture(3, 5 * side, 5 * side)])));
    let ask = proto::EncodeRequest { tiles, detail, ..Default::default() };
    let answer = runtime.block_on(client.encode(ask)).unwrap().into_inner();
    assert_eq!(answer.windows[0].rows.len(), 1);
}
