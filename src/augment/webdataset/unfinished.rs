//! A tar that grows, and its journal: a line for each item, written after the item's entries. What
//! stands behind the last whole line was cut by a kill, and is cut off before the job goes on.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::sample::END;
use crate::augment::error::{AugmentError, Bad, unreadable, unwritable};
use crate::augment::home::{BadTile, Done, Home};
use crate::augment::tile::suffixed;

pub(super) struct Unfinished {
    tar: PathBuf,
    path: PathBuf,
    file: File,
    journal: File,
    end: u64,
    /// Items that are in it, or left out for good.
    pub items: u64,
}

/// What became of one item.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Line {
    /// Where its entries end.
    pub end: u64,
    pub tiles: u64,
    pub variants: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bad: Option<BadTile>,
}

impl Line {
    pub(super) fn bad(bad: &Bad) -> Self {
        Self {
            end: 0,
            tiles: 0,
            variants: 0,
            bad: Some(BadTile {
                kind: bad.kind,
                name: bad.name.clone(),
                reason: bad.reason.clone(),
            }),
        }
    }
}

/// The journal of an unfinished tar.
fn journal(home: &Home, tar: &Path) -> PathBuf {
    suffixed(&home.unfinished(tar), ".jsonl")
}

/// What the lines of a journal sum up to.
pub(crate) fn done(journal: &[u8]) -> Done {
    let mut done = Done::default();
    for (line, _) in lines(journal) {
        done.tiles += line.tiles;
        done.variants += line.variants;
        done.bad.extend(line.bad);
    }
    done
}

/// The journal of an unfinished tar; empty when there is none.
///
/// # Errors
/// When it cannot be read.
pub(super) fn read_journal(home: &Home, tar: &Path) -> Result<Vec<u8>, AugmentError> {
    let path = journal(home, tar);
    match fs::read(&path) {
        Ok(bytes) => Ok(bytes),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(unreadable(&path)(error)),
    }
}

/// Every whole line, with where it ends.
fn lines(journal: &[u8]) -> Vec<(Line, u64)> {
    let mut at = 0;
    let whole = journal.split_inclusive(|byte| *byte == b'\n').map_while(|text| {
        at += text.len() as u64;
        let line = text.strip_suffix(b"\n")?;
        Some((serde_json::from_slice(line).ok()?, at))
    });
    whole.collect()
}

impl Unfinished {
    /// Goes on where the journal ends, or begins.
    ///
    /// # Errors
    /// When the files cannot be used.
    pub(super) fn open(home: &Home, tar: &Path) -> Result<Self, AugmentError> {
        let (path, journal_path) = (home.unfinished(tar), journal(home, tar));
        let folder = path.parent().expect("it lies in the work of a part");
        fs::create_dir_all(folder).map_err(unwritable(folder))?;
        let open = |path: &Path| {
            OpenOptions::new()
                .create(true)
                .write(true)
                .truncate(false)
                .open(path)
                .map_err(unwritable(path))
        };
        let (mut file, mut journal) = (open(&path)?, open(&journal_path)?);
        let length = file.metadata().map_err(unreadable(&path))?.len();
        // After a loss of power the tar may be shorter than its journal says.
        let there: Vec<(Line, u64)> = lines(&read_journal(home, tar)?)
            .into_iter()
            .take_while(|(line, _)| line.end <= length)
            .collect();
        let (end, of_journal) = there.last().map_or((0, 0), |(line, at)| (line.end, *at));
        let cut = |file: &mut File, end: u64| {
            file.set_len(end).and_then(|()| file.seek(SeekFrom::Start(end)))
        };
        cut(&mut file, end).map_err(unwritable(&path))?;
        cut(&mut journal, of_journal).map_err(unwritable(&journal_path))?;
        Ok(Self { tar: tar.to_owned(), path, file, journal, end, items: there.len() as u64 })
    }

    /// Appends the entries of an item, and then its line, of which `end` is set here.
    ///
    /// # Errors
    /// When they cannot be written.
    pub(super) fn append(&mut self, entries: &[u8], mut line: Line) -> Result<(), AugmentError> {
        self.file.write_all(entries).map_err(unwritable(&self.path))?;
        self.end += entries.len() as u64;
        line.end = self.end;
        let mut text = serde_json::to_vec(&line).expect("a line is numbers and strings");
        text.push(b'\n');
        self.journal.write_all(&text).map_err(unwritable(&self.path))
    }

    /// Ends the tar and moves it to its place.
    ///
    /// # Errors
    /// When that cannot be done.
    pub(super) fn finish(mut self, home: &Home) -> Result<(), AugmentError> {
        self.file.write_all(&END).map_err(unwritable(&self.path))?;
        home.shelf.place_tar(&self.path, &journal(home, &self.tar), &self.tar)
    }
}
