//! Panics, which are bugs: caught where a request's work ends, logged and counted here, where each
//! passes once.

use std::panic::PanicHookInfo;
use std::sync::LazyLock;

use prometheus::IntCounter;

/// Of the whole process.
pub static COUNT: LazyLock<IntCounter> = LazyLock::new(|| {
    IntCounter::new("panics_total", "Panics, each a bug.").expect("a name of letters, and a help")
});

/// From now on a panic is a line of the log like every other, and counted. For programs, which own
/// the process.
pub fn log_and_count() {
    std::panic::set_hook(Box::new(|info: &PanicHookInfo<'_>| {
        COUNT.inc();
        let (error, at) = (info.payload_as_str(), info.location().map(tracing::field::display));
        // Where the thread works for a request the line stands under it, as every other.
        tracing::error!(error, at, backtrace = backtrace(), "a thread panicked");
    }));
}

/// If RUST_BACKTRACE asks for one.
fn backtrace() -> Option<String> {
    use std::backtrace::{Backtrace, BacktraceStatus};
    let trace = Backtrace::capture();
    (trace.status() == BacktraceStatus::Captured).then(|| trace.to_string())
}
