//! Variants of a tile: the method's product, or a baseline, on tiles that are already decoded and
//! encoded. Pure computing, on a CPU thread.

use std::sync::Arc;

use bytes::Bytes;
use rand_chacha::ChaCha8Rng;

use super::answer::Origin;
use super::choose::{Choice, Of, Variant, choose};
use super::decode::{Decoded, TilePixels};
use super::plan::Plan;
use super::request::{Counts, Method};
use super::source::{Part, Source};
use super::workspace::Workspace;
use crate::serve::batch::TileEncoding;
use restain_bundle::StyleEntry;
use restain_bundle::codec::TileKey;
use restain_method::color::{ChannelStats, color_match, hed_jitter};

/// HED-light of Tellez et al. at strength 1.
const HED_SIGMA: f32 = 0.05;

/// A tile, with what its variants are made from.
pub(super) struct Prepared {
    pub key: TileKey,
    /// Of its variants, in pixels.
    pub width: usize,
    pub height: usize,
    /// Whether it came as a key.
    pub by_key: bool,
    /// `[height, width, 3] u8`, when the method or the form of the answer needs it.
    pub original: Option<Bytes>,
    /// What the encoder made of it, when the method needs that.
    pub encoding: Option<Arc<TileEncoding>>,
}

impl Prepared {
    /// Puts tiles and their encodings together; without encodings the method works on pixels.
    /// `side` is that of the variants, when it is the model's and not the tile's own; `keep` keeps
    /// the pixels all the same.
    pub(super) fn all(
        tiles: Vec<Decoded>,
        encodings: Vec<Arc<TileEncoding>>,
        side: Option<usize>,
        keep: bool,
    ) -> Vec<Self> {
        let mut encodings = encodings.into_iter();
        let mut prepare = |tile: Decoded| {
            let encoding = encodings.next();
            let by_key = tile.pixels.is_none();
            let of_encoding = encoding
                .as_ref()
                .map_or((0, 0), |encoding| (encoding.size.0 as usize, encoding.size.1 as usize));
            let own = tile
                .pixels
                .as_ref()
                .map_or(of_encoding, |TilePixels { width, height, .. }| (*width, *height));
            let (width, height) = side.map_or(own, |side| (side, side));
            let original = tile.pixels.filter(|_| keep || encoding.is_none());
            let original = original.map(|TilePixels { bytes, for_model, .. }| {
                for_model.filter(|_| side.is_some()).unwrap_or(bytes)
            });
            Self { key: tile.key, width, height, by_key, original, encoding }
        };
        tiles.into_iter().map(&mut prepare).collect()
    }

    /// Of a plan that encodes.
    pub(super) fn encoding(&self) -> &TileEncoding {
        self.encoding.as_ref().expect("the pipeline encodes every tile of a plan that needs it")
    }

    /// Of a plan that works on pixels.
    fn pixels(&self) -> &[u8] {
        self.original.as_ref().expect("the pipeline keeps the pixels that a plan needs")
    }
}

/// Everything that the variants of a request are made from.
pub(super) struct Materials {
    pub plan: Plan,
    pub tiles: Vec<Prepared>,
    pub references: Vec<Prepared>,
}

impl Materials {
    /// Writes the variants of the `tile`-th tile from the `first` on, one to each of `outs`,
    /// `[height, width, 3] u8` of that tile.
    pub(super) fn make(
        &self,
        tile: usize,
        first: usize,
        workspace: &mut Workspace,
        outs: &mut [&mut [u8]],
    ) -> Vec<Origin> {
        let prepared = &self.tiles[tile];
        let counts = Counts { tiles: self.tiles.len(), references: self.references.len() };
        let chosen = (0..outs.len()).map(|n| {
            choose(&self.plan, counts, Variant { key: &prepared.key, tile, index: first + n })
        });
        let mut chosen: Vec<(Choice, ChaCha8Rng)> = chosen.collect();
        if !self.at_once(prepared, &chosen, workspace, outs) {
            for ((choice, generator), out) in chosen.iter_mut().zip(outs) {
                match self.plan.method {
                    Method::Vit => self.vit(prepared, choice, workspace, out),
                    Method::ColorMatch => self.color_match(prepared.pixels(), choice, out),
                    Method::HedJitter => self.hed_jitter(prepared.pixels(), generator, out),
                    Method::Identity => out.copy_from_slice(prepared.pixels()),
                }
            }
        }
        chosen.iter().enumerate().map(|(n, (choice, _))| self.origin(choice, first + n)).collect()
    }

