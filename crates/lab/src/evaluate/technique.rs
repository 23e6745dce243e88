//! The ways to give a tile another stain that are compared: the model, and what needs no training.

use clap::ValueEnum;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::Serialize;

use crate::encodings::Encoded;
use crate::evaluate::Domain;
use crate::stain::toned_pixels;
use crate::styles;
use restain_data::below;
use restain_method::Style;
use restain_method::color::{ChannelStats, color_match, hed_jitter};
use restain_method::macenko::{Stain, macenko};
use restain_method::reinhard::{LabStats, reinhard};
use restain_method::synth::Synthesiser;

/// Relative and absolute shift of each stain's density: as much as the server uses.
const HED_SIGMA: f32 = 0.05;
/// How far tones go, and below which size of detail they do not: what the demo model was trained with.
const TONE_SHARE: f64 = 1.25;
const TONE_SIGMA: f64 = 3.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// The bundle: the style of the reference, broadcast.
    Vit,
    /// Mean and deviation of each RGB channel.
    ColorMatch,
    /// What `--match-target tone` trains towards, at 1.25 and 3 px: quantiles of each channel where the picture is coarse.
    Tone,
    /// Mean and deviation in Lαβ.
    Reinhard,
    /// Stain matrix and 99th-percentile concentrations.
    Macenko,
    /// Random densities of haematoxylin, eosin and residual; it has no target.
    HedJitter,
    /// The tile as it is.
    Identity,
}

impl Method {
    pub const ALL: [Self; 7] = [
        Self::Vit,
        Self::ColorMatch,
        Self::Tone,
        Self::Reinhard,
        Self::Macenko,
        Self::HedJitter,
        Self::Identity,
    ];

    /// As on the command line and in tables.
    pub fn name(self) -> String {
        self.to_possible_value().expect("none is skipped").get_name().to_owned()
    }

    /// `content` as this method makes it look like `reference`; `[H, W, 3] u8`.
    pub fn apply(
        self,
        synth: &Synthesiser,
        content: &Encoded,
        reference: &Reference,
        rng: &mut ChaCha8Rng,
    ) -> Vec<u8> {
        let tile = &content.tile;
        let mut out = vec![0; tile.len()];
        match self {
            Self::Vit => synth.broadcast(
                &content.anatomy,
                &reference.style.0,
                &mut synth.scratch(),
                &mut out,
            ),
            Self::ColorMatch => {
                color_match(tile, &ChannelStats::from_tile(tile), &reference.color, &mut out)
            }
            Self::Tone => return toned_pixels(tile, &reference.pixels, TONE_SHARE, TONE_SIGMA),
            Self::Reinhard => reinhard(tile, &reference.lab, &mut out),
            Self::Macenko => {
                macenko(tile, Stain::of(tile).as_ref(), reference.stain.as_ref(), &mut out)
            }
            Self::HedJitter => hed_jitter(tile, HED_SIGMA, rng, &mut out),
            Self::Identity => out.copy_from_slice(tile),
        }
        out
    }
}

/// What every method needs to know of the stain that it shall give.
pub struct Reference {
    pub style: Style,
    /// As many as a tile has, evenly out of all.
    pixels: Vec<u8>,
    color: ChannelStats,
    lab: LabStats,
    stain: Option<Stain>,
}

impl Reference {
    /// Of some of a domain's tiles: the mean of their styles, and the statistics of all their pixels.
    pub fn of(domain: &Domain, tiles: &[usize]) -> Self {
        let pixels = tiles
            .iter()
            .map(|&tile| domain.tiles[tile].tile.as_slice())
            .collect::<Vec<_>>()
            .concat();
        Self {
            style: styles::mean(
                &tiles.iter().map(|&tile| domain.styles[tile].clone()).collect::<Vec<_>>(),
            ),
            pixels: pixels.chunks_exact(3).step_by(tiles.len()).flatten().copied().collect(),
            color: ChannelStats::from_tile(&pixels),
            lab: LabStats::of(&pixels),
            stain: Stain::of(&pixels),
        }
    }

    /// Of `count` different tiles of a domain, drawn; of all where it has fewer.
    pub fn draw(domain: &Domain, count: usize, rng: &mut ChaCha8Rng) -> Self {
        let mut left: Vec<usize> = (0..domain.tiles.len()).collect();
        let mut chosen = Vec::new();
        while chosen.len() < count && !left.is_empty() {
            chosen.push(left.remove(below(rng, left.len() as u64) as usize));
        }
        Self::of(domain, &chosen)
    }
}

/// What a method that draws draws from for tile `tile` of the `stream`-th lot of variants: no other variant decides it.
pub(super) fn draws(seed: u64, stream: u64, tile: usize) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(1 << 63 | stream << 32 | tile as u64);
    rng
}
