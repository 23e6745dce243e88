//! What a caller gets, before a transport gives it a form.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use super::choose::TileKey;
use super::plan::Output;
use super::request::Method;
use crate::codec::RgbImage;
use crate::serve::admission::Permit;

/// The variants of every tile, in the order of the request.
pub struct Answer {
    pub about: About,
    pub output: Output,
    pub tiles: Vec<AnsweredTile>,
    pub timings: Timings,
    /// Held until the answer has been sent: its memory counts until then.
    pub permits: Vec<Arc<Permit>>,
}

/// What all variants of an answer have in common.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct About {
    pub model: String,
    pub version: String,
    /// The bundle's digest: what, with a tile's key, the seed and the index, makes a variant again.
    pub bundle: String,
    pub seed: u64,
    pub method: Method,
}

pub struct AnsweredTile {
    pub key: TileKey,
    pub picture: Arc<RgbImage>,
    pub variants: Vec<MadeVariant>,
}

pub struct MadeVariant {
    pub picture: RgbImage,
    pub origin: Origin,
}

/// Where one variant's look comes from.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Origin {
    /// Place among the variants of its tile.
    pub index: usize,
    /// The bank's id of the style; `a/3*0.25+b/7*0.75` is a blend of two, with their shares; `reference/0#17` is patch 17
    /// of the first reference; null when the method takes none.
    pub style: Option<String>,
    /// The style's domain, when it is the bank's and, of a blend, the only one.
    pub domain: Option<String>,
}

/// Everything that says how one variant came to be.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Provenance {
    #[serde(flatten)]
    pub about: About,
    /// BLAKE3 of the tile's size and decoded pixels.
    pub tile_key: String,
    #[serde(flatten)]
    pub origin: Origin,
}

/// Where the time went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timings {
    pub queue: Duration,
    pub encode: Duration,
    pub synthesise: Duration,
}

impl Answer {
    pub fn provenance(&self, tile: &AnsweredTile, variant: &MadeVariant) -> Provenance {
        Provenance { about: self.about.clone(), tile_key: tile.key.to_string(), origin: variant.origin.clone() }
    }

    /// Every variant's, tile by tile.
    pub fn provenances(&self) -> Vec<Provenance> {
        let each = |tile| move |variant| self.provenance(tile, variant);
        self.tiles.iter().flat_map(|tile| tile.variants.iter().map(each(tile))).collect()
    }

    pub fn pictures(&self) -> usize {
        self.tiles.iter().map(|tile| tile.variants.len()).sum()
    }
}
