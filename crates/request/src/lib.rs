//! One schema of a request: every field's name, type, range, default and meaning, in one table.
//!
//! A request reaches restain as JSON, as a query string, as parts of a form, as parameters of the
//! Open Inference Protocol, as a gRPC message, or as flags. Each of them turns what it holds into
//! pairs of a name and a [`Value`] and hands them to one [`Reader`], which gives a [`Request`]
//! whose fields are of their types and in their ranges. So a field has one meaning and one verdict,
//! whichever way it came, and an error names it as the caller spelt it.
//!
//! To add a field, add an entry to `table` and use the field of [`Request`] that it makes. A gRPC
//! message and a flag are typed elsewhere; the entry names them.
//!
//! Not here: tiles and other bytes; limits of a server, such as its largest number of variants;
//! whether a model has the style that is named.

mod choices;
mod descriptor;
mod error;
mod kinds;
mod read;
pub mod schema;
mod table;
#[cfg(test)]
mod tests;
mod value;

pub use choices::{Choice, Detail, Method, Placement, Priority, Share, StyleSource};
pub use descriptor::{Field, Kind, MAX_SAFE_INTEGER, Operation, Spelling, Wire};
pub use error::{Error, Fault};
pub use kinds::{BlendPart, BlendSource};
pub use read::{Reader, read, read_flag};
pub use table::{FIELDS, Request, field};
pub use value::Value;

/// The kinds of picture that variants are written as.
pub use restain_bundle::codec::ImageFormat;
