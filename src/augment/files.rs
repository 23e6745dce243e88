//! Tiles that are files: a folder, or a WILDS root. Each is read, made and written by itself; what
//! is there already, whole, is not made again, so that a job goes on wherever it was stopped.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use rayon::prelude::*;

use super::Stop;
use super::error::{AugmentError, Bad};
use super::home::{Done, Home};
use super::maker::{Made, Maker, Unmade};
use super::progress::Progress;
use super::tile::{Tile, suffixed};

/// Files that are read ahead.
const READ_AHEAD: usize = 32;

/// What is written for a tile, and where.
#[derive(Clone)]
pub(super) struct Writing {
    pub home: Arc<Home>,
    /// Of the data set.
    pub root: PathBuf,
    pub variants: usize,
    /// Of pictures, without the dot.
    pub ending: &'static str,
    pub originals: bool,
}

/// Which tiles of a part are left.
pub(super) struct Left {
    pub tiles: Vec<Tile>,
    pub done: Done,
}

impl Writing {
    /// Sorts out what is done already. Reads nothing but the sizes of files.
    pub(super) fn left(&self, tiles: Vec<Tile>) -> Left {
        let all = tiles.len() as u64;
        let tiles: Vec<Tile> = tiles.into_par_iter().filter(|tile| !self.is_done(tile)).collect();
        let done = all - tiles.len() as u64;
        Left {
            tiles,
            done: Done { tiles: done, variants: done * self.variants as u64, bad: Vec::new() },
        }
    }

    fn is_done(&self, tile: &Tile) -> bool {
        // An empty file is what a loss of power leaves of one that was not on the disk yet.
        let is_whole =
            |path: &Path| self.home.out.join(path).metadata().is_ok_and(|file| file.len() > 0);
        let variant_is_whole = |variant| {
            let stem = tile.variant(variant);
            is_whole(&suffixed(&stem, ".json"))
                && is_whole(&suffixed(&stem, &format!(".{}", self.ending)))
        };
        (0..self.variants).all(variant_is_whole)
            && (!self.originals || tile.find(&self.home.out).is_ok_and(|path| is_whole(&path)))
    }

    /// Writes the files of one tile.
    fn write(
        &self,
        tile: &Tile,
        original: Option<(&Path, &[u8])>,
        made: &Made,
    ) -> Result<(), AugmentError> {
        for (number, variant) in made.variants.iter().enumerate() {
            let stem = tile.variant(number);
            self.home.put(&suffixed(&stem, &format!(".{}", self.ending)), &variant.picture)?;
            self.home.put(&suffixed(&stem, ".json"), &variant.provenance)?;
        }
        original.map_or(Ok(()), |(path, bytes)| self.home.put(path, bytes))
    }
}

/// A tile's file, read.
struct Loaded {
    tile: Tile,
    path: PathBuf,
    file: Bytes,
}

/// Makes what is left, until it is done or `stop` says so. Says whether it is done.
///
/// # Errors
/// The first thing that ends the job.
pub(super) async fn run(
    writing: &Writing,
    maker: &Arc<Maker>,
    tiles: Vec<Tile>,
    progress: &mut Progress,
    stop: Stop,
) -> Result<bool, AugmentError> {
    let mut left = tiles.len();
    let read = |tile: Tile| {
        let root = writing.root.clone();
        async move {
            tokio::task::spawn_blocking(move || read(&root, tile))
                .await
                .map_err(AugmentError::from)?
        }
    };
    let lend = |loaded: Result<Loaded, Unmade>| async {
        let loaded = loaded?;
        let room = maker.room(&loaded.file, 0).await;
        Ok((loaded, room))
    };
    let make = |lent: Result<(Loaded, _), Unmade>| async {
        let (Loaded { tile, path, file }, room) = lent?;
        let made = maker.make(&path.display().to_string(), file.clone()).await?;
        let writing = writing.clone();
        let write = move || {
            let _room = room;
            writing.write(&tile, writing.originals.then_some((&path, &file)), &made)
        };
        tokio::task::spawn_blocking(write).await.map_err(AugmentError::from)??;
        Ok(())
    };
    let begun = stream::iter(tiles).map(read).buffered(READ_AHEAD).take_until(stop).then(lend);
    let mut ended = pin!(begun.map(make).buffer_unordered(maker.in_flight));
    while let Some(tile) = ended.next().await {
        left -= 1;
        match tile {
            Ok(()) => progress.tile(writing.variants as u64),
            Err(Unmade::Bad(bad)) => progress.bad(bad)?,
            Err(Unmade::Failed(error)) => return Err(*error),
        }
    }
    Ok(left == 0)
}

fn read(root: &Path, tile: Tile) -> Result<Loaded, Unmade> {
    let bad =
        |name: &Path, reason: String| Unmade::Bad(Bad { name: name.display().to_string(), reason });
    let path = tile.find(root).map_err(|path| bad(&path, "is not there".to_owned()))?;
    match std::fs::read(root.join(&path)) {
        Ok(file) => Ok(Loaded { file: file.into(), path, tile }),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(bad(&path, "is not there".to_owned()))
        }
        Err(error) => Err(bad(&path, format!("cannot be read: {error}"))),
    }
}
