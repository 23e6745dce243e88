//! A location that is open: its objects, and what can be done with them.

use std::fs::File;
use std::io::Read;
use std::path::Path as FilePath;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{
    Error, GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutPayload, Result,
    UpdateVersion, WriteMultipart,
};
use serde::{Deserialize, Serialize};

use crate::runtime::wait;
use crate::{Location, Reader, StoreError, open};

/// Bytes of one part of an upload.
const PART: usize = 16 << 20;
/// Parts of an upload that are under way at once.
const PARTS_AT_ONCE: usize = 2;

/// A location that is open. Names of objects are relative to it.
#[derive(Clone, Debug)]
pub struct Remote {
    store: Arc<dyn ObjectStore>,
    location: Location,
    prefix: Path,
}

/// An object, without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its path below the location.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Which state of it this is.
    pub version: Version,
}

/// Which state of an object: another one is another version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    e_tag: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// Of stores that have neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    modified: Option<String>,
}

/// What became of an object since a version of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Newer {
    /// It is that version.
    Same,
    /// There is no such object.
    Gone,
    /// It is another one.
    Changed(Bytes, Version),
}

impl Remote {
    /// Opens a location, without a request: whether it is there shows with the first.
    ///
    /// # Errors
    /// When what the environment says of credentials and endpoints cannot be read.
    pub fn open(location: &Location) -> Result<Self, StoreError> {
        let prefix = location.path();
        Ok(Self { store: open::open(location)?, location: location.clone(), prefix })
    }

    /// Where it lies.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// The same store, at `name` below this location.
    pub fn below(&self, name: &str) -> Self {
        let location = self.location.join(name);
        Self { store: Arc::clone(&self.store), prefix: location.path(), location }
    }

    /// Every object below the location, in the order of their names. Blocks.
    ///
    /// # Errors
    /// When the store cannot be reached, refuses, or lists nothing, as plain HTTP servers do.
    pub fn list(&self) -> Result<Vec<Object>, StoreError> {
        let (store, prefix) = (Arc::clone(&self.store), self.prefix.clone());
        let listing = async move { store.list(Some(&prefix)).try_collect::<Vec<_>>().await };
        let found = wait(listing).map_err(|error| StoreError::new(&self.location, error))?;
        let mut objects: Vec<Object> =
            found.into_iter().filter_map(|object| self.object(object)).collect();
        objects.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(objects)
    }

    fn object(&self, found: ObjectMeta) -> Option<Object> {
        let below: Vec<String> = found
            .location
            .prefix_match(&self.prefix)?
            .map(|part| part.as_ref().to_owned())
            .collect();
        let (name, size, version) = (below.join("/"), found.size, Version::of(&found));
        // A prefix that names an object matches it, and some tools write objects for folders.
        (!name.is_empty()).then_some(Object { name, size, version })
    }

    /// The object `name`, without its bytes; nothing when there is none. The empty name is the
    /// location itself. Blocks.
    ///
    /// # Errors
    /// When the store cannot be reached, or refuses.
    pub fn find(&self, name: &str) -> Result<Option<Object>, StoreError> {
        let (store, path) = (Arc::clone(&self.store), self.path(name));
        match wait(async move { store.head(&path).await }) {
            Ok(found) => {
                let (size, version) = (found.size, Version::of(&found));
                Ok(Some(Object { name: name.to_owned(), size, version }))
            }
            Err(Error::NotFound { source, path }) => {
                self.refuse_bucket(name, Error::NotFound { source, path }).map(|()| None)
            }
            Err(error) => Err(self.error(name, error)),
        }
    }

    /// The bytes of `name`; nothing when there is none. Blocks.
    ///
    /// # Errors
    /// When the store cannot be reached, or refuses.
    pub fn get(&self, name: &str) -> Result<Option<(Bytes, Version)>, StoreError> {
        Ok(match self.get_newer(name, None)? {
            Newer::Changed(bytes, version) => Some((bytes, version)),
            Newer::Gone | Newer::Same => None,
        })
    }

