//! Every ordered pair of domains: tiles of the first in styles of the second by every technique,
//! and how colour, structure, nuclei and anatomy changed. Figures that need a classifier come from
//! the judge.

use std::collections::BTreeMap;

use anyhow::Result;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rayon::prelude::*;

use crate::encodings::{Encoded, Model};
use crate::evaluate::judge::Judge;
use crate::evaluate::report::{Pair, Scores, Summary, TakenFor};
use crate::evaluate::technique::{Reference, Technique, draws};
use crate::evaluate::{Domain, EvaluateArgs};
use crate::phase::Phase;
use restain_method::metrics::{BlockEdges, ColorHistogram, dice, haematoxylin_mask, ssim};

/// The figures of one pair, and the blocking artefact of each technique's variants.
pub(super) struct Compared {
    pub pair: Pair,
    pub from: usize,
    pub edges: BTreeMap<Technique, BlockEdges>,
}

/// Compares all ordered pairs of different domains, those from the first domain first.
///
/// # Errors
/// If the encoder or the judge fails.
pub(super) fn compare(
    model: &mut Model,
    domains: &[Domain],
    judge: Option<&Judge>,
    args: &EvaluateArgs,
) -> Result<Vec<Compared>> {
    let mut compared = Vec::new();
    let count = domains.len() * (domains.len() - 1);
    let phase = Phase::start("pairs of domains compared", count);
    for from in 0..domains.len() {
        let spread = anatomy_spread(&domains[from].tiles);
        for to in (0..domains.len()).filter(|&to| to != from) {
            let job = Job { domains, from, to, spread, judge, args };
            compared.push(job.run(model)?);
            phase.advance(1);
        }
    }
    Ok(compared)
}

struct Job<'a> {
    domains: &'a [Domain],
    from: usize,
    to: usize,
    /// Mean squared difference of the anatomy of two tiles of the first domain.
    spread: f64,
    judge: Option<&'a Judge>,
    args: &'a EvaluateArgs,
}

impl Job<'_> {
    fn run(&self, model: &mut Model) -> Result<Compared> {
        let (from, to) = (&self.domains[self.from], &self.domains[self.to]);
        let stream = (self.from * self.domains.len() + self.to) as u64;
        let mut rng = ChaCha8Rng::seed_from_u64(self.args.seed);
        rng.set_stream(stream);
        let references: Vec<Reference> = from
            .tiles
            .iter()
            .map(|_| Reference::draw(to, self.args.style_tiles, &mut rng))
            .collect();
        let distance_before = histogram(&from.tiles).wasserstein(&histogram(&to.tiles));
        let (mut methods, mut edges) = (BTreeMap::new(), BTreeMap::new());
        for &method in &self.args.methods {
            let synth = &model.synth;
            let made = from.tiles.par_iter().zip(&references).enumerate().map(
                |(tile, (content, reference))| {
                    method.apply(
                        synth,
                        content,
                        reference,
                        &mut draws(self.args.seed, stream, tile),
                    )
                },
            );
            let variants = made.collect();
            let (scores, grid) = self.score(model, method, variants, distance_before)?;
            methods.insert(method, scores);
            edges.insert(method, grid);
        }
        let pair = Pair { from: from.name.clone(), to: to.name.clone(), distance_before, methods };
        Ok(Compared { pair, from: self.from, edges })
    }

    /// Scores one technique's variants, u8 [H, W, 3] each, and measures their blocking artefact.
    fn score(
        &self,
        model: &mut Model,
        method: Technique,
        variants: Vec<Vec<u8>>,
        distance_before: f64,
    ) -> Result<(Scores, BlockEdges)> {
        let (from, to) = (&self.domains[self.from], &self.domains[self.to]);
        let geometry = model.synth.geometry();
        let (side, patch) = (geometry.image_size(), geometry.patch_size());
        let seen = from.tiles.par_iter().zip(&variants).map(|(content, variant)| {
            let mut edges = BlockEdges::default();
            edges.add(variant, side, patch);
            let nuclei = dice(&haematoxylin_mask(&content.tile), &haematoxylin_mask(variant));
            (ssim(&content.tile, variant, side, side), nuclei, edges)
        });
        let seen: Vec<(f64, f64, BlockEdges)> = seen.collect();
        let mut edges = BlockEdges::default();
        seen.iter().for_each(|(.., part)| edges.merge(part));
        let mut made = ColorHistogram::default();
        variants.iter().for_each(|variant| made.add(variant));
        let distance = made.wasserstein(&histogram(&to.tiles));
        let opinion =
            self.judge.map(|judge| judge.compare(from, to, self.domains, &variants)).transpose()?;
        tracing::debug!("{} → {}, {}", from.name, to.name, method.name());
        let scores = Scores {
            distance,
            left: distance / distance_before,
            ssim: mean(seen.iter().map(|(ssim, ..)| *ssim)),
            dice: mean(seen.iter().map(|(_, nuclei, _)| *nuclei)),
            anatomy_drift: drift(model, &from.tiles, variants)? / self.spread,
            frechet: opinion.and_then(|opinion| opinion.frechet),
            kid: opinion.and_then(|opinion| opinion.kid),
            taken_for: opinion.and_then(|opinion| opinion.taken_for),
        };
        Ok((scores, edges))
    }
}

