//! A data set as a stream of training tiles.
//!
//! In what way it lies on disk is found out from the folder itself, or named ([`Format`]); a reader for each way makes a
//! listing of it, and everything after that is the same for all. An image may be one tile or a larger field, which is cut
//! at random. Which tile the i-th draw is depends on (seed, i) alone, so that a resumed run sees what an uninterrupted
//! one would have seen.
//!
//! What is missing is an error when the data set is opened. What is damaged is seen when it is decoded: such an image is
//! named, counted and passed over, up to a limit. Not here: what happens to a tile after it is decoded.

mod args;
mod epistr;
mod folders;
mod format;
mod listing;
mod pcam;
mod places;
mod random;
mod selection;
mod statistics;
mod tars;
mod wilds;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, anyhow, bail, ensure};
use image::RgbImage;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rayon::prelude::*;

pub use args::{BundleDataArgs, SelectionArgs};
pub use format::Format;
use listing::Item;
use places::{Place, Places};
pub use random::{below, normal, unit};
pub use selection::Selection;
pub use statistics::measure;

/// Draws of damaged images in a row, after which nothing that can be drawn is left.
const DRAWS: usize = 10_000;

/// One image.
pub struct Source {
    /// Its unique name, relative to the data set.
    pub path: PathBuf,
    pub domain: usize,
    /// Its class, for classifiers; `None` where the data set has none for it.
    pub label: Option<usize>,
    /// The official split it is in, where there are such.
    pub split: Option<usize>,
    pub width: u32,
    pub height: u32,
    place: Place,
    decoded: OnceLock<Arc<RgbImage>>,
    damaged: AtomicBool,
}

pub struct Dataset {
    /// Those that have an image here.
    pub domains: Vec<String>,
    /// Of the whole data set, whatever is selected: a number means the same class in every part of it. Empty without labels.
    pub labels: Vec<String>,
    /// Official splits of the whole data set; empty where there are none.
    pub splits: Vec<String>,
    /// Sorted by path.
    pub sources: Vec<Source>,
    /// Sources of each domain.
    members: Vec<Vec<u32>>,
    /// Which splits are here and why, in words; empty where there are none.
    about_splits: String,
    places: Arc<Places>,
    /// Threads that read, decode and augment.
    pool: Arc<rayon::ThreadPool>,
    cached: AtomicU64,
    cache_bytes: u64,
    damage: Damage,
}

/// Images that could not be decoded, and how many may be.
struct Damage {
    count: AtomicU64,
    limit: u64,
}

impl Damage {
    /// Once for each damaged image: one more. An error when there are too many.
    fn add(&self, error: &anyhow::Error) -> Result<()> {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        ensure!(
            count <= self.limit,
            "{error:#}: damaged images so far: {count}, and --max-damaged is {}",
            self.limit
        );
        tracing::warn!("skipped: {error:#} (damaged so far: {count})");
        Ok(())
    }
}

