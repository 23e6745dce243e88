//! One variant: the method's product, or a baseline, on pixels that are already decoded and encoded. Pure computing,
//! on a CPU thread.

use std::borrow::Cow;
use std::sync::Arc;

use rand_chacha::ChaCha8Rng;

use super::answer::{MadeVariant, Origin};
use super::choose::{Choice, Of, TileKey, Variant, choose};
use super::plan::{Counts, Plan};
use super::request::Method;
use super::source::{Part, Source};
use crate::bundle::StyleEntry;
use crate::codec::{RgbImage, resize};
use crate::method;
use crate::method::color::{ChannelStats, color_match, hed_jitter};
use crate::method::synth::Scratch;
use crate::serve::batch::TileEncoding;

/// HED-light of Tellez et al. at strength 1.
const HED_SIGMA: f32 = 0.05;

/// A decoded tile and, when the method needs it, what the encoder made of it.
pub struct Prepared {
    pub key: TileKey,
    pub picture: Arc<RgbImage>,
    pub encoding: Option<Arc<TileEncoding>>,
}

/// Everything that the variants of a request are made from.
pub struct Materials {
    pub plan: Plan,
    pub tiles: Vec<Prepared>,
    pub references: Vec<Prepared>,
}

/// Buffers of one thread.
pub struct Workspace {
    scratch: Scratch,
    /// `[N, h]`: characteristics mixed with the tile's own.
    mixed: Vec<f32>,
}

impl Materials {
    pub fn workspace(&self) -> Workspace {
        let synthesiser = &self.plan.model.synthesiser;
        Workspace { scratch: synthesiser.scratch(), mixed: vec![0.0; synthesiser.geometry().tile_latent()] }
    }

    /// The `index`-th variant of the `tile`-th tile.
    pub fn make(&self, tile: usize, index: usize, workspace: &mut Workspace) -> MadeVariant {
        let prepared = &self.tiles[tile];
        let counts = Counts { tiles: self.tiles.len(), references: self.references.len() };
        let (choice, mut generator) = choose(&self.plan, counts, Variant { key: &prepared.key, tile, index });
        let picture = match self.plan.method {
            Method::Vit => self.vit(prepared, &choice, workspace),
            Method::ColorMatch => self.color_match(&prepared.picture, &choice),
            Method::HedJitter => self.hed_jitter(&prepared.picture, &mut generator),
            Method::Identity => (*prepared.picture).clone(),
        };
        MadeVariant { picture, origin: self.origin(&choice, index) }
    }

    fn vit(&self, tile: &Prepared, choice: &Choice, workspace: &mut Workspace) -> RgbImage {
        let Plan { model, strength, .. } = &self.plan;
        let synthesiser = &model.synthesiser;
        let side = synthesiser.geometry().image_size();
        let mut pixels = vec![0; synthesiser.geometry().tile_bytes()];
        let own = encoding(tile);
        let Workspace { scratch, mixed } = workspace;
        match (self.style(choice), *strength >= 1.0) {
            (Style::One(style), true) => synthesiser.broadcast(&own.anatomy, &style, scratch, &mut pixels),
            (Style::One(style), false) => {
                synthesiser.blend_into(&own.characteristics, &style, *strength, mixed);
                synthesiser.aligned(&own.anatomy, mixed, scratch, &mut pixels);
            }
            (Style::Each(styles), true) => synthesiser.aligned(&own.anatomy, styles, scratch, &mut pixels),
            (Style::Each(styles), false) => {
                for ((out, own), style) in mixed.iter_mut().zip(&own.characteristics).zip(styles) {
                    *out = own * (1.0 - strength) + style * strength;
                }
                synthesiser.aligned(&own.anatomy, mixed, scratch, &mut pixels);
            }
        }
        let made = RgbImage { width: side, height: side, pixels };
        resize(&made, tile.picture.width, tile.picture.height)
    }

