//! The style bank at run time: a bundle's own styles, and those of domains that were added while
//! the server runs.
//!
//! A [`Bank`] belongs to one model. A request takes one [`Offer`] of it, a snapshot that stays as
//! it is, so that adding and removing never touch what is under way. Added domains belong to the
//! bundle's digest they were encoded with: the [`Store`] keeps them by it, in a directory or an
//! object store when it has one, and gives them back when that bundle is loaded again.
//!
//! Beside the styles lie the contexts of slides: what some tiles of a slide say of its own stain,
//! from which the change to another stain starts. No style is drawn from them, so that a slide that
//! is added changes no request that does not name it.
//!
//! A variant is a function of bundle, tile, seed and index. Therefore what was added is used only
//! where a request names it; what a request without names gives never changes. Which style a
//! variant has is not chosen here.

mod added;
mod bank;
mod file;
mod offer;
mod store;

pub use bank::Bank;
pub use offer::{DomainOrigin, Offer};
pub use store::{StateError, Store};

/// Most domains added to one bundle, so that neither its memory nor the metrics grow without end.
pub const MAX_ADDED_DOMAINS: usize = 64;

/// Most slides of one bundle: some 6 MB at 384 numbers each.
pub const MAX_SLIDES: usize = 4096;
