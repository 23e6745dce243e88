//! The split between the tiles that the judge is trained on and those that it judges: never the
//! same tiles, and if possible not of the same images.
//!
//! Of a domain with two or more images the judge is trained on every other one. Of a single image
//! it is trained on the upper half and judges the lower, which is easier, because both show one
//! section. With `--classifier-data` it is trained on other images, and judges every tile.

use std::path::Path;

use anyhow::{Result, ensure};
use image::{RgbImage, imageops};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::classifier::Tiles;
use crate::encodings::Sampled;
use crate::evaluate::EvaluateArgs;
use restain_data::{Dataset, Selection, Source, below};

/// Most tiles of a domain that the judge's accuracy is measured on.
const HELD_OUT: usize = 100;
/// One training tile in this many is a validation tile, for the best epoch.
const VALIDATION: usize = 5;

pub(super) struct Split {
    pub training: Tiles,
    pub validation: Tiles,
    pub held_out: Tiles,
    /// By domain and evaluated tile: whether the judge may judge it.
    pub judged: Vec<Vec<bool>>,
    pub trained_on: String,
}

/// Part of an image: rows of tiles `first..end`.
struct Region<'a> {
    source: &'a Source,
    first: usize,
    end: usize,
}

/// The evaluated data set, its sampled tiles by domain, and the side of a tile.
pub(super) struct Held<'a> {
    pub dataset: &'a Dataset,
    pub sampled: &'a [Vec<Sampled>],
    pub side: usize,
}

