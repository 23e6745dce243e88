//! The paired recipe: exact targets for a change of stain.
//!
//! Two different tiles Xa and Xb of one field, and one physical transform g of stain and scanner,
//! applied to both. The anatomy of Xa with one token of g(Xb) must give g(Xa). The target is exact
//! to the pixel, and glass stays glass. Because Xa and Xb show different tissue, a style cannot be
//! the statistics of a tile. `pairs` draws crops and transforms from the data set, `step` computes
//! the loss, `truth` measures the error to the exact target. The transforms themselves are in
//! `restain_lab::transform`.

mod base;
mod glass;
pub mod options;
pub(crate) mod pairs;
mod slide;
pub(crate) mod step;
pub(crate) mod truth;
pub(crate) mod units;
