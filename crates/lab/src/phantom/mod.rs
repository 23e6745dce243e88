//! Procedural H&E tiles with labels, from several hospitals that look unlike each other.
//!
//! For everyone without a data set at hand: to try the whole way from training to serving, and for tests that need
//! to know the truth. Tumour and normal differ in their nuclei's size, number and outline; hospitals differ in dye and
//! scanner. The two are independent, which real data never guarantees.
//!
//! Not a model of histology: a figure measured on these tiles says nothing about real ones.
//!
//! A tile depends on `(seed, hospital, index)` and its size alone, so tiles can be made in any order, on any number
//! of threads. Bytes are the same on one machine; another's `exp` and `cos` may round the last bit otherwise.

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
pub use hospital::Hospital;
pub use write::{FileFormat, Layout, WriteSpec, write};

use dice::Dice;
use section::Section;

/// Tiles a hospital can have, and hospitals there can be: the two numbers share one 64-bit stream.
pub(crate) const MAX_TILES: u64 = (1 << 40) - 1;
pub(crate) const MAX_HOSPITALS: usize = 1 << 20;
/// Sides a tile can have, in pixels.
pub(crate) const SIDES: std::ops::RangeInclusive<usize> = 8..=2048;

/// What all tiles of one phantom have in common.
#[derive(Clone, Copy, Debug)]
pub struct PhantomSpec {
    pub seed: u64,
    /// Side of a tile in pixels of about half a micrometre.
    pub side: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    Normal,
    Tumour,
}

impl Label {
    /// Tiles alternate, so that any even number of them is balanced.
    pub fn of(index: u64) -> Self {
        if index.is_multiple_of(2) { Self::Normal } else { Self::Tumour }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Tumour => "tumour",
        }
    }
}

/// One tile, u8 `[side, side, 3]` row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Tile {
    pub pixels: Vec<u8>,
    pub label: Label,
}

/// Tile `index` of a hospital.
pub fn tile(spec: &PhantomSpec, hospital: usize, index: u64) -> Tile {
    let label = Label::of(index);
    let mut dice = Dice::new(spec.seed, stream(hospital, index));
    let section = Section::cut(label, spec.side + 2 * scanner::PADDING, &mut dice);
    let pixels = scanner::scan(&section, &Hospital::new(spec.seed, hospital), &mut dice);
    Tile { pixels, label }
}

/// The stream of random numbers of one tile; index [`MAX_TILES`] is the hospital's own.
fn stream(hospital: usize, index: u64) -> u64 {
    (hospital as u64) << 40 | index
}

#[cfg(test)]
mod tests;
