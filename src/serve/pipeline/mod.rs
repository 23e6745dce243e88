//! From a request to its answer, whatever transport it came by.
//!
//! plan → probe the headers → admission → decode → encode (what the cache does not hold, through
//! the model's batch) → synthesise. Transports turn their wire into a [`Request`] and an [`Answer`]
//! into their wire, and do nothing else. The whole request succeeds or fails. Dropping the future
//! of [`Pipeline::augment`] is leaving: what has not begun will not.

mod add;
pub mod answer;
pub mod choose;
mod decode;
mod encode;
mod encodings;
mod make;
pub mod plan;
mod produce;
pub mod render;
pub mod request;
mod slide;
mod source;
mod spread;
mod stain;
mod vit;
mod workspace;

use std::sync::Arc;
use std::time::{Duration, Instant};

pub use add::AddStyles;
pub use answer::Answer;
use answer::Timings;
use choose::Givers;
pub(crate) use decode::SIDES;
pub use decode::TileInput;
use decode::{Decoded, Decoding, Sizes};
use encode::{Asking, EncodedTiles};
use make::{Materials, Prepared};
use plan::Plan;
use request::Counts;
pub use slide::AddedSlide;

use super::admission::{Admission, Permit};
use super::cache::Tenant;
use super::error::{Error, ErrorKind};
use super::metrics::Metrics;
use super::models::{Model, Phases, Registry};
use super::trace;
use crate::serve::runtime::buffers::Buffers;
use crate::serve::runtime::cpu::Cpu;
use restain_bundle::codec;
use restain_method::windows::Scaling;

/// What one request may ask for.
#[derive(Clone, Copy)]
pub struct Limits {
    pub max_tiles: usize,
    pub max_variants: usize,
    /// Pixels of a tile along each side that one pixel of what the model sees stands for at most.
    pub window: f64,
    pub codec: codec::Limits,
    pub timeout: Duration,
}

pub struct Pipeline {
    pub models: Arc<Registry>,
    pub admission: Arc<Admission>,
    pub cpu: Arc<Cpu>,
    pub metrics: Arc<Metrics>,
    pub limits: Limits,
    pub buffers: Arc<Buffers>,
}

/// A request, read off its wire.
pub struct Request {
    pub ask: request::Request,
    /// Tiles, and after them those that came as keys.
    pub tiles: Vec<TileInput>,
    pub references: Vec<TileInput>,
    /// When its first byte came.
    pub received: Instant,
    /// For the bytes of its body.
    pub permit: Arc<Permit>,
    /// Whose encodings it may use.
    pub tenant: Tenant,
}

/// Decoded tiles and references, and their permit.
struct Admitted {
    tiles: Vec<Decoded>,
    references: Vec<Decoded>,
    permit: Arc<Permit>,
    /// What it took to decode them.
    decode: Duration,
}

/// What is to be done with tiles, as far as their memory goes.
#[derive(Clone, Copy)]
struct Work<'a> {
    model: &'a Model,
    encodes: bool,
    variants: usize,
    /// Whether variants have the model's size, and not the tile's own.
    at_model_size: bool,
    /// Whether the answer is one picture of all tiles and variants.
    sheet: bool,
    /// How the model sees the tiles.
    scaling: Scaling,
}

impl<'a> Work<'a> {
    /// Of tiles that are encoded, and of which nothing is made.
    fn encoding(model: &'a Model, scaling: Scaling) -> Self {
        Self { model, encodes: true, variants: 0, at_model_size: true, sheet: false, scaling }
    }
}

impl Pipeline {
    /// Tiles in, variants out.
    ///
    /// # Errors
    /// One of the table's kinds, with the sentence for the caller.
    pub async fn augment(&self, request: Request) -> Result<Answer, Error> {
        let (timeout, received) = (request.ask.timeout_ms, request.received);
        self.in_time(timeout, received, async |deadline| self.variants(request, deadline).await)
            .await
    }

    /// Does `work` until the deadline: what the caller asked for, or the server's own.
    async fn in_time<T>(
        &self,
        timeout_ms: Option<u64>,
        received: Instant,
        work: impl AsyncFnOnce(Instant) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let most = self.limits.timeout;
        let timeout = timeout_ms.map_or(most, |asked| Duration::from_millis(asked).min(most));
        let deadline = received + timeout;
        match tokio::time::timeout_at(deadline.into(), work(deadline)).await {
            Ok(Err(error)) if error.kind == ErrorKind::DeadlineExceeded => {
                Err(deadline_exceeded(timeout))
            }
            Ok(answer) => answer,
            Err(_) => Err(deadline_exceeded(timeout)),
        }
    }

