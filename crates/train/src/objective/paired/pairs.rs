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

use super::base::Base;
use super::glass::{Cover, paste_glass};
use super::options::PairedArgs;
use super::units::{Unit, Units};
use crate::input::transforms::resized;
use restain_data::{Dataset, below, unit as uniform};
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
/// Chance that, where glass is pasted, Xa becomes glass as a whole.
const BLANK: f64 = 0.15;
/// Keep the draws of crops and of other stains apart from those of fields.
const CROPS: u64 = 0x6372_6f70_7300_0000;
const BASES: u64 = 0x6261_7365_7300_0000;

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
    /// The draw of a field that each pair belongs to. Pairs of one draw share field and transform.
    pub draws: Vec<u64>,
    /// g of each pair.
    pub transforms: Vec<Transform>,
    /// The stain of each pair's field, before its transform.
    pub stains: Vec<FieldStain>,
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

/// A field's stain before the transform, two of its tiles in that stain, and the transform.
type Pair = (FieldStain, [RgbImage; 2], Transform);

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
        for (index, (stain, [a, b], transform)) in (first..).zip(drawn) {
            tiles[0].push(a);
            tiles[1].push(b);
            plan.draws.push(self.draw(index));
            plan.transforms.push(transform);
            plan.stains.push(stain);
        }
        let tiles: Vec<RgbImage> = tiles.into_iter().flatten().collect();
        plan.tissue = tiles.iter().map(|tile| tissue_patches(tile, self.patch)).collect();
        let pixels = tiles.iter().flat_map(|tile| tile.as_raw()).copied().collect();
        Ok(PairBatch { pixels, plan })
    }

    /// Returns the draw of a field that pair `index` belongs to.
    fn draw(&self, index: u64) -> u64 {
        index / self.args.field_pairs as u64
    }

    fn pair(&self, seed: u64, index: u64) -> Result<Pair> {
        let draw = self.draw(index);
        let (unit, base, transform) = self.field(seed, draw);
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ CROPS);
        rng.set_stream(index);
        let rng = &mut rng;
        let mut tiles = [self.pick(unit, GLASSY[0], rng)?, self.pick(unit, GLASSY[1], rng)?];
        if uniform(rng) < self.args.glass {
            let cover = if uniform(rng) < BLANK { Cover::All } else { Cover::Part };
            paste_glass(&mut tiles[0], &unit.stain, cover, rng);
            paste_glass(&mut tiles[1], &unit.stain, Cover::Part, rng);
        }
        Ok((base.stain.clone(), tiles.map(|tile| base.apply(tile)), transform))
    }

    /// Draws a field, the stain that it has, and its transform.
    fn field(&self, seed: u64, draw: u64) -> (&Unit, Base, Transform) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(draw);
        let rng = &mut rng;
        let domain = self.domain(seed, draw);
        let unit = self.member(domain, rng);
        let target = self.target(domain, rng);
        let base = self.base((seed, draw), domain, unit);
        let (stain, ranges) = (&base.stain, self.ranges(rng));
        let transform = if uniform(rng) < self.args.free {
            Transform::free(stain, &ranges, rng)
        } else if uniform(rng) < self.args.quantiles {
            Transform::quantiles(stain, &target.stain, &Ranges::quantiles(), rng)
        } else {
            Transform::beer_lambert(stain, &target.stain, &ranges, rng)
        };
        (unit, base, transform)
    }

    /// Draws the stain that a field has before its transform.
    fn base(&self, (seed, draw): (u64, u64), domain: usize, unit: &Unit) -> Base {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ BASES);
        rng.set_stream(draw);
        let rng = &mut rng;
        if uniform(rng) >= self.args.base {
            return Base::own(&unit.stain);
        }
        let (other, ranges) = (self.target(domain, rng), self.ranges(rng));
        Base::draw((&unit.stain, &unit.sample), &other.stain, &ranges, rng)
    }

    fn ranges(&self, rng: &mut ChaCha8Rng) -> Ranges {
        match uniform(rng) < self.args.wide {
            true => Ranges::wide(),
            false => Ranges::beer_lambert(),
        }
    }

    /// Returns the domain of a draw: every round of the domains is in an order of its own.
    fn domain(&self, seed: u64, draw: u64) -> usize {
        let domains = self.units.domains.len();
        let mut rng = ChaCha8Rng::seed_from_u64(!seed);
        rng.set_stream(draw / domains as u64);
        let mut order: Vec<usize> = (0..domains).collect();
        for i in (1..domains).rev() {
            order.swap(i, below(&mut rng, i as u64 + 1) as usize);
        }
        order[(draw % domains as u64) as usize]
    }

    fn member(&self, domain: usize, rng: &mut ChaCha8Rng) -> &Unit {
        let members = &self.units.domains[domain];
        &self.units.all[members[below(rng, members.len() as u64) as usize]]
    }

    /// Draws the unit whose stain a transform goes towards: of another domain, where there is one,
    /// or else of any field.
    fn target(&self, domain: usize, rng: &mut ChaCha8Rng) -> &Unit {
        let domains = self.units.domains.len();
        if domains == 1 {
            return &self.units.all[below(rng, self.units.all.len() as u64) as usize];
        }
        let other = (domain + 1 + below(rng, domains as u64 - 1) as usize) % domains;
        self.member(other, rng)
    }

    /// Draws a crop with some tissue: with probability `glassy` the one of five with most glass, or
    /// else the first of six.
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

#[cfg(test)]
mod tests;
