//! Writing a bundle so that its directory is either complete or not there.
//!
//! Everything goes into a temporary directory beside the final one, the manifest last, and one rename puts it in place.
//! Replacing takes two renames: a reader between them finds no bundle, never half of one, and when the second fails the
//! old one is put back.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::manifest::check_file_name;
use super::{Bundle, BundleError, MANIFEST_FILE, Manifest, STYLES_FILE, StyleBank, file_digest};

/// A bundle being written. Dropped before [`finish`](Self::finish), it leaves nothing.
#[derive(Debug)]
pub struct BundleWriter {
    staging: TempDir,
    final_dir: PathBuf,
    overwrite: bool,
    /// Digests of files taken over unchanged, so that they are not read again.
    known: BTreeMap<String, String>,
}

impl BundleWriter {
    /// Starts a bundle that will stand in `final_dir`, whose parents are made. A directory that is already there is
    /// refused unless `overwrite`.
    pub fn new(final_dir: &Path, overwrite: bool) -> Result<Self, BundleError> {
        let final_dir =
            std::path::absolute(final_dir).map_err(BundleError::io("resolve", final_dir))?;
        if !overwrite && final_dir.exists() {
            return Err(BundleError::Exists { path: final_dir });
        }
        let parent = final_dir.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(parent).map_err(BundleError::io("create", parent))?;
        let mut builder = tempfile::Builder::new();
        builder.prefix(".restain-");
        // A temporary directory is private to its owner; a bundle is as readable as the umask allows.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
        let staging = builder
            .tempdir_in(parent)
            .map_err(BundleError::io("create a temporary directory in", parent))?;
        Ok(Self { staging, final_dir, overwrite, known: BTreeMap::new() })
    }

    /// Where the file `name` of the new bundle is to be written. A file taken over under that name is dropped first, so
    /// that writing never reaches into another bundle.
    pub fn path(&mut self, name: &str) -> Result<PathBuf, BundleError> {
        check_file_name(name)?;
        let path = self.staging.path().join(name);
        if self.known.remove(name).is_some() {
            fs::remove_file(&path).map_err(BundleError::io("replace", &path))?;
        }
        Ok(path)
    }

    /// Writes a whole file.
    pub fn add(&mut self, name: &str, bytes: &[u8]) -> Result<(), BundleError> {
        let path = self.path(name)?;
        fs::write(&path, bytes).map_err(BundleError::io("write", &path))
    }

    /// Drops a file that was written or taken over.
    pub fn remove(&mut self, name: &str) -> Result<(), BundleError> {
        check_file_name(name)?;
        self.known.remove(name);
        let path = self.staging.path().join(name);
        fs::remove_file(&path).map_err(BundleError::io("remove", &path))
    }

    /// Writes the style bank.
    pub fn add_styles(&mut self, styles: &StyleBank, half: usize) -> Result<(), BundleError> {
        let bytes = styles
            .to_bytes(half)
            .map_err(|source| BundleError::Styles { file: STYLES_FILE.to_owned(), source })?;
        self.add(STYLES_FILE, &bytes)
    }

    /// Hashes every file, writes the manifest, puts the directory in place and reads it back verified.
    /// `manifest.files` is replaced by what was written.
    pub fn finish(self, mut manifest: Manifest) -> Result<Bundle, BundleError> {
        manifest.files = self.digests()?;
        manifest.check()?;
        let path = self.staging.path().join(MANIFEST_FILE);
        let json = serde_json::to_vec_pretty(&manifest)
            .map_err(|source| BundleError::Manifest { path: path.clone(), source })?;
        fs::write(&path, json).map_err(BundleError::io("write", &path))?;
        // What does not open is never put in place.
        let bundle = Bundle::open(self.staging.path())?;
        sync(self.staging.path())?;
        let dir = self.final_dir.clone();
        self.put_in_place()?;
        Ok(Bundle { dir, ..bundle })
    }

    fn digests(&self) -> Result<BTreeMap<String, String>, BundleError> {
        let dir = self.staging.path();
        let mut digests = BTreeMap::new();
        for entry in fs::read_dir(dir).map_err(BundleError::io("list", dir))? {
            let entry = entry.map_err(BundleError::io("list", dir))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            check_file_name(&name)?;
            let digest = match self.known.get(&name) {
                Some(digest) => digest.clone(),
                None => file_digest(&entry.path())?,
            };
            digests.insert(name, digest);
        }
        Ok(digests)
    }

