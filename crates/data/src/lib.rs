//! Data sets of histology images, as both programs read them.
//!
//! [`Dataset::open`] recognises the layout on disk ([`Format`]), lists the images, applies a
//! [`Selection`], and then decodes images on demand. An image may be one tile or a larger field.
//! Which image the i-th draw is depends on (seed, i) alone, so that a resumed run draws what an
//! uninterrupted one would have drawn.
//!
//! A missing file is an error when the data set is opened. A damaged image is noticed when it is
//! decoded: it is logged, counted and skipped, up to a limit. Cropping and augmenting decoded
//! images is left to the caller.

#![warn(missing_docs)]

mod args;
mod catalogue;
mod damage;
mod elsewhere;
mod formats;
mod lenient_json;
mod listing;
mod microns;
mod passed_over;
mod places;
mod random;
mod rows;
mod samples;
mod selection;
mod slides;
mod statistics;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, anyhow, bail, ensure};
use image::RgbImage;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

pub use args::{BundleDataArgs, SelectionArgs};
pub use catalogue::{Catalogue, Entry, Found};
use damage::{Damage, measure_sizes};
pub use formats::manifest::LABEL;
pub use formats::tars::unselected_samples;
pub use formats::wilds::{Patch, WildsRow, WildsTable};
pub use formats::{Files, Format, is_tar};
use listing::Item;
pub use microns::StatedMicrons;
pub use passed_over::{PassedOver, Reason};
pub use places::Place;
use places::Places;
pub use random::{below, normal, shuffle, unit};
pub use samples::{
    Content, Field, Item as TarItem, NoTile, Sample, read_samples, read_samples_from,
};
pub use selection::Selection;
pub use slides::Slide;
pub use statistics::measure;

/// After this many draws of damaged images in a row, the data set counts as damaged.
const DRAWS: usize = 10_000;

/// One image of a [`Dataset`].
pub struct Source {
    /// Unique, relative to the root of the data set.
    pub path: PathBuf,
    /// Index into [`Dataset::domains`].
    pub domain: usize,
    /// Index into [`Dataset::labels`]; `None` without a label.
    pub label: Option<usize>,
    /// Index into [`Dataset::splits`]; `None` without official splits.
    pub split: Option<usize>,
    /// The slide that it is from, if `--manifest` names it; unique within its domain.
    pub slide: Option<Box<str>>,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    place: Place,
    decoded: OnceLock<Arc<RgbImage>>,
    damaged: AtomicBool,
}

/// The selected images of a data set, which are decoded on demand.
pub struct Dataset {
    /// Names of the domains that have an image here.
    pub domains: Vec<String>,
    /// Classes of the whole data set, whatever is selected, so that an index means the same class
    /// in every part of it. Empty without labels.
    pub labels: Vec<String>,
    /// Official splits of the whole data set; empty if it has none.
    pub splits: Vec<String>,
    /// The images, sorted by path.
    pub sources: Vec<Source>,
    /// What is in the folder and was not taken, by reason; without damaged images.
    pub passed_over: PassedOver,
    /// Indices into `sources` for each domain.
    members: Vec<Vec<u32>>,
    /// Which splits are selected and why, for the log; empty without official splits.
    about_splits: String,
    places: Arc<Places>,
    /// Threads that read, decode and augment.
    pool: Arc<rayon::ThreadPool>,
    /// Bytes of decoded images that are kept, and how many may be.
    cached: AtomicU64,
    cache_bytes: u64,
    damage: Damage,
}

