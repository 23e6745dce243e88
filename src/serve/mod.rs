//! The server: tiles in over HTTP and gRPC, variants out.
//!
//! A request passes `transport` and `middleware` → `admission` → `pipeline` → `cache` → `batch` →
//! the engine; each calls only those after it. [`run`] is the life of a server: it takes its
//! [`Config`], its listeners and a future that ends it.

pub mod access;
pub mod admission;
mod app;
pub mod batch;
pub mod cache;
pub mod caller;
pub mod check;
pub mod config;
pub mod embedded;
pub mod error;
pub mod metrics;
pub mod middleware;
pub mod models;
pub mod pipeline;
pub mod runtime;
mod server;
pub mod services;
pub mod styles;
mod trace;
pub mod transport;

pub use config::Config;
pub use server::{Listeners, ServeError, run};
