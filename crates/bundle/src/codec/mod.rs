//! Image bytes to RGB pixels and back.
//!
//! The bytes come from strangers, so every limit is checked on the header, before memory is taken for the pixels.
//! All of it blocks: callers put it on threads that may. Nothing here knows what a tile is for.

mod decode;
mod encode;
#[cfg(test)]
mod hostile;
mod key;
mod picture;
mod webdataset;
mod webp;

pub use decode::{DecodeError, Limits, decode, probe};
pub use encode::{EncodeError, ImageFormat, encode};
pub use key::{NoKey, TileKey};
pub use picture::{RgbImage, resize, sheet};
pub use webdataset::split_name;
