//! The slides that tiles are from: with `--slides`, the folder that a tile lies in is its slide, as
//! in the root of a WILDS data set. Some tiles of a folder make its context, the same ones whatever
//! part of the job asks, and the change of stain of all of its tiles starts from it.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use restain_data::Catalogue;
use tokio::sync::OnceCell;

use super::error::AugmentError;
use super::maker::{Maker, Unmade};
use super::tile::Tile;

/// Tiles that make a context: enough that one more changes it little.
const TILES: usize = 16;

pub(super) struct Slides {
    catalogue: Arc<Catalogue>,
    /// The tiles that stand for each folder.
    folders: HashMap<PathBuf, Vec<Tile>>,
    /// The ids of contexts, once they were asked for; nothing of a folder without tissue.
    contexts: Mutex<HashMap<PathBuf, Arc<OnceCell<Option<String>>>>>,
}

impl Slides {
    /// Groups tiles by their folders, and chooses those that stand for each, evenly in the order of
    /// their names.
    pub(super) fn of(catalogue: &Arc<Catalogue>, tiles: &[Tile]) -> Self {
        let mut folders: BTreeMap<&Path, Vec<&Tile>> = BTreeMap::new();
        for tile in tiles {
            folders.entry(folder(&tile.source)).or_default().push(tile);
        }
        let choose = |(folder, mut tiles): (&Path, Vec<&Tile>)| {
            tiles.sort_by(|one, other| one.source.cmp(&other.source));
            let step = tiles.len().div_ceil(TILES);
            let chosen = tiles.into_iter().step_by(step).cloned().collect();
            (folder.to_owned(), chosen)
        };
        let folders = folders.into_iter().map(choose).collect();
        Self { catalogue: Arc::clone(catalogue), folders, contexts: Mutex::default() }
    }

    /// The id of the context of a tile's slide, made when it is first asked for; nothing where the
    /// slide has no tissue.
    ///
    /// # Errors
    /// When the engine fails.
    pub(super) async fn context(
        &self,
        maker: &Maker,
        tile: &Path,
    ) -> Result<Option<String>, Unmade> {
        let folder = folder(tile);
        let cell = {
            let mut contexts = self.contexts.lock().expect("no code panics while it holds this");
            Arc::clone(contexts.entry(folder.to_owned()).or_default())
        };
        let make = || async {
            let chosen = self.folders.get(folder).cloned().unwrap_or_default();
            let catalogue = Arc::clone(&self.catalogue);
            let read = move || {
                // What cannot be read is reported when its own turn comes.
                let read = |tile: Tile| catalogue.read(&tile.source, tile.place).ok();
                chosen.into_iter().filter_map(read).map(Bytes::from).collect::<Vec<Bytes>>()
            };
            let files = tokio::task::spawn_blocking(read).await.map_err(AugmentError::from)?;
            maker.add_slide(&folder.display().to_string(), files).await
        };
        cell.get_or_try_init(make).await.cloned()
    }
}

fn folder(tile: &Path) -> &Path {
    tile.parent().unwrap_or(Path::new(""))
}
