//! What was added, by the digest of the bundle it belongs to; in memory, and in a directory when
//! there is one.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::added::Added;
use super::{Bank, file};
use restain_bundle::StyleBank;

/// Where the files of the style bank lie within the state directory.
const STYLES: &str = "styles";

/// Everything that was added to any bundle.
pub struct Store {
    dir: Option<PathBuf>,
    forbidden: Arc<[String]>,
    /// One for each digest ever loaded: a bundle that is unloaded and loaded again finds what it
    /// had.
    added: Mutex<HashMap<String, Arc<Added>>>,
}

impl Store {
    /// Keeps what is added in `state_dir`, which is made when it is not there; without one, in
    /// memory alone.
    ///
    /// # Errors
    /// When the directory cannot be made or listed.
    pub fn open(state_dir: Option<&Path>, forbidden: &[String]) -> io::Result<Arc<Self>> {
        let dir = state_dir.map(|dir| dir.join(STYLES));
        if let Some(dir) = &dir {
            file::prepare(dir)?;
        }
        Ok(Arc::new(Self { dir, forbidden: forbidden.into(), added: Mutex::default() }))
    }

    /// The bank of a bundle that is being loaded: its own styles, each of `half` numbers, and what
    /// was added to it. Blocks.
    pub fn bank(&self, digest: &str, half: usize, own: StyleBank) -> Bank {
        let mut added = self.added.lock().expect("no code panics while it holds this lock");
        let open = || {
            Arc::new(Added::open(
                self.dir.as_ref().map(|dir| dir.join(format!("{digest}.safetensors"))),
                half,
                &self.forbidden,
            ))
        };
        let added = added.entry(digest.to_owned()).or_insert_with(open);
        Bank::new(own, Arc::clone(added), Arc::clone(&self.forbidden))
    }
}
