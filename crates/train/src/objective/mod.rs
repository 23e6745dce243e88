//! What a step minimises: the terms of a loss, and the recipes that draw what the terms need.

pub mod losses;
pub mod recipe;
