//! Folders of pictures.

use serde_json::{Value, json};

use super::{Job, assert_same};
use crate::harness::{Server, decode, picture, png, tile};

#[test]
fn a_folder_is_mirrored_with_the_provenance_of_every_variant_beside_it() {
    let job = Job::new();
    job.put("north/normal/a.png", &png(&tile(0)));
    job.put("south/b.tile.png", &png(&tile(1)));
    job.put("south/notes.txt", b"no picture");
    job.put("south/._b.tile.png", b"what a Mac leaves behind");
    let said = job.run(&["--variants", "2", "--seed", "7"]);
    assert!(said.starts_with("2 tiles, 4 variants, 0 left out"), "{said}");
    let made = job.made();
    let names: Vec<&str> = made.keys().map(String::as_str).collect();
    let expected = [
        "north/normal/a.v00.json",
        "north/normal/a.v00.png",
        "north/normal/a.v01.json",
        "north/normal/a.v01.png",
        "south/b.tile.v00.json",
        "south/b.tile.v00.png",
        "south/b.tile.v01.json",
        "south/b.tile.v01.png",
    ];
    assert_eq!(names, expected);
    let record: Value = serde_json::from_slice(&made["south/b.tile.v01.json"]).unwrap();
    assert_eq!(record["source"], "south/b.tile.png");
    assert_eq!(
        (&record["seed"], &record["index"], &record["model"]),
        (&json!(7), &json!(1), &json!("tiny"))
    );
    assert!(
        record["style"].is_string()
            && record["domain"].is_string()
            && record["tile_key"].is_string(),
        "{record}"
    );
}

#[test]
fn a_job_makes_what_the_server_makes() {
    let job = Job::of_tiles(5);
    job.run(&["--variants", "3", "--seed", "11"]);
    let made = job.made();
    let server = Server::start(&[]);
    let tiles: Vec<_> = (0..5).map(tile).collect();
    let (variants, records) = server.tensor(&tiles, &[], &json!({"variants": 3, "seed": 11}));
    for (place, pixels) in variants.iter().enumerate() {
        let (number, variant) = (place / 3, place % 3);
        let stem = format!("{}/t{number:03}.v{variant:02}", ["north", "south"][number % 2]);
        assert!(decode(&made[&format!("{stem}.png")]).pixels == *pixels, "{stem}");
        let record: Value = serde_json::from_slice(&made[&format!("{stem}.json")]).unwrap();
        assert_eq!(
            (&record["style"], &record["bundle"]),
            (&records[place]["style"], &records[place]["bundle"]),
            "{stem}"
        );
    }
}

#[test]
fn originals_are_written_byte_for_byte_when_asked_for() {
    let job = Job::of_tiles(2);
    job.run(&["--originals"]);
    let made = job.made();
    assert_eq!(made.len(), 2 * 3);
    assert_eq!(made["north/t000.png"], png(&tile(0)));
    // And only what is missing is written again.
    std::fs::remove_file(job.out().join("north/t000.png")).unwrap();
    let said = job.run(&["--originals"]);
    assert!(said.starts_with("1 tiles") && said.contains("1 tiles were done before"), "{said}");
    assert_same(&job.made(), &made);
}

#[test]
fn a_variant_has_the_tiles_own_size_or_the_models() {
    let job = Job::new();
    job.put("wide.png", &png(&picture(1, 50, 40)));
    let flags = ["--format", "webp", "--quality", "100", "--strength", "0"];
    let carried = job.run_into("carried", &flags);
    assert_eq!(decode(&carried["wide.v00.webp"]), picture(1, 50, 40), "of strength 0");
    let record: Value = serde_json::from_slice(&carried["wide.v00.json"]).unwrap();
    assert!(record["detail"] == "carry" && record["fidelity"].is_number(), "{record}");
    let bare = job.run_into("bare", &["--detail", "model", "--format", "webp"]);
    let variant = decode(&bare["wide.v00.webp"]);
    assert_eq!((variant.width, variant.height), (32, 32));
}

#[test]
fn style_and_strength_are_as_asked() {
    let job = Job::of_tiles(6);
    let made = job.run_into("west", &["--domains", "west", "--variants", "2", "--strength", "0.5"]);
    let records: Vec<Value> = made
        .iter()
        .filter(|(name, _)| name.ends_with("json"))
        .map(|(_, text)| serde_json::from_slice(text).unwrap())
        .collect();
    assert_eq!(records.len(), 12);
    assert!(
        records.iter().all(|record| record["domain"] == "west" && record["strength"] == 0.5),
        "{records:?}"
    );
    let shared = job.run_into("shared", &["--share", "request", "--variants", "2"]);
    let style =
        |name: &str| serde_json::from_slice::<Value>(&shared[name]).unwrap()["style"].clone();
    assert_eq!(style("north/t000.v01.json"), style("south/t005.v01.json"));
    let own = job.run_into("own", &["--style-from", "own", "--placement", "aligned"]);
    assert_eq!(
        serde_json::from_slice::<Value>(&own["north/t000.v00.json"]).unwrap()["style"],
        "tile/0"
    );
    let identity = job.run_into("identity", &["--method", "identity"]);
    assert_eq!(decode(&identity["north/t000.v00.png"]), tile(0));
}

#[test]
fn styles_of_reference_tiles_are_those_that_the_server_takes() {
    let job = Job::of_tiles(2);
    let reference = job.home.path().join("reference.png");
    std::fs::write(&reference, png(&tile(40))).unwrap();
    let flags = [
        "--style-from",
        "reference",
        "--placement",
        "aligned",
        "--references",
        reference.to_str().unwrap(),
    ];
    job.run(&flags);
    let server = Server::start(&[]);
    let ask = json!({"style": {"from": "reference", "placement": "aligned"}});
    let (variants, _) = server.tensor(&[tile(0)], &[tile(40)], &ask);
    assert!(decode(&job.made()["north/t000.v00.png"]).pixels == variants[0]);
    std::fs::write(&reference, png(&tile(41))).unwrap();
    let (status, said) = job.refused(&flags);
    assert!(status == 2 && said.contains("references was"), "{said}");
}

#[test]
fn tiles_that_need_more_memory_than_there_is_go_one_by_one() {
    let job = Job::of_large_tiles(9);
    let flags = ["--variants", "4", "--seed", "6"];
    let roomy = job.run_into("roomy", &flags);
    assert_same(
        &job.run_into("narrow", &[&flags[..], &["--max-inflight-bytes", "64KiB"]].concat()),
        &roomy,
    );
}
