//! The pool of tiles that requests draw from, each ready in the bytes that the form of the requests
//! wants, so that a request is a list of what is there already and copies no pixel.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;

use super::choices::BodyFormat;
use super::drawn;
use super::options::TilesArgs;
use restain_bundle::codec::{
    self, DecodeError, EncodeError, ImageFormat, Limits, RgbImage, TileKey,
};

/// Most tiles, and most bytes of pixels, of a pool whose size was not asked for.
const MOST: usize = 256;
const MOST_BYTES: usize = 256 << 20;
/// Files are the user's own: what a tile is at most still has an end.
const LIMITS: Limits = Limits::of_tile(1 << 26);
const ENDINGS: [&str; 6] = ["png", "jpg", "jpeg", "webp", "tif", "tiff"];

/// BLAKE3 of width u32 LE, height u32 LE and RGB pixels, as the server makes it.
pub(crate) type Key = [u8; 32];

/// The bytes that make a tile one that was never sent before.
pub(crate) type Stamp = [u8; 16];

#[derive(Debug, thiserror::Error)]
pub enum TilesError {
    #[error("{} cannot be read", .path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{} is no tile", .path.display())]
    Undecodable { path: PathBuf, source: DecodeError },
    #[error("{} holds no PNG, JPEG, WebP or TIFF", .0.display())]
    Empty(PathBuf),
    #[error(
        "the tiles of one tensor have one size, and these have several: take another --body-format"
    )]
    SeveralSizes,
    #[error("a tile of {0} bytes is too small to be made one of its own: leave out --unique")]
    TooSmall(usize),
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

pub(crate) struct Tile {
    pub width: usize,
    pub height: usize,
    /// `[height, width, 3] u8`.
    pixels: Bytes,
    /// What goes into a request for it.
    wire: Bytes,
}

pub(crate) struct Pool {
    pub tiles: Vec<Tile>,
    form: BodyFormat,
}

impl Pool {
    /// Tiles as large as the files are, or generated ones for a model of `side` pixels square.
    ///
    /// # Errors
    /// A file that is no picture, or tiles that do not fit the form.
    pub(crate) fn open(
        args: &TilesArgs,
        form: BodyFormat,
        side: usize,
        seed: u64,
    ) -> Result<Self, TilesError> {
        let side = args.tile_size.unwrap_or(side);
        let most = args.distinct.unwrap_or_else(|| (MOST_BYTES / (side * side * 3)).clamp(1, MOST));
        let tiles = if args.tiles.is_empty() {
            (0..most as u64)
                .map(|number| Tile::new(drawn::tile(seed, number, side), None, form))
                .collect::<Result<Vec<_>, _>>()?
        } else {
            let read = |path: &PathBuf| Tile::read(path, form);
            spread(files(&args.tiles)?, most).iter().map(read).collect::<Result<_, _>>()?
        };
        let size = |tile: &Tile| (tile.width, tile.height);
        if form == BodyFormat::Safetensors && tiles.iter().any(|tile| size(tile) != size(&tiles[0]))
        {
            return Err(TilesError::SeveralSizes);
        }
        let small = tiles
            .iter()
            .map(|tile| tile.pixels.len())
            .find(|&len| args.unique && len < size_of::<Stamp>());
        small.map_or(Ok(Self { tiles, form }), |len| Err(TilesError::TooSmall(len)))
    }

    /// Appends a tile as requests carry it; with a stamp, in place of its first pixels, it is one
    /// of its own.
    ///
    /// # Errors
    /// Never in practice: only when a stamped tile cannot be written as PNG again.
    pub(crate) fn put(
        &self,
        tile: usize,
        stamp: Option<Stamp>,
        frames: &mut Vec<Bytes>,
    ) -> Result<(), EncodeError> {
        let tile = &self.tiles[tile];
        let Some(stamp) = stamp else {
            frames.push(tile.wire.clone());
            return Ok(());
        };
        let rest = tile.pixels.slice(stamp.len()..);
        if self.form == BodyFormat::Safetensors {
            frames.extend([Bytes::copy_from_slice(&stamp), rest]);
        } else {
            let picture = RgbImage {
                width: tile.width,
                height: tile.height,
                pixels: [&stamp, rest.as_ref()].concat(),
            };
            frames.push(wire(self.form, &picture, None)?);
        }
        Ok(())
    }

    pub(crate) fn key(&self, tile: usize) -> Key {
        let tile = &self.tiles[tile];
        *TileKey::of_pixels(tile.width, tile.height, &tile.pixels).as_bytes()
    }
}

impl Tile {
    fn read(path: &PathBuf, form: BodyFormat) -> Result<Self, TilesError> {
        let file = std::fs::read(path)
            .map_err(|source| TilesError::Unreadable { path: path.clone(), source })?;
        let picture = codec::decode(&file, &LIMITS)
            .map_err(|source| TilesError::Undecodable { path: path.clone(), source })?;
        Ok(Self::new(picture, Some(file), form)?)
    }

