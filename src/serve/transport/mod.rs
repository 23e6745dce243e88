//! How requests come in and answers go out: connections, TLS, and the protocols spoken over them,
//! side by side. A transport translates, and decides nothing about tiles.

mod base64_text;
mod bounds;
pub(crate) mod errors;
pub mod grpc;
pub mod http;
mod inflate;
mod json;
pub mod listen;
pub mod oip;
mod places;
pub mod read_body;
pub mod rpc;
pub mod tls;
