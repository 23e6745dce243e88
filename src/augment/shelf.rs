//! What outlives a job's process: OUT, and the notes of the job beside it. They lie on this
//! machine, in OUT and in the folder of the job's state; or in a store, at OUT and at OUT.restain,
//! where parts on other machines find them.

use std::collections::HashSet;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::error::{AugmentError, unreadable, unwritable};
use super::tile::suffixed;
use restain_bundle::atomic;
use restain_store::{Location, Remote};

/// What stands behind the name of OUT in that of the place of its state.
pub(super) const STATE: &str = ".restain";

pub(super) enum Shelf {
    Here {
        out: PathBuf,
        state: PathBuf,
        /// Where files grow before they have their names.
        scratch: PathBuf,
    },
    Remote {
        out: Remote,
        state: Remote,
    },
}

/// The tars that were in OUT.
pub(super) enum Present<'a> {
    Here(&'a Path),
    Remote(HashSet<String>),
}

impl Shelf {
    /// Opens OUT in a store.
    ///
    /// # Errors
    /// When what the environment says of the store cannot be read.
    pub(super) fn remote(out: &Location) -> Result<Self, AugmentError> {
        let beside = format!("{out}{STATE}").parse::<Location>();
        let state = beside.map_err(|error| AugmentError::Use(error.to_string()))?;
        let state = Remote::open(&state)?;
        Ok(Self::Remote { out: Remote::open(out)?, state })
    }

    /// Whether there is anything in OUT. Blocks.
    pub(super) fn holds_data(&self) -> Result<bool, AugmentError> {
        match self {
            Self::Here { out, .. } if !out.exists() => Ok(false),
            Self::Here { out, .. } => {
                Ok(fs::read_dir(out).map_err(unreadable(out))?.next().is_some())
            }
            Self::Remote { out, .. } => Ok(!out.list()?.is_empty()),
        }
    }

    /// Reads a note; nothing when there is none. Blocks.
    pub(super) fn note(&self, name: &str) -> Result<Option<Vec<u8>>, AugmentError> {
        match self {
            Self::Here { state, .. } => {
                let path = state.join(name);
                match fs::read(&path) {
                    Ok(bytes) => Ok(Some(bytes)),
                    Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(unreadable(&path)(error)),
                }
            }
            Self::Remote { state, .. } => Ok(state.get(name)?.map(|(bytes, _)| bytes.into())),
        }
    }

    /// Writes a note in one step, in place of what is there; it outlives a loss of power. Blocks.
    pub(super) fn write_note(&self, name: &str, bytes: &[u8]) -> Result<(), AugmentError> {
        match self {
            Self::Here { state, .. } => {
                let path = state.join(name);
                let folder = path.parent().expect("a note lies below the state");
                fs::create_dir_all(folder)
                    .and_then(|()| atomic::write_file(&path, bytes))
                    .map_err(unwritable(&path))
            }
            Self::Remote { state, .. } => {
                let known = state.find(name)?.map(|object| object.version);
                // Only the process of this part writes this note.
                state.put_if(name, bytes.to_vec(), known.as_ref())?;
                Ok(())
            }
        }
    }

    /// Writes a note unless there is one, and says whether there was none: of processes that begin
    /// together, one is the first. Blocks.
    pub(super) fn write_first_note(&self, name: &str, bytes: &[u8]) -> Result<bool, AugmentError> {
        match self {
            Self::Here { state, scratch, .. } => {
                let path = state.join(name);
                let written = || {
                    let mut file = tempfile::NamedTempFile::new_in(scratch)?;
                    file.write_all(bytes)?;
                    file.as_file().sync_all()?;
                    match file.persist_noclobber(&path) {
                        Ok(_) => Ok(true),
                        Err(error) if error.error.kind() == ErrorKind::AlreadyExists => Ok(false),
                        Err(error) => Err(error.error),
                    }
                };
                written().map_err(unwritable(&path))
            }
            Self::Remote { state, .. } => Ok(state.put_if(name, bytes.to_vec(), None)?.is_some()),
        }
    }

    /// The tars that are in OUT, as far as they are whole. Blocks.
    pub(super) fn present(&self) -> Result<Present<'_>, AugmentError> {
        Ok(match self {
            Self::Here { out, .. } => Present::Here(out),
            Self::Remote { out, .. } => {
                Present::Remote(out.list()?.into_iter().map(|object| object.name).collect())
            }
        })
    }

    /// Puts a tar that is whole to its place in OUT, and its journal among the notes. Blocks.
    pub(super) fn place_tar(
        &self,
        tar: &Path,
        journal: &Path,
        target: &Path,
    ) -> Result<(), AugmentError> {
        let note = note_of_tar(target);
        match self {
            Self::Here { out, state, .. } => {
                for (from, to) in [(journal, state.join(note)), (tar, out.join(target))] {
                    let folder = to.parent().expect("it lies in a folder");
                    fs::create_dir_all(folder)
                        .and_then(|()| atomic::move_file(from, &to))
                        .map_err(unwritable(&to))?;
                }
            }
            Self::Remote { out, state } => {
                state.upload(journal, &note)?;
                out.upload(tar, &url_path(target))?;
                for path in [tar, journal] {
                    fs::remove_file(path).map_err(unwritable(path))?;
                }
            }
        }
        Ok(())
    }
}

impl Present<'_> {
    pub(super) fn has(&self, target: &Path) -> bool {
        match self {
            // After a loss of power files may be empty.
            Self::Here(out) => out.join(target).metadata().is_ok_and(|file| file.len() > 0),
            Self::Remote(names) => names.contains(&url_path(target)),
        }
    }
}

/// The note of what became of every sample of a tar.
pub(super) fn note_of_tar(target: &Path) -> String {
    url_path(&Path::new("tars").join(suffixed(target, ".jsonl")))
}

fn url_path(path: &Path) -> String {
    let parts = path.components().map(|part| part.as_os_str().to_string_lossy().into_owned());
    parts.collect::<Vec<_>>().join("/")
}