    fn put_in_place(self) -> Result<(), BundleError> {
        let Self { staging, final_dir, overwrite, .. } = self;
        let rename =
            |from: &Path, to: &Path| fs::rename(from, to).map_err(BundleError::io("rename to", to));
        if !final_dir.exists() {
            rename(staging.path(), &final_dir)?;
        } else if !overwrite {
            return Err(BundleError::Exists { path: final_dir });
        } else {
            // The old bundle moves into a second temporary directory, which is removed with it.
            let parent = final_dir.parent().unwrap_or(Path::new("/"));
            let retired = tempfile::Builder::new()
                .prefix(".restain-")
                .tempdir_in(parent)
                .map_err(BundleError::io("create a temporary directory in", parent))?;
            let old = retired.path().join("old");
            rename(&final_dir, &old)?;
            if let Err(error) = rename(staging.path(), &final_dir) {
                rename(&old, &final_dir)?;
                return Err(error);
            }
        }
        // The staging directory is the bundle now: there is nothing left to remove.
        let _ = staging.keep();
        sync_dir(final_dir.parent().unwrap_or(Path::new("/")))
    }
}

/// A copy of an existing bundle, to be changed: what [`rewrite`] hands out.
#[derive(Debug)]
pub struct BundleEditor {
    writer: BundleWriter,
    /// Change `quality` and `provenance` at will; `files` is filled in at the end.
    pub manifest: Manifest,
    /// The styles as they were. [`set_styles`](Self::set_styles) changes them.
    pub styles: StyleBank,
}

impl BundleEditor {
    /// As [`BundleWriter::path`].
    pub fn path(&mut self, name: &str) -> Result<PathBuf, BundleError> {
        self.writer.path(name)
    }

    /// Adds or replaces a file.
    pub fn add(&mut self, name: &str, bytes: &[u8]) -> Result<(), BundleError> {
        self.writer.add(name, bytes)
    }

    /// As [`BundleWriter::remove`].
    pub fn remove(&mut self, name: &str) -> Result<(), BundleError> {
        self.writer.remove(name)
    }

    /// Replaces the style bank.
    ///
    /// # Errors
    /// When a style does not have the length of the model, or the file cannot be written.
    pub fn set_styles(&mut self, styles: &StyleBank) -> Result<(), BundleError> {
        self.writer.add_styles(styles, self.manifest.geometry.half())
    }
}

/// Changes the bundle in `dir`: opens it verified, lets `edit` change a copy, and puts that in place. When `edit` or
/// anything after it fails, the bundle stays as it was.
pub fn rewrite<E: From<BundleError>>(
    dir: &Path,
    edit: impl FnOnce(&mut BundleEditor) -> Result<(), E>,
) -> Result<Bundle, E> {
    let bundle = Bundle::open(dir)?;
    let mut writer = BundleWriter::new(dir, true)?;
    for (file, digest) in &bundle.manifest.files {
        let (from, to) = (bundle.dir.join(file), writer.staging.path().join(file));
        // Weights are hundreds of megabytes: share them where the file system can. Nothing writes into them.
        fs::hard_link(&from, &to)
            .or_else(|_| fs::copy(&from, &to).map(|_| ()))
            .map_err(BundleError::io("copy", &from))?;
        writer.known.insert(file.clone(), digest.clone());
    }
    let mut editor = BundleEditor { writer, manifest: bundle.manifest, styles: bundle.styles };
    edit(&mut editor)?;
    Ok(editor.writer.finish(editor.manifest)?)
}

fn sync(dir: &Path) -> Result<(), BundleError> {
    for entry in fs::read_dir(dir).map_err(BundleError::io("list", dir))? {
        let path = entry.map_err(BundleError::io("list", dir))?.path();
        File::open(&path)
            .and_then(|file| file.sync_all())
            .map_err(BundleError::io("flush", &path))?;
    }
    sync_dir(dir)
}

fn sync_dir(dir: &Path) -> Result<(), BundleError> {
    // Only Unix lets a directory be opened and flushed.
    if cfg!(unix) {
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(BundleError::io("flush", dir))
    } else {
        Ok(())
    }
}
