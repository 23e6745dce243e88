//! What was added, by the digest of the bundle it belongs to; in memory, and in a directory when
//! there is one.

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::added::Added;
use super::{Bank, file};
use restain_bundle::StyleBank;

/// Where the files of added styles and of slides lie within the state directory.
const STYLES: &str = "styles";
const SLIDES: &str = "slides";

/// Everything that was added to any bundle.
pub struct Store {
    state_dir: Option<PathBuf>,
    /// Held for its lock: two servers would write over each other's files.
    _lock: Option<File>,
    forbidden: Arc<[String]>,
    /// One for each digest ever loaded: a bundle that is unloaded and loaded again finds what it
    /// had.
    added: Mutex<HashMap<String, Kept>>,
}

/// The styles and the slides that were added to one bundle.
#[derive(Clone)]
struct Kept {
    styles: Arc<Added>,
    slides: Arc<Added>,
}

impl Store {
    /// Keeps what is added in `state_dir`, which is made when it is not there; without one, in
    /// memory alone.
    ///
    /// # Errors
    /// When the directory cannot be made or listed, or another server uses it.
    pub fn open(state_dir: Option<&Path>, forbidden: &[String]) -> io::Result<Arc<Self>> {
        let lock = state_dir.map(lock).transpose()?;
        if let Some(dir) = state_dir {
            file::prepare(&dir.join(STYLES))?;
            file::prepare(&dir.join(SLIDES))?;
        }
        let (forbidden, added) = (forbidden.into(), Mutex::default());
        let state_dir = state_dir.map(Path::to_owned);
        Ok(Arc::new(Self { state_dir, _lock: lock, forbidden, added }))
    }

    /// The bank of a bundle that is being loaded: its own styles, each of `half` numbers, and what
    /// was added to it. Blocks.
    pub fn bank(&self, digest: &str, half: usize, own: StyleBank) -> Bank {
        let mut added = self.added.lock().expect("no code panics while it holds this lock");
        let open = |kind: &str, forbidden: &Arc<[String]>| {
            let dir = self.state_dir.as_ref().map(|dir| dir.join(kind));
            let path = dir.map(|dir| dir.join(format!("{digest}.safetensors")));
            Arc::new(Added::open(path, half, forbidden))
        };
        let open = || Kept {
            styles: open(STYLES, &self.forbidden),
            slides: open(SLIDES, &Arc::default()),
        };
        let Kept { styles, slides } = added.entry(digest.to_owned()).or_insert_with(open).clone();
        Bank::new(own, styles, slides, Arc::clone(&self.forbidden))
    }
}

/// Locks the directory for as long as the file is open.
fn lock(state_dir: &Path) -> io::Result<File> {
    std::fs::create_dir_all(state_dir)?;
    let file = File::create(state_dir.join("lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(io::Error::other("another server uses it")),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_one_servers() {
        let dir = tempfile::tempdir().unwrap();
        let first = Store::open(Some(dir.path()), &[]).unwrap();
        let second = Store::open(Some(dir.path()), &[]).err().unwrap();
        assert!(second.to_string().contains("another server"), "{second}");
        drop(first);
        assert!(Store::open(Some(dir.path()), &[]).is_ok());
    }
}
