//! The server over its socket.

mod augment;
mod connections;
mod encode;
mod forms;
mod keys;
mod lifecycle;
mod program;
mod refusals;
