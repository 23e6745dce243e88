//! The augmentation techniques that the experiment compares: each makes one variant of a training
//! tile, as the server would.
//!
//! Tiles are encoded once; a variant then costs one product. All techniques draw the same random
//! numbers, so that `color-match` and `vit` use the stain of the same tile or bank entry for the
//! same tile in the same epoch.

use anyhow::{Result, ensure};
use half::f16;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::classifier::Tiles;
use crate::downstream::jitter::{color_jitter, gain_and_bias};
use crate::encodings::{Encoded, Model};
use restain_bundle::StyleBank;
use restain_bundle::codec::{RgbImage, resize};
use restain_data::below;
use restain_method::color::{ChannelStats, color_match, hed_jitter};
use restain_method::glass::keep_glass;
use restain_method::synth::{Scratch, Synthesiser};
use restain_method::upsample::{UpsampleScratch, Upsampler};
use restain_method::{Style, exemplar};

/// Tiles between two log lines.
const ENCODED_AT_ONCE: usize = 256;

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
    /// The per-channel mean and standard deviation of another tile.
    ColorMatch,
    /// The same, and then `color-jitter`.
    ColorMatchJitter,
    /// The bundle: the tile, and what another tile's style makes of its anatomy, as it is served.
    Vit,
    /// The same, and then `color-jitter`.
    VitJitter,
}

impl Technique {
    /// Returns its name, as on the command line and in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ColorJitter => "color-jitter",
            Self::GainBias => "gain-bias",
            Self::HedJitter => "hed-jitter",
            Self::ColorMatch => "color-match",
            Self::ColorMatchJitter => "color-match-jitter",
            Self::Vit => "vit",
            Self::VitJitter => "vit-jitter",
        }
    }

    /// Returns whether it needs the bundle's encoder.
    pub(super) fn encodes(self) -> bool {
        matches!(self, Self::Vit | Self::VitJitter)
    }

    /// Returns whether it matches the colours of a tile or of an entry of the bank.
    pub(super) fn matches_colours(self) -> bool {
        matches!(self, Self::ColorMatch | Self::ColorMatchJitter)
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

/// A target stain.
struct Look {
    stats: ChannelStats,
    /// Empty without a model.
    style: Style,
}

/// The encodings of the training tiles, and what turns them into variants.
struct Encodings {
    synth: Synthesiser,
    upsampler: Upsampler,
    tiles: Vec<Halves>,
}

/// What is kept of one tile.
struct Halves {
    /// f16 [N, h] each.
    anatomy: Vec<f16>,
    characteristics: Vec<f16>,
    /// Whether it takes a style: one that is blank, black, flat or pen does not.
    has_stain: bool,
}

/// Makes variants of the training tiles.
pub(super) struct Maker<'a> {
    tiles: &'a Tiles,
    stats: Vec<ChannelStats>,
    looks: Vec<Look>,
    /// Indices into `looks` by domain, for styles of the bank; `None` if each look belongs to a
    /// tile, which never uses its own.
    bank: Option<Vec<Vec<usize>>>,
    encodings: Option<Encodings>,
    hed_sigma: f32,
}

/// Buffers of one thread.
pub(super) struct Bench {
    scratch: Option<Scratch>,
    upsample: UpsampleScratch,
    /// f32 [N, h]: a style less the tile's own characteristics.
    difference: Vec<f32>,
    /// f32 [H, W, 3], levels: what that changes at the model's size.
    change: Vec<f32>,
    /// u8 [side, side, 3]
    variant: Vec<u8>,
}

