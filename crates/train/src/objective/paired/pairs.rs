//! Pairs of tiles of one field, with the transform that both go through.
//!
//! What pair `index` is depends on (seed, index) alone, so that a resumed run sees what an
//! uninterrupted one would have seen. Pairs take the domains by turns, in an order that is drawn
//! for each round. Crops are turned and flipped; other augmentations are left out, because they
//! would change the stain that was measured.

use std::ops::Deref;
use std::sync::Arc;

use anyhow::{Result, bail};
use image::{RgbImage, imageops};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rayon::prelude::*;

use super::options::PairedArgs;
use super::units::{Unit, Units};
use crate::input::transforms::resized;
use restain_data::{Dataset, below, normal, unit as uniform};
use restain_lab::transform::{Ranges, Transform};
use restain_method::field::{FieldStain, GLASS, TISSUE_PATCH, luminance};

/// Sides of a crop from a field, in tiles.
const CROP: (f64, f64) = (0.8, 1.35);
/// Least share of a crop that is not glass.
const LEAST_TISSUE: f64 = 0.1;
/// Chance that of five crops the one with most glass is taken: for Xa, for Xb.
const GLASSY: [f64; 2] = [0.4, 0.2];
/// Crops that are tried.
const TRIES: [usize; 2] = [6, 5];
/// Images that are tried, of which all are damaged, before the run ends.
const IMAGES: usize = 1000;
/// Deviation of the noise of pasted glass, in levels.
const GLASS_NOISE: f64 = 1.0;
/// Nodes along a side of the random relief whose highest part becomes glass.
const NODES: usize = 4;

/// The tiles and the plan of `n` pairs.
#[derive(Clone)]
pub(crate) struct PairBatch {
    /// u8 [2n, H, W, 3]: every Xa, then every Xb.
    pub pixels: Vec<u8>,
    pub plan: Plan,
}

/// What a step needs to know about its pairs.
#[derive(Clone, Default)]
pub(crate) struct Plan {
    /// g of each pair.
    pub transforms: Vec<Transform>,
    /// The stain of each pair's field, and its domain.
    pub stains: Vec<FieldStain>,
    pub domains: Vec<usize>,
    /// For each tile, which patches are tissue: [2n, N].
    pub tissue: Vec<Vec<bool>>,
}

/// Draws pairs of tiles from a data set.
pub(crate) struct Pairs<D> {
    dataset: D,
    units: Units,
    args: PairedArgs,
    /// Sides of a tile and of a patch, pixels.
    tile: u32,
    patch: u32,
}

impl<D: Deref<Target = Dataset> + Sync> Pairs<D> {
    /// Measures the stains of a data set, for tiles and patches of these sides, pixels.
    ///
    /// # Errors
    /// If too many images are damaged, or no field, slide or domain has two stains.
    pub(crate) fn new(dataset: D, args: PairedArgs, tile: usize, patch: usize) -> Result<Self> {
        let units = Units::measure(&dataset, tile as u32)?;
        Ok(Self { dataset, units, args, tile: tile as u32, patch: patch as u32 })
    }

    /// Returns the threads that draw pairs.
    pub(crate) fn workers(&self) -> &rayon::ThreadPool {
        self.dataset.workers()
    }

    /// Draws pairs `first .. first + n`.
    ///
    /// # Errors
    /// If too many images are damaged.
    pub(crate) fn batch(&self, seed: u64, first: u64, n: usize) -> Result<PairBatch> {
        let drawn = (0..n as u64)
            .into_par_iter()
            .map(|i| self.pair(seed, first + i))
            .collect::<Result<Vec<_>>>()?;
        let (mut tiles, mut plan) = ([Vec::new(), Vec::new()], Plan::default());
        for (unit, [a, b], transform) in drawn {
            tiles[0].push(a);
            tiles[1].push(b);
            plan.transforms.push(transform);
            plan.stains.push(unit.stain.clone());
            plan.domains.push(unit.domain);
        }
        let tiles: Vec<RgbImage> = tiles.into_iter().flatten().collect();
        plan.tissue = tiles.iter().map(|tile| tissue_patches(tile, self.patch)).collect();
        let pixels = tiles.iter().flat_map(|tile| tile.as_raw()).copied().collect();
        Ok(PairBatch { pixels, plan })
    }

