//! The program `restain-train`, from phantom tiles to a bundle.

use std::path::Path;
use std::process::{Command, Output};

use restain_bundle::{Bundle, Precision, Weights};

pub(super) fn restain_train(home: &Path, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_restain-train"));
    #[expect(clippy::disallowed_methods, reason = "the program runs without the caller's options")]
    let own = std::env::vars_os()
        .map(|(name, _)| name)
        .filter(|name| name.to_string_lossy().starts_with("RESTAIN_"));
    own.for_each(|name| _ = command.env_remove(name));
    // One thread: the machine may be busy with the other tests, and sums must not depend on it.
    command
        .args(arguments.split_whitespace())
        .current_dir(home)
        .env("OMP_NUM_THREADS", "1")
        .env_remove("RUST_LOG");
    command
}

pub(super) fn run(home: &Path, arguments: &str) -> Output {
    let output = restain_train(home, arguments).output().unwrap();
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

pub(super) fn phantom(home: &Path) {
    run(home, "phantom --out tiles --tiles-per-domain 6 --hospitals 3 --size 48 --seed 3");
}

const FIT: &str = "fit --recipe cross --data tiles --preset tiny --batch 4 --mixes 1 --steps 40 \
    --device cpu --seed 5";

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

    let output = run(
        home.path(),
        "evaluate --bundle models/tiny/1 --data tiles --tiles-per-domain 3 --json report.json \
        --record",
    );
    assert!(String::from_utf8_lossy(&output.stdout).contains("| vit |"));
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(home.path().join("report.json")).unwrap()).unwrap();
    assert_eq!(report["pairs"].as_array().unwrap().len(), 6);
    assert_eq!(report["reconstruction"].as_array().unwrap().len(), 3);
    let recorded = Bundle::open(&home.path().join("models/tiny/1")).unwrap();
    assert_eq!(recorded.manifest.quality["mean"], report["mean"]);
    assert!(
        recorded.manifest.files.contains_key("samples.png")
            && recorded.manifest.files.contains_key("MODEL_CARD.md")
    );

    let again = restain_train(home.path(), &format!("{FIT} --out models/tiny/1")).output().unwrap();
    assert!(
        !again.status.success()
            && String::from_utf8_lossy(&again.stderr).contains("already a bundle")
    );
}

