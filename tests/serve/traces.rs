//! The traces of requests, as a collector gets them, and the ids in the log.

use std::collections::BTreeSet;

use opentelemetry_proto::tonic::common::v1::any_value::Value as Attribute;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use serde_json::{Value, json};

use super::collector::Collector;
use super::grpc::{client, pixels, request};
use crate::harness::{SAFETENSORS, Server, png, tensor_body, tile, until};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn traceparent(sampled: bool) -> String {
    format!("00-{TRACE}-{PARENT}-0{}", u8::from(sampled))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attribute(span: &Span, key: &str) -> Option<Value> {
    let value = span
        .attributes
        .iter()
        .find(|attribute| attribute.key == key)?
        .value
        .as_ref()?
        .value
        .as_ref()?;
    Some(match value {
        Attribute::StringValue(text) => json!(text),
        Attribute::IntValue(number) => json!(number),
        other => panic!("{key} is {other:?}"),
    })
}

fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    spans
        .iter()
        .find(|span| span.name == name)
        .unwrap_or_else(|| panic!("no {name} among {:?}", names(spans)))
}

fn names(spans: &[Span]) -> Vec<&str> {
    spans.iter().map(|span| span.name.as_str()).collect()
}

/// A server that exports to `collector`, whose log is JSON.
fn traced(collector: &Collector, flags: &[&str]) -> Server {
    let own = ["--otlp", &collector.url, "--drain-delay", "0s", "--log-format", "json"];
    Server::start(&[&own, flags].concat())
}

/// Ends the server, which exports the spans that are left.
fn end(server: Server) {
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
}

/// The log's lines about one request.
fn lines_about(server: &Server, id: &str) -> Vec<Value> {
    let lines = server.log();
    let lines = lines.lines().map(|line| {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"))
    });
    lines.filter(|line| line["span"]["request_id"] == id).collect()
}

#[test]
fn a_request_continues_its_callers_trace_from_its_head_to_its_batch() {
    let collector = Collector::start();
    let server = traced(&collector, &[]);
    let sent = server
        .post("?seed=1")
        .header("content-type", "image/png")
        .header("authorization", "Bearer hidden-token");
    let sent = sent
        .header("traceparent", traceparent(true))
        .header("tracestate", "vendor=7")
        .body(png(&tile(0)))
        .send()
        .unwrap();
    assert_eq!(sent.status(), 200);
    assert_eq!(server.get("/health/ready").status(), 200, "a probe leaves no trace");
    end(server);

    let spans = collector.spans();
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE), "{spans:?}");
    let request = named(&spans, "POST /v1/augment");
    assert_eq!((hex(&request.parent_span_id).as_str(), request.kind()), (PARENT, SpanKind::Server));
    assert_eq!(request.trace_state, "vendor=7");
    for (key, value) in [
        ("http.request.method", json!("POST")),
        ("http.route", json!("/v1/augment")),
        ("url.path", json!("/v1/augment")),
        ("http.response.status_code", json!(200)),
        ("restain.model", json!("tiny/1")),
        ("restain.tiles", json!(1)),
    ] {
        assert_eq!(attribute(request, key), Some(value), "{key}");
    }
    assert_eq!(request.status.as_ref().unwrap().code(), StatusCode::Unset);
    for name in ["decode", "cache", "encode", "synthesise", "write"] {
        let part = named(&spans, name);
        assert_eq!(part.parent_span_id, request.span_id, "{name}");
        assert!(
            part.start_time_unix_nano >= request.start_time_unix_nano
                && part.end_time_unix_nano <= request.end_time_unix_nano,
            "{name}"
        );
    }
    let encode = named(&spans, "encode");
    assert_eq!(named(&spans, "queue").parent_span_id, encode.span_id);
    assert_eq!(named(&spans, "batch").parent_span_id, encode.span_id);
    assert_eq!(attribute(named(&spans, "cache"), "restain.cache.misses"), Some(json!(1)));
    assert_eq!(spans.len(), 8, "{:?}", names(&spans));
    assert!(!format!("{spans:?}").contains("hidden-token"));
    let service = collector.resource();
    assert!(service.contains(&("service.name".to_owned(), "restain".to_owned())), "{service:?}");
}

#[test]
fn a_tile_that_is_held_is_a_hit_and_is_not_encoded() {
    let collector = Collector::start();
    let server = traced(&collector, &[]);
    for _ in 0..2 {
        assert_eq!(server.png("?seed=1", &tile(0), "image/png").status(), 200);
    }
    end(server);
    let spans = collector.spans();
    let lookups: Vec<_> = spans
        .iter()
        .filter(|span| span.name == "cache")
        .map(|span| attribute(span, "restain.cache.hits"))
        .collect();
    assert_eq!(lookups, [Some(json!(0)), Some(json!(1))]);
    assert_eq!(names(&spans).iter().filter(|name| **name == "batch").count(), 1);
    let traces: BTreeSet<_> = spans.iter().map(|span| span.trace_id.clone()).collect();
    assert_eq!(traces.len(), 2, "who brings no trace begins one");
}

