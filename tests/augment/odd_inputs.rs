//! Odd inputs, as people have them, through both programs: `restain augment` must take the same
//! tiles as `restain_data::Dataset`, from which `restain-train` trains, count what it passes over
//! by the same reasons, and refuse what that refuses.

use std::os::unix::fs::symlink;
use std::path::Path;

use restain_data::{Dataset, Selection};

use super::{Job, text};
use crate::harness::{png, tile};

/// What both programs make of an input.
enum Right {
    /// Tiles by their paths, and what is said of what is passed over: its end.
    Tiles(&'static [&'static str], &'static str),
    /// An error with these words.
    Refused(&'static str),
}
use Right::{Refused, Tiles};

struct Case {
    name: &'static str,
    make: fn(&Job),
    right: Right,
}

fn tar(entries: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in entries {
        let mut header = tar::Header::new_ustar();
        // Names as they are: `set_path` takes no name that is not UTF-8 on every system.
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        archive.append(&header, *bytes).unwrap();
    }
    archive.into_inner().unwrap()
}

fn picture(number: usize) -> Vec<u8> {
    png(&tile(number))
}

/// A tar of the sample `k`, and of what lies between its members.
fn put_tar(job: &Job, between: &[(&[u8], &[u8])]) {
    let picture = picture(1);
    let mut entries: Vec<(&[u8], &[u8])> = vec![(b"k.png", &picture)];
    entries.extend(between);
    entries.push((b"k.cls", b"1"));
    job.put("x.tar", &tar(&entries));
}

const COLUMNS: &str = ",patient,node,x_coord,y_coord,tumor,slide,center,split";
const ROW: &str = "0,004,1,96,0,1,0,3,0";
const PATCH: &str = "patches/patient_004_node_1/patch_patient_004_node_1_x_96_y_0.png";

/// A WILDS root of one patch, with a table of these lines.
fn put_wilds(job: &Job, lines: &[&str]) {
    job.put(PATCH, &picture(1));
    job.put("metadata.csv", (lines.join("\n") + "\n").as_bytes());
}

const FOLDERS: &[Case] = &[
    Case {
        name: "hidden files and folders",
        make: |job| {
            job.put("a/t.png", &picture(1));
            job.put("a/._t.png", b"what macOS leaves behind");
            job.put(".ipynb_checkpoints/t.png", &picture(2));
        },
        right: Tiles(&["a/t.png"], "hidden 2 (for example .ipynb_checkpoints)"),
    },
    Case {
        name: "links back to a folder above",
        make: |job| {
            for folder in ["a", "b"] {
                job.put(&format!("{folder}/t.png"), &picture(1));
                symlink("..", job.input().join(folder).join("up")).unwrap();
            }
        },
        right: Tiles(&["a/t.png", "b/t.png"], "links to a folder above them 2 (for example a/up)"),
    },
    Case {
        name: "endings in capitals, slides, and other files",
        make: |job| {
            job.put("a/t.PNG", &picture(1));
            job.put("a/s.svs", b"a whole slide");
            job.put("a/Thumbs.db", b"");
        },
        right: Tiles(
            &["a/t.PNG"],
            "whole slides, to be cut into tiles first 1 (for example a/s.svs); no images by their \
             names 1 (for example a/Thumbs.db)",
        ),
    },
    Case {
        name: "slides alone",
        make: |job| job.put("a/s.ndpi", b"a whole slide"),
        right: Refused("to be cut into tiles first 1 (for example a/s.ndpi)"),
    },
    Case {
        name: "a table of another kind beside folders",
        make: |job| {
            job.put("a/t.png", &picture(1));
            job.put("metadata.csv", b"file_name,label\na/t.png,1\n");
        },
        right: Tiles(&["a/t.png"], "no images by their names 1 (for example metadata.csv)"),
    },
];

const WILDS: &[Case] = &[
    Case {
        name: "a patient without its zeros",
        make: |job| put_wilds(job, &[COLUMNS, "0,4,1,96,0,1,0,3,0"]),
        right: Tiles(&[PATCH], ""),
    },
    Case {
        name: "blanks after commas, and numbers with a point",
        make: |job| {
            let columns = COLUMNS.replace(',', ", ");
            put_wilds(job, &[&columns, "0, 4.0, 1.0, 96.0, 0.0, 1.0, 0, 3.0, 0.0"]);
        },
        right: Tiles(&[PATCH], ""),
    },
    Case {
        name: "a byte order mark and the line ends of Windows",
        make: |job| {
            let columns = format!("\u{feff}{COLUMNS}\r");
            put_wilds(job, &[&columns, &format!("{ROW}\r")]);
        },
        right: Tiles(&[PATCH], ""),
    },
    Case {
        name: "patches whose ending is in capitals",
        make: |job| {
            put_wilds(job, &[COLUMNS, ROW]);
            let path = job.input().join(PATCH);
            std::fs::rename(&path, path.with_extension("PNG")).unwrap();
        },
        right: Tiles(&["patches/patient_004_node_1/patch_patient_004_node_1_x_96_y_0.PNG"], ""),
    },
    Case {
        name: "semicolons between columns",
        make: |job| put_wilds(job, &[&COLUMNS.replace(',', ";"), &ROW.replace(',', ";")]),
        right: Refused("its columns are separated by semicolons, and must be by commas"),
    },
    Case {
        name: "a patch twice",
        make: |job| put_wilds(job, &[COLUMNS, ROW, "1,4,1,96,0,1,0,3,0"]),
        right: Refused("line 3 names the patch of line 2 again"),
    },
    Case {
        name: "a coordinate that is no whole number",
        make: |job| put_wilds(job, &[COLUMNS, "0,004,1,96.5,0,1,0,3,0"]),
        right: Refused("line 2: x_coord is \"96.5\", and must be a whole number"),
    },
    Case {
        name: "a label that is none",
        make: |job| put_wilds(job, &[COLUMNS, "0,004,1,96,0,NaN,0,3,0"]),
        right: Refused("line 2: tumor is \"NaN\", and must be 0 or 1"),
    },
    Case {
        name: "no table beside patches",
        make: |job| job.put(PATCH, &picture(1)),
        right: Refused("metadata.csv is missing"),
    },
];

const TARS: &[Case] = &[
    Case {
        name: "files of macOS between the members of a sample",
        make: |job| put_tar(job, &[(b"._k.cls", b"what macOS leaves behind")]),
        right: Tiles(&["x.tar/k.png"], "hidden 1 (for example ._k.cls)"),
    },
    Case {
        name: "a file of no sample between the members of one",
        make: |job| put_tar(job, &[(b"README", b"hello")]),
        right: Tiles(&["x.tar/k.png"], "in tars, but of no sample 1 (for example README)"),
    },
    Case {
        name: "a mask beside the tile",
        make: |job| put_tar(job, &[(b"k.seg.png", &[0])]),
        right: Tiles(&["x.tar/k.png"], ""),
    },
    Case {
        name: "two masks and no tile",
        make: |job| {
            let picture = picture(1);
            job.put("x.tar", &tar(&[(b"k.a.png", &picture), (b"k.b.png", &picture)]));
        },
        right: Refused("sample k has several images, a.png, b.png"),
    },
    Case {
        name: "fields in capitals",
        make: |job| job.put("x.tar", &tar(&[(b"k.PNG", &picture(1)), (b"k.CLS", b"1")])),
        right: Tiles(&["x.tar/k.PNG"], ""),
    },
    Case {
        name: "JSON as Python writes it",
        make: |job| put_tar(job, &[(b"k.json", "\u{feff}{\"score\": NaN}".as_bytes())]),
        right: Tiles(&["x.tar/k.png"], ""),
    },
    Case {
        name: "hidden tars beside tars",
        make: |job| {
            put_tar(job, &[]);
            job.put("._x.tar", b"what macOS leaves behind");
        },
        right: Tiles(&["x.tar/k.png"], "hidden 1 (for example ._x.tar)"),
    },
    Case {
        name: "samples whose files do not stand beside each other",
        make: |job| {
            let picture = picture(1);
            let entries: [(&[u8], &[u8]); 4] =
                [(b"0.png", &picture), (b"1.png", &picture), (b"0.cls", b"1"), (b"1.cls", b"1")];
            job.put("x.tar", &tar(&entries));
        },
        right: Refused("sample 0 is there twice, or its files do not stand beside each other"),
    },
    Case {
        name: "a field twice",
        make: |job| put_tar(job, &[(b"k.PNG", b"")]),
        right: Refused("sample k has the field PNG twice"),
    },
    Case {
        name: "an empty file",
        make: |job| job.put("x.tar", b""),
        right: Refused("x.tar: it is empty"),
    },
    Case {
        name: "gzip under the name of a tar",
        make: |job| job.put("x.tar", &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0]),
        right: Refused("x.tar: it is gzip: unpack what is compressed"),
    },
    Case {
        name: "a name in Latin-1",
        make: |job| {
            let entries: [(&[u8], &[u8]); 2] = [(b"k\xe9.png", &picture(1)), (b"k\xe9.cls", b"1")];
            job.put("x.tar", &tar(&entries));
        },
        right: Tiles(&["x.tar/k\u{e9}.png"], ""),
    },
    Case {
        name: "one name in Latin-1 and in UTF-8",
        make: |job| {
            let picture = picture(1);
            let entries: [(&[u8], &[u8]); 3] = [
                (b"k\xe9.png", &picture),
                (b"l.png", &picture),
                ("k\u{e9}.png".as_bytes(), &picture),
            ];
            job.put("x.tar", &tar(&entries));
        },
        right: Refused("sample k\u{e9} is there twice"),
    },
    Case {
        name: "a tar that is cut off",
        make: |job| {
            put_tar(job, &[]);
            let path = job.input().join("x.tar");
            let bytes = std::fs::read(&path).unwrap();
            std::fs::write(path, &bytes[..700]).unwrap();
        },
        right: Refused("x.tar: the tar is cut off within k.png"),
    },
];

