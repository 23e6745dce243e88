//! From tiles to their encodings: what the cache holds, and for the rest the model's batch.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;

use super::decode::{Decoded, ForModel, TilePixels, picture_bytes, windows_bytes};
use crate::serve::admission::{Permit, advised};
use crate::serve::batch::{
    BatchError, EncodeRequest, Priority, Shelf as _, TileEncoding, WantedTile, Whole, at_canvas,
};
use crate::serve::cache::Tenant;
use crate::serve::error::{Error, ErrorKind};
use crate::serve::models::Model;
use crate::serve::runtime::cpu::Cpu;
use crate::serve::trace;
use restain_bundle::codec::TileKey;
use restain_method::windows::{Scaling, Windows};

/// How the encoder is asked.
pub(super) struct Asking {
    pub deadline: Instant,
    pub priority: Priority,
    pub permit: Arc<Permit>,
    pub tenant: Tenant,
    /// How the model sees the tiles.
    pub scaling: Scaling,
}

/// The encodings of a request, its tiles and then its references, and what they waited for.
pub(super) struct EncodedTiles {
    pub tiles: Vec<Arc<TileEncoding>>,
    pub references: Vec<Arc<TileEncoding>>,
    pub queue: Duration,
    pub encode: Duration,
}

/// Encodes what is not held. Tiles that came with their pixels are encoded even when a key beside
/// them is not held, so that the caller has only the missing ones to send again.
///
/// # Errors
/// `tile_not_held` with the places of the keys that are not, among the keys of the request.
pub(super) async fn encode(
    cpu: &Cpu,
    model: &Model,
    tiles: &[Decoded],
    references: &[Decoded],
    asking: Asking,
) -> Result<EncodedTiles, Error> {
    let Asking { deadline, priority, permit, tenant, scaling } = asking;
    let all: Vec<&Decoded> = tiles.iter().chain(references).collect();
    let held: Vec<TileKey> = all.iter().map(|tile| tenant.held_by(&tile.key)).collect();
    // Wanted before the wholes are looked for: who makes one meanwhile does not forget its windows.
    let in_windows = all.iter().zip(&held).filter_map(|(tile, held)| {
        let windows = &tile.pixels.as_ref()?.for_model.as_ref()?.windows;
        (!windows.is_whole()).then(|| keys_of_windows(held, windows).collect())
    });
    let mut wanted: Vec<_> = in_windows.map(|keys| model.scope.want(keys)).collect();
    let lookup = async {
        let found = join_all(held.iter().map(|key| model.scope.get(key))).await;
        let hits = found.iter().flatten().count();
        trace::note("restain.cache.hits", hits as i64);
        trace::note("restain.cache.misses", (found.len() - hits) as i64);
        Ok(found)
    };
    let mut found = trace::stage("cache", lookup).await?;
    let (mut missing, mut lent) = (Vec::new(), Vec::new());
    for (place, tile) in all.iter().enumerate() {
        let sent = tile.pixels.as_ref().and_then(Missing::sent);
        let missed = match found[place].take() {
            None => sent,
            Some(kept) if kept.windows == scaling.windows(size_of(&kept)) => {
                found[place] = Some(kept);
                None
            }
            // Held as seen at another scale: its pixels are there.
            Some(kept) => Some(match sent {
                Some(sent) => sent,
                None => {
                    // A key was admitted as one tile of the model's size.
                    let windows = scaling.windows(size_of(&kept));
                    let bytes = windows_bytes(&windows, &model.bundle.manifest.geometry)
                        + picture_bytes(size_of(&kept));
                    lent.push(permit.admit(windows.count(), bytes)?);
                    if !windows.is_whole() {
                        let keys = keys_of_windows(&held[place], &windows).collect();
                        wanted.push(model.scope.want(keys));
                    }
                    Missing::held(cpu, model, kept, windows).await?
                }
            }),
        };
        missing.extend(missed.map(|missed| (place, missed)));
    }
    let (mut queue, mut took) = (Duration::ZERO, Duration::ZERO);
    if !missing.is_empty() {
        let asked = missing.iter().flat_map(|(place, tile)| tile.asked(held[*place])).collect();
        let request = EncodeRequest { tiles: asked, deadline, priority, permit };
        let encode = async { model.batch.encode(request).await.map_err(batch_error) };
        let answer = trace::stage("encode", encode).await?;
        (queue, took) = (answer.queue, answer.encode);
        let mut encodings = answer.encodings.into_iter();
        for (place, tile) in missing {
            let of_each: Vec<_> = encodings.by_ref().take(tile.seen.windows.count()).collect();
            found[place] = Some(match &of_each[..] {
                [encoding] => Arc::clone(encoding),
                _ => {
                    let encoding = Arc::new(cpu.run(move || tile.put_together(&of_each)).await?);
                    model.scope.keep(&held[place], &encoding);
                    encoding
                }
            });
        }
    }
    check_held(&all, &found)?;
    drop((lent, wanted));
    let mut encodings: Vec<Arc<TileEncoding>> = found.into_iter().flatten().collect();
    let references = encodings.split_off(tiles.len());
    Ok(EncodedTiles { tiles: encodings, references, queue, encode: took })
}

