//! From a request to its answer, whatever transport it came by.
//!
//! plan → probe the headers → admission → decode → encode (through the model's batch) → synthesise. Transports turn
//! their wire into a [`Request`] and an [`Answer`] into their wire, and do nothing else. The whole request succeeds or
//! fails. Dropping the future of [`Pipeline::augment`] is leaving: what has not begun will not.

mod add;
pub mod answer;
pub mod choose;
mod decode;
mod make;
pub mod plan;
pub mod render;
pub mod request;
mod source;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rayon::prelude::*;

pub use add::AddStyles;
pub use answer::Answer;
pub use decode::TileInput;
use decode::{Decoded, Sizes};
use make::{Materials, Prepared};
use plan::{Counts, Plan};
use request::AugmentRequest;

use super::admission::{Admission, Permit};
use super::batch::{BatchError, EncodeAnswer, EncodeRequest};
use super::cpu::Cpu;
use super::error::{Error, ErrorKind};
use super::metrics::Metrics;
use super::models::Registry;
use crate::codec;

/// What one request may ask for.
#[derive(Clone, Copy)]
pub struct Limits {
    pub max_tiles: usize,
    pub max_variants: usize,
    pub codec: codec::Limits,
    pub timeout: Duration,
}

pub struct Pipeline {
    pub models: Arc<Registry>,
    pub admission: Arc<Admission>,
    pub cpu: Arc<Cpu>,
    pub metrics: Arc<Metrics>,
    pub limits: Limits,
}

/// A request, read off its wire.
pub struct Request {
    pub ask: AugmentRequest,
    pub tiles: Vec<TileInput>,
    pub references: Vec<TileInput>,
    /// When its first byte came.
    pub received: Instant,
    /// For the bytes of its body.
    pub permit: Arc<Permit>,
}

/// Decoded tiles and references, and their share of the house.
struct Admitted {
    tiles: Vec<Decoded>,
    references: Vec<Decoded>,
    permit: Arc<Permit>,
}

impl Pipeline {
    /// # Errors
    /// One of the table's kinds, with the sentence for the caller.
    pub async fn augment(&self, request: Request) -> Result<Answer, Error> {
        let timeout = self.timeout(&request.ask)?;
        let deadline = request.received + timeout;
        match tokio::time::timeout_at(deadline.into(), self.work(request, deadline)).await {
            Ok(Err(error)) if error.kind == ErrorKind::DeadlineExceeded => Err(deadline_exceeded(timeout)),
            Ok(answer) => answer,
            Err(_) => Err(deadline_exceeded(timeout)),
        }
    }

    fn timeout(&self, ask: &AugmentRequest) -> Result<Duration, Error> {
        match ask.timeout_ms {
            Some(0) => Err(Error::new(ErrorKind::TimeoutOutOfRange, "timeout_ms is 0, and must be at least 1")),
            Some(asked) => Ok(Duration::from_millis(asked).min(self.limits.timeout)),
            None => Ok(self.limits.timeout),
        }
    }

    async fn work(&self, request: Request, deadline: Instant) -> Result<Answer, Error> {
        let Request { ask, tiles, references, permit: body, .. } = request;
        let counts = Counts { tiles: tiles.len(), references: references.len() };
        self.check_counts(counts)?;
        let model = self.models.find(ask.model.as_deref())?;
        let plan = Plan::new(model, &ask, counts, self.limits.max_variants)?;
        let Admitted { tiles, references, permit } = self.decode(&plan, tiles, references).await?;

        let mut timings = answer::Timings::default();
        let mut encodings = Vec::new();
        if plan.encodes() {
            let all = tiles.iter().chain(&references).filter_map(|tile| tile.model_pixels.clone()).collect();
            let request = EncodeRequest { tiles: all, deadline, permit: Arc::clone(&permit) };
            let encoded = plan.model.batch.encode(request).await.map_err(batch_error)?;
            let EncodeAnswer { queue, encode, .. } = encoded;
            (timings.queue, timings.encode, encodings) = (queue, encode, encoded.encodings);
        }
        let mut encodings = encodings.into_iter();
        let mut prepare = |tiles: Vec<Decoded>| -> Vec<Prepared> {
            tiles.into_iter().map(|tile| Prepared { key: tile.key, picture: tile.picture, encoding: encodings.next() }).collect()
        };
        let (tiles, references) = (prepare(tiles), prepare(references));
        self.synthesise(Materials { plan, tiles, references }, timings, vec![body, permit]).await
    }

