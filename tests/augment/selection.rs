//! Which tiles of a data set are augmented, and PatchCamelyon's HDF5 files.

use std::path::Path;

use super::Job;
use crate::harness::{decode, png, tile};

const COLUMNS: &str = ",patient,node,x_coord,y_coord,tumor,slide,center,split";

/// A WILDS root with a tile of each of five centres in each of the splits 0 and 1.
fn wilds() -> Job {
    let (job, mut table) = (Job::new(), format!("{COLUMNS}\n"));
    for number in 0..10 {
        let (center, split) = (number / 2, number % 2);
        let slide = format!("patient_{center:03}_node_1");
        let x = split * 96;
        job.put(&format!("patches/{slide}/patch_{slide}_x_{x}_y_0.png"), &png(&tile(number)));
        table += &format!("{number},{center:03},1,{x},0,{split},{center},{center},{split}\n");
    }
    job.put("metadata.csv", table.as_bytes());
    job
}

/// The numbers of the rows that were augmented.
fn rows(job: &Job) -> Vec<String> {
    let made = job.made();
    let mut reader = csv::Reader::from_reader(&made["metadata.csv"][..]);
    let place = reader.headers().unwrap().iter().position(|name| name == "restain_source_index");
    reader.records().map(|row| row.unwrap()[place.unwrap()].to_owned()).collect()
}

#[test]
fn splits_and_domains_of_a_wilds_root_are_chosen_by_name() {
    let job = wilds();
    let said = job.run(&["--split", "train", "--exclude-tile-domains", "center_3"]);
    assert!(said.starts_with("2 tiles, 2 variants, 0 left out"), "{said}");
    assert!(
        said.contains("passed over: not selected 8 (for example patches/patient_000"),
        "{said}"
    );
    assert_eq!(rows(&job), ["0", "8"]);
    // It is another job with another selection.
    let (status, said) = job.refused(&["--split", "train"]);
    assert!(status == 2 && said.contains("selection.exclude-tile-domains was"), "{said}");
    for (flags, said) in [
        (["--split", "trian"], "--split trian is not in"),
        (["--tile-domains", "center_9"], "--tile-domains center_9 is not in"),
        (["--only", "patches/x.png"], "patches/x.png is not an image of"),
    ] {
        let (status, told) = job.refused(&flags);
        assert!(status == 2 && told.contains(said), "{told}");
    }
}

#[test]
fn tiles_of_folders_are_chosen_by_folder_and_path() {
    let job = Job::of_tiles(6);
    let made = job.run_into("north", &["--tile-domains", "north", "--exclude", "north/t002.png"]);
    let pictures: Vec<&String> = made.keys().filter(|name| name.ends_with("png")).collect();
    assert_eq!(pictures, ["north/t000.v00.png", "north/t004.v00.png"]);
    let (status, said) = job.refused(&["--split", "train"]);
    assert!(status == 2 && said.contains("has no official splits"), "{said}");
}

#[test]
fn samples_of_tars_are_chosen_by_their_domain() {
    let job = Job::new();
    let mut archive = tar::Builder::new(Vec::new());
    for (key, domain) in [("a", "x"), ("b", "y"), ("c", "x")] {
        let json = format!("{{\"domain\": \"{domain}\"}}");
        for (field, bytes) in [("png", png(&tile(1))), ("json", json.into_bytes())] {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            archive.append_data(&mut header, format!("{key}.{field}"), &bytes[..]).unwrap();
        }
    }
    job.put("s.tar", &archive.into_inner().unwrap());
    let said = job.run(&["--tile-domains", "x", "--exclude", "s.tar/c.png"]);
    assert!(said.starts_with("1 tiles, 1 variants"), "{said}");
    assert!(said.ends_with("passed over: not selected 2 (for example s.tar/b)\n"), "{said}");
}

#[test]
fn patch_camelyon_becomes_folders_of_splits_and_classes() {
    let job = Job::new();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pcam");
    for entry in std::fs::read_dir(fixture).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.extension().is_some_and(|ending| ending == "h5") {
            let name = entry.file_name().unwrap().to_str().unwrap().to_owned();
            job.put(&name, &std::fs::read(&entry).unwrap());
        }
    }
    let flags = ["--split", "train", "--originals", "--strength", "0"];
    let said = job.run(&flags);
    assert!(said.starts_with("4 tiles, 4 variants"), "{said}");
    let made = job.made();
    let originals: Vec<&String> = made.keys().filter(|name| !name.contains(".v00.")).collect();
    let expected = ["normal/000000", "normal/000003", "tumor/000001", "tumor/000002"]
        .map(|name| format!("train/{name}.png"));
    assert_eq!(originals, expected.iter().collect::<Vec<_>>());
    for (name, red) in expected.iter().zip([10, 40, 20, 30]) {
        let (original, variant) =
            (decode(&made[name]), decode(&made[&name.replace(".png", ".v00.png")]));
        assert_eq!((original.width, original.pixels[0]), (96, red), "{name}");
        assert_eq!(variant, original, "of strength 0");
    }
    let record = String::from_utf8(made["train/tumor/000001.v00.json"].clone()).unwrap();
    assert!(record.contains("camelyonpatch_level_2_split_train_x.h5/000001"), "{record}");
    assert!(job.run(&flags).contains("4 tiles were done before"));
}
