//! Writes of files and directories that are complete or not there, after a kill and after a loss of
//! power.
//!
//! What is written lies beside its place first, is flushed to the disk, takes its place by one
//! rename, and the directory that holds it is flushed as well. All programs write through here
//! whatever must survive them. Growing files, such as a journal, are not written here.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// Extension of a file that is being written.
pub const UNFINISHED: &str = "part";

/// Begins the name of a directory that is being written, or that was replaced and is being removed.
/// No bundle, name or version begins with a dot, so that nothing takes it for one.
const STAGING: &str = ".restain-";

/// Writes `bytes` to `path`, in place of what is there; when this returns, they are on the disk.
pub fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_file_with(path, |fresh| fs::write(fresh, bytes))
}

/// As [`write_file`], for what `write` writes to the path it is given.
///
/// That path is `path` with [`UNFINISHED`] added, so that the next write overwrites what a kill
/// left. One writer at a time may write to the same `path`.
///
/// # Errors
/// Those of `write`, and those of the disk; what was at `path` stays, and nothing is left beside
/// it.
pub fn write_file_with<E: From<io::Error>>(
    path: &Path,
    write: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let fresh = path.with_added_extension(UNFINISHED);
    let written = || {
        write(&fresh)?;
        Ok(move_file(&fresh, path)?)
    };
    written().inspect_err(|_| {
        // It may be what filled the disk.
        let _ = fs::remove_file(&fresh);
    })
}

/// Flushes the file `from` and renames it to `to`, in place of what is there. Both lie on one file
/// system.
pub fn move_file(from: &Path, to: &Path) -> io::Result<()> {
    File::open(from)?.sync_all()?;
    fs::rename(from, to)?;
    sync_dir(parent(to))
}

/// Flushes the entries of a directory: which names it holds.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    // Only Unix lets a directory be opened and flushed.
    if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) }
}

/// A directory that is being written beside its place. Dropped, it is removed.
///
/// The process holds a lock on it, which the end of the process releases whatever ends it: a
/// staging directory that can be locked belongs to a process that is gone, and the next
/// [`StagedDir::new`] in the same place removes it. Where the file system has no locks, it stays
/// until someone removes it.
#[derive(Debug)]
pub(crate) struct StagedDir {
    dir: TempDir,
    _lock: Option<File>,
}

impl StagedDir {
    /// Creates an empty directory in `parent`, which is created too, and removes what killed
    /// processes left there.
    pub(crate) fn new(parent: &Path) -> io::Result<Self> {
        fs::create_dir_all(parent)?;
        remove_abandoned(parent);
        loop {
            let mut builder = tempfile::Builder::new();
            builder.prefix(STAGING);
            // A temporary directory is private to its owner; a bundle is as readable as the umask
            // allows.
            #[cfg(unix)]
            builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
            let dir = builder.tempdir_in(parent)?;
            match lock(dir.path()) {
                Locked::Here(lock) if dir.path().is_dir() => {
                    return Ok(Self { dir, _lock: Some(lock) });
                }
                // Another process took it for abandoned, in the moment before it was locked.
                Locked::Here(_) | Locked::Elsewhere => {}
                Locked::Impossible => return Ok(Self { dir, _lock: None }),
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Flushes the directory and every file in it, and puts it at `place` in one step. With
    /// `replace`, what is there goes: where the system can exchange two directories, a reader finds
    /// the old one or the new one at every moment; elsewhere it may find none for the time between
    /// two renames.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] when something is there and `replace` is false. `place` is as
    /// it was then.
    pub(crate) fn put(self, place: &Path, replace: bool) -> io::Result<()> {
        for entry in fs::read_dir(self.path())? {
            File::open(entry?.path())?.sync_all()?;
        }
        sync_dir(self.path())?;
        let replaced = if place.exists() {
            if !replace {
                return Err(ErrorKind::AlreadyExists.into());
            }
            Some(exchange(self.path(), place)?)
        } else {
            fs::rename(self.path(), place)?;
            None
        };
        // What lies at this path now is what was replaced, or nothing.
        let staging = self.dir.keep();
        sync_dir(parent(place))?;
        for old in replaced.into_iter().chain([staging]) {
            remove(&old);
        }
        Ok(())
    }
}

/// Puts `staged` in the place of `place`, and returns where the old directory lies.
fn exchange(staged: &Path, place: &Path) -> io::Result<PathBuf> {
    match exchange_at_once(staged, place) {
        Ok(()) => return Ok(staged.to_owned()),
        // The kernel or the file system cannot.
        Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::InvalidInput) => {}
        Err(error) => return Err(error),
    }
    let retired = tempfile::Builder::new().prefix(STAGING).tempdir_in(parent(place))?;
    let old = retired.path().join("old");
    fs::rename(place, &old)?;
    if let Err(error) = fs::rename(staged, place) {
        fs::rename(&old, place)?;
        return Err(error);
    }
    Ok(retired.keep())
}

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn exchange_at_once(a: &Path, b: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE)?)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn exchange_at_once(_: &Path, _: &Path) -> io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}

