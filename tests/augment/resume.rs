//! Jobs that are stopped, killed, or done in parts: what comes out is what an undisturbed job
//! gives, byte for byte.

use std::process::{Child, Command, Stdio};

use super::{Job, Tree, assert_same, text};
use crate::harness::{decode, until};

const FLAGS: [&str; 4] = ["--variants", "3", "--seed", "21"];

/// Starts a job, and waits until it has written `files` more files, or has ended.
fn begun(job: &Job, flags: &[&str], files: usize) -> Child {
    let written = job.made().len() + files;
    let mut child = job
        .command(&job.input(), &job.out(), flags)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until("files are written", || {
        child.try_wait().unwrap().is_some() || job.made().len() >= written
    });
    child
}

/// Whether each of them is a whole picture or a whole record.
fn are_whole(tree: &Tree) -> bool {
    tree.iter().all(|(name, bytes)| match name.ends_with("png") {
        true => decode(bytes).width == 128,
        false => serde_json::from_slice::<serde_json::Value>(bytes).is_ok(),
    })
}

#[test]
fn a_job_that_is_killed_again_and_again_ends_as_if_it_never_was() {
    let job = Job::of_large_tiles(60);
    let undisturbed = job.run_into("undisturbed", &FLAGS);
    let mut killed = 0;
    for files in [1, 37, 62, 80, 55] {
        let mut child = begun(&job, &FLAGS, files);
        if child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
            killed += 1;
        }
        child.wait().unwrap();
        assert!(are_whole(&job.made()), "a kill leaves no half of a file");
    }
    assert!(killed >= 3, "the job was too fast to be killed: {killed}");
    job.run(&FLAGS);
    assert_same(&job.made(), &undisturbed);
    let scratch = job.state().join("work/00000-of-00001/scratch");
    assert_eq!(std::fs::read_dir(scratch).unwrap().count(), 0);
}

#[test]
fn a_job_that_is_asked_to_stop_keeps_what_it_has_and_goes_on_later() {
    let job = Job::of_large_tiles(90);
    let undisturbed = job.run_into("undisturbed", &FLAGS);
    for signal in ["-INT", "-TERM"] {
        let child = begun(&job, &FLAGS, 20);
        let told = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        let ended = child.wait_with_output().unwrap();
        assert!(told.success() && ended.status.code() == Some(130), "{signal}: {:?}", ended.status);
        assert!(
            text(&ended.stderr).contains("run the same command to resume"),
            "{}",
            text(&ended.stderr)
        );
        let made = job.made();
        assert!(made.len() < undisturbed.len() && are_whole(&made));
        // What was in flight is finished: no tile is half done.
        assert_eq!(made.len() % 6, 0);
    }
    let said = job.run(&FLAGS);
    assert!(said.contains("were done before"), "{said}");
    assert_same(&job.made(), &undisturbed);
}

#[test]
fn the_seed_that_was_drawn_is_the_seed_that_a_job_goes_on_with() {
    let job = Job::of_tiles(6);
    job.run(&["--variants", "4"]);
    let made = job.made();
    for name in ["north/t000.v01.png", "north/t002.v03.json"] {
        std::fs::remove_file(job.out().join(name)).unwrap();
    }
    // As after a loss of power.
    std::fs::write(job.out().join("south/t001.v00.png"), "").unwrap();
    let said = job.run(&["--variants", "4"]);
    assert!(said.starts_with("3 tiles"), "{said}");
    assert_same(&job.made(), &made);
}

#[test]
fn parts_side_by_side_make_what_one_job_makes() {
    let job = Job::of_tiles(11);
    let whole = job.run_into("whole", &["--variants", "2", "--seed", "4"]);
    let part = |part: &str| {
        let mut command = job.command(
            &job.input(),
            &job.out(),
            &["--variants", "2", "--seed", "4", "--shard", part],
        );
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    for mut child in ["0/3", "1/3", "2/3"].map(part) {
        assert!(child.wait().unwrap().success());
    }
    assert_same(&job.made(), &whole);
    let done = std::fs::read_dir(job.state().join("done")).unwrap().count();
    assert_eq!(done, 3);
}

#[test]
fn parts_that_begin_together_without_a_seed_have_one() {
    let job = Job::of_tiles(6);
    let part = |part: &str| {
        let mut command = job.command(&job.input(), &job.out(), &["--shard", part]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    for mut child in ["0/2", "1/2"].map(part) {
        assert!(child.wait().unwrap().success());
    }
    let seeds: std::collections::BTreeSet<u64> = job
        .made()
        .iter()
        .filter(|(name, _)| name.ends_with("json"))
        .map(|(_, record)| {
            serde_json::from_slice::<serde_json::Value>(record).unwrap()["seed"].as_u64().unwrap()
        })
        .collect();
    assert_eq!(seeds.len(), 1);
}
