//! A bundle that comes from elsewhere, file by file.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::draft::stage;
use super::{Bundle, BundleError, MANIFEST_FILE, Manifest};

/// Puts the bundle whose `bundle.json` has the bytes `manifest` at `place`, in one step and in the
/// place of what is there: it keeps its digest, which a [`BundleDraft`](super::BundleDraft), which
/// writes a manifest of its own, would not. `fetch` is asked to write each file, by its name, to a
/// path; files that the bundle at `place` has already are taken from there.
///
/// # Errors
/// Those of `fetch`; when the manifest is none, or a file differs from its digest. What was there
/// stays.
pub fn receive<E: From<BundleError>>(
    place: &Path,
    manifest: &[u8],
    mut fetch: impl FnMut(&str, &Path) -> Result<(), E>,
) -> Result<(), E> {
    let parsed = Manifest::parse(manifest, &place.join(MANIFEST_FILE))?;
    let (staging, place) = stage(place, true)?;
    let held = fs::read(place.join(MANIFEST_FILE))
        .ok()
        .and_then(|bytes| Manifest::parse(&bytes, &place).ok())
        .map(|manifest| manifest.files)
        .unwrap_or_default();
    for (file, digest) in &parsed.files {
        let path = staging.path().join(file);
        let is_held = held.get(file) == Some(digest);
        if !is_held || fs::hard_link(place.join(file), &path).is_err() {
            fetch(file, &path)?;
        }
    }
    let path = staging.path().join(MANIFEST_FILE);
    fs::write(&path, manifest).map_err(BundleError::io("write", &path))?;
    // What does not open is never put in place.
    Bundle::open(staging.path())?;
    staging.put(&place, true).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => BundleError::Exists { path: place.clone() },
        _ => BundleError::io("put the bundle at", &place)(error),
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::tests::written;
    use super::*;

    /// Receives the bundle of `from` at `place`, and says which files were asked for.
    fn received(from: &Path, place: &Path) -> Result<Vec<String>, BundleError> {
        let manifest = fs::read(from.join(MANIFEST_FILE)).unwrap();
        let mut asked = Vec::new();
        receive(place, &manifest, |file, path| {
            asked.push(file.to_owned());
            fs::copy(from.join(file), path).map(drop).map_err(BundleError::io("copy", path))
        })?;
        Ok(asked)
    }

    fn place() -> (tempfile::TempDir, PathBuf) {
        let home = tempfile::tempdir().unwrap();
        let place = home.path().join("tiny/1");
        (home, place)
    }

    #[test]
    fn a_bundle_keeps_its_digest_and_what_is_there_is_not_asked_for() {
        let ((_home, from), (_other, place)) = (written(), place());
        assert_eq!(received(&from, &place).unwrap(), ["encoder.onnx", "styles.safetensors"]);
        assert_eq!(Bundle::open(&place).unwrap().digest, Bundle::open(&from).unwrap().digest);
        assert!(received(&from, &place).unwrap().is_empty());
    }

    #[test]
    fn what_does_not_open_takes_no_place() {
        let ((_home, from), (_other, place)) = (written(), place());
        received(&from, &place).unwrap();
        let before = Bundle::open(&place).unwrap().digest;
        let manifest = fs::read_to_string(from.join(MANIFEST_FILE)).unwrap();
        let another = manifest.replace("\"provenance\": {", "\"provenance\": {\"of\": 1,");
        assert_ne!(another, manifest);
        fs::write(from.join(MANIFEST_FILE), another).unwrap();
        fs::remove_file(place.join("encoder.onnx")).unwrap();
        fs::write(from.join("encoder.onnx"), "another graph").unwrap();
        let refused = received(&from, &place).unwrap_err();
        assert!(refused.to_string().contains("sha256"), "{refused}");
        assert_eq!(Bundle::digest_in(&place).unwrap(), before);
    }
}
