//! Encodings by the tile they are of: encode a tile once, and every further variant, in every later
//! epoch, is one small matrix product.
//!
//! A memory tier bounded in bytes, and behind it, if wanted, a disk tier that survives a restart;
//! both are `foyer`'s. An entry belongs to a [`Scope`], bundle, precision and provider, and to a
//! [`Tenant`]. What is
//! damaged or foreign on disk is a miss. A disk that is full or fails degrades to memory: one
//! warning, a counter, and another try a minute later.
//!
//! It does not encode: on a miss the caller asks the batch, whose workers fill this through
//! [`Shelf`].

mod disk;
pub(crate) mod entry;
pub mod faults;
mod tenant;
mod windows;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use foyer::{
    Event, EventListener, HybridCache, HybridCacheBuilder, HybridCacheProperties, Location,
};

use super::batch::{Shelf, TileEncoding};
use super::metrics::Metrics;
pub use disk::LEAST_BYTES as LEAST_DISK_BYTES;
use disk::{Disk, DiskError, MOST_ENTRY as MOST_DISK_ENTRY};
use entry::{CacheKey, Kept};
use restain_bundle::codec::TileKey;
use restain_method::Geometry;
pub use tenant::Tenant;

/// How long a disk that failed is left alone.
const PAUSE: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
pub struct CacheOptions {
    pub memory_bytes: u64,
    pub disk: Option<DiskOptions>,
}

#[derive(Clone, Debug)]
pub struct DiskOptions {
    pub dir: PathBuf,
    pub bytes: u64,
}

pub struct EncodingsCache {
    cache: HybridCache<CacheKey, Kept>,
    disk: Mutex<DiskState>,
    metrics: Arc<Metrics>,
    wanting: windows::Wanting,
    /// Held for its lock.
    _dir: Option<Disk>,
}

/// Whether the disk tier is to be used now.
#[derive(Debug)]
enum DiskState {
    None,
    Works { faults: u64 },
    Paused { faults: u64, until: Instant },
}

/// One encoder's part of the cache.
#[derive(Clone)]
pub struct Scope {
    cache: Arc<EncodingsCache>,
    id: [u8; 32],
    /// Of the encoder: an entry of other lengths is foreign.
    geometry: Geometry,
}

#[derive(Debug, thiserror::Error)]
#[error("the encodings cache cannot be set up: {0}")]
pub struct CacheError(foyer::Error);

