//! Large tiles, which the model sees in overlapping windows, and tiles of a known magnification.

use restain_bundle::codec::{RgbImage, TileKey};
use restain_method::windows::Scaling;
use serde_json::{Value, json};

use crate::harness::{Server, picture, read_tensor, tile};

/// Of the fixture's model, 32 px, the windows of a tile shrunk four times.
fn windows(size: (usize, usize)) -> usize {
    Scaling::up_to(32, 4.0).windows(size).count()
}

#[test]
fn every_answer_has_the_number_of_windows_and_each_is_encoded_once() {
    let server = Server::start(&[]);
    for (number, size, count) in [(0, (128, 128), 1), (1, (129, 200), 2), (2, (512, 300), 15)] {
        assert_eq!(windows(size), count, "{size:?}");
        let before = server.metric("restain_tiles_total");
        let tile = picture(number, size.0, size.1);
        for seed in [1, 2] {
            let (_, provenance) =
                server.tensor(std::slice::from_ref(&tile), &[], &json!({"seed": seed}));
            let said = provenance[0].get("windows").map_or(1, |count| count.as_u64().unwrap());
            assert_eq!(said, count as u64, "{size:?}");
        }
        assert_eq!(server.metric("restain_tiles_total") - before, count as f64, "{size:?}");
    }
}

/// A tile of one texture everywhere, so that windows see alike: where they meet, the change of a
/// variant varies as it does within them.
#[test]
fn where_windows_meet_there_is_no_seam() {
    let server = Server::start(&[]);
    let (size, period) = (640, 40);
    let texture = picture(5, period, period);
    let at = |x: usize, y: usize| {
        let place = (y % period * period + x % period) * 3;
        &texture.pixels[place..place + 3]
    };
    let pixels = (0..size * size).flat_map(|n| at(n % size, n / size)).copied().collect();
    let tile = RgbImage { width: size, height: size, pixels };
    let (variants, provenance) =
        server.tensor(std::slice::from_ref(&tile), &[], &json!({"seed": 3, "variants": 4}));
    assert_eq!(provenance[0]["windows"], 49);
    for variant in variants {
        let change = |x: usize, y: usize| {
            let place = (y * size + x) * 3;
            f64::from(variant[place]) - f64::from(tile.pixels[place])
        };
        // Mean steps from one column to the next.
        let steps: Vec<f64> = (1..size)
            .map(|x| {
                let step = |y: usize| (change(x, y) - change(x - 1, y)).abs();
                (0..size).map(step).sum::<f64>() / size as f64
            })
            .collect();
        let mean = steps.iter().sum::<f64>() / steps.len() as f64;
        // Windows start every 21 or 22 pixels of the canvas, and end 32 later; four pixels of the
        // tile each.
        let windows = Scaling::up_to(32, 4.0).windows((size, size));
        let starts = (0..7).map(|n| (n * (windows.canvas().0 - 32)) as f64 / 6.0);
        let borders: Vec<usize> = starts
            .flat_map(|start| [start.round() as usize * 4, (start.round() as usize + 32) * 4])
            .filter(|border| (8..size - 8).contains(border))
            .collect();
        let at_borders = borders.iter().map(|&x| steps[x - 3..x + 2].iter().sum::<f64>() / 5.0);
        let at_borders = at_borders.sum::<f64>() / borders.len() as f64;
        assert!(at_borders < 1.25 * mean, "{at_borders} at borders, {mean} on average");
    }
}

/// What is held of a tile serves it at every scale: whole for the bare product, in windows when it
/// is carried, and at a known magnification.
#[test]
fn a_key_stands_for_a_large_tile_in_every_form() {
    let server = Server::start(&[]);
    let tile = picture(3, 300, 200);
    let key = TileKey::of(&tile).to_string();
    let asks = [
        json!({"seed": 1}),
        json!({"seed": 1, "detail": "model"}),
        json!({"seed": 1, "strength": 0.5}),
        json!({"seed": 1, "style": {"from": "own", "placement": "aligned"}}),
    ];
    let sent: Vec<_> =
        asks.iter().map(|ask| server.tensor(std::slice::from_ref(&tile), &[], ask).0).collect();
    for (ask, sent) in asks.iter().zip(&sent).cycle().take(8) {
        let (status, body) = server.by_key(std::slice::from_ref(&key), ask);
        assert_eq!(status, 200, "{ask}");
        assert!(read_tensor(&body).0 == *sent, "{ask}");
    }
}

