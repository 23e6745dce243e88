//! What the operating system lets this process use.

use std::path::Path;

/// Bytes of memory: those of its control group or of the machine, whichever are fewer. None where
/// Linux has no such file.
pub(crate) fn memory() -> Option<u64> {
    let files = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let groups =
        files.iter().filter_map(|file| number(&std::fs::read_to_string(Path::new(file)).ok()?));
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| of_machine(&text));
    groups.chain(machine).min()
}

/// `max`, which is no number, stands for no limit.
fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// `MemTotal:  24530012 kB`, where a kB is 1024 bytes.
fn of_machine(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    number(line.trim().strip_suffix("kB")?)?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_linux_writes_them() {
        assert_eq!((number("536870912\n"), number("max\n")), (Some(512 << 20), None));
        assert_eq!(
            of_machine("MemTotal:       24530012 kB\nMemFree: 1 kB\n"),
            Some(24_530_012 * 1024)
        );
        assert_eq!(of_machine("MemFree: 1 kB"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_machine_has_memory() {
        assert!(memory().is_some_and(|bytes| bytes > 1 << 20));
    }
}
