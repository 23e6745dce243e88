//! A request that can be done: every field checked once against the model and the server's limits, and resolved.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use super::request::{AugmentRequest, Method, Placement, Share};
use super::source::{Source, source};
use crate::serve::error::{Error, ErrorKind};
use crate::serve::models::Model;
use crate::serve::styles::Offer;
use restain_bundle::codec::ImageFormat;

/// The largest number that JSON carries exactly, everywhere.
pub const MAX_SEED: u64 = (1 << 53) - 1;
const DEFAULT_QUALITY: u8 = 90;

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
    pub strength: f32,
    pub resize: bool,
    pub output: Output,
}

/// Where the style of a variant comes from.
#[derive(Clone, Debug)]
pub struct StyleRule {
    pub source: Source,
    pub placement: Placement,
    pub share: Share,
}

#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// Nothing when the caller left the choice to the transport.
    pub format: Option<ImageFormat>,
    pub quality: u8,
    pub sheet: bool,
}

/// How many tiles came with the request.
#[derive(Clone, Copy)]
pub struct Counts {
    pub tiles: usize,
    pub references: usize,
}

impl Plan {
    /// # Errors
    /// The first field that cannot be done, with what would be right.
    pub fn new(
        model: Arc<Model>,
        request: &AugmentRequest,
        counts: Counts,
        max_variants: usize,
    ) -> Result<Self, Error> {
        let variants = request.variants.unwrap_or(1);
        let variants = usize::try_from(variants)
            .ok()
            .filter(|variants| (1..=max_variants).contains(variants))
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::VariantsOutOfRange,
                    format!("variants is {variants}, and must be from 1 to {max_variants}"),
                )
            })?;
        let strength = request.strength.unwrap_or(1.0);
        if !(0.0..=1.0).contains(&strength) {
            return Err(Error::new(
                ErrorKind::StrengthOutOfRange,
                format!("strength is {strength}, and must be from 0 to 1"),
            ));
        }
        let seed = request.seed.unwrap_or_else(draw_seed);
        if seed > MAX_SEED {
            let detail = format!(
                "seed is {seed}, and must be at most 2^53 - 1 = {MAX_SEED}, so that JSON carries it exactly"
            );
            return Err(Error::new(ErrorKind::SeedOutOfRange, detail));
        }
        let bank = model.styles.offer();
        let style = StyleRule {
            source: source(&bank, request, counts, &model.key())?,
            placement: request.style.placement,
            share: request.style.share,
        };
        let (method, resize) = (request.method, request.resize);
        Ok(Self {
            style,
            variants,
            seed,
            method,
            strength,
            resize,
            output: output(request)?,
            bank,
            model,
        })
    }

    /// Whether the encoder has to see the tiles.
    pub fn encodes(&self) -> bool {
        self.method == Method::Vit
    }
}

fn output(request: &AugmentRequest) -> Result<Output, Error> {
    let asked = request.output.quality.unwrap_or(u32::from(DEFAULT_QUALITY));
    let Some(quality) = u8::try_from(asked).ok().filter(|quality| (1..=100).contains(quality))
    else {
        return Err(Error::new(
            ErrorKind::QualityOutOfRange,
            format!("output.quality is {asked}, and must be from 1 to 100"),
        ));
    };
    Ok(Output { format: request.output.format, quality, sheet: request.output.sheet })
}

/// 53 random bits. `RandomState` is keyed by the operating system and differs from call to call.
pub fn draw_seed() -> u64 {
    RandomState::new().hash_one("seed") & MAX_SEED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_are_refused_by_name() {
        for request in
            [r#"{"strenght":1}"#, r#"{"style":{"domain":"a"}}"#, r#"{"output":{"size":3}}"#]
        {
            let error = serde_json::from_str::<AugmentRequest>(request).unwrap_err().to_string();
            assert!(error.contains("unknown field"), "{error}");
        }
    }

    #[test]
    fn a_drawn_seed_is_safe_in_json_and_new_each_time() {
        let seeds: std::collections::BTreeSet<u64> = (0..100).map(|_| draw_seed()).collect();
        assert!(seeds.len() == 100 && seeds.iter().all(|seed| *seed <= MAX_SEED));
    }
}
