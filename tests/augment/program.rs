//! Options, and what is told of a job.

use super::{Job, text};
use crate::harness::restain;

#[test]
fn a_flag_beats_the_environment_and_the_environment_beats_the_file() {
    let job = Job::new();
    let file = job.home.path().join("augment.toml");
    std::fs::write(
        &file,
        "variants = 2\nquality = 60\nmax-damaged = 3\nstrength = 0.3\ndomains = [\"a\", \
        \"b\"]\ndetail = \"model\"\n",
    )
    .unwrap();
    let mut command =
        job.command(&job.input(), &job.out(), &["--variants", "4", "--print-config", "--config"]);
    let output = command
        .arg(&file)
        .env("RESTAIN_AUGMENT_VARIANTS", "3")
        .env("RESTAIN_AUGMENT_QUALITY", "70")
        .output()
        .unwrap();
    let printed = text(&output.stdout);
    for line in [
        "variants = 4",
        "quality = 70",
        "max-damaged = 3",
        "strength = 0.3",
        "domains = [\"a\", \"b\"]",
        "detail = \"model\"",
        "shard = \"0/1\"",
        "threads = 1",
    ] {
        assert!(printed.lines().any(|printed| printed == line), "{line}: {printed}");
    }
    // What is printed is the same options again.
    std::fs::write(&file, &printed).unwrap();
    let again = job
        .command(&job.input(), &job.out(), &["--print-config", "--config"])
        .arg(&file)
        .output()
        .unwrap();
    assert_eq!(text(&again.stdout), printed);
    assert!(!job.out().exists());
}

#[test]
fn a_dry_run_counts_and_writes_nothing() {
    let job = Job::of_tiles(5);
    let said = job.run(&["--dry-run", "--variants", "3", "--shard", "1/2"]);
    assert_eq!(said, "folders: 5 tiles; part 1/2 has 2 of them, which become 6 variants\n");
    assert!(!job.out().exists());
}

#[test]
fn the_help_says_how_an_indexed_job_is_written() {
    let help = text(&restain().args(["augment", "--help"]).output().unwrap().stdout);
    assert!(help.contains("--shard $(JOB_COMPLETION_INDEX)/16"), "{help}");
}

#[test]
fn without_a_terminal_it_tells_in_lines_what_it_does() {
    let job = Job::of_tiles(3);
    let output = job.output(&["--log-format", "json", "--seed", "5"]);
    let lines: Vec<serde_json::Value> =
        text(&output.stderr).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(
        lines
            .iter()
            .any(|line| line["fields"]["message"] == "beginning" && line["fields"]["seed"] == 5),
        "{lines:?}"
    );
}
