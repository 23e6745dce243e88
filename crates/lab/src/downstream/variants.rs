//! The augmentations that are compared: one variant of a training tile, as the server would make it.
//!
//! Tiles are encoded once; a variant then costs the product alone. Whatever the method, the generator is asked in the
//! same way, so that `color-match` and `vit` take the same tile's or bank entry's stain for the same tile in the same epoch.

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

/// Between two lines of progress.
const ENCODED_AT_ONCE: usize = 256;

/// `--methods`.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// The tile once more.
    None,
    /// Stain densities changed by chance (Tellez et al. 2018).
    HedJitter,
    /// Per-channel mean and deviation of another tile.
    ColorMatch,
    /// The bundle's encoder and another tile's style.
    Vit,
}

impl Method {
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::HedJitter => "hed-jitter",
            Self::ColorMatch => "color-match",
            Self::Vit => "vit",
        }
    }
}

/// `--styles`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum StyleSource {
    /// The bundle's style bank: a domain, then one of its styles.
    Bank,
    /// Any other training tile: its most representative token, or its channel statistics.
    Train,
}

/// A stain to put on.
struct Look {
    stats: ChannelStats,
    /// Empty where no model is asked for.
    style: Style,
}

/// Latents of the training tiles, and what turns them into pixels.
struct Anatomies {
    synth: Synthesiser,
    /// [N, h] of each training tile.
    halves: Vec<Vec<f16>>,
}

/// Makes variants of the training tiles.
pub(super) struct Maker<'a> {
    tiles: &'a Tiles,
    stats: Vec<ChannelStats>,
    looks: Vec<Look>,
    /// Of the bank, the looks by domain; `None`: a look belongs to each tile, and a tile never takes its own.
    bank: Option<Vec<Vec<usize>>>,
    anatomies: Option<Anatomies>,
    hed_sigma: f32,
}

/// What one thread needs beside the maker.
pub(super) struct Bench {
    scratch: Option<Scratch>,
    synthesised: Vec<u8>,
}

impl<'a> Maker<'a> {
    /// `model`: where a method or the bank needs one.
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
            ensure!(tiles.len() > 1, "one training tile has no other to take a style from");
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
            "the bundle has no styles: fill its bank with restain-train styles, or use --styles train"
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

    /// Keeps the anatomy of every tile; the style that each of them lends, where there is no bank.
    fn encode(&mut self, model: &mut Model) -> Result<Vec<Style>> {
        let (side, of_model) = (self.tiles.side, model.synth.geometry().image_size());
        let synth = model.synth.clone();
        let lent = |tile: &Encoded| {
            let token =
                exemplar::representative(&synth, &tile.tile, &tile.anatomy, &tile.characteristics);
            exemplar::style_of(synth.geometry(), &tile.characteristics, token)
        };
        let (mut halves, mut styles) = (Vec::new(), Vec::new());
        // What the encoder says of a tile takes four times what is kept of it.
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

    /// A variant of one tile into `out` [side, side, 3].
    pub(super) fn make(
        &self,
        method: Method,
        tile: usize,
        rng: &mut ChaCha8Rng,
        bench: &mut Bench,
        out: &mut [u8],
    ) {
        let pixels = &self.tiles.pixels[tile];
        match method {
            Method::None => out.copy_from_slice(pixels),
            Method::HedJitter => hed_jitter(pixels, self.hed_sigma, rng, out),
            Method::ColorMatch => {
                color_match(pixels, &self.stats[tile], &self.draw(tile, rng).stats, out)
            }
            Method::Vit => {
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

/// A square tile at another size; as the server does with `resize`.
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
                maker.make(Method::ColorMatch, 2, &mut rng, &mut bench, &mut out);
                out[0]
            })
            .collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, [100, 101, 103]);
        maker.make(Method::None, 2, &mut rng, &mut bench, &mut out);
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
