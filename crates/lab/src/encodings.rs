//! Tiles with their encodings, computed by the exported encoder, so that `styles` and `evaluate`
//! measure what will be served.

use std::path::Path;

use anyhow::{Context, Result};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use restain_bundle::{Bundle, Precision};
use restain_data::{Dataset, shuffle};
use restain_engine::{Encoder, EncoderOptions, Runtime};
use restain_method::exemplar;
use restain_method::synth::Synthesiser;

/// Tiles per run of the encoder.
const BATCH: usize = 8;

/// An opened bundle with its encoder and its synthesiser.
pub struct Model {
    /// The bundle's files.
    pub bundle: Bundle,
    /// Multiplies anatomy by style, with the bundle's geometry and normalisation.
    pub synth: Synthesiser,
    encoder: Encoder,
}

/// One tile and its encoding.
pub struct Encoded {
    /// u8 [H, W, 3].
    pub tile: Vec<u8>,
    /// f32 [N, h], row-major.
    pub anatomy: Vec<f32>,
    /// f32 [N, S], row-major.
    pub characteristics: Vec<f32>,
}

impl Model {
    /// Opens the bundle in `dir` with its encoder of `precision`, on the CPU.
    ///
    /// # Errors
    /// If the bundle is damaged or lacks that encoder, or ONNX Runtime cannot load it.
    pub fn open(dir: &Path, precision: Precision) -> Result<Self> {
        Self::of(
            Bundle::open(dir).with_context(|| format!("the bundle {}", dir.display()))?,
            precision,
        )
    }

    /// Opens the encoder of a bundle, which may be one that is not published yet.
    pub fn of(bundle: Bundle, precision: Precision) -> Result<Self> {
        let manifest = &bundle.manifest;
        let synth =
            Synthesiser::new(manifest.geometry, manifest.pixel_order, manifest.normalisation);
        let path = bundle.encoder_path(precision)?;
        let encoder =
            Encoder::open(&Runtime::load()?, &path, &manifest.geometry, &EncoderOptions::cpu(0))?;
        Ok(Self { synth, encoder, bundle })
    }

    /// Encodes tiles, u8 [H, W, 3] each, in order.
    ///
    /// # Errors
    /// If a tile has another size, or ONNX Runtime fails.
    pub fn encode(&mut self, tiles: Vec<Vec<u8>>) -> Result<Vec<Encoded>> {
        let geometry = *self.synth.geometry();
        let mut encoded = Vec::with_capacity(tiles.len());
        let mut tiles = tiles.into_iter().peekable();
        while tiles.peek().is_some() {
            let batch: Vec<Vec<u8>> = tiles.by_ref().take(BATCH).collect();
            let encodings = self.encoder.encode(&batch.concat(), batch.len())?;
            let halves = encodings
                .anatomy
                .chunks_exact(geometry.tile_anatomy())
                .zip(encodings.characteristics.chunks_exact(geometry.tile_characteristics()));
            encoded.extend(batch.into_iter().zip(halves).map(
                |(tile, (anatomy, characteristics))| Encoded {
                    tile,
                    anatomy: anatomy.to_vec(),
                    characteristics: characteristics.to_vec(),
                },
            ));
        }
        Ok(encoded)
    }

    /// Returns for each patch of a tile, row by row, whether it holds tissue.
    pub fn tissue(&self, tile: &[u8]) -> Vec<bool> {
        exemplar::tissue(self.synth.geometry(), tile)
    }
}

/// A tile of a data set, and where it was cut from.
pub struct Sampled {
    /// u8 [H, W, 3].
    pub tile: Vec<u8>,
    /// Index of its image in [`Dataset::sources`].
    pub source: usize,
    /// Index of its cell in the image's grid, row by row.
    pub cell: usize,
}

impl AsRef<[u8]> for Sampled {
    fn as_ref(&self) -> &[u8] {
        &self.tile
    }
}

/// Samples up to `count` tiles of a domain without replacement: from its images in turn, at random
/// cells of a regular grid. Of each tile's patches at least the share `tissue` is tissue. The same
/// seed gives the same tiles.
///
/// # Errors
/// If more images are damaged than the data set allows.
pub fn sample_tiles(
    model: &Model,
    dataset: &Dataset,
    domain: usize,
    count: usize,
    tissue: f64,
    seed: u64,
) -> Result<Vec<Sampled>> {
    let sources = dataset.sources.iter().enumerate();
    let of_domain = sources.filter(|(_, source)| source.domain == domain).map(|(place, _)| place);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(domain as u64);
    sample_of(model, dataset, of_domain.collect(), (count, tissue), &mut rng)
}

/// Samples tiles as [`sample_tiles`] does, from these images.
///
/// # Errors
/// If more images are damaged than the data set allows.
pub(crate) fn sample_of(
    model: &Model,
    dataset: &Dataset,
    mut sources: Vec<usize>,
    (count, tissue): (usize, f64),
    rng: &mut ChaCha8Rng,
) -> Result<Vec<Sampled>> {
    let side = model.synth.geometry().image_size();
    shuffle(&mut sources, rng);
    // If every image is one tile, decoding more than these would be wasted.
    let mut queues = Vec::new();
    for source in sources.into_iter().take(count.saturating_mul(4)) {
        let tiles = dataset.grid_tiles(&dataset.sources[source], side)?.into_iter().enumerate();
        let mut tiles: Vec<Sampled> =
            tiles.map(|(cell, tile)| Sampled { tile: tile.into_raw(), source, cell }).collect();
        shuffle(&mut tiles, rng);
        queues.push(tiles);
    }
    let enough =
        |sampled: &Sampled| exemplar::is_tissue(model.synth.geometry(), &sampled.tile, tissue);
    let mut chosen = Vec::new();
    while chosen.len() < count && queues.iter().any(|queue| !queue.is_empty()) {
        for queue in &mut queues {
            chosen.extend(std::iter::from_fn(|| queue.pop()).find(enough));
        }
    }
    chosen.truncate(count);
    Ok(chosen)
}
