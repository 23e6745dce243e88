//! The models that are served: bundles of the models directory, verified, opened and warmed.
//!
//! The [`Registry`] holds them as one immutable snapshot, [`Models`]. A request takes its [`Model`]
//! out of the snapshot and keeps it to its end, so that loading, unloading and switching the
//! default are a swap that nothing under way notices. Each model has its own queue and its own
//! workers, so that one never waits for another's; they end, and the encoder's memory is given
//! back, when the last request lets go.
//!
//! Bundles come from the models directory and from nowhere else. Where `--models` is a URL that
//! directory is a copy of what lies there: see `bundles`.

mod bundles;
mod encoders;
mod found;
mod load;
mod poll;
mod registry;
mod served;
mod statistics;
mod version;

use std::fmt;
use std::sync::Arc;

pub use bundles::Bundles;
pub use found::FindError;
pub use load::{LoadContext, LoadError};
pub use registry::{LoadAsk, Registry, State};
pub use served::Models;
pub use statistics::{Asked, Phases, Statistics};

use super::batch::Batch;
use super::cache::Scope;
use super::styles::Bank;
use restain_bundle::{Bundle, Precision};
use restain_method::synth::Synthesiser;

/// One bundle, ready to work.
pub struct Model {
    /// Without its styles, which are in `styles`.
    pub bundle: Bundle,
    pub styles: Bank,
    pub precision: Precision,
    pub synthesiser: Synthesiser,
    pub batch: Batch,
    /// Its part of the encodings cache.
    pub scope: Scope,
    pub provider: &'static str,
    pub statistics: Arc<Statistics>,
}

/// Which model: NAME/VERSION.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub name: String,
    pub version: String,
}

impl Model {
    pub fn name(&self) -> &str {
        &self.bundle.manifest.name
    }

    pub fn version(&self) -> &str {
        &self.bundle.manifest.version
    }

    /// Whether the bundle has styles of its own that may be used: what a request without any option
    /// needs.
    pub fn has_styles(&self) -> bool {
        self.styles.offer().own_styles() > 0
    }

    pub fn key(&self) -> Key {
        Key { name: self.name().to_owned(), version: self.version().to_owned() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.version)
    }
}