impl Dataset {
    /// Lists the images, checks that they are there, and reads the headers of those whose size their format leaves open.
    pub fn open(root: &Path, selection: &Selection) -> Result<Self> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(selection.workers)
            .build()
            .context("cannot start --workers threads")?;
        let (format, mut listing) = pool.install(|| format::list(root, selection.format))?;
        listing.sort();
        let splits = selection.apply(root, &mut listing)?;
        listing.places.root = root.to_owned();
        if format == Format::Wilds {
            pool.install(|| wilds::check(&mut listing.items, &listing.places))
                .with_context(|| root.display().to_string())?;
        }
        let damage = Damage { count: AtomicU64::new(0), limit: selection.max_damaged };
        pool.install(|| measure_sizes(&mut listing.items, &listing.places, &damage))?;
        ensure!(!listing.items.is_empty(), "no image of {} can be decoded", root.display());
        let domains = selection::present_domains(&mut listing.items, &listing.domains);
        let mut members = vec![Vec::new(); domains.len()];
        listing
            .items
            .iter()
            .zip(0u32..)
            .for_each(|(item, number)| members[item.domain].push(number));
        Ok(Self {
            domains,
            labels: listing.labels.all().to_vec(),
            about_splits: selection.describe_splits(&splits, &listing.splits),
            splits: listing.splits,
            sources: listing.items.into_iter().map(Source::from).collect(),
            members,
            places: Arc::new(listing.places),
            pool: Arc::new(pool),
            cached: AtomicU64::new(0),
            cache_bytes: selection.cache_bytes,
            damage,
        })
    }

    /// The images that `chosen` takes and all others, each with all domains and labels. Memory for decoded images is shared
    /// out by their number; damaged images are counted in each.
    pub fn partition(self, chosen: impl Fn(&Source) -> bool) -> (Self, Self) {
        let Self {
            domains,
            labels,
            splits,
            sources,
            about_splits,
            places,
            pool,
            cache_bytes,
            damage,
            ..
        } = self;
        let all = sources.len() as f64;
        let (taken, left): (Vec<_>, Vec<_>) = sources.into_iter().partition(chosen);
        let part = |sources: Vec<Source>| {
            let mut members = vec![Vec::new(); domains.len()];
            sources
                .iter()
                .zip(0u32..)
                .for_each(|(source, number)| members[source.domain].push(number));
            Self {
                domains: domains.clone(),
                labels: labels.clone(),
                splits: splits.clone(),
                cache_bytes: (cache_bytes as f64 * sources.len() as f64 / all) as u64,
                sources,
                members,
                about_splits: about_splits.clone(),
                places: places.clone(),
                pool: pool.clone(),
                cached: AtomicU64::new(0),
                damage: Damage { count: AtomicU64::new(0), limit: damage.limit },
            }
        };
        (part(taken), part(left))
    }

    /// The domains, and of which splits the images are: for the first line of a log.
    pub fn describe(&self) -> String {
        self.domains.join(", ") + &self.about_splits
    }

    /// The decoded image of a source.
    pub fn image(&self, source: &Source) -> Result<Arc<RgbImage>> {
        if let Some(image) = source.decoded.get() {
            return Ok(image.clone());
        }
        let named =
            || format!("{} cannot be decoded", self.places.root.join(&source.path).display());
        let image = self.places.decode(&source.path, source.place).with_context(named)?;
        if image.dimensions() != (source.width, source.height) {
            let (width, height) = image.dimensions();
            return Err(anyhow!(
                "it is {width}×{height} px, and must be {}×{}",
                source.width,
                source.height
            )
            .context(named()));
        }
        let image = Arc::new(image);
        let bytes = image.as_raw().len() as u64;
        if self.cached.fetch_add(bytes, Ordering::Relaxed) + bytes <= self.cache_bytes {
            // Two threads may have decoded it; it is kept, and counted, once.
            if source.decoded.set(image.clone()).is_ok() {
                return Ok(image);
            }
        }
        self.cached.fetch_sub(bytes, Ordering::Relaxed);
        Ok(image)
    }

    /// The decoded image of a source; none when it is damaged, which is told and counted once. An error when too many are.
    pub fn readable(&self, source: &Source) -> Result<Option<Arc<RgbImage>>> {
        if source.damaged.load(Ordering::Relaxed) {
            return Ok(None);
        }
        match self.image(source) {
            Ok(image) => Ok(Some(image)),
            Err(error) => {
                if !source.damaged.swap(true, Ordering::Relaxed) {
                    self.damage.add(&error)?;
                }
                Ok(None)
            }
        }
    }

    /// Images that could not be decoded so far.
    pub fn damaged(&self) -> u64 {
        self.damage.count.load(Ordering::Relaxed)
    }

    /// The threads for reading, decoding and augmenting.
    pub fn workers(&self) -> &rayon::ThreadPool {
        &self.pool
    }

    /// Whole tiles of side `tile` that the images hold: the length of an epoch.
    pub fn tiles(&self, tile: usize) -> u64 {
        let along = |side: u32| (side as u64 / tile as u64).max(1);
        self.sources.iter().map(|source| along(source.width) * along(source.height)).sum()
    }

    /// The source of draw `index`: every domain equally often, and within it every image, so that one large field does
    /// not drown the small ones.
    pub fn draw(&self, seed: u64, index: u64) -> (&Source, ChaCha8Rng) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(index);
        (self.pick(&mut rng), rng)
    }

    /// Draw `index` with its image. For a damaged one another is drawn from the same stream: which one depends on the
    /// files, the seed and `index`, and not on what was met before.
    pub fn draw_image(&self, seed: u64, index: u64) -> Result<(Arc<RgbImage>, ChaCha8Rng)> {
        let (mut source, mut rng) = self.draw(seed, index);
        for _ in 0..DRAWS {
            if let Some(image) = self.readable(source)? {
                return Ok((image, rng));
            }
            source = self.pick(&mut rng);
        }
        bail!(
            "{} images are damaged, and none that can be decoded was found in {DRAWS} draws",
            self.damaged()
        )
    }

    fn pick(&self, rng: &mut ChaCha8Rng) -> &Source {
        let members = &self.members[below(rng, self.members.len() as u64) as usize];
        &self.sources[members[below(rng, members.len() as u64) as usize] as usize]
    }

    /// Tiles of side `tile` cut from a source on a regular grid, row by row, without overlap. A source smaller than a
    /// tile is resized to one; a damaged one has none.
    pub fn grid_tiles(&self, source: &Source, tile: usize) -> Result<Vec<RgbImage>> {
        let Some(image) = self.readable(source)? else { return Ok(Vec::new()) };
        let side = tile as u32;
        if image.width() < side || image.height() < side {
            return Ok(vec![image::imageops::resize(
                image.as_ref(),
                side,
                side,
                image::imageops::FilterType::CatmullRom,
            )]);
        }
        let cut = |x, y| {
            image::imageops::crop_imm(image.as_ref(), x * side, y * side, side, side).to_image()
        };
        Ok((0..image.height() / side)
            .flat_map(|y| (0..image.width() / side).map(move |x| (x, y)))
            .map(|(x, y)| cut(x, y))
            .collect())
    }
}

/// Sizes out of the headers, where they are not known; an image whose header cannot be read is damaged, and leaves.
fn measure_sizes(items: &mut Vec<Item>, places: &Places, damage: &Damage) -> Result<()> {
    items.par_iter_mut().filter(|item| item.size.is_none()).try_for_each(|item| {
        match places.size(&item.path, item.place) {
            Ok(size) => {
                item.size = Some(size);
                Ok(())
            }
            Err(error) => {
                damage.add(&error.context(format!(
                    "{} cannot be decoded",
                    places.root.join(&item.path).display()
                )))
            }
        }
    })?;
    items.retain(|item| item.size.is_some());
    Ok(())
}

impl From<Item> for Source {
    fn from(item: Item) -> Self {
        let Item { path, domain, label, split, place, size } = item;
        let (width, height) = size.expect("what has no size has left");
        Self {
            path,
            domain,
            label,
            split,
            width,
            height,
            place,
            decoded: OnceLock::new(),
            damaged: AtomicBool::new(false),
        }
    }
}