    /// The bytes of `name`, unless it is `known` still. Blocks.
    ///
    /// # Errors
    /// When the store cannot be reached, or refuses.
    pub fn get_newer(&self, name: &str, known: Option<&Version>) -> Result<Newer, StoreError> {
        let (store, path) = (Arc::clone(&self.store), self.path(name));
        let if_none_match = known.and_then(|version| version.e_tag.clone());
        let options = GetOptions { if_none_match, ..GetOptions::default() };
        let got = wait(async move {
            let got = store.get_opts(&path, options).await?;
            let version = Version::of(&got.meta);
            Ok((got.bytes().await?, version))
        });
        match got {
            Ok((_, version)) if known == Some(&version) => Ok(Newer::Same),
            Ok((bytes, version)) => Ok(Newer::Changed(bytes, version)),
            Err(Error::NotModified { .. }) => Ok(Newer::Same),
            Err(Error::NotFound { source, path }) => {
                self.refuse_bucket(name, Error::NotFound { source, path }).map(|()| Newer::Gone)
            }
            Err(error) => Err(self.error(name, error)),
        }
    }

    /// Writes `name` if it is still what was `known`: a version, or not there. Returns the new
    /// version, or nothing when someone else was faster. Blocks.
    ///
    /// # Errors
    /// When the store cannot be reached, refuses, or cannot compare.
    pub fn put_if(
        &self,
        name: &str,
        bytes: Vec<u8>,
        known: Option<&Version>,
    ) -> Result<Option<Version>, StoreError> {
        let mode = known.map_or(PutMode::Create, |known| {
            PutMode::Update(UpdateVersion {
                e_tag: known.e_tag.clone(),
                version: known.version.clone(),
            })
        });
        let (store, path) = (Arc::clone(&self.store), self.path(name));
        let put =
            wait(async move { store.put_opts(&path, PutPayload::from(bytes), mode.into()).await });
        match put {
            Ok(put) => Ok(Some(Version { e_tag: put.e_tag, version: put.version, modified: None })),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(None),
            // The object was removed meanwhile: the next read returns nothing.
            Err(Error::NotFound { source, path }) => {
                self.refuse_bucket(name, Error::NotFound { source, path }).map(|()| None)
            }
            Err(error) => Err(self.error(name, error)),
        }
    }

    /// Reads an object piece by piece. What is read is one version of it: that of `object`. Blocks
    /// when it is read.
    pub fn read(&self, object: &Object) -> Reader {
        let path = self.path(&object.name);
        let e_tag = object.version.e_tag.clone();
        let location = self.location.join(&object.name);
        Reader::new(Arc::clone(&self.store), path, location, object.size, e_tag)
    }

    /// Writes the file `from` to `name`, in place of what is there, in one step. `seen` hears of
    /// bytes that were sent. Blocks.
    ///
    /// # Errors
    /// When the file cannot be read, or the store cannot be reached or refuses; nothing is there
    /// then that was not there before.
    pub fn upload(&self, from: &FilePath, name: &str) -> Result<(), StoreError> {
        let unread = |error: std::io::Error| {
            StoreError::own(&self.location, format!("{}: {error}", from.display()))
        };
        let mut file = File::open(from).map_err(unread)?;
        let size = file.metadata().map_err(unread)?.len();
        let (store, path) = (Arc::clone(&self.store), self.path(name));
        let failed = |error| self.error(name, error);
        if size <= PART as u64 {
            let mut bytes = Vec::with_capacity(size as usize);
            file.read_to_end(&mut bytes).map_err(unread)?;
            wait(async move { store.put(&path, bytes.into()).await }).map_err(failed)?;
            return Ok(());
        }
        let upload = wait(async move { store.put_multipart(&path).await }).map_err(failed)?;
        let mut write = WriteMultipart::new_with_chunk_size(upload, PART);
        loop {
            let mut part = Vec::with_capacity(PART);
            if let Err(error) = file.by_ref().take(PART as u64).read_to_end(&mut part) {
                let _ = wait(write.abort());
                return Err(unread(error));
            }
            if part.is_empty() {
                break;
            }
            let sent = wait(async move {
                write.wait_for_capacity(PARTS_AT_ONCE).await.map(|()| {
                    write.put(part.into());
                    write
                })
            });
            write = sent.map_err(failed)?;
        }
        wait(write.finish()).map(drop).map_err(failed)
    }

