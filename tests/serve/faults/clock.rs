//! A wall clock that jumps. Deadlines, silence and waiting are measured by the clock that never
//! does; the time of day stands in logs and in what the last request's time is told as.

use std::path::PathBuf;

use serde_json::Value;

use super::still_serves;
use crate::harness::{Server, lacks, png, tile};

/// Debian's libfaketime, where it is installed.
fn faketime() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten();
    folders
        .map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"))
        .find(|path| path.exists())
}

/// When the server thinks that it was last asked, in milliseconds since 1970.
fn last_asked(server: &Server) -> i64 {
    let told: Value = server.get("/v2/models/tiny/stats").json().unwrap();
    let last = &told["model_stats"][0]["last_inference"];
    last.as_i64().or_else(|| last.as_str()?.parse().ok()).unwrap_or_else(|| panic!("{told}"))
}

#[test]
fn a_clock_that_jumps_years_changes_no_answer() {
    const YEAR_MS: i64 = 365 * 24 * 3600 * 1000;
    let Some(library) = faketime() else {
        return lacks("libfaketime");
    };
    let dir = tempfile::tempdir().unwrap();
    let offset = dir.path().join("offset");
    let jump = |to: &str| std::fs::write(&offset, to).unwrap();
    jump("+0d");
    let server =
        Server::start_as(&["--idle-timeout", "30s", "--request-timeout", "60s"], |command| {
            command.env("LD_PRELOAD", &library).env("FAKETIME_TIMESTAMP_FILE", &offset);
            command
                .env("FAKETIME_NO_CACHE", "1")
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
                .env("DONT_FAKE_MONOTONIC", "1");
        });
    let asked = || server.png("?seed=1&timeout_ms=50000", &tile(0), "image/png").bytes().unwrap();
    let first = asked();
    let now = last_asked(&server);
    for (to, years) in [("+3650d", 10), ("-3650d", -10), ("+0d", 0)] {
        jump(to);
        assert!(asked() == first);
        let jumped = last_asked(&server) - now;
        assert!((jumped - years * YEAR_MS).abs() < YEAR_MS / 10, "{to}: {jumped} ms");
        let sent = server
            .post("")
            .header("content-type", "image/png")
            .body(png(&tile(years.unsigned_abs() as usize + 1)))
            .send()
            .unwrap();
        assert_eq!(sent.status(), 200, "and a new tile is encoded");
    }
    still_serves(&server);
}
