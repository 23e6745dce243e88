//! What libtorch has and `tch` lacks, by way of a little C++: updates of all parameters at once. Process groups are in
//! `restain-collectives`, which reports errors the same way.

pub mod adamw;

use std::ffi::{c_char, c_int};

use anyhow::{Result, bail};

/// Room for C++'s error.
const MESSAGE_BYTES: usize = 1024;

/// Calls C++ and turns its message into an error of one line.
pub fn called(call: impl FnOnce(*mut c_char, usize) -> c_int) -> Result<()> {
    let mut message = [0u8; MESSAGE_BYTES];
    if call(message.as_mut_ptr().cast(), MESSAGE_BYTES) == 0 {
        return Ok(());
    }
    let end = message.iter().position(|&byte| byte == 0).unwrap_or(MESSAGE_BYTES);
    bail!("{}", String::from_utf8_lossy(&message[..end]))
}
