//! The stain transfer techniques that `evaluate` compares: the bundle's model, and baselines that
//! need no training.

use clap::ValueEnum;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::Serialize;

use crate::encodings::Encoded;
use crate::evaluate::Domain;
use crate::exemplars;
use crate::stain::toned_pixels;
use restain_data::below;
use restain_method::color::{ChannelStats, color_match, hed_jitter};
use restain_method::glass::keep_glass;
use restain_method::macenko::{Stain, macenko};
use restain_method::reinhard::{LabStats, reinhard};
use restain_method::synth::Synthesiser;
use restain_method::{Style, exemplar};

/// Relative and absolute jitter of each stain's density, as in the server.
const HED_SIGMA: f32 = 0.05;
/// The share and the blur, in pixels, of [`toned_pixels`]: those that the demo model was trained
/// with.
const TONE_SHARE: f64 = 1.25;
const TONE_SIGMA: f64 = 3.0;

/// A technique, in the order of the tables: one value of `--methods`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Technique {
    /// The bundle: the tile, and what the change of style makes of its anatomy.
    Vit,
    /// The bundle without the tile's own detail: the product of its anatomy and the style.
    VitModel,
    /// Mean and standard deviation of each RGB channel.
    ColorMatch,
    /// The target of `--match-target tone`, at 1.25 and 3 px: quantiles of each channel, in coarse
    /// structure only.
    Tone,
    /// Mean and standard deviation in Lαβ.
    Reinhard,
    /// Stain matrix and 99th-percentile concentrations.
    Macenko,
    /// Random densities of haematoxylin, eosin and residual, without a target.
    HedJitter,
    /// The tile as it is.
    Identity,
}

impl Technique {
    pub(super) const ALL: [Self; 8] = [
        Self::Vit,
        Self::VitModel,
        Self::ColorMatch,
        Self::Tone,
        Self::Reinhard,
        Self::Macenko,
        Self::HedJitter,
        Self::Identity,
    ];

    /// Returns whether it gives a tile the stain of another.
    pub(super) fn has_target(self) -> bool {
        self != Self::HedJitter
    }

    /// Returns its name, as on the command line and in tables.
    pub(super) fn name(self) -> String {
        self.to_possible_value().expect("none is skipped").get_name().to_owned()
    }

    /// Changes the stain of `content`. Returns u8 `[H, W, 3]`. Only [`Technique::HedJitter`] uses
    /// `rng`.
    pub(super) fn apply<'a>(
        self,
        synth: &Synthesiser,
        content: &Encoded,
        change: impl Into<Change<'a>>,
        rng: &mut ChaCha8Rng,
    ) -> Vec<u8> {
        let Change { from, to } = change.into();
        let tile = &content.tile;
        let mut out = vec![0; tile.len()];
        match self {
            Self::Vit => return carried(synth, content, from.map(|from| &from.style), &to.style),
            Self::VitModel => {
                synth.broadcast(&content.anatomy, &to.style.0, &mut synth.scratch(), &mut out)
            }
            Self::ColorMatch => {
                let own = from.map_or_else(|| ChannelStats::from_tile(tile), |from| from.color);
                color_match(tile, &own, &to.color, &mut out)
            }
            Self::Tone => return toned_pixels(tile, &to.pixels, TONE_SHARE, TONE_SIGMA),
            Self::Reinhard => {
                let own = from.map_or_else(|| LabStats::of(tile), |from| from.lab);
                reinhard(tile, &own, &to.lab, &mut out)
            }
            Self::Macenko => {
                let own = from.map_or_else(|| Stain::of(tile), |from| from.stain);
                macenko(tile, own.as_ref(), to.stain.as_ref(), &mut out)
            }
            Self::HedJitter => hed_jitter(tile, HED_SIGMA, rng, &mut out),
            Self::Identity => out.copy_from_slice(tile),
        }
        out
    }
}

