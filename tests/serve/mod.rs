//! The server over its socket.

mod augment;
mod forms;
mod lifecycle;
mod program;
mod refusals;
