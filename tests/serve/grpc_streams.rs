//! Streams, slow readers and slow writers over gRPC: each is held, and nobody else is.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use restain::serve::transport::grpc::proto;
use restain::serve::transport::grpc::proto::augment_stream_response::Result as Outcome;
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::grpc::{Client, client, pixels, request};
use crate::harness::{Server, tile, until};

type Requests = mpsc::Sender<proto::AugmentStreamRequest>;

async fn open(client: &mut Client) -> (Requests, Streaming<proto::AugmentStreamResponse>) {
    let (sender, receiver) = mpsc::channel(256);
    let answers = client.augment_stream(ReceiverStream::new(receiver)).await.unwrap();
    (sender, answers.into_inner())
}

fn asked(id: &str, request: proto::AugmentRequest) -> proto::AugmentStreamRequest {
    proto::AugmentStreamRequest { id: id.to_owned(), request: Some(request) }
}

fn variants(count: u32, number: usize) -> proto::AugmentRequest {
    proto::AugmentRequest {
        variants: Some(count),
        seed: Some(1),
        ..request(pixels(&[tile(number)]))
    }
}

#[test]
fn every_request_of_a_stream_is_answered_under_its_id() {
    let server = Server::start(&[]);
    let (runtime, mut client) = client(&server);
    let seen = runtime.block_on(async {
        let (requests, mut answers) = open(&mut client).await;
        for number in 0..40 {
            requests.send(asked(&number.to_string(), variants(1, number))).await.unwrap();
        }
        drop(requests);
        let mut seen = std::collections::BTreeMap::new();
        while let Some(answer) = answers.message().await.unwrap() {
            let Some(Outcome::Response(response)) = answer.result else { panic!("{answer:?}") };
            seen.insert(answer.id.parse::<usize>().unwrap(), response.pixels);
        }
        seen
    });
    assert!(seen.keys().copied().eq(0..40));
    let (expected, _) = server.tensor(&[tile(17)], &[], &json!({"seed": 1}));
    assert_eq!(seen[&17], expected[0]);
}

#[test]
fn a_request_that_fails_ends_nothing() {
    let server = Server::start(&[]);
    let (runtime, mut client) = client(&server);
    runtime.block_on(async {
        let (requests, mut answers) = open(&mut client).await;
        for (id, ask) in [
            ("bad", proto::AugmentRequest::default()),
            (&"x".repeat(300), variants(1, 0)),
            ("good", variants(1, 0)),
        ] {
            requests.send(asked(id, ask)).await.unwrap();
            let answer = answers.message().await.unwrap().unwrap();
            assert_eq!(answer.id, id);
            match (id, answer.result.unwrap()) {
                ("bad", Outcome::Problem(problem)) => {
                    assert_eq!((problem.status, problem.code.as_str()), (3, "no_tiles"))
                }
                ("good", Outcome::Response(response)) => assert_eq!(response.tiles.len(), 1),
                (_, Outcome::Problem(problem)) => {
                    assert!(problem.detail.contains("id has 300 bytes"), "{problem:?}")
                }
                (_, other) => panic!("{id}: {other:?}"),
            }
        }
    });
}

#[test]
fn what_is_ready_does_not_wait_for_what_is_not() {
    // The tile that must be encoded waits for company that never comes; the one that is held needs
    // none.
    let server = Server::start(&["--max-delay", "10m", "--max-batch", "2"]);
    let (runtime, mut client) = client(&server);
    server.tensor(&[tile(0), tile(1)], &[], &json!({}));
    runtime.block_on(async {
        let (requests, mut answers) = open(&mut client).await;
        requests.send(asked("waits", variants(1, 7))).await.unwrap();
        requests.send(asked("held", variants(1, 0))).await.unwrap();
        assert_eq!(answers.message().await.unwrap().unwrap().id, "held");
        requests.send(asked("company", variants(1, 8))).await.unwrap();
        let mut rest = [
            answers.message().await.unwrap().unwrap().id,
            answers.message().await.unwrap().unwrap().id,
        ];
        rest.sort();
        assert_eq!(rest, ["company", "waits"]);
    });
}

#[test]
fn a_reader_who_does_not_read_holds_himself_and_nobody_else() {
    let server = Server::start(&["--write-timeout", "300ms"]);
    let (runtime, mut client) = client(&server);
    let others = client.clone();
    // Far more than one stream may have under way: it is not read to the end.
    let (requests, answers) = runtime.block_on(open(&mut client));
    let feeder = runtime
        .spawn(async move { while requests.send(asked("", variants(64, 0))).await.is_ok() {} });
    until("the stream makes variants", || server.metric("restain_variants_total") > 0.0);
    runtime.block_on(async {
        // On the same connection.
        for number in 0..8 {
            others.clone().augment(variants(1, number)).await.unwrap();
        }
    });
    until("the stream's memory is given back", || server.metric("restain_inflight_bytes") == 0.0);
    feeder.abort();
    drop(answers);
    runtime.block_on(others.clone().augment(variants(1, 0))).unwrap();
}

