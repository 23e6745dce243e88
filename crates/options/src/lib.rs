//! The options of all programs, read in one way.
//!
//! A program describes its options once, as clap arguments. [`Program`] gives each option an
//! environment variable and each command `--config` and `--print-config`, and resolves every option
//! in one order: flag, environment variable, TOML file, preset, default. All five are read by the
//! option's own value parser, so that ranges and messages are the same in each.
//!
//! Not here: what the options mean, and which of them contradict each other. Each program checks
//! that itself.

mod complete;
mod file;
mod log;
mod message;
mod print;
mod program;
mod range;
mod shell;
mod units;

pub use file::FileError;
pub use log::{LogArgs, LogFormat};
pub use program::{Build, Check, Ended, Parsed, Preset, Program};
pub use range::{above, at_least, within};
pub use shell::{CompletionsArgs, ManArgs, Shell};
pub use units::{ByteSize, Span};
