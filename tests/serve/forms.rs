//! Every form in and every form out carries the same pixels and the same provenance.

use std::io::Read;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reqwest::blocking::Response;
use reqwest::blocking::multipart::{Form, Part};
use restain_bundle::codec::RgbImage;
use serde_json::{Value, json};

use crate::harness::{SAFETENSORS, Server, decode, png, tensor_body, tile};

/// The pixels of every variant of a JSON answer.
fn pixels(answer: &Value) -> Vec<RgbImage> {
    let variants = answer["tiles"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|tile| tile["variants"].as_array().unwrap());
    variants
        .map(|variant| decode(&BASE64_STANDARD.decode(variant["image"].as_str().unwrap()).unwrap()))
        .collect()
}

fn json_of(response: Response) -> Value {
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/json");
    response.json().unwrap()
}

#[test]
fn every_form_of_request_asks_the_same() {
    let server = Server::start(&[]);
    let request = json!({"variants": 2, "seed": 4, "style": {"domains": ["north", "west"]}});
    let accept = |query: &str| server.post(query).header("accept", "application/json");
    let by_query = accept("?variants=2&seed=4&domains=north,west")
        .header("content-type", "image/png")
        .body(png(&tile(0)));
    let by_query = json_of(by_query.send().unwrap());

    let form =
        Form::new().text("request", request.to_string()).part("tile", Part::bytes(png(&tile(0))));
    assert_eq!(json_of(accept("").multipart(form).send().unwrap()), by_query);
    let body = json!({"request": request, "tiles": [BASE64_STANDARD.encode(png(&tile(0)))]});
    assert_eq!(json_of(accept("").json(&body).send().unwrap()), by_query);
    let body = tensor_body(&[tile(0)], &[], &request);
    assert_eq!(
        json_of(accept("").header("content-type", SAFETENSORS).body(body).send().unwrap()),
        by_query
    );
}

#[test]
fn every_form_of_answer_says_the_same() {
    let server = Server::start(&[]);
    let ask = |accept: &str| server.png("?variants=2&seed=4", &tile(0), accept);
    let json = json_of(ask("application/json"));
    let expected = pixels(&json);
    let styles: Vec<&Value> = json["tiles"][0]["variants"]
        .as_array()
        .unwrap()
        .iter()
        .map(|variant| &variant["style"])
        .collect();

    let (variants, provenance) = crate::harness::read_tensor(&ask(SAFETENSORS).bytes().unwrap());
    assert!(variants.iter().eq(expected.iter().map(|picture| &picture.pixels)));
    assert_eq!([&provenance[0]["style"], &provenance[1]["style"]], styles[..]);
    assert_eq!(provenance[1]["tile_key"], json["tiles"][0]["tile_key"]);

    let tar = ask("application/x-tar").bytes().unwrap();
    let mut archive = tar::Archive::new(&tar[..]);
    let mut files = std::collections::BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        files.insert(entry.path().unwrap().display().to_string(), bytes);
    }
    assert_eq!(
        files.keys().collect::<Vec<_>>(),
        ["000000_000.json", "000000_000.png", "000000_001.json", "000000_001.png"]
    );
    assert_eq!(decode(&files["000000_001.png"]), expected[1]);
    assert_eq!(serde_json::from_slice::<Value>(&files["000000_001.json"]).unwrap(), provenance[1]);

    let multipart = ask("multipart/mixed");
    let kind = multipart.headers()["content-type"].to_str().unwrap().to_owned();
    let boundary = kind.strip_prefix("multipart/mixed; boundary=").unwrap();
    let body = multipart.bytes().unwrap();
    let parts =
        body.windows(boundary.len()).filter(|window| *window == boundary.as_bytes()).count();
    assert_eq!(parts, 1 + 2 + 1, "a description, two pictures and the end");
    let found =
        body.windows(png(&expected[1]).len()).any(|window| *window == png(&expected[1])[..]);
    assert!(found, "the second picture is a part of the body");
}

#[test]
fn one_picture_in_gives_one_picture_out() {
    let server = Server::start(&[]);
    let kind = |query: &str, accept: &str| {
        let response = server.png(query, &tile(0), accept);
        assert_eq!(response.status(), 200, "{query} {accept}");
        response.headers()["content-type"].to_str().unwrap().to_owned()
    };
    assert_eq!(kind("", "*/*"), "image/png");
    assert_eq!(kind("?format=webp", "*/*"), "image/webp");
    assert_eq!(kind("?format=jpeg&quality=80", "image/*"), "image/jpeg");
    assert_eq!(kind("?variants=2", "*/*"), "application/json");
    assert_eq!(kind("?variants=2&sheet=true", "*/*"), "image/png");
}

#[test]
fn a_sheet_shows_the_tile_and_its_variants_and_tells_their_styles() {
    let server = Server::start(&[]);
    let response = server.png("?variants=3&sheet=true&seed=6", &tile(0), "image/png");
    let told: Value =
        serde_json::from_str(response.headers()["restain-provenance"].to_str().unwrap()).unwrap();
    assert_eq!(told["tiles"][0]["variants"].as_array().unwrap().len(), 3);
    let sheet = decode(&response.bytes().unwrap());
    let side = tile(0).width;
    assert_eq!((sheet.width, sheet.height), (4 * (side + 4) + 4, side + 8));
    let corner = &sheet.pixels[(4 * sheet.width + 4) * 3..][..3];
    assert_eq!(corner, &tile(0).pixels[..3]);
}

#[test]
fn every_answer_says_where_the_time_went() {
    let server = Server::start(&[]);
    let timing = server.png("", &tile(0), "image/png").headers()["server-timing"]
        .to_str()
        .unwrap()
        .to_owned();
    for name in ["queue;dur=", "encode;dur=", "synthesise;dur=", "total;dur="] {
        assert!(timing.contains(name), "{timing}");
    }
}