    fn new(
        picture: RgbImage,
        file: Option<Vec<u8>>,
        form: BodyFormat,
    ) -> Result<Self, EncodeError> {
        let (width, height) = (picture.width, picture.height);
        let ready =
            if form == BodyFormat::Safetensors { None } else { Some(wire(form, &picture, file)?) };
        let pixels = Bytes::from(picture.pixels);
        Ok(Self { width, height, wire: ready.unwrap_or_else(|| pixels.clone()), pixels })
    }
}

/// A tile in the bytes of a form; `file` is what it came from, if it is still that.
fn wire(form: BodyFormat, picture: &RgbImage, file: Option<Vec<u8>>) -> Result<Bytes, EncodeError> {
    if form == BodyFormat::Safetensors {
        return Ok(Bytes::copy_from_slice(&picture.pixels));
    }
    let file = file.map_or_else(|| codec::encode(ImageFormat::Png, 90, picture), Ok)?;
    Ok(if form == BodyFormat::Json {
        format!("\"{}\"", BASE64_STANDARD.encode(file)).into()
    } else {
        file.into()
    })
}

/// The pictures named, and those inside the folders named, in the order of their names.
fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, TilesError> {
    let mut all = Vec::new();
    for path in paths {
        let before = all.len();
        if path.is_dir() {
            walk(path, &mut all)?
        } else {
            all.push(path.clone())
        }
        if all.len() == before {
            return Err(TilesError::Empty(path.clone()));
        }
    }
    Ok(all)
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), TilesError> {
    let unreadable = |source| TilesError::Unreadable { path: folder.to_owned(), source };
    let entries = std::fs::read_dir(folder).map_err(unreadable)?;
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(unreadable)?;
    paths.sort();
    for path in paths {
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
        if path.is_dir() {
            walk(&path, found)?;
        } else if ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str())) {
            found.push(path);
        }
    }
    Ok(())
}

/// At most `most` of them, evenly from first to last, so that every folder has its share.
fn spread(files: Vec<PathBuf>, most: usize) -> Vec<PathBuf> {
    let count = files.len().min(most);
    (0..count).map(|n| files[n * files.len() / count].clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::choices::Payload;
    use super::*;

    fn args(tiles: Vec<PathBuf>, distinct: usize) -> TilesArgs {
        TilesArgs {
            tiles,
            distinct: Some(distinct),
            tile_size: None,
            unique: true,
            send: Payload::Tile,
        }
    }

    #[test]
    fn files_are_found_in_folders_and_taken_evenly() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("b")).unwrap();
        for (name, side) in [("a.png", 20), ("b/c.PNG", 30), ("b/d.png", 40), ("z.png", 20)] {
            std::fs::write(
                home.path().join(name),
                codec::encode(ImageFormat::Png, 90, &drawn::tile(1, side as u64, side)).unwrap(),
            )
            .unwrap();
        }
        std::fs::write(home.path().join("notes.txt"), "no picture").unwrap();
        let open = |form| Pool::open(&args(vec![home.path().to_owned()], 9), form, 20, 0);
        assert_eq!(
            open(BodyFormat::Multipart)
                .unwrap()
                .tiles
                .iter()
                .map(|tile| tile.width)
                .collect::<Vec<_>>(),
            [20, 30, 40, 20]
        );
        assert!(matches!(open(BodyFormat::Safetensors), Err(TilesError::SeveralSizes)));
        assert_eq!(
            Pool::open(&args(vec![home.path().to_owned()], 2), BodyFormat::Image, 20, 0)
                .unwrap()
                .tiles
                .len(),
            2
        );
        let notes =
            Pool::open(&args(vec![home.path().join("notes.txt")], 2), BodyFormat::Image, 20, 0);
        assert!(matches!(notes, Err(TilesError::Undecodable { .. })));
    }

    #[test]
    fn a_stamp_takes_the_place_of_the_first_pixels_in_every_form() {
        for form in [BodyFormat::Safetensors, BodyFormat::Multipart, BodyFormat::Json] {
            let pool = Pool::open(&args(Vec::new(), 1), form, 16, 0).unwrap();
            let mut frames = Vec::new();
            pool.put(0, Some([7; 16]), &mut frames).unwrap();
            let bytes = frames.concat();
            let pixels = match form {
                BodyFormat::Safetensors => bytes,
                BodyFormat::Json => {
                    codec::decode(
                        &BASE64_STANDARD.decode(&bytes[1..bytes.len() - 1]).unwrap(),
                        &LIMITS,
                    )
                    .unwrap()
                    .pixels
                }
                _ => codec::decode(&bytes, &LIMITS).unwrap().pixels,
            };
            assert!(
                pixels[..16] == [7; 16] && pixels[16..] == drawn::tile(0, 0, 16).pixels[16..],
                "{form:?}"
            );
        }
    }
}
