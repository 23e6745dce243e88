//! Where the styles of a request come from: what it says of them, checked against the bank and resolved to places in it.
//!
//! Domains that were added to the bundle are taken only where they are named: a request that names none gives today what
//! it gave before they were added. Which of the resolved styles a variant has is `choose`'s matter.

use super::plan::Counts;
use super::request::{AugmentRequest, BlendPart, Method, Placement, StyleRequest, StyleSource};
use crate::serve::error::{Error, ErrorKind};
use crate::serve::models::Key;
use crate::serve::styles::Offer;

/// Most parts of a blend.
const MAX_PARTS: usize = 16;

#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// Places in the bank, grouped by domain; no group is empty.
    Bank(Vec<Vec<usize>>),
    /// Several styles of the bank at once.
    Blend(Vec<Part>),
    Batch,
    Reference,
    Own,
    /// The method takes no style.
    None,
}

/// One part of a blend.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    pub from: PartFrom,
    /// As asked: finite and above 0.
    pub weight: f32,
}

#[derive(Clone, Debug, PartialEq)]
pub enum PartFrom {
    Style(usize),
    /// One of these, drawn for each variant; not empty.
    Domain(Vec<usize>),
}

/// Resolves what a request says of styles against the bank of `model`.
///
/// # Errors
/// The first thing that the request says of styles and cannot be done.
pub(super) fn source(
    bank: &Offer,
    request: &AugmentRequest,
    counts: Counts,
    model: &Key,
) -> Result<Source, Error> {
    let style = &request.style;
    if style.from == StyleSource::Bank {
        // Read even when the method takes no style, so that a name that is wrong is always told.
        let source = match &style.blend {
            Some(parts) => Source::Blend(blend(bank, style, parts)?),
            None => Source::Bank(candidates(bank, style)?),
        };
        return match (request.method, source) {
            (Method::HedJitter | Method::Identity, _) => Ok(Source::None),
            (Method::Vit, _) if style.placement == Placement::Aligned => conflict(
                "style.placement `aligned` needs a style tile, and a style of the bank is one patch: set style.from to `reference`",
            ),
            (_, Source::Bank(groups)) if groups.is_empty() => {
                Err(Error::new(ErrorKind::NoStyles, why_none(bank, style, model)))
            }
            (_, source) => Ok(source),
        };
    }
    let bank_only = [
        ("domains", style.domains.is_some()),
        ("exclude_domains", style.exclude_domains.is_some()),
        ("ids", style.ids.is_some()),
        ("blend", style.blend.is_some()),
    ];
    if let Some((field, _)) = bank_only.iter().find(|(_, is_given)| *is_given) {
        return conflict(&format!(
            "style.{field} chooses from the bank, and style.from is not `bank`"
        ));
    }
    match (request.method, style.from) {
        (Method::HedJitter | Method::Identity, _) => Ok(Source::None),
        (_, StyleSource::Reference) if counts.references == 0 => Err(Error::new(
            ErrorKind::NoStyles,
            "style.from is `reference`, and the request holds no reference tile",
        )),
        (_, StyleSource::Batch) if counts.tiles < 2 => Err(Error::new(
            ErrorKind::NoStyles,
            "style.from is `batch`, and the request holds no other tile to take a style from",
        )),
        (_, StyleSource::Reference) => Ok(Source::Reference),
        (_, StyleSource::Batch) => Ok(Source::Batch),
        (_, StyleSource::Own | StyleSource::Bank) => Ok(Source::Own),
    }
}

/// Says why the bank leaves no style to choose from: the request narrows it too far, or there is nothing to narrow.
fn why_none(bank: &Offer, style: &StyleRequest, model: &Key) -> String {
    let are_named = style.domains.is_some() || style.ids.is_some();
    if are_named || bank.own_styles() > 0 {
        return "no style of the bank fits style.domains, exclude_domains and ids together"
            .to_owned();
    }
    let added: Vec<&str> = bank.domains().map(|(name, _)| name).collect();
    if !added.is_empty() {
        return format!(
            "the bundle of {model} has no styles of its own, and domains that were added are used only where they are \
             named: name one of {} in style.domains",
            added.join(", ")
        );
    }
    let allowed =
        if bank.forbids_some() { " that this server may use (see --forbid-domain)" } else { "" };
    format!(
        "the bundle of {model} has no styles{allowed}: add some with `restain-train styles`, ask for another model, or set \
         style.from to `reference`, `batch` or `own`"
    )
}

fn conflict<T>(detail: &str) -> Result<T, Error> {
    Err(Error::new(ErrorKind::StyleConflict, detail))
}

