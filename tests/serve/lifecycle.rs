//! Starting, telling about itself, and stopping.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::harness::{Server, png, tile, until};

#[test]
fn a_ready_server_tells_what_it_serves() {
    let server = Server::start(&[]);
    assert_eq!(server.get("/health/live").status(), 200);
    assert_eq!(server.get("/health/ready").status(), 200);
    let models: Value = server.get("/v1/models").json().unwrap();
    let model = &models["models"][0];
    assert_eq!(
        (model["name"].as_str(), model["state"].as_str(), model["default"].as_bool()),
        (Some("tiny"), Some("ready"), Some(true))
    );
    assert_eq!(model["geometry"]["image_size"].as_u64(), Some(tile(0).width as u64));
    let styles: Value = server.get("/v1/styles?model=tiny").json().unwrap();
    let domains: Vec<&str> = styles["domains"]
        .as_array()
        .unwrap()
        .iter()
        .map(|domain| domain["domain"].as_str().unwrap())
        .collect();
    assert_eq!(domains, server.bundle().styles.domains);
    assert_eq!(server.metric("restain_model_info"), 1.0);
    assert_eq!(server.metric("restain_batch_tiles_count"), 0.0, "warming is no work");
}

#[test]
fn the_page_and_the_docs_ask_nobody_else() {
    let server = Server::start(&[]);
    let page = server.get("/").text().unwrap();
    assert!(page.contains("<h1>restain</h1>"));
    assert!(
        !page.contains("https://") && !page.contains("http://"),
        "one file, and no request to anyone else"
    );
    assert_eq!(server.get("/docs/").status(), 200);
    let api: Value = server.get("/openapi.json").json().unwrap();
    assert!(api["paths"]["/v1/augment"]["post"].is_object());
}

#[test]
fn what_is_asked_is_counted() {
    let server = Server::start(&[]);
    assert_eq!(server.png("?variants=3", &tile(0), "*/*").status(), 200);
    assert_eq!(
        (server.metric("restain_tiles_total"), server.metric("restain_variants_total")),
        (1.0, 3.0)
    );
    let text = server.get("/metrics").text().unwrap();
    assert!(
        text.contains(r#"restain_requests_total{code="200",method="POST",route="/v1/augment"} 1"#),
        "{text}"
    );
    let answer = server.get("/nowhere/at/all");
    assert!(answer.headers().contains_key("x-request-id"));
    assert!(server.get("/metrics").text().unwrap().contains(r#"route="unmatched""#));
}

#[test]
fn a_draining_server_is_not_ready_and_still_serves() {
    let server = Server::start(&["--drain-delay", "10m"]);
    server.signal("TERM");
    until("not ready", || server.get("/health/ready").status() == 503);
    assert_eq!(server.get("/health/live").status(), 200);
    assert_eq!(server.png("", &tile(0), "image/png").status(), 200);
    // Whoever asks twice does not want to wait.
    server.signal("TERM");
    assert!(!server.wait().success());
}

#[test]
fn what_is_in_flight_at_the_end_is_finished() {
    let server = Server::start(&["--drain-delay", "0s"]);
    let body = png(&tile(0));
    let (first, rest) = body.split_at(body.len() / 2);
    let mut stream = TcpStream::connect(&server.address).unwrap();
    let head = "POST /v1/augment?seed=1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: \
        image/png\r\ncontent-length:";
    write!(stream, "{head} {}\r\n\r\n", body.len()).unwrap();
    stream.write_all(first).unwrap();
    until("the request is in the house", || server.metric("restain_inflight_bytes") > 0.0);

    server.signal("TERM");
    until("nobody new is let in", || TcpStream::connect(&server.address).is_err());
    stream.write_all(rest).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(
        answer.starts_with(b"HTTP/1.1 200"),
        "{}",
        String::from_utf8_lossy(&answer[..200.min(answer.len())])
    );
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn ctrl_c_ends_it_as_shells_expect() {
    let server = Server::start(&["--drain-delay", "10m"]);
    server.signal("INT");
    assert_eq!(server.wait().code(), Some(130));
}

#[test]
fn signals_without_a_meaning_end_nothing() {
    let server = Server::start(&[]);
    for signal in ["HUP", "USR1", "USR2"] {
        server.signal(signal);
        until("it is logged", || server.log().contains(&format!("SIG{signal}")));
    }
    assert_eq!(server.get("/health/ready").status(), 200);
    server.signal("TERM");
    assert!(server.wait().success());
}

#[test]
fn a_server_without_a_model_is_not_ready() {
    let server = Server::start(&[]);
    let ready =
        || ["/health/ready", "/v2/health/ready"].map(|path| server.get(path).status().as_u16());
    assert_eq!(ready(), [200, 200]);
    assert_eq!(server.post_json("/v1/models/tiny/unload", &json!({})).0, 200);
    assert_eq!(ready(), [503, 503]);
    assert_eq!(server.post_json("/v1/models/tiny/load", &json!({})).0, 200);
    assert_eq!(ready(), [200, 200]);
}
