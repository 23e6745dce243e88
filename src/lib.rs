//! restain: domain-shifted histopathology tiles on tap.
//!
//! One package, two programs. `restain` (feature `serve`) encodes tiles with a trained Vision Transformer and
//! answers with variants in another stain; `restain-train` (feature `train`) makes the bundles that it serves.
//! ARCHITECTURE.md has the floor plan; imports point down only:
//!
//! ```text
//! serve::{http} → serve::pipeline → serve::batch ┐
//! train::run → train::{trainer, export, …} → …   ├→ engine, codec, bundle → method
//! ```

#[cfg(feature = "serve")]
pub mod augment;
pub mod bundle;
pub mod codec;
pub mod engine;
#[cfg(all(feature = "serve", any(test, feature = "fuzz")))]
#[doc(hidden)]
pub mod fuzz;
#[cfg(feature = "serve")]
pub mod health;
#[cfg(feature = "serve")]
pub mod load;
pub mod method;
#[cfg(any(feature = "serve", feature = "train"))]
pub mod options_file;
#[cfg(feature = "serve")]
pub mod serve;
#[cfg(feature = "train")]
pub mod train;
#[cfg(feature = "serve")]
pub mod units;