/// What the trainer's reader makes of an input, as [`of_augment`] tells it.
fn of_trainer(input: &Path) -> Result<(Vec<String>, String), String> {
    let dataset = Dataset::open(input, &Selection { workers: 1, ..Selection::default() })
        .map_err(|error| format!("{error:#}"))?;
    let paths = dataset.sources.iter().map(|source| source.path.display().to_string());
    Ok((paths.collect(), dataset.passed_over.to_string()))
}

/// The sources of all variants, and what is said of what was passed over; or the error.
fn of_augment(job: &Job) -> Result<(Vec<String>, String), String> {
    let output = job.output(&["--seed", "1"]);
    if !output.status.success() {
        assert!(job.made().is_empty(), "nothing is written before it is refused");
        return Err(text(&output.stderr));
    }
    let said = text(&output.stdout);
    let (_, passed_over) = said.trim_end().split_once('\n').unwrap_or_default();
    let mut records: Vec<Vec<u8>> = Vec::new();
    for (name, bytes) in job.made() {
        if name.ends_with(".json") {
            records.push(bytes);
        } else if name.ends_with(".tar") {
            let mut archive = tar::Archive::new(&bytes[..]);
            for mut entry in archive.entries().unwrap().map(Result::unwrap) {
                if entry.path_bytes().ends_with(b".restain.json") {
                    let mut record = Vec::new();
                    std::io::copy(&mut entry, &mut record).unwrap();
                    records.push(record);
                }
            }
        }
    }
    let source = |record: &Vec<u8>| {
        let record: serde_json::Value = serde_json::from_slice(record).unwrap();
        record["source"].as_str().unwrap().to_owned()
    };
    let mut sources: Vec<String> = records.iter().map(source).collect();
    sources.sort();
    Ok((sources, passed_over.to_owned()))
}

fn both_read(cases: &[Case]) {
    for Case { name, make, right } in cases {
        let job = Job::new();
        make(&job);
        let (trainer, augment) = (of_trainer(&job.input()), of_augment(&job));
        match right {
            Tiles(paths, said) => {
                let augment = augment.unwrap_or_else(|said| panic!("{name}: augment: {said}"));
                let trainer = trainer.unwrap_or_else(|said| panic!("{name}: trainer: {said}"));
                assert_eq!(augment, trainer, "{name}");
                assert_eq!(augment.0, *paths, "{name}");
                let before = if said.is_empty() { "" } else { "passed over: " };
                assert_eq!(augment.1, format!("{before}{said}"), "{name}");
            }
            Refused(said) => {
                for (program, refused) in [("trainer", trainer), ("augment", augment)] {
                    let refused = refused.expect_err(name);
                    assert!(refused.contains(said), "{name}: {program}: {refused}");
                }
            }
        }
    }
}

#[test]
fn both_programs_read_odd_folders_alike() {
    both_read(FOLDERS);
}

#[test]
fn both_programs_read_odd_tables_alike() {
    both_read(WILDS);
}

#[test]
fn both_programs_read_odd_tars_alike() {
    both_read(TARS);
}