/// The styles that the request leaves to choose from, by domain.
fn candidates(bank: &Offer, style: &StyleRequest) -> Result<Vec<Vec<usize>>, Error> {
    let find = |domain: &String| bank.find_domain("style.domains", domain);
    let wanted: Option<Vec<usize>> =
        style.domains.as_ref().map(|list| list.iter().map(find).collect()).transpose()?;
    // A domain that is forbidden is left out already.
    let excluded =
        style.exclude_domains.iter().flatten().filter(|domain| !bank.is_forbidden(domain));
    let excluded: Vec<usize> = excluded
        .map(|domain| bank.find_domain("style.exclude_domains", domain))
        .collect::<Result<_, _>>()?;
    let find = |id: &String| bank.find_style("style.ids", id);
    let ids: Option<Vec<usize>> =
        style.ids.as_ref().map(|list| list.iter().map(find).collect()).transpose()?;
    let are_named = wanted.is_some() || ids.is_some();
    let fits = |index: &usize| {
        let domain = bank.domain_of(*index);
        wanted.as_ref().is_none_or(|wanted| wanted.contains(&domain))
            && !excluded.contains(&domain)
            && ids.as_ref().is_none_or(|ids| ids.contains(index))
    };
    let among = if are_named { bank.styles() } else { bank.own_styles() };
    let mut groups = vec![Vec::new(); bank.domains().count()];
    for index in (0..among).filter(fits) {
        groups[bank.domain_of(index)].push(index);
    }
    groups.retain(|group| !group.is_empty());
    Ok(groups)
}

