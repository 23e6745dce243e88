//! The sizes of a model, validated once, so that no other module checks them again.
//!
//! Symbols follow the paper: tile side H, channels C, patch side P, patches N = (H/P)², embedding
//! E, half h = E/2, rank L = h/(C·P). S is the length of a style: h, and C·P more with a style
//! bias. The weights' shapes follow from these sizes; they are in `restain-bundle`.

use serde::{Deserialize, Serialize};

/// Channels of a tile. Tiles are RGB throughout.
pub const CHANNELS: usize = 3;

/// Upper bounds, far above any published model, so that a hostile manifest cannot ask for absurd
/// allocations.
const MAX_IMAGE_SIZE: usize = 2048;
const MAX_EMBED_DIM: usize = 8192;
const MAX_DEPTH: usize = 256;

/// The sizes as they stand in `bundle.json`, not yet checked.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GeometrySpec {
    /// Tile side H in pixels.
    pub image_size: usize,
    /// Colour channels C, always 3.
    pub in_channels: usize,
    /// Patch side P in pixels.
    pub patch_size: usize,
    /// Embedding dimension E.
    pub embed_dim: usize,
    /// Transformer blocks.
    pub depth: usize,
    /// Attention heads.
    pub num_heads: usize,
    /// Hidden width of the MLP divided by E.
    pub mlp_ratio: f64,
    /// Whether a style also has a constant for every channel and column of a patch, C·P numbers
    /// more: a column of ones in the anatomy. The published model has none.
    #[serde(default)]
    pub style_bias: bool,
}

/// A rule that a [`GeometrySpec`] breaks.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GeometryError {
    /// A size is 0, or above its upper bound.
    #[error("{field} is {value}, and must be from 1 to {max}")]
    OutOfRange {
        /// The field of [`GeometrySpec`].
        field: &'static str,
        /// Its value.
        value: usize,
        /// The largest value allowed.
        max: usize,
    },
    /// Tiles are RGB.
    #[error("in_channels is {0}: tiles are RGB, so it must be 3")]
    NotRgb(usize),
    /// P does not divide H.
    #[error("image_size {image_size} is not a multiple of patch_size {patch_size}")]
    #[expect(missing_docs, reason = "fields of GeometrySpec")]
    PatchesDoNotTile { image_size: usize, patch_size: usize },
    /// The number of heads does not divide E.
    #[error("embed_dim {embed_dim} is not a multiple of num_heads {num_heads}")]
    #[expect(missing_docs, reason = "fields of GeometrySpec")]
    HeadsDoNotDivide { embed_dim: usize, num_heads: usize },
    /// 4 does not divide E.
    #[error("embed_dim {0} is not a multiple of 4, which the 2-D sin-cos positions need")]
    NoPositions(usize),
    /// C·P does not divide h.
    #[error(
        "embed_dim {embed_dim} is not a multiple of 2 × in_channels × patch_size = {}, so the rank \
        is not an integer",
        2 * unit
    )]
    RankNotWhole {
        /// E.
        embed_dim: usize,
        /// C·P.
        unit: usize,
    },
    /// The MLP's width is not a usable multiple of E.
    #[error("mlp_ratio is {0}, and must be above 0 and at most 16")]
    MlpRatio(f64),
}

/// Sizes that obey every rule of [`GeometryError`].
///
/// ```
/// use restain_method::geometry::{Geometry, GeometrySpec};
///
/// let spec = GeometrySpec {
///     image_size: 224,
///     in_channels: 3,
///     patch_size: 16,
///     embed_dim: 768,
///     depth: 12,
///     num_heads: 12,
///     mlp_ratio: 4.0,
///     style_bias: false,
/// };
/// let geometry = Geometry::new(spec)?;
/// assert_eq!((geometry.patches(), geometry.half(), geometry.rank()), (196, 384, 8));
///
/// let odd = Geometry::new(GeometrySpec { image_size: 225, ..spec });
/// assert_eq!(odd.unwrap_err().to_string(), "image_size 225 is not a multiple of patch_size 16");
/// # Ok::<(), restain_method::GeometryError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "GeometrySpec", into = "GeometrySpec")]
pub struct Geometry(GeometrySpec);

