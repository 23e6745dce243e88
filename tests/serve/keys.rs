//! A tile that was sent before comes as its key: not uploaded again, not encoded again, and the
//! same bytes.

use std::process::Command;

use reqwest::blocking::multipart::{Form, Part};
use restain_bundle::codec::{RgbImage, TileKey};
use serde_json::{Value, json};

use crate::harness::{
    SAFETENSORS, Server, lacks, picture, png, read_tensor, tensor_body, tile, until,
};

fn key(tile: &RgbImage) -> String {
    TileKey::of(tile).to_string()
}

fn keys(tiles: &[RgbImage]) -> Vec<String> {
    tiles.iter().map(key).collect()
}

fn problem(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap()
}

#[test]
fn a_key_gives_the_same_bytes_as_its_tile_and_encodes_nothing() {
    let server = Server::start(&[]);
    let tiles = [tile(0), tile(1), tile(2)];
    for request in [
        json!({"variants": 3, "seed": 4}),
        json!({"variants": 2, "seed": 5, "strength": 0.5}),
        json!({"seed": 6, "style": {"from": "batch"}}),
        json!({"seed": 7, "style": {"from": "own", "placement": "aligned"}}),
    ] {
        let (sent, provenance) = server.tensor(&tiles, &[], &request);
        let (status, body) = server.by_key(&keys(&tiles), &request);
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        let (by_key, again) = read_tensor(&body);
        assert!(sent == by_key && provenance == again, "{request}");
        assert_eq!(provenance[0]["tile_key"], key(&tiles[0]));
    }
    assert_eq!(server.metric("restain_tiles_total"), 3.0);
    assert_eq!(server.metric("restain_encodings_cache_misses_total"), 3.0);
    assert_eq!(server.metric("restain_encodings_cache_hits_total"), 21.0);
    assert!(server.metric("restain_encodings_cache_bytes") > 0.0);
}

