//! Calls over gRPC whose bytes are made by hand: what no client library sends.

use std::convert::Infallible;
use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper::{HeaderMap, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use super::{forget_peak, peak_mib, resident_mib, still_serves};
use crate::harness::Server;

const OPEN: [&str; 4] = [
    "/inference.GRPCInferenceService/ServerLive",
    "/inference.GRPCInferenceService/ServerReady",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
];
const UNARY: [&str; 7] = [
    "/inference.GRPCInferenceService/ServerLive",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/restain.v1.Restain/Augment",
    "/restain.v1.Restain/ListStyles",
    "/restain.v1.Restain/AddStyles",
    "/inference.GRPCInferenceService/ModelInfer",
];
const STREAMS: [&str; 3] = [
    "/restain.v1.Restain/AugmentStream",
    "/inference.GRPCInferenceService/ModelStreamInfer",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
];
/// An empty message.
const EMPTY: [u8; 5] = [0; 5];
/// RESOURCE_EXHAUSTED, INVALID_ARGUMENT and UNIMPLEMENTED.
const UNIMPLEMENTED: &str = "12";
const TOO_MUCH: &str = "8";
const INVALID: &str = "3";

/// A connection of HTTP/2.
pub(super) struct Line {
    pub runtime: Runtime,
    sender: hyper::client::conn::http2::SendRequest<Body>,
    address: String,
}

type Body = StreamBody<
    tokio_stream::adapters::Map<
        ReceiverStream<Bytes>,
        fn(Bytes) -> Result<Frame<Bytes>, Infallible>,
    >,
>;

impl Line {
    pub(super) fn to(server: &Server) -> Self {
        let runtime = Runtime::new().unwrap();
        let address = server.grpc.clone();
        let sender = runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(&address).await.unwrap();
            let (sender, connection) =
                hyper::client::conn::http2::Builder::new(TokioExecutor::new())
                    .handshake(TokioIo::new(stream))
                    .await
                    .unwrap();
            tokio::spawn(connection);
            sender
        });
        Self { runtime, sender, address }
    }

    /// Opens a call: where its pieces go, and its answer to come.
    pub(super) fn call(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (mpsc::Sender<Bytes>, impl Future<Output = hyper::Result<Response<Incoming>>> + use<>)
    {
        let (pieces, receiver) = mpsc::channel(1);
        let frame: fn(Bytes) -> _ = |piece| Ok(Frame::data(piece));
        let body = StreamBody::new(ReceiverStream::new(receiver).map(frame));
        let mut request =
            hyper::Request::post(format!("http://{}{path}", self.address)).header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        (pieces, self.sender.send_request(request.body(body).unwrap()))
    }
}

const GRPC: [(&str, &str); 1] = [("content-type", "application/grpc")];

fn status(headers: &HeaderMap) -> &str {
    headers.get("grpc-status").map_or("", |status| status.to_str().unwrap())
}

#[test]
fn who_has_no_key_is_lent_nothing() {
    let server = Server::start(&["--request-timeout", "2s"]);
    let mut line = Line::to(&server);
    let announced = Bytes::from_static(&[0, 4, 0, 0, 0]);
    let mut held = Vec::new();
    for number in 0..60 {
        let (pieces, answer) = line.call(OPEN[number % OPEN.len()], &GRPC);
        let answer = line.runtime.block_on(async {
            pieces.send(announced.clone()).await.unwrap();
            answer.await.unwrap()
        });
        assert_eq!(status(answer.headers()), TOO_MUCH, "{:?}", answer.headers());
        held.push(pieces);
    }
    assert_eq!(server.metric("restain_inflight_bytes"), 0.0);
    still_serves(&server);
}

/// A message with its prefix, compressed.
fn gzipped(message: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(message).unwrap();
    let packed = encoder.finish().unwrap();
    [&[1][..], &(packed.len() as u32).to_be_bytes(), &packed].concat()
}

/// The status of a call whose message comes in these pieces, and its head.
fn sent(server: &Server, path: &str, encoding: &str, pieces: Vec<Bytes>) -> (String, HeaderMap) {
    let mut line = Line::to(server);
    let headers = [GRPC[0], ("grpc-encoding", encoding)];
    let (sender, answer) = line.call(path, &headers);
    line.runtime.block_on(async {
        let sending = async {
            for piece in pieces {
                if sender.send(piece).await.is_err() {
                    break;
                }
            }
            drop(sender);
        };
        let (head, body) = tokio::join!(sending, answer).1.unwrap().into_parts();
        let trailers = body.collect().await.unwrap().trailers().cloned().unwrap_or_default();
        let of = if head.headers.contains_key("grpc-status") { &head.headers } else { &trailers };
        (status(of).to_owned(), head.headers)
    })
}

#[test]
fn a_compressed_message_may_come_in_any_pieces() {
    let server = Server::start(&[]);
    // A request for the model `tiny`: field 1, four bytes.
    let message = gzipped(b"\x0a\x04tiny");
    let path = "/inference.GRPCInferenceService/ModelMetadata";
    let bytes = message.iter().map(|&byte| Bytes::copy_from_slice(&[byte])).collect();
    assert_eq!(sent(&server, path, "gzip", bytes).0, "0");
    assert_eq!(sent(&server, path, "gzip", vec![message.clone().into()]).0, "0");
    for cut in [1, 5, 6, message.len() - 1] {
        let cut = Bytes::copy_from_slice(&message[..cut]);
        assert_eq!(sent(&server, path, "gzip", vec![cut]).0, INVALID);
    }
    let stream = "/inference.GRPCInferenceService/ModelStreamInfer";
    let two = Bytes::from(gzipped(b"\x0a\x04tiny").repeat(2));
    assert_eq!(sent(&server, stream, "gzip", vec![two]).0, "0");
    still_serves(&server);
}