impl Dataset {
    /// Lists the selected images of the folder `root`, checks that their files exist, and reads
    /// their sizes from the headers if the format does not state them.
    ///
    /// # Errors
    /// If the folder does not have the layout, a file is missing, a name of the selection does not
    /// exist, no image is selected, or more images are damaged than the selection allows.
    pub fn open(root: &Path, selection: &Selection) -> Result<Self> {
        let root = &elsewhere::folder_of(root, selection.data_cache.as_deref())?;
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(selection.workers)
            .build()
            .with_context(|| format!("--workers {}: cannot start threads", selection.workers))?;
        let (format, mut listing) = pool.install(|| {
            if let Some(table) = &selection.manifest {
                let listing = formats::manifest::list(root, table, &selection.label_column)?;
                return anyhow::Ok((Format::Folders, listing));
            }
            let (format, found) = formats::find(root, selection.format)?;
            let image_field = selection.image_field.as_deref();
            anyhow::Ok((format, formats::list(root, format, found, image_field)?))
        })?;
        listing.sort();
        let splits = selection.apply(root, &mut listing)?;
        listing.places.root = root.to_owned();
        if format == Format::Wilds {
            pool.install(|| formats::wilds::check(&mut listing.items, &listing.places))
                .with_context(|| root.display().to_string())?;
        }
        let damage = Damage { count: AtomicU64::new(0), limit: selection.max_damaged };
        let without_image = listing.without_image.iter();
        without_image
            .map(|said| anyhow!("{}/{said}", root.display()))
            .try_for_each(|error| damage.add(&error))?;
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
            passed_over: listing.passed_over,
            sources: listing.items.into_iter().map(Source::from).collect(),
            members,
            places: Arc::new(listing.places),
            pool: Arc::new(pool),
            cached: AtomicU64::new(0),
            cache_bytes: selection.cache_bytes,
            damage,
        })
    }

    /// Splits the data set into the images for which `chosen` returns true and the others; both
    /// keep all domains and labels. The memory for decoded images is divided in proportion to their
    /// number. Each part counts its own damaged images.
    pub fn partition(self, chosen: impl Fn(&Source) -> bool) -> (Self, Self) {
        let Self {
            domains,
            labels,
            splits,
            sources,
            about_splits,
            passed_over,
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
                passed_over: passed_over.clone(),
                places: places.clone(),
                pool: pool.clone(),
                cached: AtomicU64::new(0),
                damage: Damage { count: AtomicU64::new(0), limit: damage.limit },
            }
        };
        (part(taken), part(left))
    }

    /// Names the domains and the selected splits, for a log line.
    pub fn describe(&self) -> String {
        self.domains.join(", ") + &self.about_splits
    }

    /// Decodes the image of a source, [H, W, 3]; returns it from memory if it was kept there.
    ///
    /// # Errors
    /// If it cannot be read or decoded, or its size is not that of its header.
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
                "it is {width}×{height} px, and its header says {}×{}",
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

    /// Decodes the image of a source; `None` if it is damaged, which is logged and counted once.
    ///
    /// # Errors
    /// If more images are damaged than the selection allows.
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

    /// Returns the number of images that could not be decoded so far.
    pub fn damaged(&self) -> u64 {
        self.damage.count.load(Ordering::Relaxed)
    }

    /// Returns the threads for reading, decoding and augmenting.
    pub fn workers(&self) -> &rayon::ThreadPool {
        &self.pool
    }

    /// Counts the whole tiles of side `tile` pixels in all images, at least one for each: the
    /// length of an epoch.
    pub fn tiles(&self, tile: usize) -> u64 {
        let along = |side: u32| (side as u64 / tile as u64).max(1);
        self.sources.iter().map(|source| along(source.width) * along(source.height)).sum()
    }

    /// Returns the source of draw `index`, with the generator that continues its stream. Every
    /// domain is drawn equally often, and within it every image, so that a large field does not
    /// outweigh small ones.
    pub fn draw(&self, seed: u64, index: u64) -> (&Source, ChaCha8Rng) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(index);
        (self.pick(&mut rng), rng)
    }

    /// Returns the image of draw `index`, [H, W, 3], with the generator that continues its stream.
    /// A damaged image is replaced by another draw from the same stream, which depends on the
    /// files, the seed and `index`, and not on earlier draws.
    ///
    /// # Errors
    /// If more images are damaged than the selection allows, or no draw gives an image that can be
    /// decoded.
    pub fn draw_image(&self, seed: u64, index: u64) -> Result<(Arc<RgbImage>, ChaCha8Rng)> {
        let (mut source, mut rng) = self.draw(seed, index);
        for _ in 0..DRAWS {
            if let Some(image) = self.readable(source)? {
                return Ok((image, rng));
            }
            source = self.pick(&mut rng);
        }
        bail!(
            "{DRAWS} draws in a row gave damaged images; {} images are damaged so far",
            self.damaged()
        )
    }

    fn pick(&self, rng: &mut ChaCha8Rng) -> &Source {
        let members = &self.members[below(rng, self.members.len() as u64) as usize];
        &self.sources[members[below(rng, members.len() as u64) as usize] as usize]
    }

    /// Cuts a source into tiles of side `tile` pixels on a regular grid, row by row, without
    /// overlap; what is left over at the right and the bottom is dropped. A source smaller than a
    /// tile is resized to one; a damaged one gives none.
    ///
    /// # Errors
    /// If more images are damaged than the selection allows.
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

impl From<Item> for Source {
    fn from(item: Item) -> Self {
        let Item { path, domain, label, split, slide, place, size, number: _ } = item;
        let (width, height) = size.expect("`measure_sizes` removed items without a size");
        Self {
            path,
            domain,
            label,
            split,
            slide,
            width,
            height,
            place,
            decoded: OnceLock::new(),
            damaged: AtomicBool::new(false),
        }
    }
}
