//! OUT, as a job keeps it, and the folder of its state. In OUT lies data and nothing else, so that
//! other programs can load it: a folder of the job's own would be a class to torchvision. What the
//! job has to remember lies in OUT.restain beside it, or where `--state` says:
//!
//! ```text
//! job.json                   what the job was begun with; nothing else may go on in its place
//! done/00003-of-00016.json   a part that is done, and what it left out
//! work/00003-of-00016/       a part at work: its lock, and files and tars that are not whole
//! tars/NAME.tar.jsonl        what became of every sample of a tar
//! ```
//!
//! Where OUT is a URL, `job.json`, `done` and `tars` lie in the store, at OUT.restain, so that
//! parts on several machines are one job; a folder of this machine has the rest.
//!
//! A file is there whole or not at all: it is written in `work` and renamed, which needs both
//! folders on one file system. That outlives the end of the process at any moment; after a loss of
//! power files may be empty, and an empty file counts as not there.

use std::fs::{self, File, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tempfile::NamedTempFile;

use super::error::{AugmentError, BadKind, unreadable, unwritable};
use super::shard::Shard;
use super::shelf::{STATE, Shelf};
use super::tile::suffixed;
use crate::serve::pipeline::plan::draw_seed;
use crate::serve::pipeline::request::Request;
use restain_store::Place;

/// The note of what the job was begun with.
const JOB: &str = "job.json";

/// OUT, locked for one part of the job.
pub(super) struct Home {
    pub shelf: Shelf,
    /// As the caller said it.
    out: Place,
    shard: Shard,
    work: PathBuf,
    /// Held for its lock, which the end of the process gives back, whatever ends it.
    _lock: File,
}

/// All that decides what files hold.
#[derive(Debug, Serialize)]
pub(super) struct Terms {
    pub input: Vec<PathBuf>,
    pub layout: &'static str,
    pub originals: bool,
    pub slides: bool,
    pub image_field: Option<String>,
    /// Which tiles are left out; nothing if none are.
    pub selection: Option<Value>,
    pub bundle: String,
    pub precision: String,
    pub provider: &'static str,
    /// Keys of the reference tiles.
    pub references: Vec<String>,
    #[serde(flatten)]
    pub ask: Request,
}

#[derive(Serialize, Deserialize)]
struct JobFile {
    /// For people who wonder, later.
    written_by: String,
    terms: Value,
}

/// What a part did, over all of its runs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Done {
    pub tiles: u64,
    pub variants: u64,
    pub bad: Vec<BadTile>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct BadTile {
    #[serde(default)]
    pub kind: BadKind,
    pub name: String,
    pub reason: String,
}

impl Home {
    /// Takes OUT for a part of the job, making it if need be. Says nothing of its terms yet: see
    /// [`Home::settle`].
    ///
    /// # Errors
    /// When OUT holds something else, lies within IN, or another process works on this part; or the
    /// state cannot lie where it is to.
    pub(super) fn open(
        out: &Place,
        state: Option<&Path>,
        inputs: &[PathBuf],
        shard: Shard,
    ) -> Result<Self, AugmentError> {
        if out.remote().is_some_and(|out| out.name().is_none()) {
            let said = format!("OUT is {out}, the whole of a bucket: name a folder in it");
            return Err(AugmentError::Use(said));
        }
        let state = state.map_or_else(|| beside(out), |state| Ok(state.to_owned()))?;
        if let Place::Here(out) = out {
            check_apart("OUT", out, "IN", inputs)?;
            check_apart("--state", &state, "OUT", std::slice::from_ref(out))?;
        }
        check_apart("--state", &state, "IN", inputs)?;
        let work = state.join("work").join(shard.file_name());
        let scratch = work.join("scratch");
        let shelf = match out {
            Place::Here(out) => {
                let (out, state, scratch) = (out.clone(), state.clone(), scratch.clone());
                Shelf::Here { out, state, scratch }
            }
            Place::Remote(out) => Shelf::remote(out)?,
        };
        if shelf.holds_data()? && shelf.note(JOB)?.is_none() {
            let state = match out {
                Place::Here(_) => state.display().to_string(),
                Place::Remote(out) => format!("{out}{STATE}"),
            };
            return Err(AugmentError::Use(format!(
                "OUT is {out}, which holds files, and {state} holds no job that made them: name a \
                 new folder"
            )));
        }
        let unmade = |source| AugmentError::State { path: state.clone(), source };
        fs::create_dir_all(&work).map_err(unmade)?;
        if let Place::Here(out) = out {
            fs::create_dir_all(out).map_err(unwritable(out))?;
            check_one_device(out, &state)?;
        }
        let path = work.join("lock");
        let lock = File::create(&path).map_err(unwritable(&path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(AugmentError::Use(format!(
                    "another process works on part {shard} of the job in {out}: wait for it, or \
                    end it"
                )));
            }
            // Some network file systems have no locks. Their users know how many processes
            // were started.
            Err(fs::TryLockError::Error(error)) => {
                tracing::warn!(%error, "OUT cannot be locked: start only one process for a part")
            }
        }
        // What a run that was killed left half written.
        if scratch.exists() {
            fs::remove_dir_all(&scratch).map_err(unwritable(&scratch))?;
        }
        fs::create_dir_all(&scratch).map_err(unwritable(&scratch))?;
        Ok(Self { shelf, out: out.clone(), shard, work, _lock: lock })
    }

    /// OUT, for a job that writes its tiles as files: it has no other than a folder.
    pub(super) fn folder(&self) -> &Path {
        self.out.here().expect("a job that writes files was refused any other OUT")
    }

    /// Writes down what the job is, or checks that it still is that. The first of parts that begin
    /// together, draws the seed for all when none was given. Returns the seed, and whether the job
    /// was begun before.
    ///
    /// # Errors
    /// When the job in OUT is another one, with the differences named.
    pub(super) fn settle(&self, terms: &mut Terms) -> Result<bool, AugmentError> {
        let given = terms.ask.seed;
        let mut job = self.shelf.note(JOB)?;
        if job.is_none() {
            terms.ask.seed = given.or_else(|| Some(draw_seed()));
            if self.begin(terms)? {
                return Ok(false);
            }
            job = self.shelf.note(JOB)?;
        }
        let job: JobFile = serde_json::from_slice(&job.unwrap_or_default())
            .map_err(|error| unreadable(JOB)(error.into()))?;
        terms.ask.seed = given.or_else(|| job.terms["seed"].as_u64());
        let mut different = Vec::new();
        differences(&job.terms, &serde_json::json!(terms), "", &mut different);
        if different.is_empty() {
            return Ok(true);
        }
        let said = different.join("; ");
        let out = &self.out;
        Err(AugmentError::Use(format!(
            "the job in {out} was begun with other options: {said}. Give those again, or name \
             another OUT, or delete {out} and its state, {out}{STATE} or that of --state"
        )))
    }

    /// Says whether it was the first.
    fn begin(&self, terms: &Terms) -> Result<bool, AugmentError> {
        let job = JobFile {
            written_by: concat!("restain ", env!("CARGO_PKG_VERSION")).to_owned(),
            terms: serde_json::json!(terms),
        };
        let text = serde_json::to_vec_pretty(&job).expect("terms are strings, numbers and lists");
        self.shelf.write_first_note(JOB, &text)
    }

    /// Writes a file below OUT in one step. It is not flushed to the disk: a job writes millions of
    /// these, and finds an empty one after a loss of power.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn put(&self, target: &Path, bytes: &[u8]) -> Result<(), AugmentError> {
        let path = self.folder().join(target);
        let mut file = self.scratch_file()?;
        file.write_all(bytes).map_err(unwritable(&path))?;
        self.place(file, &path)
    }

    /// Moves a scratch file to its place.
    ///
    /// # Errors
    /// When it cannot be moved.
    fn place(&self, file: NamedTempFile, path: &Path) -> Result<(), AugmentError> {
        let file = match file.persist(path) {
            Ok(_) => return Ok(()),
            Err(error) if error.error.kind() == ErrorKind::NotFound => error.file,
            Err(error) => return Err(unwritable(path)(error.error)),
        };
        let folder = path.parent().expect("a file below OUT has a folder");
        fs::create_dir_all(folder).map_err(unwritable(folder))?;
        file.persist(path).map(drop).map_err(|error| unwritable(path)(error.error))
    }

    /// A file to write to before it has its name; gone unless it is placed.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn scratch_file(&self) -> Result<NamedTempFile, AugmentError> {
        let scratch = self.work.join("scratch");
        // As any file of this user's, rather than for his eyes alone.
        let made = tempfile::Builder::new()
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(&scratch);
        made.map_err(unwritable(&scratch))
    }

    /// Where an unfinished tar grows.
    pub(super) fn unfinished(&self, tar: &Path) -> PathBuf {
        self.work.join("tars").join(tar)
    }

    /// Notes that this part is done, which outlives a loss of power, and returns whether all parts
    /// are.
    ///
    /// # Errors
    /// When it cannot be noted.
    pub(super) fn finish(&self, done: &Done) -> Result<bool, AugmentError> {
        let note = |shard: Shard| format!("done/{}.json", shard.file_name());
        let text = serde_json::to_vec_pretty(done).expect("counts and names");
        self.shelf.write_note(&note(self.shard), &text)?;
        for shard in self.shard.all() {
            if self.shelf.note(&note(shard))?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Files are moved from the state to OUT.
fn check_one_device(out: &Path, state: &Path) -> Result<(), AugmentError> {
    let device = |path: &Path| path.metadata().map(|it| it.dev()).map_err(unreadable(path));
    if device(out)? == device(state)? {
        return Ok(());
    }
    let (out, state) = (out.display(), state.display());
    Err(AugmentError::Use(format!(
        "{state} lies on another file system than {out}, and files are moved from one to the \
         other: name a folder on that of OUT with --state"
    )))
}

/// Neither of two folders may lie within the other: a job must not find its own files, nor write
/// over its tiles.
fn check_apart(
    name: &str,
    folder: &Path,
    other_name: &str,
    others: &[PathBuf],
) -> Result<(), AugmentError> {
    let real_folder = real(folder);
    for other in others.iter().filter(|other| !is_url(other)) {
        let real_other = real(other);
        if real_folder.starts_with(&real_other) || real_other.starts_with(&real_folder) {
            let (folder, other) = (folder.display(), other.display());
            return Err(AugmentError::Use(format!(
                "{name} is {folder} and {other_name} {other}: neither may lie in the other"
            )));
        }
    }
    Ok(())
}

/// The folder of the state of a job that writes to `out`; of a store, one of this machine for what
/// is under way.
fn beside(out: &Place) -> Result<PathBuf, AugmentError> {
    let name = match out {
        Place::Here(out) => {
            let real = real(out);
            real.file_name().map(|_| suffixed(&real, STATE))
        }
        Place::Remote(out) => out.name().map(|name| format!("{name}{STATE}").into()),
    };
    name.ok_or_else(|| {
        AugmentError::Use(format!(
            "OUT is {out}, and nothing lies beside it: say with --state where the job's state goes"
        ))
    })
}

/// The path without links and dots, as far as it exists.
pub(super) fn real(path: &Path) -> PathBuf {
    if is_url(path) {
        return path.to_owned();
    }
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let known = absolute.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)));
    let Some((above, mut path)) = known else { return absolute };
    for part in absolute.strip_prefix(above).expect("an ancestor is a beginning").components() {
        match part {
            Component::ParentDir => _ = path.pop(),
            part => path.push(part),
        }
    }
    path
}