impl Held<'_> {
    /// Makes the split, or returns the reason why there is none.
    ///
    /// # Errors
    /// If `--classifier-data` cannot be used, or more images are damaged than allowed.
    pub(super) fn split(&self, args: &EvaluateArgs) -> Result<Result<Split, String>> {
        if self.dataset.domains.len() < 2 {
            return Ok(Err("there is one domain only".to_owned()));
        }
        match &args.classifier_data {
            Some(folder) => self.by_other_data(folder, args).map(Ok),
            None => self.by_image(args),
        }
    }

    fn by_other_data(&self, folder: &Path, args: &EvaluateArgs) -> Result<Split> {
        let other = &Dataset::open(folder, &Selection::default())?;
        let same_folder = std::fs::canonicalize(&args.on.data)? == std::fs::canonicalize(folder)?;
        let folder = folder.display();
        let evaluated = |source: &Source| {
            same_folder && self.dataset.sources.iter().any(|held| held.path == source.path)
        };
        let mut trained = Vec::new();
        for name in &self.dataset.domains {
            let of_domain = other
                .sources
                .iter()
                .filter(|source| other.domains[source.domain] == *name && !evaluated(source));
            let regions: Vec<Region> = of_domain.map(|source| self.whole(source)).collect();
            ensure!(
                !regions.is_empty(),
                "--classifier-data {folder} has no images of domain {name} besides the evaluated \
                ones"
            );
            trained.push(regions);
        }
        let held = (0..trained.len())
            .map(|domain| self.of_domain(domain).map(|(_, source)| self.whole(source)).collect())
            .collect();
        let images: usize = trained.iter().map(Vec::len).sum();
        self.tiles(
            (other, trained),
            held,
            args,
            format!("{images} images of {folder}, none of them evaluated"),
        )
    }

    fn by_image(&self, args: &EvaluateArgs) -> Result<Result<Split, String>> {
        let (mut trained, mut held, mut halved): (Vec<Vec<Region>>, Vec<Vec<Region>>, Vec<&str>) =
            (Vec::new(), Vec::new(), Vec::new());
        for (domain, name) in self.dataset.domains.iter().enumerate() {
            let sources: Vec<&Source> = self.of_domain(domain).map(|(_, source)| source).collect();
            if let [source] = sources[..] {
                let rows = self.rows(source);
                if rows < 2 {
                    return Ok(Err(format!(
                        "the only image of domain {name} has one row of tiles, which cannot be \
                        split: give --classifier-data"
                    )));
                }
                trained.push(vec![Region { source, first: 0, end: rows / 2 }]);
                held.push(vec![Region { source, first: rows / 2, end: rows }]);
                halved.push(name);
            } else {
                let every_other = |offset| {
                    sources
                        .iter()
                        .skip(offset)
                        .step_by(2)
                        .map(|source| self.whole(source))
                        .collect()
                };
                held.push(every_other(0));
                trained.push(every_other(1));
            }
        }
        let trained_on = match (halved.len(), self.dataset.domains.len()) {
            (0, _) => "every other evaluated image; it judges the others".to_owned(),
            (halves, all) if halves == all => {
                "the upper half of each evaluated image; it judges the lower half".to_owned()
            }
            _ => format!(
                "every other evaluated image, and the upper half of the only image of {}; it \
                judges the rest",
                halved.join(", ")
            ),
        };
        self.tiles((self.dataset, trained), held, args, trained_on).map(Ok)
    }

    fn tiles(
        &self,
        trained: (&Dataset, Vec<Vec<Region>>),
        held: Vec<Vec<Region>>,
        args: &EvaluateArgs,
        trained_on: String,
    ) -> Result<Split> {
        let empty = || Tiles { side: self.side, ..Tiles::default() };
        let (mut training, mut validation, mut held_out) = (empty(), empty(), empty());
        for (label, regions) in trained.1.iter().enumerate() {
            let mut rng = ChaCha8Rng::seed_from_u64(args.seed);
            rng.set_stream(label as u64);
            for index in 0..args.classifier_tiles {
                let region = &regions[below(&mut rng, regions.len() as u64) as usize];
                let tile = self.crop(trained.0.image(region.source)?.as_ref(), region, &mut rng);
                push(
                    if index % VALIDATION == VALIDATION - 1 {
                        &mut validation
                    } else {
                        &mut training
                    },
                    tile,
                    label,
                );
            }
            let tiles = self.held_tiles(&held[label])?;
            // At most `HELD_OUT`, evenly spaced.
            let step = tiles.len().div_ceil(HELD_OUT).max(1);
            tiles.into_iter().step_by(step).for_each(|tile| push(&mut held_out, tile, label));
        }
        let inside = |sampled: &Sampled| {
            let source = &self.dataset.sources[sampled.source];
            let row = sampled.cell / (source.width as usize / self.side).max(1);
            held[source.domain].iter().any(|region| {
                std::ptr::eq(region.source, source) && (region.first..region.end).contains(&row)
            })
        };
        let judged = self.sampled.iter().map(|tiles| tiles.iter().map(inside).collect()).collect();
        Ok(Split { training, validation, held_out, judged, trained_on })
    }

    fn held_tiles(&self, regions: &[Region]) -> Result<Vec<RgbImage>> {
        let mut tiles = Vec::new();
        for region in regions.iter().take(HELD_OUT * 4) {
            let columns = (region.source.width as usize / self.side).max(1);
            let grid = self.dataset.grid_tiles(region.source, self.side)?;
            tiles.extend(
                grid.into_iter()
                    .skip(region.first * columns)
                    .take((region.end - region.first) * columns),
            );
        }
        Ok(tiles)
    }

    /// Crops a tile at a random place of a region; resizes an image that is smaller than a tile.
    fn crop(&self, image: &RgbImage, region: &Region, rng: &mut ChaCha8Rng) -> RgbImage {
        let side = self.side as u32;
        if image.width() < side || image.height() < side {
            return imageops::resize(image, side, side, imageops::FilterType::CatmullRom);
        }
        let (top, height) = (region.first as u32 * side, (region.end - region.first) as u32 * side);
        let x = below(rng, u64::from(image.width() - side) + 1) as u32;
        let y = top + below(rng, u64::from(height - side) + 1) as u32;
        imageops::crop_imm(image, x, y, side, side).to_image()
    }

    fn of_domain(&self, domain: usize) -> impl Iterator<Item = (usize, &Source)> {
        self.dataset.sources.iter().enumerate().filter(move |(_, source)| source.domain == domain)
    }

    fn rows(&self, source: &Source) -> usize {
        (source.height as usize / self.side).max(1)
    }

    fn whole<'a>(&self, source: &'a Source) -> Region<'a> {
        Region { source, first: 0, end: self.rows(source) }
    }
}

fn push(tiles: &mut Tiles, tile: RgbImage, label: usize) {
    tiles.pixels.push(tile.into_raw());
    tiles.labels.push(label);
}
