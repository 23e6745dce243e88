//! What other programs write where this one would write it differently, and mean the same.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reqwest::blocking::multipart::{Form, Part};
use serde_json::{Value, json};

use crate::harness::{Server, install, png, tile};

#[test]
fn several_accept_lines_are_one_list() {
    let server = Server::start(&[]);
    let ask = server.post("?method=identity").header("content-type", "image/png");
    let ask = ask.header("accept", "text/html").header("accept", "image/jpeg;q=0.5, image/webp");
    let answer = ask.body(png(&tile(0))).send().unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "image/webp");
    let list = server.client.get(server.url("/v1/styles")).header("accept", "text/csv");
    let list = list.header("accept", "application/vnd.restain.safetensors").send().unwrap();
    assert_eq!(list.headers()["content-type"], "application/vnd.restain.safetensors");
}

/// The status and the JSON of the answer to a JSON body.
fn asked(server: &Server, path: &str, body: &Value) -> (u16, Value) {
    let request = server.client.post(server.url(path)).header("content-type", "application/json");
    let response = request.body(body.to_string()).send().unwrap();
    (response.status().as_u16(), response.json().unwrap())
}

/// The status, and the versions that GET of the path lists.
fn versions(server: &Server, path: &str) -> (u16, Vec<String>) {
    let answer = server.get(path);
    let status = answer.status().as_u16();
    let models = answer.json::<Value>().unwrap()["models"].clone();
    let version = |model: &Value| model["version"].as_str().unwrap().to_owned();
    (status, models.as_array().map_or_else(Vec::new, |models| models.iter().map(version).collect()))
}

#[test]
fn a_path_may_name_a_version() {
    let server = Server::start(&[]);
    install(server.models(), "tiny", "2");
    let (load, unload) = ("/v1/models/tiny%2F2/load", "/v1/models/tiny%2F2/unload");
    let one = |version: &str| (200, vec![version.to_owned()]);
    assert_eq!(versions(&server, "/v1/models/tiny%2F1"), one("1"));
    assert_eq!(versions(&server, "/v1/models/tiny%2F2").0, 404);
    let (status, problem) = asked(&server, load, &json!({"version": "1"}));
    assert_eq!(status, 400);
    assert!(problem["detail"].as_str().unwrap().contains("version is `1`"), "{problem}");
    assert_eq!(asked(&server, load, &json!({"version": "2"})).0, 200);
    assert_eq!(versions(&server, "/v1/models/tiny%2F2"), one("2"));
    assert_eq!(versions(&server, "/v1/models/tiny").1, ["2", "1"]);
    for path in ["/v1/models/tiny%2F", "/v1/models/tin%2F2", "/v1/models/tiny%2F2%2F3"] {
        assert_eq!(versions(&server, path).0, 404, "{path}");
    }
    assert_eq!(asked(&server, unload, &Value::Null), (200, json!({"unloaded": ["tiny/2"]})));
    assert_eq!(versions(&server, "/v1/models/tiny%2F2").0, 404);
}

#[test]
fn null_is_a_field_that_was_left_out() {
    let server = Server::start(&[]);
    let picture = BASE64_STANDARD.encode(png(&tile(0)));
    let nulls = json!({"model": null, "variants": null, "seed": 5, "method": null, "style": null,
        "strength": null, "output": {"format": null, "quality": null}, "timeout_ms": null});
    let augment = |body: Value| asked(&server, "/v1/augment", &body);
    let (status, plain) = augment(json!({"tiles": [picture], "request": {"seed": 5}}));
    let body = json!({"tiles": [picture], "request": nulls, "keys": null, "references": null});
    let (with_nulls, answer) = augment(body);
    assert_eq!((status, with_nulls), (200, 200), "{answer}");
    assert_eq!(plain["tiles"], answer["tiles"]);
    assert_eq!(augment(json!({"tiles": null, "request": null})).1["code"], "no_tiles");
    assert_eq!(augment(Value::Null).1["code"], "no_tiles");
    for body in [Value::Null, json!({"version": null, "default": null})] {
        assert_eq!(asked(&server, "/v1/models/tiny/load", &body).0, 200, "{body}");
    }
    for body in [Value::Null, json!({"ready": null})] {
        assert_eq!(asked(&server, "/v2/repository/index", &body).0, 200, "{body}");
    }
    assert_eq!(
        asked(&server, "/v2/repository/models/tiny/load", &json!({"parameters": null})).0,
        200
    );
}

#[test]
fn base64_may_have_line_ends() {
    let server = Server::start(&[]);
    let plain = BASE64_STANDARD.encode(png(&tile(0)));
    let lines: Vec<&str> =
        plain.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap()).collect();
    for text in [
        lines.join("\r\n"),
        lines.join("\n") + "\n",
        format!("data:image/png;base64,{}", lines.join("\n")),
    ] {
        let body = json!({"tiles": [text], "request": {"method": "identity", "seed": 1}});
        assert_eq!(asked(&server, "/v1/augment", &body).0, 200);
        let text = text.trim_start_matches("data:image/png;base64,");
        let input = json!({"name": "TILES", "datatype": "BYTES", "shape": [1], "data": [text]});
        let (status, answer) = asked(&server, "/v2/models/tiny/infer", &json!({"inputs": [input]}));
        assert_eq!(status, 200, "{answer}");
    }
}

#[test]
fn parts_of_a_form_may_have_a_name_and_a_type() {
    let server = Server::start(&[]);
    let asked = r#"{"variants": 2, "method": "identity"}"#;
    let typed = |kind: &str| Part::text(asked).mime_str(kind).unwrap();
    for part in [
        Part::text(asked),
        typed("application/json"),
        typed("text/plain; charset=utf-8"),
        typed("application/json").file_name("request.json"),
        Part::bytes(format!("{asked}\r\n").into_bytes()).file_name("request"),
    ] {
        let form = Form::new().part("request", part).part("tile", Part::bytes(png(&tile(0))));
        let answer = server.post("").multipart(form).send().unwrap();
        assert_eq!(answer.status(), 200);
        let answer: Value = answer.json().unwrap();
        assert_eq!(answer["tiles"][0]["variants"].as_array().unwrap().len(), 2);
    }
}
