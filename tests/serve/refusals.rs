//! Every bad request has its own name, says what would be right, and leaves the server as it was.

use std::io::{Read, Write};
use std::net::TcpStream;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reqwest::blocking::Response;
use reqwest::blocking::multipart::{Form, Part};
use serde_json::{Value, json};

use restain_bundle::codec::RgbImage;

use crate::harness::{SAFETENSORS, Server, picture, png, tensor_body, tile, until};

/// The problem of a refused request.
fn problem(response: Response, status: u16, code: &str) -> Value {
    let (found, kind) =
        (response.status(), response.headers()["content-type"].to_str().unwrap().to_owned());
    let body = response.text().unwrap();
    assert_eq!((found.as_u16(), kind.as_str()), (status, "application/problem+json"), "{body}");
    let problem: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (problem["code"].as_str(), problem["status"].as_u64()),
        (Some(code), Some(u64::from(status))),
        "{body}"
    );
    problem
}

#[track_caller]
fn says(problem: &Value, words: &[&str]) {
    let detail = problem["detail"].as_str().unwrap();
    assert!(words.iter().all(|word| detail.contains(word)), "{detail}");
}

fn still_serves(server: &Server) {
    assert_eq!(server.png("?seed=1", &tile(0), "image/png").status(), 200);
}

/// A PNG whose header promises 20,000 × 20,000 pixels.
fn bomb() -> Vec<u8> {
    let mut bytes = png(&tile(0));
    bytes[16..24].copy_from_slice(&[0, 0, 0x4E, 0x20, 0, 0, 0x4E, 0x20]);
    let crc = !bytes[12..29].iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 }
        })
    });
    bytes[29..33].copy_from_slice(&crc.to_be_bytes());
    bytes
}

#[test]
fn a_picture_at_fault_is_named_by_its_index() {
    let server = Server::start(&[]);
    let whole = png(&tile(0));
    for (second, status, code, words) in [
        (bomb(), 413, "image_too_large", ["20000×20000", "16777216"]),
        (whole[..whole.len() / 2].to_vec(), 422, "undecodable_image", ["tile 1", "PNG"]),
        (b"no picture".to_vec(), 422, "undecodable_image", ["tile 1", "WebP"]),
        (png(&picture(0, 15, 40)), 422, "tile_size", ["15×40", "from 16 to 8192 pixels a side"]),
    ] {
        let form =
            Form::new().part("tile", Part::bytes(whole.clone())).part("tile", Part::bytes(second));
        let told = problem(server.post("").multipart(form).send().unwrap(), status, code);
        assert_eq!(
            (told["list"].as_str(), told["index"].as_u64()),
            (Some("tile"), Some(1)),
            "{told}"
        );
        says(&told, &words);
    }
    still_serves(&server);
}

#[test]
fn a_field_out_of_range_is_named_with_its_range() {
    let server = Server::start(&[]);
    for (query, status, code, words) in [
        (
            "?variants=0",
            422,
            "variants_out_of_range",
            ["variants is 0", "from 1 to the server's --max-variants"],
        ),
        ("?variants=10000", 422, "variants_out_of_range", ["variants is 10000", "from 1 to 64"]),
        ("?domains=east", 422, "unknown_domain", ["`east`", "north, south, west"]),
        ("?domains=", 422, "no_styles", ["domains, exclude_domains and ids", "fits"]),
        ("?ids=north/99", 422, "unknown_style", ["`north/99`", "/v1/styles"]),
        ("?spread=3.5", 422, "spread_out_of_range", ["3.5", "from 0 to 3"]),
        (
            "?strength=0.5&strength_from=0.75",
            422,
            "strength_out_of_range",
            ["strength_from is 0.75", "strength, which is 0.5"],
        ),
        ("?mpp=0", 422, "mpp_out_of_range", ["mpp is 0", "from 0.01 to 100"]),
        ("?strength=1.5", 422, "strength_out_of_range", ["1.5", "from 0 to 1"]),
        ("?seed=9007199254740992", 422, "seed_out_of_range", ["9007199254740992", "2^53"]),
        ("?quality=0", 422, "quality_out_of_range", ["quality is 0", "from 1 to 100"]),
        ("?quality=300", 422, "quality_out_of_range", ["quality is 300", "from 1 to 100"]),
        ("?timeout_ms=0", 422, "timeout_out_of_range", ["timeout_ms is 0", "at least 1"]),
        ("?placement=aligned", 422, "style_conflict", ["aligned", "reference"]),
        ("?from=reference", 422, "no_styles", ["reference", "no reference tile"]),
        ("?model=other", 404, "model_not_found", ["`other`", "tiny/1"]),
        ("?model=tiny/2", 404, "model_not_found", ["`tiny/2`", "tiny/1"]),
        ("?strenght=1", 400, "malformed_request", ["strenght", "strength"]),
        ("?method=magic", 400, "malformed_request", ["magic", "color-match"]),
    ] {
        says(&problem(server.png(query, &tile(0), "*/*"), status, code), &words);
    }
    still_serves(&server);
}