#[test]
fn keys_come_in_every_form_and_stand_behind_the_tiles() {
    let server = Server::start(&[]);
    let tiles = [tile(0), tile(1)];
    let (expected, _) = server.tensor(&tiles, &[], &json!({"seed": 1}));
    let ask = |kind: &str, body: Vec<u8>| {
        let answer = server
            .post("")
            .header("content-type", kind)
            .header("accept", SAFETENSORS)
            .body(body)
            .send()
            .unwrap();
        assert_eq!(answer.status(), 200, "{kind}");
        read_tensor(&answer.bytes().unwrap()).0
    };
    assert!(
        ask(
            "application/json",
            json!({"keys": keys(&tiles), "request": {"seed": 1}}).to_string().into()
        ) == expected
    );
    let form = Form::new()
        .text("key", key(&tiles[1]))
        .part("tile", Part::bytes(png(&tiles[0])))
        .text("request", r#"{"seed":1}"#);
    let answer = server.post("").header("accept", SAFETENSORS).multipart(form).send().unwrap();
    assert!(
        read_tensor(&answer.bytes().unwrap()).0 == expected,
        "the tile first, though its part came last"
    );
}

#[test]
fn a_key_that_is_not_held_is_named_and_what_came_with_it_is_kept() {
    let server = Server::start(&[]);
    server.tensor(&[tile(0)], &[], &json!({}));
    let (held, unknown, sent) = (tile(0), tile(1), tile(2));
    let form = Form::new().part("tile", Part::bytes(png(&sent)));
    let form = [&held, &unknown, &held, &tile(3)]
        .into_iter()
        .fold(form, |form, tile| form.text("key", key(tile)));
    let answer = server.post("").multipart(form).send().unwrap();
    assert_eq!(answer.status(), 404);
    let told = problem(&answer.bytes().unwrap());
    assert_eq!(
        (&told["code"], &told["list"], &told["index"]),
        (&json!("tile_not_held"), &json!("key"), &json!(1))
    );
    assert_eq!(told["indices"], json!([1, 3]));
    assert!(told["detail"].as_str().unwrap().contains(&key(&unknown)), "{told}");
    assert_eq!(
        server.by_key(&keys(&[held, sent]), &json!({})).0,
        200,
        "the tile that came along is held now"
    );
}

#[test]
fn a_key_stands_for_an_encoding_and_not_for_the_pixels_of_a_baseline() {
    let server = Server::start(&[]);
    let other = [picture(5, 20, 24)];
    server.tensor(&[tile(0)], &[], &json!({}));
    server.tensor(&other, &[], &json!({}));
    for method in ["color-match", "hed-jitter", "identity"] {
        let (status, body) = server.by_key(&keys(&[tile(0)]), &json!({"method": method}));
        assert_eq!((status, &problem(&body)["code"]), (422, &json!("pixels_needed")), "{method}");
    }
    let request = json!({"seed": 2, "variants": 2});
    let (sent, _) = server.tensor(&other, &[], &request);
    let (status, body) = server.by_key(&keys(&other), &request);
    assert!(status == 200 && read_tensor(&body).0 == sent);
}

#[test]
fn what_is_no_key_is_refused_by_name() {
    let server = Server::start(&[]);
    for (body, said) in [
        (json!({"keys": ["abc"]}), "key 0"),
        (json!({"keys": [key(&tile(0)), "é"]}), "key 1"),
        (json!({"keys": 3}), "keys"),
    ] {
        let answer = server
            .post("")
            .header("content-type", "application/json")
            .body(body.to_string())
            .send()
            .unwrap();
        assert_eq!(answer.status(), 400, "{body}");
        let said_so = answer.text().unwrap();
        assert!(
            said_so.contains("64 hex digits") || said_so.contains("sequence"),
            "{said}: {said_so}"
        );
    }
}

#[test]
fn the_same_tile_asked_for_by_many_at_once_is_encoded_once() {
    let server = Server::start(&[]);
    let answers: Vec<Vec<Vec<u8>>> = std::thread::scope(|scope| {
        let ask = || server.tensor(&[tile(0), tile(1), tile(0)], &[], &json!({"seed": 9})).0;
        let asked: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    assert!(answers.iter().all(|answer| *answer == answers[0]) && answers[0][0] == answers[0][2]);
    assert_eq!(server.metric("restain_tiles_total"), 2.0);
}

#[test]
fn without_memory_nothing_is_held_and_everything_is_served() {
    let server = Server::start(&["--cache-memory", "0"]);
    server.tensor(&[tile(0)], &[], &json!({}));
    assert_eq!(server.by_key(&keys(&[tile(0)]), &json!({})).0, 404);
    server.tensor(&[tile(0)], &[], &json!({}));
    assert_eq!(server.metric("restain_tiles_total"), 2.0);
}

#[test]
fn a_restarted_server_holds_what_its_disk_does() {
    let dir = tempfile::tempdir().unwrap();
    let flags = [
        "--cache-dir",
        dir.path().to_str().unwrap(),
        "--cache-disk",
        "64MiB",
        "--drain-delay",
        "0s",
    ];
    let tiles: Vec<RgbImage> = (0..12).map(tile).collect();
    let server = Server::start(&flags);
    let (first, _) = server.tensor(&tiles, &[], &json!({"seed": 3, "variants": 2}));
    server.signal("TERM");
    assert!(server.wait().success());

    let server = Server::start(&flags);
    let (status, body) = server.by_key(&keys(&tiles), &json!({"seed": 3, "variants": 2}));
    assert!(status == 200 && read_tensor(&body).0 == first);
    assert_eq!(server.metric("restain_tiles_total"), 0.0);
}

#[test]
fn a_server_killed_while_it_writes_its_cache_starts_again_and_tells_no_lies() {
    let dir = tempfile::tempdir().unwrap();
    let flags = ["--cache-dir", dir.path().to_str().unwrap(), "--cache-disk", "64MiB"];
    let all: Vec<RgbImage> = (0..48).map(tile).collect();
    let server = Server::start(&["--cache-memory", "0"]);
    let (expected, _) = server.tensor(&all, &[], &json!({"seed": 3}));
    for round in 0..3 {
        let server = Server::start(&flags);
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| {
                for tiles in all[round * 16..].chunks(4) {
                    let body = tensor_body(tiles, &[], &json!({"seed": 3}));
                    // The server goes down under it.
                    let _ = server
                        .post("")
                        .header("content-type", SAFETENSORS)
                        .header("accept", SAFETENSORS)
                        .body(body)
                        .send();
                }
            });
            // Or all of it is done: a fast server may have kept most of it in the rounds before.
            let enough = || {
                server.try_metric("restain_tiles_total").is_none_or(|tiles| tiles >= 8.0)
                    || asked.is_finished()
            };
            until("some of it is encoded", enough);
            server.signal("KILL");
            asked.join().unwrap();
        });
    }
    let server = Server::start(&flags);
    for (tile, expected) in all.iter().zip(&expected) {
        match server.by_key(&[key(tile)], &json!({"seed": 3})) {
            (200, body) => assert!(read_tensor(&body).0[0] == *expected),
            (status, body) => {
                assert_eq!((status, &problem(&body)["code"]), (404, &json!("tile_not_held")))
            }
        }
    }
    assert!(server.tensor(&all, &[], &json!({"seed": 3})).0 == expected);
}

