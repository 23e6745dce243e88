//! Procedural H&E tiles with labels, from several hospitals with different stains and scanners.
//!
//! They replace a data set for trying the whole path from training to serving, and for tests that
//! need the ground truth. Tumour and normal tiles differ in the size, number and outline of their
//! nuclei; hospitals differ in dyes and scanner. The two are independent, which real data never
//! guarantees.
//!
//! This is not a model of histology: a figure measured on these tiles says nothing about real ones.
//!
//! A tile depends on `(seed, hospital, index)` and its size alone, so that tiles can be made in any
//! order, on any number of threads. Bytes are reproducible on one machine; on another, `exp` and
//! `cos` may round differently.

mod cells;
mod cli;
mod dice;
mod hospital;
mod noise;
mod scanner;
mod section;
mod terrain;
mod write;

pub use cli::{Args, run};

use dice::Dice;
use hospital::Hospital;
use section::Section;

/// Most tiles of a hospital, and most hospitals: the two numbers share one 64-bit stream number.
pub(crate) const MAX_TILES: u64 = (1 << 40) - 1;
pub(crate) const MAX_HOSPITALS: usize = 1 << 20;
/// Possible sides of a tile, pixels.
pub(crate) const SIDES: std::ops::RangeInclusive<usize> = 8..=2048;

/// What all tiles of one phantom have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PhantomSpec {
    pub seed: u64,
    /// Side of a tile in pixels of about half a micrometre.
    pub side: usize,
}

/// The class of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Label {
    Normal,
    Tumour,
}

impl Label {
    /// Returns the class of tile `index`. Classes alternate, so that any even number of tiles is
    /// balanced.
    pub(crate) fn of(index: u64) -> Self {
        if index.is_multiple_of(2) { Self::Normal } else { Self::Tumour }
    }

    /// Returns the name of its folder.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Tumour => "tumour",
        }
    }
}

/// One tile with its class.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tile {
    /// u8 `[side, side, 3]`, row-major.
    pub pixels: Vec<u8>,
    pub label: Label,
}

/// Draws tile `index` of a hospital.
pub(crate) fn tile(spec: &PhantomSpec, hospital: usize, index: u64) -> Tile {
    let label = Label::of(index);
    let mut dice = Dice::new(spec.seed, stream(hospital, index));
    let section = Section::cut(label, spec.side + 2 * scanner::PADDING, &mut dice);
    let pixels = scanner::scan(&section, &Hospital::new(spec.seed, hospital), &mut dice);
    Tile { pixels, label }
}

/// Returns the stream number of a tile; index [`MAX_TILES`] is the hospital's own.
fn stream(hospital: usize, index: u64) -> u64 {
    (hospital as u64) << 40 | index
}

#[cfg(test)]
mod tests;
