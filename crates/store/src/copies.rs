//! A copy of everything below a location in a directory of this machine, for what is read many
//! times.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Object, Remote, StoreError, Version};

/// What a copy holds, in its directory; it begins with a dot, so that no reader of data sets takes
/// it.
const INDEX: &str = ".restain-copy.json";
/// Bytes between two words of progress.
const STEP: usize = 1 << 20;

/// What a copy took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Objects below the location.
    pub objects: usize,
    /// Of these, objects that were fetched; the others were there already.
    pub fetched: usize,
    /// Bytes that were fetched.
    pub bytes: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Index {
    place: String,
    objects: BTreeMap<String, Version>,
}

/// Makes `dir` a copy of what lies below `remote`: fetches what is new or has changed, and removes
/// what is gone there. What was fetched before a kill is not fetched again. `seen` hears of bytes
/// done and bytes in all, those that were there included. One process at a time copies into a
/// directory; others wait. Blocks.
///
/// # Errors
/// When the store cannot be reached or refuses, or the directory cannot be written or holds
/// something else.
pub fn copy_below(
    remote: &Remote,
    dir: &Path,
    mut seen: impl FnMut(u64, u64),
) -> Result<Copied, StoreError> {
    let place = remote.location();
    let unwritten = |error: io::Error| {
        StoreError::own(place, format!("its copy in {} cannot be written: {error}", dir.display()))
    };
    fs::create_dir_all(dir).map_err(unwritten)?;
    let lock = File::create(dir.join(".restain-copy.lock")).map_err(unwritten)?;
    // File systems without locks have users who know how many processes they started.
    let _ = lock.lock();
    let index_path = dir.join(INDEX);
    let mut index: Index = fs::read(&index_path)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default();
    if !index.place.is_empty() && index.place != place.to_string() {
        let said =
            format!("{} is a copy of {}: name another directory", dir.display(), index.place);
        return Err(StoreError::own(place, said));
    }
    index.place = place.to_string();

    let objects = remote.list()?;
    let all: u64 = objects.iter().map(|object| object.size).sum();
    let gone: Vec<String> = index
        .objects
        .keys()
        .filter(|name| !objects.iter().any(|object| object.name == **name))
        .cloned()
        .collect();
    for name in gone {
        index.objects.remove(&name);
        let _ = fs::remove_file(dir.join(&name));
    }
    let mut copied = Copied { objects: objects.len(), ..Copied::default() };
    let mut done = 0;
    seen(done, all);
    for object in &objects {
        let path = dir.join(&object.name);
        let is_there = path.metadata().is_ok_and(|file| file.len() == object.size);
        if is_there && index.objects.get(&object.name) == Some(&object.version) {
            done += object.size;
        } else {
            let mut on_bytes = |bytes| {
                done += bytes;
                seen(done, all);
            };
            fetch(remote, object, &path, &mut on_bytes)
                .map_err(|error| store_error(remote, object, error))?;
            copied.fetched += 1;
            copied.bytes += object.size;
            index.objects.insert(object.name.clone(), object.version.clone());
            write(&index_path, &index).map_err(unwritten)?;
        }
        seen(done, all);
    }
    write(&index_path, &index).map_err(unwritten)?;
    Ok(copied)
}

fn fetch(
    remote: &Remote,
    object: &Object,
    path: &Path,
    seen: &mut dyn FnMut(u64),
) -> io::Result<()> {
    if let Some(above) = path.parent() {
        fs::create_dir_all(above)?;
    }
    let part = hidden(path);
    let (mut reader, mut file) = (remote.read(object), File::create(&part)?);
    let mut buffer = vec![0; STEP];
    loop {
        let read = reader.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        file.write_all(&buffer[..read])?;
        seen(read as u64);
    }
    file.sync_all()?;
    fs::rename(&part, path)
}

/// `.NAME.part` beside `path`.
fn hidden(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.part"))
}

fn write(path: &Path, index: &Index) -> io::Result<()> {
    let part = hidden(path);
    fs::write(&part, serde_json::to_vec(index).map_err(io::Error::other)?)?;
    fs::rename(&part, path)
}

fn store_error(remote: &Remote, object: &Object, error: io::Error) -> StoreError {
    match error.downcast::<StoreError>() {
        Ok(error) => error,
        Err(error) => StoreError::own(&remote.location().join(&object.name), error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_follows_its_original_and_fetches_nothing_twice() {
        let (remote, home) = (Remote::in_memory(), tempfile::tempdir().unwrap());
        let dir = home.path().join("copy");
        remote.put("a/1.tar", "one");
        remote.put("2.tar", "two!");
        let copy = || copy_below(&remote, &dir, |_, _| ()).unwrap();
        assert_eq!(copy(), Copied { objects: 2, fetched: 2, bytes: 7 });
        assert_eq!(fs::read(dir.join("a/1.tar")).unwrap(), b"one");
        assert_eq!(copy(), Copied { objects: 2, fetched: 0, bytes: 0 });
        // Changed there, lost here, gone there.
        remote.put("2.tar", "TWO!");
        assert_eq!(copy().fetched, 1);
        assert_eq!(fs::read(dir.join("2.tar")).unwrap(), b"TWO!");
        fs::remove_file(dir.join("2.tar")).unwrap();
        assert_eq!(copy().fetched, 1);
        remote.remove("a/1.tar");
        assert_eq!(copy(), Copied { objects: 1, fetched: 0, bytes: 0 });
        assert!(!dir.join("a/1.tar").exists());
    }

    #[test]
    fn progress_ends_with_all_bytes() {
        let (remote, home) = (Remote::in_memory(), tempfile::tempdir().unwrap());
        remote.put("a", vec![0; 3 * STEP]);
        remote.put("b", vec![0; 10]);
        let mut last = (0, 0);
        copy_below(&remote, home.path(), |done, all| {
            assert!(done >= last.0 && done <= all);
            last = (done, all);
        })
        .unwrap();
        assert_eq!(last, (3 * STEP as u64 + 10, 3 * STEP as u64 + 10));
    }

    #[test]
    fn a_directory_is_the_copy_of_one_place() {
        let (remote, home) = (Remote::in_memory(), tempfile::tempdir().unwrap());
        remote.put("a/1", "one");
        copy_below(&remote, home.path(), |_, _| ()).unwrap();
        let error = copy_below(&remote.below("a"), home.path(), |_, _| ()).unwrap_err();
        assert!(error.to_string().contains("is a copy of s3://memory/below"), "{error}");
    }
}
