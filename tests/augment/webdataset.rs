//! WebDataset tars, read back with the `tar` crate.

use std::io::Read;
use std::path::Path;
use std::process::Stdio;

use super::{Job, assert_same, text};
use crate::harness::{decode, picture, png, tile, until};

type Entries = Vec<(String, Vec<u8>)>;

fn tar(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, &bytes[..]).unwrap();
    }
    archive.into_inner().unwrap()
}

fn untar(bytes: &[u8]) -> Entries {
    let mut archive = tar::Archive::new(bytes);
    let read = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (text(&entry.path_bytes()), bytes)
    };
    archive.entries().unwrap().map(read).collect()
}

/// A sample as data sets have them: the tile, its class, and what else is known.
fn sample(key: &str, number: usize) -> Entries {
    let field = |name: &str, bytes: &[u8]| (format!("{key}.{name}"), bytes.to_vec());
    vec![
        field("png", &png(&tile(number))),
        field("cls", number.to_string().as_bytes()),
        field("json", b"{\"slide\": 3}"),
    ]
}

#[test]
fn a_sample_is_repeated_for_each_variant_with_all_of_its_fields() {
    let job = Job::new();
    let long = format!("{}/{}", "folder".repeat(20), "name".repeat(40));
    let entries = [
        vec![("README".to_owned(), b"hello".to_vec())],
        sample("0001", 1),
        sample("a/0002", 2),
        sample(&long, 3),
    ]
    .concat();
    job.put("train-000.tar", &tar(&entries));
    let said = job.run(&["--variants", "2", "--seed", "7"]);
    assert!(said.starts_with("3 tiles, 6 variants"), "{said}");
    let made = untar(&job.made()["train-000.tar"]);
    let names: Vec<&str> = made.iter().map(|(name, _)| name.as_str()).collect();
    let mut expected = vec!["README".to_owned()];
    for key in ["0001", "a/0002", &long] {
        for variant in ["_v00", "_v01"] {
            expected.extend(
                ["png", "cls", "json", "restain.json"]
                    .map(|field| format!("{key}{variant}.{field}")),
            );
        }
    }
    assert_eq!(names, expected);
    assert_eq!(made[2].1, b"1");
    assert_eq!(made[3].1, b"{\"slide\": 3}");
    let record: serde_json::Value = serde_json::from_slice(&made[8].1).unwrap();
    assert_eq!(
        (record["source"].as_str(), record["index"].as_u64()),
        (Some("train-000.tar/0001.png"), Some(1))
    );

    // The picture is the one that a folder's job makes of the same tile.
    let folder = Job::new();
    folder.put("x.png", &png(&tile(1)));
    folder.run(&["--variants", "2", "--seed", "7"]);
    assert_eq!(made[5].1, folder.made()["x.v01.png"]);
}

#[test]
fn which_field_is_the_tile_is_asked_when_several_could_be() {
    let job = Job::new();
    let mask = png(&picture(5, 7, 7));
    let entries =
        [("s.mask.png".to_owned(), mask.clone()), ("s.input.png".to_owned(), png(&tile(1)))];
    job.put("a.tar", &tar(&entries));
    let (status, said) = job.refused(&["--format", "jpeg"]);
    assert!(
        status == 1 && said.contains("mask.png, input.png") && said.contains("--image-field"),
        "{said}"
    );
    let out = job.home.path().join("again");
    let flags = ["--image-field", "input.png", "--originals", "--format"];
    let (status, said) = job.refused(&[&flags[..], &["jpeg"]].concat());
    assert!(
        status == 1 && said.contains("field input.png") && said.contains("png, or webp"),
        "{said}"
    );
    let flags = [&flags[..], &["webp", "--quality", "100"]].concat();
    super::succeeded(&job.command(&job.input(), &out, &flags).output().unwrap());
    let made = untar(&std::fs::read(out.join("a.tar")).unwrap());
    let names: Vec<&str> = made.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "s.mask.png",
            "s.input.webp",
            "s.restain.json",
            "s_v00.mask.png",
            "s_v00.input.webp",
            "s_v00.restain.json"
        ]
    );
    assert!(made[0].1 == mask && made[3].1 == mask && decode(&made[1].1) == tile(1));
    assert_eq!(decode(&made[4].1).width, tile(1).width);
    let record =
        |place: usize| -> serde_json::Value { serde_json::from_slice(&made[place].1).unwrap() };
    let (original, variant) = (record(2), record(5));
    assert_eq!(
        (&original["method"], &original["source"]),
        (&"original".into(), &variant["source"])
    );
    let fields =
        |of: &serde_json::Value| of.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(fields(&original), fields(&variant));
}

