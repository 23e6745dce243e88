//! Decoding of PNG, JPEG, WebP and TIFF to RGB pixels, and encoding of all but TIFF.
//!
//! The bytes are untrusted: limits are checked on the header, before memory is allocated for the
//! pixels. All functions block: call them on threads that may block. What a tile is used for is not
//! known here.

mod decode;
mod encode;
#[cfg(test)]
mod hostile;
mod jpeg;
mod key;
mod limits;
mod picture;
mod tiff;
mod webdataset;
mod webp;

pub use decode::{decode, probe};
pub use encode::{EncodeError, ImageFormat, encode};
pub use key::{NoKey, TileKey};
pub use limits::{DECODER_BYTES_A_PIXEL, DecodeError, Limits, MAX_SIDE};
pub use picture::{RgbImage, resize, sheet, sheet_bytes};
pub use tiff::{Microns, MicronsTag, microns};
pub use webdataset::split_name;