    fn check_counts(&self, counts: Counts) -> Result<(), Error> {
        if counts.tiles == 0 {
            return Err(Error::new(ErrorKind::NoTiles, "the request holds no tile, and must hold at least one"));
        }
        let (all, max) = (counts.tiles + counts.references, self.limits.max_tiles);
        if all > max {
            let detail = format!("the request holds {all} tiles, its references included, and may hold at most {max}");
            return Err(Error::new(ErrorKind::TooManyTiles, detail));
        }
        Ok(())
    }

    /// Headers first, then a place in the house, then the pixels.
    async fn decode(&self, plan: &Plan, tiles: Vec<TileInput>, references: Vec<TileInput>) -> Result<Admitted, Error> {
        let limits = self.limits.codec;
        let probe = move || {
            let sizes = Sizes::probe(&tiles, &references, &limits);
            sizes.map(|sizes| (sizes, tiles, references))
        };
        let (sizes, tiles, references) = self.cpu.run(probe).await??;
        let geometry = plan.model.bundle.manifest.geometry;
        if !plan.resize {
            sizes.check(geometry.image_size())?;
        }
        let permit = self.admission.admit(tiles.len() + references.len(), sizes.bytes(plan))?;
        let side = plan.encodes().then(|| geometry.image_size());
        let held = Arc::clone(&permit);
        let (tiles, references) = self
            .cpu
            .run(move || {
                let _held = held;
                let tiles = decode::all("tile", &tiles, side, &limits)?;
                Ok((tiles, decode::all("reference", &references, side, &limits)?))
            })
            .await??;
        Ok(Admitted { tiles, references, permit })
    }

    async fn synthesise(&self, materials: Materials, timings: answer::Timings, permits: Vec<Arc<Permit>>) -> Result<Answer, Error> {
        let started = Instant::now();
        let held = permits.clone();
        let work = move || {
            let _held = held;
            let variants = materials.plan.variants;
            let made: Vec<_> = (0..materials.tiles.len() * variants)
                .into_par_iter()
                .map_init(|| materials.workspace(), |workspace, n| materials.make(n / variants, n % variants, workspace))
                .collect();
            (materials, made)
        };
        let (materials, made) = self.cpu.run(work).await?;
        let Materials { plan, tiles, .. } = materials;
        let synthesise = started.elapsed();
        self.metrics.synthesised(made.len(), synthesise);
        let mut made = made.into_iter();
        let tiles = tiles
            .into_iter()
            .map(|tile| answer::AnsweredTile {
                key: tile.key,
                picture: tile.picture,
                variants: made.by_ref().take(plan.variants).collect(),
            })
            .collect();
        let about = answer::About {
            model: plan.model.name().to_owned(),
            version: plan.model.version().to_owned(),
            bundle: plan.model.bundle.digest.clone(),
            seed: plan.seed,
            method: plan.method,
        };
        Ok(Answer { about, output: plan.output, tiles, timings: answer::Timings { synthesise, ..timings }, permits })
    }
}

/// The error of a deadline that passed.
pub fn deadline_exceeded(timeout: Duration) -> Error {
    Error::new(
        ErrorKind::DeadlineExceeded,
        format!("no answer within {} ms: ask for less, or allow more with timeout_ms", timeout.as_millis()),
    )
}

fn batch_error(error: BatchError) -> Error {
    match error {
        BatchError::Late => Error::new(ErrorKind::DeadlineExceeded, error.to_string()),
        // Only what callers who left still occupy can fill the queue past what admission lends.
        BatchError::Full => Error::new(ErrorKind::Overloaded, error.to_string()).retry_after(Duration::from_secs(1)),
        BatchError::Closed => Error::new(ErrorKind::Draining, error.to_string()),
        BatchError::Failed(_) => Error::internal(&error),
    }
}
