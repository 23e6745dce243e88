//! Why a job ends before its end.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::serve::error::Error;
use crate::serve::services::OpenError;
use restain_store::StoreError;

#[derive(Debug, thiserror::Error)]
pub enum AugmentError {
    /// Wrong use: nothing was begun.
    #[error("{0}")]
    Use(String),
    #[error("{} cannot be read: {source}", .path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} cannot be written: {source}", .path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error(
        "{} cannot be made: {source}; the job's state can lie elsewhere: --state DIR",
        .path.display()
    )]
    State { path: PathBuf, source: std::io::Error },
    /// The table of a data set, which was read before.
    #[error("{0:#}")]
    Table(anyhow::Error),
    #[error("{}: {said}", .path.display())]
    Tar { path: PathBuf, said: String },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Engine(#[from] OpenError),
    #[error("{name}: {source}")]
    Tile { name: String, source: Error },
    #[error("{bad}{}", more(.allowed))]
    Bad { bad: Bad, allowed: u64 },
    #[error("a task of the job panicked: {0}")]
    Panicked(#[from] tokio::task::JoinError),
}

/// A tile that nothing can be made of, by the name it has in the data set.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{name} {reason}")]
pub struct Bad {
    pub kind: BadKind,
    pub name: String,
    /// Goes on after the name.
    pub reason: String,
}

/// What is wrong with a tile, for counting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BadKind {
    /// It cannot be decoded.
    #[default]
    Damaged,
    /// Its file does not exist.
    NotThere,
    /// Its file cannot be read.
    Unreadable,
    /// It is smaller or larger than a tile can be.
    Size,
    /// The sample has no image.
    NoPicture,
}

impl fmt::Display for BadKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Damaged => "damaged",
            Self::NotThere => "not there",
            Self::Unreadable => "not readable",
            Self::Size => "too small or too large",
            Self::NoPicture => "without a picture",
        })
    }
}

fn more(allowed: &u64) -> String {
    match allowed {
        0 => "; --max-damaged N skips up to N such tiles".to_owned(),
        allowed => format!("; that is one more than --max-damaged {allowed}"),
    }
}

impl AugmentError {
    pub fn is_wrong_use(&self) -> bool {
        matches!(self, Self::Use(_))
    }
}

pub(super) fn unreadable(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> AugmentError {
    let path = path.into();
    move |source| AugmentError::Read { path, source }
}

pub(super) fn unwritable(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> AugmentError {
    let path = path.into();
    move |source| AugmentError::Write { path, source }
}