    /// The styles of a blend with their weights as asked.
    pub(super) fn weighted(&self, styles: &[usize]) -> impl Iterator<Item = (f32, &StyleEntry)> {
        let parts: &[Part] =
            if let Source::Blend(parts) = &self.plan.style.source { parts } else { &[] };
        parts.iter().zip(styles).map(|(part, &style)| (part.weight, self.plan.bank.style(style)))
    }

    pub(super) fn of(&self, of: Of) -> &Prepared {
        match of {
            Of::Tile(index) => &self.tiles[index],
            Of::Reference(index) => &self.references[index],
        }
    }

    fn color_match(&self, tile: &[u8], choice: &Choice, out: &mut [u8]) {
        let target = match *choice {
            Choice::Bank(style) => self.plan.bank.style(style).source,
            Choice::Blend(ref styles) => ChannelStats::blend(
                &self
                    .weighted(styles)
                    .map(|(weight, style)| (weight, style.source))
                    .collect::<Vec<_>>(),
            ),
            Choice::Patch(of, _) | Choice::Whole(of) => {
                ChannelStats::from_tile(self.of(of).pixels())
            }
            Choice::None => unreachable!("the plan gives the method color-match a style"),
        };
        color_match(tile, &ChannelStats::from_tile(tile), &target, out);
        if self.plan.strength < 1.0 {
            for (out, &own) in out.iter_mut().zip(tile) {
                let mixed = f32::from(own) * (1.0 - self.plan.strength)
                    + f32::from(*out) * self.plan.strength;
                *out = mixed.round() as u8;
            }
        }
    }

    fn hed_jitter(&self, tile: &[u8], generator: &mut ChaCha8Rng, out: &mut [u8]) {
        hed_jitter(tile, HED_SIGMA * self.plan.strength, generator, out);
    }

    fn origin(&self, choice: &Choice, index: usize) -> Origin {
        let name = |of| match of {
            Of::Tile(tile) => format!("tile/{tile}"),
            Of::Reference(reference) => format!("reference/{reference}"),
        };
        let bank = &self.plan.bank;
        let domain = |style: usize| Some(bank.domain_name(bank.domain_of(style)).to_owned());
        let (style, domain) = match *choice {
            Choice::Bank(style) => (Some(bank.style(style).id.clone()), domain(style)),
            Choice::Blend(ref styles) => {
                let sum: f32 = self.weighted(styles).map(|(weight, _)| weight).sum();
                let parts: Vec<String> = self
                    .weighted(styles)
                    .map(|(weight, style)| format!("{}*{}", style.id, weight / sum))
                    .collect();
                let is_one =
                    styles.iter().all(|&style| bank.domain_of(style) == bank.domain_of(styles[0]));
                (Some(parts.join("+")), if is_one { domain(styles[0]) } else { None })
            }
            // Colour matching takes the whole tile's statistics; which patch was drawn says
            // nothing.
            Choice::Patch(of, patch) if self.plan.method == Method::Vit => {
                (Some(format!("{}#{patch}", name(of))), None)
            }
            Choice::Patch(of, _) | Choice::Whole(of) => (Some(name(of)), None),
            Choice::None => (None, None),
        };
        Origin { index, style, domain }
    }
}