#[test]
fn a_small_message_that_unpacks_to_much_is_refused_where_nothing_is_lent() {
    let server = Server::start(&[]);
    let bomb = Bytes::from(gzipped(&vec![0; 1 << 20]));
    for path in OPEN.iter().chain(["/restain.v1.Restain/ListStyles"].iter()) {
        assert_eq!(sent(&server, path, "gzip", vec![bomb.clone()]).0, TOO_MUCH, "{path}");
    }
    assert_eq!(server.metric("restain_inflight_bytes"), 0.0);
    still_serves(&server);
}

#[test]
fn a_call_in_another_encoding_names_those_that_are_read() {
    let server = Server::start(&[]);
    for path in UNARY.iter().chain(&STREAMS) {
        let (status, head) = sent(&server, path, "zstd", vec![Bytes::from_static(&EMPTY)]);
        assert_eq!(status, UNIMPLEMENTED, "{path}");
        assert_eq!(head["grpc-accept-encoding"], "identity,gzip,deflate", "{path}");
    }
    assert_eq!(sent(&server, OPEN[0], "identity", vec![Bytes::from_static(&EMPTY)]).0, "0");
}

#[test]
fn a_second_message_ends_a_call_that_takes_one() {
    let server = Server::start(&[]);
    still_serves(&server);
    let before = resident_mib(&server);
    forget_peak(&server);
    for path in UNARY {
        let mut line = Line::to(&server);
        let (pieces, answer) = line.call(path, &GRPC);
        let many = Bytes::from(EMPTY.repeat(12_000));
        let answer = line.runtime.block_on(async {
            let sending = async {
                // 7 MB: until the call ends.
                for _ in 0..120 {
                    if pieces.send(many.clone()).await.is_err() {
                        break;
                    }
                }
            };
            tokio::join!(sending, answer).1.unwrap()
        });
        assert_eq!(status(answer.headers()), INVALID, "{path}: {:?}", answer.headers());
    }
    let peak = peak_mib(&server);
    assert!(peak < before + 32, "{before} MiB before, {peak} MiB at most");
}

#[test]
fn empty_messages_of_a_stream_wait_with_their_caller() {
    let server = Server::start(&[]);
    still_serves(&server);
    let before = resident_mib(&server);
    forget_peak(&server);
    for path in STREAMS {
        let mut line = Line::to(&server);
        let (pieces, answer) = line.call(path, &GRPC);
        let many = Bytes::from(EMPTY.repeat(12_000));
        line.runtime.block_on(async {
            let sending = async {
                for _ in 0..120 {
                    if pieces.send(many.clone()).await.is_err() {
                        break;
                    }
                }
            };
            // Nobody reads the answers: the server stops reading, or ends the call.
            let wait = std::time::Duration::from_secs(3);
            let _answer = tokio::time::timeout(wait, async { tokio::join!(sending, answer) }).await;
        });
    }
    let peak = peak_mib(&server);
    assert!(peak < before + 32, "{before} MiB before, {peak} MiB at most");
    still_serves(&server);
}

#[test]
fn a_page_cannot_call_over_grpc() {
    let server = Server::start(&[]);
    crate::harness::install(server.models(), "other", "1");
    assert_eq!(server.post_json("/v1/models/other/load", &serde_json::json!({})).0, 200);
    let path = "/inference.GRPCInferenceService/RepositoryModelUnload";
    // Field 2, the name.
    let message: Bytes = [&[0, 0, 0, 0, 7, 0x12, 5][..], b"other"].concat().into();
    for (headers, http) in [
        (&[("content-type", "text/plain;charset=UTF-8")][..], 415),
        (&[], 415),
        (&[("content-type", "application/grpc-web")], 415),
        (&[GRPC[0], ("origin", "http://evil.example")], 200),
        (&[GRPC[0], ("origin", &server.url(""))], 200),
    ] {
        let mut line = Line::to(&server);
        let (pieces, answer) = line.call(path, headers);
        let answer = line.runtime.block_on(async {
            let _ = pieces.send(message.clone()).await;
            drop(pieces);
            answer.await.unwrap()
        });
        assert_eq!(answer.status(), http, "{headers:?}");
        assert!(matches!(status(answer.headers()), "3" | "7"), "{:?}", answer.headers());
    }
    assert_eq!(server.get("/v1/models/other").status(), 200, "it is served as before");
    let mut line = Line::to(&server);
    let (pieces, answer) = line.call(path, &[("content-type", "application/grpc+proto")]);
    let answer = line.runtime.block_on(async {
        pieces.send(message).await.unwrap();
        drop(pieces);
        answer.await.unwrap()
    });
    assert_eq!((answer.status().as_u16(), status(answer.headers())), (200, ""));
    assert_eq!(server.get("/v1/models/other").status(), 404);
}
