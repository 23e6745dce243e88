//! `--slides`: the folder of a tile is its slide.

use serde_json::{Value, json};

use super::{Job, assert_same};
use crate::harness::{SAFETENSORS, Server, decode, picture, png, tensor_body, tile};

/// Tiles in two folders.
fn job() -> (Job, [Vec<usize>; 2]) {
    let job = Job::new();
    let folders = [(0..20).collect::<Vec<usize>>(), (20..23).collect()];
    for (folder, tiles) in folders.iter().enumerate() {
        for &number in tiles {
            job.put(&format!("slide_{folder}/{number:02}.png"), &png(&tile(number)));
        }
    }
    (job, folders)
}

#[test]
fn the_change_starts_from_the_slide_of_each_folder_as_on_the_server() {
    let (job, folders) = job();
    let made = job.run_into("out", &["--slides", "--seed", "3"]);
    let server = Server::start(&[]);
    for (folder, tiles) in folders.iter().enumerate() {
        // Of 20 tiles every second one stands for the folder, of 3 all.
        let step = tiles.len().div_ceil(16);
        let some: Vec<_> = tiles.iter().step_by(step).map(|&number| tile(number)).collect();
        let add = server.client.post(server.url("/v1/slides")).header("content-type", SAFETENSORS);
        let added: Value =
            add.body(tensor_body(&some, &[], &json!({}))).send().unwrap().json().unwrap();
        for &number in tiles {
            let ask = json!({"seed": 3, "slide": added["slide"]});
            let (variants, _) = server.tensor(&[tile(number)], &[], &ask);
            let stem = format!("slide_{folder}/{number:02}.v00");
            let record: Value = serde_json::from_slice(&made[&format!("{stem}.json")]).unwrap();
            assert_eq!(record["slide"], added["slide"], "{stem}");
            assert!(decode(&made[&format!("{stem}.png")]).pixels == variants[0], "{stem}");
        }
    }
}

#[test]
fn parts_and_runs_that_were_cut_give_the_same_slides() {
    let (job, _) = job();
    let whole = job.run_into("whole", &["--slides", "--seed", "3"]);
    for part in ["0/2", "1/2"] {
        job.run_into("parts", &["--slides", "--seed", "3", "--shard", part]);
    }
    let parts = job.run_into("parts", &["--slides", "--seed", "3", "--shard", "0/2"]);
    assert_same(&parts, &whole);
}

#[test]
fn a_folder_without_tissue_has_no_slide_and_damaged_tiles_are_left_out_of_it() {
    let job = Job::new();
    job.put(
        "blank/a.png",
        &png(&{
            let mut blank = tile(0);
            blank.pixels.fill(245);
            blank
        }),
    );
    job.put("some/a.png", &png(&picture(1, 40, 40)));
    job.put("some/b.png", &png(&picture(2, 40, 40))[..100]);
    let made = job.run_into("out", &["--slides", "--max-damaged", "1"]);
    let record = |name: &str| serde_json::from_slice::<Value>(&made[name]).unwrap();
    assert!(record("blank/a.v00.json").get("slide").is_none());
    assert!(record("some/a.v00.json")["slide"].is_string());
}

#[test]
fn slides_need_folders_and_a_method_that_takes_a_stain() {
    let (job, _) = job();
    for (flags, said) in [
        (&["--slides", "--method", "identity"][..], "--slides is for --method vit and color-match"),
        (
            &["--slides", "--method", "hed-jitter"][..],
            "--slides is for --method vit and color-match",
        ),
    ] {
        let (status, refused) = job.refused(flags);
        assert!(status == 2 && refused.contains(said), "{refused}");
    }
}