    fn pair(&self, seed: u64, index: u64) -> Result<(&Unit, [RgbImage; 2], Transform)> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(index);
        let rng = &mut rng;
        let domain = self.domain(seed, index);
        let unit = self.member(domain, rng);
        let mut tiles = [self.pick(unit, GLASSY[0], rng)?, self.pick(unit, GLASSY[1], rng)?];
        if uniform(rng) < self.args.glass {
            tiles.iter_mut().for_each(|tile| paste_glass(tile, &unit.stain, rng));
        }
        let target = self.target(domain, rng);
        let transform = if uniform(rng) < self.args.quantiles {
            Transform::quantiles(&unit.stain, &target.stain, &Ranges::quantiles(), rng)
        } else {
            Transform::beer_lambert(&unit.stain, &target.stain, &Ranges::beer_lambert(), rng)
        };
        Ok((unit, tiles, transform))
    }

    /// Returns the domain of a pair: every round of the domains is in an order of its own.
    fn domain(&self, seed: u64, index: u64) -> usize {
        let domains = self.units.domains.len();
        let mut rng = ChaCha8Rng::seed_from_u64(!seed);
        rng.set_stream(index / domains as u64);
        let mut order: Vec<usize> = (0..domains).collect();
        for i in (1..domains).rev() {
            order.swap(i, below(&mut rng, i as u64 + 1) as usize);
        }
        order[(index % domains as u64) as usize]
    }

    fn member(&self, domain: usize, rng: &mut ChaCha8Rng) -> &Unit {
        let members = &self.units.domains[domain];
        &self.units.all[members[below(rng, members.len() as u64) as usize]]
    }

    /// Draws the unit whose stain a transform goes towards: of another domain, where there is one, or else of any field.
    fn target(&self, domain: usize, rng: &mut ChaCha8Rng) -> &Unit {
        let domains = self.units.domains.len();
        if domains == 1 {
            return &self.units.all[below(rng, self.units.all.len() as u64) as usize];
        }
        let other = (domain + 1 + below(rng, domains as u64 - 1) as usize) % domains;
        self.member(other, rng)
    }

    /// Draws a crop with some tissue: with probability `glassy` the one of five with most glass, or else the first of six.
    fn pick(&self, unit: &Unit, glassy: f64, rng: &mut ChaCha8Rng) -> Result<RgbImage> {
        let seeks = uniform(rng) < glassy;
        let mut best: Option<(f64, RgbImage)> = None;
        for left in (0..TRIES[usize::from(seeks)]).rev() {
            let crop = self.crop(unit, rng)?;
            let tissue = tissue_share(&crop);
            let enough = tissue >= LEAST_TISSUE;
            if !seeks && (enough || left == 0) {
                return Ok(crop);
            }
            let is_best = match &best {
                Some((least, _)) => enough && tissue < *least,
                None => enough || left == 0,
            };
            if is_best {
                best = Some((tissue, crop));
            }
        }
        Ok(best.expect("the last crop is taken if no other was").1)
    }

    /// Draws a square part of an image of the unit, resized to a tile, turned and flipped.
    fn crop(&self, unit: &Unit, rng: &mut ChaCha8Rng) -> Result<RgbImage> {
        let image = self.image(unit, rng)?;
        let (width, height) = image.dimensions();
        let shorter = f64::from(width.min(height));
        let tile = f64::from(self.tile);
        let high = (CROP.1.max(self.args.largest_crop) * tile).min(shorter);
        let low = (CROP.0 * tile).min(high);
        // Up to the usual crop all sides are equally likely; larger ones by their logarithm.
        let side = if self.args.largest_crop > CROP.1 {
            (low.ln() + (high / low).ln() * uniform(rng)).exp()
        } else {
            low + (high - low) * uniform(rng)
        };
        let side = (side.round() as u32).clamp(1, width.min(height));
        let x = below(rng, u64::from(width - side) + 1) as u32;
        let y = below(rng, u64::from(height - side) + 1) as u32;
        let mut tile = resized(&image, [x, y, side, side], self.tile);
        tile = match below(rng, 4) {
            0 => tile,
            1 => imageops::rotate90(&tile),
            2 => imageops::rotate180(&tile),
            _ => imageops::rotate270(&tile),
        };
        if uniform(rng) < 0.5 {
            imageops::flip_horizontal_in_place(&mut tile);
        }
        Ok(tile)
    }

    fn image(&self, unit: &Unit, rng: &mut ChaCha8Rng) -> Result<Arc<RgbImage>> {
        for _ in 0..IMAGES {
            let place = unit.sources[below(rng, unit.sources.len() as u64) as usize];
            if let Some(image) = self.dataset.readable(&self.dataset.sources[place])? {
                return Ok(image);
            }
        }
        bail!("{IMAGES} images in a row are damaged")
    }
}

