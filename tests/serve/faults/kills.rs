//! kill -9, and what is there afterwards.

use std::sync::Mutex;
use std::time::Instant;

use restain_bundle::codec::{RgbImage, TileKey};
use serde_json::json;

use super::disk::{add, added};
use crate::harness::{Server, read_tensor, tile, until};

#[test]
fn every_style_that_was_acknowledged_survives_a_kill_at_any_moment() {
    let state = tempfile::tempdir().unwrap();
    let flags = ["--state", state.path().to_str().unwrap()];
    let acknowledged = Mutex::new(Vec::new());
    for round in 0..4 {
        let server = Server::start(&flags);
        std::thread::scope(|scope| {
            for caller in 0..2 {
                let (server, acknowledged) = (&server, &acknowledged);
                scope.spawn(move || {
                    for number in 0.. {
                        let domain = format!("d{round}-{caller}-{number}");
                        match add(server, &domain) {
                            Some(201) => acknowledged.lock().unwrap().push(domain),
                            // The server went down under it.
                            None => return,
                            Some(status) => panic!("{status}"),
                        }
                    }
                });
            }
            until("some are acknowledged", || {
                acknowledged.lock().unwrap().len() >= 4 * (round + 1)
            });
            server.signal("KILL");
        });
        drop(server);
        let started = Instant::now();
        let server = Server::start(&flags);
        eprintln!("ready {} ms after a kill", started.elapsed().as_millis());
        let there = added(&server);
        let acknowledged = acknowledged.lock().unwrap();
        let lost: Vec<&String> =
            acknowledged.iter().filter(|domain| !there.contains(domain)).collect();
        assert!(lost.is_empty(), "{lost:?} of {there:?}");
    }
}

#[test]
fn an_encoding_that_was_read_from_the_disk_is_there_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    // Memory for nothing, so that every key is asked of the disk.
    let flags = [
        "--cache-dir",
        dir.path().to_str().unwrap(),
        "--cache-disk",
        "64MiB",
        "--cache-memory",
        "1",
    ];
    let tiles: Vec<RgbImage> = (0..12).map(tile).collect();
    let keys: Vec<String> = tiles.iter().map(|tile| TileKey::of(tile).to_string()).collect();
    let server = Server::start(&flags);
    let (first, _) = server.tensor(&tiles, &[], &json!({"seed": 3}));
    until("the disk has them", || server.by_key(&keys, &json!({"seed": 3})).0 == 200);
    server.signal("KILL");
    assert!(!server.wait().success());
    let server = Server::start(&flags);
    let (status, body) = server.by_key(&keys, &json!({"seed": 3}));
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    assert!(read_tensor(&body).0 == first);
    assert_eq!(server.metric("restain_tiles_total"), 0.0);
}