/// Does what serving does: adds to a tile with a stain what the change from its slide's style, or
/// from its own characteristics, to another style makes of its anatomy.
fn carried(synth: &Synthesiser, content: &Encoded, from: Option<&Style>, to: &Style) -> Vec<u8> {
    let (geometry, anatomy) = (synth.geometry(), &content.anatomy);
    if !exemplar::has_stain(&content.tile, geometry.image_size(), exemplar::STAIN_SQUARE) {
        return content.tile.clone();
    }
    let own: Vec<f32> = match from {
        Some(slide) => slide.0.repeat(geometry.patches()),
        None => content.characteristics.clone(),
    };
    let change: Vec<f32> =
        own.iter().zip(to.0.iter().cycle()).map(|(own, style)| style - own).collect();
    let mut levels = vec![0.0; content.tile.len()];
    synth.change(anatomy, &change, &mut synth.scratch(), &mut levels);
    let changed =
        |(level, change): (&u8, &f32)| (f32::from(*level) + change).round().clamp(0.0, 255.0) as u8;
    let mut out: Vec<u8> = content.tile.iter().zip(&levels).map(changed).collect();
    keep_glass(&content.tile, &mut out);
    out
}

/// From which stain to which.
#[derive(Clone, Copy)]
pub(super) struct Change<'a> {
    /// That of the slide; without one, techniques measure the tile itself.
    pub from: Option<&'a Reference>,
    pub to: &'a Reference,
}

impl<'a> From<&'a Reference> for Change<'a> {
    fn from(to: &'a Reference) -> Self {
        Self { from: None, to }
    }
}

/// What stains are measured on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Way {
    /// The tile itself, and one tile of the other stain.
    Tile,
    /// The tile itself, and several tiles of the other slide.
    Style,
    /// Several tiles of its own slide, and of the other.
    Slide,
}

impl Way {
    pub(super) const ALL: [Self; 3] = [Self::Tile, Self::Style, Self::Slide];

    /// Returns its name in tables.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tile => "tile → tile",
            Self::Style => "tile → slide",
            Self::Slide => "slide → slide",
        }
    }
}

/// The statistics of a stain that the techniques need.
pub(super) struct Reference {
    pub style: Style,
    /// As many pixels as a tile has, taken evenly from all tiles: u8 [n, 3].
    pixels: Vec<u8>,
    color: ChannelStats,
    lab: LabStats,
    stain: Option<Stain>,
}

impl Reference {
    /// Describes the stain of some tiles of a domain: the mean of their styles, and the statistics
    /// of all their pixels.
    pub(super) fn of(domain: &Domain, tiles: &[usize]) -> Self {
        let styles: Vec<Style> = tiles.iter().map(|&tile| domain.styles[tile].clone()).collect();
        let tiles = tiles.iter().map(|&tile| domain.tiles[tile].tile.as_slice());
        Self::new(exemplars::mean(&styles), &tiles.collect::<Vec<_>>())
    }

    /// Describes the stain of tiles, u8 `[H, W, 3]` each, that have this style.
    pub(super) fn new(style: Style, tiles: &[&[u8]]) -> Self {
        let pixels = tiles.concat();
        Self {
            style,
            pixels: pixels.chunks_exact(3).step_by(tiles.len()).flatten().copied().collect(),
            color: ChannelStats::from_tile(&pixels),
            lab: LabStats::of(&pixels),
            stain: Stain::of(&pixels),
        }
    }

    /// Describes the stain of `count` tiles of a domain, drawn without replacement; of all if it
    /// has fewer.
    pub(super) fn draw(domain: &Domain, count: usize, rng: &mut ChaCha8Rng) -> Self {
        let mut left: Vec<usize> = (0..domain.tiles.len()).collect();
        let mut chosen = Vec::new();
        while chosen.len() < count && !left.is_empty() {
            chosen.push(left.remove(below(rng, left.len() as u64) as usize));
        }
        Self::of(domain, &chosen)
    }
}

/// Returns the generator for tile `tile` of set `stream` of variants, which does not depend on
/// other variants.
pub(super) fn draws(seed: u64, stream: u64, tile: usize) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(1 << 63 | stream << 32 | tile as u64);
    rng
}
