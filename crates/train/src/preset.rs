//! Model sizes by name, each of which single options can change. That of a toy comes with the length
//! of its training.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use restain_method::Geometry;
use restain_method::geometry::GeometrySpec;

/// `--preset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Preset {
    /// For tests: 32 px tiles, 0.2 million weights.
    Tiny,
    /// To see it work: 48 px tiles, 1.4 million weights, trained for two minutes on two cores.
    Toy,
    /// 96 px tiles at full rank, 7 million weights: trains on a CPU.
    Small,
    /// The paper's base model: 224 px tiles, 86 million weights.
    Base,
    /// The paper's deeper model: 224 px tiles, 24 blocks of 1056, 322 million weights.
    Deep,
}

/// `--data-preset`: what the paper trained with on a data set. Flags, variables and files take
/// precedence. Tiles of 96 px are resized up to the model's 224 by the random resized crop. Where
/// the paper names no normalisation it is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DataPreset {
    Camelyon17Wilds,
    EpitheliumStroma,
    Pcam,
}

/// What the paper trained with everywhere (arXiv 2407.02900). Each is written out, although several
/// are today's defaults: a default may change, and the paper does not.
const PAPER: &str = "preset = 'base'\nepochs = 50\nbatch = 64\nlearning-rate = 1e-3\n\
    weight-decay = 0.05\nmixes = 4\naugment = 0.1\n";
/// Patches of Camelyon17-WILDS and PatchCamelyon are of 10×, the third level of CAMELYON's slides:
/// four times their 0.243 µm a pixel.
const TEN_TIMES: &str = "mpp = 0.972\n";
/// What shows the stains of five hospitals after two minutes on two idle cores.
const TOY: &str = "steps = 600\nbatch = 16\nwarm-up-steps = 20\n";
const CAMELYON17: &str = "mean = [0.7441, 0.5895, 0.7214]\nstd = [0.1301, 0.1489, 0.1107]\n";

impl DataPreset {
    /// Returns its options, as TOML.
    pub(crate) fn options(self) -> String {
        match self {
            Self::Camelyon17Wilds => [PAPER, CAMELYON17, TEN_TIMES].concat(),
            Self::Pcam => [PAPER, TEN_TIMES].concat(),
            Self::EpitheliumStroma => PAPER.to_owned(),
        }
    }
}

impl Preset {
    /// Returns the options of a training beside the sizes, as TOML.
    pub(crate) fn options(self) -> Option<&'static str> {
        matches!(self, Self::Toy).then_some(TOY)
    }

    fn sizes(self) -> GeometrySpec {
        let (image_size, patch_size, embed_dim, depth, num_heads) = match self {
            Self::Tiny => (32, 8, 96, 2, 4),
            Self::Toy => (48, 8, 192, 3, 4),
            Self::Small => (96, 8, 384, 4, 6),
            Self::Base => (224, 16, 768, 12, 16),
            Self::Deep => (224, 16, 1056, 24, 16),
        };
        GeometrySpec {
            image_size,
            in_channels: 3,
            patch_size,
            embed_dim,
            depth,
            num_heads,
            mlp_ratio: 4.0,
            style_bias: false,
        }
    }
}

/// `--preset` and what changes it.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct GeometryArgs {
    /// Use these model sizes, where no other option sets them [default: small; fit: those of
    /// --from]
    #[arg(long, value_enum)]
    pub preset: Option<Preset>,
    /// Use tiles with this side, in pixels [default: that of --preset]
    #[arg(long, value_name = "PIXELS")]
    pub image_size: Option<usize>,
    /// Use patches with this side, in pixels [default: that of --preset]
    #[arg(long, value_name = "PIXELS")]
    pub patch_size: Option<usize>,
    /// Use embeddings of this length; half of it must be a multiple of 3 × patch size, and is 3 ×
    /// patch size² at full rank [default: that of --preset]
    #[arg(long, value_name = "LENGTH")]
    pub embed_dim: Option<usize>,
    /// Use this many transformer blocks [default: that of --preset]
    #[arg(long, value_name = "BLOCKS")]
    pub depth: Option<usize>,
    /// Use this many attention heads [default: that of --preset]
    #[arg(long, value_name = "HEADS")]
    pub num_heads: Option<usize>,
    /// Give styles a constant beside the product, which lets a style change brightness and contrast
    /// at no cost in rank; the published model has none [default: that of --preset]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub style_bias: Option<bool>,
}

impl GeometryArgs {
    pub(crate) fn geometry(&self) -> Result<Geometry> {
        self.changed(self.preset.unwrap_or(Preset::Small).sizes())
    }

    /// For weights that exist: their geometry, but for what was asked for otherwise.
    pub(crate) fn geometry_beside(&self, existing: Geometry) -> Result<Geometry> {
        self.changed(self.preset.map_or(existing.into(), Preset::sizes))
    }

    fn changed(&self, from: GeometrySpec) -> Result<Geometry> {
        Ok(Geometry::new(GeometrySpec {
            image_size: self.image_size.unwrap_or(from.image_size),
            patch_size: self.patch_size.unwrap_or(from.patch_size),
            embed_dim: self.embed_dim.unwrap_or(from.embed_dim),
            depth: self.depth.unwrap_or(from.depth),
            num_heads: self.num_heads.unwrap_or(from.num_heads),
            style_bias: self.style_bias.unwrap_or(from.style_bias),
            ..from
        })?)
    }
}

/// Describes the sizes of a model for the log.
pub(crate) fn describe(geometry: Geometry) -> String {
    let sizes = GeometrySpec::from(geometry);
    format!(
        "tiles of {} px, patches of {} px, embedding {}, {} blocks, {} heads{}",
        sizes.image_size,
        sizes.patch_size,
        sizes.embed_dim,
        sizes.depth,
        sizes.num_heads,
        if sizes.style_bias { ", a style bias" } else { "" }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use restain_bundle::layout;

    #[test]
    fn presets_are_the_papers_models() {
        let of = |preset: Preset| Geometry::new(preset.sizes()).unwrap();
        let millions = |preset| {
            let weights: usize =
                layout(&of(preset)).values().map(|shape| shape.iter().product::<usize>()).sum();
            weights as f64 / 1e6
        };
        assert_eq!(
            (of(Preset::Base).rank(), of(Preset::Deep).rank(), of(Preset::Small).rank()),
            (8, 11, 8)
        );
        assert_eq!(
            [Preset::Tiny, Preset::Toy, Preset::Small, Preset::Base, Preset::Deep]
                .map(|p| millions(p).round()),
            [0.0, 1.0, 7.0, 86.0, 322.0]
        );
    }
}
