//! What a caller may ask for: the request JSON, the same on every transport. Names and types only; whether it can be
//! done is [`super::plan`]'s question.

mod described;
mod whole;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use crate::serve::batch::Priority;
use restain_bundle::codec::ImageFormat;
pub use whole::whole;

/// What is wanted of the tiles. Every field may be left out; unknown ones are refused.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AugmentRequest {
    /// NAME or NAME/VERSION; a name alone is its highest version. Left out: the server's default.
    #[schema(pattern = r"^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)?$", example = "demo")]
    pub model: Option<String>,
    /// Variants of each tile, 1 when left out. The server sets the most, 64 unless `--max-variants` says otherwise.
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991_u64, default = 1)]
    #[serde(deserialize_with = "whole")]
    pub variants: Option<u64>,
    /// The same seed gives the same bytes. Drawn, and named in the provenance, when left out.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_u64)]
    #[serde(deserialize_with = "whole")]
    pub seed: Option<u64>,
    pub method: Method,
    pub style: StyleRequest,
    /// 0 keeps the tile's own look, 1 (when left out) takes the style whole.
    #[schema(minimum = 0, maximum = 1, default = 1.0)]
    pub strength: Option<f32>,
    /// Resize a tile of another size to the model's and its variants back, instead of refusing it.
    pub resize: bool,
    pub output: OutputRequest,
    pub priority: Priority,
    /// Less than the server's own limit, when given.
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991_u64)]
    #[serde(deserialize_with = "whole")]
    pub timeout_ms: Option<u64>,
}

/// What is wanted of tiles whose encodings the caller takes home. Every field may be left out; unknown ones are refused.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EncodeTilesRequest {
    /// NAME or NAME/VERSION; a name alone is its highest version. Left out: the server's default.
    #[schema(pattern = r"^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)?$", example = "demo")]
    pub model: Option<String>,
    /// Resize a tile of another size to the model's, instead of refusing it.
    pub resize: bool,
    pub priority: Priority,
    /// Less than the server's own limit, when given.
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991_u64)]
    #[serde(deserialize_with = "whole")]
    pub timeout_ms: Option<u64>,
}

/// How a variant is made: the trained model, or one of the baselines that need no training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// The model's anatomy of the tile with another style.
    #[default]
    Vit,
    /// Each channel's mean and standard deviation become those of the tile that the style was taken from.
    ColorMatch,
    /// A random change of each stain's density; takes no style.
    HedJitter,
    /// The tile itself.
    Identity,
}

/// Where styles come from and how they are put on.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StyleRequest {
    pub from: StyleSource,
    /// Only styles of these domains of the bank. Domains that were added to the bundle are used only when they are named
    /// here, in `ids` or in `blend`, so that what other requests give never changes.
    pub domains: Option<Vec<String>>,
    /// No styles of these domains of the bank.
    pub exclude_domains: Option<Vec<String>>,
    /// Only these styles of the bank, by the ids that `GET /v1/styles` lists.
    pub ids: Option<Vec<String>>,
    /// A mixture of styles of the bank, at most 16, instead of one of them. It goes with none of `domains`,
    /// `exclude_domains` and `ids`.
    #[schema(min_items = 1, max_items = 16)]
    pub blend: Option<Vec<BlendPart>>,
    pub placement: Placement,
    pub share: Share,
}

/// A style of a blend: either one of the bank by its `id`, or one of a `domain` of the bank that each variant draws.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlendPart {
    pub id: Option<String>,
    pub domain: Option<String>,
    /// Above 0. Its share is this over the sum of all.
    pub weight: f32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum StyleSource {
    /// The bundle's style bank: a domain with equal chances, then one of its styles.
    #[default]
    Bank,
    /// Another tile of the same request.
    Batch,
    /// One of the reference tiles of the request.
    Reference,
    /// The tile itself.
    Own,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Placement {
    /// The characteristics of one patch, for every patch.
    #[default]
    Broadcast,
    /// The characteristics of each patch of the style tile, for the patch in the same place. Needs a style tile.
    Aligned,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Share {
    /// Each tile has its own choice of styles.
    #[default]
    Tile,
    /// The n-th variants of all tiles have one style.
    Request,
}

/// How pictures are written.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OutputRequest {
    /// png when left out.
    #[schema(schema_with = described::format)]
    pub format: Option<ImageFormat>,
    /// Of JPEG and WebP, 90 when left out; at 100 WebP is lossless.
    #[schema(minimum = 1, maximum = 100, default = 90)]
    #[serde(deserialize_with = "whole")]
    pub quality: Option<u32>,
    /// One picture: a row for each tile, the original and then its variants.
    pub sheet: bool,
}