#[test]
fn a_call_continues_its_callers_trace() {
    let collector = Collector::start();
    let server = traced(&collector, &[]);
    let (runtime, mut client) = client(&server);
    let mut ask = tonic::Request::new(request(pixels(&[tile(0)])));
    ask.metadata_mut().insert("traceparent", traceparent(true).parse().unwrap());
    runtime.block_on(client.augment(ask)).unwrap();
    let mut stream = tonic::Request::new(tokio_stream::iter((1..3).map(|number| {
        let request = Some(request(pixels(&[tile(number)])));
        restain::serve::transport::grpc::proto::AugmentStreamRequest {
            id: number.to_string(),
            request,
        }
    })));
    stream.metadata_mut().insert("traceparent", traceparent(true).parse().unwrap());
    runtime.block_on(async {
        let mut answers = client.augment_stream(stream).await.unwrap().into_inner();
        while answers.message().await.unwrap().is_some() {}
    });
    drop((client, runtime));
    end(server);

    let spans = collector.spans();
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE), "{spans:?}");
    let call = named(&spans, "restain.v1.Restain/Augment");
    assert_eq!((hex(&call.parent_span_id).as_str(), call.kind()), (PARENT, SpanKind::Server));
    for (key, value) in [
        ("rpc.system", json!("grpc")),
        ("rpc.service", json!("restain.v1.Restain")),
        ("rpc.method", json!("Augment")),
        ("rpc.grpc.status_code", json!(0)),
    ] {
        assert_eq!(attribute(call, key), Some(value), "{key}");
    }
    assert!(spans.iter().any(|span| span.name == "encode" && span.parent_span_id == call.span_id));
    let stream = named(&spans, "restain.v1.Restain/AugmentStream");
    let parts: Vec<&Span> = spans
        .iter()
        .filter(|span| span.parent_span_id == stream.span_id && span.name == "encode")
        .collect();
    assert_eq!(parts.len(), 2);
    assert!(parts.iter().all(|part| part.end_time_unix_nano <= stream.end_time_unix_nano));
}

#[test]
fn a_batch_and_its_requests_link_to_each_other() {
    let collector = Collector::start();
    // Full with two tiles, and until then it waits: for longer than a test does.
    let server = traced(&collector, &["--max-batch", "2", "--max-delay", "10m"]);
    std::thread::scope(|scope| {
        for number in 0..2 {
            let server = &server;
            scope.spawn(move || {
                assert_eq!(server.png("?seed=1", &tile(number), "image/png").status(), 200)
            });
        }
    });
    end(server);
    let spans = collector.spans();
    let batch = named(&spans, "batch");
    assert_eq!(
        (attribute(batch, "restain.batch.tiles"), attribute(batch, "restain.batch.size")),
        (Some(json!(2)), Some(json!(2)))
    );
    let encodes: Vec<&Span> = spans.iter().filter(|span| span.name == "encode").collect();
    let asked: BTreeSet<_> = encodes.iter().map(|span| (&span.trace_id, &span.span_id)).collect();
    let linked: BTreeSet<_> =
        batch.links.iter().map(|link| (&link.trace_id, &link.span_id)).collect();
    assert_eq!((asked.len(), &linked), (2, &asked));
    for encode in encodes {
        let runs: Vec<_> = encode.links.iter().map(|link| &link.span_id).collect();
        assert_eq!(runs, [&batch.span_id]);
    }
}

#[test]
fn with_a_share_of_0_only_requests_whose_caller_samples_are_exported() {
    let collector = Collector::start();
    let server = traced(&collector, &["--trace-share", "0"]);
    let send = |parent: Option<String>| {
        let sent = server.post("?seed=1").header("content-type", "image/png").body(png(&tile(0)));
        let sent = parent.into_iter().fold(sent, |sent, parent| sent.header("traceparent", parent));
        assert_eq!(sent.send().unwrap().status(), 200);
    };
    send(None);
    send(Some(traceparent(false)));
    send(Some(traceparent(true)));
    end(server);
    let spans = collector.spans();
    let requests: Vec<_> = spans
        .iter()
        .filter(|span| span.name == "POST /v1/augment")
        .map(|span| hex(&span.parent_span_id))
        .collect();
    assert_eq!(requests, [PARENT]);
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE));
}

