//! The server over its socket.

mod access;
mod augment;
mod bundles;
mod carry;
mod collector;
mod connections;
mod devices;
mod encode;
mod faults;
mod fields;
mod forms;
mod grpc;
mod grpc_streams;
mod keys;
mod lifecycle;
mod load;
mod outside;
mod program;
mod publishing;
mod refusals;
mod slides;
mod spellings;
mod stain;
mod styles;
mod tenants;
mod traces;
