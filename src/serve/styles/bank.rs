//! The styles of one model, as they change.

use std::sync::Arc;

use super::added::{Added, only};
use super::offer::{Offer, forbidden, is_in};
use super::{MAX_ADDED_DOMAINS, MAX_SLIDES};
use crate::serve::error::{Error, ErrorKind};
use restain_bundle::{StyleBank, is_plain_name};
use restain_method::Style;
use restain_method::color::ChannelStats;

/// The styles of one model.
pub struct Bank {
    own: Arc<StyleBank>,
    added: Arc<Added>,
    /// Contexts of slides: each a domain of its id with one style.
    slides: Arc<Added>,
    /// Every domain that the bundle has, whether it may be used or not: none of these can be added.
    of_bundle: Vec<String>,
    forbidden: Arc<[String]>,
}

impl Bank {
    pub(super) fn new(
        bundle: StyleBank,
        added: Arc<Added>,
        slides: Arc<Added>,
        forbidden: Arc<[String]>,
    ) -> Self {
        let own = Arc::new(only(&bundle, |domain| !is_in(&forbidden, domain)));
        Self { own, added, slides, of_bundle: bundle.domains, forbidden }
    }

    pub fn offer(&self) -> Offer {
        Offer {
            own: Arc::clone(&self.own),
            added: self.added.offered(),
            slides: self.slides.offered(),
            forbidden: Arc::clone(&self.forbidden),
        }
    }

    /// Whether what is added outlives the process.
    pub fn is_persistent(&self) -> bool {
        self.added.is_persistent()
    }

    /// # Errors
    /// `domain_name`, `domain_forbidden`, `domain_exists` or `bank_full`: why `domain` cannot be
    /// added.
    pub fn check_new(&self, domain: &str) -> Result<(), Error> {
        if !is_plain_name(domain) {
            let detail = format!(
                "domain is {domain:?}, and must be letters, digits, '.', '_' or '-', and not begin \
                with '.'"
            );
            return Err(Error::new(ErrorKind::DomainName, detail));
        }
        if is_in(&self.forbidden, domain) {
            return Err(forbidden("domain", domain));
        }
        if is_in(&self.of_bundle, domain) {
            return Err(Error::new(
                ErrorKind::DomainExists,
                format!("the bundle itself has a domain `{domain}`: choose another name"),
            ));
        }
        self.check_added(domain, &self.added.kept().bank)
    }

    fn check_added(&self, domain: &str, kept: &StyleBank) -> Result<(), Error> {
        if is_in(&kept.domains, domain) {
            let detail = format!(
                "the domain `{domain}` was added already: remove it first, with DELETE \
                /v1/styles/{domain}"
            );
            return Err(Error::new(ErrorKind::DomainExists, detail));
        }
        if kept.domains.len() >= MAX_ADDED_DOMAINS {
            let detail = format!(
                "{MAX_ADDED_DOMAINS} domains were added to this model, and no more are kept: \
                remove one first"
            );
            return Err(Error::new(ErrorKind::BankFull, detail));
        }
        Ok(())
    }

    /// Adds a domain; when this returns, it is kept. Blocks.
    ///
    /// # Errors
    /// As [`Bank::check_new`], and `state_not_written`.
    pub fn add(&self, domain: &str, styles: Vec<(Style, ChannelStats)>) -> Result<(), Error> {
        self.check_new(domain)?;
        self.added.change(|kept| {
            // Another caller may have been faster.
            self.check_added(domain, kept)?;
            let mut next = kept.clone();
            styles.iter().for_each(|(style, of)| next.push(domain, style.clone(), *of));
            Ok(next)
        })
    }

    /// Removes a domain that was added; when this returns, it is gone. Blocks.
    ///
    /// # Errors
    /// `domain_of_bundle`, `domain_not_found`, `state_not_written`.
    pub fn remove(&self, domain: &str) -> Result<(), Error> {
        if is_in(&self.of_bundle, domain) {
            let detail = format!(
                "`{domain}` is a domain of the bundle itself, which never changes: leave it out \
                with style.exclude_domains, or for everybody with --forbid-domain"
            );
            return Err(Error::new(ErrorKind::DomainOfBundle, detail));
        }
        self.added.change(|kept| {
            if !is_in(&kept.domains, domain) {
                let known = if kept.domains.is_empty() {
                    "none".to_owned()
                } else {
                    kept.domains.join(", ")
                };
                return Err(Error::new(
                    ErrorKind::DomainNotFound,
                    format!("no domain `{domain}` was added, and added were: {known}"),
                ));
            }
            Ok(only(kept, |other| other != domain))
        })
    }