fn blend(bank: &Offer, style: &StyleRequest, parts: &[BlendPart]) -> Result<Vec<Part>, Error> {
    let others = [
        ("domains", &style.domains),
        ("exclude_domains", &style.exclude_domains),
        ("ids", &style.ids),
    ];
    if let Some((field, _)) = others.iter().find(|(_, list)| list.is_some()) {
        return conflict(&format!(
            "style.blend says which styles are taken, and style.{field} says it too: leave one of them out"
        ));
    }
    if !(1..=MAX_PARTS).contains(&parts.len()) {
        let detail =
            format!("style.blend has {} parts, and must have from 1 to {MAX_PARTS}", parts.len());
        return Err(Error::new(ErrorKind::BlendOutOfRange, detail));
    }
    let resolve = |(index, part): (usize, &BlendPart)| {
        let weight = part.weight;
        if !(weight.is_finite() && weight > 0.0) {
            let detail = format!("style.blend[{index}].weight is {weight}, and must be above 0");
            return Err(Error::new(ErrorKind::BlendOutOfRange, detail));
        }
        let from = match (&part.id, &part.domain) {
            (Some(id), None) => PartFrom::Style(bank.find_style("style.blend", id)?),
            (None, Some(domain)) => {
                let place = bank.find_domain("style.blend", domain)?;
                let styles: Vec<usize> =
                    (0..bank.styles()).filter(|&style| bank.domain_of(style) == place).collect();
                if styles.is_empty() {
                    return Err(Error::new(
                        ErrorKind::NoStyles,
                        format!("the domain `{domain}` of style.blend[{index}] holds no style"),
                    ));
                }
                PartFrom::Domain(styles)
            }
            _ => {
                return conflict(&format!(
                    "style.blend[{index}] must have either an id or a domain"
                ));
            }
        };
        Ok(Part { from, weight })
    };
    let parts = parts.iter().enumerate().map(resolve).collect::<Result<Vec<Part>, Error>>()?;
    let sum: f32 = parts.iter().map(|part| part.weight).sum();
    if !(sum.is_finite() && sum >= f32::MIN_POSITIVE) {
        return Err(Error::new(
            ErrorKind::BlendOutOfRange,
            format!("the weights of style.blend sum to {sum}: take ones nearer to 1"),
        ));
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use restain_bundle::StyleBank;
    use restain_method::Style;
    use restain_method::color::ChannelStats;

    fn bank() -> Offer {
        let mut bank = StyleBank::default();
        for domain in ["a", "a", "b"] {
            bank.push(domain, Style(vec![0.0]), ChannelStats { mean: [0.5; 3], std: [0.1; 3] });
        }
        Offer::of(bank)
    }

    fn resolved_in(bank: &Offer, request: &str) -> Result<Source, Error> {
        let model = Key { name: "tiny".to_owned(), version: "2".to_owned() };
        let counts = Counts { tiles: 1, references: 0 };
        source(bank, &serde_json::from_str(request).unwrap(), counts, &model)
    }

    fn resolved(request: &str) -> Result<Source, Error> {
        resolved_in(&bank(), request)
    }

    #[test]
    fn an_empty_bank_is_named_with_its_model_and_what_to_do() {
        let empty = Offer::of(StyleBank::default());
        let error = resolved_in(&empty, "{}").unwrap_err();
        assert_eq!(error.kind, ErrorKind::NoStyles);
        for said in ["tiny/2 has no styles:", "restain-train styles", "style.from"] {
            assert!(error.detail.contains(said), "{error}");
        }
        let unknown = resolved_in(&empty, r#"{"style":{"domains":["a"]}}"#).unwrap_err();
        assert_eq!(unknown.kind, ErrorKind::UnknownDomain);
        let own = resolved_in(&empty, r#"{"style":{"from":"own"}}"#).unwrap();
        assert_eq!(own, Source::Own);
    }

    #[test]
    fn domains_and_ids_narrow_the_bank() {
        assert_eq!(resolved("{}").unwrap(), Source::Bank(vec![vec![0, 1], vec![2]]));
        assert_eq!(
            resolved(r#"{"style":{"domains":["b"]}}"#).unwrap(),
            Source::Bank(vec![vec![2]])
        );
        assert_eq!(
            resolved(r#"{"style":{"exclude_domains":["b"]}}"#).unwrap(),
            Source::Bank(vec![vec![0, 1]])
        );
        assert_eq!(
            resolved(r#"{"style":{"ids":["a/1","b/0"]}}"#).unwrap(),
            Source::Bank(vec![vec![1], vec![2]])
        );
    }

    #[test]
    fn styles_that_cannot_be_are_refused_by_name() {
        for (request, kind, said) in [
            (r#"{"style":{"domains":["c"]}}"#, ErrorKind::UnknownDomain, "a, b"),
            (r#"{"style":{"ids":["a/7"]}}"#, ErrorKind::UnknownStyle, "a/7"),
            (
                r#"{"style":{"domains":["a"],"exclude_domains":["a"]}}"#,
                ErrorKind::NoStyles,
                "together",
            ),
            (r#"{"style":{"placement":"aligned"}}"#, ErrorKind::StyleConflict, "reference"),
            (
                r#"{"style":{"from":"own","domains":["a"]}}"#,
                ErrorKind::StyleConflict,
                "style.domains",
            ),
            (r#"{"style":{"from":"reference"}}"#, ErrorKind::NoStyles, "no reference tile"),
            (r#"{"style":{"from":"batch"}}"#, ErrorKind::NoStyles, "no other tile"),
        ] {
            let error = resolved(request).unwrap_err();
            assert_eq!(error.kind, kind, "{request}: {error}");
            assert!(error.detail.contains(said), "{request}: {error}");
        }
    }

    #[test]
    fn a_blend_is_resolved_part_by_part() {
        let parts = r#"{"style":{"blend":[{"id":"b/0","weight":2},{"domain":"a","weight":0.5}]}}"#;
        let of = |from, weight| Part { from, weight };
        let blend = vec![of(PartFrom::Style(2), 2.0), of(PartFrom::Domain(vec![0, 1]), 0.5)];
        assert_eq!(resolved(parts).unwrap(), Source::Blend(blend));
        for (style, kind, said) in [
            (r#""blend":[]"#.to_owned(), ErrorKind::BlendOutOfRange, "0 parts"),
            (
                format!(r#""blend":[{}]"#, [r#"{"id":"a/0","weight":1}"#; 17].join(",")),
                ErrorKind::BlendOutOfRange,
                "17 parts",
            ),
            (
                r#""blend":[{"id":"a/0","weight":0}]"#.to_owned(),
                ErrorKind::BlendOutOfRange,
                "blend[0].weight is 0",
            ),
            (
                r#""blend":[{"id":"a/0","weight":3e38},{"id":"a/0","weight":3e38}]"#.to_owned(),
                ErrorKind::BlendOutOfRange,
                "inf",
            ),
            (
                r#""blend":[{"id":"a/0","domain":"a","weight":1}]"#.to_owned(),
                ErrorKind::StyleConflict,
                "either an id or a domain",
            ),
            (
                r#""blend":[{"weight":1}]"#.to_owned(),
                ErrorKind::StyleConflict,
                "either an id or a domain",
            ),
            (r#""blend":[{"id":"a/9","weight":1}]"#.to_owned(), ErrorKind::UnknownStyle, "a/9"),
            (r#""blend":[{"domain":"z","weight":1}]"#.to_owned(), ErrorKind::UnknownDomain, "a, b"),
            (
                r#""blend":[{"id":"a/0","weight":1}],"domains":["a"]"#.to_owned(),
                ErrorKind::StyleConflict,
                "style.domains",
            ),
            (
                r#""blend":[{"id":"a/0","weight":1}],"ids":["a/0"]"#.to_owned(),
                ErrorKind::StyleConflict,
                "style.ids",
            ),
            (
                r#""blend":[{"id":"a/0","weight":1}],"from":"own""#.to_owned(),
                ErrorKind::StyleConflict,
                "style.blend",
            ),
            (
                r#""blend":[{"id":"a/0","weight":1}],"placement":"aligned""#.to_owned(),
                ErrorKind::StyleConflict,
                "reference",
            ),
        ] {
            let error = resolved(&format!(r#"{{"style":{{{style}}}}}"#)).unwrap_err();
            assert_eq!(error.kind, kind, "{style}: {error}");
            assert!(error.detail.contains(said), "{style}: {error}");
        }
    }
}
