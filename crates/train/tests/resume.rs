//! A run that is stopped, killed or out of disk space resumes exactly, and a damaged state is an
//! error.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use restain_bundle::Weights;

use super::fit::{phantom, refusal, restain_train, run};
use super::monitor::{Scalars, scalars};

const FIT: &str = "fit --recipe cross --data tiles --preset tiny --batch 4 --mixes 1 --device cpu \
    --seed 5 --scalars-every 1";
const WATCHED: &str = "--validation-share .2 --validation-tiles 4 --validate-every 10 \
    --samples-every 20 --save-every 7";

fn weights(home: &Path, name: &str) -> Weights {
    Weights::read(&home.join("models").join(name).join("1/weights.safetensors")).unwrap()
}

/// What depends on the weights alone, and not on how fast the machine was.
pub(super) fn learnt(home: &Path, name: &str) -> Scalars {
    let mut scalars = scalars(&home.join(format!("runs/{name}-1")));
    scalars.retain(|tag, _| !tag.starts_with("input/"));
    scalars
}

/// Starts the program; returns once a line of its log says this.
fn until(home: &Path, arguments: &str, said: &str) -> (Child, BufReader<ChildStderr>) {
    let mut child = restain_train(home, arguments).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut text = String::new();
    while !text.contains(said) {
        assert!(log.read_line(&mut text).unwrap() > 0, "it ended before `{said}`: {text}");
    }
    (child, log)
}

/// A run stopped by Ctrl-C as soon as it has begun.
pub(super) fn stopped(home: &Path, fit: &str, name: &str) {
    let (mut child, mut log) =
        until(home, &format!("{fit} --out models/{name}/1"), &format!("state in runs/{name}-1"));
    assert!(
        Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success()
    );
    let mut rest = String::new();
    log.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest}");
    assert!(!home.join(format!("models/{name}/1")).exists());
    assert!(home.join(format!("runs/{name}-1/report.html")).exists());
}

#[test]
fn a_second_ctrl_c_ends_the_run_at_once_with_the_same_status() {
    let home = tempfile::tempdir().unwrap();
    phantom(home.path());
    // Steps that last longer than it takes to send a second signal.
    let fit =
        "fit --data tiles --preset small --device cpu --batch 64 --steps 40 --out models/twice/1";
    let (mut child, mut log) = until(home.path(), fit, "steps will take");
    let interrupt = || {
        let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
        assert!(kill.unwrap().success());
    };
    interrupt();
    let mut text = String::new();
    while !text.contains("press Ctrl-C again") {
        assert!(log.read_line(&mut text).unwrap() > 0, "{text}");
    }
    interrupt();
    log.read_to_string(&mut text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{text}");
    assert!(text.contains("stopped at once"), "{text}");
}

#[test]
fn a_run_stopped_by_ctrl_c_ends_with_the_losses_and_weights_of_one_that_was_not_in_its_own_precision()
 {
    let home = tempfile::tempdir().unwrap();
    phantom(home.path());
    let home = home.path();
    for precision in ["f32", "bf16"] {
        let fit = format!("{FIT} --steps 30 --precision {precision}");
        let (straight, interrupted) =
            (format!("straight-{precision}"), format!("stopped-{precision}"));
        run(home, &format!("{fit} --out models/{straight}/1"));
        stopped(home, &fit, &interrupted);
        run(home, &format!("resume runs/{interrupted}-1 --device cpu"));
        assert_eq!(weights(home, &interrupted), weights(home, &straight));
        assert_eq!(learnt(home, &interrupted), learnt(home, &straight));
    }
    assert_ne!(weights(home, "straight-f32"), weights(home, "straight-bf16"));
}

#[test]
fn a_run_killed_twice_has_every_step_once_and_the_same_bits() {
    let home = tempfile::tempdir().unwrap();
    phantom(home.path());
    let home = home.path();
    let fit = format!("{FIT} --steps 100 {WATCHED}");
    run(home, &format!("{fit} --out models/straight/1"));
    for arguments in
        [format!("{fit} --out models/killed/1"), "resume runs/killed-1 --device cpu".to_owned()]
    {
        let (mut child, _log) = until(home, &arguments, "validation at step");
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().code(), None, "it ended before it was killed");
    }
    run(home, "resume runs/killed-1 --device cpu");
    let (killed, straight) = (learnt(home, "killed"), learnt(home, "straight"));
    assert_eq!(
        straight["loss/total"].iter().map(|point| point.0).collect::<Vec<_>>(),
        (1..=100).collect::<Vec<_>>()
    );
    assert_eq!(straight["validation/total"].len(), 10);
    assert_eq!(killed, straight);
    assert_eq!(weights(home, "killed"), weights(home, "straight"));
}