    fn style(&self, choice: &Choice) -> Style<'_> {
        let half = self.plan.model.bundle.manifest.geometry.half();
        match *choice {
            Choice::Bank(style) => Style::One(Cow::Borrowed(&self.plan.bank.style(style).style.0)),
            Choice::Blend(ref styles) => {
                let weighted: Vec<_> = self.weighted(styles).map(|(weight, style)| (weight, &style.style)).collect();
                let blended = method::Style::blend(&weighted).expect("the plan checked the weights, and one model's styles are as long");
                Style::One(Cow::Owned(blended.0))
            }
            Choice::Patch(of, patch) => Style::One(Cow::Borrowed(&encoding(self.of(of)).characteristics[patch * half..][..half])),
            Choice::Whole(of) => Style::Each(&encoding(self.of(of)).characteristics),
            Choice::None => unreachable!("the plan gives the method vit a style"),
        }
    }

    /// The styles of a blend with their weights as asked.
    fn weighted(&self, styles: &[usize]) -> impl Iterator<Item = (f32, &StyleEntry)> {
        let parts: &[Part] = if let Source::Blend(parts) = &self.plan.style.source { parts } else { &[] };
        parts.iter().zip(styles).map(|(part, &style)| (part.weight, self.plan.bank.style(style)))
    }

    fn of(&self, of: Of) -> &Prepared {
        match of {
            Of::Tile(index) => &self.tiles[index],
            Of::Reference(index) => &self.references[index],
        }
    }

    fn color_match(&self, tile: &RgbImage, choice: &Choice) -> RgbImage {
        let target = match *choice {
            Choice::Bank(style) => self.plan.bank.style(style).source,
            Choice::Blend(ref styles) => {
                ChannelStats::blend(&self.weighted(styles).map(|(weight, style)| (weight, style.source)).collect::<Vec<_>>())
            }
            Choice::Patch(of, _) | Choice::Whole(of) => ChannelStats::from_tile(&self.of(of).picture.pixels),
            Choice::None => unreachable!("the plan gives the method color-match a style"),
        };
        let mut pixels = vec![0; tile.pixels.len()];
        color_match(&tile.pixels, &ChannelStats::from_tile(&tile.pixels), &target, &mut pixels);
        if self.plan.strength < 1.0 {
            for (out, &own) in pixels.iter_mut().zip(&tile.pixels) {
                let mixed = f32::from(own) * (1.0 - self.plan.strength) + f32::from(*out) * self.plan.strength;
                *out = mixed.round() as u8;
            }
        }
        RgbImage { pixels, ..*tile }
    }

    fn hed_jitter(&self, tile: &RgbImage, generator: &mut ChaCha8Rng) -> RgbImage {
        let mut pixels = vec![0; tile.pixels.len()];
        hed_jitter(&tile.pixels, HED_SIGMA * self.plan.strength, generator, &mut pixels);
        RgbImage { pixels, ..*tile }
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
                let parts: Vec<String> = self.weighted(styles).map(|(weight, style)| format!("{}*{}", style.id, weight / sum)).collect();
                let is_one = styles.iter().all(|&style| bank.domain_of(style) == bank.domain_of(styles[0]));
                (Some(parts.join("+")), if is_one { domain(styles[0]) } else { None })
            }
            // Colour matching takes the whole tile's statistics; which patch was drawn says nothing.
            Choice::Patch(of, patch) if self.plan.method == Method::Vit => (Some(format!("{}#{patch}", name(of))), None),
            Choice::Patch(of, _) | Choice::Whole(of) => (Some(name(of)), None),
            Choice::None => (None, None),
        };
        Origin { index, style, domain }
    }
}

enum Style<'a> {
    /// `[h]`, for every patch.
    One(Cow<'a, [f32]>),
    /// `[N, h]`, patch by patch.
    Each(&'a [f32]),
}

fn encoding(prepared: &Prepared) -> &TileEncoding {
    prepared.encoding.as_ref().expect("the pipeline encodes every tile of a plan that needs it")
}