fn luminances(tile: &RgbImage) -> impl Iterator<Item = f64> {
    tile.pixels().map(|pixel| luminance(pixel.0.map(|level| f64::from(level) / 255.0)))
}

fn tissue_share(tile: &RgbImage) -> f64 {
    let glass = luminances(tile).filter(|&l| l > GLASS).count();
    1.0 - glass as f64 / f64::from(tile.width() * tile.height())
}

/// Returns which patches are tissue, row by row.
fn tissue_patches(tile: &RgbImage, patch: u32) -> Vec<bool> {
    let grid = (tile.width() / patch) as usize;
    let mut sums = vec![0.0; grid * grid];
    for ((x, y, _), l) in tile.enumerate_pixels().zip(luminances(tile)) {
        sums[(y / patch) as usize * grid + (x / patch) as usize] += l;
    }
    sums.into_iter().map(|sum| sum / f64::from(patch * patch) < TISSUE_PATCH).collect()
}

/// Turns a part of a tile with a smooth border into glass of the field, with a little noise.
fn paste_glass(tile: &mut RgbImage, stain: &FieldStain, rng: &mut ChaCha8Rng) {
    let relief: Vec<f64> = (0..NODES * NODES).map(|_| normal(rng)).collect();
    // Above this height glass lies; the smaller, the more.
    let height = normal(rng) * 0.5;
    let width = 0.05 + 0.25 * uniform(rng);
    let last = (NODES - 1) as f64 / f64::from(tile.width() - 1).max(1.0);
    for (x, y, pixel) in tile.enumerate_pixels_mut() {
        let (u, v) = (f64::from(x) * last, f64::from(y) * last);
        let (i, j) = ((u as usize).min(NODES - 2), (v as usize).min(NODES - 2));
        let (s, t) = (u - i as f64, v - j as f64);
        let at = |i: usize, j: usize| relief[j * NODES + i];
        let above = at(i, j) * (1.0 - s) + at(i + 1, j) * s;
        let under = at(i, j + 1) * (1.0 - s) + at(i + 1, j + 1) * s;
        // 0 is tissue, 1 glass.
        let share = ((above + (under - above) * t - height) / width + 0.5).clamp(0.0, 1.0);
        if share > 0.0 {
            let noise = GLASS_NOISE * normal(rng) * share;
            pixel.0 = std::array::from_fn(|c| {
                let white = 255.0 * stain.white[c];
                // In density the change is in proportion.
                let level = f64::from(pixel.0[c]).max(1.0).powf(1.0 - share) * white.powf(share);
                (level + noise).round().clamp(0.0, 255.0) as u8
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use restain_data::Selection;

    const ARGS: PairedArgs = PairedArgs {
        there: 1.0,
        back: 1.0,
        own: 0.5,
        invariance: 0.5,
        matching: 0.5,
        detail: 0.4,
        border: 0.3,
        draws: 1,
        quantiles: 0.5,
        glass: 0.5,
        largest_crop: 1.35,
    };

    /// Two domains of two fields each, of two stains whose amounts a formula makes, one corner glass; the red of each field
    /// is brighter than that of the one before.
    fn fields(dir: &std::path::Path) {
        for domain in 0..2u32 {
            std::fs::create_dir_all(dir.join(format!("d{domain}"))).unwrap();
            for field in 0..2u32 {
                let weaker = 1.0 + 0.4 * f64::from(domain * 2 + field);
                let image = RgbImage::from_fn(64, 64, |x, y| {
                    let i = x * 64 + y;
                    let amounts = match x < 16 && y < 16 {
                        true => [0.0; 2],
                        false => [f64::from(i * i % 31) / 25.0, f64::from((i * 7 + 3) % 29) / 25.0],
                    };
                    image::Rgb([0, 1, 2].map(|c| {
                        let od = amounts[0] * [0.65, 0.7, 0.29][c] / weaker
                            + amounts[1] * [0.07, 0.99, 0.11][c];
                        (242.0 * (-od).exp()).round() as u8
                    }))
                });
                image.save(dir.join(format!("d{domain}/{field}.png"))).unwrap();
            }
        }
    }

    fn pairs(dir: &std::path::Path, workers: usize) -> Pairs<Arc<Dataset>> {
        let dataset = Dataset::open(dir, &Selection { workers, ..Selection::default() }).unwrap();
        Pairs::new(Arc::new(dataset), ARGS, 16, 8).unwrap()
    }

    #[test]
    fn pairs_depend_neither_on_the_number_of_threads_nor_on_the_batch() {
        let dir = tempfile::tempdir().unwrap();
        fields(dir.path());
        let (one, four) = (pairs(dir.path(), 1), pairs(dir.path(), 4));
        let whole = one.batch(7, 10, 6).unwrap();
        let part = four.batch(7, 12, 2).unwrap();
        let tile = 16 * 16 * 3;
        assert_eq!(part.pixels[..2 * tile], whole.pixels[2 * tile..4 * tile]);
        assert_eq!(part.pixels[2 * tile..], whole.pixels[8 * tile..10 * tile]);
        assert_eq!(part.plan.transforms, whole.plan.transforms[2..4]);
        assert_ne!(one.batch(8, 10, 6).unwrap().pixels, whole.pixels);
    }

    #[test]
    fn domains_take_turns_and_both_tiles_are_of_one_field_whose_stain_comes_with_them() {
        let dir = tempfile::tempdir().unwrap();
        fields(dir.path());
        let pairs = pairs(dir.path(), 2);
        let plan = pairs.batch(3, 0, 8).unwrap().plan;
        for round in plan.domains.chunks(2) {
            assert_ne!(round[0], round[1]);
        }
        for (stain, &domain) in plan.stains.iter().zip(&plan.domains) {
            let of = pairs.units.all.iter().filter(|unit| unit.stain == *stain);
            assert!(of.clone().count() >= 1 && of.into_iter().any(|unit| unit.domain == domain));
        }
        assert!(plan.transforms.iter().zip(&plan.stains).all(|(g, stain)| g.white == stain.white));
        assert!(plan.tissue.iter().all(|patches| patches.len() == 4));
    }

    #[test]
    fn pasted_glass_has_the_white_of_its_field_and_leaves_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        fields(dir.path());
        let pairs = pairs(dir.path(), 1);
        let stain = &pairs.units.all[0].stain;
        let (mut glass, mut kept) = (0, 0);
        for stream in 0..20 {
            let mut rng = ChaCha8Rng::seed_from_u64(1);
            rng.set_stream(stream);
            let mut tile = RgbImage::from_pixel(32, 32, image::Rgb([90, 60, 120]));
            paste_glass(&mut tile, stain, &mut rng);
            for pixel in tile.pixels() {
                let off = |c: usize| (f64::from(pixel.0[c]) - 255.0 * stain.white[c]).abs();
                glass += usize::from((0..3).all(|c| off(c) < 6.0));
                kept += usize::from(pixel.0 == [90, 60, 120]);
            }
        }
        assert!(glass > 4000 && kept > 4000, "{glass} glass, {kept} kept");
    }

    #[test]
    fn tiles_of_one_slide_or_domain_are_one_unit() {
        let dir = tempfile::tempdir().unwrap();
        fields(dir.path());
        let dataset = Dataset::open(dir.path(), &Selection::default()).unwrap();
        // For tiles of 64 px these fields are tiles.
        let units = Units::measure(&dataset, 64).unwrap();
        let sources: Vec<_> = units.all.iter().map(|unit| unit.sources.clone()).collect();
        assert_eq!(sources, [[0, 1], [2, 3]]);
        assert_eq!(Units::measure(&dataset, 32).unwrap().all.len(), 4);
    }

    #[test]
    fn a_data_set_without_two_stains_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let grey = RgbImage::from_fn(64, 64, |x, y| image::Rgb([(x + y) as u8; 3]));
        grey.save(dir.path().join("grey.png")).unwrap();
        let dataset = Dataset::open(dir.path(), &Selection::default()).unwrap();
        let refused = Units::measure(&dataset, 16).err().unwrap().to_string();
        assert!(refused.contains("none of the 1 of this data set has two stains"), "{refused}");
    }
}
