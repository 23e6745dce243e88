//! Tiles that are files: of folders, or a WILDS root; or rows of PatchCamelyon. Each is read, made
//! and written by itself; what is there already, whole, is not made again, so that a job goes on
//! wherever it was stopped.

use std::io::ErrorKind;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use rayon::prelude::*;

use super::Stop;
use super::error::{AugmentError, Bad, BadKind};
use super::home::{Done, Home};
use super::maker::{Made, Maker, Unmade};
use super::progress::Progress;
use super::slides::Slides;
use super::tile::{Tile, suffixed};
use restain_bundle::codec::ImageFormat;
use restain_data::Catalogue;

/// Files that are read ahead.
const READ_AHEAD: usize = 32;

/// What is written for a tile, and where.
#[derive(Clone)]
pub(super) struct Writing {
    pub home: Arc<Home>,
    pub catalogue: Arc<Catalogue>,
    pub variants: usize,
    pub format: ImageFormat,
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

    /// Of pictures.
    fn ending(&self) -> String {
        format!(".{}", self.format.extension())
    }

    fn is_done(&self, tile: &Tile) -> bool {
        // An empty file is what a loss of power leaves of one that was not on the disk yet.
        let is_whole =
            |path: &Path| self.home.folder().join(path).metadata().is_ok_and(|file| file.len() > 0);
        let variant_is_whole = |variant| {
            let stem = tile.variant(variant);
            is_whole(&suffixed(&stem, ".json")) && is_whole(&suffixed(&stem, &self.ending()))
        };
        (0..self.variants).all(variant_is_whole) && (!self.originals || is_whole(&tile.original))
    }

    /// Writes the files of one tile.
    fn write(&self, tile: &Tile, original: Option<&[u8]>, made: &Made) -> Result<(), AugmentError> {
        for (number, variant) in made.variants.iter().enumerate() {
            let stem = tile.variant(number);
            self.home.put(&suffixed(&stem, &self.ending()), &variant.picture)?;
            self.home.put(&suffixed(&stem, ".json"), &variant.provenance)?;
        }
        original.map_or(Ok(()), |bytes| self.home.put(&tile.original, bytes))
    }
}

/// A tile's file, read.
struct Loaded {
    tile: Tile,
    file: Bytes,
}

/// Makes what is left, until it is done or `stop` says so, of `slides` where they are known. Says
/// whether it is done.
///
/// # Errors
/// The first thing that ends the job.
pub(super) async fn run(
    writing: &Writing,
    (maker, slides): (&Arc<Maker>, Option<&Slides>),
    tiles: Vec<Tile>,
    progress: &mut Progress,
    stop: Stop,
) -> Result<bool, AugmentError> {
    let mut left = tiles.len();
    let read = |tile: Tile| {
        let catalogue = Arc::clone(&writing.catalogue);
        async move {
            tokio::task::spawn_blocking(move || read(&catalogue, tile))
                .await
                .map_err(AugmentError::from)?
        }
    };
    let lend = |loaded: Result<Loaded, Unmade>| async {
        let loaded = loaded?;
        // Before the tile's own room, so that what waits for a slide holds none.
        let slide = match slides {
            Some(slides) => slides.context(maker, &loaded.tile.source).await?,
            None => None,
        };
        let room = maker.room(&loaded.file, 0).await;
        Ok((loaded, slide, room))
    };
    let make = |lent: Result<(Loaded, _, _), Unmade>| async {
        let (Loaded { tile, file }, slide, room) = lent?;
        let name = tile.source.display().to_string();
        let made = maker.make(&name, file.clone(), slide, writing.format).await?;
        let writing = writing.clone();
        let write = move || {
            let _room = room;
            writing.write(&tile, writing.originals.then_some(&file), &made)
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

fn read(catalogue: &Catalogue, tile: Tile) -> Result<Loaded, Unmade> {
    let bad = |kind, reason: String| {
        Unmade::Bad(Bad { kind, name: tile.source.display().to_string(), reason })
    };
    match catalogue.read(&tile.source, tile.place) {
        Ok(file) => Ok(Loaded { file: file.into(), tile }),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(bad(BadKind::NotThere, "is not there".to_owned()))
        }
        Err(error) => Err(bad(BadKind::Unreadable, format!("cannot be read: {error}"))),
    }
}
