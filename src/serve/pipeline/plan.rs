//! A request that can be done: every field checked once against the model and the server's limits, and resolved.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use super::request::{AugmentRequest, Method, Placement, Share, StyleRequest, StyleSource};
use crate::bundle::StyleBank;
use crate::codec::ImageFormat;
use crate::serve::error::{Error, ErrorKind};
use crate::serve::models::Model;

/// The largest number that JSON carries exactly, everywhere.
pub const MAX_SEED: u64 = (1 << 53) - 1;
const DEFAULT_QUALITY: u8 = 90;

/// What will be done, to every tile.
#[derive(Clone)]
pub struct Plan {
    pub model: Arc<Model>,
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

#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// Indices into the bank, grouped by domain; no group is empty.
    Bank(Vec<Vec<usize>>),
    Batch,
    Reference,
    Own,
    /// The method takes no style.
    None,
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
    pub fn new(model: Arc<Model>, request: &AugmentRequest, counts: Counts, max_variants: usize) -> Result<Self, Error> {
        let variants = request.variants.unwrap_or(1);
        let variants = usize::try_from(variants).ok().filter(|variants| (1..=max_variants).contains(variants)).ok_or_else(|| {
            Error::new(ErrorKind::VariantsOutOfRange, format!("variants is {variants}, and must be from 1 to {max_variants}"))
        })?;
        let strength = request.strength.unwrap_or(1.0);
        if !(0.0..=1.0).contains(&strength) {
            return Err(Error::new(ErrorKind::StrengthOutOfRange, format!("strength is {strength}, and must be from 0 to 1")));
        }
        let seed = request.seed.unwrap_or_else(draw_seed);
        if seed > MAX_SEED {
            let detail = format!("seed is {seed}, and must be at most 2^53 - 1 = {MAX_SEED}, so that JSON carries it exactly");
            return Err(Error::new(ErrorKind::SeedOutOfRange, detail));
        }
        let style = StyleRule {
            source: source(&model.bundle.styles, request, counts)?,
            placement: request.style.placement,
            share: request.style.share,
        };
        let (method, resize) = (request.method, request.resize);
        Ok(Self { style, variants, seed, method, strength, resize, output: output(request)?, model })
    }

    /// Whether the encoder has to see the tiles.
    pub fn encodes(&self) -> bool {
        self.method == Method::Vit
    }
}

fn output(request: &AugmentRequest) -> Result<Output, Error> {
    let asked = request.output.quality.unwrap_or(u32::from(DEFAULT_QUALITY));
    let Some(quality) = u8::try_from(asked).ok().filter(|quality| (1..=100).contains(quality)) else {
        return Err(Error::new(ErrorKind::QualityOutOfRange, format!("output.quality is {asked}, and must be from 1 to 100")));
    };
    Ok(Output { format: request.output.format, quality, sheet: request.output.sheet })
}

/// 53 random bits. `RandomState` is keyed by the operating system and differs from call to call.
fn draw_seed() -> u64 {
    RandomState::new().hash_one("seed") & MAX_SEED
}

fn source(bank: &StyleBank, request: &AugmentRequest, counts: Counts) -> Result<Source, Error> {
    let style = &request.style;
    if style.from == StyleSource::Bank {
        // Read even when the method takes no style, so that a name that is wrong is always told.
        let groups = candidates(bank, style)?;
        return match request.method {
            Method::HedJitter | Method::Identity => Ok(Source::None),
            Method::Vit if style.placement == Placement::Aligned => conflict(
                "style.placement `aligned` needs a style tile, and a style of the bank is one patch: set style.from to `reference`",
            ),
            _ if groups.is_empty() => {
                Err(Error::new(ErrorKind::NoStyles, "no style of the bank fits style.domains, exclude_domains and ids together"))
            }
            _ => Ok(Source::Bank(groups)),
        };
    }
    let bank_only = [("domains", &style.domains), ("exclude_domains", &style.exclude_domains), ("ids", &style.ids)];
    if let Some((field, _)) = bank_only.iter().find(|(_, list)| list.is_some()) {
        return conflict(&format!("style.{field} chooses from the bank, and style.from is not `bank`"));
    }
    match (request.method, style.from) {
        (Method::HedJitter | Method::Identity, _) => Ok(Source::None),
        (_, StyleSource::Reference) if counts.references == 0 => {
            Err(Error::new(ErrorKind::NoStyles, "style.from is `reference`, and the request holds no reference tile"))
        }
        (_, StyleSource::Batch) if counts.tiles < 2 => {
            Err(Error::new(ErrorKind::NoStyles, "style.from is `batch`, and the request holds no other tile to take a style from"))
        }
        (_, StyleSource::Reference) => Ok(Source::Reference),
        (_, StyleSource::Batch) => Ok(Source::Batch),
        (_, StyleSource::Own | StyleSource::Bank) => Ok(Source::Own),
    }
}

