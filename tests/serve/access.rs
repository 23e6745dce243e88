//! Keys at the door: who is let in for what, how often, and what of it is told.

mod doors;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Output;

use reqwest::Method;
use reqwest::blocking::{RequestBuilder, Response};
use serde_json::Value;
use tonic::transport::Channel;
use tonic::{Code, Request};

use super::grpc::{channel, request};
use crate::harness::{Server, png, restain, tile, until};
use restain::serve::transport::grpc::proto;
use restain::serve::transport::grpc::proto::restain_client::RestainClient;

/// A file of keys, each with its token.
pub(super) struct Keys {
    dir: tempfile::TempDir,
    pub tokens: Vec<String>,
}

impl Keys {
    /// Each key as the words after `restain key`.
    pub(super) fn new(keys: &[&str]) -> Self {
        let mut keyring = Self { dir: tempfile::tempdir().unwrap(), tokens: Vec::new() };
        let entries: Vec<String> = keys.iter().map(|key| keyring.make(key)).collect();
        std::fs::write(keyring.file(), entries.concat()).unwrap();
        keyring
    }

    /// Makes one as a user does, and returns its entry.
    fn make(&mut self, words: &str) -> String {
        let Output { status, stdout, stderr } =
            restain().arg("key").args(words.split(' ')).output().unwrap();
        let (entry, told) =
            (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
        assert!(status.success(), "{told}");
        let token = told.trim().rsplit(' ').next().unwrap().to_owned();
        assert!(token.len() > 40 && !entry.contains(&token), "the entry holds no token");
        self.tokens.push(token);
        entry
    }

    pub(super) fn file(&self) -> PathBuf {
        self.dir.path().join("keys.toml")
    }

    pub(super) fn server(&self, flags: &[&str]) -> Server {
        let file = self.file();
        Server::start(&[&["--keys", file.to_str().unwrap()], flags].concat())
    }
}

fn ask(server: &Server, method: &Method, path: &str, token: Option<&str>) -> RequestBuilder {
    let request = server.client.request(method.clone(), server.url(path));
    match token {
        Some(token) => request.bearer_auth(token),
        None => request,
    }
}

fn augment(server: &Server, token: &str) -> Response {
    let request =
        ask(server, &Method::POST, "/v1/augment", Some(token)).header("content-type", "image/png");
    request.body(png(&tile(0))).send().unwrap()
}

fn code(response: Response) -> String {
    response.json::<Value>().unwrap()["code"].as_str().unwrap().to_owned()
}

/// What is open to everyone; every other operation that the server describes is not.
const OPEN: [&str; 2] = ["/health/live", "/health/ready"];

#[test]
fn every_operation_asks_for_a_key_and_opens_to_its_scope_alone() {
    let scopes = ["augment", "styles", "models", "metrics"];
    let keys = Keys::new(
        &scopes.map(|scope| format!("{scope} --scope {scope}")).each_ref().map(String::as_str),
    );
    let server = keys.server(&[]);
    let description: Value = server.get("/openapi.json").json().unwrap();
    let mut seen = 0;
    for (path, item) in description["paths"].as_object().unwrap() {
        for method in
            ["get", "post", "delete"].into_iter().filter(|method| item.get(method).is_some())
        {
            let verb = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let path = &path.replace("{name}", "no-such").replace("{domain}", "no-such");
            let path = &path.replace("{slide}", "no-such");
            let status = |token: Option<&str>| {
                ask(&server, &verb, path, token).send().unwrap().status().as_u16()
            };
            if OPEN.contains(&path.as_str()) {
                assert_eq!(status(None), 200, "{path}");
                continue;
            }
            seen += 1;
            assert_eq!((status(None), status(Some("rst_wrong"))), (401, 401), "{method} {path}");
            let wanted = match (method, path.as_str()) {
                (_, "/metrics") => "metrics",
                ("post" | "delete", path)
                    if ["/v1/styles", "/v1/slides"].iter().any(|kept| path.starts_with(kept)) =>
                {
                    "styles"
                }
                ("post", path) if path.ends_with("load") => "models",
                _ => "augment",
            };
            for (scope, token) in scopes.iter().zip(&keys.tokens) {
                assert_eq!(
                    status(Some(token)) != 403,
                    *scope == wanted,
                    "{method} {path} with scope {scope}"
                );
            }
        }
    }
    assert!(seen >= 10, "{seen} operations");
    // What is described elsewhere, and what is nowhere.
    for path in ["/v2", "/v2/models/tiny", "/v2/models/stats", "/v2/models/tiny/stats", "/nothing"]
    {
        assert_eq!(ask(&server, &Method::GET, path, None).send().unwrap().status(), 401, "{path}");
    }
    for path in ["/", "/docs/", "/openapi.json", "/v2/health/ready"] {
        assert_eq!(server.get(path).status(), 200, "{path}");
    }
}

#[test]
fn who_is_refused_is_told_how_to_ask_and_nothing_of_any_key() {
    let keys = Keys::new(&["training --scope augment"]);
    let server = keys.server(&[]);
    let none =
        ask(&server, &Method::POST, "/v1/augment", None).body(vec![0; 1 << 16]).send().unwrap();
    assert_eq!(none.headers()["www-authenticate"], "Bearer realm=\"restain\"");
    assert_eq!(code(none), "unauthenticated");
    let forbidden = ask(&server, &Method::GET, "/metrics", Some(&keys.tokens[0])).send().unwrap();
    assert_eq!(forbidden.status(), 403);
    let problem: Value = forbidden.json().unwrap();
    assert_eq!(problem["code"], "forbidden");
    assert!(problem["detail"].as_str().unwrap().contains("scope `metrics`"), "{problem}");
    assert_eq!(augment(&server, &keys.tokens[0]).status(), 200);
    let log = server.log();
    assert!(log.contains("key=\"training\"") || log.contains("key=training"), "{log}");
    assert!(!log.contains(&keys.tokens[0]) && !log.contains("rst_"), "{log}");
}

#[test]
fn a_key_that_asks_too_often_is_told_when_to_come_back_and_nobody_else_waits() {
    let keys =
        Keys::new(&["slow --requests-per-second 0.001 --burst 2", "free", "ops --scope metrics"]);
    let server = keys.server(&[]);
    let first = augment(&server, &keys.tokens[0]);
    assert_eq!(first.status(), 200);
    assert_eq!(first.headers()["ratelimit-policy"], "\"key\";q=2;w=2000");
    assert!(first.headers()["ratelimit"].to_str().unwrap().starts_with("\"key\";r=1;"));
    assert_eq!(augment(&server, &keys.tokens[0]).status(), 200);
    let third = augment(&server, &keys.tokens[0]);
    assert_eq!(third.status(), 429);
    let wait: u64 = third.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((900..=1000).contains(&wait), "{wait} s");
    assert!(third.headers()["ratelimit"].to_str().unwrap().starts_with("\"key\";r=0;"));
    assert_eq!(code(third), "rate_limited");
    let free = augment(&server, &keys.tokens[1]);
    assert!(free.status() == 200 && !free.headers().contains_key("ratelimit"));

    let metrics = ask(&server, &Method::GET, "/metrics", Some(&keys.tokens[2]))
        .send()
        .unwrap()
        .text()
        .unwrap();
    for line in [
        "restain_key_requests_total{key=\"slow\",outcome=\"let_in\"} 2",
        "restain_key_requests_total{key=\"slow\",outcome=\"rate_limited\"} 1",
        "restain_key_requests_total{key=\"free\",outcome=\"let_in\"} 1",
        "restain_rejected_total{reason=\"rate_limited\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    assert!(!metrics.contains("rst_"));
}

#[test]
fn a_key_has_so_many_requests_under_way_as_it_may_and_its_place_comes_back() {
    let keys = Keys::new(&["one --concurrency 1", "ops --scope metrics"]);
    let server = keys.server(&[]);
    // The body stays open: the request is under way until it ends.
    let sent = png(&tile(1));
    let (begin, end) = sent.split_at(100);
    let mut open = TcpStream::connect(&server.address).unwrap();
    let head = format!(
        "POST /v1/augment HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\ncontent-type: \
        image/png\r\ncontent-length: {}\r\n\r\n",
        server.address,
        keys.tokens[0],
        sent.len()
    );
    open.write_all(&[head.as_bytes(), begin].concat()).unwrap();
    until("the open request is let in", || {
        let metrics = ask(&server, &Method::GET, "/metrics", Some(&keys.tokens[1]))
            .send()
            .unwrap()
            .text()
            .unwrap();
        metrics.contains("restain_key_requests_total{key=\"one\",outcome=\"let_in\"} 1")
    });
    let status = || augment(&server, &keys.tokens[0]).status().as_u16();
    assert_eq!(status(), 429);
    open.write_all(end).unwrap();
    let mut answer = [0; 15];
    open.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    drop(open);
    until("the place is free again", || status() == 200);
}

#[test]
fn the_file_is_read_again_and_a_bad_one_is_not() {
    let mut keys = Keys::new(&["old"]);
    let server = keys.server(&[]);
    let old = std::fs::read_to_string(keys.file()).unwrap();
    let entry = keys.make("new");
    let status = |token: usize| augment(&server, &keys.tokens[token]).status().as_u16();
    assert_eq!((status(0), status(1)), (200, 401));
    std::fs::write(keys.file(), "not a key\n").unwrap();
    until("the log says that the file is no good", || server.log().contains("cannot be used"));
    assert_eq!((status(0), status(1)), (200, 401));
    replace(&keys.file(), &(old + &entry));
    until("the new key is taken", || status(1) == 200);
    replace(&keys.file(), &entry);
    until("the old one is gone", || status(0) == 401);
    assert_eq!(status(1), 200);
}

/// As a careful program does.
fn replace(file: &Path, text: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, file).unwrap();
}

#[test]
fn grpc_asks_for_the_same_keys() {
    let keys =
        Keys::new(&["a --scope augment", "b --scope styles --requests-per-second 0.001 --burst 2"]);
    let server = keys.server(&[]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let channel: Channel = runtime.block_on(channel(&server));
    let mut client = RestainClient::new(channel.clone());
    let with = |token: &str| {
        let tiles = proto::Tiles { images: vec![png(&tile(0)).into()], ..Default::default() };
        let mut call = Request::new(request(tiles));
        call.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        call
    };
    assert!(runtime.block_on(client.augment(with(&keys.tokens[0]))).is_ok());
    let mut refused = |call| runtime.block_on(client.augment(call)).unwrap_err().code();
    assert_eq!(refused(with("rst_wrong")), Code::Unauthenticated);
    assert_eq!(refused(with(&keys.tokens[1])), Code::PermissionDenied);
    // What is forbidden took one request out of the bucket too.
    let bare = request(proto::Tiles { images: vec![png(&tile(0)).into()], ..Default::default() });
    assert_eq!(refused(Request::new(bare)), Code::Unauthenticated);

    let mut add = || {
        let tiles = proto::Tiles { images: vec![png(&tile(0)).into()], ..Default::default() };
        let mut call = Request::new(proto::AddStylesRequest {
            domain: "mine".into(),
            tiles: Some(tiles),
            ..Default::default()
        });
        call.metadata_mut()
            .insert("authorization", format!("Bearer {}", keys.tokens[1]).parse().unwrap());
        runtime.block_on(client.add_styles(call)).map(|_| ()).map_err(|status| status.code())
    };
    assert_eq!([add(), add()], [Ok(()), Err(Code::ResourceExhausted)]);

    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    let asked = tonic_health::pb::HealthCheckRequest { service: String::new() };
    assert!(runtime.block_on(health.check(asked)).is_ok(), "health is open");
}

#[test]
fn a_server_that_others_reach_starts_with_keys_or_a_word_and_not_without() {
    let keys = Keys::new(&["a"]);
    let said = restain().args(["serve", "--http", "0.0.0.0:0"]).output().unwrap();
    let text = String::from_utf8(said.stderr).unwrap();
    assert_eq!(said.status.code(), Some(2));
    assert!(text.contains("--http 0.0.0.0:0") && text.contains("insecure"), "{text}");
    for flags in [&["--keys", keys.file().to_str().unwrap()][..], &["--insecure"]] {
        let printed = restain()
            .args(["serve", "--print-config", "--http", "0.0.0.0:0"])
            .args(flags)
            .output()
            .unwrap();
        assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    }
}

#[test]
fn a_file_of_keys_that_is_no_good_stops_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys.toml");
    std::fs::write(&file, "[[key]]\nname = \"a\"\ntoken = \"rst_secret\"\n").unwrap();
    let said = restain()
        .args(["serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--keys"])
        .arg(&file)
        .output()
        .unwrap();
    let text = String::from_utf8(said.stderr).unwrap();
    assert!(
        !said.status.success() && text.contains("keys.toml: line 3: expected one of `name`"),
        "{text}"
    );
    assert!(!text.contains("rst_secret"), "{text}");
}

#[test]
fn pages_of_other_origins_ask_only_where_they_may() {
    let keys = Keys::new(&["a"]);
    let server = keys.server(&["--cors-origin", "https://lab.example"]);
    let preflight = |origin: &str| {
        let request = ask(&server, &Method::OPTIONS, "/v1/augment", None).header("origin", origin);
        let request = request
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization");
        request.send().unwrap()
    };
    let allowed = preflight("https://lab.example");
    assert_eq!(allowed.status(), 200);
    assert_eq!(allowed.headers()["access-control-allow-origin"], "https://lab.example");
    assert_eq!(allowed.headers()["access-control-allow-headers"], "authorization");
    assert!(
        !preflight("https://other.example").headers().contains_key("access-control-allow-origin")
    );
    let refused = ask(&server, &Method::POST, "/v1/augment", None)
        .header("origin", "https://lab.example")
        .send()
        .unwrap();
    assert_eq!(
        refused.headers()["access-control-allow-origin"],
        "https://lab.example",
        "a page may read why it is refused"
    );

    let without = Server::start(&[]);
    let request = ask(&without, &Method::GET, "/v1/models", None)
        .header("origin", "https://lab.example")
        .send()
        .unwrap();
    assert!(!request.headers().contains_key("access-control-allow-origin"));
}
