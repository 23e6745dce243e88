//! The end of the process while its threads work. `std::process::exit` runs the destructors of
//! libtorch, which still computes on other threads: the program would crash (status 139), and a
//! caller would not learn that it was interrupted.

#![expect(unsafe_code, reason = "the standard library has no exit without destructors")]

/// Ends the process with this status, at once. Nothing that is buffered is written.
pub(crate) fn at_once(status: i32) -> ! {
    // SAFETY: it ends the process, and touches none of its memory.
    unsafe { libc::_exit(status) }
}