impl Geometry {
    /// Checks the sizes.
    ///
    /// # Errors
    /// The first rule of [`GeometryError`] that they break.
    pub fn new(spec: GeometrySpec) -> Result<Self, GeometryError> {
        let GeometrySpec {
            image_size,
            in_channels,
            patch_size,
            embed_dim,
            depth,
            num_heads,
            mlp_ratio,
            style_bias: _,
        } = spec;
        for (field, value, max) in [
            ("image_size", image_size, MAX_IMAGE_SIZE),
            ("patch_size", patch_size, MAX_IMAGE_SIZE),
            ("embed_dim", embed_dim, MAX_EMBED_DIM),
            ("depth", depth, MAX_DEPTH),
            ("num_heads", num_heads, MAX_EMBED_DIM),
        ] {
            if value == 0 || value > max {
                return Err(GeometryError::OutOfRange { field, value, max });
            }
        }
        if in_channels != CHANNELS {
            return Err(GeometryError::NotRgb(in_channels));
        }
        if !image_size.is_multiple_of(patch_size) {
            return Err(GeometryError::PatchesDoNotTile { image_size, patch_size });
        }
        if !embed_dim.is_multiple_of(num_heads) {
            return Err(GeometryError::HeadsDoNotDivide { embed_dim, num_heads });
        }
        if !embed_dim.is_multiple_of(4) {
            return Err(GeometryError::NoPositions(embed_dim));
        }
        let unit = CHANNELS * patch_size;
        if !(embed_dim / 2).is_multiple_of(unit) {
            return Err(GeometryError::RankNotWhole { embed_dim, unit });
        }
        if !(mlp_ratio > 0.0 && mlp_ratio <= 16.0) {
            return Err(GeometryError::MlpRatio(mlp_ratio));
        }
        Ok(Self(spec))
    }

    /// Tile side H in pixels.
    pub fn image_size(&self) -> usize {
        self.0.image_size
    }

    /// Patch side P in pixels.
    pub fn patch_size(&self) -> usize {
        self.0.patch_size
    }

    /// Patches along one side of a tile, H/P.
    pub fn grid(&self) -> usize {
        self.0.image_size / self.0.patch_size
    }

    /// Patches N of a tile.
    pub fn patches(&self) -> usize {
        self.grid() * self.grid()
    }

    /// Embedding dimension E.
    pub fn embed_dim(&self) -> usize {
        self.0.embed_dim
    }

    /// h = E/2: numbers of anatomy in one token, and of characteristics without a style bias.
    pub fn half(&self) -> usize {
        self.0.embed_dim / 2
    }

    /// Rank L = h/(C·P) of the product that makes a patch.
    pub fn rank(&self) -> usize {
        self.half() / (CHANNELS * self.0.patch_size)
    }

    /// Whether a style has a constant for every channel and column of a patch.
    pub fn style_bias(&self) -> bool {
        self.0.style_bias
    }

    /// S: numbers of a style, which are the characteristics of one token; h, and C·P more with a
    /// style bias.
    pub fn style_len(&self) -> usize {
        self.half() + if self.0.style_bias { CHANNELS * self.0.patch_size } else { 0 }
    }

    /// Transformer blocks of the encoder.
    pub fn depth(&self) -> usize {
        self.0.depth
    }

    /// Attention heads of a block.
    pub fn num_heads(&self) -> usize {
        self.0.num_heads
    }

    /// Returns the floating-point operations that encoding one tile takes: two for each
    /// multiplication in its matrix products, those of attention included.
    pub fn encoder_flops(&self) -> f64 {
        let [tokens, patches, embed, hidden] =
            [self.patches() + 1, self.patches(), self.embed_dim(), self.mlp_hidden()]
                .map(|n| n as f64);
        let block = tokens * embed * (4.0 * embed + 2.0 * tokens + 2.0 * hidden);
        let patch_embed =
            patches * (CHANNELS * self.patch_size() * self.patch_size()) as f64 * embed;
        let bias = patches * (self.half() * (self.style_len() - self.half())) as f64;
        2.0 * (self.depth() as f64 * block + patch_embed + bias)
    }

