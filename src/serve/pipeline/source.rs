//! Where the styles of a request come from: what it says of them, checked against the bank and
//! resolved to places in it.
//!
//! Domains that were added to the bundle are taken only where they are named: a request that names
//! none gives today what it gave before they were added. Which of the resolved styles a variant has
//! is `choose`'s matter.

use restain_request::{Field, field};

use super::request::{BlendPart, BlendSource, Counts, Method, Placement, Request, StyleSource};
use crate::serve::error::{Error, ErrorKind};
use crate::serve::models::Key;
use crate::serve::styles::Offer;

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

impl Source {
    /// Whether styles are those of tiles of the request.
    pub(super) fn is_of_request(&self) -> bool {
        matches!(self, Self::Batch | Self::Reference | Self::Own)
    }
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
    request: &Request,
    counts: Counts,
    model: &Key,
) -> Result<Source, Error> {
    let name = |field: &Field| request.name(field).into_owned();
    let is_plain = request.style_from == StyleSource::Bank && request.style_blend.is_none();
    if request.style_spread != 1.0 && !is_plain {
        let (spread, value) = (name(&field::style_spread), request.style_spread);
        return conflict(format!(
            "{spread} is {value}, and only single styles of the bank can be drawn wider or \
            narrower: leave it out, or take styles from the bank without a blend"
        ));
    }
    if request.style_from == StyleSource::Bank {
        // Read even when the method takes no style, so that a wrong name is always an error.
        let source = match &request.style_blend {
            Some(parts) => Source::Blend(blend(bank, request, parts)?),
            None => Source::Bank(candidates(bank, request)?),
        };
        return match (request.method, source) {
            (Method::HedJitter | Method::Identity, _) => Ok(Source::None),
            (Method::Vit, _) if request.style_placement == Placement::Aligned => {
                let (placement, from) = (name(&field::style_placement), name(&field::style_from));
                conflict(format!(
                    "{placement} `aligned` needs a style tile, and a style of the bank is one \
                    patch: set {from} to `reference`"
                ))
            }
            (_, Source::Bank(groups)) if groups.is_empty() => {
                Err(Error::new(ErrorKind::NoStyles, why_none(bank, request, model)))
            }
            (_, source) => Ok(source),
        };
    }
    let from = name(&field::style_from);
    let blend = (&field::style_blend, request.style_blend.is_some());
    if let Some((field, _)) = given_lists(request).chain([blend]).find(|(_, is_given)| *is_given) {
        let field = name(field);
        return conflict(format!("{field} chooses from the bank, and {from} is not `bank`"));
    }
    match (request.method, request.style_from) {
        (Method::HedJitter | Method::Identity, _) => Ok(Source::None),
        (_, StyleSource::Reference) if counts.references == 0 => Err(Error::new(
            ErrorKind::NoStyles,
            format!("{from} is `reference`, and the request holds no reference tile"),
        )),
        (_, StyleSource::Batch) if counts.tiles < 2 => Err(Error::new(
            ErrorKind::NoStyles,
            format!("{from} is `batch`, and the request holds no other tile to take a style from"),
        )),
        (_, StyleSource::Reference) => Ok(Source::Reference),
        (_, StyleSource::Batch) => Ok(Source::Batch),
        (_, StyleSource::Own | StyleSource::Bank) => Ok(Source::Own),
    }
}

/// Says why the bank leaves no style to choose from: the request narrows it too far, or there is
/// nothing to narrow.
fn why_none(bank: &Offer, request: &Request, model: &Key) -> String {
    let name = |field: &Field| request.name(field).into_owned();
    let [domains, excluded, ids] = BANK_LISTS.each_ref().map(name);
    let are_named = request.style_domains.is_some() || request.style_ids.is_some();
    if are_named || bank.own_styles() > 0 {
        return format!("no style of the bank fits {domains}, {excluded} and {ids} together");
    }
    let added: Vec<&str> = bank.domains().map(|(name, _)| name).collect();
    if !added.is_empty() {
        return format!(
            "the bundle of {model} has no styles of its own, and domains that were added are used \
            only where a request names them: name one of {} in {domains}",
            added.join(", ")
        );
    }
    let allowed =
        if bank.forbids_some() { " that this server may use (see --forbid-domain)" } else { "" };
    format!(
        "the bundle of {model} has no styles{allowed}: add some with `restain-train styles`, \
        request another model, or set {} to `reference`, `batch` or `own`",
        name(&field::style_from)
    )
}

