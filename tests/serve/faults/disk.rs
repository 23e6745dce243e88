//! Disks that are full, and a bundle whose directory is taken away.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use reqwest::blocking::multipart::{Form, Part};
use serde_json::{Value, json};

use super::still_serves;
use crate::harness::{Server, install, lacks, png, tile};

pub(super) fn add(server: &Server, domain: &str) -> Option<u16> {
    let form =
        Form::new().text("domain", domain.to_owned()).part("tile", Part::bytes(png(&tile(7))));
    Some(
        server.client.post(server.url("/v1/styles")).multipart(form).send().ok()?.status().as_u16(),
    )
}

/// Domains that were added, in the order of their names.
pub(super) fn added(server: &Server) -> Vec<String> {
    let styles: Value = server.get("/v1/styles").json().unwrap();
    let domains = styles["domains"].as_array().unwrap().iter();
    domains
        .filter(|domain| domain["origin"] == "added")
        .map(|domain| domain["domain"].as_str().unwrap().to_owned())
        .collect()
}

/// A file system of its own, of one MiB, unmounted at the end.
struct Small(tempfile::TempDir);

impl Small {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
            .arg(dir.path())
            .output();
        mounted.is_ok_and(|mounted| mounted.status.success()).then_some(Self(dir))
    }

    fn fill(&self) {
        let mut file = File::create(self.0.path().join("filler")).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
    }

    fn empty(&self) {
        std::fs::remove_file(self.0.path().join("filler")).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_refuses_a_style_and_loses_none() {
    let Some(disk) = Small::mount() else {
        return lacks("right to mount a file system");
    };
    let flags = ["--state", disk.0.path().to_str().unwrap()];
    let server = Server::start(&flags);
    assert_eq!(add(&server, "night"), Some(201));
    disk.fill();
    assert_eq!(add(&server, "day"), Some(500));
    let removed = server.client.delete(server.url("/v1/styles/night")).send().unwrap();
    assert_eq!(removed.json::<Value>().unwrap()["code"], "state_not_written");
    assert_eq!(added(&server), ["night"]);
    still_serves(&server);
    disk.empty();
    assert_eq!(add(&server, "day"), Some(201), "nothing half written is in the way");
    server.signal("KILL");
    assert!(!server.wait().success());
    assert_eq!(added(&Server::start(&flags)), ["day", "night"]);
}

#[test]
fn a_log_that_cannot_be_written_stops_nobody() {
    if !Path::new("/dev/full").exists() {
        return lacks("/dev/full");
    }
    let server = Server::start_as(&["--log", "debug"], |command| {
        _ = command.stderr(File::options().write(true).open("/dev/full").unwrap())
    });
    for _ in 0..3 {
        still_serves(&server);
        assert_eq!(server.get("/v1/nothing").status(), 404);
    }
    assert_eq!(server.metric("restain_tiles_total"), 1.0);
}

#[test]
fn a_log_that_nobody_reads_stops_nobody() {
    let (reader, writer) = std::io::pipe().unwrap();
    let server = Server::start_as(&["--log", "info"], |command| _ = command.stderr(writer));
    // A pipe takes 64 KiB, and the queue before it 4,096 lines.
    for _ in 0..6000 {
        assert_eq!(server.get("/v1/nothing").status(), 404);
    }
    still_serves(&server);
    assert!(server.metric("restain_log_lines_dropped_total") > 0.0);
    server.signal("TERM");
    assert!(server.wait().success());
    drop(reader);
}

#[test]
fn a_state_directory_is_one_servers() {
    let state = tempfile::tempdir().unwrap();
    let flags = ["--state", state.path().to_str().unwrap()];
    let server = Server::start(&flags);
    let mut second = crate::harness::restain();
    second.args(["serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--models"]);
    let refused = second.arg(server.models()).args(flags).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("another server uses it"), "{said}");
}

#[test]
fn a_bundle_deleted_under_a_running_server_is_served_on() {
    let server = Server::start(&[]);
    still_serves(&server);
    std::fs::remove_dir_all(server.models().join("tiny")).unwrap();
    let serves = |number: usize| {
        assert_eq!(server.png("?domains=north", &tile(number), "image/png").status(), 200)
    };
    serves(1);
    let (status, problem) = server.post_json("/v1/models/tiny/load", &json!({}));
    assert_eq!((status, problem["code"].as_str()), (404, Some("model_not_found")), "{problem}");
    serves(2);
    let home = install(server.models(), "tiny", "1");
    std::fs::remove_file(home.join("encoder.onnx")).unwrap();
    crate::harness::edit_manifest(&home, |manifest| {
        manifest["quality"]["note"] = "half copied".into()
    });
    let (status, problem) = server.post_json("/v1/models/tiny/load", &json!({}));
    assert_eq!((status, problem["code"].as_str()), (422, Some("bundle_refused")), "{problem}");
    serves(3);
    std::fs::remove_dir_all(home).unwrap();
    install(server.models(), "tiny", "1");
    assert_eq!(server.post_json("/v1/models/tiny/load", &json!({})).0, 200);
    serves(4);
}