    /// Hidden width of the MLP.
    pub fn mlp_hidden(&self) -> usize {
        (self.0.embed_dim as f64 * self.0.mlp_ratio).round() as usize
    }

    /// Values of one patch, C·P².
    pub fn patch_values(&self) -> usize {
        CHANNELS * self.0.patch_size * self.0.patch_size
    }

    /// Bytes of one raw tile, H·H·C, which is also the number of its values.
    pub fn tile_bytes(&self) -> usize {
        self.0.image_size * self.0.image_size * CHANNELS
    }

    /// Numbers of anatomy in one tile, N·h.
    pub fn tile_anatomy(&self) -> usize {
        self.patches() * self.half()
    }

    /// Numbers of characteristics in one tile, N·S.
    pub fn tile_characteristics(&self) -> usize {
        self.patches() * self.style_len()
    }

    /// Numbers of an encoding: anatomy and characteristics of one tile.
    pub fn tile_latents(&self) -> usize {
        self.tile_anatomy() + self.tile_characteristics()
    }
}

impl TryFrom<GeometrySpec> for Geometry {
    type Error = GeometryError;
    fn try_from(spec: GeometrySpec) -> Result<Self, GeometryError> {
        Self::new(spec)
    }
}

impl From<Geometry> for GeometrySpec {
    fn from(geometry: Geometry) -> Self {
        geometry.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: GeometrySpec = GeometrySpec {
        image_size: 224,
        in_channels: 3,
        patch_size: 16,
        embed_dim: 768,
        depth: 12,
        num_heads: 16,
        mlp_ratio: 4.0,
        style_bias: false,
    };

    #[test]
    fn the_papers_models_have_the_papers_sizes() {
        let base = Geometry::new(BASE).unwrap();
        assert_eq!(
            (base.patches(), base.half(), base.rank(), base.mlp_hidden()),
            (196, 384, 8, 3072)
        );
        let deep = Geometry::new(GeometrySpec { embed_dim: 1056, depth: 24, ..BASE }).unwrap();
        assert_eq!(deep.rank(), 11);
        assert_eq!((base.style_len(), base.tile_latents()), (384, 196 * 768));
        assert_eq!((base.encoder_flops() / 1e8).round(), 351.0);
    }

    #[test]
    fn a_style_bias_makes_styles_longer_and_nothing_else() {
        let with = Geometry::new(GeometrySpec { style_bias: true, ..BASE }).unwrap();
        assert_eq!((with.half(), with.rank(), with.style_len()), (384, 8, 384 + 48));
        assert_eq!(with.tile_latents(), 196 * (384 + 432));
        let text = serde_json::to_string(&with).unwrap();
        assert_eq!(serde_json::from_str::<Geometry>(&text).unwrap(), with);
        // A manifest that does not mention it has none.
        let silent = text.replace(r#","style_bias":true"#, "");
        assert_eq!(serde_json::from_str::<Geometry>(&silent).unwrap(), Geometry(BASE));
    }

    #[test]
    fn every_refusal_names_its_rule() {
        let refused = |change: fn(&mut GeometrySpec)| {
            let mut spec = BASE;
            change(&mut spec);
            Geometry::new(spec).unwrap_err().to_string()
        };
        assert!(refused(|s| s.depth = 0).contains("depth is 0"));
        assert!(refused(|s| s.image_size = 1 << 20).contains("image_size is 1048576"));
        assert!(refused(|s| s.in_channels = 4).contains("in_channels is 4"));
        assert!(refused(|s| s.image_size = 225).contains("not a multiple of patch_size 16"));
        assert!(refused(|s| s.num_heads = 7).contains("num_heads 7"));
        assert!(refused(|s| (s.embed_dim, s.num_heads) = (98, 7)).contains("multiple of 4"));
        assert!(
            refused(|s| (s.embed_dim, s.num_heads) = (100, 10))
                .contains("the rank is not an integer")
        );
        assert!(refused(|s| s.mlp_ratio = f64::NAN).contains("mlp_ratio is NaN"));
    }
}