fn size_of(encoding: &TileEncoding) -> (usize, usize) {
    (encoding.size.0 as usize, encoding.size.1 as usize)
}

/// A tile to be encoded.
struct Missing {
    size: (u32, u32),
    /// `[height, width, 3] u8`
    pixels: Bytes,
    seen: ForModel,
}

impl Missing {
    /// One that came with its pixels, decoded for the model.
    fn sent(tile: &TilePixels) -> Option<Self> {
        let size = (tile.width as u32, tile.height as u32);
        Some(Self { size, pixels: tile.bytes.clone(), seen: tile.for_model.clone()? })
    }

    /// One that is held as the model saw it at another scale.
    async fn held(
        cpu: &Cpu,
        model: &Model,
        kept: Arc<TileEncoding>,
        windows: Windows,
    ) -> Result<Self, Error> {
        let synthesiser = model.synthesiser.clone();
        let see = move || {
            let pixels = kept.pixels(&synthesiser, &mut synthesiser.scratch());
            let canvas = at_canvas(kept.size, &pixels, &windows);
            Self { size: kept.size, pixels, seen: ForModel { windows, canvas } }
        };
        cpu.run(see).await
    }

    /// What the model is to see of it, `held` its key.
    fn asked(&self, held: TileKey) -> Vec<WantedTile> {
        let ForModel { windows, canvas } = &self.seen;
        if windows.is_whole() {
            let is_seen = windows.canvas() == (self.size.0 as usize, self.size.1 as usize);
            let whole = if is_seen { Whole::Seen } else { Whole::Pixels(self.pixels.clone()) };
            return vec![WantedTile { key: held, size: self.size, seen: canvas.clone(), whole }];
        }
        let window = |(index, key): (usize, TileKey)| WantedTile {
            key,
            size: self.size,
            seen: windows.cut(index, canvas).into(),
            whole: Whole::Elsewhere,
        };
        keys_of_windows(&held, windows).enumerate().map(window).collect()
    }

    fn put_together(&self, of_each: &[Arc<TileEncoding>]) -> TileEncoding {
        TileEncoding::of_windows(self.size, self.seen.windows.clone(), &self.pixels, of_each)
    }
}

/// What windows are asked for and held by, while several requests may want them.
fn keys_of_windows(held: &TileKey, windows: &Windows) -> impl Iterator<Item = TileKey> {
    (0..windows.count()).map(move |index| key_of_window(held, windows, index))
}

/// The key of one window.
fn key_of_window(tile: &TileKey, windows: &Windows, index: usize) -> TileKey {
    let mut hasher = blake3::Hasher::new_derive_key("restain 2026 window of a tile");
    hasher.update(tile.as_bytes());
    let (columns, rows) = windows.canvas();
    for number in [columns, rows, index] {
        hasher.update(&(number as u64).to_le_bytes());
    }
    TileKey::from_bytes(*hasher.finalize().as_bytes())
}

fn check_held(all: &[&Decoded], found: &[Option<Arc<TileEncoding>>]) -> Result<(), Error> {
    let keys = all.iter().zip(found).filter(|(tile, _)| tile.pixels.is_none());
    let missing: Vec<(usize, TileKey)> = keys
        .enumerate()
        .filter(|(_, (_, found))| found.is_none())
        .map(|(index, (tile, _))| (index, tile.key))
        .collect();
    let Some((first, key)) = missing.first() else { return Ok(()) };
    let detail = format!(
        "{} of the keys are not held, the first of them key {first}, {key}: send these tiles, and \
        the others by key as before",
        missing.len()
    );
    Err(Error::new(ErrorKind::TileNotHeld, detail)
        .at_all("key", missing.into_iter().map(|(index, _)| index).collect()))
}

fn batch_error(error: BatchError) -> Error {
    match error {
        BatchError::Late => Error::new(ErrorKind::DeadlineExceeded, error.to_string()),
        BatchError::Overloaded { wait } => {
            let wait = advised(wait);
            let detail = format!(
                "{error}, which is longer than a request may wait: come back in {} s",
                wait.as_secs()
            );
            Error::new(ErrorKind::Overloaded, detail).retry_after(wait)
        }
        BatchError::Closed => Error::new(ErrorKind::Draining, error.to_string()),
        BatchError::Failed(_) => Error::internal(&error),
    }
}
