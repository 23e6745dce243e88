//! A folder of images as a stream of training tiles.
//!
//! `DIR/<domain>/…/image` gives every image the domain of its first folder; images lying in DIR itself belong to the
//! domain `default`. An image may be one tile or a larger field, which is cut at random. Which tile the i-th draw is
//! depends on (seed, i) alone, so that a resumed run sees what an uninterrupted one would have seen.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, bail, ensure};
use image::RgbImage;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Endings that are read; everything else in the folder is passed over.
const ENDINGS: [&str; 6] = ["png", "jpg", "jpeg", "webp", "tif", "tiff"];

/// Decoded images are kept while they fit into this much memory; the rest are decoded at each draw.
const CACHE_BYTES: u64 = 4 << 30;

/// Which images of a folder take part, by their path relative to it.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Just these; all when empty.
    pub only: Vec<PathBuf>,
    pub exclude: Vec<PathBuf>,
}

/// One image file.
pub struct Source {
    /// Relative to the data set's folder.
    pub path: PathBuf,
    pub domain: usize,
    pub width: u32,
    pub height: u32,
    decoded: OnceLock<Arc<RgbImage>>,
}

pub struct Dataset {
    root: PathBuf,
    pub domains: Vec<String>,
    pub sources: Vec<Source>,
    cached: AtomicU64,
}

impl Dataset {
    /// Lists the images and reads their headers. A selected path that does not exist is an error: a mistyped held-out
    /// image would otherwise be trained on.
    pub fn open(root: &Path, selection: &Selection) -> Result<Self> {
        let mut paths = Vec::new();
        list(root, root, &mut paths)?;
        for named in selection.only.iter().chain(&selection.exclude) {
            ensure!(paths.contains(named), "{} is no image of {}", named.display(), root.display());
        }
        paths.retain(|path| (selection.only.is_empty() || selection.only.contains(path)) && !selection.exclude.contains(path));
        paths.sort();
        ensure!(!paths.is_empty(), "{} holds no images ({})", root.display(), ENDINGS.join(", "));
        let mut domains: Vec<String> = paths.iter().map(|path| domain_name(path)).collect();
        domains.sort();
        domains.dedup();
        let mut sources = Vec::new();
        for path in paths {
            let full = root.join(&path);
            let (width, height) = image::image_dimensions(&full).with_context(|| format!("{} is not a readable image", full.display()))?;
            let domain = domains.binary_search(&domain_name(&path)).expect("listed above");
            sources.push(Source { path, domain, width, height, decoded: OnceLock::new() });
        }
        Ok(Self { root: root.to_owned(), domains, sources, cached: AtomicU64::new(0) })
    }

    /// The decoded image of a source.
    pub fn image(&self, source: &Source) -> Result<Arc<RgbImage>> {
        if let Some(image) = source.decoded.get() {
            return Ok(image.clone());
        }
        let path = self.root.join(&source.path);
        let image = image::open(&path).with_context(|| format!("{} cannot be decoded", path.display()))?;
        let image = Arc::new(image.into_rgb8());
        let bytes = image.as_raw().len() as u64;
        if self.cached.fetch_add(bytes, Ordering::Relaxed) + bytes <= CACHE_BYTES {
            return Ok(source.decoded.get_or_init(|| image).clone());
        }
        self.cached.fetch_sub(bytes, Ordering::Relaxed);
        Ok(image)
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
        let domain = below(&mut rng, self.domains.len() as u64) as usize;
        let members = || self.sources.iter().filter(|source| source.domain == domain);
        let chosen = below(&mut rng, members().count() as u64) as usize;
        (members().nth(chosen).expect("no domain is empty"), rng)
    }

    /// Tiles of side `tile` cut from a source on a regular grid, row by row, without overlap. A source smaller than a
    /// tile is resized to one.
    pub fn grid_tiles(&self, source: &Source, tile: usize) -> Result<Vec<RgbImage>> {
        let image = self.image(source)?;
        let side = tile as u32;
        if image.width() < side || image.height() < side {
            return Ok(vec![image::imageops::resize(image.as_ref(), side, side, image::imageops::FilterType::CatmullRom)]);
        }
        let cut = |x, y| image::imageops::crop_imm(image.as_ref(), x * side, y * side, side, side).to_image();
        Ok((0..image.height() / side).flat_map(|y| (0..image.width() / side).map(move |x| (x, y))).map(|(x, y)| cut(x, y)).collect())
    }
}

/// Uniform in 0..1.
pub fn unit(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// Uniform in 0..n.
pub fn below(rng: &mut ChaCha8Rng, n: u64) -> u64 {
    ((rng.next_u64() as u128 * n as u128) >> 64) as u64
}

/// Standard normal (Box and Muller 1958).
pub fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let radius = (-2.0 * (1.0 - unit(rng)).ln()).sqrt();
    radius * (std::f64::consts::TAU * unit(rng)).cos()
}

fn domain_name(path: &Path) -> String {
    match path.components().count() {
        0 | 1 => "default".into(),
        _ => path.iter().next().expect("two components").to_string_lossy().into_owned(),
    }
}

fn list(root: &Path, dir: &Path, into: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(dir).with_context(|| format!("{} cannot be listed", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            list(root, &path, into)?;
        } else if path.extension().is_some_and(|end| ENDINGS.contains(&end.to_string_lossy().to_lowercase().as_str())) {
            let Ok(relative) = path.strip_prefix(root) else { bail!("{} left {}", path.display(), root.display()) };
            into.push(relative.to_owned());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, width, height) in [("a/one.png", 64, 64), ("a/deep/two.png", 16, 16), ("b/three.png", 16, 16)] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            RgbImage::new(width, height).save(path).unwrap();
        }
        std::fs::write(dir.path().join("notes.txt"), "no image").unwrap();
        dir
    }

    #[test]
    fn domains_are_the_first_folders_and_fields_count_by_their_tiles() {
        let dir = folder();
        let dataset = Dataset::open(dir.path(), &Selection::default()).unwrap();
        assert_eq!(dataset.domains, ["a", "b"]);
        assert_eq!(dataset.sources.len(), 3);
        assert_eq!(dataset.tiles(16), 16 + 1 + 1);
    }

    #[test]
    fn a_selection_must_name_images_that_exist() {
        let dir = folder();
        let exclude = |path: &str| Selection { only: vec![], exclude: vec![path.into()] };
        assert_eq!(Dataset::open(dir.path(), &exclude("a/one.png")).unwrap().sources.len(), 2);
        let refused = Dataset::open(dir.path(), &exclude("a/oen.png")).err().unwrap().to_string();
        assert!(refused.contains("a/oen.png"), "{refused}");
    }

    #[test]
    fn draws_depend_on_seed_and_index_alone_and_balance_domains() {
        let dir = folder();
        let dataset = Dataset::open(dir.path(), &Selection::default()).unwrap();
        let drawn = |seed: u64| (0..400).map(|i| dataset.draw(seed, i).0.path.clone()).collect::<Vec<_>>();
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
        let of_b = drawn(1).iter().filter(|path| path.starts_with("b")).count();
        assert!((150..250).contains(&of_b), "{of_b} of 400 from one of two domains");
    }
}
