//! Validation on a held-out set of images.
//!
//! Whole images of every domain are held out. The choice depends on seed and path alone, so that a
//! resumed run, and another run on the same folder, hold out the same. Every validation uses the
//! same tiles and random numbers, so that its curve changes only if the weights do. Tiles are cut
//! on a grid and not augmented.

use anyhow::{Context, Result, bail, ensure};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::input::loader::standardise;
use crate::model::inference::encode;
use crate::model::mixing::Synthesiser;
use crate::model::vit::Vit;
use crate::objective::paired::options::PairedArgs;
use crate::objective::paired::pairs::{Pairs, Plan};
use crate::objective::paired::truth::Truth;
use crate::objective::recipe::{Recipe, RecipeArgs};
use crate::objective::scene::{Batch, Scene};
use crate::run::checkpoint::{RunHeader, Score};
use restain_data::{Dataset, Source, below};
use restain_method::metrics::{psnr, ssim};
use restain_method::synth;

/// By default one image in this many is held out, at most `MOST` of a domain, if every domain has
/// this many.
const ONE_IN: usize = 20;
const MOST: usize = 50;
/// The window of SSIM, pixels.
const LEAST_SIDE: usize = 11;
/// The PSNR of a reconstruction without error, so that means stay finite.
const FLAWLESS_DB: f64 = 100.0;
/// First draw of validation; draws of training count from zero and never reach it.
const DRAWS: u64 = 1 << 62;

/// A data set split in two: to train on, and held out for validation.
pub(crate) struct Parts {
    pub training: Dataset,
    /// Empty without validation.
    pub kept_out: Dataset,
}

/// Holds out a share of every domain's images, at least one each; `None` decides by their number.
///
/// # Errors
/// If a share is asked for and a domain has only one image.
pub(crate) fn split(dataset: Dataset, share: Option<f64>, seed: u64) -> Result<Parts> {
    let images: Vec<usize> = (0..dataset.domains.len())
        .map(|d| dataset.sources.iter().filter(|s| s.domain == d).count())
        .collect();
    let plenty = images.iter().all(|&count| count >= ONE_IN);
    let mut wanted = Vec::new();
    for (domain, &count) in dataset.domains.iter().zip(&images) {
        wanted.push(match share {
            Some(0.0) => 0,
            None => {
                if plenty {
                    (count / ONE_IN).min(MOST)
                } else {
                    0
                }
            }
            Some(share) => {
                ensure!(
                    count > 1,
                    "--validation-share {share} holds out whole images, so every domain needs two \
                    or more: {domain} has {count}"
                );
                ((count as f64 * share).round() as usize).clamp(1, count - 1)
            }
        });
    }
    // Images are ordered by a digest of seed and path, so that adding an image does not change the
    // order of others.
    let mut order: Vec<&Source> = dataset.sources.iter().collect();
    order.sort_by_cached_key(|source| *digest(source, seed).as_bytes());
    let mut kept: Vec<_> = Vec::new();
    for source in order {
        if wanted[source.domain] > 0 {
            wanted[source.domain] -= 1;
            kept.push(source.path.clone());
        }
    }
    kept.sort();
    let (kept_out, training) = dataset.partition(|source| kept.binary_search(&source.path).is_ok());
    Ok(Parts { training, kept_out })
}

fn digest(source: &Source, seed: u64) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes()).update(source.path.as_os_str().as_encoded_bytes());
    hasher.finalize()
}

/// Samples up to `count` tiles, u8 [H, W, 3], from the domains and their images in turn. Returns
/// each with its domain.
///
/// # Errors
/// If more images are damaged than the data set allows.
pub(crate) fn tiles_in_turn(
    dataset: &Dataset,
    tile: usize,
    count: usize,
    seed: u64,
) -> Result<Vec<(usize, Vec<u8>)>> {
    let mut members: Vec<Vec<&Source>> = (0..dataset.domains.len())
        .map(|d| dataset.sources.iter().filter(|source| source.domain == d).collect())
        .collect();
    members.iter_mut().for_each(|of_domain| {
        of_domain.sort_by_cached_key(|source| *digest(source, seed).as_bytes())
    });
    let mut tiles = Vec::new();
    let most = members.iter().map(Vec::len).max().unwrap_or(0);
    // Rounds in a row without a new tile; after one for every image no tile is left.
    let mut idle = 0;
    for round in 0.. {
        let before = tiles.len();
        for (domain, sources) in
            members.iter().enumerate().filter(|(_, sources)| !sources.is_empty())
        {
            if tiles.len() == count {
                return Ok(tiles);
            }
            let (source, turn) = (sources[round % sources.len()], round / sources.len());
            let cut = dataset.grid_tiles(source, tile)?;
            if turn < cut.len() {
                // From a random cell on, so that it is not always the corner of a field.
                let first = below(&mut ChaCha8Rng::seed_from_u64(seed), cut.len() as u64) as usize;
                tiles.push((domain, cut[(first + turn) % cut.len()].as_raw().clone()));
            }
        }
        idle = if tiles.len() == before { idle + 1 } else { 0 };
        if idle > most {
            break;
        }
    }
    Ok(tiles)
}

