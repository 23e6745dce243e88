//! Files that would have one name in OUT are refused before anything is written, in every layout;
//! and OUT holds nothing but data.

use super::{Job, assert_same, text};
use crate::harness::{png, tile};

#[test]
fn an_original_with_the_name_of_a_variant_is_refused_with_both_names() {
    let job = Job::new();
    job.put("a.png", &png(&tile(0)));
    job.put("a.v00.png", &png(&tile(1)));
    let (status, said) = job.refused(&["--originals"]);
    assert!(status == 2 && said.contains("a.v00.png and a variant of a.png"), "{said}");
    assert!(!job.out().exists() && !job.state().exists());
    // The variant of that number is not made, or the original not written.
    job.run_into("others", &[]);
    job.put("a.v05.png", &png(&tile(1)));
    std::fs::remove_file(job.input().join("a.v00.png")).unwrap();
    job.run(&["--originals", "--variants", "5"]);
}

#[test]
fn what_was_made_with_originals_is_not_augmented_so_again() {
    let job = Job::of_tiles(3);
    job.run(&["--originals"]);
    let again = job.home.path().join("again");
    let output = job.command(&job.out(), &again, &["--originals"]).output().unwrap();
    let said = text(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("and a variant of"), "{said}");
    assert!(!again.exists());
}

#[test]
fn rows_of_one_file_are_refused_in_a_wilds_root() {
    let row = |node: &str| {
        let slide = format!("patient_004_node_{node}");
        (format!("patches/{slide}/patch_{slide}_x_0_y_0.png"), format!("0,004,{node},0,0,1,0,0,0"))
    };
    let job = Job::new();
    let mut table = ",patient,node,x_coord,y_coord,tumor,slide,center,split\n".to_owned();
    for (number, node) in ["2", "2_v00"].into_iter().enumerate() {
        let (path, line) = row(node);
        job.put(&path, &png(&tile(number)));
        table += &(line + "\n");
    }
    job.put("metadata.csv", table.as_bytes());
    let (status, said) = job.refused(&["--originals"]);
    assert!(
        status == 2 && said.contains("node_2_v00_x_0_y_0.png and a variant of patches/patient_004"),
        "{said}"
    );
    assert!(!job.out().exists());
    let said = job.run(&[]);
    assert!(said.starts_with("2 tiles, 2 variants"), "{said}");
}

#[test]
fn a_variant_that_would_have_the_name_of_another_field_is_refused() {
    let job = Job::new();
    let mut archive = tar::Builder::new(Vec::new());
    for name in ["k.tif", "k.png"] {
        let picture = png(&tile(1));
        let mut header = tar::Header::new_gnu();
        header.set_size(picture.len() as u64);
        archive.append_data(&mut header, name, &picture[..]).unwrap();
    }
    job.put("x.tar", &archive.into_inner().unwrap());
    let (status, said) = job.refused(&["--image-field", "tif"]);
    assert!(status == 1 && said.contains("has a field png"), "{said}");
    assert!(!job.out().exists());
    job.run(&["--image-field", "tif", "--format", "webp"]);
}

#[test]
fn the_state_of_a_job_lies_beside_its_output_or_where_it_is_asked_to() {
    let job = Job::of_tiles(4);
    let flags = ["--seed", "1"];
    let made = job.run_into("elsewhere", &flags);
    let folders = |path: &std::path::Path| {
        let names = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(folders(&job.home.path().join("elsewhere")), ["north", "south"]);
    assert!(job.home.path().join("elsewhere.restain/job.json").exists());

    let state = job.home.path().join("of/the/job");
    let named = ["--seed", "1", "--state", state.to_str().unwrap()];
    job.run(&named);
    assert_same(&job.made(), &made);
    assert!(state.join("job.json").exists() && !job.state().exists());
    assert!(job.run(&named).contains("4 tiles were done before"));
    // Without its state, OUT could be anybody's.
    let (status, said) = job.refused(&flags);
    assert!(status == 2 && said.contains("out.restain holds no job"), "{said}");
    for (inside, said) in [("out/state", "and OUT"), ("in/state", "and IN")] {
        let inside = job.home.path().join(inside);
        let (status, told) = job.refused(&["--state", inside.to_str().unwrap()]);
        assert!(status == 2 && told.contains(said), "{told}");
    }
}
