//! File descriptors: each connection is one, and the number that a process may have is often set
//! for programs with a few.

#![expect(unsafe_code, reason = "the limit is asked of libc")]

/// Descriptors that are no connections: models, caches, logs, the listeners, and what those who
/// answer have open.
const OTHERS: u64 = 256;

/// Raises the soft limit of this process as far as `connections` need it and its hard limit lets
/// it. Where that is not far enough, it logs a warning: past the limit callers wait to be accepted,
/// as they do past `max-connections`.
pub(crate) fn raise(connections: usize) {
    let wanted = (connections as u64).saturating_add(OTHERS);
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls only read or write the struct that they are given.
    let has = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0;
    if !has || limit.rlim_cur >= wanted {
        return;
    }
    limit.rlim_cur = wanted.min(limit.rlim_max);
    // SAFETY: as above.
    let raised = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } == 0;
    if !raised || limit.rlim_cur < wanted {
        tracing::warn!(
            limit = limit.rlim_max,
            wanted,
            "fewer file descriptors than max-connections needs: raise the limit (ulimit -n)"
        );
    }
}
