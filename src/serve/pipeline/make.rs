//! Variants of a tile: the method's product, or a baseline, on tiles that are already decoded and
//! encoded. Pure computing, on a CPU thread.

use std::sync::Arc;

use bytes::Bytes;
use rand_chacha::ChaCha8Rng;

use super::answer::{EncodedTile, Origin, ten_thousandths};
use super::choose::{Choice, Givers, Of, Variant, choose};
use super::decode::{Decoded, ForModel, TilePixels};
use super::plan::Plan;
use super::request::Method;
use super::source::{Part, Source};
use super::workspace::Workspace;
use crate::serve::batch::TileEncoding;
use restain_bundle::StyleEntry;
use restain_bundle::codec::TileKey;
use restain_method::clip;
use restain_method::color::{ChannelStats, color_match, hed_jitter};
use restain_method::spread::Drawn;
use restain_method::synth::Synthesiser;

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
    /// Whether there is a stain in its pixels; unknown of a key.
    pub has_stain: Option<bool>,
    /// What the encoder saw, when the tile came with the request.
    pub for_model: Option<ForModel>,
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
            let has_stain = tile.pixels.as_ref().map(|pixels| pixels.has_stain);
            let for_model = tile.pixels.as_ref().and_then(|pixels| pixels.for_model.clone());
            let original = tile.pixels.filter(|_| keep || encoding.is_none());
            let original = original.map(|TilePixels { bytes, for_model, .. }| {
                for_model.filter(|_| side.is_some()).map_or(bytes, |seen| seen.canvas)
            });
            Self { key: tile.key, width, height, by_key, original, encoding, has_stain, for_model }
        };
        tiles.into_iter().map(&mut prepare).collect()
    }

    /// What a caller needs who makes the variants.
    pub(super) fn encoded(self, synthesiser: &Synthesiser) -> EncodedTile {
        EncodedTile {
            key: self.key,
            takes_style: self.takes_style(synthesiser),
            stain: self.own_stain(synthesiser).map(<[f32]>::to_vec),
            encoding: self.encoding.expect("the pipeline encodes the tiles of this operation"),
        }
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

impl Plan {
    /// Why a tile is unlike what the model was trained on, where it is. A tile without a stain,
    /// glass, is not what a model is asked about.
    pub(super) fn warning(&self, tile: &Prepared) -> Option<String> {
        let encoding = tile.encoding.as_ref()?;
        let (columns, rows) = encoding.windows.canvas();
        let (width, height) = encoding.size;
        let scale = (f64::from(width) / columns as f64).max(f64::from(height) / rows as f64);
        let seen = self.mpp.map(|mpp| f64::from(mpp) * scale);
        self.model.bundle.manifest.familiar.warning(encoding.fidelity, seen)
    }
}

/// What was drawn for one variant.
pub(super) struct Chosen {
    pub choice: Choice,
    /// What takes the place of the style of the bank, where styles are drawn wider than it.
    pub drawn: Option<Drawn>,
    /// The tile of the request that it is of.
    pub tile: usize,
    /// How much of the style it takes.
    pub strength: f32,
    /// Draws whatever else is random.
    pub generator: ChaCha8Rng,
}

/// Everything that the variants of a request are made from.
pub(super) struct Materials {
    pub plan: Plan,
    pub tiles: Vec<Prepared>,
    pub references: Vec<Prepared>,
    /// Empty where the style is not one of these tiles.
    pub givers: Givers,
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
        let takes = self.takes_style(prepared);
        let chosen = (0..outs.len()).map(|n| {
            let variant = Variant { key: &prepared.key, tile, index: first + n };
            let (choice, generator) = choose(&self.plan, &self.givers, variant);
            (if takes { choice } else { Choice::None }, generator)
        });
        let mut chosen: Vec<Chosen> =
            chosen.map(|(choice, generator)| self.chosen(tile, choice, generator)).collect();
        if !self.at_once(prepared, &chosen, workspace, outs) {
            for (chosen, out) in chosen.iter_mut().zip(outs.iter_mut()) {
                match self.plan.method {
                    Method::Vit => self.vit(prepared, chosen, workspace, out),
                    Method::ColorMatch => self.color_match(prepared.pixels(), chosen, out),
                    Method::HedJitter => {
                        let sigma = HED_SIGMA * chosen.strength;
                        hed_jitter(prepared.pixels(), sigma, &mut chosen.generator, out);
                    }
                    Method::Identity => out.copy_from_slice(prepared.pixels()),
                }
            }
        }
        let own = self.at_limits(prepared, workspace);
        let origins = chosen.iter().zip(outs).enumerate().map(|(n, (chosen, out))| Origin {
            clipped: own.map(|own| ten_thousandths(clip::share(own, out))),
            ..self.origin(chosen, first + n)
        });
        origins.collect()
    }

    /// How many of a tile's own values lie at 0 or 255; nothing where its variants are the bare
    /// product, and no change of it.
    fn at_limits(&self, tile: &Prepared, workspace: &mut Workspace) -> Option<usize> {
        match &tile.encoding {
            _ if self.plan.at_model_size() => None,
            None => Some(clip::at_limits(tile.pixels())),
            Some(own) => Some(own.at_limits(&self.plan.model.synthesiser, &mut workspace.scratch)),
        }
    }

    fn chosen(&self, tile: usize, choice: Choice, mut generator: ChaCha8Rng) -> Chosen {
        let drawn = match (&choice, &self.plan.style.spread) {
            (Choice::Bank(style), Some(spread)) => Some(spread.draw(*style, &mut generator)),
            _ => None,
        };
        let (least, most) = self.plan.strength;
        // Nothing is drawn where there is nothing to choose, so that seeds keep their variants.
        let strength = if least < most {
            least + (most - least) * restain_method::random::uniform(&mut generator)
        } else {
            most
        };
        Chosen { choice, drawn, tile, strength, generator }
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

    fn color_match(&self, tile: &[u8], chosen: &Chosen, out: &mut [u8]) {
        let target = match chosen.choice {
            Choice::Bank(style) => chosen
                .drawn
                .as_ref()
                .map_or_else(|| self.plan.bank.style(style).source, |drawn| drawn.source),
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
        let own = self.plan.slide_of(chosen.tile).map(|slide| slide.source);
        let own = own.unwrap_or_else(|| ChannelStats::from_tile(tile));
        color_match(tile, &own, &target, out);
        let strength = chosen.strength;
        if strength < 1.0 {
            for (out, &own) in out.iter_mut().zip(tile) {
                let mixed = f32::from(own) * (1.0 - strength) + f32::from(*out) * strength;
                *out = mixed.round() as u8;
            }
        }
    }

    fn origin(&self, chosen: &Chosen, index: usize) -> Origin {
        let (least, most) = self.plan.strength;
        let (choice, strength) = (&chosen.choice, (least < most).then_some(chosen.strength));
        let name = |of| match of {
            Of::Tile(tile) => format!("tile/{tile}"),
            Of::Reference(reference) => format!("reference/{reference}"),
        };
        let bank = &self.plan.bank;
        let domain = |style: usize| Some(bank.domain_name(bank.domain_of(style)).to_owned());
        let (style, domain) = match *choice {
            Choice::Bank(style) => {
                let spread = self.plan.style.spread.as_ref();
                let spread =
                    spread.map_or_else(String::new, |spread| format!("~{}", spread.width()));
                (Some(format!("{}{spread}", bank.style(style).id)), domain(style))
            }
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
        Origin { index, style, domain, strength, clipped: None }
    }
}
