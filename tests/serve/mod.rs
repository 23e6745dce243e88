//! The server over its socket.

mod augment;
mod forms;
mod lifecycle;
mod load;
mod program;
mod refusals;
