//! A request that can be done: what depends on the model and the server's limits is checked once,
//! and resolved.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use restain_request::{MAX_SAFE_INTEGER, field};

use super::request::{Counts, Detail, Method, Placement, Request, Share};
use super::slide::Slides;
use super::source::{Source, source};
use super::spread::Spread;
use crate::serve::error::{Error, ErrorKind};
use crate::serve::models::Model;
use crate::serve::styles::Offer;
use restain_bundle::StyleEntry;
use restain_bundle::codec::ImageFormat;

/// What will be done, to every tile.
#[derive(Clone)]
pub struct Plan {
    pub model: Arc<Model>,
    /// The styles of the bank, as they were when the request came.
    pub bank: Offer,
    pub variants: usize,
    pub seed: u64,
    pub method: Method,
    pub style: StyleRule,
    /// What the change of stain starts from.
    pub slides: Slides,
    /// From which to which; mostly the same.
    pub strength: (f32, f32),
    pub detail: Detail,
    /// Size of the tiles' pixels, µm, where the request says it.
    pub mpp: Option<f32>,
    pub output: Output,
}

/// Where the style of a variant comes from.
#[derive(Clone)]
pub struct StyleRule {
    pub source: Source,
    pub placement: Placement,
    pub share: Share,
    /// How wide styles of the bank are drawn, unless as it holds them.
    pub spread: Option<Arc<Spread>>,
}

#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// Nothing when the caller left the choice to the transport.
    pub format: Option<ImageFormat>,
    pub quality: u8,
    pub sheet: bool,
}

impl Plan {
    /// Resolves a request against the model and the server's largest number of variants.
    ///
    /// # Errors
    /// The first field that cannot be done, with what is allowed.
    pub fn new(
        model: Arc<Model>,
        request: &Request,
        counts: Counts,
        max_variants: usize,
    ) -> Result<Self, Error> {
        let variants = usize::try_from(request.variants)
            .ok()
            .filter(|variants| *variants <= max_variants)
            .ok_or_else(|| {
                let (name, given) = (request.name(&field::variants), request.variants);
                Error::new(
                    ErrorKind::VariantsOutOfRange,
                    format!(
                        "{name} is {given}, and must be a whole number from 1 to {max_variants}"
                    ),
                )
            })?;
        let bank = model.styles.offer();
        let source = source(&bank, request, counts, &model.key())?;
        let slides = Slides::new(&bank, request, counts)?;
        let style = StyleRule {
            spread: Spread::new(&bank, &source, request.style_spread).map(Arc::new),
            source,
            placement: request.style_placement,
            share: request.style_share,
        };
        let output = Output {
            format: request.output_format,
            quality: request.output_quality,
            sheet: request.output_sheet,
        };
        Ok(Self {
            style,
            variants,
            seed: request.seed.unwrap_or_else(draw_seed),
            method: request.method,
            slides,
            strength: strength(request)?,
            detail: request.detail,
            mpp: request.mpp,
            output,
            bank,
            model,
        })
    }

    /// Whether the encoder has to see the tiles.
    pub fn encodes(&self) -> bool {
        self.method == Method::Vit
    }

    /// Whether variants have the model's size, and not the tile's own.
    pub fn at_model_size(&self) -> bool {
        self.encodes() && self.detail == Detail::Model
    }

    /// Whether tiles are seen in one window each, however large: the variants have its size, or
    /// styles are placed patch by patch.
    pub(super) fn needs_one_window(&self) -> bool {
        self.at_model_size() || self.style.placement == Placement::Aligned
    }

    /// The slide of a tile of the request, where its method takes a style.
    pub(super) fn slide_of(&self, tile: usize) -> Option<&StyleEntry> {
        let place = self.slides.of(tile)?;
        if !matches!(self.method, Method::Vit | Method::ColorMatch) {
            return None;
        }
        Some(self.bank.slide(place))
    }
}

/// # Errors
/// `strength_out_of_range`, when the least is above the most.
fn strength(request: &Request) -> Result<(f32, f32), Error> {
    let most = request.strength;
    let least = request.strength_from.unwrap_or(most);
    if least <= most {
        return Ok((least, most));
    }
    let (from, to) = (request.name(&field::strength_from), request.name(&field::strength));
    let detail = format!("{from} is {least}, and must be at most {to}, which is {most}");
    Err(Error::new(ErrorKind::StrengthOutOfRange, detail))
}

/// 53 random bits. `RandomState` is keyed by the operating system and differs from call to call.
pub fn draw_seed() -> u64 {
    RandomState::new().hash_one("seed") & MAX_SAFE_INTEGER
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawn_seed_is_safe_in_json_and_new_each_time() {
        let seeds: std::collections::BTreeSet<u64> = (0..100).map(|_| draw_seed()).collect();
        assert!(seeds.len() == 100 && seeds.iter().all(|seed| *seed <= MAX_SAFE_INTEGER));
    }
}