impl<'a> Maker<'a> {
    /// Prepares the variants of `tiles`. `model` is needed for [`Technique::Vit`] and for styles of
    /// the bank.
    ///
    /// # Errors
    /// If the bank is empty, there is only one tile to take styles from, or the encoder fails.
    pub(super) fn new(
        tiles: &'a Tiles,
        model: Option<&mut Model>,
        source: StyleSource,
        hed_sigma: f32,
    ) -> Result<Self> {
        let stats: Vec<ChannelStats> =
            tiles.pixels.iter().map(|tile| ChannelStats::from_tile(tile)).collect();
        let mut maker =
            Self { tiles, looks: Vec::new(), bank: None, encodings: None, hed_sigma, stats };
        let mut styles = vec![Style(Vec::new()); tiles.len()];
        if let Some(model) = model {
            if source == StyleSource::Bank {
                maker.take(&model.bundle.styles)?;
            }
            styles = maker.encode(model)?;
        }
        if maker.bank.is_none() {
            ensure!(
                tiles.len() > 1,
                "with one training tile there is no other tile to take a style from"
            );
            maker.looks = maker
                .stats
                .iter()
                .zip(styles)
                .map(|(&stats, style)| Look { stats, style })
                .collect();
        }
        Ok(maker)
    }

    fn take(&mut self, bank: &StyleBank) -> Result<()> {
        ensure!(
            !bank.entries.is_empty(),
            "the bundle has no styles: add some with `restain-train styles`, or use --styles train"
        );
        let of = |domain: usize| {
            (0..bank.entries.len())
                .filter(|&i| bank.entries[i].domain == domain)
                .collect::<Vec<_>>()
        };
        self.bank =
            Some((0..bank.domains.len()).map(of).filter(|domain| !domain.is_empty()).collect());
        self.looks = bank
            .entries
            .iter()
            .map(|entry| Look { stats: entry.source, style: entry.style.clone() })
            .collect();
        Ok(())
    }

    /// Encodes every tile and keeps both halves. Returns the style of each tile, or none if styles
    /// come from the bank.
    fn encode(&mut self, model: &mut Model) -> Result<Vec<Style>> {
        let (side, of_model) = (self.tiles.side, model.synth.geometry().image_size());
        let synth = model.synth.clone();
        let lent = |tile: &Encoded| {
            let token =
                exemplar::representative(&synth, &tile.tile, &tile.anatomy, &tile.characteristics);
            exemplar::style_of(synth.geometry(), &tile.characteristics, token)
        };
        let (mut kept, mut styles) = (Vec::new(), Vec::new());
        // In chunks: an encoding takes four times the memory of what is kept of it.
        for chunk in self.tiles.pixels.chunks(ENCODED_AT_ONCE) {
            let encoded = model
                .encode(chunk.par_iter().map(|tile| resized(tile, side, of_model)).collect())?;
            let half = |of: &[f32]| of.iter().map(|&value| f16::from_f32(value)).collect();
            kept.extend(encoded.iter().zip(chunk).map(|(tile, pixels)| Halves {
                anatomy: half(&tile.anatomy),
                characteristics: half(&tile.characteristics),
                has_stain: exemplar::has_stain(pixels, side, exemplar::STAIN_SQUARE),
            }));
            if self.bank.is_none() {
                styles.par_extend(encoded.par_iter().map(lent));
            }
            tracing::info!("encoded {} of {} training tiles", kept.len(), self.tiles.len());
        }
        let upsampler = Upsampler::new((of_model, of_model), (side, side));
        self.encodings = Some(Encodings { synth, upsampler, tiles: kept });
        Ok(styles)
    }

    pub(super) fn bench(&self) -> Bench {
        let synth = self.encodings.as_ref().map(|encodings| &encodings.synth);
        let [latent, bytes] = synth.map_or([0; 2], |synth| {
            [synth.geometry().tile_latent(), synth.geometry().tile_bytes()]
        });
        Bench {
            scratch: synth.map(Synthesiser::scratch),
            upsample: UpsampleScratch::default(),
            difference: vec![0.0; latent],
            change: vec![0.0; bytes],
            variant: vec![0; 3 * self.tiles.side * self.tiles.side],
        }
    }

