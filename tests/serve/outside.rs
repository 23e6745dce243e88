//! What those can do who have no key, or come from elsewhere: nothing that lasts.

use std::io::{Read, Write};
use std::net::TcpStream;

use reqwest::blocking::{Client, Response};
use restain::serve::transport::grpc::proto;
use restain::serve::transport::grpc::proto::restain_client::RestainClient;
use tokio_stream::StreamExt;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::access::Keys;
use super::grpc::{channel, request};
use crate::client;
use crate::harness::{Server, png, tile, until};

fn series(text: &str) -> usize {
    text.lines().filter(|line| !line.starts_with('#')).count()
}

/// A call of gRPC without a key, as curl would make one.
fn call(client: &Client, server: &Server, path: &str) -> Response {
    client
        .post(format!("http://{}{path}", server.grpc))
        .header("content-type", "application/grpc")
        .body(vec![])
        .send()
        .unwrap()
}

#[test]
fn made_up_calls_of_strangers_leave_no_trace_in_metrics() {
    let keys = Keys::new(&["ops --scope metrics"]);
    let server = keys.server(&[]);
    let client = client().http2_prior_knowledge().build().unwrap();
    let text = || {
        server
            .client
            .get(server.url("/metrics"))
            .bearer_auth(&keys.tokens[0])
            .send()
            .unwrap()
            .text()
            .unwrap()
    };
    call(&client, &server, "/made.up.Service/Call0");
    server.get("/made/up/0");
    let before = series(&text());
    for number in 1..20 {
        for path in [
            "/made.up.Service/Call",
            "/restain.v1.Restain/Augment",
            "/grpc.health.v1.Health/Check",
            "/x",
        ] {
            call(&client, &server, &format!("{path}{number}"));
        }
        server.get(&format!("/made/up/{number}"));
    }
    let after = text();
    assert!(!after.contains("made.up") && !after.contains("made/up"), "{after}");
    assert!(series(&after) <= before + 60, "{before} series became {}", series(&after));
    assert!(!server.log().contains("Call1"), "nor in the log");
}

#[test]
fn an_id_that_does_not_fit_into_a_line_is_not_taken_over() {
    let server = Server::start(&[]);
    let asked = |id: &str| {
        server.client.get(server.url("/v1/models")).header("x-request-id", id).send().unwrap()
    };
    assert_eq!(asked("job-7/epoch:3").headers()["x-request-id"], "job-7/epoch:3");
    let long = "a".repeat(60_000);
    for id in [long.as_str(), "two words", "\u{1b}[31m"] {
        let Ok(answer) = server
            .client
            .get(server.url("/v1/models"))
            .header("x-request-id", id.as_bytes())
            .send()
        else {
            continue;
        };
        assert_ne!(answer.headers()["x-request-id"].as_bytes(), id.as_bytes());
    }
    assert!(server.log().lines().all(|line| line.len() < 1000));
}

#[test]
fn a_page_of_another_origin_changes_nothing_on_a_server_without_keys() {
    let server = Server::start(&[]);
    let ask = |server: &Server, origin: &str, host: &str| {
        let request = server
            .client
            .post(server.url("/v1/models/tiny/load"))
            .header("origin", origin)
            .header("host", host);
        let answer = request.header("content-type", "text/plain").body("").send().unwrap();
        (answer.status().as_u16(), answer.text().unwrap())
    };
    let own = server.address.as_str();
    for (origin, host) in [
        ("https://evil.example", own),
        ("null", own),
        ("http://evil.example", "evil.example"),
        ("http://localhost:1", own),
    ] {
        let (status, told) = ask(&server, origin, host);
        assert!(status == 403 && told.contains("origin_forbidden"), "{origin} at {host}: {told}");
    }
    for host in [own, "localhost:1234", "[::1]:8080", "127.0.0.1"] {
        assert_eq!(ask(&server, &format!("http://{host}"), host).0, 200, "{host}");
    }
    let insecure = Server::start(&["--insecure"]);
    assert_eq!(
        ask(&insecure, "https://tiles.lab.example", "tiles.lab.example").0,
        200,
        "behind a proxy that has the say"
    );
    // Programs are not pages.
    let answer = server
        .client
        .get(server.url("/v1/models"))
        .header("host", "tiles.lab.example")
        .send()
        .unwrap();
    assert_eq!(answer.status(), 200);
}

#[test]
fn a_head_that_says_twice_who_asks_is_refused() {
    let server = Server::start(&[]);
    for twice in
        ["host: y", "origin: http://x\r\norigin: http://x", "authorization: a\r\nauthorization: b"]
    {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        write!(
            stream,
            "GET /v1/models HTTP/1.1\r\nhost: x\r\n{twice}\r\nconnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400"), "{twice}: {answer}");
        assert!(answer.contains("is given twice"), "{answer}");
    }
}