#[test]
fn a_full_disk_ends_the_run_and_leaves_the_state_before() {
    let home = tempfile::tempdir().unwrap();
    phantom(home.path());
    let home = home.path();
    let fit = format!("{FIT} --steps 12 --save-every 5");
    run(home, &format!("{fit} --out models/straight/1"));
    stopped(home, &fit, "full");
    let state = || std::fs::read(home.join("runs/full-1/checkpoint.safetensors")).unwrap();
    let before = state();
    // No file may grow beyond 1 MB (2 MB where blocks are larger); a state is one of 3 MB.
    let limited = |arguments: &str| {
        let program = restain_train(home, arguments);
        let mut shell = Command::new("sh");
        shell
            .args(["-c", "trap '' XFSZ; ulimit -f 2000; exec \"$0\" \"$@\""])
            .arg(program.get_program())
            .args(program.get_args());
        shell
            .current_dir(home)
            .env("OMP_NUM_THREADS", "1")
            .env("RESTAIN_TRAIN_LOG", "warn")
            .output()
            .unwrap()
    };
    for (arguments, path) in [
        ("resume runs/full-1 --device cpu".to_owned(), "runs/full-1"),
        (format!("{fit} --out models/never/1"), "runs/never-1"),
    ] {
        let output = limited(&arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains(&format!("cannot write {path}/checkpoint.safetensors"))
                && said.lines().count() == 1,
            "{said}"
        );
    }
    assert_eq!(state(), before);
    let entries = std::fs::read_dir(home.join("runs/full-1")).unwrap();
    let mut left: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, ["checkpoint.safetensors", "report.html", "tensorboard"]);
    run(home, "resume runs/full-1 --device cpu");
    assert_eq!(weights(home, "full"), weights(home, "straight"));
}

#[test]
fn a_state_that_is_damaged_or_foreign_is_named_in_the_error() {
    let home = tempfile::tempdir().unwrap();
    phantom(home.path());
    let home = home.path();
    stopped(home, &format!("{FIT} --steps 40"), "good");
    let good = std::fs::read(home.join("runs/good-1/checkpoint.safetensors")).unwrap();
    let other_geometry = |from: &str, to: &str| {
        let at = good.windows(from.len()).position(|bytes| bytes == from.as_bytes()).unwrap();
        [&good[..at], to.as_bytes(), &good[at + from.len()..]].concat()
    };
    std::fs::create_dir_all(home.join("runs/bad")).unwrap();
    let half = good.len() / 2;
    for (bytes, said) in [
        (good[..half].to_vec(), format!("is damaged ({half} bytes)").as_str()),
        (good[..100].to_vec(), "is damaged"),
        (Vec::new(), "is damaged (0 bytes)"),
        (b"\x02\0\0\0\0\0\0\0{}".to_vec(), "was not written by fit"),
        (other_geometry("\\\"depth\\\":2", "\\\"depth\\\":3"), "lacks encoder.blocks.2"),
        (
            other_geometry("\\\"embed_dim\\\":96", "\\\"embed_dim\\\":48"),
            "and the geometry requires",
        ),
    ] {
        std::fs::write(home.join("runs/bad/checkpoint.safetensors"), bytes).unwrap();
        let refused = refusal(home, "resume runs/bad --device cpu");
        assert!(
            refused.contains("runs/bad/checkpoint.safetensors") && refused.contains(said),
            "{refused}"
        );
    }
    assert!(
        refusal(home, "resume runs/none --device cpu")
            .contains("runs/none/checkpoint.safetensors cannot be read")
    );
    let taken = refusal(home, &format!("{FIT} --steps 40 --out models/good/1"));
    assert!(
        taken.contains("runs/good-1 already holds the state of a run") && taken.contains("resume"),
        "{taken}"
    );
}

#[test]
fn a_loss_that_is_not_finite_ends_the_run_and_keeps_the_last_state() {
    let home = tempfile::tempdir().unwrap();
    phantom(home.path());
    let home = home.path();
    let refused =
        refusal(home, &format!("{FIT} --steps 40 --learning-rate 1e30 --out models/wild/1"));
    assert!(
        refused.contains("the loss term reconstruction is NaN at step 1, batch 1"),
        "{refused}"
    );
    assert!(refused.contains("the last saved state in runs/wild-1 stands"), "{refused}");
    let state = std::fs::read(home.join("runs/wild-1/checkpoint.safetensors")).unwrap();
    let header = String::from_utf8_lossy(&state[..8000]).into_owned();
    assert!(header.contains("\\\"step\\\":0,"), "{header}");
    assert!(!home.join("models/wild/1").exists());
    // Saved at every step, weights that have run away are not.
    let refused = refusal(
        home,
        &format!("{FIT} --steps 40 --save-every 1 --learning-rate 1e38 --out models/wilder/1"),
    );
    assert!(refused.contains("after step 1, and is not saved"), "{refused}");
}
