//! What a caller gets, before a transport gives it a form.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use utoipa::ToSchema;

use super::plan::Output;
use super::request::{Detail, Method};
use crate::serve::admission::Permit;
use crate::serve::batch::TileEncoding;
use crate::serve::models::Model;
use restain_bundle::codec::TileKey;
use restain_method::PixelOrder;
use restain_method::geometry::Geometry;
use restain_method::normalise::Normalisation;
use restain_method::windows::Windows;

/// The variants of every tile, in the order of the request.
pub struct Answer {
    pub about: About,
    pub output: Output,
    pub tiles: Vec<AnsweredTile>,
    /// The pixels of all variants, tile by tile; each `[height, width, 3] u8` of its tile.
    pub pixels: Bytes,
    pub timings: Timings,
    /// Held until the answer has been sent: its memory counts until then.
    pub permits: Vec<Arc<Permit>>,
}

/// What all variants of an answer have in common.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct About {
    pub model: String,
    pub version: String,
    /// The bundle's digest: what, with a tile's key, the seed, the index and the request's fields,
    /// makes a variant again.
    pub bundle: String,
    /// As asked for, or as drawn.
    #[schema(maximum = 9_007_199_254_740_991_u64)]
    pub seed: u64,
    pub method: Method,
    /// Where the detail of the variants comes from; null for the methods that work on pixels.
    #[schema(required)]
    pub detail: Option<Detail>,
    /// Size of the tiles' pixels, µm, where the request named it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mpp: Option<f32>,
}

pub struct AnsweredTile {
    pub key: TileKey,
    pub width: usize,
    pub height: usize,
    /// PSNR of the tile's own reconstruction at the model's size, dB; nothing when the method works
    /// on pixels.
    pub fidelity: Option<f32>,
    /// In how many windows the model saw it; 0 when the method works on pixels.
    pub windows: usize,
    /// Why it is unlike what the model was trained on, where it is.
    pub warning: Option<String>,
    /// The slide that its change of stain started from, where one was named.
    pub slide: Option<String>,
    /// The tile's own pixels; nothing when only its key came.
    pub original: Option<Bytes>,
    pub variants: Vec<MadeVariant>,
}

pub struct MadeVariant {
    pub origin: Origin,
    /// Its place in the pixels of the answer.
    pub pixels: Range<usize>,
}

/// Where one variant's look comes from.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Origin {
    /// Place among the variants of its tile.
    pub index: usize,
    /// The bank's id of the style; `a/3*0.25+b/7*0.75` is a blend of two, with their shares;
    /// `reference/0#17` is patch 17 of the first reference; null when the method takes none.
    #[schema(required)]
    pub style: Option<String>,
    /// The style's domain, when it is the bank's and, of a blend, the only one.
    #[schema(required)]
    pub domain: Option<String>,
    /// The strength that it drew, where the request named `strength_from`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strength: Option<f32>,
    /// The share of its values that the change of stain drove to 0 or 255: those at these limits,
    /// less the tile's own, of all. Null with `detail=model`, whose variants are no change of the
    /// tile.
    #[schema(required, minimum = 0, maximum = 1)]
    pub clipped: Option<f32>,
}

/// What all variants of a tile have in common.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AboutTile {
    /// BLAKE3 of the tile's size and decoded pixels.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    pub tile_key: String,
    /// PSNR of the tile's own reconstruction by the model at its size, dB, at most 99: low where
    /// the tile is unlike what the model was trained on. Null for the methods that work on pixels.
    #[schema(required)]
    pub fidelity: Option<f32>,
    /// The number of overlapping windows in which the model saw the tile, which is larger than one
    /// of them; left out where it saw the tile in one.
    #[serde(skip_serializing_if = "is_one")]
    #[schema(required = false)]
    pub windows: usize,
    /// Why the tile is unlike what the model was trained on, by its fidelity or its magnification;
    /// left out where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// The slide that the change of stain started from, where the request named one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slide: Option<String>,
}

/// Everything that says how one variant came to be.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Provenance {
    #[serde(flatten)]
    pub about: About,
    #[serde(flatten)]
    pub tile: AboutTile,
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

impl Timings {
    /// As the header `Server-Timing`; `total` is what the caller waited for so far.
    pub fn server_timing(&self, total: Duration) -> String {
        let ms = |span: Duration| span.as_secs_f64() * 1e3;
        let Self { queue, encode, synthesise } = *self;
        format!(
            "queue;dur={:.3}, encode;dur={:.3}, synthesise;dur={:.3}, total;dur={:.3}",
            ms(queue),
            ms(encode),
            ms(synthesise),
            ms(total)
        )
    }
}

impl AnsweredTile {
    /// What answers say of it.
    pub fn about(&self) -> AboutTile {
        AboutTile {
            tile_key: self.key.to_string(),
            fidelity: self.fidelity(),
            windows: self.windows,
            warning: self.warning.clone(),
            slide: self.slide.clone(),
        }
    }

