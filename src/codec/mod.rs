//! Image bytes to RGB pixels and back.
