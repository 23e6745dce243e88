//! Training a classifier: AdamW with a cosine schedule, random flips and quarter turns, and the
//! best epoch on a validation set.

use anyhow::{Result, ensure};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::Classifier;
use super::tiles::{Tiles, from_bytes, orient};
use restain_data::below;
use restain_torch::adamw::{AdamW, AdamWConfig, cosine};

/// PyTorch's default for AdamW.
const WEIGHT_DECAY: f64 = 0.01;
/// Streams of one seed: the lower half for the order of an epoch, the upper for its draws.
const DRAWS: u64 = 1 << 63;

/// How to train a classifier.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FitConfig {
    /// Initial learning rate, which falls to 0 along a cosine.
    pub learning_rate: f64,
    /// Passes over the training tiles.
    pub epochs: u64,
    /// Tiles per update; with variants an update uses twice as many images.
    pub batch: usize,
    /// Seeds the order of tiles, the flips and the turns.
    pub seed: u64,
}

/// Writes one variant of each training tile of a batch, u8 [B, side, side, 3]; it joins the batch
/// under the tile's label. Each tile has a generator, which depends on seed, epoch and tile alone,
/// so that all augmentations draw the same numbers.
pub type Variants<'a> = dyn FnMut(&[usize], &mut [ChaCha8Rng], &mut [u8]) -> Result<()> + 'a;

/// The result of training. The classifier has the weights of the best epoch.
#[derive(Clone, Debug)]
pub struct Fitted {
    /// The best epoch, from 1: the highest validation accuracy and, among equals, the lowest loss.
    pub epoch: u64,
    /// Validation at that epoch.
    pub validation: Score,
    /// Validation after every epoch.
    pub history: Vec<Score>,
}

/// How well a classifier predicts labels.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Share of tiles whose most probable class is their label.
    pub accuracy: f64,
    /// Mean cross-entropy, nats.
    pub loss: f64,
}

/// Trains on `training`, in batches of the tiles themselves and, given `variants`, one variant of
/// each. Every image is flipped and turned at random. The same seed gives the same weights on one
/// thread.
///
/// # Errors
/// If there are no training tiles, no validation tiles or no epochs, or `variants` or libtorch
/// fails.
pub fn fit(
    classifier: &Classifier,
    training: &Tiles,
    validation: &Tiles,
    config: &FitConfig,
    mut variants: Option<&mut Variants>,
) -> Result<Fitted> {
    ensure!(
        !training.is_empty() && !validation.is_empty(),
        "a classifier needs training tiles and validation tiles"
    );
    let mut optimiser = AdamW::new(
        AdamWConfig { weight_decay: WEIGHT_DECAY, ..AdamWConfig::default() },
        classifier.parameters(),
    );
    let batch = config.batch.clamp(1, training.len());
    // Tiles left over after the last full batch are skipped in this epoch.
    let per_epoch = training.len() / batch;
    let mut best: Option<(u64, Score, Vec<Tensor>)> = None;
    let mut history = Vec::new();
    for epoch in 0..config.epochs {
        let order = order(training.len(), config.seed, epoch);
        for (step, chosen) in order.chunks_exact(batch).enumerate() {
            let (images, labels) = Batch { tiles: training, chosen, epoch, seed: config.seed }
                .images(&mut variants)?;
            let (images, labels) = (
                from_bytes(&images, training.side, classifier.device()),
                Tensor::from_slice(&labels),
            );
            let logits = classifier.logits(&images, true);
            logits.cross_entropy_for_logits(&labels.to_device(classifier.device())).backward();
            let done = epoch * per_epoch as u64 + step as u64;
            optimiser.step(
                classifier.parameters(),
                cosine(config.learning_rate, done, config.epochs * per_epoch as u64),
            )?;
        }
        let score = score(&classifier.probabilities(validation, config.batch)?, &validation.labels);
        history.push(score);
        let beaten = |kept: &Score| (score.accuracy, -score.loss) > (kept.accuracy, -kept.loss);
        if best.as_ref().is_none_or(|(_, kept, _)| beaten(kept)) {
            best = Some((epoch + 1, score, classifier.snapshot()));
        }
    }
    let Some((epoch, validation, weights)) = best else {
        anyhow::bail!("a classifier needs at least one epoch")
    };
    classifier.restore(&weights);
    Ok(Fitted { epoch, validation, history })
}

/// Scores probabilities, f64 `[n, classes]` row-major, against labels `[n]`.
pub fn score(probabilities: &[f64], labels: &[usize]) -> Score {
    let classes = probabilities.len() / labels.len();
    let rows = || probabilities.chunks_exact(classes).zip(labels);
    let best = |row: &[f64]| {
        (0..classes).max_by(|&a, &b| row[a].total_cmp(&row[b])).expect("at least one class")
    };
    let n = labels.len() as f64;
    Score {
        accuracy: rows().filter(|&(row, &label)| best(row) == label).count() as f64 / n,
        loss: rows().map(|(row, &label)| -row[label].max(1e-12).ln()).sum::<f64>() / n,
    }
}

/// Returns a random permutation of 0..n.
fn order(n: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(epoch);
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by_cached_key(|_| rng.next_u64());
    order
}

/// The tiles of one update.
struct Batch<'a> {
    tiles: &'a Tiles,
    chosen: &'a [usize],
    epoch: u64,
    seed: u64,
}

impl Batch<'_> {
    /// Returns the images, u8 [B, side, side, 3], and their labels [B]: the tiles first, then their
    /// variants.
    fn images(&self, variants: &mut Option<&mut Variants>) -> Result<(Vec<u8>, Vec<i64>)> {
        let (tiles, size) = (self.tiles, self.tiles.side * self.tiles.side * 3);
        let copies = 1 + usize::from(variants.is_some());
        let mut bytes = vec![0; copies * self.chosen.len() * size];
        let (own, made) = bytes.split_at_mut(self.chosen.len() * size);
        let (symmetries, _) = self.draws(0);
        for ((&tile, symmetry), out) in
            self.chosen.iter().zip(symmetries).zip(own.chunks_exact_mut(size))
        {
            orient(&tiles.pixels[tile], tiles.side, symmetry, out);
        }
        if let Some(variants) = variants {
            let (symmetries, mut rngs) = self.draws(1);
            let mut upright = vec![0; made.len()];
            variants(self.chosen, &mut rngs, &mut upright)?;
            let pairs = upright.chunks_exact(size).zip(made.chunks_exact_mut(size));
            for ((variant, out), symmetry) in pairs.zip(symmetries) {
                orient(variant, tiles.side, symmetry, out);
            }
        }
        let labels = self.chosen.iter().map(|&tile| tiles.labels[tile] as i64);
        Ok((bytes, labels.clone().cycle().take(copies * self.chosen.len()).collect()))
    }

    /// Returns how each tile of a copy is flipped and turned, and its generator after that.
    fn draws(&self, copy: u64) -> (Vec<u8>, Vec<ChaCha8Rng>) {
        let draw = |&tile: &usize| {
            let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
            let image = (self.epoch * self.tiles.len() as u64 + tile as u64) * 2 + copy;
            rng.set_stream(DRAWS + image);
            (below(&mut rng, 8) as u8, rng)
        };
        self.chosen.iter().map(draw).unzip()
    }
}
