//! Files that are read again when they change: keys and certificates are replaced under a running
//! server, by an editor, a rename, or the symbolic link that Kubernetes turns.
//!
//! It compares bytes and not times: each check reads the files, which are small. A file that cannot
//! be read or parsed gives one warning and changes nothing; the last good contents stay in use.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::serve::metrics::Rereading;

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(2);
/// Longer is no file of keys or certificates.
const MAX_BYTES: u64 = 16 << 20;

/// Parses the files' bytes, or returns what is wrong with them.
type Parse<T> = Box<dyn Fn(&[Vec<u8>]) -> Result<T, String> + Send + Sync>;

pub(crate) struct Reread<T> {
    files: Vec<PathBuf>,
    parse: Parse<T>,
    current: ArcSwap<T>,
    metrics: Rereading,
    /// What the last look found, whether or not it was good.
    seen: Mutex<Result<Vec<Vec<u8>>, String>>,
}

/// Files that a server cannot start with.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct RereadError {
    what: String,
}

impl<T: Send + Sync + 'static> Reread<T> {
    /// `metrics` counts the failures.
    ///
    /// # Errors
    /// When a file cannot be read, or `parse` refuses what they hold.
    pub(crate) fn open(
        files: Vec<PathBuf>,
        metrics: Rereading,
        parse: impl Fn(&[Vec<u8>]) -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Arc<Self>, RereadError> {
        let found = read(&files).map_err(|what| RereadError { what })?;
        let current = parse(&found)
            .map_err(|what| RereadError { what: format!("{}: {what}", named(&files)) })?;
        Ok(Arc::new(Self {
            files,
            parse: Box::new(parse),
            metrics,
            current: ArcSwap::from_pointee(current),
            seen: Mutex::new(Ok(found)),
        }))
    }

    /// What is good now.
    pub(crate) fn current(&self) -> Arc<T> {
        self.current.load_full()
    }

    /// Looks again and again, until dropped.
    pub(crate) async fn watch(self: Arc<Self>) {
        loop {
            tokio::time::sleep(EVERY).await;
            let this = Arc::clone(&self);
            if tokio::task::spawn_blocking(move || this.look()).await.is_err() {
                return;
            }
        }
    }

    fn look(&self) {
        let found = read(&self.files);
        let mut seen = self.seen.lock().expect("no code panics while it holds this lock");
        if *seen == found {
            return;
        }
        let files = named(&self.files);
        match found.as_ref().map_err(String::clone).and_then(|found| (self.parse)(found)) {
            Ok(current) => {
                self.current.store(Arc::new(current));
                self.metrics.went_well(true);
                tracing::info!(files, "reloaded after a change");
            }
            Err(what) => {
                self.metrics.went_well(false);
                tracing::warn!(
                    files,
                    what,
                    "the changed file cannot be used: its last good contents stay in use"
                );
            }
        }
        *seen = found;
    }
}

fn read(files: &[PathBuf]) -> Result<Vec<Vec<u8>>, String> {
    files
        .iter()
        .map(|path| {
            bytes(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))
        })
        .collect()
}

/// Reads a file, and nothing else: a pipe in its place would be waited for without end, and what
/// was removed from the file would hold on.
fn bytes(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    let file = options.read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("it is no file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn named(files: &[PathBuf]) -> String {
    files.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::metrics::Metrics;

    fn number(files: &[Vec<u8>]) -> Result<u32, String> {
        std::str::from_utf8(&files[0])
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .ok_or_else(|| "no number".to_owned())
    }

    fn metrics() -> Metrics {
        Metrics::new().unwrap()
    }

    #[test]
    fn a_good_change_is_taken_and_a_bad_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("number");
        std::fs::write(&path, "1").unwrap();
        let metrics = metrics();
        let file = Reread::open(vec![path.clone()], metrics.rereading("keys"), number).unwrap();
        let then = |text: Option<&str>| {
            match text {
                Some(text) => std::fs::write(&path, text).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            }
            file.look();
            *file.current()
        };
        let told = |value: u32| {
            metrics
                .text()
                .unwrap()
                .contains(&format!("restain_reload_refused{{file=\"keys\"}} {value}\n"))
        };
        assert!(then(Some("2")) == 2 && told(0));
        assert!(then(Some("two")) == 2 && told(1));
        assert!(then(None) == 2 && told(1));
        assert!(then(Some("3")) == 3 && told(0));
        assert!(
            metrics.text().unwrap().contains("restain_reload_failures_total{file=\"keys\"} 2\n")
        );
    }

    #[test]
    fn a_pipe_in_the_place_of_a_file_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("number");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        if !made.is_ok_and(|made| made.success()) {
            return;
        }
        let refused = Reread::open(vec![path], metrics().rereading("keys"), number).err().unwrap();
        assert!(refused.to_string().ends_with("it is no file"), "{refused}");
    }

    #[test]
    fn what_is_wrong_at_the_start_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("number");
        let said = |path: &Path| {
            Reread::open(vec![path.to_owned()], metrics().rereading("keys"), number)
                .err()
                .unwrap()
                .to_string()
        };
        assert!(said(&path).contains("number cannot be read"), "{}", said(&path));
        std::fs::write(&path, "x").unwrap();
        assert!(said(&path).ends_with("number: no number"), "{}", said(&path));
    }
}
