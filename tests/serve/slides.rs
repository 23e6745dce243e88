//! The context of a slide: made from some of its tiles, and what the change of stain starts from.

use restain_bundle::codec::{RgbImage, TileKey};
use restain_method::color::{ChannelStats, color_match};
use restain_method::exemplar;
use restain_method::glass::keep_glass;
use restain_method::shrink::shrink;
use restain_method::synth::Carry;
use restain_method::upsample::{UpsampleScratch, Upsampler};
use serde_json::{Value, json};

use crate::harness::{
    Parts, SAFETENSORS, Server, key_body, packed_body, picture, png, tensor_body, tile,
};

/// Tiles of one slide, one of them larger.
fn tiles() -> Vec<RgbImage> {
    vec![tile(40), picture(41, 64, 48), tile(42)]
}

fn post(server: &Server, body: Vec<u8>) -> (u16, Value) {
    let request = server.client.post(server.url("/v1/slides"));
    let answer = request.header("content-type", SAFETENSORS).body(body).send().unwrap();
    (answer.status().as_u16(), answer.json().unwrap())
}

fn add(server: &Server, tiles: &[RgbImage]) -> String {
    let (status, added) = post(server, packed_body(tiles, &json!({})));
    assert_eq!(status, 201, "{added}");
    added["slide"].as_str().unwrap().to_owned()
}

fn refusal(server: &Server, tiles: usize, request: &Value) -> (u16, String, String) {
    let tiles: Vec<RgbImage> = (0..tiles).map(tile).collect();
    let body = tensor_body(&tiles, &[], request);
    let answer = server.post("").header("content-type", SAFETENSORS).body(body).send().unwrap();
    let status = answer.status().as_u16();
    let problem: Value = answer.json().unwrap();
    let text = |name: &str| problem[name].as_str().unwrap().to_owned();
    (status, text("code"), text("detail"))
}

fn delete(server: &Server, id: &str) -> (u16, Value) {
    let answer = server.client.delete(server.url(&format!("/v1/slides/{id}"))).send().unwrap();
    (answer.status().as_u16(), answer.json().unwrap_or_default())
}

/// The mean characteristics of all patches with a stain, and the colours of all pixels.
fn context(parts: &mut Parts, tiles: &[RgbImage]) -> (Vec<f32>, ChannelStats) {
    let geometry = *parts.synthesiser.geometry();
    let (half, side) = (geometry.half(), geometry.image_size());
    let (mut sums, mut count) = (vec![0.0; half], 0.0);
    for tile in tiles {
        let pixels = shrink(&tile.pixels, (tile.width, tile.height), (side, side));
        let stained = exemplar::stained(&geometry, &pixels);
        let seen = RgbImage { width: side, height: side, pixels };
        let own = parts.encode(&seen).characteristics;
        for (token, _) in own.chunks_exact(half).zip(stained).filter(|(_, stained)| *stained) {
            sums.iter_mut().zip(token).for_each(|(sum, value)| *sum += f64::from(*value));
            count += 1.0;
        }
    }
    let style = sums.into_iter().map(|sum| (sum / count) as f32).collect();
    (style, ChannelStats::from_tiles(tiles.iter().map(|tile| &tile.pixels[..])))
}

#[test]
fn the_same_tiles_give_the_same_slide_in_any_order_and_by_any_way() {
    let server = Server::start(&[]);
    let tiles = tiles();
    let (status, added) = post(&server, packed_body(&tiles, &json!({"model": "tiny"})));
    assert_eq!((status, &added["tiles"], &added["model"]), (201, &json!(3), &json!("tiny")));
    assert_eq!(added["persistent"], json!(false));
    let id = added["slide"].as_str().unwrap();
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    let again = [tiles[2].clone(), tiles[0].clone(), tiles[1].clone(), tiles[0].clone()];
    let (status, same) = post(&server, packed_body(&again, &json!({})));
    assert_eq!((status, &same), (201, &added), "in another order, and one twice");
    let keys: Vec<String> = tiles.iter().map(|tile| TileKey::of(tile).to_string()).collect();
    assert_eq!(post(&server, key_body(&keys, &json!({}))), (201, added.clone()), "by key");
    let listed: Value = server.get("/v1/slides").json().unwrap();
    assert_eq!(listed["slides"], json!([id]));
    let other = add(&server, &tiles[..2]);
    assert_ne!(other, id);
    // One picture, as any tool sends it.
    let request = server.client.post(server.url("/v1/slides?model=tiny/1"));
    let one = request.header("content-type", "image/png").body(png(&tiles[0])).send().unwrap();
    assert_eq!(one.status(), 201);
    let styles: Value = server.get("/v1/styles").json().unwrap();
    assert_eq!(styles["domains"].as_array().unwrap().len(), 3, "no style is drawn from a slide");
}