    async fn variants(&self, request: Request, deadline: Instant) -> Result<Answer, Error> {
        let Request { ask, tiles, references, permit: body, received, tenant } = request;
        let counts = Counts { tiles: tiles.len(), references: references.len() };
        let model = self.models.find(ask.model.as_deref())?;
        let asked = model.statistics.asked(received);
        trace_work(&model, counts);
        self.check_counts(counts)?;
        let plan = Plan::new(model, &ask, counts, self.limits.max_variants)?;
        trace::note("restain.variants", plan.variants as i64);
        if !plan.encodes() || plan.output.sheet {
            check_pixels(&tiles, &ask)?;
        }
        let work = Work {
            model: &plan.model,
            encodes: plan.encodes(),
            variants: plan.variants,
            at_model_size: plan.at_model_size(),
            sheet: plan.output.sheet,
            scaling: self.scaling_of(&plan),
        };
        let Admitted { tiles, references, permit, decode } =
            trace::stage("decode", self.decode(work, tiles, references, &body)).await?;

        let mut timings = Timings::default();
        let (mut encodings, mut styles) = (Vec::new(), Vec::new());
        if plan.encodes() {
            let (priority, permit) = (ask.priority, Arc::clone(&permit));
            let asking = Asking { deadline, priority, permit, tenant, scaling: work.scaling };
            let encoded = self.encoded(&plan.model, &tiles, &references, asking).await?;
            (timings.queue, timings.encode) = (encoded.queue, encoded.encode);
            (encodings, styles) = (encoded.tiles, encoded.references);
        }
        let side = plan.at_model_size().then(|| plan.model.bundle.manifest.geometry.image_size());
        let tiles = Prepared::all(tiles, encodings, side, plan.output.sheet);
        let references = Prepared::all(references, styles, None, false);
        let mut permits = vec![body, Arc::clone(&permit)];
        permits.extend(admit_beyond(&plan, &tiles, &permit)?);
        permits.extend(admit_changes(&tiles, self.cpu.threads(), &permit)?);
        let takes_from_tiles = plan.style.source.is_of_request();
        let mut materials = Materials { plan, tiles, references, givers: Givers::default() };
        if takes_from_tiles {
            materials = self.cpu.run(move || materials.find_givers()).await??;
        }
        let synthesise = self.synthesise(materials, timings, permits);
        let answer = trace::stage("synthesise", synthesise).await?;
        let Timings { queue, encode, synthesise } = answer.timings;
        asked.answered(counts.tiles, &Phases { queue, decode, encode, synthesise });
        Ok(answer)
    }

    /// The encodings of tiles and references, held or made; what the model's queue refuses is
    /// counted as refused.
    async fn encoded(
        &self,
        model: &Model,
        tiles: &[Decoded],
        references: &[Decoded],
        asking: Asking,
    ) -> Result<EncodedTiles, Error> {
        let refused = |error: Error| {
            if error.kind == ErrorKind::Overloaded { self.admission.refuse(error) } else { error }
        };
        encode::encode(&self.cpu, model, tiles, references, asking).await.map_err(refused)
    }

    /// How the model sees the tiles of a request.
    fn scaling_of(&self, plan: &Plan) -> Scaling {
        match plan.needs_one_window() {
            true => Scaling::whole(plan.model.bundle.manifest.geometry.image_size()),
            false => self.scaling(&plan.model, plan.mpp),
        }
    }

    /// How a model sees tiles whose pixels have `mpp` µm, where that is known.
    fn scaling(&self, model: &Model, mpp: Option<f32>) -> Scaling {
        let manifest = &model.bundle.manifest;
        let scaling = Scaling::up_to(manifest.geometry.image_size(), self.limits.window);
        match (mpp, manifest.familiar.mpp) {
            (Some(mpp), Some([_, coarsest])) => scaling.within(mpp.into(), coarsest),
            _ => scaling,
        }
    }

    /// Memory for what a model sees of a tile, and for the change of one variant.
    pub fn bytes_seen(&self, model: &Model, mpp: Option<f32>, size: (usize, usize)) -> u64 {
        let windows = self.scaling(model, mpp).windows(size);
        decode::windows_bytes(&windows, &model.bundle.manifest.geometry)
            + decode::change_bytes(&windows)
    }

