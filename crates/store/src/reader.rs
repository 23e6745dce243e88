//! An object, read from its beginning to its end.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, Result};
use tokio::task::JoinHandle;

use crate::runtime::{begin, wait};
use crate::{Location, StoreError};

/// Bytes of one request: so few that each ends within its time, and that little is read again after
/// a connection that broke.
const PIECE: u64 = 8 << 20;

/// Reads one version of an object, a piece ahead of its caller.
#[derive(Debug)]
pub struct Reader {
    store: Arc<dyn ObjectStore>,
    path: Path,
    location: Location,
    size: u64,
    e_tag: Option<String>,
    /// What was asked for so far.
    asked: u64,
    piece: Bytes,
    next: Option<JoinHandle<Result<Bytes>>>,
}

impl Reader {
    pub(crate) fn new(
        store: Arc<dyn ObjectStore>,
        path: Path,
        location: Location,
        size: u64,
        e_tag: Option<String>,
    ) -> Self {
        let (asked, piece, next) = (0, Bytes::new(), None);
        Self { store, path, location, size, e_tag, asked, piece, next }
    }

    /// Asks for the next piece; nothing at the end.
    fn ask(&mut self) -> Option<JoinHandle<Result<Bytes>>> {
        let range = self.asked..self.size.min(self.asked + PIECE);
        if range.is_empty() {
            return None;
        }
        self.asked = range.end;
        // Servers that give no ranges can give the whole.
        let whole = range == (0..self.size);
        let options = GetOptions {
            range: (!whole).then_some(GetRange::Bounded(range.clone())),
            if_match: self.e_tag.clone(),
            ..GetOptions::default()
        };
        Some(begin(get(Arc::clone(&self.store), self.path.clone(), options, range)))
    }
}

async fn get(
    store: Arc<dyn ObjectStore>,
    path: Path,
    options: GetOptions,
    range: Range<u64>,
) -> Result<Bytes> {
    let bytes = store.get_opts(&path, options).await?.bytes().await?;
    if bytes.len() as u64 == range.end - range.start {
        return Ok(bytes);
    }
    let cut = io::Error::new(io::ErrorKind::UnexpectedEof, "the answer is shorter than the object");
    Err(object_store::Error::Generic { store: "answer", source: cut.into() })
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() && !buffer.is_empty() {
            let Some(next) = self.next.take().or_else(|| self.ask()) else { return Ok(0) };
            self.next = self.ask();
            let got = wait(next).map_err(io::Error::other)?;
            self.piece = got.map_err(|error| StoreError::new(&self.location, error))?;
        }
        let taken = self.piece.len().min(buffer.len());
        self.piece.copy_to_slice(&mut buffer[..taken]);
        Ok(taken)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(next) = &self.next {
            next.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Remote;

    fn reader(remote: &Remote, name: &str) -> Reader {
        remote.read(&remote.find(name).unwrap().unwrap())
    }

    #[test]
    fn an_object_is_read_as_it_was_written() {
        let remote = Remote::in_memory();
        for size in [0, 1, PIECE as usize, 2 * PIECE as usize + 3] {
            let bytes: Vec<u8> = (0..size).map(|place| (place / 5) as u8).collect();
            remote.put("file", bytes.clone());
            let mut read = Vec::new();
            reader(&remote, "file").read_to_end(&mut read).unwrap();
            assert!(read == bytes, "{size}");
        }
    }

    #[test]
    fn two_versions_are_never_mixed() {
        let remote = Remote::in_memory();
        let size = 3 * PIECE as usize;
        remote.put("file", vec![1; size]);
        let mut old = reader(&remote, "file");
        let mut first = [0];
        old.read_exact(&mut first).unwrap();
        remote.put("file", vec![2; size]);
        let error = old.read_to_end(&mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains("replaced by someone else"), "{error}");
    }
}