/// A batch of tiles, each u8 [H, W, 3], and the plan of a batch of pairs.
type Batched = (Vec<Vec<u8>>, Option<Plan>);

/// The tiles of every validation.
pub(crate) struct Validation {
    batches: Vec<Batched>,
}

/// The result of a validation.
pub(crate) struct Outcome {
    /// The terms of the loss, means over tiles.
    pub terms: Vec<(&'static str, f64)>,
    /// Further figures; for pairs the error to the truth.
    pub figures: Vec<(&'static str, f64)>,
    pub score: Score,
}

impl Validation {
    /// Chooses the tiles; `None` if no images are held out.
    ///
    /// # Errors
    /// If tiles are too small for SSIM, or more images are damaged than the data set allows.
    pub(crate) fn new(
        kept_out: &Dataset,
        objective: &RecipeArgs,
        header: &RunHeader,
        (count, batch): (usize, usize),
    ) -> Result<Option<Self>> {
        let (tile, seed) = (header.geometry.image_size(), header.seed);
        if kept_out.sources.is_empty() || count == 0 {
            return Ok(None);
        }
        let batches: Vec<_> = if objective.recipe == Recipe::Paired {
            let patch = header.geometry.patch_size();
            // Held-out fields in the stains that they have.
            let paired = PairedArgs { base: 0.0, ..objective.paired };
            let pairs = Pairs::new(kept_out, paired, tile, patch)
                .context("the images held out for validation")?;
            paired_batches(&pairs, seed, tile, (count, batch))?
        } else {
            let drawn = tiles_in_turn(kept_out, tile, count, seed)?;
            let tiles: Vec<_> = drawn.into_iter().map(|(_, tile)| tile).collect();
            tiles.chunks(batch).map(|tiles| (tiles.to_vec(), None)).collect()
        };
        ensure!(
            batches.is_empty() || tile >= LEAST_SIDE,
            "validation computes SSIM, which needs tiles of at least {LEAST_SIDE} px: --image-size \
            is {tile}"
        );
        Ok((!batches.is_empty()).then_some(Self { batches }))
    }

    /// Computes the training loss, in the precision of training, and the quality of
    /// reconstructions.
    ///
    /// # Errors
    /// If a term of the loss is not finite.
    pub(crate) fn measure(
        &self,
        vit: &Vit,
        header: &RunHeader,
        objective: &RecipeArgs,
    ) -> Result<Outcome> {
        let _guard = tch::no_grad_guard();
        let synth = Synthesiser { geometry: header.geometry, pixel_order: header.pixel_order };
        let scene = Scene { vit, synth: &synth, normalisation: &header.normalisation };
        let side = header.geometry.image_size();
        let mut terms: Vec<(&'static str, f64)> = Vec::new();
        let (mut quality, mut truth) = ([0.0; 2], Truth::default());
        let count: usize = self.batches.iter().map(|(tiles, _)| tiles.len()).sum();
        for (draw, (batch, plan)) in (DRAWS..).zip(&self.batches) {
            let raw = batch.concat();
            let tiles = standardise(&raw, batch.len(), side, &header.normalisation, vit.device());
            let share = batch.len() as f64 / count as f64;
            let given = Batch { tiles, plan: plan.clone() };
            let values = objective.losses(&scene, &given, header.seed, draw).values();
            if let Some(plan) = plan {
                truth.add(&scene, (&given.tiles, plan), (header.seed, draw));
            }
            terms.resize_with(values.len(), || ("", 0.0));
            terms
                .iter_mut()
                .zip(values)
                .for_each(|(term, (name, value))| *term = (name, term.1 + share * value));
            let [psnr_sum, ssim_sum] = reconstruction(vit, header, batch)?;
            quality[0] += psnr_sum / count as f64;
            quality[1] += ssim_sum / count as f64;
        }
        if let Some((term, value)) = terms.iter().find(|(_, value)| !value.is_finite()) {
            bail!(
                "the validation loss term {term} is {value} at step {}: the last saved state is \
                unchanged",
                header.step
            );
        }
        let total = terms.iter().map(|(_, value)| value).sum();
        Ok(Outcome {
            terms,
            figures: truth.figures(),
            score: Score { step: header.step, total, psnr_db: quality[0], ssim: quality[1] },
        })
    }
}

/// Draws about `count` tiles as pairs, in batches of at most `batch` tiles, two at least.
fn paired_batches(
    pairs: &Pairs<&Dataset>,
    seed: u64,
    tile: usize,
    (count, batch): (usize, usize),
) -> Result<Vec<Batched>> {
    let of_batch = (batch.min(count) / 2).max(1);
    (0..(count / 2 / of_batch).max(1))
        .map(|i| {
            let made = pairs.batch(seed, DRAWS + (i * of_batch) as u64, of_batch)?;
            let tiles = made.pixels.chunks_exact(tile * tile * 3).map(<[u8]>::to_vec).collect();
            Ok((tiles, Some(made.plan)))
        })
        .collect()
}

/// Returns the sums over tiles of PSNR, dB, and SSIM of their 8-bit reconstructions, by the
/// synthesiser that serves.
fn reconstruction(vit: &Vit, header: &RunHeader, tiles: &[Vec<u8>]) -> Result<[f64; 2]> {
    let synth = synth::Synthesiser::new(header.geometry, header.pixel_order, header.normalisation);
    let (geometry, side) = (header.geometry, header.geometry.image_size());
    let encodings = encode(vit, &header.normalisation, &tiles.concat(), tiles.len())?;
    let (mut scratch, mut out) = (synth.scratch(), vec![0; geometry.tile_bytes()]);
    let mut sums = [0.0; 2];
    let anatomies = encodings.anatomy.chunks_exact(geometry.tile_anatomy());
    let halves =
        anatomies.zip(encodings.characteristics.chunks_exact(geometry.tile_characteristics()));
    for (tile, (anatomy, characteristics)) in tiles.iter().zip(halves) {
        synth.aligned(anatomy, characteristics, &mut scratch, &mut out);
        sums[0] += psnr(tile, &out).min(FLAWLESS_DB);
        sums[1] += ssim(tile, &out, side, side);
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::*;
    use restain_data::Selection;

    fn folder(images: &[(&str, usize)]) -> (tempfile::TempDir, Dataset) {
        let dir = tempfile::tempdir().unwrap();
        for (domain, count) in images {
            std::fs::create_dir_all(dir.path().join(domain)).unwrap();
            for i in 0..*count {
                image::RgbImage::new(16, 16)
                    .save(dir.path().join(domain).join(format!("{i}.png")))
                    .unwrap();
            }
        }
        let dataset = Dataset::open(dir.path(), &Selection::default()).unwrap();
        (dir, dataset)
    }

    fn paths(dataset: &Dataset) -> Vec<std::path::PathBuf> {
        dataset.sources.iter().map(|source| source.path.clone()).collect()
    }

    #[test]
    fn every_domain_gives_whole_images_and_the_same_seed_the_same_ones() {
        let kept = |seed| {
            let (_dir, dataset) = folder(&[("a", 10), ("b", 2)]);
            let Parts { training, kept_out } = split(dataset, Some(0.3), seed).unwrap();
            assert_eq!((training.sources.len(), kept_out.sources.len()), (8, 4));
            assert!(paths(&kept_out).iter().all(|path| !paths(&training).contains(path)));
            assert_eq!(kept_out.sources.iter().filter(|source| source.domain == 1).count(), 1);
            paths(&kept_out)
        };
        assert_eq!(kept(1), kept(1));
        assert_ne!(kept(1), kept(2));
    }

    #[test]
    fn small_data_sets_are_not_split_unless_asked_to_and_large_ones_are() {
        let kept = |images: &[(&str, usize)], share| {
            split(folder(images).1, share, 0).map(|parts| parts.kept_out.sources.len())
        };
        assert_eq!(kept(&[("a", 40), ("b", 19)], None).unwrap(), 0);
        assert_eq!(kept(&[("a", 40), ("b", 20)], None).unwrap(), 3);
        assert_eq!(kept(&[("a", 40), ("b", 20)], Some(0.0)).unwrap(), 0);
        let refused = kept(&[("a", 5), ("b", 1)], Some(0.2)).unwrap_err().to_string();
        assert!(refused.contains("b has 1"), "{refused}");
    }

    #[test]
    fn tiles_come_by_turns_of_domains_and_never_twice() {
        let dir = tempfile::tempdir().unwrap();
        for (name, side) in
            [("a/field.png", 48), ("a/some.png", 17), ("a/tile.png", 16), ("b/tile.png", 16)]
        {
            std::fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
            image::RgbImage::from_fn(side, side, |x, y| image::Rgb([x as u8, y as u8, side as u8]))
                .save(dir.path().join(name))
                .unwrap();
        }
        let dataset = Dataset::open(dir.path(), &Selection::default()).unwrap();
        let mut tiles = tiles_in_turn(&dataset, 16, 100, 3).unwrap();
        assert_eq!(tiles.len(), 9 + 1 + 1 + 1);
        assert_eq!((tiles[0].0, tiles[1].0, tiles[2].0), (0, 1, 0));
        tiles.sort();
        tiles.dedup();
        assert_eq!(tiles.len(), 12);
        assert_eq!(tiles_in_turn(&dataset, 16, 4, 3).unwrap().len(), 4);
    }
}
