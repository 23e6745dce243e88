//! From a tile's file to the files of its variants, through the server's pipeline: one request for
//! each tile, many at once, so that the encoder's batches fill as they do under a server's load.
//!
//! Memory is lent before a tile is decoded and in the order of the tiles: a tile that holds some
//! can always go on. A tile that needs more than there is goes alone.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::{AugmentError, Bad, BadKind, unreadable};
use super::microns::{self, Stated};
use super::options::AugmentArgs;
use crate::serve::cache::Tenant;
use crate::serve::error::{Error, ErrorKind};
use crate::serve::models::{FindError, LoadError, Model};
use crate::serve::pipeline::answer::{Answer, Provenance};
use crate::serve::pipeline::plan::Plan;
use crate::serve::pipeline::request::{self, Counts};
use crate::serve::pipeline::{Request, SIDES, TileInput, render};
use crate::serve::services::{OpenError, Services};
use restain_bundle::codec::{self, DecodeError, ImageFormat, RgbImage, TileKey};
use restain_method::geometry::CHANNELS;

/// Memory is lent in pieces of so many bytes.
const PIECE: u64 = 64 << 10;

pub(super) struct Maker {
    services: Services,
    pub ask: request::Request,
    references: Vec<Reference>,
    memory: Arc<Semaphore>,
    pieces: u32,
    /// Tiles at once: enough that each encoder has a batch in work and one waiting while others are
    /// read and written.
    pub in_flight: usize,
    encoders: usize,
    /// What tiles' files say about the size of their pixels, where it takes effect.
    pub stated: Stated,
}

struct Reference {
    width: usize,
    height: usize,
    pixels: Bytes,
}

/// One tile's variants, as files.
pub(super) struct Made {
    pub variants: Vec<Variant>,
}

pub(super) struct Variant {
    pub picture: Vec<u8>,
    /// JSON.
    pub provenance: Vec<u8>,
}

/// Why a tile has no variants.
pub(super) enum Unmade {
    Bad(Bad),
    Failed(Box<AugmentError>),
}

impl From<AugmentError> for Unmade {
    fn from(error: AugmentError) -> Self {
        Self::Failed(Box::new(error))
    }
}

/// How one variant came to be: what the server says, and of which file.
#[derive(Serialize)]
struct Record<'a> {
    source: &'a str,
    #[serde(flatten)]
    provenance: Provenance,
    strength: f32,
    /// Where the file states `mpp`, where it was not asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    mpp_from: Option<String>,
}

impl Maker {
    /// Loads the model, and checks that what is asked for can be done with it.
    ///
    /// # Errors
    /// When it cannot be loaded, or not be asked that.
    pub(super) async fn open(args: &AugmentArgs) -> Result<Self, AugmentError> {
        let config = args.engine_config();
        let services = Services::alone(&config).await.map_err(to_augment_error)?;
        let model = the_model(&services)?;
        let mut ask = args.ask.request();
        ask.model = Some(model.key().to_string());
        ask.output_format = args.format();
        let graph = config.precision.graph(&model.bundle, config.devices.0[0]);
        let bytes = graph.and_then(|(_, onnx)| model.bundle.encoder_bytes(&onnx));
        // The model is open: its weights were counted then.
        let weights = bytes.unwrap_or_default();
        let layout = config.layout(&config.devices, weights);
        let (batch, encoders) = (layout.largest_batch, layout.sharing());
        let pieces = u32::try_from(args.engine.max_inflight_bytes.0.div_ceil(PIECE))
            .unwrap_or(u32::MAX)
            .max(1);
        let maker = Self {
            references: args
                .ask
                .references
                .iter()
                .map(|path| reference(path, args))
                .collect::<Result<_, _>>()?,
            services,
            ask,
            memory: Arc::new(Semaphore::new(pieces as usize)),
            pieces,
            in_flight: 4 * (batch * encoders + config.threads.get()),
            encoders,
            stated: Stated::default(),
        };
        let counts = Counts { tiles: 1, references: maker.references.len() };
        let refused = |error: Error| AugmentError::Use(error.detail);
        Plan::new(model, &maker.ask, counts, config.max_variants.get()).map_err(refused)?;
        for (path, reference) in args.ask.references.iter().zip(&maker.references) {
            if let Some(reason) = no_tile(reference.width, reference.height) {
                return Err(AugmentError::Use(format!("{} {reason}", path.display())));
            }
        }
        Ok(maker)
    }

    pub(super) fn model(&self) -> Arc<Model> {
        the_model(&self.services).expect("a open job holds one model until it is closed")
    }

    pub(super) fn reference_keys(&self) -> Vec<String> {
        let key = |tile: &Reference| {
            TileKey::of_pixels(tile.width, tile.height, &tile.pixels).to_string()
        };
        self.references.iter().map(key).collect()
    }

