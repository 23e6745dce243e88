//! The models that are served: every bundle under the models directory, verified, opened and warmed.
//!
//! Each bundle has its own queue and its own worker thread, so that one never waits for another's. What is not here:
//! loading and unloading while the server runs.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use super::batch::Batch;
use super::cache::{EncodingsCache, Scope};
use super::config::Config;
use super::encoders::{Encoders, EncodersContext, EncodersError};
use super::error::{Error, ErrorKind};
use super::metrics::Metrics;
use crate::bundle::{Bundle, BundleError, MANIFEST_FILE, Precision};
use crate::engine::{EngineError, Runtime};
use crate::method::synth::Synthesiser;

/// One bundle, ready to work.
pub struct Model {
    pub bundle: Bundle,
    pub precision: Precision,
    pub synthesiser: Synthesiser,
    pub batch: Batch,
    /// Its part of the encodings cache.
    pub scope: Scope,
    provider: &'static str,
}

/// All of them, each name's versions from the highest down.
pub struct Models {
    models: Vec<Arc<Model>>,
    default: Option<Arc<Model>>,
}

/// What models are loaded with.
pub struct LoadContext<'a> {
    pub config: &'a Config,
    pub cache: &'a Arc<EncodingsCache>,
    pub metrics: &'a Arc<Metrics>,
}

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the models directory {} cannot be read: {source}", .path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("no bundle under {}: it must hold NAME/VERSION/{MANIFEST_FILE}", .0.display())]
    Empty(PathBuf),
    #[error("the bundle {} is refused: {source}", .path.display())]
    Bundle { path: PathBuf, source: BundleError },
    #[error("the bundle {} says that it is {name}/{version}, and must lie under that path", .path.display())]
    Misplaced { path: PathBuf, name: String, version: String },
    #[error(transparent)]
    Runtime(EngineError),
    #[error("the bundle {} is refused: {source}", .path.display())]
    Encoders { path: PathBuf, source: EncodersError },
    #[error("default-model is {asked}, and served are: {served}")]
    Default { asked: String, served: String },
}

impl Model {
    pub fn name(&self) -> &str {
        &self.bundle.manifest.name
    }

    pub fn version(&self) -> &str {
        &self.bundle.manifest.version
    }

    pub fn provider(&self) -> &'static str {
        self.provider
    }
}

impl Models {
    /// Loads all of them, or none: a server that lacks a model it was given is not the server that was asked for.
    ///
    /// # Errors
    /// With the bundle at fault and the reason.
    pub fn load(context: &LoadContext<'_>) -> Result<(Self, Vec<JoinHandle<()>>), LoadError> {
        let runtime = Runtime::load().map_err(LoadError::Runtime)?;
        let (mut models, mut workers) = (Vec::new(), Vec::new());
        for path in bundles(&context.config.models)? {
            let (model, worker) = load_one(&runtime, &path, context)?;
            models.push(Arc::new(model));
            workers.extend(worker);
        }
        models.sort_by(|a, b| a.name().cmp(b.name()).then_with(|| by_version(b.version(), a.version())));
        let mut models = Self { models, default: None };
        models.default = models.choose_default(context.config.default_model.as_deref())?;
        Ok((models, workers))
    }

    pub fn all(&self) -> &[Arc<Model>] {
        &self.models
    }

    /// The model that a request without one means.
    pub fn default(&self) -> Option<&Arc<Model>> {
        self.default.as_ref()
    }

    /// `NAME` is its highest version, `NAME/VERSION` that one, nothing the default.
    ///
    /// # Errors
    /// `model_not_found`, naming those that are served.
    pub fn find(&self, asked: Option<&str>) -> Result<&Arc<Model>, Error> {
        let not_found = |detail| Error::new(ErrorKind::ModelNotFound, detail);
        match asked {
            Some(asked) => self.named(asked).ok_or_else(|| not_found(format!("model is `{asked}`, and served are: {}", self.served()))),
            None => self.default.as_ref().ok_or_else(|| {
                not_found(format!("model must be given, since several are served and none is the default: {}", self.served()))
            }),
        }
    }

    fn named(&self, asked: &str) -> Option<&Arc<Model>> {
        let (name, version) = asked.split_once('/').map_or((asked, None), |(name, version)| (name, Some(version)));
        // Versions stand from the highest down, so the first that fits is the one meant.
        self.models.iter().find(|model| model.name() == name && version.is_none_or(|version| model.version() == version))
    }

