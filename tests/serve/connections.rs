//! What connections may do: be slow, be silent, be many.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::json;

use crate::harness::{SAFETENSORS, Server, png, tensor_body, tile, until};

#[test]
fn who_says_nothing_is_hung_up_on() {
    let server = Server::start(&["--idle-timeout", "200ms"]);
    let mut silent = TcpStream::connect(&server.address).unwrap();
    let mut slow = TcpStream::connect(&server.address).unwrap();
    slow.write_all(b"POST /v1/augment HTTP/1.1\r\nhost: x\r\n").unwrap();
    let mut rest = Vec::new();
    for stream in [&mut silent, &mut slow] {
        // Closed, with or without a word.
        let _ = stream.read_to_end(&mut rest);
    }
    assert_eq!(server.get("/health/live").status(), 200);
}

/// One answer off a connection that stays open: its head, and what its length says of its body.
fn answer(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .unwrap()
        .parse()
        .unwrap();
    stream.read_exact(&mut vec![0; length]).unwrap();
    head
}

#[test]
fn a_body_nobody_wanted_leaves_its_connection_in_order() {
    let server = Server::start(&[]);
    let mut stream = TcpStream::connect(&server.address).unwrap();
    for _ in 0..2 {
        write!(stream, "POST /nothing HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", 1 << 20)
            .unwrap();
        let refused = answer(&mut stream);
        assert!(
            refused.starts_with("HTTP/1.1 404") && !refused.contains("connection: close"),
            "{refused}"
        );
        stream.write_all(&vec![0; 1 << 20]).unwrap();
    }
    stream.write_all(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    assert!(answer(&mut stream).starts_with("HTTP/1.1 200"));
}

#[test]
fn who_sends_too_much_before_reading_is_told_so_and_hung_up_on() {
    let server = Server::start(&["--max-body", "1MiB"]);
    let mut stream = TcpStream::connect(&server.address).unwrap();
    write!(
        stream,
        "POST /v1/augment HTTP/1.1\r\nhost: x\r\ncontent-type: \
        {SAFETENSORS}\r\ncontent-length: {}\r\n\r\n",
        1 << 30
    )
    .unwrap();
    stream.write_all(&vec![0; 12 << 20]).unwrap();
    let refused = answer(&mut stream);
    assert!(
        refused.starts_with("HTTP/1.1 413") && refused.contains("connection: close"),
        "{refused}"
    );
}

#[test]
fn who_asks_for_leave_to_send_and_is_refused_sends_nothing() {
    let server = Server::start(&[]);
    let mut stream = TcpStream::connect(&server.address).unwrap();
    stream
        .write_all(
            b"POST /nothing HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: \
        9\r\n\r\n",
        )
        .unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    assert!(all.starts_with("HTTP/1.1 404") && all.contains("connection: close"), "{all}");
}

/// A connection whose answer is made, is larger than any buffer on its way, and has not been read.
pub(super) fn asked_for_much(server: &Server) -> TcpStream {
    let tiles: Vec<_> = (0..64).map(tile).collect();
    let body = tensor_body(&tiles, &[], &json!({"variants": 64}));
    let mut stream = TcpStream::connect(&server.address).unwrap();
    let head = format!(
        "POST /v1/augment HTTP/1.1\r\nhost: x\r\ncontent-type: {SAFETENSORS}\r\naccept: \
        {SAFETENSORS}\r\n"
    );
    write!(stream, "{head}content-length: {}\r\n\r\n", body.len()).unwrap();
    stream.write_all(&body).unwrap();
    until("the answer is made", || server.metric("restain_variants_total") >= 64.0 * 64.0);
    stream
}

#[test]
fn who_does_not_read_its_answer_gives_its_memory_back() {
    let server = Server::start(&["--write-timeout", "200ms"]);
    let stream = asked_for_much(&server);
    until("the reader that does not read is gone", || {
        server.metric("restain_inflight_bytes") == 0.0
    });
    drop(stream);
}

#[test]
fn connections_past_the_limit_wait_their_turn() {
    let server = Server::start(&["--max-connections", "3"]);
    let mut first: Vec<TcpStream> =
        (0..3).map(|_| TcpStream::connect(&server.address).unwrap()).collect();
    for stream in &mut first {
        stream.write_all(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
    }
    let mut waiting = TcpStream::connect(&server.address).unwrap();
    waiting
        .write_all(b"GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .unwrap();
    waiting.set_nonblocking(true).unwrap();
    assert_eq!(waiting.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    waiting.set_nonblocking(false).unwrap();
    drop(first);
    let mut answer = Vec::new();
    waiting.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"));
}

#[test]
fn who_closes_its_half_is_taken_to_have_left() {
    let server = Server::start(&["--max-delay", "10s", "--max-batch", "64"]);
    let body = png(&tile(0));
    let mut stream = TcpStream::connect(&server.address).unwrap();
    write!(
        stream,
        "POST /v1/augment HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: \
        image/png\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .unwrap();
    stream.write_all(&body).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(server.metric("restain_tiles_total"), 0.0, "nor is its tile encoded");
}
