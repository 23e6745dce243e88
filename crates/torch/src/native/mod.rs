//! Bindings to a little C++ for functions of libtorch that `tch` does not bind: updates of all
//! parameters in one call. Process groups are in `restain-collectives`, which reports errors the
//! same way.

pub mod adamw;

use std::ffi::{c_char, c_int};

use anyhow::{Result, bail};

/// Size of the buffer for an error message from C++.
const MESSAGE_BYTES: usize = 1024;

/// Calls a C++ function. It gets a buffer for a message and its size in bytes, and returns 0 on
/// success.
///
/// # Errors
/// If it returns another value; the error is its message.
pub fn called(call: impl FnOnce(*mut c_char, usize) -> c_int) -> Result<()> {
    let mut message = [0u8; MESSAGE_BYTES];
    if call(message.as_mut_ptr().cast(), MESSAGE_BYTES) == 0 {
        return Ok(());
    }
    let end = message.iter().position(|&byte| byte == 0).unwrap_or(MESSAGE_BYTES);
    bail!("{}", String::from_utf8_lossy(&message[..end]))
}
