//! The program around the server: its options, what it prints, what it refuses.

use crate::harness::{fixture, models, restain, text};

#[test]
fn openapi_yaml_is_what_the_program_prints() {
    let printed = restain().arg("openapi").output().unwrap();
    let committed =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.yaml")).unwrap();
    assert!(
        text(&printed.stdout) == committed,
        "out of date: run `cargo run -- openapi > openapi.yaml`"
    );
    for kind in restain::serve::error::ErrorKind::ALL {
        let code = kind.row().code;
        assert!(
            committed.contains(&format!("- {code}\n")) && committed.contains(&format!("{code}:")),
            "{code} is not documented"
        );
    }
}

#[test]
fn a_flag_beats_the_environment_and_the_environment_beats_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("restain.toml");
    std::fs::write(&file, "max-batch = 2\nmax-tiles = 2\nmax-variants = 2\n").unwrap();
    let output = restain()
        .args(["serve", "--print-config", "--max-batch", "4", "--config"])
        .arg(&file)
        .env("RESTAIN_MAX_BATCH", "3")
        .env("RESTAIN_MAX_TILES", "3")
        .env("RESTAIN_FORBID_DOMAIN", "a,b")
        .output()
        .unwrap();
    let printed = text(&output.stdout);
    for line in [
        "forbid-domain = [\"a\", \"b\"]",
        "max-batch = 4",
        "max-tiles = 3",
        "max-variants = 2",
        "max-queue-tiles = 1024",
        "http = \"127.0.0.1:8080\"",
    ] {
        assert!(printed.lines().any(|printed| printed == line), "{line}: {printed}");
    }
}

#[test]
fn wrong_use_ends_with_two_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("restain.toml");
    std::fs::write(&file, "max-bach = 2\n").unwrap();
    for (args, said) in [
        (vec!["serve", "--max-bach", "2"], "--max-batch"),
        (vec!["serve", "--request-timeout", "30"], "30s"),
        (vec!["serve", "--max-tiles", "5000"], "max-queue-tiles"),
        (vec!["serve", "--config", file.to_str().unwrap()], "max-bach"),
    ] {
        let output = restain().args(&args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(text(&output.stderr).contains(said), "{args:?}: {}", text(&output.stderr));
    }
}

#[test]
fn check_tells_a_whole_bundle_from_a_broken_one() {
    let output = restain().arg("check").arg(fixture()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    assert!(
        said.contains("tiny/1 is whole") && said.contains("fp32 on cpu: CPUExecutionProvider "),
        "{said}"
    );

    let models = models();
    let broken = models.path().join("tiny/1");
    let styles = broken.join("styles.safetensors");
    let mut bytes = std::fs::read(&styles).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&styles, bytes).unwrap();
    let output = restain().arg("check").arg(&broken).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("styles.safetensors"), "{}", text(&output.stderr));
    let output = restain()
        .args(["serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--models"])
        .arg(models.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("styles.safetensors"), "{}", text(&output.stderr));
}

#[test]
fn a_server_without_models_says_where_they_belong() {
    let empty = tempfile::tempdir().unwrap();
    let output = restain()
        .args(["serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--models"])
        .arg(empty.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("NAME/VERSION/bundle.json"), "{}", text(&output.stderr));
}