    /// PSNR of its own reconstruction as answers have it, to a hundredth of a dB.
    pub fn fidelity(&self) -> Option<f32> {
        self.fidelity.map(hundredths)
    }
}

/// Whether a count of windows goes without saying.
fn is_one(windows: &usize) -> bool {
    *windows <= 1
}

/// Rounds to two places.
pub fn hundredths(value: f32) -> f32 {
    (value * 100.0).round() / 100.0
}

/// Rounds to four places.
pub(super) fn ten_thousandths(value: f32) -> f32 {
    (value * 1e4).round() / 1e4
}

impl Answer {
    pub fn provenance(&self, tile: &AnsweredTile, variant: &MadeVariant) -> Provenance {
        Provenance { about: self.about.clone(), tile: tile.about(), origin: variant.origin.clone() }
    }

    /// Every variant's, tile by tile.
    pub fn provenances(&self) -> Vec<Provenance> {
        let each = |tile| move |variant| self.provenance(tile, variant);
        self.tiles.iter().flat_map(|tile| tile.variants.iter().map(each(tile))).collect()
    }

    /// `[n, K, height, width, 3]`: what `pixels` is, when all variants have one size; nothing when
    /// they do not.
    pub fn tensor_shape(&self) -> Option<[usize; 5]> {
        let size = |tile: &AnsweredTile| (tile.height, tile.width);
        let first = &self.tiles[0];
        let (height, width) = size(first);
        let is_one = self.tiles.iter().all(|tile| size(tile) == (height, width));
        is_one.then_some([self.tiles.len(), first.variants.len(), height, width, 3])
    }

    /// `[height, width, 3] u8` of the variant's tile.
    pub fn pixels_of(&self, variant: &MadeVariant) -> &[u8] {
        &self.pixels[variant.pixels.clone()]
    }
}

/// The encodings of every tile, for a caller who makes variants himself.
pub struct EncodeAnswer {
    pub about: EncoderAbout,
    /// What the encodings are for: those for the bare product are of one window a tile.
    pub detail: Detail,
    pub tiles: Vec<EncodedTile>,
    pub timings: Timings,
    pub permits: Vec<Arc<Permit>>,
}

/// A tile's encoding, and what else decides its variants.
pub struct EncodedTile {
    pub key: TileKey,
    pub encoding: Arc<TileEncoding>,
    /// Whether its variants take a style: one without a stain keeps its own look.
    pub takes_style: bool,
    /// The mean characteristics `[S]` of its patches with a stain, from which the change of a tile
    /// in several windows starts; nothing where no patch has one.
    pub stain: Option<Vec<f32>>,
}

impl EncodedTile {
    /// The stain `[S]`, NaN where there is none.
    pub fn stain_or_nan(&self, length: usize) -> Vec<f32> {
        self.stain.clone().unwrap_or_else(|| vec![f32::NAN; length])
    }
}

/// Where the windows of a tile lie on its canvas, the tile as the model sees it, in pixels. A tile
/// in one window has one that is the whole canvas.
#[derive(Serialize, ToSchema)]
pub struct WindowGrid {
    /// Sides of the canvas.
    pub height: usize,
    pub width: usize,
    /// The first line of each row of windows.
    pub rows: Vec<usize>,
    /// The first column of each column of windows. Encodings go along the rows.
    pub columns: Vec<usize>,
}

impl WindowGrid {
    pub fn of(windows: &Windows) -> Self {
        let ((width, height), (rows, columns)) = (windows.canvas(), windows.starts());
        Self { height, width, rows: rows.to_vec(), columns: columns.to_vec() }
    }

    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).expect("lists of numbers")
    }
}

/// What the product needs to know of the model.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct EncoderAbout {
    pub model: String,
    pub version: String,
    /// The bundle's digest.
    pub bundle: String,
    #[schema(schema_with = geometry)]
    pub geometry: Geometry,
    #[schema(value_type = String, pattern = "^(planar|interleaved)$")]
    pub pixel_order: PixelOrder,
    /// `mean` and `std` of pixels in 0..1.
    #[schema(value_type = Object)]
    pub normalisation: Normalisation,
    /// Tiles of more than this times the model's size along a side are seen in several windows when
    /// their variants are carried.
    pub window: f64,
}

/// Described where models are listed.
fn geometry() -> utoipa::openapi::Ref {
    utoipa::openapi::Ref::from_schema_name("Geometry")
}

impl EncoderAbout {
    pub fn of(model: &Model, window: f64) -> Self {
        let manifest = &model.bundle.manifest;
        Self {
            model: model.name().to_owned(),
            version: model.version().to_owned(),
            bundle: model.bundle.digest.clone(),
            geometry: manifest.geometry,
            pixel_order: manifest.pixel_order,
            normalisation: manifest.normalisation,
            window,
        }
    }
}