#[test]
fn several_tars_are_named_in_every_way_and_divided_whole() {
    let job = Job::new();
    for number in 0..5 {
        job.put(&format!("shard-{number:03}.tar"), &tar(&sample("k", number)));
    }
    let whole = job.run_into("whole", &["--seed", "1"]);
    assert_eq!(whole.len(), 5);
    let some = job.home.path().join("some");
    super::succeeded(
        &job.command(&job.input().join("shard-{001..003}.tar"), &some, &["--seed", "1"])
            .output()
            .unwrap(),
    );
    assert_eq!(
        super::tree(&some).keys().collect::<Vec<_>>(),
        ["shard-001.tar", "shard-002.tar", "shard-003.tar"]
    );
    for part in ["0/7", "1/7", "2/7", "3/7", "4/7", "5/7", "6/7"] {
        job.run(&["--seed", "1", "--shard", part]);
    }
    assert_same(&job.made(), &whole);
}

#[test]
fn what_is_damaged_is_named_by_tar_and_key() {
    let job = Job::new();
    let entries = [
        sample("a", 1),
        vec![("b.png".to_owned(), b"no picture".to_vec())],
        vec![("c.cls".to_owned(), b"1".to_vec())],
        sample("d", 2),
    ];
    let whole = tar(&entries.concat());
    job.put("x.tar", &whole);
    let (status, said) = job.refused(&[]);
    assert!(status == 1 && said.contains("x.tar/b.png is damaged"), "{said}");
    let (status, said) = job.refused(&["--max-damaged", "1"]);
    assert!(status == 1 && said.contains("x.tar/c has no picture"), "{said}");
    let said = job.run(&["--max-damaged", "2"]);
    assert!(said.contains("2 left out (1 damaged, 1 without a picture)"), "{said}");
    let keys: Vec<String> = untar(&job.made()["x.tar"])
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| name.ends_with("cls"))
        .collect();
    assert_eq!(keys, ["a_v00.cls", "d_v00.cls"]);

    let job = Job::new();
    job.put("x.tar", &whole[..whole.len() / 2]);
    let (status, said) = job.refused(&["--max-damaged", "9"]);
    assert!(
        status == 1 && said.contains("x.tar: the tar is") && said.contains("cut off"),
        "{said}"
    );
    assert!(job.made().is_empty(), "an unfinished tar is not among the data");
}

#[test]
fn originals_whose_names_variants_would_have_are_refused() {
    let job = Job::new();
    job.put("x.tar", &tar(&[sample("a_v00", 1), sample("a", 2)].concat()));
    let (status, said) = job.refused(&["--originals"]);
    assert!(status == 1 && said.contains("one key"), "{said}");
}

/// Lines of the journals of tars that are not finished.
fn journalled(job: &Job) -> usize {
    let work = job.state().join("work/00000-of-00001/tars");
    let files = std::fs::read_dir(work).into_iter().flatten().flatten().map(|entry| entry.path());
    let journals = files.filter(|path| path.extension().is_some_and(|ending| ending == "jsonl"));
    journals.map(|path| std::fs::read_to_string(path).unwrap_or_default().lines().count()).sum()
}

#[test]
fn a_tar_that_is_killed_in_its_middle_is_gone_on_with_after_its_last_sample() {
    let job = Job::new();
    let entries: Entries = (0..80)
        .flat_map(|number| {
            [
                (format!("k{number:03}.png"), png(&picture(number, 128, 128))),
                (format!("k{number:03}.cls"), b"1".to_vec()),
            ]
        })
        .collect();
    job.put("a.tar", &tar(&entries));
    job.put("b.tar", &tar(&entries[..20]));
    let flags = ["--variants", "3", "--seed", "9"];
    let undisturbed = job.run_into("undisturbed", &flags);
    let mut killed = 0;
    for lines in [3, 25, 41, 60] {
        let mut child = job
            .command(&job.input(), &job.out(), &flags)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        until("samples are written", || {
            child.try_wait().unwrap().is_some() || journalled(&job) >= lines
        });
        if child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
            killed += 1;
        }
        child.wait().unwrap();
        assert!(!job.out().join("a.tar").exists() || job.made()["a.tar"] == undisturbed["a.tar"]);
    }
    assert!(killed >= 3, "the job was too fast to be killed: {killed}");
    // A sample that was cut in its middle, and a line that was.
    let work = job.state().join("work/00000-of-00001/tars");
    if work.join("a.tar").exists() {
        append(&work.join("a.tar"), &[7; 700]);
        append(&work.join("a.tar.jsonl"), b"{\"end\":99");
    }
    let said = job.run(&flags);
    assert!(said.contains("were done before"), "{said}");
    assert_same(&job.made(), &undisturbed);
}

fn append(path: &Path, bytes: &[u8]) {
    use std::io::Write;
    std::fs::OpenOptions::new().append(true).open(path).unwrap().write_all(bytes).unwrap();
}
