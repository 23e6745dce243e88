//! What a request chooses styles from: a snapshot of a model's styles.

use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;

use crate::serve::error::{Error, ErrorKind};
use restain_bundle::{StyleBank, StyleEntry};

/// What there is to choose from, for the length of a request. Styles of forbidden domains are not
/// in it. They are counted through: the bundle's own first, then those that were added.
#[derive(Clone)]
pub struct Offer {
    pub(super) own: Arc<StyleBank>,
    pub(super) added: Arc<StyleBank>,
    pub(super) slides: Arc<StyleBank>,
    pub(super) forbidden: Arc<[String]>,
}

/// Where a domain comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DomainOrigin {
    /// The bundle was made with it.
    Bundle,
    /// It was added from reference tiles; only requests that name it use it.
    Added,
}

impl Offer {
    /// A bank to which nothing was added.
    #[cfg(test)]
    pub fn of(bank: StyleBank) -> Self {
        Self {
            own: Arc::new(bank),
            added: Arc::default(),
            slides: Arc::default(),
            forbidden: Arc::default(),
        }
    }

    /// Every domain, the bundle's own first.
    pub fn domains(&self) -> impl Iterator<Item = (&str, DomainOrigin)> {
        let own = self.own.domains.iter().map(|name| (name.as_str(), DomainOrigin::Bundle));
        own.chain(self.added.domains.iter().map(|name| (name.as_str(), DomainOrigin::Added)))
    }

    pub fn styles(&self) -> usize {
        self.own.entries.len() + self.added.entries.len()
    }

    /// Where the domain at a place comes from.
    pub fn origin(&self, domain: usize) -> DomainOrigin {
        if domain < self.own.domains.len() { DomainOrigin::Bundle } else { DomainOrigin::Added }
    }

    /// Styles of the bundle itself: those of the indices below.
    pub fn own_styles(&self) -> usize {
        self.own.entries.len()
    }

    /// # Panics
    /// When there is no such style.
    pub fn style(&self, index: usize) -> &StyleEntry {
        self.own
            .entries
            .get(index)
            .unwrap_or_else(|| &self.added.entries[index - self.own.entries.len()])
    }

    /// A style's domain, as its place in [`Offer::domains`].
    pub fn domain_of(&self, index: usize) -> usize {
        self.style(index).domain
            + if index < self.own.entries.len() { 0 } else { self.own.domains.len() }
    }

    pub fn domain_name(&self, domain: usize) -> &str {
        self.own
            .domains
            .get(domain)
            .unwrap_or_else(|| &self.added.domains[domain - self.own.domains.len()])
    }

    /// The place of a domain, which a request names in `field`.
    ///
    /// # Errors
    /// `domain_forbidden`, or `unknown_domain` with those that are known.
    pub fn find_domain(&self, field: &str, domain: &str) -> Result<usize, Error> {
        self.check_allowed(field, domain)?;
        self.domains().position(|(known, _)| known == domain).ok_or_else(|| {
            let known: Vec<&str> = self.domains().map(|(name, _)| name).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            Error::new(
                ErrorKind::UnknownDomain,
                format!("{field} names `{domain}`, and the domains of this model are: {known}"),
            )
        })
    }

    /// The place of a style, which a request names in `field`.
    ///
    /// # Errors
    /// `domain_forbidden` or `unknown_style`.
    pub fn find_style(&self, field: &str, id: &str) -> Result<usize, Error> {
        if let Some((domain, _)) = id.rsplit_once('/') {
            self.check_allowed(field, domain)?;
        }
        (0..self.styles()).find(|&index| self.style(index).id == id).ok_or_else(|| {
            let detail = format!(
                "{field} names `{id}`, which the bank does not hold; GET /v1/styles lists what it \
                holds"
            );
            Error::new(ErrorKind::UnknownStyle, detail)
        })
    }

    /// The ids of all slides.
    pub fn slides(&self) -> &[String] {
        &self.slides.domains
    }

    /// The place of a slide, which a request names in `field`.
    ///
    /// # Errors
    /// `unknown_slide`.
    pub fn find_slide(&self, field: &str, id: &str) -> Result<usize, Error> {
        // In the order of their ids, one style each.
        let found = self.slides.domains.binary_search_by(|known| known.as_str().cmp(id));
        found.map_err(|_| unknown_slide(field, id))
    }

    /// The context of a slide: its mean characteristics, and the colours of its tiles.
    ///
    /// # Panics
    /// When there is no such slide.
    pub fn slide(&self, place: usize) -> &StyleEntry {
        &self.slides.entries[place]
    }

    /// The id of a slide of this offer.
    pub fn slide_id(&self, slide: &StyleEntry) -> &str {
        &self.slides.domains[slide.domain]
    }

    /// Whether some domains are forbidden, be they of this bundle or not.
    pub fn forbids_some(&self) -> bool {
        !self.forbidden.is_empty()
    }

    pub fn is_forbidden(&self, domain: &str) -> bool {
        is_in(&self.forbidden, domain)
    }

    fn check_allowed(&self, field: &str, domain: &str) -> Result<(), Error> {
        if self.is_forbidden(domain) { Err(forbidden(field, domain)) } else { Ok(()) }
    }
}

pub(super) fn forbidden(field: &str, domain: &str) -> Error {
    let detail = format!(
        "{field} names the domain `{domain}`, which --forbid-domain excludes on this server"
    );
    Error::new(ErrorKind::DomainForbidden, detail)
}

fn unknown_slide(field: &str, id: &str) -> Error {
    let detail = format!(
        "{field} names the slide `{id}`, which this server does not hold for this model: POST \
        /v1/slides with tiles of the slide gives its id"
    );
    Error::new(ErrorKind::UnknownSlide, detail)
}

pub(super) fn is_in(names: &[String], name: &str) -> bool {
    names.iter().any(|known| known == name)
}
