//! A tile that is blank, black, flat or pen has no stain: it gives none, and takes none.

use restain_bundle::codec::RgbImage;
use serde_json::{Value, json};

use crate::harness::{SAFETENSORS, Server, tensor_body, tile};

/// A tile of the fixture's size in one value: glass, the dark beside a slide, and grey.
fn flat(value: u8) -> RgbImage {
    let RgbImage { width, height, pixels } = tile(0);
    RgbImage { width, height, pixels: vec![value; pixels.len()] }
}

/// Glass under green pen, with the noise of a scanner.
fn pen() -> RgbImage {
    let RgbImage { width, height, pixels } = tile(0);
    let noise = |n: usize| (n * 7 % 11) as u8;
    let pixels = (0..pixels.len()).map(|n| [40, 150, 120][n % 3] + noise(n)).collect();
    RgbImage { width, height, pixels }
}

fn stainless() -> Vec<RgbImage> {
    [245, 0, 128].map(flat).into_iter().chain([pen()]).collect()
}

#[test]
fn a_tile_without_a_stain_gives_none_to_its_batch() {
    let server = Server::start(&[]);
    let tiles: Vec<RgbImage> = (0..5).map(tile).chain(stainless()).collect();
    for share in ["tile", "request"] {
        for placement in ["broadcast", "aligned"] {
            let style = json!({"from": "batch", "share": share, "placement": placement});
            let request = json!({"variants": 16, "seed": 3, "style": style});
            let (_, provenance) = server.tensor(&tiles, &[], &request);
            for record in provenance.as_array().unwrap() {
                let given = record["style"].as_str().unwrap_or_default();
                let blank = ["tile/5", "tile/6", "tile/7", "tile/8"];
                assert!(!blank.iter().any(|tile| given.starts_with(tile)), "{record}");
            }
        }
    }
}

#[test]
fn a_tile_without_a_stain_keeps_its_own_look() {
    let server = Server::start(&[]);
    let tiles = stainless();
    for method in ["vit", "color-match"] {
        let of = |style: Value| {
            server.tensor(&tiles, &[], &json!({"seed": 3, "method": method, "style": style}))
        };
        let (own, _) = of(json!({"from": "own", "placement": "aligned"}));
        let (variants, provenance) = of(json!({"from": "bank"}));
        assert!(variants == own, "{method}");
        for record in provenance.as_array().unwrap() {
            assert!(record["style"].is_null(), "{record}");
        }
    }
    // By key, of which only the encoding is there.
    let (of_pixels, provenance) = server.tensor(&tiles, &[], &json!({"seed": 4}));
    let keys: Vec<String> = provenance
        .as_array()
        .unwrap()
        .iter()
        .map(|record| record["tile_key"].as_str().unwrap().to_owned())
        .collect();
    let (status, body) = server.by_key(&keys, &json!({"seed": 4}));
    assert_eq!(status, 200);
    assert!(crate::harness::read_tensor(&body).0 == of_pixels);
}

#[test]
fn references_without_a_stain_are_left_out_or_refused() {
    let server = Server::start(&[]);
    let style = json!({"seed": 1, "variants": 16, "style": {"from": "reference"}});
    let references = [flat(245), tile(9), flat(0)];
    let (_, provenance) = server.tensor(&[tile(1)], &references, &style);
    for record in provenance.as_array().unwrap() {
        assert!(record["style"].as_str().unwrap().starts_with("reference/1#"), "{record}");
    }
    let body = tensor_body(&[tile(1)], &stainless(), &style);
    let refused = server.post("").header("content-type", SAFETENSORS).body(body).send().unwrap();
    assert_eq!(refused.status(), 422);
    assert_eq!(refused.json::<Value>().unwrap()["code"], "no_styles");
}

#[test]
fn a_domain_is_not_made_of_tiles_without_a_stain() {
    let server = Server::start(&[]);
    for tile in stainless() {
        let body = tensor_body(std::slice::from_ref(&tile), &[], &json!({"domain": "flat"}));
        let request = server.client.post(server.url("/v1/styles"));
        let refused = request.header("content-type", SAFETENSORS).body(body).send().unwrap();
        assert_eq!(refused.status(), 422, "{:?}", &tile.pixels[..3]);
        assert_eq!(refused.json::<Value>().unwrap()["code"], "no_styles");
    }
}