/// Runs the program, which must reject its options with status 2, or fail with status 1, in one
/// line. Returns the line.
pub(super) fn refusal(home: &Path, arguments: &str) -> String {
    let output = restain_train(home, arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(matches!(output.status.code(), Some(1 | 2)), "{arguments}: {said}");
    let lines: Vec<&str> = said.lines().filter(|line| !line.contains("INFO")).collect();
    assert!(
        matches!(lines[..], [line] if line.starts_with("restain-train: ")),
        "{arguments}: {said}"
    );
    lines[0].to_owned()
}

#[test]
fn a_warm_start_has_the_weights_and_the_normalisation_of_its_bundle_and_says_so() {
    let home = tempfile::tempdir().unwrap();
    phantom(home.path());
    let few = "fit --recipe cross --data tiles --batch 4 --mixes 1 --device cpu --steps 2";
    run(
        home.path(),
        &format!(
            "{few} --preset tiny --out models/cold/1 --mean .5,.6,.7 --std .2,.2,.2 --pixel-order \
            interleaved"
        ),
    );
    // At this rate no weight moves.
    run(
        home.path(),
        &format!("{few} --from models/cold/1 --out models/warm/1 --learning-rate 1e-30"),
    );
    let [cold, warm] = ["cold", "warm"]
        .map(|name| Bundle::open(&home.path().join("models").join(name).join("1")).unwrap());
    let weights =
        |bundle: &Bundle| Weights::read(&bundle.dir.join("weights.safetensors")).unwrap().tensors;
    for ((name, before), after) in weights(&cold).iter().zip(weights(&warm).values()) {
        let moved =
            before.data.iter().zip(&after.data).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(moved < 1e-12, "{name} moved by {moved}");
    }
    assert_eq!(
        (warm.manifest.normalisation, warm.manifest.pixel_order),
        (cold.manifest.normalisation, cold.manifest.pixel_order)
    );
    let digest = &cold.manifest.files["weights.safetensors"];
    let origin = serde_json::json!({ "name": "cold", "version": "1", "weights_sha256": digest });
    assert_eq!(warm.manifest.provenance["started_from"], origin);
    assert!(cold.manifest.provenance["started_from"].is_null());

    // A style bias can be added, and begins as nothing: one more than the model had.
    run(
        home.path(),
        &format!(
            "{few} --from models/cold/1 --out models/more/1 --learning-rate 1e-30 --style-bias"
        ),
    );
    let more = Bundle::open(&home.path().join("models/more/1")).unwrap();
    let (had, has) = (cold.manifest.geometry, more.manifest.geometry);
    assert_eq!((had.style_len() + 3 * had.patch_size(), had.half()), (has.style_len(), has.half()));
    let added: Vec<_> =
        weights(&more).into_iter().filter(|(name, _)| name.starts_with("style_")).collect();
    assert_eq!(added.len(), 2);
    assert!(added.iter().all(|(_, tensor)| tensor.data.iter().all(|value| value.abs() < 1e-12)));
    // And trains, from the model that has it.
    run(
        home.path(),
        &format!("{few} --from models/more/1 --out models/moved/1 --learning-rate 1e-3"),
    );
    let moved = Bundle::open(&home.path().join("models/moved/1")).unwrap();
    assert_eq!(moved.manifest.geometry, has);
    assert!(weights(&moved)["style_bias.weight"].data.iter().any(|value| value.abs() > 1e-6));

    for (contradiction, said) in [
        ("--preset small", "geometry"),
        ("--depth 3", "\"depth\":3"),
        (
            "--pixel-order planar",
            "planar was asked for, and --from cold/1 was trained with interleaved",
        ),
        ("--mean .5,.5,.5 --std .2,.2,.2", "--mean and --std"),
        ("--mean .5,.6,.7", "--mean is given without --std"),
    ] {
        let refused = refusal(
            home.path(),
            &format!("{few} --from models/cold/1 --out models/other/1 {contradiction}"),
        );
        assert!(refused.contains(said), "{refused}");
    }
    assert!(
        refusal(home.path(), &format!("{few} --from tiles --out models/other/1"))
            .contains("--from tiles")
    );
}

#[test]
fn a_folder_without_domains_is_one_domain_and_has_no_pairs() {
    let home = tempfile::tempdir().unwrap();
    run(home.path(), "phantom --out tiles --tiles-per-domain 6 --hospitals 1 --size 48 --seed 3");
    let only = "--data tiles/hospital_0/normal";
    run(
        home.path(),
        &format!(
            "fit --recipe cross {only} --preset tiny --batch 4 --mixes 1 --steps 4 --device cpu \
            --out models/one/1"
        ),
    );
    assert_eq!(
        Bundle::open(&home.path().join("models/one/1")).unwrap().styles.domains,
        ["default"]
    );
    let table =
        run(home.path(), &format!("evaluate --bundle models/one/1 {only} --tiles-per-domain 2"))
            .stdout;
    let table = String::from_utf8_lossy(&table);
    assert!(table.contains("| default |") && !table.contains("| vit |"), "{table}");
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
fn wrong_use_ends_with_status_2_and_failure_with_1() {
    let home = tempfile::tempdir().unwrap();
    let status =
        |arguments: &str| restain_train(home.path(), arguments).output().unwrap().status.code();
    assert_eq!(status("fit --data"), Some(2));
    assert_eq!(status("fit --data nowhere --out models/a/1 --preset tiny --device cpu"), Some(1));
    assert_eq!(status("fit --data . --out models/a/1 --embed-dim 100 --device cpu"), Some(1));
    let refused = restain_train(
        home.path(),
        "fit --data . --out models/a/1 --recipe published --match-weight 1",
    )
    .output()
    .unwrap();
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("--match-weight is for --recipe cross")
    );
}

#[test]
fn a_published_checkpoint_is_imported_with_its_geometry() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/fixtures/published/checkpoint_latest.pth");
    let home = tempfile::tempdir().unwrap();
    let options =
        "--num-heads 4 --image-size 32 --mean .5,.5,.5 --std .25,.25,.25 --out models/published/1";
    run(home.path(), &format!("import {} {options} --no-int8", file.display()));
    let manifest = Bundle::open(&home.path().join("models/published/1")).unwrap().manifest;
    assert_eq!(
        (manifest.geometry.patch_size(), manifest.geometry.rank(), manifest.geometry.depth()),
        (8, 2, 2)
    );
    assert_eq!(manifest.pixel_order.to_string(), "interleaved");
}
