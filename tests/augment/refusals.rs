//! What ends a job: with 2 when it was asked for wrongly, with 1 when something is wrong with the
//! world.

use std::fs;

use super::{Job, assert_same, succeeded, text};
use crate::harness::{picture, png, restain, tile};

#[test]
fn wrong_use_ends_with_two_and_names_what_is_wrong() {
    let job = Job::of_tiles(2);
    for (flags, said) in [
        (&["--variants", "0"][..], "--variants"),
        (&["--domains", "nowhere"], "nowhere"),
        (&["--model", "other"], "tiny/1"),
        (&["--placement", "aligned"], "reference"),
        (&["--layout", "wilds"], "metadata.csv"),
        (&["--layout", "webdataset"], ".tar"),
        (&["--shard", "2/2"], "from 0 to 1"),
        (&["--config", "/nowhere.toml"], "/nowhere.toml"),
    ] {
        let (status, told) = job.refused(flags);
        assert!(status == 2 && told.contains(said), "{flags:?}: {status} {told}");
    }
}

#[test]
fn paths_that_cannot_be_meant_are_refused() {
    let job = Job::of_tiles(1);
    fs::create_dir(job.home.path().join("empty")).unwrap();
    fs::create_dir(job.home.path().join("mine")).unwrap();
    fs::write(job.home.path().join("mine/thesis.txt"), "").unwrap();
    for (input, out, said) in [
        ("nowhere", "out", "there is no such"),
        ("a-{0..2}.tar", "out", "a-0.tar"),
        ("in", "in/out", "neither may lie in the other"),
        ("in/north", "in", "neither may lie in the other"),
        ("empty", "out", "holds no images"),
        ("in", "mine", "name a new folder"),
        ("mine/thesis.txt", "out", "neither a folder nor a .tar"),
    ] {
        let path = |name: &str| job.home.path().join(name);
        let output = job.command(&path(input), &path(out), &[]).output().unwrap();
        let told = text(&output.stderr);
        assert!(output.status.code() == Some(2) && told.contains(said), "{input} to {out}: {told}");
    }
}

#[test]
fn tiles_that_would_have_one_place_are_refused_by_name() {
    let job = Job::new();
    job.put("a.png", &png(&tile(0)));
    job.put("a.jpg", &png(&tile(1)));
    let (status, said) = job.refused(&[]);
    assert!(status == 2 && said.contains("a.jpg and a.png"), "{said}");
}

#[test]
fn a_damaged_tile_is_named_and_left_out_only_when_that_is_allowed() {
    let job = Job::of_tiles(4);
    job.put("south/bad.png", b"no picture at all");
    let whole = png(&tile(9));
    job.put("south/cut.png", &whole[..whole.len() / 2]);
    let (status, said) = job.refused(&[]);
    assert!(
        status == 1 && said.contains("south/bad.png is damaged") && said.contains("--max-damaged"),
        "{status} {said}"
    );
    let (status, said) = job.refused(&["--max-damaged", "1"]);
    assert!(status == 1 && said.contains("south/cut.png is damaged"), "{status} {said}");
    let output = job.output(&["--max-damaged", "2"]);
    let said = succeeded(&output);
    assert!(said.contains("2 left out (2 damaged)"), "{said}{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("left out: south/bad.png is damaged"));
    assert_eq!(job.made().len(), 4 * 2);
    let note = fs::read_to_string(job.state().join("done/00000-of-00001.json")).unwrap();
    assert!(note.contains("south/bad.png") && note.contains("south/cut.png"), "{note}");
    // Once it is mended, the same command makes what was missing.
    job.put("south/bad.png", &png(&tile(7)));
    assert!(job.run(&["--max-damaged", "1"]).starts_with("1 tiles"));
}

#[test]
fn a_picture_that_is_no_tile_is_named_with_its_bounds() {
    let job = Job::of_tiles(2);
    job.put("north/wide.png", &png(&picture(1, 50, 15)));
    let (status, said) = job.refused(&[]);
    assert!(
        status == 1
            && said.contains("north/wide.png is 50×15 pixels")
            && said.contains("from 16 to 8192 pixels a side"),
        "{said}"
    );
    let (status, said) = job.refused(&["--detail", "model"]);
    assert!(status == 2 && said.contains("detail was \"carry\" and is \"model\""), "{said}");
}

#[test]
fn a_job_does_not_go_on_with_other_options() {
    let job = Job::of_tiles(2);
    job.run(&["--variants", "2", "--domains", "west"]);
    let (status, said) = job.refused(&["--variants", "3", "--domains", "west"]);
    assert!(status == 2 && said.contains("variants was 2 and is 3"), "{said}");
    let (_, said) = job.refused(&["--variants", "2"]);
    assert!(said.contains("style.domains was [\"west\"] and is null"), "{said}");
    let (_, said) = job.refused(&["--variants", "2", "--domains", "west", "--seed", "1"]);
    assert!(said.contains("seed was"), "{said}");
    // What decides no byte may change.
    job.run(&["--variants", "2", "--domains", "west", "--max-batch", "1", "--max-damaged", "5"]);
}

#[test]
fn one_part_is_one_process() {
    let job = Job::of_tiles(2);
    job.run(&[]);
    let lock = fs::File::create(job.state().join("work/00000-of-00001/lock")).unwrap();
    lock.try_lock().unwrap();
    let (status, said) = job.refused(&[]);
    assert!(status == 2 && said.contains("another process works on part 0/1"), "{said}");
    drop(lock);
    job.run(&[]);
}

#[test]
fn a_disk_that_takes_no_more_ends_the_job_and_loses_nothing() {
    let job = Job::of_large_tiles(12);
    let flags = ["--seed", "3"];
    let whole = job.run_into("whole", &flags);
    // Files larger than 8 blocks of 512 bytes cannot be written; the shell's `trap` makes that an
    // error rather than a signal.
    let program = restain();
    let limited = "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\"";
    let mut shell = std::process::Command::new("sh");
    for (name, _) in program.get_envs() {
        shell.env_remove(name);
    }
    let command = job.command(&job.input(), &job.out(), &flags);
    let output = shell
        .args(["-c", limited])
        .arg(command.get_program())
        .args(command.get_args())
        .output()
        .unwrap();
    let said = text(&output.stderr);
    assert!(
        output.status.code() == Some(1) && said.contains(".v00.png cannot be written"),
        "{said}"
    );
    job.run(&flags);
    assert_same(&job.made(), &whole);
}