#[test]
fn a_variant_changes_by_the_difference_between_the_style_and_its_slide() {
    let server = Server::start(&[]);
    let mut parts = Parts::of(server.bundle());
    let id = add(&server, &tiles());
    let (slide, source) = context(&mut parts, &tiles());
    let style = parts.style("north/1").to_vec();
    let side = parts.synthesiser.geometry().image_size();
    for (tile, strength) in [(tile(3), 1.0), (tile(3), 0.5), (picture(4, 50, 41), 0.75)] {
        let seen = shrink(&tile.pixels, (tile.width, tile.height), (side, side));
        let encodings = parts.encode(&RgbImage { width: side, height: side, pixels: seen.clone() });
        let (anatomy, own) = (&encodings.anatomy[..], &encodings.characteristics[..]);
        let change: Vec<f32> = (0..own.len())
            .map(|at| (style[at % style.len()] - slide[at % slide.len()]) * strength)
            .collect();
        let moved: Vec<f32> = own.iter().zip(&change).map(|(own, change)| own + change).collect();
        let (synthesiser, mut out) = (&parts.synthesiser, vec![0; tile.pixels.len()]);
        let mut scratch = synthesiser.scratch();
        if seen == tile.pixels {
            let (residual, _) = synthesiser.compare(anatomy, own, &tile.pixels, &mut scratch);
            let carry = Carry { anatomy, residual: &residual };
            synthesiser.carry_aligned(carry, &moved, &mut scratch, &mut out);
        } else {
            let mut levels = vec![0.0; seen.len()];
            synthesiser.change(anatomy, &change, &mut scratch, &mut levels);
            let upsampler = Upsampler::new((side, side), (tile.width, tile.height));
            upsampler.add(&levels, &tile.pixels, &mut UpsampleScratch::default(), &mut out);
        }
        keep_glass(&tile.pixels, &mut out);
        let request = json!({"slide": id, "strength": strength, "style": {"ids": ["north/1"]}});
        let (variants, provenance) = server.tensor(std::slice::from_ref(&tile), &[], &request);
        assert!(variants[0] == out, "{}×{} at {strength}", tile.width, tile.height);
        assert_eq!(provenance[0]["slide"], json!(id));
        // The bare product, of the same characteristics.
        let bare = json!({"slide": [id], "strength": strength, "detail": "model",
                          "style": {"ids": ["north/1"]}});
        let (variants, _) = server.tensor(std::slice::from_ref(&tile), &[], &bare);
        assert!(variants[0] == parts.aligned(&encodings, &moved), "bare, at {strength}");
        // Colour matching, from the colours of the slide.
        let request = json!({"slide": id, "method": "color-match", "style": {"ids": ["north/1"]}});
        let target = parts.bundle.styles.entries.iter().find(|entry| entry.id == "north/1");
        let mut matched = vec![0; tile.pixels.len()];
        color_match(&tile.pixels, &source, &target.unwrap().source, &mut matched);
        assert!(server.tensor(&[tile], &[], &request).0[0] == matched);
    }
}

