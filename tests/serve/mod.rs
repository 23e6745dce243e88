//! The server over its socket.

mod augment;
mod bundles;
mod connections;
mod encode;
mod forms;
mod grpc;
mod grpc_streams;
mod keys;
mod lifecycle;
mod load;
mod program;
mod refusals;
mod styles;
