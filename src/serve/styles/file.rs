//! The file of what was added to one bundle: a style bank in the format of `styles.safetensors`.
//!
//! [`atomic`] writes it: after a crash there is the old file or the new one, and what was
//! acknowledged is the new one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use restain_bundle::{StyleBank, atomic};

/// Creates the directory, and removes what a crash left unfinished in it.
pub(super) fn prepare(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == atomic::UNFINISHED) {
            fs::remove_file(path)?;
        }
    }
    dir.parent().map_or(Ok(()), atomic::sync_dir)
}

/// What the file holds; nothing when there is none. A file that cannot be read is set aside, so
/// that neither is the server stopped by it nor is it written over.
pub(super) fn read(path: &Path, half: usize) -> StyleBank {
    let damaged: Box<dyn std::error::Error> = match fs::read(path) {
        Ok(bytes) => match StyleBank::from_bytes(&bytes, half) {
            Ok(bank) => return bank,
            Err(error) => error.into(),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => return StyleBank::default(),
        Err(error) => error.into(),
    };
    let aside = unused(path);
    let moved = fs::rename(path, &aside);
    tracing::warn!(
        path = %path.display(), error = %damaged, aside = %aside.display(), moved = moved.is_ok(),
        "a damaged file of added styles is set aside, and its domains are not there"
    );
    StyleBank::default()
}

/// Replaces the file; when this returns, it is on the disk.
pub(super) fn write(path: &Path, bank: &StyleBank, half: usize) -> io::Result<()> {
    atomic::write_file(path, &bank.to_bytes(half).map_err(io::Error::other)?)
}

/// A name beside `path` that is free.
fn unused(path: &Path) -> PathBuf {
    let numbered = |n: u32| path.with_extension(format!("safetensors.damaged-{n}"));
    (1..).map(numbered).find(|aside| !aside.exists()).expect("not every number is taken")
}

#[cfg(test)]
mod tests {
    use super::*;
    use restain_method::Style;
    use restain_method::color::ChannelStats;

    #[test]
    fn what_is_written_is_read_and_what_is_damaged_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d.safetensors");
        fs::write(dir.path().join("x.safetensors.part"), "half").unwrap();
        prepare(dir.path()).unwrap();
        assert_eq!(read(&path, 2), StyleBank::default());
        let mut bank = StyleBank::default();
        write(&path, &bank, 2).unwrap();
        assert_eq!(read(&path, 2), bank);
        bank.push("a", Style(vec![1.0, 2.0]), ChannelStats { mean: [0.5; 3], std: [0.1; 3] });
        write(&path, &bank, 2).unwrap();
        assert_eq!(read(&path, 2), bank);
        for n in 1..3 {
            fs::write(&path, "rubbish").unwrap();
            assert_eq!(read(&path, 2), StyleBank::default());
            assert_eq!(
                fs::read(dir.path().join(format!("d.safetensors.damaged-{n}"))).unwrap(),
                b"rubbish"
            );
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
