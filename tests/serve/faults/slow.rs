//! Callers who send a byte now and then, read one now and then, or hold a line open and say
//! nothing.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use super::still_serves;
use crate::harness::{SAFETENSORS, Server, until};
use crate::serve::connections::asked_for_much;

/// Opens so many connections that begin with `head`, and adds a byte to each between two requests
/// of a caller who behaves, until the server has done with them all. Returns what it answered the
/// first of them.
fn trickle(server: &Server, connections: usize, head: &[u8]) -> Vec<u8> {
    let open = || {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        stream.write_all(head).unwrap();
        stream.set_nonblocking(true).unwrap();
        Some(stream)
    };
    let mut streams: Vec<Option<TcpStream>> = (0..connections).map(|_| open()).collect();
    let mut told = vec![Vec::new(); connections];
    until("the slow are let go", || {
        assert_eq!(server.get("/health/live").status(), 200);
        for (place, told) in streams.iter_mut().zip(&mut told) {
            let Some(stream) = place else { continue };
            let sent = stream.write(b"a");
            let mut piece = [0; 512];
            match stream.read(&mut piece) {
                Ok(0) => *place = None,
                Ok(read) => told.extend_from_slice(&piece[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock && sent.is_ok() => {}
                Err(_) => *place = None,
            }
        }
        streams.iter().all(Option::is_none)
    });
    told.swap_remove(0)
}

#[test]
fn heads_that_trickle_in_are_cut_off_however_steadily() {
    let server = Server::start(&["--idle-timeout", "500ms"]);
    trickle(&server, 50, b"POST /v1/augment HTTP/1.1\r\nhost: x\r\nx-slow: ");
    still_serves(&server);
}

#[test]
fn bodies_that_trickle_in_end_with_the_deadline_however_steadily() {
    let server = Server::start(&["--request-timeout", "500ms", "--idle-timeout", "500ms"]);
    let head = b"POST /v1/augment HTTP/1.1\r\nhost: x\r\ncontent-type: \
        image/png\r\ncontent-length: 1000000\r\n\r\n";
    let told = trickle(&server, 50, head);
    assert!(
        told.is_empty() || told.starts_with(b"HTTP/1.1 504"),
        "{}",
        String::from_utf8_lossy(&told)
    );
    until("what was lent to them is back", || server.metric("restain_inflight_bytes") == 0.0);
    still_serves(&server);
}

#[test]
fn who_announces_much_and_sends_nothing_holds_nothing() {
    let server = Server::start(&["--request-timeout", "10m"]);
    let head = "POST /v1/augment HTTP/1.1\r\nhost: x\r\ncontent-type: \
        application/json\r\ncontent-length: 67108864\r\n\r\n{";
    let open = || {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        stream
    };
    let held: Vec<TcpStream> = (0..100).map(|_| open()).collect();
    until("a byte of each is there", || {
        server.metric("restain_inflight_bytes") >= f64::from(100 * (64 << 10))
    });
    still_serves(&server);
    drop(held);
    until("it is given back", || server.metric("restain_inflight_bytes") == 0.0);
}

#[test]
fn every_body_has_a_deadline() {
    let server = Server::start(&["--request-timeout", "500ms", "--idle-timeout", "10m"]);
    for path in [
        "/v1/augment",
        "/v1/encode",
        "/v1/styles",
        "/v1/models/tiny/load",
        "/v1/models/tiny/unload",
        "/v2/models/tiny/infer",
        "/v2/repository/index",
        "/v2/repository/models/tiny/load",
        "/v2/repository/models/tiny/unload",
    ] {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        let kind = if path == "/v1/styles" { SAFETENSORS } else { "application/json" };
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\ncontent-length: 9\r\n\r\n{{"
        )
        .unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 504", "{path}");
    }
    server.signal("TERM");
    assert!(server.wait().success(), "an open body does not hold up the end");
}

#[test]
fn who_reads_a_byte_now_and_then_gives_its_memory_back() {
    let server = Server::start(&["--write-timeout", "500ms"]);
    let mut stream = asked_for_much(&server);
    until("the slow reader is let go", || {
        let _ = stream.read(&mut [0]);
        server.metric("restain_inflight_bytes") == 0.0
    });
    still_serves(&server);
}

#[test]
fn who_says_nothing_over_http2_is_hung_up_on() {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    // A call's head that is announced and does not come: a HEADERS frame of 100 bytes.
    const HALF_A_HEAD: &[u8] = &[0, 0, 100, 1, 4, 0, 0, 0, 1, 0x82];
    let server = Server::start(&["--idle-timeout", "500ms"]);
    for said in [
        &b""[..],
        b"PRI",
        PREFACE,
        &[PREFACE, SETTINGS].concat(),
        &[PREFACE, SETTINGS, HALF_A_HEAD].concat(),
    ] {
        let mut stream = TcpStream::connect(&server.grpc).unwrap();
        stream.write_all(said).unwrap();
        // Closed, with or without a word.
        let _ = stream.read_to_end(&mut Vec::new());
    }
    still_serves(&server);
}
