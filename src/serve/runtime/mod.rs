//! What the process takes from the operating system and gives back: CPU threads, memory,
//! descriptors, signals, its stages of life, and files that are read again when they change.

pub mod buffers;
pub mod cpu;
pub mod descriptors;
pub mod lifecycle;
pub mod limits;
pub mod log_lines;
pub mod panics;
pub mod reload;
pub(crate) mod rounds;
pub mod signal;