    fn check_counts(&self, counts: Counts) -> Result<(), Error> {
        if counts.tiles == 0 {
            return Err(Error::new(
                ErrorKind::NoTiles,
                "the request holds no tile, and must hold at least one",
            ));
        }
        let (all, max) = (counts.tiles + counts.references, self.limits.max_tiles);
        if all > max {
            let detail = format!(
                "the request holds {all} tiles, its references included, and may hold at most {max}"
            );
            return Err(Error::new(ErrorKind::TooManyTiles, detail));
        }
        Ok(())
    }

    /// Probes the headers, then takes a permit beside that of the body, then decodes the pixels.
    async fn decode(
        &self,
        work: Work<'_>,
        tiles: Vec<TileInput>,
        references: Vec<TileInput>,
        body: &Permit,
    ) -> Result<Admitted, Error> {
        let started = Instant::now();
        let limits = self.limits.codec;
        let probe = move || {
            let sizes = Sizes::probe(&tiles, &references, &limits);
            sizes.map(|sizes| (sizes, tiles, references))
        };
        let (sizes, tiles, references) = self.cpu.run(probe).await??;
        sizes.check()?;
        if work.sheet {
            sizes.check_sheet(&work, limits.max_pixels)?;
        }
        let bytes = sizes.bytes(&work);
        let permit = body.admit(sizes.windows(&work), bytes)?;
        let scaling = work.encodes.then_some(work.scaling);
        let inputs = tiles.iter().chain(&references);
        let working = decode::working_bytes(inputs, &sizes, scaling, self.cpu.threads());
        let permits = vec![Arc::clone(&permit), permit.admit(0, working)?];
        let decoding = Decoding { scaling, limits, permits };
        let (tiles, references) = decode::all(&self.cpu, tiles, references, decoding).await?;
        Ok(Admitted { tiles, references, permit, decode: started.elapsed() })
    }
}

/// A tile that came as a key was admitted as one of the model's size: what its variants need beyond
/// that.
fn admit_beyond(
    plan: &Plan,
    tiles: &[Prepared],
    permit: &Permit,
) -> Result<Option<Arc<Permit>>, Error> {
    let assumed = plan.model.bundle.manifest.geometry.tile_bytes() as u64;
    let beyond =
        |tile: &Prepared| decode::picture_bytes((tile.width, tile.height)).saturating_sub(assumed);
    let keys = tiles.iter().filter(|tile| tile.by_key);
    let bytes: u64 = keys.map(|tile| decode::answer_bytes(beyond(tile), plan.variants)).sum();
    if bytes == 0 { Ok(None) } else { permit.admit(0, bytes).map(Some) }
}

/// The memory in which threads compute the changes of tiles in several windows, each of one tile at
/// a time.
fn admit_changes(
    tiles: &[Prepared],
    threads: usize,
    permit: &Permit,
) -> Result<Option<Arc<Permit>>, Error> {
    let windows = tiles.iter().filter_map(|tile| tile.encoding.as_ref()).map(|tile| &tile.windows);
    let several = windows.filter(|windows| !windows.is_whole());
    let most = several.map(decode::change_bytes).max().unwrap_or_default();
    if most == 0 { Ok(None) } else { permit.admit(0, most * threads as u64).map(Some) }
}

/// Says what the request is about, in its trace.
fn trace_work(model: &Model, counts: Counts) {
    trace::note("restain.model", model.key().to_string());
    trace::note("restain.tiles", (counts.tiles + counts.references) as i64);
}

/// # Errors
/// `pixels_needed`, when a tile came as a key.
fn check_pixels(tiles: &[TileInput], ask: &request::Request) -> Result<(), Error> {
    let Some(place) = tiles.iter().position(|tile| matches!(tile, TileInput::Key(_))) else {
        return Ok(());
    };
    let needs = if ask.output_sheet {
        "a sheet shows the tile itself"
    } else {
        "this method works on the tile's pixels"
    };
    let index = tiles[..place].iter().filter(|tile| matches!(tile, TileInput::Key(_))).count();
    Err(Error::new(
        ErrorKind::PixelsNeeded,
        format!("{needs}, and key {index} has only an encoding: send the tile"),
    )
    .at("key", index))
}

/// The error of a deadline that passed.
pub fn deadline_exceeded(timeout: Duration) -> Error {
    Error::new(
        ErrorKind::DeadlineExceeded,
        format!(
            "no answer within {} ms: ask for less, or allow more with timeout_ms",
            timeout.as_millis()
        ),
    )
}