fn conflict<T>(detail: String) -> Result<T, Error> {
    Err(Error::new(ErrorKind::StyleConflict, detail))
}

const BANK_LISTS: [Field; 3] =
    [field::style_domains, field::style_exclude_domains, field::style_ids];

/// The lists that choose from the bank, and whether each was given.
fn given_lists(request: &Request) -> impl Iterator<Item = (&'static Field, bool)> {
    let lists = [&request.style_domains, &request.style_exclude_domains, &request.style_ids];
    const { &BANK_LISTS }.iter().zip(lists.map(Option::is_some))
}

/// Returns the styles that the request leaves to choose from, by domain.
fn candidates(bank: &Offer, request: &Request) -> Result<Vec<Vec<usize>>, Error> {
    let [domains, exclude_domains, ids] = BANK_LISTS.each_ref().map(|field| request.name(field));
    let find = |domain: &String| bank.find_domain(&domains, domain);
    let wanted: Option<Vec<usize>> =
        request.style_domains.as_ref().map(|list| list.iter().map(find).collect()).transpose()?;
    // A domain that is forbidden is left out already.
    let excluded =
        request.style_exclude_domains.iter().flatten().filter(|domain| !bank.is_forbidden(domain));
    let excluded: Vec<usize> = excluded
        .map(|domain| bank.find_domain(&exclude_domains, domain))
        .collect::<Result<_, _>>()?;
    let find = |id: &String| bank.find_style(&ids, id);
    let ids: Option<Vec<usize>> =
        request.style_ids.as_ref().map(|list| list.iter().map(find).collect()).transpose()?;
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

/// Finds the styles of a blend in the bank.
fn blend(bank: &Offer, request: &Request, parts: &[BlendPart]) -> Result<Vec<Part>, Error> {
    let name = request.name(&field::style_blend);
    if let Some((other, _)) = given_lists(request).find(|(_, is_given)| *is_given) {
        let other = request.name(other);
        return conflict(format!(
            "{name} says which styles are taken, and {other} says it too: leave one of them out"
        ));
    }
    let resolve = |(index, part): (usize, &BlendPart)| {
        let from = match &part.source {
            BlendSource::Id(id) => PartFrom::Style(bank.find_style(&name, id)?),
            BlendSource::Domain(domain) => {
                let place = bank.find_domain(&name, domain)?;
                let styles: Vec<usize> =
                    (0..bank.styles()).filter(|&style| bank.domain_of(style) == place).collect();
                if styles.is_empty() {
                    return Err(Error::new(
                        ErrorKind::NoStyles,
                        format!("the domain `{domain}` of {name}[{index}] holds no style"),
                    ));
                }
                PartFrom::Domain(styles)
            }
        };
        Ok(Part { from, weight: part.weight })
    };
    parts.iter().enumerate().map(resolve).collect()
}

#[cfg(test)]
mod tests {
    use super::super::request::field_error;
    use super::*;
    use restain_bundle::StyleBank;
    use restain_method::Style;
    use restain_method::color::ChannelStats;
    use restain_request::{Operation, Reader, Value, Wire};

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
        let mut reader = Reader::new(Operation::Augment, Wire::Json);
        let request = Value::from_json(request.as_bytes()).unwrap();
        reader.take_object("the request", request).map_err(field_error)?;
        source(bank, &reader.finish(), counts, &model)
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
                r#"{"style":{"from":"own","spread":2}}"#,
                ErrorKind::StyleConflict,
                "style.spread is 2",
            ),
            (
                r#"{"style":{"spread":0.5,"blend":[{"domain":"a","weight":1}]}}"#,
                ErrorKind::StyleConflict,
                "without a blend",
            ),
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