fn histogram(tiles: &[Encoded]) -> ColorHistogram {
    let mut histogram = ColorHistogram::default();
    tiles.iter().for_each(|encoded| histogram.add(&encoded.tile));
    histogram
}

/// Mean squared difference of the anatomy of each tile and its variant. A variant equal to its tile
/// needs no encoding.
fn drift(model: &mut Model, tiles: &[Encoded], variants: Vec<Vec<u8>>) -> Result<f64> {
    let changed = tiles.iter().zip(variants).filter(|(content, variant)| content.tile != *variant);
    let (contents, variants): (Vec<&Encoded>, Vec<Vec<u8>>) = changed.unzip();
    let encoded = model.encode(variants)?;
    let squares = contents.iter().zip(&encoded).map(|(content, variant)| {
        let differences =
            content.anatomy.iter().zip(&variant.anatomy).map(|(a, b)| f64::from(a - b).powi(2));
        differences.sum::<f64>() / content.anatomy.len() as f64
    });
    Ok(squares.sum::<f64>() / tiles.len() as f64)
}

/// Mean squared difference of the anatomy of two different tiles: twice the variance. NaN with one
/// tile.
fn anatomy_spread(tiles: &[Encoded]) -> f64 {
    let (count, numbers) = (tiles.len() as f64, tiles[0].anatomy.len());
    let variance = |i: usize| {
        let mean = tiles.iter().map(|tile| f64::from(tile.anatomy[i])).sum::<f64>() / count;
        tiles.iter().map(|tile| (f64::from(tile.anatomy[i]) - mean).powi(2)).sum::<f64>()
            / (count - 1.0)
    };
    2.0 * (0..numbers).map(variance).sum::<f64>() / numbers as f64
}

/// Means over all pairs; none without a pair.
pub(super) fn summary(compared: &[Compared]) -> Option<Summary> {
    let first = compared.first()?;
    let distance_before = mean(compared.iter().map(|compared| compared.pair.distance_before));
    let over = |method: &Technique| {
        let each = || compared.iter().map(|compared| &compared.pair.methods[method]);
        let some = |of: fn(&Scores) -> Option<f64>| {
            Some(mean(each().filter_map(of))).filter(|mean| mean.is_finite())
        };
        let distance = mean(each().map(|scores| scores.distance));
        let share = |of: fn(&TakenFor) -> f64| {
            mean(each().filter_map(|scores| scores.taken_for.as_ref()).map(of))
        };
        let taken = TakenFor {
            target: share(|t| t.target),
            source: share(|t| t.source),
            other: share(|t| t.other),
        };
        Scores {
            distance,
            left: distance / distance_before,
            ssim: mean(each().map(|scores| scores.ssim)),
            dice: mean(each().map(|scores| scores.dice)),
            anatomy_drift: mean(each().map(|scores| scores.anatomy_drift)),
            frechet: some(|scores| scores.frechet),
            kid: some(|scores| scores.kid),
            taken_for: taken.target.is_finite().then_some(taken),
        }
    };
    Some(Summary {
        distance_before,
        methods: first.pair.methods.keys().map(|method| (*method, over(method))).collect(),
    })
}

/// Returns the mean, NaN without values.
pub(super) fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
    sum / f64::from(count)
}
