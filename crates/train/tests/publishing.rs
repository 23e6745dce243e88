//! A bundle is complete or not there, whenever the program that makes it is killed.

use std::path::{Path, PathBuf};
use std::process::Child;

use restain_bundle::{Bundle, BundleError, MANIFEST_FILE, STYLES_FILE};

use super::fit::{phantom, refusal, restain_train, run};

const FIT: &str = "fit --recipe cross --data tiles --preset tiny --batch 4 --mixes 1 --device cpu \
    --seed 5 --steps";
const PLACE: &str = "models/tiny/1";
/// A file of the temporary directory that each step of the way to a bundle writes, in their order.
const STEPS: [&str; 5] =
    ["weights.safetensors", "encoder.onnx", "encoder.int8.onnx", STYLES_FILE, "MODEL_CARD.md"];

/// The names in the folder that the bundle is written into.
fn names(home: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(home.join("models/tiny")).into_iter().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The bundle, if there is one; half of one is a failure, and so is one without styles, samples or
/// a card.
fn bundle(home: &Path) -> Option<Bundle> {
    let bundle = match Bundle::open(&home.join(PLACE)) {
        Err(BundleError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            return None;
        }
        opened => opened.unwrap(),
    };
    assert_eq!(bundle.styles.domains, ["hospital_0", "hospital_1", "hospital_2"]);
    for file in STEPS.iter().chain(&["samples.png"]) {
        assert!(bundle.manifest.files.contains_key(*file), "no {file}");
    }
    Some(bundle)
}

/// Kills the program as soon as `seen`, or lets it end before that; what is in place is checked all
/// the while.
fn kill_when(home: &Path, arguments: &str, seen: impl Fn() -> bool) {
    let mut child: Child = restain_train(home, arguments).spawn().unwrap();
    while !seen() && child.try_wait().unwrap().is_none() {
        bundle(home);
    }
    // One that has ended is not there to be killed.
    let _ = child.kill();
    child.wait().unwrap();
    bundle(home);
}

#[test]
fn a_bundle_is_complete_or_not_there_whenever_fit_is_killed_and_resume_finishes_it() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    phantom(home);
    let staged = |file: &str| -> Option<PathBuf> {
        let staging = names(home).into_iter().find(|name| name.starts_with(".restain-"))?;
        Some(home.join("models/tiny").join(staging).join(file)).filter(|path| path.exists())
    };
    let (fit, resume) = (format!("{FIT} 4 --out {PLACE}"), "resume runs/tiny-1 --device cpu");
    for (arguments, step) in
        std::iter::once(fit.as_str()).chain(std::iter::repeat(resume)).zip(STEPS)
    {
        // What the last kill left has this file too: it is removed first, by the program that comes
        // next.
        let left = staged("weights.safetensors");
        let is_new =
            |path: PathBuf| left.as_ref().is_none_or(|left| path.parent() != left.parent());
        kill_when(home, arguments, || staged(step).is_some_and(is_new));
        assert!(home.join("runs/tiny-1/checkpoint.safetensors").exists());
    }
    kill_when(home, resume, || home.join(PLACE).join(MANIFEST_FILE).exists());

    let finished = run(home, resume);
    let said = String::from_utf8_lossy(&finished.stderr).into_owned();
    let first = bundle(home).expect("resume has finished it");
    assert_eq!(first.manifest.provenance["steps"], 4);
    // Finished by the last one that was killed, or by the one after it: a further one has nothing
    // left to do.
    let again = run(home, resume);
    let nothing = format!("has written {PLACE}: nothing is left to do");
    assert!(String::from_utf8_lossy(&again.stderr).contains(&nothing), "{said}");
    assert!(said.contains(&nothing) || said.contains("the bundle is not written yet"), "{said}");
    assert_eq!(bundle(home).unwrap().digest, first.digest);
    assert_eq!(names(home), ["1"], "what was killed left nothing behind");

    // The bundle of another run is in the way.
    run(home, &format!("{FIT} 5 --out models/other/1 --state runs/other"));
    std::fs::remove_dir_all(home.join(PLACE)).unwrap();
    std::fs::rename(home.join("models/other/1"), home.join(PLACE)).unwrap();
    assert!(refusal(home, resume).contains("is already a bundle"));
}

#[test]
fn styles_are_replaced_in_one_step_and_a_kill_leaves_the_old_ones_or_the_new() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    phantom(home);
    run(home, &format!("{FIT} 4 --out {PLACE}"));
    let before = bundle(home).unwrap();
    let styles =
        format!("styles --bundle {PLACE} --data tiles --styles-per-domain 2 --style-tiles 1");
    let is_staged = || names(home).iter().any(|name| name.starts_with(".restain-"));
    kill_when(home, &styles, is_staged);
    let after_kill = bundle(home).expect("a bundle is in place at every moment");
    assert!([before.styles.entries.len(), 6].contains(&after_kill.styles.entries.len()));
    run(home, &styles);
    assert_eq!(bundle(home).unwrap().styles.entries.len(), 6);
    assert_eq!(names(home), ["1"]);
}