impl EncodingsCache {
    /// Opens both tiers. Without a usable disk it logs one warning and runs in memory alone.
    ///
    /// # Errors
    /// When even the memory tier cannot be set up.
    pub async fn open(
        options: &CacheOptions,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Self>, CacheError> {
        if let Some(disk) = &options.disk {
            match with_disk(options.memory_bytes, disk, &metrics).await {
                Ok((cache, dir)) => {
                    tracing::info!(dir = %disk.dir.display(), bytes = disk.bytes, "encodings are \
                        kept on disk");
                    let state = DiskState::Works { faults: faults::count() };
                    return Ok(Arc::new(Self {
                        cache,
                        disk: Mutex::new(state),
                        metrics,
                        wanting: windows::Wanting::default(),
                        _dir: Some(dir),
                    }));
                }
                Err(error) => {
                    metrics.cache_disk_errors(1);
                    tracing::warn!(%error, "encodings are kept in memory alone");
                }
            }
        }
        let cache =
            builder(options.memory_bytes, &metrics).storage().build().await.map_err(CacheError)?;
        Ok(Arc::new(Self {
            cache,
            disk: Mutex::new(DiskState::None),
            metrics,
            wanting: windows::Wanting::default(),
            _dir: None,
        }))
    }

    /// The part of one encoder. `encoder` names all that decides an encoding's bits: the bundle's
    /// digest, the precision, the provider.
    pub fn scope(self: &Arc<Self>, encoder: &[&str], geometry: &Geometry) -> Scope {
        let mut hasher = blake3::Hasher::new_derive_key("restain 2026 encodings cache, windows");
        for part in encoder {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        Scope { cache: Arc::clone(self), id: *hasher.finalize().as_bytes(), geometry: *geometry }
    }

    /// Writes what is still on its way to the disk.
    pub async fn close(&self) {
        if let Err(error) = self.cache.close().await {
            tracing::warn!(%error, "the encodings cache did not end well");
        }
    }

    /// Whether the disk may be asked now; notices what failed since the last call.
    fn disk_works(&self) -> bool {
        let now = Instant::now();
        let count = faults::count();
        let mut state = self.disk.lock().expect("no code panics while it holds this lock");
        match *state {
            DiskState::None => false,
            DiskState::Works { faults } | DiskState::Paused { faults, .. } if count > faults => {
                self.metrics.cache_disk_errors(count - faults);
                if matches!(*state, DiskState::Works { .. }) {
                    tracing::warn!(errors = count - faults, pause = ?PAUSE, "the cache's disk \
                        fails: encodings are kept in memory alone");
                }
                *state = DiskState::Paused { faults: count, until: now + PAUSE };
                false
            }
            DiskState::Works { .. } => true,
            DiskState::Paused { faults, until } => {
                if now >= until {
                    *state = DiskState::Works { faults };
                }
                now >= until
            }
        }
    }
}

async fn with_disk(
    memory: u64,
    options: &DiskOptions,
    metrics: &Arc<Metrics>,
) -> Result<(HybridCache<CacheKey, Kept>, Disk), DiskError> {
    let disk = Disk::open(&options.dir, options.bytes)?;
    let cache = builder(memory, metrics).storage().with_engine_config(disk.engine()?).build().await;
    let cache = cache.map_err(|source| disk.failed(source))?;
    disk.take_space()?;
    Ok((cache, disk))
}

type Builder = foyer::HybridCacheBuilderPhaseMemory<CacheKey, Kept, foyer::DefaultHasher>;

fn builder(memory: u64, metrics: &Arc<Metrics>) -> Builder {
    // A shard holds its share of the bytes, and must hold more than a few tiles.
    const SHARD: u64 = 64 << 20;
    let shards = (memory / SHARD).clamp(1, 16);
    let share = memory / shards;
    HybridCacheBuilder::new()
        .with_name("encodings")
        // Written when they come, so that a kill loses next to nothing, and not all over again at
        // the end.
        .with_flush_on_close(false)
        .with_policy(foyer::HybridCachePolicy::WriteOnInsertion)
        .with_event_listener(Arc::new(CountEvictions(Arc::clone(metrics))))
        .memory(usize::try_from(memory).unwrap_or(usize::MAX))
        .with_shards(shards as usize)
        .with_weighter(|_: &CacheKey, kept: &Kept| kept.bytes())
        // Otherwise the newest would be held however small its shard is.
        .with_filter(move |_: &CacheKey, kept: &Kept| kept.bytes() as u64 <= share)
}

struct CountEvictions(Arc<Metrics>);

impl EventListener for CountEvictions {
    type Key = CacheKey;
    type Value = Kept;

    fn on_leave(&self, reason: Event, _: &CacheKey, _: &Kept) {
        if reason == Event::Evict {
            self.0.cache_evicted();
        }
    }
}

impl Scope {
    /// From memory, or from disk, which waits for it. Counts a hit or a miss.
    pub async fn get(&self, tile: &TileKey) -> Option<Arc<TileEncoding>> {
        let found = match self.peek(tile) {
            Some(found) => Some(found),
            None if self.cache.disk_works() => {
                // An error is in foyer's log, where `faults` hears of it; for who asks it is a
                // miss.
                let entry = self.cache.cache.get(&self.key(tile)).await.ok().flatten();
                entry
                    .map(|entry| Arc::clone(&entry.value().0))
                    .filter(|encoding| self.fits(encoding))
            }
            None => None,
        };
        self.cache.metrics.cache_asked(found.is_some());
        found
    }

    fn key(&self, tile: &TileKey) -> CacheKey {
        CacheKey { scope: self.id, tile: *tile.as_bytes() }
    }

    fn fits(&self, encoding: &TileEncoding) -> bool {
        encoding.fits(&self.geometry)
    }
}

impl Shelf for Scope {
    fn peek(&self, tile: &TileKey) -> Option<Arc<TileEncoding>> {
        let entry = self.cache.cache.memory().get(&self.key(tile))?;
        Some(Arc::clone(&entry.value().0)).filter(|encoding| self.fits(encoding))
    }

    fn keep(&self, tile: &TileKey, encoding: &Arc<TileEncoding>) {
        let EncodingsCache { cache, metrics, .. } = &*self.cache;
        let kept = Kept(Arc::clone(encoding));
        let on_disk = !encoding.is_window()
            && kept.bytes() as u64 <= MOST_DISK_ENTRY
            && self.cache.disk_works();
        let place = if on_disk { Location::Default } else { Location::InMem };
        let properties = HybridCacheProperties::default().with_location(place);
        cache.insert_with_properties(self.key(tile), kept, properties);
        metrics.cache_bytes(cache.memory().usage());
    }

    fn forget(&self, tile: &TileKey) {
        self.cache.cache.remove(&self.key(tile));
    }
}

#[cfg(test)]
mod tests;
