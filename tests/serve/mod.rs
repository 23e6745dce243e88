//! The server over its socket.

mod augment;
mod bundles;
mod forms;
mod lifecycle;
mod program;
mod refusals;
mod styles;