    /// Waits for the memory that a tile and its variants need, and `others` bytes that go with
    /// them. To be asked for in the order of the tiles.
    pub(super) async fn room(&self, file: &[u8], others: usize) -> OwnedSemaphorePermit {
        self.lend(self.needed(file) + others).await
    }

    async fn lend(&self, bytes: usize) -> OwnedSemaphorePermit {
        let pieces =
            u32::try_from((bytes as u64).div_ceil(PIECE)).unwrap_or(u32::MAX).min(self.pieces);
        Arc::clone(&self.memory).acquire_many_owned(pieces).await.expect("it is never closed")
    }

    /// Bytes that a tile and its variants need.
    fn needed(&self, file: &[u8]) -> usize {
        let (pipeline, model) = (&self.services.pipeline, self.model());
        let geometry = model.bundle.manifest.geometry;
        // What is no picture needs no more than its file.
        let size = codec::probe(file, &pipeline.limits.codec).ok();
        let pixels = size.map_or(0, |(width, height)| width * height * CHANNELS);
        let seen = size.filter(|(width, height)| no_tile(*width, *height).is_none());
        let (mpp, _) = microns::of_file(self.ask.mpp, file);
        let seen = seen.map_or(0, |size| pipeline.bytes_seen(&model, mpp, size)) as usize;
        let variants = self.ask.variants as usize;
        // Two pictures of every variant; and of the tile what was decoded, what the encoder sees
        // and makes of it, and what is kept.
        file.len() + seen + pixels + 2 * pixels.max(geometry.tile_bytes()) * (1 + variants)
    }