    /// Adds the context of a slide; when this returns, it is kept. Says whether it is new: the id
    /// stands for the tiles that it was made from, so that it never changes. Blocks.
    ///
    /// # Errors
    /// `bank_full`, `state_not_written`.
    pub fn add_slide(&self, id: &str, style: Style, source: ChannelStats) -> Result<bool, Error> {
        let mut is_new = false;
        if is_in(&self.slides.kept().bank.domains, id) {
            return Ok(is_new);
        }
        self.slides.change(|kept| {
            // Another caller may have been faster.
            is_new = !is_in(&kept.domains, id);
            if is_new && kept.domains.len() >= MAX_SLIDES {
                let detail = format!(
                    "{MAX_SLIDES} slides were added to this model, and no more are kept: remove \
                    one first, with DELETE /v1/slides/ID"
                );
                return Err(Error::new(ErrorKind::BankFull, detail));
            }
            let mut next = kept.clone();
            if is_new {
                next.push(id, style.clone(), source);
            }
            Ok(next)
        })?;
        Ok(is_new)
    }

    /// Removes the context of a slide; when this returns, it is gone. Blocks.
    ///
    /// # Errors
    /// `slide_not_found`, `state_not_written`.
    pub fn remove_slide(&self, id: &str) -> Result<(), Error> {
        self.slides.change(|kept| {
            if is_in(&kept.domains, id) {
                return Ok(only(kept, |other| other != id));
            }
            let detail = format!("no slide `{id}` was added to this model");
            Err(Error::new(ErrorKind::SlideNotFound, detail))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Store;
    use super::*;
    use crate::serve::metrics::Metrics;
    use crate::serve::styles::DomainOrigin;

    fn style(value: f32) -> (Style, ChannelStats) {
        (Style(vec![value]), ChannelStats { mean: [0.5; 3], std: [0.1; 3] })
    }

    fn bank() -> Bank {
        let metrics = Arc::new(Metrics::new().unwrap());
        let mut own = StyleBank::default();
        own.push("own", style(0.0).0, style(0.0).1);
        own.push("hidden", style(1.0).0, style(1.0).1);
        let forbidden = ["hidden".to_owned(), "secret".to_owned()];
        Store::open(None, &forbidden, metrics).unwrap().bank("digest", 1, own)
    }

    #[test]
    fn an_offer_stays_as_it_is_while_the_bank_changes() {
        let bank = bank();
        bank.add("z", vec![style(2.0), style(3.0)]).unwrap();
        let before = bank.offer();
        bank.add("a", vec![style(4.0)]).unwrap();
        bank.remove("z").unwrap();
        let z = before.find_style("ids", "z/1").unwrap();
        assert_eq!(
            (&before.style(z).style.0[..], before.domain_name(before.domain_of(z))),
            (&[3.0][..], "z")
        );
        assert_eq!(before.domains().map(|(name, _)| name).collect::<Vec<_>>(), ["own", "z"]);
        assert_eq!(
            bank.offer().domains().collect::<Vec<_>>(),
            [("own", DomainOrigin::Bundle), ("a", DomainOrigin::Added)]
        );
        assert_eq!(before.own_styles(), 1);
    }

    #[test]
    fn what_cannot_be_added_is_told_why() {
        let bank = bank();
        for n in 0..MAX_ADDED_DOMAINS {
            bank.add(&format!("d{n}"), vec![style(0.0)]).unwrap();
        }
        for (domain, kind) in [
            ("d0", ErrorKind::DomainExists),
            ("own", ErrorKind::DomainExists),
            ("hidden", ErrorKind::DomainForbidden),
            ("secret", ErrorKind::DomainForbidden),
            (".x", ErrorKind::DomainName),
            ("one-more", ErrorKind::BankFull),
        ] {
            assert_eq!(bank.add(domain, vec![style(0.0)]).unwrap_err().kind, kind, "{domain}");
        }
        assert_eq!(bank.remove("own").unwrap_err().kind, ErrorKind::DomainOfBundle);
        assert_eq!(bank.remove("hidden").unwrap_err().kind, ErrorKind::DomainOfBundle);
        assert_eq!(bank.remove("never").unwrap_err().kind, ErrorKind::DomainNotFound);
    }
}