    fn choose_default(&self, asked: Option<&str>) -> Result<Option<Arc<Model>>, LoadError> {
        if let Some(asked) = asked {
            let missing = || LoadError::Default { asked: asked.to_owned(), served: self.served() };
            return self.named(asked).cloned().map(Some).ok_or_else(missing);
        }
        let one_name = self.models.iter().all(|model| model.name() == self.models[0].name());
        Ok(self.models.first().filter(|_| one_name).cloned())
    }

    fn served(&self) -> String {
        let names: Vec<_> = self.models.iter().map(|model| format!("{}/{}", model.name(), model.version())).collect();
        names.join(", ")
    }
}

/// Every NAME/VERSION with a manifest, in the order of their names.
fn bundles(models: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let list = |path: &Path| -> Result<Vec<PathBuf>, LoadError> {
        let unreadable = |source| LoadError::Unreadable { path: path.to_owned(), source };
        let entries = std::fs::read_dir(path).map_err(unreadable)?;
        let mut paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
        paths.retain(|path| path.is_dir());
        paths.sort();
        Ok(paths)
    };
    let mut found = Vec::new();
    for name in list(models)? {
        found.extend(list(&name)?.into_iter().filter(|version| version.join(MANIFEST_FILE).is_file()));
    }
    if found.is_empty() { Err(LoadError::Empty(models.to_owned())) } else { Ok(found) }
}

fn load_one(runtime: &Runtime, path: &Path, context: &LoadContext<'_>) -> Result<(Model, Vec<JoinHandle<()>>), LoadError> {
    let started = Instant::now();
    let refused = |source| LoadError::Bundle { path: path.to_owned(), source };
    let bundle = Bundle::open(path).map_err(refused)?;
    let manifest = &bundle.manifest;
    if !path.ends_with(Path::new(&manifest.name).join(&manifest.version)) {
        return Err(LoadError::Misplaced { path: path.to_owned(), name: manifest.name.clone(), version: manifest.version.clone() });
    }
    let config = context.config;
    let onnx = bundle.encoder_path(config.precision).map_err(refused)?;
    let encoders = EncodersContext { runtime, config, cache: context.cache, metrics: context.metrics };
    let Encoders { batch, scope, threads } =
        Encoders::start(&bundle, &onnx, &encoders).map_err(|source| LoadError::Encoders { path: path.to_owned(), source })?;

    let provider = config.devices.0.first().map_or("none", |device| device.provider());
    let took = started.elapsed();
    context.metrics.model_loaded([&manifest.name, &manifest.version, &config.precision.to_string(), provider], took);
    for (index, domain) in bundle.styles.domains.iter().enumerate() {
        context.metrics.domain(domain, bundle.styles.entries.iter().filter(|entry| entry.domain == index).count());
    }
    tracing::info!(model = manifest.name, version = manifest.version, styles = bundle.styles.entries.len(), ?took, "model ready");
    let synthesiser = Synthesiser::new(manifest.geometry, manifest.pixel_order, manifest.normalisation);
    Ok((Model { bundle, precision: config.precision, synthesiser, batch, scope, provider }, threads))
}

/// `1.10` above `1.9`, and `2` above `1-rc`: parts between dots and dashes are compared as numbers where both are.
fn by_version(a: &str, b: &str) -> Ordering {
    let parts = |version: &str| version.split(['.', '-', '_']).map(str::to_owned).collect::<Vec<_>>();
    let (a, b) = (parts(a), parts(b));
    for (a, b) in a.iter().zip(&b) {
        let order = match (a.parse::<u64>(), b.parse::<u64>()) {
            (Ok(a), Ok(b)) => a.cmp(&b),
            (Ok(_), Err(_)) => Ordering::Greater,
            (Err(_), Ok(_)) => Ordering::Less,
            (Err(_), Err(_)) => a.cmp(b),
        };
        if order.is_ne() {
            return order;
        }
    }
    a.len().cmp(&b.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_people_count() {
        let mut versions = ["10", "9", "1.2", "1.10", "rc", "2-beta"];
        versions.sort_by(|a, b| by_version(a, b));
        assert_eq!(versions, ["rc", "1.2", "1.10", "2-beta", "9", "10"]);
    }
}
