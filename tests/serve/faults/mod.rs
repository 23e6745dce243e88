//! What the world does to a server: callers, disks, clocks and people. It may refuse; it may not
//! hang, lie, forget what it has acknowledged, or stop serving whoever behaves.

mod callers;
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