#[test]
fn an_unreachable_collector_costs_no_request_and_no_clean_end() {
    // One that refuses connections, and one that takes them and never answers.
    let (gone, deaf) = (Collector::gone(), std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    for url in [gone, format!("http://{}", deaf.local_addr().unwrap())] {
        let server =
            Server::start(&["--otlp", &url, "--drain-delay", "0s", "--drain-timeout", "1s"]);
        for number in 0..3 {
            assert_eq!(server.png("?seed=1", &tile(number), "image/png").status(), 200);
        }
        end(server);
    }
}

#[test]
fn lost_spans_give_one_warning() {
    let url = Collector::gone();
    let server = Server::start_as(&["--otlp", &url, "--log", "info,restain=debug"], |command| {
        command.env("OTEL_BSP_SCHEDULE_DELAY", "200");
    });
    let said = |what: &str| server.log().lines().filter(|line| line.contains(what)).count();
    until("more spans are lost", || {
        assert_eq!(server.png("?seed=1", &tile(0), "image/png").status(), 200);
        said("further spans are lost") > 0
    });
    assert_eq!(said("spans are lost until"), 1, "{}", server.log());
}

#[test]
fn the_standard_variables_set_collector_headers_and_attributes() {
    let collector = Collector::start();
    let server = Server::start_as(&["--drain-delay", "0s"], |command| {
        command
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url)
            .env("OTEL_EXPORTER_OTLP_HEADERS", "x-team=pathology,authorization=Bearer%20secret")
            .env("OTEL_SERVICE_NAME", "stains")
            .env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test,service.name=other");
    });
    assert_eq!(server.png("?seed=1", &tile(0), "image/png").status(), 200);
    assert!(!server.log().contains("secret"), "{}", server.log());
    end(server);
    named(&collector.spans(), "POST /v1/augment");
    assert_eq!(collector.header("x-team").as_deref(), Some("pathology"));
    assert_eq!(collector.header("authorization").as_deref(), Some("Bearer secret"));
    let service = collector.resource();
    for (name, value) in [("service.name", "stains"), ("deployment.environment", "test")] {
        assert!(service.contains(&(name.to_owned(), value.to_owned())), "{service:?}");
    }
}

#[test]
fn spans_are_exported_over_https_to_a_collector_whose_certificate_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root.pem");
    let collector = Collector::start_tls(&root);
    let send = |trusted: bool| {
        let flags = ["--otlp", &collector.url, "--drain-delay", "0s"];
        let server = Server::start_as(&flags, |command| {
            if trusted {
                command.env("OTEL_EXPORTER_OTLP_CERTIFICATE", &root);
            }
        });
        assert_eq!(server.png("?seed=1", &tile(0), "image/png").status(), 200);
        end(server);
    };
    send(false);
    assert!(collector.spans().is_empty());
    send(true);
    named(&collector.spans(), "POST /v1/augment");
}

#[test]
fn a_failure_marks_its_trace_and_is_logged_once_under_its_request() {
    let collector = Collector::start();
    let state = tempfile::tempdir().unwrap();
    let kept = state.path().join("state");
    let server = traced(&collector, &["--state", kept.to_str().unwrap()]);
    // A file where the directory was: nothing can be written any more.
    std::fs::remove_dir_all(&kept).unwrap();
    std::fs::write(&kept, "").unwrap();
    let body = tensor_body(&[tile(0), tile(1)], &[], &json!({"domain": "ours", "styles": 1}));
    let sent = server
        .client
        .post(server.url("/v1/styles"))
        .header("content-type", SAFETENSORS)
        .header("x-request-id", "the-failing-one");
    let sent = sent.header("traceparent", traceparent(true)).body(body).send().unwrap();
    let (status, said) = (sent.status(), sent.text().unwrap());
    assert!(status.is_server_error(), "{status}: {said}");

    let lines = lines_about(&server, "the-failing-one");
    let failures: Vec<_> = lines.iter().filter(|line| line["level"] == "ERROR").collect();
    assert_eq!(failures.len(), 1, "{lines:?}");
    assert!(lines.iter().all(|line| line["span"]["trace_id"] == TRACE), "{lines:?}");
    assert_eq!(lines.iter().filter(|line| line["fields"]["message"] == "answered").count(), 1);
    end(server);
    let spans = collector.spans();
    let request = named(&spans, "POST /v1/styles");
    assert_eq!(request.status.as_ref().unwrap().code(), StatusCode::Error);
    assert_eq!(attribute(request, "error.type"), Some(json!(status.as_u16().to_string())));
}

#[test]
fn a_rejection_marks_its_stage_and_is_one_line() {
    let collector = Collector::start();
    let server = traced(&collector, &[]);
    let sent = server
        .post("")
        .header("content-type", "image/png")
        .header("x-request-id", "no-picture")
        .body("none")
        .send()
        .unwrap();
    assert!(sent.status().is_client_error());
    let code = sent.json::<Value>().unwrap()["code"].clone();
    assert_eq!(lines_about(&server, "no-picture").len(), 1);
    end(server);
    let spans = collector.spans();
    assert_eq!(
        named(&spans, "POST /v1/augment").status.as_ref().unwrap().code(),
        StatusCode::Unset
    );
    let decode = named(&spans, "decode");
    assert_eq!(
        (decode.status.as_ref().unwrap().code(), attribute(decode, "error.type")),
        (StatusCode::Error, Some(code))
    );
}

#[test]
fn text_lines_carry_the_id_and_without_a_collector_no_trace() {
    let server = Server::start(&[]);
    let sent = server
        .post("")
        .header("content-type", "image/png")
        .header("x-request-id", "mine")
        .body(png(&tile(0)))
        .send()
        .unwrap();
    assert_eq!(sent.status(), 200);
    let log = server.log();
    let answered: Vec<&str> = log.lines().filter(|line| line.contains("answered")).collect();
    assert_eq!(answered.len(), 1, "{log}");
    assert!(
        answered[0].contains("request_id=\"mine\"") && !answered[0].contains("trace_id"),
        "{log}"
    );
}
