//! From tiles to their encodings: what the cache holds, and for the rest the model's batch.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::decode::Decoded;
use crate::serve::admission::{Permit, advised};
use crate::serve::batch::{BatchError, EncodeRequest, Priority, TileEncoding, WantedTile};
use crate::serve::cache::Tenant;
use crate::serve::error::{Error, ErrorKind};
use crate::serve::models::Model;
use crate::serve::trace;
use restain_bundle::codec::TileKey;

/// How the encoder is asked.
pub(super) struct Asking {
    pub deadline: Instant,
    pub priority: Priority,
    pub permit: Arc<Permit>,
    pub tenant: Tenant,
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
    model: &Model,
    tiles: &[Decoded],
    references: &[Decoded],
    asking: Asking,
) -> Result<EncodedTiles, Error> {
    let Asking { deadline, priority, permit, tenant } = asking;
    let all: Vec<&Decoded> = tiles.iter().chain(references).collect();
    let held: Vec<TileKey> = all.iter().map(|tile| tenant.held_by(&tile.key)).collect();
    let lookup = async {
        let found = join_all(held.iter().map(|key| model.scope.get(key))).await;
        let hits = found.iter().flatten().count();
        trace::note("restain.cache.hits", hits as i64);
        trace::note("restain.cache.misses", (found.len() - hits) as i64);
        Ok(found)
    };
    let side = model.bundle.manifest.geometry.image_size();
    let mut found = trace::stage("cache", lookup).await?;
    let (wanted, places): (Vec<WantedTile>, Vec<usize>) = all
        .iter()
        .enumerate()
        .filter(|(place, _)| found[*place].is_none())
        .filter_map(|(place, tile)| Some((wanted(tile, held[place], side)?, place)))
        .unzip();
    let (mut queue, mut took) = (Duration::ZERO, Duration::ZERO);
    if !wanted.is_empty() {
        let request = EncodeRequest { tiles: wanted, deadline, priority, permit };
        let encode = async { model.batch.encode(request).await.map_err(batch_error) };
        let answer = trace::stage("encode", encode).await?;
        (queue, took) = (answer.queue, answer.encode);
        for (place, encoding) in places.into_iter().zip(answer.encodings) {
            found[place] = Some(encoding);
        }
    }
    check_held(&all, &found)?;
    let mut encodings: Vec<Arc<TileEncoding>> = found.into_iter().flatten().collect();
    let references = encodings.split_off(tiles.len());
    Ok(EncodedTiles { tiles: encodings, references, queue, encode: took })
}

/// A tile to be encoded, and what its encoding is held by.
fn wanted(tile: &Decoded, key: TileKey, side: usize) -> Option<WantedTile> {
    let pixels = tile.pixels.as_ref()?;
    let is_another_size = (pixels.width, pixels.height) != (side, side);
    Some(WantedTile {
        key,
        size: (pixels.width as u32, pixels.height as u32),
        seen: pixels.for_model.clone()?,
        pixels: is_another_size.then(|| pixels.bytes.clone()),
    })
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
        "{} of the keys are not held, the first of them key {first}, {key}: send these tiles, and the others by key as before",
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
