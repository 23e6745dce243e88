//! Variants by the trained model: the product of a tile's anatomy and a style, alone or carried by
//! the tile itself. Pure computing, on a CPU thread.

use half::f16;
use half::slice::HalfFloatSliceExt as _;

use super::choose::Choice;
use super::make::{Chosen, Materials, Prepared};
use super::plan::Plan;
use super::request::{Detail, Method};
use super::workspace::Workspace;
use crate::serve::batch::{Carried, TileEncoding, Window};
use crate::serve::styles::Offer;
use restain_method::geometry::CHANNELS;
use restain_method::glass::keep_glass;
use restain_method::synth::{Carry, Element, Residual, Scratch};

/// The style of a variant.
enum Style<'a> {
    /// `[S]`, for every patch.
    One(&'a [f32]),
    /// `[N, S]`, patch by patch, and `S`.
    Each(&'a [f16], usize),
}

impl Materials {
    /// The common case, all variants of a tile in one go over its anatomy: styles of the bank,
    /// whole, at the model's size. Says whether it was that case.
    pub(super) fn at_once(
        &self,
        tile: &Prepared,
        chosen: &[Chosen],
        workspace: &mut Workspace,
        outs: &mut [&mut [u8]],
    ) -> bool {
        let Plan { model, bank, method, .. } = &self.plan;
        let in_part = |chosen: &Chosen| chosen.strength < 1.0 || self.slide(chosen).is_some();
        if *method != Method::Vit || chosen.iter().any(in_part) {
            return false;
        }
        let Some(styles) = chosen.iter().map(|chosen| whole(bank, chosen)).collect() else {
            return false;
        };
        let styles: Vec<&[f32]> = styles;
        let (own, scratch) = (tile.encoding(), &mut workspace.scratch);
        let (synthesiser, anatomy) = (&model.synthesiser, own.first().anatomy);
        match self.carried(own) {
            None => synthesiser.broadcast_each(anatomy, &styles, scratch, outs),
            Some(Carried::Residual(residual, glass)) => {
                synthesiser.carry_each(Carry { anatomy, residual }, &styles, scratch, outs);
                outs.iter_mut().for_each(|out| glass.keep(out));
            }
            Some(Carried::Pixels(_)) => return false,
        }
        true
    }

    /// One variant of `tile`, into `out` `[height, width, 3] u8`.
    pub(super) fn vit(
        &self,
        tile: &Prepared,
        chosen: &Chosen,
        workspace: &mut Workspace,
        out: &mut [u8],
    ) {
        let own = tile.encoding();
        match self.carried(own) {
            None => self.product(own, None, chosen, workspace, out),
            Some(Carried::Residual(residual, glass)) => {
                self.product(own, Some(residual), chosen, workspace, out);
                glass.keep(out);
            }
            Some(Carried::Pixels(pixels)) if self.keeps(chosen) => out.copy_from_slice(pixels),
            Some(Carried::Pixels(pixels)) => {
                self.change(tile, chosen, workspace);
                let Workspace { change, upsample, upsampler, .. } = workspace;
                upsampler.of(own).add(change, pixels, upsample, out);
                keep_glass(pixels, out);
            }
        }
    }

    /// Whether a variant of a tile that is carried is the tile itself.
    fn keeps(&self, chosen: &Chosen) -> bool {
        chosen.strength == 0.0 || matches!(chosen.choice, Choice::None)
    }

    /// What the variants of a tile are carried by; nothing when they are the bare product.
    fn carried<'a>(&self, own: &'a TileEncoding) -> Option<&'a Carried> {
        (self.plan.detail == Detail::Carry).then(|| own.carried())
    }

    /// The product at the model's size, with the residual where it is carried.
    fn product(
        &self,
        own: &TileEncoding,
        residual: Option<&Residual>,
        chosen: &Chosen,
        workspace: &mut Workspace,
        out: &mut [u8],
    ) {
        let (synthesiser, strength) = (&self.plan.model.synthesiser, chosen.strength);
        let Window { anatomy, characteristics } = own.first();
        let Workspace { scratch, mixed, style: wide, .. } = workspace;
        let carry = residual.map(|residual| Carry { anatomy, residual });
        if let (Some(carry), true) = (carry, strength == 0.0) {
            return synthesiser.restore(carry, characteristics, scratch, out);
        }
        let style = self.style(own, chosen, wide);
        if let Some(slide) = self.slide(chosen) {
            mixed.resize(characteristics.len(), 0.0);
            style.combine(characteristics, mixed, |place, own, style| {
                own + (style - slide[place]) * strength
            });
            return self.aligned(anatomy, carry, mixed, scratch, out);
        }
        match (style, strength >= 1.0) {
            (Style::One(style), true) => match carry {
                None => synthesiser.broadcast(anatomy, style, scratch, out),
                Some(carry) => synthesiser.carry_each(carry, &[style], scratch, &mut [out]),
            },
            (Style::Each(styles, _), true) => self.aligned(anatomy, carry, styles, scratch, out),
            (style, false) => {
                mixed.resize(characteristics.len(), 0.0);
                match style {
                    Style::One(style) => {
                        synthesiser.blend_into(characteristics, style, strength, mixed);
                    }
                    style @ Style::Each(..) => {
                        style.combine(characteristics, mixed, |_, own, style| {
                            own * (1.0 - strength) + style * strength
                        });
                    }
                }
                self.aligned(anatomy, carry, mixed, scratch, out);
            }
        }
    }

    fn aligned<S: Element>(
        &self,
        anatomy: &[f16],
        carry: Option<Carry<'_, f16>>,
        characteristics: &[S],
        scratch: &mut Scratch,
        out: &mut [u8],
    ) {
        let synthesiser = &self.plan.model.synthesiser;
        match carry {
            None => synthesiser.aligned(anatomy, characteristics, scratch, out),
            Some(carry) => synthesiser.carry_aligned(carry, characteristics, scratch, out),
        }
    }

    /// What the style changes about a tile, at the size of its canvas, window by window. A tile in
    /// several windows shows enough to stand for its own slide: without another, its change starts
    /// from the mean of all of them.
    fn change(&self, tile: &Prepared, chosen: &Chosen, workspace: &mut Workspace) {
        let own = tile.encoding();
        let synthesiser = &self.plan.model.synthesiser;
        let Workspace { scratch, mixed, style: wide, change, of_window, .. } = workspace;
        let window_values = synthesiser.geometry().tile_bytes();
        mixed.resize(synthesiser.geometry().tile_characteristics(), 0.0);
        let (style, slide) = (self.style(own, chosen, wide), self.slide(chosen));
        if own.windows.is_whole() {
            change.resize(window_values, 0.0);
            let Window { anatomy, characteristics } = own.first();
            self.differ((&style, chosen.strength), slide, characteristics, mixed);
            return synthesiser.change(anatomy, mixed, scratch, change);
        }
        let slide = slide.or_else(|| tile.own_stain(synthesiser));
        let (columns, rows) = own.windows.canvas();
        change.clear();
        change.resize(columns * rows * CHANNELS, 0.0);
        of_window.resize(window_values, 0.0);
        for (index, Window { anatomy, characteristics }) in own.seen().enumerate() {
            self.differ((&style, chosen.strength), slide, characteristics, mixed);
            synthesiser.change(anatomy, mixed, scratch, of_window);
            own.windows.blend(index, of_window, change);
        }
    }

    /// How far a style is from a tile's own characteristics `[N, S]`, or from its slide's `[S]`, by
    /// the strength.
    fn differ(
        &self,
        (style, strength): (&Style<'_>, f32),
        slide: Option<&[f32]>,
        own: &[f16],
        out: &mut [f32],
    ) {
        match (style, slide) {
            (style, Some(slide)) => {
                style.combine(own, out, |place, _, style| (style - slide[place]) * strength);
            }
            (Style::One(style), None) => {
                self.plan.model.synthesiser.difference_into(own, style, strength, out);
            }
            (style, None) => style.combine(own, out, |_, own, style| (style - own) * strength),
        }
    }

    /// The characteristics `[S]` of the slide that a variant's tile is from, where it has one and
    /// takes a style.
    fn slide(&self, chosen: &Chosen) -> Option<&[f32]> {
        let takes = !matches!(chosen.choice, Choice::None);
        self.plan.slide_of(chosen.tile).filter(|_| takes).map(|slide| &slide.style.0[..])
    }

    /// `wide` `[S]` holds the style where it does not lie ready.
    fn style<'a>(
        &'a self,
        own: &'a TileEncoding,
        chosen: &'a Chosen,
        wide: &'a mut [f32],
    ) -> Style<'a> {
        let geometry = &self.plan.model.bundle.manifest.geometry;
        if let Some(style) = whole(&self.plan.bank, chosen) {
            return Style::One(style);
        }
        match chosen.choice {
            Choice::Bank(_) => unreachable!("it is whole"),
            Choice::Blend(ref styles) => {
                let weighted: Vec<_> =
                    self.weighted(styles).map(|(weight, style)| (weight, &style.style)).collect();
                let blended = restain_method::Style::blend(&weighted)
                    .expect("the plan checked the weights, and one model's styles are as long");
                wide.copy_from_slice(&blended.0);
                Style::One(wide)
            }
            Choice::Patch(of, patch) => {
                let tile = self.of(of).encoding();
                tile.characteristics_of(patch, geometry).convert_to_f32_slice(wide);
                Style::One(wide)
            }
            Choice::Whole(of) => {
                Style::Each(self.of(of).encoding().first().characteristics, geometry.style_len())
            }
            // It keeps its own.
            Choice::None => Style::Each(own.first().characteristics, geometry.style_len()),
        }
    }
}

/// A style of the bank, or what was drawn in its place; nothing where the style is made of others.
fn whole<'a>(bank: &'a Offer, chosen: &'a Chosen) -> Option<&'a [f32]> {
    match (&chosen.choice, &chosen.drawn) {
        (_, Some(drawn)) => Some(&drawn.style.0),
        (Choice::Bank(style), None) => Some(&bank.style(*style).style.0),
        _ => None,
    }
}

impl Style<'_> {
    /// `of(place, own, style)` for every number of every patch, `place` within the `h` of its
    /// patch.
    fn combine(&self, own: &[f16], out: &mut [f32], of: impl Fn(usize, f32, f32) -> f32) {
        match self {
            Self::One(style) => {
                let patches = out.chunks_exact_mut(style.len()).zip(own.chunks_exact(style.len()));
                for (out, own) in patches {
                    for (place, (out, own)) in out.iter_mut().zip(own).enumerate() {
                        *out = of(place, own.to_f32(), style[place]);
                    }
                }
            }
            Self::Each(styles, half) => {
                for (number, (out, own)) in out.iter_mut().zip(own).enumerate() {
                    *out = of(number % half, own.to_f32(), styles[number].to_f32());
                }
            }
        }
    }
}