enum Locked {
    Here(File),
    Elsewhere,
    /// The system or the file system has no locks on directories.
    Impossible,
}

fn lock(dir: &Path) -> Locked {
    match File::open(dir) {
        Ok(handle) => match handle.try_lock() {
            Ok(()) => Locked::Here(handle),
            Err(TryLockError::WouldBlock) => Locked::Elsewhere,
            Err(TryLockError::Error(_)) => Locked::Impossible,
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Locked::Elsewhere,
        Err(_) => Locked::Impossible,
    }
}

/// Removes the staging directories in `parent` of processes that are gone.
fn remove_abandoned(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let is_staging = entry.file_name().to_string_lossy().starts_with(STAGING)
            && entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_staging && let Locked::Here(_lock) = lock(&entry.path()) {
            remove(&entry.path());
        }
    }
}

/// Removes a directory if it can; what is left is not in the way, and the next writer tries again.
fn remove(dir: &Path) {
    let _ = fs::remove_dir_all(dir);
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_and_a_failed_write_leaves_the_old_one() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("state.json");
        write_file(&path, b"one").unwrap();
        // What a kill leaves is in the way of nothing.
        fs::write(home.path().join("state.json.part"), "half of a longer one").unwrap();
        write_file(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        let failed = write_file_with(&path, |fresh| {
            fs::write(fresh, "thr")?;
            Err(io::Error::other("full"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "full");
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(names(home.path()), ["state.json"]);
    }

    #[test]
    fn a_directory_takes_its_place_whole_and_leaves_nothing_beside() {
        let home = tempfile::tempdir().unwrap();
        let place = home.path().join("1");
        for content in ["one", "two"] {
            let staged = StagedDir::new(home.path()).unwrap();
            fs::write(staged.path().join("file"), content).unwrap();
            staged.put(&place, true).unwrap();
            assert_eq!(fs::read_to_string(place.join("file")).unwrap(), content);
            assert_eq!(names(home.path()), ["1"]);
        }
        let staged = StagedDir::new(home.path()).unwrap();
        let refused = staged.put(&place, false).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
        assert_eq!(names(home.path()), ["1"]);
    }

    #[test]
    fn a_replaced_directory_is_there_at_every_moment() {
        let home = tempfile::tempdir().unwrap();
        let place = home.path().join("1");
        let publish = || {
            let staged = StagedDir::new(home.path()).unwrap();
            fs::write(staged.path().join("file"), "whole").unwrap();
            staged.put(&place, true).unwrap();
        };
        publish();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| (0..200).for_each(|_| publish()));
            let mut looks = 0;
            while !writer.is_finished() || looks == 0 {
                assert!(place.is_dir(), "after {looks} looks");
                looks += 1;
            }
        });
    }

    #[test]
    fn only_what_a_dead_process_left_is_removed() {
        let home = tempfile::tempdir().unwrap();
        let abandoned = home.path().join(".restain-dead");
        fs::create_dir(&abandoned).unwrap();
        fs::write(abandoned.join("weights"), "half").unwrap();
        fs::create_dir(home.path().join("1")).unwrap();
        let living = StagedDir::new(home.path()).unwrap();
        assert!(!abandoned.exists());
        let second = StagedDir::new(home.path()).unwrap();
        assert!(living.path().is_dir() && second.path().is_dir());
        drop((living, second));
        assert_eq!(names(home.path()), ["1"]);
    }
}
