//! The real `restain-train`, from phantom tiles to a bundle.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use restain::bundle::{Bundle, Precision, Weights};

fn restain_train(home: &Path, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_restain-train"));
    let own = std::env::vars_os().map(|(name, _)| name).filter(|name| name.to_string_lossy().starts_with("RESTAIN_"));
    own.for_each(|name| _ = command.env_remove(name));
    // One thread: the machine may be busy with the other tests, and sums must not depend on it.
    command.args(arguments.split_whitespace()).current_dir(home).env("OMP_NUM_THREADS", "1").env("RUST_LOG", "info");
    command
}

fn run(home: &Path, arguments: &str) -> Output {
    let output = restain_train(home, arguments).output().unwrap();
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn phantom(home: &Path) {
    run(home, "phantom --out tiles --tiles-per-domain 6 --hospitals 3 --size 48 --seed 3");
}

const FIT: &str = "fit --data tiles --preset tiny --batch 4 --mixes 1 --steps 40 --device cpu --seed 5";

#[test]
fn phantom_tiles_become_a_bundle_with_styles_that_can_be_evaluated() {
    let home = tempfile::tempdir().unwrap();
    phantom(home.path());
    run(home.path(), &format!("{FIT} --out models/tiny/1"));
    let bundle = Bundle::open(&home.path().join("models/tiny/1")).unwrap();
    assert_eq!((bundle.manifest.name.as_str(), bundle.manifest.version.as_str()), ("tiny", "1"));
    assert_eq!(bundle.styles.domains, ["hospital_0", "hospital_1", "hospital_2"]);
    assert!(bundle.encoder_path(Precision::Int8).is_ok());
    assert_eq!(bundle.manifest.provenance["tiles_seen"], 160);

    let output = run(home.path(), "evaluate --bundle models/tiny/1 --data tiles --per-domain 3 --json report.json --record");
    assert!(String::from_utf8_lossy(&output.stdout).contains("| all pairs |"));
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(home.path().join("report.json")).unwrap()).unwrap();
    assert_eq!(report["pairs"].as_array().unwrap().len(), 6);
    assert_eq!(report["reconstruction"].as_array().unwrap().len(), 3);
    let recorded = Bundle::open(&home.path().join("models/tiny/1")).unwrap();
    assert_eq!(recorded.manifest.quality["mean"], report["mean"]);
    assert!(recorded.manifest.files.contains_key("samples.png") && recorded.manifest.files.contains_key("MODEL_CARD.md"));

    let again = restain_train(home.path(), &format!("{FIT} --out models/tiny/1")).output().unwrap();
    assert!(!again.status.success() && String::from_utf8_lossy(&again.stderr).contains("already a bundle"));
}

#[test]
fn a_run_stopped_by_ctrl_c_and_resumed_ends_with_the_weights_of_one_that_was_not() {
    let home = tempfile::tempdir().unwrap();
    phantom(home.path());
    run(home.path(), &format!("{FIT} --out models/straight/1"));

    let mut child = restain_train(home.path(), &format!("{FIT} --out models/stopped/1")).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    log.read_line(&mut line).unwrap();
    assert!(line.contains("state in runs/stopped-1"), "{line}");
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    log.read_to_string(&mut line).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{line}");
    assert!(!home.path().join("models/stopped/1").exists());

    run(home.path(), "resume runs/stopped-1 --device cpu");
    let weights = |name: &str| Weights::read(&home.path().join("models").join(name).join("1/weights.safetensors")).unwrap();
    assert_eq!(weights("stopped"), weights("straight"));
}

#[test]
fn a_folder_without_domains_is_one_domain_and_has_no_pairs() {
    let home = tempfile::tempdir().unwrap();
    run(home.path(), "phantom --out tiles --tiles-per-domain 6 --hospitals 1 --size 48 --seed 3");
    let only = "--data tiles/hospital_0/normal";
    run(home.path(), &format!("fit {only} --preset tiny --batch 4 --mixes 1 --steps 4 --device cpu --out models/one/1"));
    assert_eq!(Bundle::open(&home.path().join("models/one/1")).unwrap().styles.domains, ["default"]);
    let table = run(home.path(), &format!("evaluate --bundle models/one/1 {only} --per-domain 2")).stdout;
    let table = String::from_utf8_lossy(&table);
    assert!(table.contains("| default |") && !table.contains("all pairs"), "{table}");
}

#[test]
fn init_writes_an_untrained_bundle_that_can_be_served() {
    let home = tempfile::tempdir().unwrap();
    run(home.path(), "init --preset tiny --out models/noise/1 --styles 4");
    let bundle = Bundle::open(&home.path().join("models/noise/1")).unwrap();
    assert_eq!(bundle.styles.entries.len(), 4);
    assert_eq!(bundle.manifest.geometry.image_size(), 32);
}

#[test]
fn wrong_use_is_told_apart_from_failure() {
    let home = tempfile::tempdir().unwrap();
    let status = |arguments: &str| restain_train(home.path(), arguments).output().unwrap().status.code();
    assert_eq!(status("fit --data"), Some(2));
    assert_eq!(status("fit --data nowhere --out models/a/1 --preset tiny --device cpu"), Some(1));
    assert_eq!(status("fit --data . --out models/a/1 --embed-dim 100 --device cpu"), Some(1));
    let refused = restain_train(home.path(), "fit --data . --out models/a/1 --recipe published --match-weight 1").output().unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--match-weight is for --recipe cross"));
}

#[test]
fn a_published_checkpoint_is_imported_with_its_geometry() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/reference/tiny/checkpoint_latest.pth");
    if !file.exists() {
        eprintln!("SKIPPED: no published checkpoint at {}", file.display());
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let options = "--heads 4 --image-size 32 --mean .5,.5,.5 --std .25,.25,.25 --out models/published/1";
    run(home.path(), &format!("import {} {options} --no-int8", file.display()));
    let manifest = Bundle::open(&home.path().join("models/published/1")).unwrap().manifest;
    assert_eq!((manifest.geometry.patch_size(), manifest.geometry.rank(), manifest.geometry.depth()), (8, 2, 2));
    assert_eq!(manifest.pixel_order.to_string(), "interleaved");
}