#[test]
fn a_body_that_cannot_be_read_is_told_what_would_be() {
    let server = Server::start(&["--max-tiles", "2", "--max-body", "1MiB"]);
    let send = |kind: &str, body: Vec<u8>| {
        server.post("").header("content-type", kind).body(body).send().unwrap()
    };
    says(
        &problem(send("text/plain", vec![1]), 415, "unsupported_media_type"),
        &["text/plain", "multipart/form-data"],
    );
    says(
        &problem(send("multipart/form-data", vec![1]), 415, "unsupported_media_type"),
        &["boundary"],
    );
    says(&problem(send("application/json", b"{".to_vec()), 400, "malformed_request"), &["JSON"]);
    says(
        &problem(send("application/json", b" []".to_vec()), 400, "malformed_request"),
        &["a list", "object"],
    );
    let bare = server.post("").body(png(&tile(0))).send().unwrap();
    says(&problem(bare, 415, "unsupported_media_type"), &["no Content-Type", "image/*"]);
    let unknown = json!({"tiles": [], "request": {"seeed": 1}}).to_string();
    says(
        &problem(send("application/json", unknown.into()), 400, "malformed_request"),
        &["seeed", "seed"],
    );
    says(
        &problem(
            send("application/json", br#"{"tiles":["*"]}"#.to_vec()),
            400,
            "malformed_request",
        ),
        &["tile 0", "base64"],
    );
    says(
        &problem(send("application/json", br#"{"tiles":[]}"#.to_vec()), 422, "no_tiles"),
        &["no tile"],
    );
    let three = json!({"tiles": vec![BASE64_STANDARD.encode(png(&tile(0))); 3]}).to_string();
    says(
        &problem(send("application/json", three.into()), 413, "too_many_tiles"),
        &["3 tiles", "at most 2"],
    );
    says(&problem(send(SAFETENSORS, vec![0; 20]), 400, "malformed_request"), &["safetensors"]);
    let wrong = tensor_body(&[tile(0)], &[], &json!({"variants": "many"}));
    says(&problem(send(SAFETENSORS, wrong), 400, "malformed_request"), &["many"]);
    // No tiles at all, each of a size that does not fit into any number.
    let header = r#"{"tiles":{"dtype":"U8","shape":[0,1099511627776,1099511627776,3],"data_offsets":[0,0]}}"#;
    let nothing = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    says(&problem(send(SAFETENSORS, nothing), 422, "no_tiles"), &["no tile"]);
    let form = Form::new().text("tiel", "x");
    says(
        &problem(server.post("").multipart(form).send().unwrap(), 400, "malformed_request"),
        &["tiel", "reference"],
    );
    let told = server.png("?variants=2", &tile(0), "image/png");
    says(&problem(told, 406, "not_acceptable"), &["2 pictures", "application/json"]);
    still_serves(&server);
}

#[test]
fn a_body_too_large_is_refused_by_what_it_announces() {
    let server = Server::start(&["--max-body", "64KiB"]);
    let mut stream = TcpStream::connect(&server.address).unwrap();
    // Only the head is sent: the answer comes without a byte of the body.
    write!(
        stream,
        "POST /v1/augment HTTP/1.1\r\nhost: x\r\ncontent-type: image/png\r\ncontent-length: \
        70000\r\n\r\n"
    )
    .unwrap();
    assert!(head(&mut stream).starts_with("HTTP/1.1 413"));
    still_serves(&server);
}

#[test]
fn unknown_paths_and_methods_are_problems_too() {
    let server = Server::start(&[]);
    says(&problem(server.get("/v1/nothing"), 404, "route_not_found"), &["/v1/nothing", "/docs"]);
    says(&problem(server.get("/v1/augment"), 405, "method_not_allowed"), &["/v1/augment", "GET"]);
    says(&problem(server.get("/v1/styles?modle=x"), 400, "malformed_request"), &["modle"]);
}

#[test]
fn a_full_house_says_when_to_come_back_and_empties_when_a_caller_leaves() {
    let server = Server::start(&["--max-body", "64KiB", "--max-inflight-bytes", "160KiB"]);
    let mut guest = TcpStream::connect(&server.address).unwrap();
    write!(
        guest,
        "POST /v1/augment HTTP/1.1\r\nhost: x\r\ncontent-type: image/png\r\ncontent-length: \
        65536\r\n\r\n"
    )
    .unwrap();
    guest.write_all(&[0; 65_000]).unwrap();
    until("the guest's body is admitted", || server.metric("restain_inflight_bytes") >= 64_000.0);

    for path in ["/v1/styles", "/v1/slides"] {
        assert_eq!(server.get(path).status(), 200, "{path}: there is room for a list");
    }
    let refused = server.png("", &tile(0), "image/png");
    let wait: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait));
    problem(refused, 429, "overloaded");
    assert_eq!(server.metric("restain_rejected_total"), 1.0);

    drop(guest);
    until("what the guest held is given back", || server.metric("restain_inflight_bytes") == 0.0);
    still_serves(&server);
}

#[test]
fn a_list_is_answered_from_memory_that_is_lent() {
    let server = Server::start(&["--max-body", "64KiB", "--max-inflight-bytes", "64KiB"]);
    let mut guest = TcpStream::connect(&server.address).unwrap();
    write!(
        guest,
        "POST /v1/augment HTTP/1.1\r\nhost: x\r\ncontent-type: image/png\r\ncontent-length: \
        65536\r\n\r\n"
    )
    .unwrap();
    guest.write_all(&[0; 65_000]).unwrap();
    until("all is lent", || server.metric("restain_inflight_bytes") >= 65_000.0);
    for path in ["/v1/styles", "/v1/slides"] {
        problem(server.get(path), 429, "overloaded");
    }
    drop(guest);
    until("what the guest held is given back", || server.metric("restain_inflight_bytes") == 0.0);
    for path in ["/v1/styles", "/v1/slides"] {
        assert_eq!(server.get(path).status(), 200, "{path}");
    }
}

#[test]
fn an_answer_that_would_never_fit_is_not_told_to_come_back() {
    let server = Server::start(&["--max-body", "64KiB", "--max-inflight-bytes", "96KiB"]);
    let refused = server.png("?variants=64", &tile(0), "*/*");
    assert!(!refused.headers().contains_key("retry-after"));
    problem(refused, 413, "request_too_large");
}

#[test]
fn a_body_that_never_comes_ends_with_the_deadline() {
    let server = Server::start(&["--request-timeout", "100ms"]);
    let mut stream = TcpStream::connect(&server.address).unwrap();
    write!(
        stream,
        "POST /v1/augment HTTP/1.1\r\nhost: x\r\ncontent-type: image/png\r\ncontent-length: \
        9\r\n\r\n"
    )
    .unwrap();
    assert!(head(&mut stream).starts_with("HTTP/1.1 504"));
}

fn head(stream: &mut TcpStream) -> String {
    let mut bytes = [0; 12];
    stream.read_exact(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn a_picture_that_its_format_cannot_have_is_no_failure_of_the_server() {
    let server = Server::start(&[]);
    let wide = RgbImage { width: 8192, height: 16, pixels: vec![200; 8192 * 16 * 3] };
    let sheet = server.png("?sheet=true&variants=2&method=identity&format=webp", &wide, "*/*");
    says(&problem(sheet, 406, "not_acceptable"), &["image/webp", "PNG has no such bound"]);
    let sheet = server.png("?sheet=true&variants=2&method=identity&format=png", &wide, "*/*");
    assert_eq!(sheet.status(), 200);
}

#[test]
fn a_sheet_has_as_few_pixels_as_any_picture() {
    let server = Server::start(&["--max-pixels", "4000"]);
    assert_eq!(server.png("?sheet=true", &tile(0), "*/*").status(), 200);
    let large =
        problem(server.png("?sheet=true&variants=4", &tile(0), "*/*"), 413, "image_too_large");
    says(&large, &["a sheet of 1×5 pictures of 32×32", "8000 pixels", "at most 4000"]);
    // Each variant alone is smaller.
    assert_eq!(server.png("?variants=4", &tile(0), "*/*").status(), 200);
    still_serves(&server);
}

#[test]
fn json_of_another_kind_is_told_by_its_field_on_every_route() {
    let server = Server::start(&[]);
    let said = |path: &str, body: Value| {
        let (status, answer) = server.post_json(path, &body);
        assert_eq!(status, 400, "{path} {body}: {answer}");
        let text = answer["detail"].as_str().or(answer["error"].as_str()).unwrap().to_owned();
        assert!(!text.contains("line 1") && !text.contains("expected"), "{path} {body}: {text}");
        text
    };
    for (path, body, words) in [
        ("/v1/augment", json!({"tiles": [null]}), "tile 0 is null, and must be base64 text"),
        ("/v1/encode", json!({"tiles": 5}), "tiles is 5, and must be a list"),
        ("/v1/slides", json!({"keys": [[]]}), "key 0 is a list, and must be 64 hex digits"),
        (
            "/v1/augment",
            json!({"tils": []}),
            "unknown field `tils`, and may have `request`, `tiles`",
        ),
        ("/v1/models/tiny/load", json!({"version": 5}), "version is 5, and must be a text"),
        ("/v1/models/tiny/unload", json!(5), "the JSON body is 5, and must be an object"),
        ("/v2/models/tiny/infer", json!({"inputs": 5}), "inputs is 5, and must be a list"),
        ("/v2/models/tiny/infer", json!({"inputs": [5]}), "inputs[0] is 5, and must be an object"),
        (
            "/v2/models/tiny/infer",
            json!({"inputs": [{"name": "TILES", "shape": "x", "datatype": "UINT8", "data": []}]}),
            "inputs[0].shape is `x`, and must be a list",
        ),
        ("/v2/repository/index", json!(5), "the JSON body is 5, and must be an object"),
    ] {
        let text = said(path, body);
        assert!(text.contains(words), "{path}: {text}");
    }
    still_serves(&server);
}
