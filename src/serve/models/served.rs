//! One snapshot of the served models: immutable, so that a request sees one consistent set.
//!
//! A name means its highest version that has styles: a version without any answers no request that
//! takes a style from its bank, so that it is meant only where it is named, or where no version has
//! styles.

use std::sync::Arc;

use super::version::by_version;
use super::{Key, Model};
use crate::serve::error::{Error, ErrorKind};

#[derive(Clone, Default)]
pub struct Models {
    /// Each name's versions stand from the highest down.
    models: Vec<Arc<Model>>,
    /// NAME or NAME/VERSION: what a request without a model means, while it is served.
    preferred: Option<String>,
}

impl Models {
    pub fn all(&self) -> &[Arc<Model>] {
        &self.models
    }

    /// Returns the model that a request without one means: the preferred one, or another version of
    /// its name when that one has no styles and another has; without a preferred one, the version
    /// that the only name with styles means.
    pub fn default_model(&self) -> Option<&Arc<Model>> {
        self.preferred.as_deref().and_then(|preferred| self.preferred_model(preferred)).or_else(
            || {
                let any_styles = self.models.iter().any(|model| model.has_styles());
                let mut candidates =
                    self.models.iter().filter(|model| model.has_styles() || !any_styles);
                let first = candidates.next()?;
                candidates.all(|model| model.name() == first.name()).then_some(first)
            },
        )
    }

    fn preferred_model(&self, preferred: &str) -> Option<&Arc<Model>> {
        let asked = self.named(preferred)?;
        if asked.has_styles() { Some(asked) } else { self.named(asked.name()) }
    }

    /// Returns the model that would be the default if it had styles, where another one is for that
    /// reason.
    pub fn passed_over(&self) -> Option<&Arc<Model>> {
        let default = self.default_model()?;
        let first = match self.preferred.as_deref().map(|preferred| preferred.split_once('/')) {
            Some(Some(_)) => self.named(self.preferred.as_deref()?)?,
            _ => self.models.iter().find(|model| model.name() == default.name())?,
        };
        (first.key() != default.key() && !first.has_styles()).then_some(first)
    }

    /// Whether the default is this very version, rather than whatever version of its name is
    /// highest.
    pub fn is_pinned(&self, key: &Key) -> bool {
        self.preferred.as_deref() == Some(key.to_string().as_str())
    }

    /// `NAME` is its highest version with styles, `NAME/VERSION` that one, nothing the default.
    ///
    /// # Errors
    /// `model_not_found`, naming those that are served.
    pub fn find(&self, asked: Option<&str>) -> Result<&Arc<Model>, Error> {
        let not_found = |detail| Error::new(ErrorKind::ModelNotFound, detail);
        match asked {
            Some(asked) => self.named(asked).ok_or_else(|| {
                not_found(format!("no model `{asked}` is served; served models: {}", self.names()))
            }),
            None => self.default_model().ok_or_else(|| {
                not_found(format!(
                    "`model` is missing, and no model is the default; served models: {}",
                    self.names()
                ))
            }),
        }
    }

    pub fn named(&self, asked: &str) -> Option<&Arc<Model>> {
        let (name, version) =
            asked.split_once('/').map_or((asked, None), |(name, version)| (name, Some(version)));
        // Versions stand from the highest down, so the first that fits is the one meant.
        let mut fitting = self.models.iter().filter(|model| {
            model.name() == name && version.is_none_or(|version| model.version() == version)
        });
        let first = fitting.next()?;
        if first.has_styles() {
            Some(first)
        } else {
            fitting.find(|m| m.has_styles()).or(Some(first))
        }
    }

    /// For people: what is served, in a sentence.
    pub fn names(&self) -> String {
        let names: Vec<_> = self.models.iter().map(|model| model.key().to_string()).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    }

    /// With this model, in place of one of the same name and version.
    #[must_use]
    pub fn with(&self, model: Arc<Model>) -> Self {
        let mut next = self.without(|key| *key == model.key());
        next.models.push(model);
        next.models.sort_by(|a, b| {
            a.name().cmp(b.name()).then_with(|| by_version(b.version(), a.version()))
        });
        next
    }

    #[must_use]
    pub fn without(&self, gone: impl Fn(&Key) -> bool) -> Self {
        let models = self.models.iter().filter(|model| !gone(&model.key())).cloned().collect();
        Self { models, preferred: self.preferred.clone() }
    }

    /// With another default, NAME or NAME/VERSION.
    #[must_use]
    pub fn preferring(self, preferred: Option<String>) -> Self {
        Self { preferred, ..self }
    }

    /// The same default as now, said by its name: a second name that is loaded later does not take
    /// it away. A default without styles is not kept: the first name that has some takes its place.
    #[must_use]
    pub fn settled(self) -> Self {
        let preferred = self.preferred.clone().or_else(|| {
            let default = self.default_model().filter(|model| model.has_styles());
            default.map(|model| model.name().to_owned())
        });
        self.preferring(preferred)
    }
}

/// Logs what it means that a model which was loaded has no styles.
pub(super) fn warn_of_no_styles(models: &Models, loaded: &Model) {
    if loaded.has_styles() {
        return;
    }
    let (key, remedy) = (loaded.key(), "restain-train styles --bundle DIR --data DIR");
    let default = models.default_model().map(|model| model.key());
    if models.passed_over().is_some_and(|passed_over| passed_over.key() == key) {
        let default = default.expect("another is the default in its place");
        tracing::warn!(model = %key, %default, remedy, "the bundle has no styles, so it is not \
            made the default");
    } else {
        tracing::warn!(
            model = %key, is_default = default == Some(key.clone()), remedy,
            "the bundle has no styles: requests that choose from its bank are rejected with \
            no_styles"
        );
    }
}
