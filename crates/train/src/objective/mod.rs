//! What training minimises: the terms of the losses, and the recipes that draw what a step needs
//! for them.

pub mod losses;
pub mod paired;
pub mod recipe;
pub mod scene;
