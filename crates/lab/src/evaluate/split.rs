//! Which tiles the judge learns from and which it is asked about: never the same, and where there is a choice never of
//! the same image.
//!
//! A domain of two or more images gives every other one to learn from. Of a single image the upper half of its rows of
//! tiles is learnt from and the lower judged: easier, as both show one section. `--classifier-data` gives other images
//! to learn from, and then every held-out tile can be judged.

use std::path::Path;

use anyhow::{Result, ensure};
use image::{RgbImage, imageops};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::classifier::Tiles;
use crate::encodings::Sampled;
use crate::evaluate::EvaluateArgs;
use restain_data::{Dataset, Selection, Source, below};

/// Tiles of a domain that the judge's accuracy is measured on, at most.
const HELD_OUT: usize = 100;
/// One training tile in so many chooses the judge's best epoch.
const VALIDATION: usize = 5;

pub(super) struct Split {
    pub training: Tiles,
    pub validation: Tiles,
    pub held_out: Tiles,
    /// By domain and evaluated tile: whether the judge may be asked about it.
    pub judged: Vec<Vec<bool>>,
    pub trained_on: String,
}

/// Part of an image: rows of tiles from `first` to before `end`.
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
    /// The split, or why there is none.
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
        let mut learnt = Vec::new();
        for name in &self.dataset.domains {
            let of_domain = other
                .sources
                .iter()
                .filter(|source| other.domains[source.domain] == *name && !evaluated(source));
            let regions: Vec<Region> = of_domain.map(|source| self.whole(source)).collect();
            ensure!(
                !regions.is_empty(),
                "--classifier-data {folder} has no images of domain {name} besides the evaluated ones"
            );
            learnt.push(regions);
        }
        let held = (0..learnt.len())
            .map(|domain| self.of_domain(domain).map(|(_, source)| self.whole(source)).collect())
            .collect();
        let images: usize = learnt.iter().map(Vec::len).sum();
        self.tiles(
            (other, learnt),
            held,
            args,
            format!("{images} images of {folder}, none of them evaluated"),
        )
    }

    fn by_image(&self, args: &EvaluateArgs) -> Result<Result<Split, String>> {
        let (mut learnt, mut held, mut halved): (Vec<Vec<Region>>, Vec<Vec<Region>>, Vec<&str>) =
            (Vec::new(), Vec::new(), Vec::new());
        for (domain, name) in self.dataset.domains.iter().enumerate() {
            let sources: Vec<&Source> = self.of_domain(domain).map(|(_, source)| source).collect();
            if let [source] = sources[..] {
                let rows = self.rows(source);
                if rows < 2 {
                    return Ok(Err(format!(
                        "the one image of domain {name} is one row of tiles: give --classifier-data"
                    )));
                }
                learnt.push(vec![Region { source, first: 0, end: rows / 2 }]);
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
                learnt.push(every_other(1));
            }
        }
        let trained_on = match (halved.len(), self.dataset.domains.len()) {
            (0, _) => "every other evaluated image; judged are the others".to_owned(),
            (halves, all) if halves == all => {
                "the upper half of each evaluated image; judged is the lower".to_owned()
            }
            _ => format!(
                "every other evaluated image, of {} the upper half of the only one; judged is the rest",
                halved.join(", ")
            ),
        };
        self.tiles((self.dataset, learnt), held, args, trained_on).map(Ok)
    }

    fn tiles(
        &self,
        learnt: (&Dataset, Vec<Vec<Region>>),
        held: Vec<Vec<Region>>,
        args: &EvaluateArgs,
        trained_on: String,
    ) -> Result<Split> {
        let empty = || Tiles { side: self.side, ..Tiles::default() };
        let (mut training, mut validation, mut held_out) = (empty(), empty(), empty());
        for (label, regions) in learnt.1.iter().enumerate() {
            let mut rng = ChaCha8Rng::seed_from_u64(args.seed);
            rng.set_stream(label as u64);
            for index in 0..args.classifier_tiles {
                let region = &regions[below(&mut rng, regions.len() as u64) as usize];
                let tile = self.crop(learnt.0.image(region.source)?.as_ref(), region, &mut rng);
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
            // As many as may be, evenly over all of them.
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

    /// A random place of a region; what is smaller than a tile is resized to one.
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
