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
use crate::encodings::{Encoded, Model};
use restain_bundle::StyleBank;
use restain_bundle::codec::{RgbImage, resize};
use restain_data::below;
use restain_method::color::{ChannelStats, color_match, hed_jitter};
use restain_method::synth::{Scratch, Synthesiser};
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
    /// Random stain densities (Tellez et al. 2018).
    HedJitter,
    /// The per-channel mean and standard deviation of another tile.
    ColorMatch,
    /// The bundle's encoder and another tile's style.
    Vit,
}

impl Technique {
    /// Returns its name, as on the command line and in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::HedJitter => "hed-jitter",
            Self::ColorMatch => "color-match",
            Self::Vit => "vit",
        }
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

/// The anatomy of the training tiles, and the synthesiser that turns it into pixels.
struct Anatomies {
    synth: Synthesiser,
    /// f16 [N, h] for each training tile.
    halves: Vec<Vec<f16>>,
}

/// Makes variants of the training tiles.
pub(super) struct Maker<'a> {
    tiles: &'a Tiles,
    stats: Vec<ChannelStats>,
    looks: Vec<Look>,
    /// Indices into `looks` by domain, for styles of the bank; `None` if each look belongs to a
    /// tile, which never uses its own.
    bank: Option<Vec<Vec<usize>>>,
    anatomies: Option<Anatomies>,
    hed_sigma: f32,
}

/// Buffers of one thread.
pub(super) struct Bench {
    scratch: Option<Scratch>,
    synthesised: Vec<u8>,
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
            Self { tiles, looks: Vec::new(), bank: None, anatomies: None, hed_sigma, stats };
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

    /// Encodes every tile and keeps its anatomy. Returns the style of each tile, or none if styles
    /// come from the bank.
    fn encode(&mut self, model: &mut Model) -> Result<Vec<Style>> {
        let (side, of_model) = (self.tiles.side, model.synth.geometry().image_size());
        let synth = model.synth.clone();
        let lent = |tile: &Encoded| {
            let token =
                exemplar::representative(&synth, &tile.tile, &tile.anatomy, &tile.characteristics);
            exemplar::style_of(synth.geometry(), &tile.characteristics, token)
        };
        let (mut halves, mut styles) = (Vec::new(), Vec::new());
        // In chunks: an encoding takes four times the memory of what is kept of it.
        for chunk in self.tiles.pixels.chunks(ENCODED_AT_ONCE) {
            let encoded = model
                .encode(chunk.par_iter().map(|tile| resized(tile, side, of_model)).collect())?;
            halves.extend(
                encoded
                    .iter()
                    .map(|tile| tile.anatomy.iter().map(|&value| f16::from_f32(value)).collect()),
            );
            if self.bank.is_none() {
                styles.par_extend(encoded.par_iter().map(lent));
            }
            tracing::info!("encoded {} of {} training tiles", halves.len(), self.tiles.len());
        }
        self.anatomies = Some(Anatomies { synth, halves });
        Ok(styles)
    }

    pub(super) fn bench(&self) -> Bench {
        let scratch = self.anatomies.as_ref().map(|anatomies| anatomies.synth.scratch());
        let bytes =
            self.anatomies.as_ref().map_or(0, |anatomies| anatomies.synth.geometry().tile_bytes());
        Bench { scratch, synthesised: vec![0; bytes] }
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
            Technique::HedJitter => hed_jitter(pixels, self.hed_sigma, rng, out),
            Technique::ColorMatch => {
                color_match(pixels, &self.stats[tile], &self.draw(tile, rng).stats, out)
            }
            Technique::Vit => {
                let style = &self.draw(tile, rng).style;
                let anatomies = self.anatomies.as_ref().expect("vit is refused without a bundle");
                let scratch = bench.scratch.as_mut().expect("a bench of this maker");
                anatomies.synth.broadcast(
                    &anatomies.halves[tile],
                    &style.0,
                    scratch,
                    &mut bench.synthesised,
                );
                out.copy_from_slice(&resized(
                    &bench.synthesised,
                    anatomies.synth.geometry().image_size(),
                    self.tiles.side,
                ));
            }
        }
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
