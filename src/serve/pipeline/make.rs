//! Variants of a tile: the method's product, or a baseline, on tiles that are already decoded and
//! encoded. Pure computing, on a CPU thread.

use std::sync::Arc;

use bytes::Bytes;
use half::f16;
use half::slice::HalfFloatSliceExt as _;
use rand_chacha::ChaCha8Rng;

use super::answer::Origin;
use super::choose::{Choice, Givers, Of, Variant, choose};
use super::decode::{Decoded, TilePixels};
use super::plan::Plan;
use super::request::Method;
use super::source::{Part, Source};
use crate::serve::batch::TileEncoding;
use restain_bundle::StyleEntry;
use restain_bundle::codec::{RgbImage, TileKey, resize};
use restain_method::color::{ChannelStats, color_match, hed_jitter};
use restain_method::synth::Scratch;

/// HED-light of Tellez et al. at strength 1.
const HED_SIGMA: f32 = 0.05;

/// A tile, with what its variants are made from.
pub(super) struct Prepared {
    pub key: TileKey,
    pub width: usize,
    pub height: usize,
    /// Whether it came as a key.
    pub by_key: bool,
    /// `[height, width, 3] u8`, when the method or the form of the answer needs them.
    pub original: Option<Bytes>,
    /// What the encoder made of it, when the method needs that.
    pub encoding: Option<Arc<TileEncoding>>,
    /// Whether there is a stain in its pixels; unknown of a key.
    pub has_stain: Option<bool>,
    /// The pixels that the encoder saw, when they came with the request.
    pub for_model: Option<Bytes>,
}