    fn path(&self, name: &str) -> Path {
        name.split('/')
            .filter(|part| !part.is_empty())
            .fold(self.prefix.clone(), |path, part| path.join(part))
    }

    fn error(&self, name: &str, error: Error) -> StoreError {
        StoreError::new(&self.location.join(name), error)
    }

    /// An object that is not there is an answer; a bucket that is not there is a mistake.
    fn refuse_bucket(&self, name: &str, error: Error) -> Result<(), StoreError> {
        let error = self.error(name, error);
        if error.to_string().contains("no such bucket") { Err(error) } else { Ok(()) }
    }
}

impl Version {
    fn of(found: &ObjectMeta) -> Self {
        let (e_tag, version) = (found.e_tag.clone(), found.version.clone());
        let has_version = e_tag.is_some() || version.is_some();
        let modified = (!has_version).then(|| format!("{} {}", found.last_modified, found.size));
        Self { e_tag, version, modified }
    }
}

#[cfg(test)]
impl Remote {
    /// A store in memory.
    pub(crate) fn in_memory() -> Self {
        let location: Location = "s3://memory/below".parse().unwrap();
        let store = Arc::new(object_store::memory::InMemory::new());
        Self { store, prefix: location.path(), location }
    }

    pub(crate) fn put(&self, name: &str, bytes: impl Into<Vec<u8>>) {
        let (store, path, bytes) = (Arc::clone(&self.store), self.path(name), bytes.into());
        wait(async move { store.put(&path, bytes.into()).await }).unwrap();
    }

    pub(crate) fn remove(&self, name: &str) {
        let (store, path) = (Arc::clone(&self.store), self.path(name));
        wait(async move { store.delete(&path).await }).unwrap();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_listed_by_their_names_below() {
        let remote = Remote::in_memory();
        remote.put("b/two.tar", "22");
        remote.put("a.tar", "1");
        let names = |remote: &Remote| -> Vec<(String, u64)> {
            remote.list().unwrap().into_iter().map(|object| (object.name, object.size)).collect()
        };
        assert_eq!(names(&remote), [("a.tar".to_owned(), 1), ("b/two.tar".to_owned(), 2)]);
        assert_eq!(names(&remote.below("b")), [("two.tar".to_owned(), 2)]);
        assert_eq!(names(&remote.below("c")), []);
    }

    #[test]
    fn of_two_writers_of_one_version_one_is_told_that_it_was_too_late() {
        let remote = Remote::in_memory();
        let first = remote.put_if("bank", b"1".to_vec(), None).unwrap().unwrap();
        assert_eq!(remote.put_if("bank", b"2".to_vec(), None).unwrap(), None);
        let second = remote.put_if("bank", b"3".to_vec(), Some(&first)).unwrap().unwrap();
        assert_eq!(remote.put_if("bank", b"4".to_vec(), Some(&first)).unwrap(), None);
        let (bytes, version) = remote.get("bank").unwrap().unwrap();
        assert_eq!((&bytes[..], &version), (&b"3"[..], &second));
    }

    #[test]
    fn only_what_changed_is_read_again() {
        let remote = Remote::in_memory();
        assert_eq!(remote.get_newer("bank", None).unwrap(), Newer::Gone);
        let first = remote.put_if("bank", b"1".to_vec(), None).unwrap().unwrap();
        assert_eq!(remote.get_newer("bank", Some(&first)).unwrap(), Newer::Same);
        remote.put("bank", "2");
        let newer = remote.get_newer("bank", Some(&first)).unwrap();
        assert!(matches!(newer, Newer::Changed(bytes, _) if &bytes[..] == b"2"));
    }

    #[test]
    fn files_of_any_size_are_uploaded_whole() {
        let (remote, home) = (Remote::in_memory(), tempfile::tempdir().unwrap());
        for size in [0, 10, PART, 2 * PART + 5] {
            let bytes: Vec<u8> = (0..size).map(|place| (place / 7) as u8).collect();
            let path = home.path().join("file");
            std::fs::write(&path, &bytes).unwrap();
            remote.upload(&path, "file").unwrap();
            assert!(remote.get("file").unwrap().unwrap().0 == bytes, "{size}");
        }
    }
}
