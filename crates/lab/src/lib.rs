//! What is measured of a bundle: how far its variants move and what they keep, and what they do for a classifier.

pub mod card;
pub mod classifier;
pub mod downstream;
pub mod encodings;
pub mod evaluate;
pub mod phantom;
pub mod samples;
pub mod stain;
pub mod styles;