#[test]
fn each_tile_may_be_from_a_slide_of_its_own() {
    let server = Server::start(&[]);
    let ids = [add(&server, &tiles()), add(&server, &[tile(50), tile(51)])];
    let pair = [tile(1), tile(2)];
    let of = |slide: Value, tiles: &[RgbImage]| {
        let request = json!({"slide": slide, "style": {"ids": ["west/0"]}, "variants": 2});
        server.tensor(tiles, &[], &request)
    };
    let (together, provenance) = of(json!(ids), &pair);
    for (place, id) in ids.iter().enumerate() {
        let (alone, _) = of(json!(id), &pair[place..=place]);
        assert!(together[2 * place..][..2] == alone[..], "tile {place}");
        assert_eq!(provenance[2 * place]["slide"], json!(id));
    }
    // Those that a slide does not change.
    let blank = RgbImage { pixels: vec![243; tile(0).pixels.len()], ..tile(0) };
    assert!(of(json!(ids[0]), std::slice::from_ref(&blank)).0[0] == blank.pixels);
    let identity = json!({"slide": ids[0], "method": "identity"});
    let (variants, provenance) = server.tensor(&[tile(1)], &[], &identity);
    assert!(variants[0] == tile(1).pixels && provenance[0].get("slide").is_none());
}

/// What is wrong with colour matching tile by tile, and what slides are for.
#[test]
fn neighbouring_tiles_of_a_slide_agree_where_they_overlap() {
    let server = Server::start(&[]);
    let field = picture(60, 48, 32);
    let crop = |from: usize| {
        let rows = field.pixels.chunks_exact(48 * 3);
        let pixels = rows.flat_map(|row| row[from * 3..][..32 * 3].to_vec()).collect();
        RgbImage { width: 32, height: 32, pixels }
    };
    let id = add(&server, &[crop(0), crop(16)]);
    let request = json!({"slide": id, "method": "color-match", "style": {"ids": ["south/0"]}});
    let (variants, _) = server.tensor(&[crop(0), crop(16)], &[], &request);
    let right = variants[0].chunks_exact(32 * 3).flat_map(|row| row[16 * 3..].to_vec());
    let left = variants[1].chunks_exact(32 * 3).flat_map(|row| row[..16 * 3].to_vec());
    assert!(right.eq(left));
}

#[test]
fn what_cannot_be_is_explained() {
    let server = Server::start(&[]);
    let id = add(&server, &tiles());
    let known = |of: &Value, tiles| refusal(&server, tiles, &json!({"slide": of}));
    let (status, code, detail) = known(&json!("0123"), 1);
    assert_eq!((status, &*code), (422, "unknown_slide"));
    assert!(detail.contains("slide names the slide `0123`"), "{detail}");
    let (status, code, detail) = known(&json!([id, id]), 3);
    assert_eq!((status, &*code), (422, "slide_count"));
    assert!(detail.contains("slide has 2 ids for 3 tiles"), "{detail}");
    let blank = RgbImage { pixels: vec![244; tile(0).pixels.len()], ..tile(0) };
    let (status, problem) = post(&server, tensor_body(&[blank], &[], &json!({})));
    assert_eq!((status, &problem["code"]), (422, &json!("no_styles")));
    let (status, problem) = post(&server, tensor_body(&[tile(0)], &[tile(1)], &json!({})));
    assert_eq!((status, &problem["code"]), (400, &json!("malformed_request")));
    assert_eq!(delete(&server, &id).0, 204);
    assert_eq!(known(&json!(id), 1).1, "unknown_slide");
    let (status, problem) = delete(&server, &id);
    assert_eq!((status, &problem["code"]), (404, &json!("slide_not_found")));
}

#[test]
fn a_slide_is_there_after_a_kill_and_a_restart() {
    let state = tempfile::tempdir().unwrap();
    let flags = ["--state", state.path().to_str().unwrap()];
    let server = Server::start(&flags);
    let id = add(&server, &tiles());
    let request = json!({"slide": id, "seed": 5, "variants": 3});
    let before = server.tensor(&[tile(0)], &[], &request);
    server.signal("KILL");
    assert!(!server.wait().success());
    let server = Server::start(&flags);
    assert!(server.tensor(&[tile(0)], &[], &request) == before);
    let (status, added) = post(&server, packed_body(&tiles(), &json!({})));
    assert_eq!((status, &added["persistent"]), (201, &json!(true)));
}
