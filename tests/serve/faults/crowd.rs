//! Very many connections, and very few file descriptors.

#![expect(unsafe_code, reason = "limits of a process")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::time::Duration;

use serde_json::json;

use super::{descriptors, still_serves};
use crate::harness::{SAFETENSORS, Server, lacks, tensor_body, tile, until};

const MANY: usize = 10_000;
/// What a connection that has asked once and waits may cost the server, its buffers included.
const MOST_BYTES_EACH: usize = 32 << 10;

/// Sets how many file descriptors this process may have: as many as `wanted` where it is allowed,
/// or a hard limit on them.
fn limit(wanted: u64, hard: bool) -> bool {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls only read or write the struct that they are given.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) != 0 {
            return false;
        }
        limit.rlim_cur = if hard { wanted } else { limit.rlim_cur.max(wanted) };
        limit.rlim_max = if hard { wanted } else { limit.rlim_max.max(wanted) };
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) == 0
    }
}

fn resident(server: &Server) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() << 10
}

/// A connection that has asked for something, and been answered.
fn guest(server: &Server) -> TcpStream {
    let mut stream = TcpStream::connect(&server.address).unwrap();
    // Who is not let in waits, and that is a failure.
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
    stream
}

#[test]
fn ten_thousand_idle_connections_cost_little_and_nobody_waits_for_them() {
    if !limit(MANY as u64 + 2000, false) {
        return lacks("right to so many file descriptors");
    }
    // The server has the common limit, which it raises itself.
    let soft = |command: &mut std::process::Command| {
        // SAFETY: between fork and exec it makes two system calls, and allocates nothing.
        unsafe { command.pre_exec(|| lower_the_soft_limit(1024)) };
    };
    let server = Server::start_as(&["--max-connections", "11500", "--idle-timeout", "10m"], soft);
    still_serves(&server);
    let (before, open) = (resident(&server), descriptors(&server));
    let guests: Vec<TcpStream> = (0..MANY).map(|_| guest(&server)).collect();
    still_serves(&server);
    assert!(descriptors(&server) >= open + MANY - 1);
    let each = resident(&server).saturating_sub(before) / MANY;
    eprintln!("{MANY} idle connections: {each} bytes each");
    assert!(each <= MOST_BYTES_EACH, "{each} bytes each");
    drop(guests);
    until("their descriptors are back", || descriptors(&server) <= open + 8);
    still_serves(&server);
}

fn lower_the_soft_limit(to: u64) -> std::io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls only read or write the struct that they are given.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = to;
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
    }
    Ok(())
}

#[test]
fn a_server_without_file_descriptors_says_so_and_goes_on_when_it_has_some() {
    let few = |command: &mut std::process::Command| {
        let limited =
            || if limit(96, true) { Ok(()) } else { Err(std::io::Error::last_os_error()) };
        // SAFETY: between fork and exec it makes two system calls, and allocates nothing.
        unsafe { command.pre_exec(limited) };
    };
    let server = Server::start_as(&[], few);
    assert!(
        server.log().contains("fewer file descriptors than max-connections needs"),
        "{}",
        server.log()
    );
    let crowd: Vec<TcpStream> =
        (0..128).map(|_| TcpStream::connect(&server.address).unwrap()).collect();
    until("it has none left", || server.log().contains("a connection could not be accepted"));
    drop(crowd);
    still_serves(&server);
}

#[test]
fn a_small_request_does_not_wait_for_a_large_one() {
    let server = Server::start(&["--request-timeout", "10m"]);
    let tiles: Vec<_> = (0..64).map(tile).collect();
    let output = json!({"format": "webp", "quality": 100});
    let body = tensor_body(&tiles, &[], &json!({"variants": 64, "output": output}));
    let mut large = TcpStream::connect(&server.address).unwrap();
    let head = format!(
        "POST /v1/augment HTTP/1.1\r\nhost: x\r\ncontent-type: {SAFETENSORS}\r\naccept: \
        application/x-tar\r\n"
    );
    write!(large, "{head}content-length: {}\r\n\r\n", body.len()).unwrap();
    large.write_all(&body).unwrap();
    until("its 4,096 pictures are to be compressed", || {
        server.metric("restain_variants_total") >= 64.0 * 64.0
    });
    for _ in 0..3 {
        still_serves(&server);
    }
    large.set_nonblocking(true).unwrap();
    let unanswered = large.read(&mut [0]).unwrap_err();
    assert_eq!(unanswered.kind(), std::io::ErrorKind::WouldBlock, "it is at work all the time");
    drop(large);
    until("nothing is held for it", || server.metric("restain_inflight_bytes") == 0.0);
}