/// Two who ask for one large tile at once wait for one encoding of each window.
#[test]
fn windows_of_one_tile_are_encoded_once_for_all_who_wait() {
    let server = Server::start(&[]);
    let tile = picture(4, 500, 500);
    let answers: Vec<_> = std::thread::scope(|scope| {
        let ask = |seed: u64| {
            let (server, tile) = (&server, std::slice::from_ref(&tile));
            scope.spawn(move || server.tensor(tile, &[], &json!({"seed": seed / 2})).0)
        };
        let asked: Vec<_> = (0..6).map(ask).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    assert!(answers.chunks(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(server.metric("restain_tiles_total"), windows((500, 500)) as f64);
}

#[test]
fn a_tile_of_more_windows_than_the_queue_holds_is_refused_in_words() {
    let server = Server::start(&["--max-tiles", "8", "--max-queue-tiles", "8"]);
    let answer = server.png("", &picture(0, 512, 512), "image/png");
    assert_eq!(answer.status(), 413);
    let problem: Value = answer.json().unwrap();
    assert_eq!(problem["code"], "request_too_large");
    assert!(problem["detail"].as_str().unwrap().contains("windows"), "{problem}");
    // The bare product needs one window, and a larger scale fewer.
    assert_eq!(server.png("?detail=model", &picture(0, 512, 512), "image/png").status(), 200);
    // By its key, held as it was seen in one window, it is charged for its windows all the same.
    let key = TileKey::of(&picture(0, 512, 512)).to_string();
    let by_key = |ask| server.by_key(std::slice::from_ref(&key), &ask);
    assert_eq!(by_key(json!({"detail": "model"})).0, 200);
    let (status, problem) = by_key(json!({}));
    assert!(status == 413, "{}", String::from_utf8_lossy(&problem));
    let server = Server::start(&["--max-tiles", "8", "--max-queue-tiles", "8", "--window", "16"]);
    assert_eq!(server.png("", &picture(0, 512, 512), "image/png").status(), 200);
}

/// A model that knows 0.25 to 0.5 µm a pixel sees a tile of 0.25 µm at most twice smaller, one of
/// 1 µm twice as large, and warns where the tile is too coarse or unlike its training data.
#[test]
fn a_known_magnification_is_brought_to_what_the_model_knows() {
    let server = Server::with_manifest(|manifest| {
        manifest["familiar"] = json!({"mpp": [0.25, 0.5], "fidelity": 1.0});
    });
    let tile = picture(1, 96, 96);
    let ask = |request: Value| {
        let (mut variants, provenance) = server.tensor(std::slice::from_ref(&tile), &[], &request);
        (variants.remove(0), provenance[0].clone())
    };
    let (unknown, record) = ask(json!({"seed": 1}));
    assert!(record.get("mpp").is_none() && record.get("windows").is_none(), "{record}");
    // 96 px shrunk twice are 48, covered by four windows.
    let (known, record) = ask(json!({"seed": 1, "mpp": 0.25}));
    assert_eq!((&record["mpp"], &record["windows"]), (&json!(0.25), &json!(4)));
    assert!(record.get("warning").is_none(), "{record}");
    assert!(known != unknown);
    let (_, record) = ask(json!({"seed": 1, "mpp": 1.0}));
    assert_eq!(record["windows"], Scaling::up_to(32, 0.5).windows((96, 96)).count());
    assert!(record.get("warning").is_none(), "{record}");
    // Enlarged four times at most.
    let (_, record) = ask(json!({"seed": 1, "mpp": 40.0}));
    let warning = record["warning"].as_str().unwrap();
    assert!(warning.contains("10.00 µm") && warning.contains("0.25 to 0.5"), "{warning}");
    assert_eq!(server.metric("restain_unfamiliar_tiles_total"), 1.0);
    // A model that records no magnification sees every tile as it comes.
    let other = Server::start(&[]);
    let of_other = other.tensor(std::slice::from_ref(&tile), &[], &json!({"seed": 1, "mpp": 2})).0;
    let as_it_comes = other.tensor(std::slice::from_ref(&tile), &[], &json!({"seed": 1})).0;
    assert!(of_other == as_it_comes);
}

#[test]
fn a_tile_of_low_fidelity_is_warned_of_on_every_wire() {
    let server = Server::with_manifest(|manifest| manifest["familiar"] = json!({"fidelity": 98.5}));
    let said = |record: &Value| {
        let warning = record["warning"].as_str().unwrap();
        assert!(warning.contains("unlike") && warning.contains("98.5"), "{warning}");
    };
    said(&server.tensor(&[tile(0)], &[], &json!({})).1[0]);
    let json: Value = server.png("", &tile(0), "application/json").json().unwrap();
    said(&json["tiles"][0]);
    let image = server.png("", &tile(0), "image/png");
    let head = image.headers()["restain-provenance"].to_str().unwrap().to_owned();
    said(&serde_json::from_str(&head).unwrap());
    // A method that works on pixels says nothing of the model.
    assert!(
        server.tensor(&[tile(0)], &[], &json!({"method": "identity"})).1[0]
            .get("warning")
            .is_none()
    );
}
