//! A bundle that is being made or changed, in a temporary directory beside its place, until it is
//! published.
//!
//! Every command that makes a bundle (`fit`, `resume`, `export`, `import`, `init`) or changes one
//! (`styles`, `evaluate --record`, `fp16`) takes every step on one [`BundleDraft`] and publishes it
//! once. A kill before that leaves the version that was there, or none; after it, the new one.
//! Which files a bundle should have is for the caller to say.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::atomic::StagedDir;
use super::manifest::check_file_name;
use super::{Bundle, BundleError, MANIFEST_FILE, Manifest, STYLES_FILE, StyleBank, file_digest};

/// A bundle in a temporary directory. Dropped before [`publish`](Self::publish), it leaves nothing.
#[derive(Debug)]
pub struct BundleDraft {
    staging: StagedDir,
    place: PathBuf,
    replace: bool,
    /// Digests of files that have not changed since they were hashed.
    known: BTreeMap<String, String>,
    /// What the bundle will say of itself. `files` is filled in.
    pub manifest: Manifest,
    styles: StyleBank,
}

impl BundleDraft {
    /// Starts an empty bundle that will lie in `place`; the directories above it are created.
    /// Removes what killed processes left beside it.
    ///
    /// # Errors
    /// [`BundleError::Exists`] when something lies there and `replace` is false.
    pub fn new(place: &Path, replace: bool, manifest: Manifest) -> Result<Self, BundleError> {
        let (staging, place) = stage(place, replace)?;
        let (known, styles) = (BTreeMap::new(), StyleBank::default());
        Ok(Self { staging, place, replace, known, manifest, styles })
    }

    /// Checks that a new bundle can be published in `place`, before the work of hours that it will
    /// hold.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn check_place(place: &Path) -> Result<(), BundleError> {
        stage(place, false).map(drop)
    }

    /// Starts a copy of the bundle in `dir`, verified, which will replace it. Files are shared with
    /// it where the file system can.
    pub fn of(dir: &Path) -> Result<Self, BundleError> {
        let Bundle { dir, manifest, styles, .. } = Bundle::open(dir)?;
        let mut draft = Self { styles, ..Self::new(&dir, true, manifest)? };
        for (file, digest) in &draft.manifest.files {
            let (from, to) = (dir.join(file), draft.staging.path().join(file));
            // Weights are hundreds of megabytes, and nothing writes into them.
            fs::hard_link(&from, &to)
                .or_else(|_| fs::copy(&from, &to).map(|_| ()))
                .map_err(BundleError::io("copy", &from))?;
            draft.known.insert(file.clone(), digest.clone());
        }
        Ok(draft)
    }

    /// Where the file `name` is to be written. A file that was hashed under that name is dropped
    /// first, so that writing never reaches into another bundle.
    pub fn path(&mut self, name: &str) -> Result<PathBuf, BundleError> {
        check_file_name(name)?;
        let path = self.staging.path().join(name);
        if self.known.remove(name).is_some() {
            fs::remove_file(&path).map_err(BundleError::io("replace", &path))?;
        }
        Ok(path)
    }

    /// Writes a file, in place of one of that name, and returns where it lies for now.
    pub fn add(&mut self, name: &str, bytes: &[u8]) -> Result<PathBuf, BundleError> {
        let path = self.path(name)?;
        fs::write(&path, bytes).map_err(BundleError::io("write", &path))?;
        Ok(path)
    }

    /// Removes a file.
    pub fn remove(&mut self, name: &str) -> Result<(), BundleError> {
        check_file_name(name)?;
        self.known.remove(name);
        let path = self.staging.path().join(name);
        fs::remove_file(&path).map_err(BundleError::io("remove", &path))
    }

    /// Returns the style bank: that of the bundle which is changed, or the last that was set.
    pub fn styles(&self) -> &StyleBank {
        &self.styles
    }

    /// Writes the style bank.
    pub fn set_styles(&mut self, styles: StyleBank) -> Result<(), BundleError> {
        let bytes = styles
            .to_bytes(self.manifest.geometry.style_len())
            .map_err(|source| BundleError::Styles { file: STYLES_FILE.to_owned(), source })?;
        self.add(STYLES_FILE, &bytes)?;
        self.styles = styles;
        Ok(())
    }

    /// Writes the manifest and returns the bundle as it is so far, in its temporary directory: for
    /// steps that run its encoder. It can be used until the draft is published or dropped.
    pub fn so_far(&mut self) -> Result<Bundle, BundleError> {
        self.manifest.files = self.digests()?;
        self.known.clone_from(&self.manifest.files);
        self.manifest.check()?;
        let path = self.staging.path().join(MANIFEST_FILE);
        let json = serde_json::to_vec_pretty(&self.manifest)
            .map_err(|source| BundleError::Manifest { path: path.clone(), source })?;
        fs::write(&path, &json).map_err(BundleError::io("write", &path))?;
        Ok(Bundle {
            dir: self.staging.path().to_owned(),
            manifest: self.manifest.clone(),
            digest: super::digest(&json),
            styles: self.styles.clone(),
        })
    }

    /// Verifies the bundle, flushes it to the disk and puts it in its place in one step.
    ///
    /// # Errors
    /// When it would not open, or cannot be written; what was in its place stays.
    pub fn publish(mut self) -> Result<Bundle, BundleError> {
        self.so_far()?;
        // What does not open is never put in place.
        let bundle = Bundle::open(self.staging.path())?;
        let Self { staging, place, replace, .. } = self;
        staging.put(&place, replace).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => BundleError::Exists { path: place.clone() },
            _ => BundleError::io("put the bundle at", &place)(error),
        })?;
        Ok(Bundle { dir: place, ..bundle })
    }

    /// Returns the digest of every file but the manifest.
    fn digests(&self) -> Result<BTreeMap<String, String>, BundleError> {
        let dir = self.staging.path();
        let mut digests = BTreeMap::new();
        for entry in fs::read_dir(dir).map_err(BundleError::io("list", dir))? {
            let entry = entry.map_err(BundleError::io("list", dir))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == MANIFEST_FILE {
                continue;
            }
            check_file_name(&name)?;
            let digest = match self.known.get(&name) {
                Some(digest) => digest.clone(),
                None => file_digest(&entry.path())?,
            };
            digests.insert(name, digest);
        }
        Ok(digests)
    }
}

/// Creates the temporary directory of a bundle, and returns it with the bundle's absolute place.
pub(super) fn stage(place: &Path, replace: bool) -> Result<(StagedDir, PathBuf), BundleError> {
    let place = std::path::absolute(place).map_err(BundleError::io("resolve", place))?;
    if !replace && place.exists() {
        return Err(BundleError::Exists { path: place });
    }
    let parent = place.parent().unwrap_or(Path::new("/"));
    let staging = StagedDir::new(parent)
        .map_err(BundleError::io("create a temporary directory in", parent))?;
    Ok((staging, place))
}