#[test]
fn an_answer_that_nobody_reads_gives_its_memory_back() {
    let server = Server::start(&["--write-timeout", "200ms"]);
    let runtime = Runtime::new().unwrap();
    let tiles: Vec<_> = (0..64).map(tile).collect();
    let ask = proto::AugmentRequest { variants: Some(64), ..request(pixels(&tiles)) };
    let message = prost::Message::encode_to_vec(&ask);
    let call = runtime.block_on(call(&server, framed(message.len(), &message), true));
    until("the answer is made", || server.metric("restain_variants_total") >= 64.0 * 64.0);
    until("it is taken away", || server.metric("restain_inflight_bytes") == 0.0);
    // What had gone out before then breaks off, and does not end as if it were whole.
    assert!(runtime.block_on(call.into_body().collect()).is_err());
}

#[test]
fn a_message_that_does_not_come_is_not_waited_for() {
    let server = Server::start(&["--request-timeout", "300ms"]);
    let runtime = Runtime::new().unwrap();
    // Half of it; and all of it, by one who does not say that this was all.
    let message = prost::Message::encode_to_vec(&variants(1, 0));
    for bytes in [&message[..10], &message] {
        let begun = runtime.block_on(call(&server, framed(message.len(), bytes), false));
        assert_eq!(begun.headers()["grpc-status"], "4");
    }
    assert_eq!(server.metric("restain_inflight_bytes"), 0.0);
}

#[test]
fn the_deadline_of_a_call_counts() {
    // The batch waits for company longer than the caller waits for it.
    let server = Server::start(&["--max-delay", "10m", "--max-batch", "4"]);
    let runtime = Runtime::new().unwrap();
    let message = prost::Message::encode_to_vec(&variants(1, 0));
    let status = runtime.block_on(async {
        let (sender, receiver) = mpsc::channel(1);
        sender.send(framed(message.len(), &message)).await.unwrap();
        drop(sender);
        send(server.grpc.clone(), receiver, "50m").await.headers()["grpc-status"].clone()
    });
    assert_eq!(status, "4");
    assert_eq!(server.metric("restain_tiles_total"), 0.0, "what has not begun will not");
}

#[test]
fn memory_is_lent_before_a_message_is_gathered() {
    let server = Server::start(&["--max-body", "4MiB", "--max-inflight-bytes", "4MiB"]);
    let runtime = Runtime::new().unwrap();
    let (held, _open) = runtime.block_on(async {
        let (sender, first) = mpsc::channel(1);
        sender.send(framed(3 << 20, &[])).await.unwrap();
        (tokio::spawn(send(server.grpc.clone(), first, "1H")), sender)
    });
    until("the first is lent its memory", || {
        server.metric("restain_inflight_bytes") >= f64::from(3 << 20)
    });
    let refused = runtime.block_on(call(&server, framed(2 << 20, &[]), false));
    assert_eq!(refused.headers()["grpc-status"], "8");
    held.abort();
    until("it is given back", || server.metric("restain_inflight_bytes") == 0.0);
}

#[test]
fn a_stream_under_way_is_answered_and_ended_when_the_server_ends() {
    let server =
        Server::start(&["--drain-delay", "0s", "--max-delay", "500ms", "--max-batch", "2"]);
    let (runtime, mut client) = client(&server);
    let (requests, mut answers) = runtime.block_on(open(&mut client));
    runtime.block_on(requests.send(asked("last", variants(1, 0)))).unwrap();
    until("it is in work", || server.metric("restain_queue_tiles") == 1.0);
    server.signal("TERM");
    let answer = runtime.block_on(answers.message()).unwrap().unwrap();
    assert!(matches!(answer.result, Some(Outcome::Response(_))), "{answer:?}");
    assert!(runtime.block_on(answers.message()).unwrap().is_none());
    drop((requests, answers, client, runtime));
    assert_eq!(server.wait().code(), Some(0));
}

/// A gRPC message as it stands on the wire, `announced` bytes long as it says.
fn framed(announced: usize, bytes: &[u8]) -> Bytes {
    [&[0][..], &(announced as u32).to_be_bytes(), bytes].concat().into()
}

/// A call of Augment of which this comes; without an end the caller still has something to say.
async fn call(server: &Server, piece: Bytes, ends: bool) -> hyper::Response<hyper::body::Incoming> {
    let (sender, receiver) = mpsc::channel(1);
    sender.send(piece).await.unwrap();
    let open = Some(sender).filter(|_| !ends);
    let answer = send(server.grpc.clone(), receiver, "1H").await;
    drop(open);
    answer
}

async fn send(
    address: String,
    pieces: mpsc::Receiver<Bytes>,
    timeout: &'static str,
) -> hyper::Response<hyper::body::Incoming> {
    let stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let body = tokio_stream::StreamExt::map(ReceiverStream::new(pieces), |piece| {
        Ok::<_, Infallible>(Frame::data(piece))
    });
    let uri = format!("http://{address}/restain.v1.Restain/Augment");
    let request = hyper::Request::post(uri)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", timeout);
    sender.send_request(request.body(StreamBody::new(body)).unwrap()).await.unwrap()
}
