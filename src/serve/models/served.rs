//! One snapshot of the served models: immutable, so that a request sees one consistent set.

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

    /// The model of requests that name none: the configured one or, of a single name, its highest
    /// version.
    pub fn default_model(&self) -> Option<&Arc<Model>> {
        let one_name = || {
            self.models
                .first()
                .filter(|first| self.models.iter().all(|model| model.name() == first.name()))
        };
        self.preferred.as_deref().and_then(|preferred| self.named(preferred)).or_else(one_name)
    }

    /// Whether the default is this very version, rather than whatever version of its name is
    /// highest.
    pub fn is_pinned(&self, key: &Key) -> bool {
        self.preferred.as_deref() == Some(key.to_string().as_str())
    }

    /// `NAME` is its highest version, `NAME/VERSION` that one, nothing the default.
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
        self.models.iter().find(|model| {
            model.name() == name && version.is_none_or(|version| model.version() == version)
        })
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
    /// it away.
    #[must_use]
    pub fn settled(self) -> Self {
        let preferred = self
            .preferred
            .clone()
            .or_else(|| self.default_model().map(|model| model.name().to_owned()));
        self.preferring(preferred)
    }
}