#[test]
fn silent_connections_keep_no_probe_out() {
    let keys = Keys::new(&["a"]);
    let addresses = keys.file().with_file_name("addresses");
    let server =
        keys.server(&["--probes", "127.0.0.1:0", "--address-file", addresses.to_str().unwrap()]);
    let told = std::fs::read_to_string(&addresses).unwrap();
    let probes = told.lines().nth(2).unwrap();
    let silent: Vec<TcpStream> = (0..600).map(|_| TcpStream::connect(probes).unwrap()).collect();
    silent.iter().take(100).for_each(|mut stream| _ = stream.write_all(b"GET /health"));
    assert_eq!(
        server.client.get(format!("http://{probes}/health/live")).send().unwrap().status(),
        200
    );
}

#[test]
fn who_watches_health_does_not_hold_up_the_end() {
    let server = Server::start(&["--drain-delay", "0s", "--drain-timeout", "60s"]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut seen = runtime.block_on(async {
        let mut health = HealthClient::new(channel(&server).await);
        health.watch(HealthCheckRequest { service: String::new() }).await.unwrap().into_inner()
    });
    assert!(runtime.block_on(seen.next()).unwrap().is_ok());
    server.signal("TERM");
    assert!(server.wait().success(), "no request was cut off");
}

#[test]
fn a_stream_ends_with_its_key_and_keeps_to_its_rate() {
    let keys = Keys::new(&["gone", "stays", "slow --requests-per-second 0.001 --burst 2"]);
    let server = keys.server(&["--drain-delay", "0s", "--drain-timeout", "60s"]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let open = |token: &str| {
        let (sender, messages) = tokio::sync::mpsc::channel(4);
        let mut call = Request::new(tokio_stream::wrappers::ReceiverStream::new(messages));
        call.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        let answers = runtime.block_on(async {
            let mut client = RestainClient::new(channel(&server).await);
            sender.send(message()).await.unwrap();
            client.augment_stream(call).await.unwrap().into_inner()
        });
        (sender, answers)
    };
    let (to_gone, mut of_gone) = open(&keys.tokens[0]);
    let (to_slow, mut of_slow) = open(&keys.tokens[2]);
    assert!(runtime.block_on(of_gone.next()).unwrap().is_ok());
    assert!(runtime.block_on(of_slow.next()).unwrap().is_ok());
    // The call took one request out of the bucket, the second message the other; the third has
    // none, and waits.
    for _ in 0..2 {
        runtime.block_on(to_slow.send(message())).unwrap();
    }
    assert!(runtime.block_on(of_slow.next()).unwrap().is_ok());
    let without = std::fs::read_to_string(keys.file()).unwrap();
    let (_, without) = without.split_once("[[key]]").unwrap().1.split_once("[[key]]").unwrap();
    let new = keys.file().with_extension("new");
    std::fs::write(&new, format!("[[key]]{without}")).unwrap();
    std::fs::rename(&new, keys.file()).unwrap();
    until("the key is gone", || {
        let answer = server
            .client
            .get(server.url("/v1/models"))
            .bearer_auth(&keys.tokens[0])
            .send()
            .unwrap();
        answer.status() == 401
    });
    runtime.block_on(to_gone.send(message())).unwrap();
    assert_eq!(
        runtime.block_on(of_gone.next()).unwrap().unwrap_err().code(),
        Code::Unauthenticated
    );
    let waits = runtime.block_on(async {
        tokio::time::timeout(std::time::Duration::from_millis(50), of_slow.next()).await
    });
    assert!(waits.is_err(), "a third answer within a thousand seconds");
    // What waits for its rate is no work that the end would wait for.
    server.signal("TERM");
    assert!(runtime.block_on(of_slow.next()).is_none_or(|answer| answer.is_err()));
    assert!(server.wait().success());
}

#[test]
fn a_stream_of_a_key_with_one_place_answers_one_message_after_the_other() {
    let keys = Keys::new(&["one --concurrency 1"]);
    let server = keys.server(&[]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let answered = runtime.block_on(async {
        let messages = tokio_stream::iter(std::iter::repeat_with(message).take(5));
        let mut call = Request::new(messages);
        let token = format!("Bearer {}", keys.tokens[0]);
        call.metadata_mut().insert("authorization", token.parse().unwrap());
        let mut client = RestainClient::new(channel(&server).await);
        let answers = client.augment_stream(call).await.unwrap().into_inner();
        answers.map(|answer| answer.unwrap().id).collect::<Vec<_>>().await
    });
    assert_eq!(answered, ["1"; 5]);
}

fn message() -> proto::AugmentStreamRequest {
    let tiles = proto::Tiles { images: vec![png(&tile(0)).into()], ..Default::default() };
    proto::AugmentStreamRequest { id: "1".into(), request: Some(request(tiles)) }
}