#[test]
fn a_directory_that_another_server_uses_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let flags = ["--cache-dir", dir.path().to_str().unwrap(), "--cache-disk", "64MiB"];
    let (first, second) = (Server::start(&flags), Server::start(&flags));
    assert_eq!(first.metric("restain_encodings_cache_disk_errors_total"), 0.0);
    assert_eq!(second.metric("restain_encodings_cache_disk_errors_total"), 1.0);
    for server in [first, second] {
        server.tensor(&[tile(0)], &[], &json!({}));
        assert_eq!(server.by_key(&keys(&[tile(0)]), &json!({})).0, 200);
    }
}

#[test]
fn a_disk_that_fails_under_a_running_server_leaves_the_memory_one_warning_and_a_count() {
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
    let server = Server::start(&flags);
    let tiles: Vec<RgbImage> = (0..8).map(tile).collect();
    server.tensor(&tiles, &[], &json!({}));
    until("the disk has them", || server.by_key(&keys(&tiles), &json!({})).0 == 200);
    // Again and again: what was still on its way to the disk would write the file anew.
    let fail = || {
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let file = std::fs::File::options().write(true).open(entry.unwrap().path()).unwrap();
            file.set_len(0).unwrap();
        }
    };
    until("it is noticed", || {
        fail();
        assert_eq!(
            server.tensor(&tiles, &[], &json!({"seed": 1})).0.len(),
            8,
            "and served all the same"
        );
        server.metric("restain_encodings_cache_disk_errors_total") > 0.0
    });
    server.tensor(&tiles, &[], &json!({"seed": 1}));
    let log = server.log();
    let warnings: Vec<&str> =
        log.lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).collect();
    assert!(warnings.len() == 1 && warnings[0].contains("kept in memory alone"), "{warnings:?}");
}

#[test]
fn a_disk_without_room_leaves_the_memory_one_warning_and_a_count() {
    let dir = tempfile::tempdir().unwrap();
    // A file system of half the size that is asked for. Mounting one takes rights that not everyone
    // has.
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=32m", "tmpfs"])
        .arg(dir.path())
        .output();
    if !mounted.is_ok_and(|mounted| mounted.status.success()) {
        return lacks("right to mount a file system");
    }
    let server =
        Server::start(&["--cache-dir", dir.path().to_str().unwrap(), "--cache-disk", "64MiB"]);
    server.tensor(&[tile(0)], &[], &json!({}));
    assert_eq!(server.by_key(&keys(&[tile(0)]), &json!({})).0, 200, "held in memory");
    assert_eq!(server.metric("restain_encodings_cache_disk_errors_total"), 1.0);
    assert_eq!(server.log().matches("kept in memory alone").count(), 1);
    let left = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum::<u64>();
    drop(server);
    assert!(Command::new("umount").arg("-l").arg(dir.path()).status().unwrap().success());
    assert_eq!(left, 0, "what could not be had whole is left to others");
}
