//! Model sizes by name, each of which single options can change.

use anyhow::Result;

use crate::method::Geometry;
use crate::method::geometry::GeometrySpec;

/// `--preset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Preset {
    /// For tests: 32 px tiles, 0.2 million weights.
    Tiny,
    /// 96 px tiles at full rank, 7 million weights: trains on a CPU.
    Small,
    /// The paper's base model: 224 px tiles, 85 million weights.
    Base,
}

/// `--preset` and what changes it.
#[derive(Clone, Debug, clap::Args)]
pub struct GeometryArgs {
    /// Model sizes to start from
    #[arg(long, value_enum, default_value = "small")]
    pub preset: Preset,
    /// Tile side, pixels
    #[arg(long)]
    pub image_size: Option<usize>,
    /// Patch side, pixels
    #[arg(long)]
    pub patch_size: Option<usize>,
    /// Embedding dimension; half of it must be a multiple of 3 × patch size, and equal 3 × patch size² for full rank
    #[arg(long)]
    pub embed_dim: Option<usize>,
    /// Transformer blocks
    #[arg(long)]
    pub depth: Option<usize>,
    /// Attention heads
    #[arg(long)]
    pub num_heads: Option<usize>,
}

impl GeometryArgs {
    pub fn geometry(&self) -> Result<Geometry> {
        let (image_size, patch_size, embed_dim, depth, num_heads) = match self.preset {
            Preset::Tiny => (32, 8, 96, 2, 4),
            Preset::Small => (96, 8, 384, 4, 6),
            Preset::Base => (224, 16, 768, 12, 16),
        };
        Ok(Geometry::new(GeometrySpec {
            image_size: self.image_size.unwrap_or(image_size),
            in_channels: 3,
            patch_size: self.patch_size.unwrap_or(patch_size),
            embed_dim: self.embed_dim.unwrap_or(embed_dim),
            depth: self.depth.unwrap_or(depth),
            num_heads: self.num_heads.unwrap_or(num_heads),
            mlp_ratio: 4.0,
        })?)
    }
}
