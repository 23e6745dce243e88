//! `restain load` against the real server: what it reports is what happened.

mod fakes;

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::Output;
use std::sync::{Arc, Mutex};

use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Value, json};

use crate::harness::{SAFETENSORS, Server, png, restain, tile, until};

fn load(server: &Server, flags: &[&str]) -> Output {
    restain().args(["load", &server.url("")]).args(flags).output().unwrap()
}

/// Runs it to its end and reads the JSON from standard output.
fn report(server: &Server, flags: &[&str]) -> Value {
    let output = load(server, &[flags, &["--json", "-"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no count"))
}

/// Answers of one status, by the server's own count.
fn served(server: &Server, code: u16) -> u64 {
    let wanted =
        format!(r#"restain_requests_total{{code="{code}",method="POST",route="/v1/augment"}} "#);
    let text = server.get("/metrics").text().unwrap();
    text.lines().find_map(|line| line.strip_prefix(&wanted)?.parse().ok()).unwrap_or(0)
}

fn sum(report: &Value, field: &str) -> u64 {
    report["seconds"].as_array().unwrap().iter().map(|second| count(&second[field])).sum()
}

#[test]
fn a_closed_loop_reports_what_the_server_counted() {
    let server = Server::start(&[]);
    let report = report(
        &server,
        &["--requests", "25", "--tiles-per-request", "1,3", "--variants", "2", "--check"],
    );
    assert_eq!(count(&report["requests"]["ok"]), 25);
    assert_eq!((served(&server, 200), report["errors"].as_object().unwrap().len()), (25, 0));
    assert_eq!(sum(&report, "variants") as f64, server.metric("restain_variants_total"));
    assert_eq!(report["model"]["name"], "tiny");
    assert!(report["server_timing_ms"]["total"].as_f64().unwrap() > 0.0);
}

#[test]
fn the_sums_of_the_report_agree() {
    let server = Server::start(&[]);
    let report =
        report(&server, &["--requests", "30", "--tiles-per-request", "2", "--concurrency", "3"]);
    let requests = &report["requests"];
    assert_eq!(count(&requests["begun"]), count(&requests["ok"]) + count(&requests["errored"]));
    assert_eq!(
        (sum(&report, "completed"), sum(&report, "errored"), sum(&report, "tiles")),
        (30, 0, 60)
    );
    let binned: u64 =
        report["distribution"].as_array().unwrap().iter().map(|bin| count(&bin["count"])).sum();
    assert_eq!((binned, count(&report["latency_ms"]["count"])), (30, 30));
    let of = |field: &str| {
        report["throughput"][field].as_f64().unwrap() * report["window_s"].as_f64().unwrap()
    };
    assert!(
        (of("requests_per_s") - 30.0).abs() < 1e-6 && (of("tiles_per_s") - 60.0).abs() < 1e-6,
        "{report}"
    );
    let latency = |field: &str| report["latency_ms"][field].as_f64().unwrap();
    let rising = ["p50", "p90", "p95", "p99", "p99.9", "max"].map(latency);
    assert!(rising.is_sorted(), "{rising:?}");
}

#[test]
fn an_open_loop_begins_as_many_as_its_rate_says() {
    let server = Server::start(&[]);
    let flags = [
        "--rate",
        "40",
        "--arrivals",
        "constant",
        "--duration",
        "1500ms",
        "--warmup",
        "500ms",
        "--tiles-per-request",
        "1",
    ];
    let report = report(&server, &flags);
    // Whatever the server does: 20 arrivals in the warm-up, and these after it.
    assert_eq!((count(&report["requests"]["begun"]), report["window_s"].as_f64()), (60, Some(1.5)));
}

#[test]
fn what_would_be_too_many_at_once_is_counted_and_not_sent() {
    let server = Server::start(&[]);
    // All are due at once, as good as, and only one may be under way.
    let flags = [
        "--rate",
        "1e6",
        "--arrivals",
        "constant",
        "--requests",
        "400",
        "--max-outstanding",
        "1",
        "--tiles-per-request",
        "1",
    ];
    let report = report(&server, &flags);
    let outstanding = count(&report["errors"]["outstanding"]["count"]);
    let ok = count(&report["requests"]["ok"]);
    assert!(outstanding > 0 && ok > 0, "{report}");
    assert_eq!((ok + outstanding, ok), (400, served(&server, 200)));
}

#[test]
fn every_form_in_and_out_is_answered_with_what_was_asked_for() {
    let server = Server::start(&[]);
    for form in ["safetensors", "multipart", "json", "image"] {
        let report = report(
            &server,
            &[
                "--requests",
                "4",
                "--body-format",
                form,
                "--tiles-per-request",
                "1",
                "--check",
                "--unique",
            ],
        );
        assert_eq!(count(&report["requests"]["ok"]), 4, "{form}: {}", report["errors"]);
    }
    for accept in ["safetensors", "multipart", "tar", "json"] {
        let report = report(
            &server,
            &[
                "--requests",
                "4",
                "--accept",
                accept,
                "--tiles-per-request",
                "3",
                "--variants",
                "2",
                "--check",
            ],
        );
        assert_eq!(count(&report["requests"]["ok"]), 4, "{accept}: {}", report["errors"]);
    }
    for accept in ["png", "jpeg", "webp"] {
        let report = report(
            &server,
            &[
                "--requests",
                "4",
                "--accept",
                accept,
                "--tile-size",
                "48",
                "--check",
                "--method",
                "identity",
            ],
        );
        assert_eq!(count(&report["requests"]["ok"]), 4, "{accept}: {}", report["errors"]);
    }
}

#[test]
fn tiles_come_from_files_and_a_run_can_be_made_again() {
    let home = tempfile::tempdir().unwrap();
    for number in 0..3 {
        std::fs::write(home.path().join(format!("{number}.png")), png(&tile(number))).unwrap();
    }
    let server = Server::start(&[]);
    let flags = [
        "--requests",
        "5",
        "--tiles-per-request",
        "1,2",
        "--variants",
        "1,2",
        "--seed",
        "3",
        "--tiles",
        home.path().to_str().unwrap(),
    ];
    let (first, second) = (report(&server, &flags), report(&server, &flags));
    assert_eq!(count(&first["tiles_drawn_from"]), 3);
    assert_eq!(
        (sum(&first, "tiles"), sum(&first, "variants")),
        (sum(&second, "tiles"), sum(&second, "variants"))
    );
}

#[test]
fn errors_are_counted_by_the_code_that_the_server_gave() {
    let server = Server::start(&[]);
    let flags = ["--requests", "6", "--variants", "65", "--tiles-per-request", "1"];
    let report = report(&server, &flags);
    assert_eq!(count(&report["errors"]["variants_out_of_range"]["count"]), 6);
    assert!(report["errors"]["variants_out_of_range"]["first"].as_str().unwrap().contains("65"));
    assert_eq!((count(&report["requests"]["ok"]), served(&server, 422)), (0, 6));
    assert!(report["latency_ms"]["p50"].is_null(), "nothing was answered");
    assert_eq!(load(&server, &[&flags[..], &["--fail-on-error"]].concat()).status.code(), Some(1));
}

#[test]
fn a_flag_beats_the_environment_and_the_environment_beats_the_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        file.path(),
        "requests = 5\nconcurrency = 5\nvariants = [5, 6]\nunique = true\n",
    )
    .unwrap();
    let mut command = restain();
    command
        .args(["load", "127.0.0.1:1", "--print-config", "--requests", "3", "--config"])
        .arg(file.path());
    let output = command
        .env("RESTAIN_LOAD_REQUESTS", "4")
        .env("RESTAIN_LOAD_CONCURRENCY", "4")
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    for line in [
        "requests = 3",
        "concurrency = 4",
        "variants = [5, 6]",
        "unique = true",
        "# warmup is not set",
        "body-format = \"safetensors\"",
    ] {
        assert!(
            printed.lines().any(|printed| printed == line),
            "{line}: {printed}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn the_page_holds_its_plots_and_asks_nobody() {
    let server = Server::start(&[]);
    let page = tempfile::NamedTempFile::new().unwrap();
    let output = load(
        &server,
        &["--requests", "5", "--tiles-per-request", "1", "--html", page.path().to_str().unwrap()],
    );
    let summary = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        summary.contains("requests/s") && summary.contains("5 ok") && summary.contains("p99.9"),
        "{summary}"
    );
    let page = std::fs::read_to_string(page.path()).unwrap();
    assert_eq!(page.matches("<svg").count(), 3);
    assert!(
        !page.contains("{{") && !page.contains("src=") && !page.contains("href="),
        "one file, and no request to anyone"
    );
}

#[test]
fn ctrl_c_reports_what_was_measured_so_far() {
    let server = Server::start(&[]);
    let report = tempfile::NamedTempFile::new().unwrap();
    let mut command = restain();
    command
        .args([
            "load",
            &server.url(""),
            "--duration",
            "60m",
            "--warmup",
            "0s",
            "--tiles-per-request",
            "1",
            "--json",
        ])
        .arg(report.path());
    let mut child = command
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    until("some requests are answered", || served(&server, 200) > 20);
    let done = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(done.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let report: Value = serde_json::from_slice(&std::fs::read(report.path()).unwrap()).unwrap();
    assert_eq!(report["interrupted"], true);
    assert!(
        count(&report["requests"]["ok"]) > 0 && report["window_s"].as_f64().unwrap() < 3_600.0,
        "{report}"
    );
}

#[test]
fn wrong_use_ends_with_two_and_what_is_not_there_with_one() {
    let ended = |args: &[&str]| {
        let output = restain().arg("load").args(args).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for (args, said) in [
        (vec!["127.0.0.1:1", "--send", "key", "--unique"], "--unique"),
        (vec!["127.0.0.1:1", "--duration", "30"], "30s"),
        (vec!["127.0.0.1:1", "--ca-certs", "roots.pem"], "https://"),
        (vec!["127.0.0.1:1", "--config", "/nowhere/at/all.toml"], "/nowhere/at/all.toml"),
        (
            vec!["127.0.0.1:1", "--body-format", "image", "--tiles-per-request", "4"],
            "--tiles-per-request 1",
        ),
        (vec![], "<URL>"),
    ] {
        let (code, stderr) = ended(&args);
        assert!(code == Some(2) && stderr.contains(said), "{args:?}: {stderr}");
    }
    // A port that was free a moment ago.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (code, stderr) = ended(&[&free]);
    assert!(
        code == Some(1) && stderr.lines().count() == 1 && stderr.contains("cannot connect to"),
        "{stderr}"
    );

    let server = Server::start(&[]);
    let (code, stderr) = ended(&[&server.url(""), "--model", "large"]);
    assert!(code == Some(1) && stderr.contains("--model large"), "{stderr}");
}
