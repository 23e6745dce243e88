//! The bundles of a directory, by their names alone, and which of them is meant.

use std::path::{Path, PathBuf};

use super::Key;
use super::version::in_order;
use restain_bundle::MANIFEST_FILE;
use restain_store::StoreError;

/// Why there is no bundle to load.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    #[error("the models directory {} cannot be read: {source}", .path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Store(StoreError),
    #[error("this user has no home: say with --models-cache where copies of bundles go")]
    NoCache,
    #[error("no bundle under {}: it must hold NAME/VERSION/{MANIFEST_FILE}", .0.display())]
    Empty(PathBuf),
    #[error("model is `{asked}`, and {} holds: {known}", .models.display())]
    NoSuch { asked: String, models: PathBuf, known: String },
    #[error("model must be given, since {} holds several: {known}", .models.display())]
    Several { models: PathBuf, known: String },
}

/// Every NAME/VERSION with a manifest under `models`, names in order and each name's versions from
/// the highest down.
///
/// # Errors
/// When a directory cannot be listed.
pub(super) fn on_disk(models: &Path) -> Result<Vec<Key>, FindError> {
    let mut keys = Vec::new();
    for name in directories(models)? {
        let versions = directories(&models.join(&name))?;
        let whole = versions
            .into_iter()
            .filter(|version| models.join(&name).join(version).join(MANIFEST_FILE).is_file());
        keys.extend(whole.map(|version| Key { name: name.clone(), version }));
    }
    Ok(in_order(keys))
}

/// The one of `keys`, which lie in `models`, that is `asked` for: NAME/VERSION, or the highest
/// version of NAME, or of the only name. Versions stand from the highest down.
///
/// # Errors
/// When there is none, or nothing was asked for and there are several names.
pub(super) fn pick_of<'a>(
    keys: &'a [Key],
    asked: Option<&str>,
    models: &Path,
) -> Result<&'a Key, FindError> {
    let known = || keys.iter().map(Key::to_string).collect::<Vec<_>>().join(", ");
    let first = keys.first().ok_or_else(|| FindError::Empty(models.to_owned()))?;
    match asked {
        Some(asked) => keys
            .iter()
            .find(|key| key.name == asked || key.to_string() == asked)
            .ok_or_else(|| FindError::NoSuch {
                asked: asked.to_owned(),
                models: models.to_owned(),
                known: known(),
            }),
        None if keys.iter().any(|key| key.name != first.name) => {
            Err(FindError::Several { models: models.to_owned(), known: known() })
        }
        None => Ok(first),
    }
}

/// The names of the directories in `path`. What no bundle can be called, such as one that is being
/// written, is none.
fn directories(path: &Path) -> Result<Vec<String>, FindError> {
    let unreadable = |source| FindError::Unreadable { path: path.to_owned(), source };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if restain_bundle::is_plain_name(&name) && entry.path().is_dir() {
            names.push(name);
        }
    }
    Ok(names)
}
