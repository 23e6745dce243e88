//! Callers who leave in the middle: of what they send, of what they are told, with or without a
//! goodbye.

#![expect(unsafe_code, reason = "a socket option")]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;

use super::{descriptors, still_serves};
use crate::harness::{SAFETENSORS, Server, png, tensor_body, tile, until};

/// Makes the end of a connection a reset, as of a process whose machine lost it.
fn reset_at_the_end(stream: &TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let size = size_of::<libc::linger>() as libc::socklen_t;
    // SAFETY: the descriptor is the stream's, and the option's value lives as long as the call.
    let set = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size,
        )
    };
    assert_eq!(set, 0);
}

#[test]
fn who_closes_its_half_within_the_body_is_let_go() {
    let server = Server::start(&[]);
    let mut stream = TcpStream::connect(&server.address).unwrap();
    write!(
        stream,
        "POST /v1/augment HTTP/1.1\r\nhost: x\r\ncontent-type: image/png\r\ncontent-length: \
        1000\r\n\r\nabc"
    )
    .unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(
        answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    until("what was lent for its body is back", || server.metric("restain_inflight_bytes") == 0.0);
    still_serves(&server);
}

#[test]
fn callers_who_vanish_leave_nothing_behind() {
    let server = Server::start(&[]);
    still_serves(&server);
    let before = descriptors(&server);
    for number in 0..90 {
        let tiles: Vec<_> = (0..4).map(|n| tile(number * 4 + n)).collect();
        let body = tensor_body(&tiles, &[], &json!({"variants": 16}));
        let sent = [body.len() / 2, body.len(), 0][number % 3];
        let mut stream = TcpStream::connect(&server.address).unwrap();
        let head = format!(
            "POST /v1/augment HTTP/1.1\r\nhost: x\r\ncontent-type: {SAFETENSORS}\r\naccept: \
            {SAFETENSORS}\r\n"
        );
        write!(stream, "{head}content-length: {}\r\n\r\n", body.len()).unwrap();
        stream.write_all(&body[..sent]).unwrap();
        if number % 2 == 0 {
            reset_at_the_end(&stream);
        }
    }
    for gauge in ["restain_inflight_bytes", "restain_queue_tiles"] {
        until("nothing is held for them", || server.metric(gauge) == 0.0);
    }
    until("their connections are closed", || descriptors(&server) <= before);
    still_serves(&server);
}

/// Requests of one tile over HTTP: path, content type and body.
fn requests() -> [(&'static str, &'static str, Vec<u8>); 3] {
    let picture = png(&tile(0));
    let inference = json!({"inputs": [{
        "name": "TILES",
        "datatype": "BYTES",
        "shape": [1],
        "data": [BASE64_STANDARD.encode(&picture)],
    }]});
    [
        ("/v1/augment", "image/png", picture.clone()),
        ("/v1/encode", "image/png", picture),
        ("/v2/models/tiny/infer", "application/json", inference.to_string().into_bytes()),
    ]
}

#[test]
fn who_leaves_while_its_tile_waits_is_not_encoded_for() {
    for (path, content_type, body) in requests() {
        for with_reset in [false, true] {
            let server = Server::start(&["--max-delay", "2s", "--max-batch", "4"]);
            let mut stream = TcpStream::connect(&server.address).unwrap();
            let length = body.len();
            write!(
                stream,
                "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: \
                {content_type}\r\ncontent-length: {length}\r\n\r\n"
            )
            .unwrap();
            stream.write_all(&body).unwrap();
            until("the tile waits", || server.metric("restain_queue_tiles") == 1.0);
            if with_reset {
                reset_at_the_end(&stream);
            }
            drop(stream);
            until("nothing is held for it", || {
                server.metric("restain_inflight_bytes") == 0.0
                    && server.metric("restain_queue_tiles") == 0.0
            });
            let encoded = server.metric("restain_tiles_total");
            assert_eq!(encoded, 0.0, "{path}, with a reset: {with_reset}");
        }
    }
}
