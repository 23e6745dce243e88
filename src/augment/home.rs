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
use crate::serve::pipeline::plan::draw_seed;
use crate::serve::pipeline::request::Request;
use restain_bundle::atomic;

/// What stands behind the name of OUT in that of the folder of its state.
const STATE: &str = ".restain";

/// OUT, locked for one part of the job.
pub(super) struct Home {
    pub out: PathBuf,
    state: PathBuf,
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
        out: &Path,
        state: Option<&Path>,
        inputs: &[PathBuf],
        shard: Shard,
    ) -> Result<Self, AugmentError> {
        let state = state.map_or_else(|| beside(out), |state| Ok(state.to_owned()))?;
        check_apart("OUT", out, "IN", inputs)?;
        check_apart("--state", &state, "IN", inputs)?;
        check_apart("--state", &state, "OUT", &[out.to_owned()])?;
        let foreign = out.exists() && holds_data(out)?;
        if foreign && !state.join("job.json").exists() {
            let (out, state) = (out.display(), state.display());
            return Err(AugmentError::Use(format!(
                "OUT is {out}, which holds files, and {state} holds no job that made them: name a \
                 new folder"
            )));
        }
        let work = state.join("work").join(shard.file_name());
        let scratch = work.join("scratch");
        let unmade = |source| AugmentError::State { path: state.clone(), source };
        fs::create_dir_all(&work).map_err(unmade)?;
        fs::create_dir_all(out).map_err(unwritable(out))?;
        let device = |path: &Path| path.metadata().map(|it| it.dev()).map_err(unreadable(path));
        if device(out)? != device(&state)? {
            let (out, state) = (out.display(), state.display());
            return Err(AugmentError::Use(format!(
                "{state} lies on another file system than {out}, and files are moved from one to the \
                 other: name a folder on that of OUT with --state"
            )));
        }
        let path = work.join("lock");
        let lock = File::create(&path).map_err(unwritable(&path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                let out = out.display();
                return Err(AugmentError::Use(format!(
                    "another process works on part {shard} of the job in {out}: wait for it, or end it"
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
        Ok(Self { out: out.to_owned(), state, shard, work, _lock: lock })
    }

    /// Writes down what the job is, or checks that it still is that. The first of parts that begin
    /// together, draws the seed for all when none was given. Returns the seed, and whether the job
    /// was begun before.
    ///
    /// # Errors
    /// When the job in OUT is another one, with the differences named.
    pub(super) fn settle(&self, terms: &mut Terms) -> Result<bool, AugmentError> {
        let path = self.state.join("job.json");
        let given = terms.ask.seed;
        if !path.exists() {
            terms.ask.seed = given.or_else(|| Some(draw_seed()));
            if self.begin(&path, terms)? {
                return Ok(false);
            }
        }
        let text = fs::read(&path).map_err(unreadable(&path))?;
        let job: JobFile =
            serde_json::from_slice(&text).map_err(|error| unreadable(&path)(error.into()))?;
        terms.ask.seed = given.or_else(|| job.terms["seed"].as_u64());
        let mut different = Vec::new();
        differences(&job.terms, &serde_json::json!(terms), "", &mut different);
        if different.is_empty() {
            return Ok(true);
        }
        let said = different.join("; ");
        let (out, state) = (self.out.display(), self.state.display());
        Err(AugmentError::Use(format!(
            "the job in {out} was begun with other options: {said}. Give those again, or name \
             another OUT, or delete {out} and {state}"
        )))
    }

    /// Says whether it was the first.
    fn begin(&self, path: &Path, terms: &Terms) -> Result<bool, AugmentError> {
        let job = JobFile {
            written_by: concat!("restain ", env!("CARGO_PKG_VERSION")).to_owned(),
            terms: serde_json::json!(terms),
        };
        let mut file = self.scratch_file()?;
        let text = serde_json::to_vec_pretty(&job).expect("terms are strings, numbers and lists");
        file.write_all(&text).and_then(|()| file.as_file().sync_all()).map_err(unwritable(path))?;
        match file.persist_noclobber(path) {
            Ok(_) => Ok(true),
            Err(error) if error.error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(unwritable(path)(error.error)),
        }
    }

    /// Writes a file below OUT in one step. It is not flushed to the disk: a job writes millions of
    /// these, and finds an empty one after a loss of power.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn put(&self, target: &Path, bytes: &[u8]) -> Result<(), AugmentError> {
        let path = self.out.join(target);
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

    /// Where it is kept what became of the samples of a tar.
    pub(super) fn kept(&self, tar: &Path) -> PathBuf {
        self.state.join("tars").join(super::tile::suffixed(tar, ".jsonl"))
    }

    /// Notes that this part is done, which outlives a loss of power, and returns whether all parts
    /// are.
    ///
    /// # Errors
    /// When it cannot be noted.
    pub(super) fn finish(&self, done: &Done) -> Result<bool, AugmentError> {
        let folder = self.state.join("done");
        let note = |shard: Shard| folder.join(format!("{}.json", shard.file_name()));
        let path = note(self.shard);
        let text = serde_json::to_vec_pretty(done).expect("counts and names");
        fs::create_dir_all(&folder)
            .and_then(|()| atomic::write_file(&path, &text))
            .map_err(unwritable(&path))?;
        Ok(self.shard.all().all(|shard| note(shard).exists()))
    }
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
    for other in others {
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

/// The folder of the state of a job that writes to `out`.
fn beside(out: &Path) -> Result<PathBuf, AugmentError> {
    let real = real(out);
    match real.file_name() {
        Some(_) => Ok(super::tile::suffixed(&real, STATE)),
        None => Err(AugmentError::Use(format!(
            "OUT is {}, and nothing lies beside it: say with --state where the job's state goes",
            out.display()
        ))),
    }
}

/// The path without links and dots, as far as it exists.
pub(super) fn real(path: &Path) -> PathBuf {
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

fn holds_data(out: &Path) -> Result<bool, AugmentError> {
    let mut entries = fs::read_dir(out).map_err(unreadable(out))?;
    Ok(entries.next().is_some())
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
