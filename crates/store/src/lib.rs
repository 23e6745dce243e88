//! Places that are not on this machine, by URL: `s3://bucket/path`, `gs://…`, `az://…`, and
//! `https://…`.
//!
//! A [`Place`] is a path or a [`Location`], as an option gives it; a [`Remote`] is a location that
//! can be read and written. Credentials are those that each cloud's own tools read from the
//! environment. All calls block: those who call them are threads that may wait, and what waits for
//! the network runs on one thread of this crate's own. A request that fails is tried again for
//! seconds, not minutes; what fails then is a [`StoreError`] of one line.
//!
//! Not here: what the objects mean, which those know who keep them.

#![warn(missing_docs)]

mod copies;
mod error;
mod open;
mod place;
mod reader;
mod remote;
mod runtime;

pub use copies::{Copied, copy_below};
pub use error::StoreError;
pub use place::{Location, Place, PlaceError, user_cache};
pub use reader::Reader;
pub use remote::{Newer, Object, Remote, Version};