    /// The context of the slide called `name`, from some of its files; nothing where none of them
    /// has tissue. Files that are no tiles are left out.
    ///
    /// # Errors
    /// When the engine fails.
    pub(super) async fn add_slide(
        &self,
        name: &str,
        files: Vec<Bytes>,
    ) -> Result<Option<String>, Unmade> {
        let pipeline = &self.services.pipeline;
        let failed = |source| Unmade::from(AugmentError::Tile { name: name.to_owned(), source });
        // All at once: what holds some and waits for more could wait for itself.
        let _room = self.lend(files.iter().map(|file| self.needed(file)).sum()).await;
        let (limits, mut tiles) = (pipeline.limits.codec, Vec::new());
        for file in files {
            let decode = move || codec::decode(&file, &limits);
            let decoded = pipeline.cpu.run(decode).await.map_err(failed)?;
            let tile = decoded.ok().filter(|tile| no_tile(tile.width, tile.height).is_none());
            tiles.extend(tile.map(|RgbImage { width, height, pixels }| TileInput::Pixels {
                width,
                height,
                pixels: pixels.into(),
            }));
        }
        if tiles.is_empty() {
            return Ok(None);
        }
        let request = Request {
            ask: request::Request {
                model: self.ask.model.clone(),
                mpp: self.ask.mpp,
                ..Default::default()
            },
            tiles,
            references: Vec::new(),
            received: Instant::now(),
            permit: pipeline.admission.admit_body(0).map_err(failed)?,
            tenant: Tenant::SHARED,
        };
        match pipeline.add_slide(request).await {
            Ok(slide) => Ok(Some(slide.id)),
            Err(error) if error.kind == ErrorKind::NoStyles => {
                tracing::info!(
                    slide = name,
                    "no tissue in the tiles of a slide: each of its tiles stands for itself"
                );
                Ok(None)
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// The variants of the tile called `name`, whose slide has this context, in this format.
    ///
    /// # Errors
    /// When nothing can be made of the file, or the engine fails.
    pub(super) async fn make(
        &self,
        name: &str,
        file: Bytes,
        slide: Option<String>,
        format: ImageFormat,
    ) -> Result<Made, Unmade> {
        let pipeline = &self.services.pipeline;
        let failed = |source| Unmade::from(AugmentError::Tile { name: name.to_owned(), source });
        let bad = |kind, reason: String| Unmade::Bad(Bad { kind, name: name.to_owned(), reason });
        let limits = pipeline.limits.codec;
        let (mpp, stated) = microns::of_file(self.ask.mpp, &file);
        let decoded =
            pipeline.cpu.run(move || codec::decode(&file, &limits)).await.map_err(failed)?;
        let RgbImage { width, height, pixels } =
            decoded.map_err(|error| bad(kind(&error), undecodable(&error)))?;
        if let Some(reason) = no_tile(width, height) {
            return Err(bad(BadKind::Size, reason));
        }
        let pixels_of = |tile: &Reference| TileInput::Pixels {
            width: tile.width,
            height: tile.height,
            pixels: tile.pixels.clone(),
        };
        let request = Request {
            ask: request::Request { slide: slide.map(|id| vec![id]), mpp, ..self.ask.clone() },
            tiles: vec![TileInput::Pixels { width, height, pixels: pixels.into() }],
            references: self.references.iter().map(pixels_of).collect(),
            received: Instant::now(),
            permit: pipeline.admission.admit_body(0).map_err(failed)?,
            tenant: Tenant::SHARED,
        };
        let answer = Arc::new(pipeline.augment(request).await.map_err(failed)?);
        let pictures = render::pictures(&pipeline.cpu, &answer, format).await;
        let pictures = pictures.map_err(failed)?;
        stated.into_iter().for_each(|stated| self.stated.add(stated));
        let record = |provenance| Record {
            source: name,
            provenance,
            strength: self.ask.strength,
            mpp_from: stated.map(|stated| stated.from.to_string()),
        };
        Ok(files(&answer, pictures, record))
    }

    /// A tile that variants were made of, with the same pixels in this format.
    ///
    /// # Errors
    /// When the engine fails.
    pub(super) async fn rewrite(
        &self,
        name: &str,
        file: Bytes,
        format: ImageFormat,
    ) -> Result<Vec<u8>, AugmentError> {
        let pipeline = &self.services.pipeline;
        let (limits, quality) = (pipeline.limits.codec, self.ask.output_quality);
        let rewrite = move || {
            let tile = codec::decode(&file, &limits).expect("it was decoded for its variants");
            codec::encode(format, quality, &tile).expect("a tile has a size of every format")
        };
        let failed = |source| AugmentError::Tile { name: name.to_owned(), source };
        pipeline.cpu.run(rewrite).await.map_err(failed)
    }

    /// The share of `wall` that the encoders were at work.
    pub(super) fn encoders_busy(&self, wall: Duration) -> f64 {
        self.services.pipeline.metrics.time_encoding().as_secs_f64()
            / (wall.as_secs_f64() * self.encoders as f64).max(f64::MIN_POSITIVE)
    }

    /// # Errors
    /// When an encoder's thread panicked.
    pub(super) async fn close(self) -> Result<(), OpenError> {
        self.services.close().await
    }
}

fn the_model(services: &Services) -> Result<Arc<Model>, AugmentError> {
    services.pipeline.models.find(None).map_err(|error| AugmentError::Use(error.detail))
}

/// A model that is not there is wrong use; one that is broken is not.
fn to_augment_error(error: OpenError) -> AugmentError {
    match error {
        OpenError::Load(LoadError::Find(
            error @ (FindError::NoSuch { .. } | FindError::Several { .. } | FindError::Empty(_)),
        )) => AugmentError::Use(error.to_string()),
        error => AugmentError::Engine(error),
    }
}

fn reference(path: &PathBuf, args: &AugmentArgs) -> Result<Reference, AugmentError> {
    let file = std::fs::read(path).map_err(unreadable(path))?;
    let limits = codec::Limits::of_tile(args.engine.max_pixels);
    let wrong = |error: DecodeError| {
        AugmentError::Use(format!("{} {}", path.display(), undecodable(&error)))
    };
    let RgbImage { width, height, pixels } = codec::decode(&file, &limits).map_err(wrong)?;
    Ok(Reference { width, height, pixels: pixels.into() })
}

fn kind(error: &DecodeError) -> BadKind {
    match error {
        DecodeError::TooLarge { .. } | DecodeError::SideOutOfRange { .. } => BadKind::Size,
        _ => BadKind::Damaged,
    }
}

fn undecodable(error: &DecodeError) -> String {
    match error {
        DecodeError::TooLarge { .. } => format!("is too large: {error}; --max-pixels allows more"),
        DecodeError::SideOutOfRange { .. } => format!("is too large: {error}"),
        _ => format!("is damaged, or no picture: {error}"),
    }
}

/// Why a picture of this size is no tile; nothing when it is one.
fn no_tile(width: usize, height: usize) -> Option<String> {
    let is_tile = SIDES.contains(&width) && SIDES.contains(&height);
    let (least, most) = (SIDES.start(), SIDES.end());
    (!is_tile).then(|| {
        format!("is {width}×{height} pixels, and a tile has from {least} to {most} pixels a side")
    })
}

fn files<'a>(
    answer: &Answer,
    mut pictures: Vec<Vec<Vec<u8>>>,
    record: impl Fn(Provenance) -> Record<'a>,
) -> Made {
    let tile = &answer.tiles[0];
    let pictures = pictures.pop().expect("an answer has the tiles of its request, which was one");
    let variant = |(variant, picture)| {
        let record = record(answer.provenance(tile, variant));
        let mut provenance =
            serde_json::to_vec_pretty(&record).expect("a record is strings and numbers");
        provenance.push(b'\n');
        Variant { picture, provenance }
    };
    Made { variants: tile.variants.iter().zip(pictures).map(variant).collect() }
}
