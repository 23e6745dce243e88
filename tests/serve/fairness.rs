//! Callers share the server: who brings much leaves room for the others. That they take turns is
//! tested where turns are taken, without a clock: in the queue of the encoders and the CPU threads.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use reqwest::StatusCode;
use serde_json::json;

use super::access::Keys;
use crate::harness::{SAFETENSORS, Server, tensor_body, tile, until};

/// Ends the threads that look at it, whatever becomes of the test.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sends `tiles`, numbered from `first`, and returns the status.
fn ask(server: &Server, token: &str, first: usize, tiles: usize) -> StatusCode {
    let tiles: Vec<_> = (first..first + tiles).map(tile).collect();
    let request = server.client.post(server.url("/v1/augment"));
    let request = request.bearer_auth(token).header("content-type", SAFETENSORS);
    let request = request.header("accept", SAFETENSORS);
    request.body(tensor_body(&tiles, &[], &json!({}))).send().unwrap().status()
}

#[test]
fn beside_a_greedy_key_another_is_never_refused() {
    let keys = Keys::new(&["greedy", "other"]);
    let server = keys.server(&["--max-tiles", "64", "--max-queue-tiles", "64", "--max-batch", "1"]);
    let (stop, refused) = (AtomicBool::new(false), AtomicUsize::new(0));
    let next = AtomicUsize::new(1000);
    std::thread::scope(|threads| {
        let _stop = StopAtEnd(&stop);
        for _ in 0..16 {
            threads.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let first = next.fetch_add(8, Ordering::Relaxed);
                    match ask(&server, &keys.tokens[0], first, 8) {
                        StatusCode::OK => {}
                        StatusCode::TOO_MANY_REQUESTS => {
                            refused.fetch_add(1, Ordering::Relaxed);
                        }
                        other => panic!("{other}"),
                    }
                }
            });
        }
        until("it is refused, for all that it may have is in flight", || {
            refused.load(Ordering::Relaxed) >= 4
        });
        // Eight tiles are left. A request's tiles are given back when its answer has been sent,
        // which its caller may see first, so that two requests of one caller have to fit.
        for n in 0..20 {
            assert_eq!(ask(&server, &keys.tokens[1], 2 * n, 2), StatusCode::OK, "request {n}");
        }
    });
}

#[test]
fn a_key_with_a_number_of_tiles_has_no_more_in_flight_and_is_told_so() {
    let keys = Keys::new(&["few --tiles 3"]);
    let server = keys.server(&[]);
    // First, as the tiles of a request are given back when its caller may have its answer already.
    assert_eq!(ask(&server, &keys.tokens[0], 0, 4), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(ask(&server, &keys.tokens[0], 0, 3), StatusCode::OK);
}