    /// Writes a variant of one tile into `out`, u8 [side, side, 3].
    pub(super) fn make(
        &self,
        method: Technique,
        tile: usize,
        rng: &mut ChaCha8Rng,
        bench: &mut Bench,
        out: &mut [u8],
    ) {
        let pixels = &self.tiles.pixels[tile];
        match method {
            Technique::None => out.copy_from_slice(pixels),
            Technique::ColorJitter => color_jitter(pixels, rng, out),
            Technique::GainBias => gain_and_bias(pixels, rng, out),
            Technique::HedJitter => hed_jitter(pixels, self.hed_sigma, rng, out),
            Technique::ColorMatch => {
                color_match(pixels, &self.stats[tile], &self.draw(tile, rng).stats, out)
            }
            Technique::Vit => self.restained(tile, &self.draw(tile, rng).style, bench, out),
            Technique::ColorMatchJitter | Technique::VitJitter => {
                let mut variant = std::mem::take(&mut bench.variant);
                let first = if method == Technique::VitJitter {
                    Technique::Vit
                } else {
                    Technique::ColorMatch
                };
                self.make(first, tile, rng, bench, &mut variant);
                color_jitter(&variant, rng, out);
                bench.variant = variant;
            }
        }
    }

    /// Adds to a tile what the change from its own characteristics to a style makes of its anatomy,
    /// and keeps its glass, as the server does.
    fn restained(&self, tile: usize, style: &Style, bench: &mut Bench, out: &mut [u8]) {
        let encodings = self.encodings.as_ref().expect("vit is refused without a bundle");
        let (pixels, own) = (&self.tiles.pixels[tile], &encodings.tiles[tile]);
        if !own.has_stain {
            return out.copy_from_slice(pixels);
        }
        let Bench { scratch, upsample, difference, change, .. } = bench;
        let scratch = scratch.as_mut().expect("a bench of this maker");
        encodings.synth.difference_into(&own.characteristics, &style.0, 1.0, difference);
        encodings.synth.change(&own.anatomy, difference, scratch, change);
        encodings.upsampler.add(change, pixels, upsample, out);
        keep_glass(pixels, out);
    }

    fn draw(&self, tile: usize, rng: &mut ChaCha8Rng) -> &Look {
        let mut below = |n: usize| below(rng, n as u64) as usize;
        match &self.bank {
            Some(domains) => {
                let domain = &domains[below(domains.len())];
                &self.looks[domain[below(domain.len())]]
            }
            None => &self.looks[(tile + 1 + below(self.looks.len() - 1)) % self.looks.len()],
        }
    }
}

/// Resizes a square tile, u8 [from, from, 3] → u8 [to, to, 3], as the server does.
fn resized(tile: &[u8], from: usize, to: usize) -> Vec<u8> {
    if from == to {
        return tile.to_vec();
    }
    resize(&RgbImage { width: from, height: from, pixels: tile.to_vec() }, to, to).pixels
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    /// Two-pixel-high tiles, each of one colour that is its own.
    fn tiles(count: u8) -> Tiles {
        let pixels = (0..count).map(|i| vec![100 + i; 12]).collect();
        Tiles { pixels, labels: vec![0; usize::from(count)], side: 2 }
    }

    #[test]
    fn a_tile_takes_the_colours_of_every_other_tile_and_never_its_own() {
        let tiles = tiles(4);
        let maker = Maker::new(&tiles, None, StyleSource::Train, 0.05).unwrap();
        let (mut bench, mut out, mut rng) =
            (maker.bench(), vec![0; 12], ChaCha8Rng::seed_from_u64(1));
        let mut seen: Vec<u8> = (0..60)
            .map(|_| {
                maker.make(Technique::ColorMatch, 2, &mut rng, &mut bench, &mut out);
                out[0]
            })
            .collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, [100, 101, 103]);
        maker.make(Technique::None, 2, &mut rng, &mut bench, &mut out);
        assert_eq!(out, tiles.pixels[2]);
    }

    #[test]
    fn one_tile_has_nothing_to_take_a_style_from() {
        assert!(Maker::new(&tiles(1), None, StyleSource::Train, 0.05).is_err());
    }

    #[test]
    fn tiles_of_another_size_come_back_at_their_own() {
        let tile: Vec<u8> = [90, 120, 150].repeat(36);
        assert_eq!(resized(&resized(&tile, 6, 9), 9, 6), tile);
        assert_eq!(resized(&tile, 6, 9).len(), 9 * 9 * 3);
    }
}