impl Prepared {
    /// Puts tiles and their encodings together; without encodings the method works on pixels.
    /// `keep` keeps the pixels all the same.
    pub(super) fn all(
        tiles: Vec<Decoded>,
        encodings: Vec<Arc<TileEncoding>>,
        keep: bool,
    ) -> Vec<Self> {
        let mut encodings = encodings.into_iter();
        let mut prepare = |tile: Decoded| {
            let encoding = encodings.next();
            let by_key = tile.pixels.is_none();
            let of_encoding = encoding
                .as_ref()
                .map_or((0, 0), |encoding| (encoding.size.0 as usize, encoding.size.1 as usize));
            let (width, height) = tile
                .pixels
                .as_ref()
                .map_or(of_encoding, |TilePixels { width, height, .. }| (*width, *height));
            let has_stain = tile.pixels.as_ref().map(|pixels| pixels.has_stain);
            let for_model = tile.pixels.as_ref().and_then(|pixels| pixels.for_model.clone());
            let original =
                tile.pixels.map(|pixels| pixels.bytes).filter(|_| keep || encoding.is_none());
            Self { key: tile.key, width, height, by_key, original, encoding, has_stain, for_model }
        };
        tiles.into_iter().map(&mut prepare).collect()
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
    /// Empty where the style is not one of these tiles.
    pub givers: Givers,
}

/// Buffers of one thread.
pub(super) struct Workspace {
    scratch: Scratch,
    /// `[h]`: a style, widened.
    style: Vec<f32>,
    /// `[N, h]`: characteristics mixed with the tile's own.
    mixed: Vec<f32>,
    /// `[H, W, 3] u8` of the model, for a tile of another size.
    pixels: Vec<u8>,
}

impl Materials {
    pub(super) fn workspace(&self) -> Workspace {
        let synthesiser = &self.plan.model.synthesiser;
        let geometry = synthesiser.geometry();
        let mixes = self.plan.strength < 1.0;
        Workspace {
            scratch: synthesiser.scratch(),
            style: vec![0.0; geometry.half()],
            mixed: vec![0.0; if mixes { geometry.tile_latent() } else { 0 }],
            pixels: Vec::new(),
        }
    }

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
        let takes = self.takes_style(prepared);
        let chosen = (0..outs.len()).map(|n| {
            let variant = Variant { key: &prepared.key, tile, index: first + n };
            let (choice, generator) = choose(&self.plan, &self.givers, variant);
            (if takes { choice } else { Choice::None }, generator)
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

    /// The common case, all variants of a tile in one go over its anatomy: styles of the bank,
    /// whole, at the model's size. Says whether it was that case.
    fn at_once(
        &self,
        tile: &Prepared,
        chosen: &[(Choice, ChaCha8Rng)],
        workspace: &mut Workspace,
        outs: &mut [&mut [u8]],
    ) -> bool {
        let Plan { model, strength, bank, method, .. } = &self.plan;
        let side = model.synthesiser.geometry().image_size();
        if *method != Method::Vit || *strength < 1.0 || (tile.width, tile.height) != (side, side) {
            return false;
        }
        let style = |(choice, _): &(Choice, ChaCha8Rng)| match choice {
            Choice::Bank(style) => Some(&bank.style(*style).style.0[..]),
            _ => None,
        };
        let Some(styles) = chosen.iter().map(style).collect::<Option<Vec<&[f32]>>>() else {
            return false;
        };
        model.synthesiser.broadcast_each(
            encoding(tile).anatomy(),
            &styles,
            &mut workspace.scratch,
            outs,
        );
        true
    }

    fn vit(&self, tile: &Prepared, choice: &Choice, workspace: &mut Workspace, out: &mut [u8]) {
        let side = self.plan.model.synthesiser.geometry().image_size();
        if (tile.width, tile.height) == (side, side) {
            return self.product(encoding(tile), choice, workspace, out);
        }
        let mut pixels = std::mem::take(&mut workspace.pixels);
        pixels.resize(self.plan.model.synthesiser.geometry().tile_bytes(), 0);
        self.product(encoding(tile), choice, workspace, &mut pixels);
        let made = RgbImage { width: side, height: side, pixels };
        out.copy_from_slice(&resize(&made, tile.width, tile.height).pixels);
        workspace.pixels = made.pixels;
    }

    /// The product, at the model's size.
    fn product(
        &self,
        own: &TileEncoding,
        choice: &Choice,
        workspace: &mut Workspace,
        out: &mut [u8],
    ) {
        let Plan { model, strength, .. } = &self.plan;
        let synthesiser = &model.synthesiser;
        let Workspace { scratch, mixed, style: wide, .. } = workspace;
        match (self.style(own, choice, wide), *strength >= 1.0) {
            (Style::One(style), true) => synthesiser.broadcast(own.anatomy(), style, scratch, out),
            (Style::One(style), false) => {
                synthesiser.blend_into(own.characteristics(), style, *strength, mixed);
                synthesiser.aligned(own.anatomy(), mixed, scratch, out);
            }
            (Style::Each(styles), true) => synthesiser.aligned(own.anatomy(), styles, scratch, out),
            (Style::Each(styles), false) => {
                for ((out, own), style) in mixed.iter_mut().zip(own.characteristics()).zip(styles) {
                    *out = own.to_f32() * (1.0 - strength) + style.to_f32() * strength;
                }
                synthesiser.aligned(own.anatomy(), mixed, scratch, out);
            }
        }
    }

    /// `wide` `[h]` holds the style where it does not lie ready.
    fn style<'a>(
        &'a self,
        own: &'a TileEncoding,
        choice: &Choice,
        wide: &'a mut [f32],
    ) -> Style<'a> {
        let half = self.plan.model.bundle.manifest.geometry.half();
        match *choice {
            Choice::Bank(style) => Style::One(&self.plan.bank.style(style).style.0),
            Choice::Blend(ref styles) => {
                let weighted: Vec<_> =
                    self.weighted(styles).map(|(weight, style)| (weight, &style.style)).collect();
                let blended = restain_method::Style::blend(&weighted)
                    .expect("the plan checked the weights, and one model's styles are as long");
                wide.copy_from_slice(&blended.0);
                Style::One(wide)
            }
            Choice::Patch(of, patch) => {
                encoding(self.of(of)).characteristics()[patch * half..][..half]
                    .convert_to_f32_slice(wide);
                Style::One(wide)
            }
            Choice::Whole(of) => Style::Each(encoding(self.of(of)).characteristics()),
            // It keeps its own.
            Choice::None => Style::Each(own.characteristics()),
        }
    }

    /// The styles of a blend with their weights as asked.
    fn weighted(&self, styles: &[usize]) -> impl Iterator<Item = (f32, &StyleEntry)> {
        let parts: &[Part] =
            if let Source::Blend(parts) = &self.plan.style.source { parts } else { &[] };
        parts.iter().zip(styles).map(|(part, &style)| (part.weight, self.plan.bank.style(style)))
    }

    fn of(&self, of: Of) -> &Prepared {
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
            Choice::None => return out.copy_from_slice(tile),
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

enum Style<'a> {
    /// `[h]`, for every patch.
    One(&'a [f32]),
    /// `[N, h]`, patch by patch.
    Each(&'a [f16]),
}

fn encoding(prepared: &Prepared) -> &TileEncoding {
    prepared.encoding.as_ref().expect("the pipeline encodes every tile of a plan that needs it")
}