fn conflict(detail: &str) -> Result<Source, Error> {
    Err(Error::new(ErrorKind::StyleConflict, detail))
}

/// The styles that the request leaves to choose from, by domain.
fn candidates(bank: &StyleBank, style: &StyleRequest) -> Result<Vec<Vec<usize>>, Error> {
    let domain_index = |field: &str, domain: &String| {
        bank.domains.iter().position(|known| known == domain).ok_or_else(|| {
            let known = if bank.domains.is_empty() { "none".to_owned() } else { bank.domains.join(", ") };
            Error::new(ErrorKind::UnknownDomain, format!("{field} names `{domain}`, and the domains of this model are: {known}"))
        })
    };
    let indices = |field: &str, list: &Option<Vec<String>>| -> Result<Option<Vec<usize>>, Error> {
        list.as_ref().map(|list| list.iter().map(|domain| domain_index(field, domain)).collect()).transpose()
    };
    let wanted = indices("style.domains", &style.domains)?;
    let excluded = indices("style.exclude_domains", &style.exclude_domains)?.unwrap_or_default();
    for id in style.ids.iter().flatten() {
        if !bank.entries.iter().any(|entry| entry.id == *id) {
            let detail = format!("style.ids names `{id}`, which the bank does not hold; GET /v1/styles lists what it holds");
            return Err(Error::new(ErrorKind::UnknownStyle, detail));
        }
    }
    let fits = |index: &usize| {
        let entry = &bank.entries[*index];
        wanted.as_ref().is_none_or(|wanted| wanted.contains(&entry.domain))
            && !excluded.contains(&entry.domain)
            && style.ids.as_ref().is_none_or(|ids| ids.contains(&entry.id))
    };
    let mut groups = vec![Vec::new(); bank.domains.len()];
    for index in (0..bank.entries.len()).filter(fits) {
        groups[bank.entries[index].domain].push(index);
    }
    groups.retain(|group| !group.is_empty());
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::method::Style;
    use crate::method::color::ChannelStats;

    fn bank() -> StyleBank {
        let mut bank = StyleBank::default();
        for domain in ["a", "a", "b"] {
            bank.push(domain, Style(vec![0.0]), ChannelStats { mean: [0.5; 3], std: [0.1; 3] });
        }
        bank
    }

    fn resolved(request: &str) -> Result<Source, Error> {
        source(&bank(), &serde_json::from_str(request).unwrap(), Counts { tiles: 1, references: 0 })
    }

    #[test]
    fn domains_and_ids_narrow_the_bank() {
        assert_eq!(resolved("{}").unwrap(), Source::Bank(vec![vec![0, 1], vec![2]]));
        assert_eq!(resolved(r#"{"style":{"domains":["b"]}}"#).unwrap(), Source::Bank(vec![vec![2]]));
        assert_eq!(resolved(r#"{"style":{"exclude_domains":["b"]}}"#).unwrap(), Source::Bank(vec![vec![0, 1]]));
        assert_eq!(resolved(r#"{"style":{"ids":["a/1","b/0"]}}"#).unwrap(), Source::Bank(vec![vec![1], vec![2]]));
    }

    #[test]
    fn styles_that_cannot_be_are_refused_by_name() {
        for (request, kind, said) in [
            (r#"{"style":{"domains":["c"]}}"#, ErrorKind::UnknownDomain, "a, b"),
            (r#"{"style":{"ids":["a/7"]}}"#, ErrorKind::UnknownStyle, "a/7"),
            (r#"{"style":{"domains":["a"],"exclude_domains":["a"]}}"#, ErrorKind::NoStyles, "together"),
            (r#"{"style":{"placement":"aligned"}}"#, ErrorKind::StyleConflict, "reference"),
            (r#"{"style":{"from":"own","domains":["a"]}}"#, ErrorKind::StyleConflict, "style.domains"),
            (r#"{"style":{"from":"reference"}}"#, ErrorKind::NoStyles, "no reference tile"),
            (r#"{"style":{"from":"batch"}}"#, ErrorKind::NoStyles, "no other tile"),
        ] {
            let error = resolved(request).unwrap_err();
            assert_eq!(error.kind, kind, "{request}: {error}");
            assert!(error.detail.contains(said), "{request}: {error}");
        }
    }

    #[test]
    fn unknown_fields_are_refused_by_name() {
        for request in [r#"{"strenght":1}"#, r#"{"style":{"domain":"a"}}"#, r#"{"output":{"size":3}}"#] {
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
