//! The augmentation techniques that the experiment compares, and where their stains come from.

use serde::{Deserialize, Serialize};

/// A technique: one value of `--methods`.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Technique {
    /// The tile again, unchanged.
    None,
    /// Random brightness, contrast, saturation and hue: torchvision's ColorJitter(.4, .4, .4, .1).
    ColorJitter,
    /// A random gain (1 ± .3) and offset (± .1 of the range) for each channel.
    GainBias,
    /// Random stain densities (Tellez et al. 2018).
    HedJitter,
    /// A random mean and standard deviation in L*a*b*, from the distribution of those of the stains
    /// (RandStainNA, Shen et al. 2022).
    RandStainNa,
    /// The per-channel mean and standard deviation of another tile.
    ColorMatch,
    /// The same, and then `color-jitter`.
    ColorMatchJitter,
    /// The per-channel mean and standard deviation of a tile of the test domains, of those that
    /// --target-styles sets aside.
    ColorMatchTarget,
    /// The bundle: the tile, and what another tile's style makes of its anatomy, as it is served.
    Vit,
    /// The same, and then `color-jitter`.
    VitJitter,
    /// `vit` with styles drawn wider than the bank holds them (--spread).
    VitSpread,
    /// `vit-spread` with the styles of the tiles that --target-styles sets aside among the bank's.
    VitSpreadTarget,
    /// `vit` with the styles of the tiles that --target-styles sets aside.
    VitTarget,
    /// `vit` with the style near the drawn one for which the classifier's loss is highest
    /// (--worst-radius).
    VitWorst,
}

impl Technique {
    /// Returns its name, as on the command line and in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ColorJitter => "color-jitter",
            Self::GainBias => "gain-bias",
            Self::HedJitter => "hed-jitter",
            Self::RandStainNa => "rand-stain-na",
            Self::ColorMatch => "color-match",
            Self::ColorMatchJitter => "color-match-jitter",
            Self::ColorMatchTarget => "color-match-target",
            Self::Vit => "vit",
            Self::VitJitter => "vit-jitter",
            Self::VitSpread => "vit-spread",
            Self::VitSpreadTarget => "vit-spread-target",
            Self::VitTarget => "vit-target",
            Self::VitWorst => "vit-worst",
        }
    }

    /// Returns whether it needs the bundle's encoder.
    pub(super) fn encodes(self) -> bool {
        matches!(
            self,
            Self::Vit
                | Self::VitJitter
                | Self::VitSpread
                | Self::VitSpreadTarget
                | Self::VitTarget
                | Self::VitWorst
        )
    }

    /// Returns whether it takes the colours of tiles or of entries of the bank: what `--styles`
    /// says.
    pub(super) fn matches_colours(self) -> bool {
        matches!(self, Self::ColorMatch | Self::ColorMatchJitter | Self::RandStainNa)
    }

    /// Returns whether its stains are those of tiles of the test domains, or some of them are.
    pub(super) fn targets(self) -> bool {
        matches!(self, Self::ColorMatchTarget | Self::VitSpreadTarget | Self::VitTarget)
    }

    /// Returns whether its styles are drawn wider than they are.
    pub(super) fn spreads(self) -> bool {
        matches!(self, Self::VitSpread | Self::VitSpreadTarget)
    }
}

/// Where styles come from: `--styles`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum StyleSource {
    /// The bundle's style bank: first a domain is drawn, then one of its styles.
    Bank,
    /// Another training tile: the style of its most representative token, or its channel
    /// statistics.
    Train,
}
