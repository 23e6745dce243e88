//! Anatomy × characteristics → pixels.
