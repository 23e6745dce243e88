//! The models directory, as the protocol's repository: what is served and what could be, loading,
//! unloading.

use std::sync::Arc;

use super::proto::repository_index_response::ModelIndex;
use crate::serve::app::App;
use crate::serve::error::Error;
use crate::serve::models::{Key, LoadAsk, State};
use crate::serve::runtime::cpu;
use crate::serve::transport::read_body::malformed;

/// Every bundle, served or not; names in order, and each name's versions from the highest down as
/// far as they are on disk.
///
/// # Errors
/// `not_ready`, and `internal` when the directory cannot be read.
pub(super) async fn index(app: &App, only_ready: bool) -> Result<Vec<ModelIndex>, Error> {
    let registry = Arc::clone(&app.pipeline()?.models);
    let entry = |key: &Key, state: &str, reason: &str| ModelIndex {
        name: key.name.clone(),
        version: key.version.clone(),
        state: state.to_owned(),
        reason: reason.to_owned(),
    };
    let served: Vec<Key> = registry.models().all().iter().map(|model| model.key()).collect();
    let ready = served.iter().map(|key| entry(key, "READY", ""));
    if only_ready {
        return Ok(ready.collect());
    }
    let states = registry.states();
    let on_disk = cpu::blocking(move || registry.on_disk()).await??;
    // An older bundle of the same name and version may serve while a newer one loads, or was
    // refused.
    let others =
        states.iter().filter(|(key, _)| !served.contains(key)).map(|(key, state)| match state {
            State::Loading => entry(key, "LOADING", ""),
            State::Failed { reason } => entry(key, "UNAVAILABLE", reason),
        });
    let unloaded = on_disk.iter().filter(|key| !served.contains(key) && !states.contains_key(key));
    let unloaded = unloaded.map(|key| entry(key, "UNAVAILABLE", "unloaded"));
    let mut models: Vec<ModelIndex> = ready.chain(others).chain(unloaded).collect();
    models.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(models)
}

/// # Errors
/// As [`Registry::load`](crate::serve::models::Registry::load), and `malformed_request` for the
/// parameters that would load something else than the bundle, `config` and files of the request.
/// Other parameters are ignored.
pub(super) async fn load<'a>(
    app: &App,
    model: &str,
    parameters: impl IntoIterator<Item = &'a str>,
) -> Result<(), Error> {
    let replaces = |name: &&str| *name == "config" || name.starts_with("file:");
    if let Some(parameter) = parameters.into_iter().find(replaces) {
        return Err(malformed(format!(
            "the parameter {parameter} is not served: a bundle of the models directory is loaded \
            as it is"
        )));
    }
    let (name, version) = parts(model);
    app.pipeline()?.models.load(LoadAsk { name, version, default: false }).await.map(|_| ())
}

/// # Errors
/// As [`Registry::unload`](crate::serve::models::Registry::unload). Parameters are ignored: no
/// model depends on another, so those that do may or may not be unloaded too.
pub(super) async fn unload(app: &App, model: &str) -> Result<(), Error> {
    let (name, version) = parts(model);
    app.pipeline()?.models.unload(&name, version.as_deref()).await.map(|_| ())
}

/// # Errors
/// `malformed_request`, when a repository is named.
pub(super) fn check_name(repository: &str) -> Result<(), Error> {
    if repository.is_empty() {
        return Ok(());
    }
    Err(malformed(format!(
        "repository_name is `{repository}`, and must be empty: there is one repository, and it has \
        no name"
    )))
}

/// NAME or NAME/VERSION.
fn parts(model: &str) -> (String, Option<String>) {
    model.split_once('/').map_or((model.to_owned(), None), |(name, version)| {
        (name.to_owned(), Some(version.to_owned()))
    })
}
