//! What the world does to a server: callers, disks, clocks and people. It may refuse; it may not
//! hang, lie, forget what it has acknowledged, or stop serving whoever behaves.

mod bodies;
mod callers;
mod calls;
mod clock;
mod crowd;
mod disk;
mod kills;
mod slow;

use crate::harness::{Server, tile};

/// Whoever behaves is served.
fn still_serves(server: &Server) {
    assert_eq!(server.png("?seed=1", &tile(0), "image/png").status(), 200);
}

fn descriptors(server: &Server) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", server.id())).unwrap().count()
}

/// A line of what the operating system says of the server's memory, in MiB.
fn memory_mib(server: &Server, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

fn resident_mib(server: &Server) -> u64 {
    memory_mib(server, "VmRSS:")
}

/// The most since [`forget_peak`].
fn peak_mib(server: &Server) -> u64 {
    memory_mib(server, "VmHWM:")
}

fn forget_peak(server: &Server) {
    std::fs::write(format!("/proc/{}/clear_refs", server.id()), "5").unwrap();
}
