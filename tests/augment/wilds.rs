//! WILDS roots: the columns of camelyon17_v1.0, and others that are carried along.

use std::path::PathBuf;

use super::{Job, assert_same};
use crate::harness::{decode, png, tile};

const HEADER: &str = ",patient,node,x_coord,y_coord,tumor,slide,center,split,remark";

/// Five patches of two slides.
fn wilds() -> Job {
    let job = Job::new();
    let mut csv = format!("{HEADER}\n");
    for number in 0..5 {
        let (patient, node, x) = (["004", "010"][number % 2], number % 2, number * 96);
        let slide = format!("patient_{patient}_node_{node}");
        job.put(&format!("patches/{slide}/patch_{slide}_x_{x}_y_0.png"), &png(&tile(number)));
        csv += &format!(
            "{number},{patient},{node},{x},0,{},{node},{node},0,\"slide {node}, \"\"inked\"\"\"\n",
            number % 2
        );
    }
    job.put("metadata.csv", csv.as_bytes());
    job.put("RELEASE_v1.0.txt", b"");
    job
}

fn rows(job: &Job) -> (Vec<String>, Vec<Vec<String>>) {
    let made = job.made();
    let mut reader = csv::Reader::from_reader(&made["metadata.csv"][..]);
    let header = reader.headers().unwrap().iter().map(str::to_owned).collect();
    (header, reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect())
}

/// As the loaders of this data set build it.
fn path(row: &[String]) -> PathBuf {
    let slide = format!("patient_{}_node_{}", row[1], row[2]);
    PathBuf::from(format!("patches/{slide}/patch_{slide}_x_{}_y_{}.png", row[3], row[4]))
}

#[test]
fn a_root_becomes_a_root_whose_rows_lead_to_their_variants() {
    let job = wilds();
    let said = job.run(&["--variants", "2", "--originals"]);
    assert!(said.starts_with("5 tiles, 10 variants"), "{said}");
    let (header, rows) = rows(&job);
    assert!(header.join(",").starts_with(HEADER), "{header:?}");
    assert_eq!(rows.len(), 15);
    let column = |name: &str| header.iter().position(|header| header == name).unwrap();
    for (number, row) in rows.iter().enumerate() {
        assert_eq!(row[0], number.to_string(), "rows are numbered anew");
        let (tile_number, place) = (number / 3, number % 3);
        assert_eq!(path(row), PathBuf::from(&row[column("restain_file")]));
        let picture = decode(&std::fs::read(job.out().join(path(row))).unwrap());
        // Of each patch its two variants, and then itself.
        assert_eq!(picture == tile(tile_number), place == 2, "{row:?}");
        assert_eq!(
            (&row[5], &row[7]),
            (&(tile_number % 2).to_string(), &(tile_number % 2).to_string()),
            "label and center"
        );
        assert_eq!(row[9], format!("slide {}, \"inked\"", tile_number % 2));
        assert_eq!(row[column("restain_source_index")], tile_number.to_string());
        assert_eq!(row[column("restain_variant")], ["0", "1", ""][place]);
        assert_eq!(row[column("restain_style")].is_empty(), place == 2);
    }
    assert!(job.out().join("RELEASE_v1.0.txt").exists());
}

#[test]
fn the_table_comes_with_the_last_part() {
    let job = wilds();
    let whole = job.run_into("whole", &["--seed", "2"]);
    for (part, is_last) in [("2/3", false), ("0/3", false), ("1/3", true)] {
        job.run(&["--seed", "2", "--shard", part]);
        assert_eq!(job.out().join("metadata.csv").exists(), is_last, "{part}");
    }
    assert_same(&job.made(), &whole);
}

#[test]
fn a_row_whose_patch_is_missing_is_named_and_left_out_when_that_is_allowed() {
    let job = wilds();
    std::fs::remove_file(
        job.input().join("patches/patient_010_node_1/patch_patient_010_node_1_x_96_y_0.png"),
    )
    .unwrap();
    let (status, said) = job.refused(&[]);
    assert!(
        status == 1 && said.contains("patch_patient_010_node_1_x_96_y_0.png is not there"),
        "{said}"
    );
    job.run(&["--max-damaged", "1"]);
    let (_, rows) = rows(&job);
    assert_eq!(
        rows.iter().map(|row| row[3].as_str()).collect::<Vec<_>>(),
        ["0", "192", "288", "384"]
    );
}

#[test]
fn a_table_that_leads_out_of_its_root_or_is_torn_is_refused() {
    for (row, said) in [("9,../../x,0,0,0,0,0,0,0,x", "line 7: patient"), ("9,004,0", "line: 7")] {
        let job = wilds();
        let csv = std::fs::read_to_string(job.input().join("metadata.csv")).unwrap();
        job.put("metadata.csv", format!("{csv}{row}\n").as_bytes());
        let (status, told) = job.refused(&[]);
        assert!(status != 0 && told.contains(said), "{told}");
    }
}

#[test]
fn what_was_made_can_be_augmented_again() {
    let job = wilds();
    job.run(&["--seed", "1"]);
    let again = job.home.path().join("again");
    super::succeeded(&job.command(&job.out(), &again, &["--seed", "2"]).output().unwrap());
    let csv = std::fs::read_to_string(again.join("metadata.csv")).unwrap();
    assert_eq!(csv.lines().count(), 6);
    assert_eq!(csv.lines().next().unwrap().matches("restain_style").count(), 1);
    assert!(
        again
            .join("patches/patient_004_node_0_v00_v00/patch_patient_004_node_0_v00_v00_x_0_y_0.png")
            .exists()
    );
}