/// Whether an IN is no path of this machine.
pub(super) fn is_url(input: &Path) -> bool {
    input.to_str().is_some_and(|text| text.contains("://") && !text.starts_with("file://"))
}

/// Every value that is not the same, by its path.
fn differences(was: &Value, is: &Value, at: &str, found: &mut Vec<String>) {
    let (Value::Object(before), Value::Object(now)) = (was, is) else {
        if was != is {
            found.push(format!("{at} was {was} and is {is}"));
        }
        return;
    };
    let names: std::collections::BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    for name in names {
        let at = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
        differences(&was[name], &is[name], &at, found);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn differences_are_named_by_their_path() {
        let (was, is) = (
            json!({"a": 1, "b": {"c": [1]}, "d": null}),
            json!({"a": 1, "b": {"c": [1, 2]}, "e": "x"}),
        );
        let mut found = Vec::new();
        differences(&was, &is, "", &mut found);
        assert_eq!(found, ["b.c was [1] and is [1,2]", "e was null and is \"x\""]);
    }

    #[test]
    fn in_and_out_lie_apart() {
        let home = tempfile::tempdir().unwrap();
        let input = home.path().join("in");
        fs::create_dir(&input).unwrap();
        let apart =
            |out: &Path| check_apart("OUT", out, "IN", std::slice::from_ref(&input)).is_ok();
        assert!(
            apart(&home.path().join("out"))
                && apart(&home.path().join("in2/x"))
                && apart(&input.join("../out"))
        );
        assert!(
            !apart(&input)
                && !apart(&input.join("new/out"))
                && !apart(home.path())
                && !apart(&home.path().join("x/../in/y"))
        );
    }
}
