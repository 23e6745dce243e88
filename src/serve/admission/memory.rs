//! The memory that the process really has, as the operating system counts it. What is lent is an
//! account of what work needs; where that account is wrong, this is what keeps the process alive.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::serve::runtime::buffers::ask_for;

/// How long a reading is good for.
const FRESH: Duration = Duration::from_millis(20);
/// New work is refused from this share of the limit on, in percent.
const SHORT: u64 = 90;

/// Less than this is not asked for beforehand.
const ASKED_FOR: u64 = 1 << 20;

/// Whether the operating system lets the process have so many bytes more, as it does not under
/// `ulimit -v` or without overcommit. Of the allocations that follow, most would abort the process
/// where this says no; what others take at the same moment it cannot know.
pub(super) fn is_there(bytes: u64) -> bool {
    bytes < ASKED_FOR || usize::try_from(bytes).is_ok_and(|bytes| ask_for(bytes).is_ok())
}

/// The limit of resident memory, and how much there is.
pub(super) struct MemoryGuard {
    limit: u64,
    read: fn() -> Option<u64>,
    last: Mutex<Option<(Instant, u64)>>,
}

impl MemoryGuard {
    /// Of this process.
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, read: resident, last: Mutex::default() }
    }

    /// Bytes in use and the limit, when no new work should be taken.
    pub(super) fn is_short(&self) -> Option<(u64, u64)> {
        let used = self.used()?;
        (used >= self.limit / 100 * SHORT).then_some((used, self.limit))
    }

    fn used(&self) -> Option<u64> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, used)) = last.filter(|(at, _)| at.elapsed() < FRESH) {
            return Some(used);
        }
        let used = (self.read)()?;
        *last = Some((Instant::now(), used));
        Some(used)
    }
}

/// Resident memory; None where Linux has no such file.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_nine_tenths_of_the_limit_on_memory_is_short() {
        let of = |used: fn() -> Option<u64>| MemoryGuard { read: used, ..MemoryGuard::new(1000) };
        assert_eq!(of(|| Some(899)).is_short(), None);
        assert_eq!(of(|| Some(900)).is_short(), Some((900, 1000)));
        assert_eq!(of(|| None).is_short(), None);
    }

    #[test]
    fn more_than_there_can_be_is_not_there() {
        assert!(is_there(0) && is_there(64 << 20));
        assert!(!is_there(1 << 55) && !is_there(u64::MAX));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_memory() {
        assert!(resident().is_some_and(|bytes| bytes > 1 << 20));
    }
}
