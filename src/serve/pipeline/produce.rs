//! All variants of a request, into one piece of memory: computing, on the CPU threads.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::answer::{About, Answer, AnsweredTile, MadeVariant, Timings};
use super::make::Materials;
use super::workspace::Workspace;
use super::{Pipeline, decode};
use crate::serve::admission::Permit;
use crate::serve::error::{Error, ErrorKind};

/// Variants of one tile to make as one piece of work: the first of them, and where their pixels go.
struct Group {
    tile: usize,
    first: usize,
    /// Of one variant.
    size: usize,
    pixels: BytesMut,
}

/// Groups for each thread: few enough that a group goes over its tile's anatomy once, enough that
/// no thread waits long for another.
const GROUPS_A_THREAD: usize = 4;
/// Most bytes of a group, however few groups there are: a thread is not taken for longer.
const GROUP_BYTES: usize = 12 << 20;

impl Pipeline {
    pub(super) async fn synthesise(
        &self,
        materials: Materials,
        timings: Timings,
        permits: Vec<Arc<Permit>>,
    ) -> Result<Answer, Error> {
        let started = Instant::now();
        let variants = materials.plan.variants;
        let sizes: Vec<usize> = materials
            .tiles
            .iter()
            .map(|tile| decode::picture_bytes((tile.width, tile.height)) as usize)
            .collect();
        let buffer =
            self.buffers.take(sizes.iter().sum::<usize>() * variants).map_err(no_memory)?;
        let places = groups(&sizes, variants, self.cpu.threads());
        let (pieces, cut) =
            buffer.cut(places.iter().map(|(tile, group)| sizes[*tile] * group.len()));
        let groups = places.into_iter().zip(pieces).map(|((tile, group), pixels)| Group {
            tile,
            first: group.start,
            size: sizes[tile],
            pixels,
        });
        let materials = Arc::new(materials);
        let (of, held, workspaces) =
            (Arc::clone(&materials), permits.clone(), Mutex::new(Vec::new()));
        let make = move |mut group: Group| {
            let _held = &held;
            let mut workspace = lock(&workspaces)
                .pop()
                .unwrap_or_else(|| Workspace::new(&of.plan.model.synthesiser));
            let mut pixels: Vec<&mut [u8]> = group.pixels.chunks_exact_mut(group.size).collect();
            let origins = of.make(group.tile, group.first, &mut workspace, &mut pixels);
            lock(&workspaces).push(workspace);
            (group.pixels, origins)
        };
        let made = self.cpu.each(groups.collect(), make).await?;
        let (pieces, origins): (Vec<_>, Vec<_>) = made.into_iter().unzip();
        let pixels = Bytes::from_owner(cut.join(pieces));
        let synthesise = started.elapsed();
        let Materials { plan, tiles, .. } = &*materials;
        self.metrics.synthesised(variants * tiles.len(), synthesise);
        let (mut origins, mut end) = (origins.into_iter().flatten(), 0);
        let tiles = tiles.iter().zip(&sizes).enumerate().map(|(place, (tile, &size))| {
            let made = origins
                .by_ref()
                .take(variants)
                .map(|origin| MadeVariant { origin, pixels: next(&mut end, size) });
            let variants = made.collect();
            AnsweredTile {
                key: tile.key,
                width: tile.width,
                height: tile.height,
                fidelity: tile.encoding.as_ref().map(|encoding| encoding.fidelity),
                windows: tile.encoding.as_ref().map_or(0, |encoding| encoding.windows.count()),
                warning: plan.warning(tile),
                slide: plan.slide_of(place).map(|slide| plan.bank.slide_id(slide).to_owned()),
                original: tile.original.clone(),
                variants,
            }
        });
        let tiles: Vec<AnsweredTile> = tiles.collect();
        let origins = tiles.iter().flat_map(|tile| &tile.variants).map(|variant| &variant.origin);
        let clipped = origins.filter_map(|origin| origin.clipped);
        self.metrics.clipped(plan.model.name(), clipped);
        let unfamiliar = tiles.iter().filter(|tile| tile.warning.is_some()).count();
        self.metrics.unfamiliar(plan.model.name(), unfamiliar);
        let about = About {
            model: plan.model.name().to_owned(),
            version: plan.model.version().to_owned(),
            bundle: plan.model.bundle.digest.clone(),
            seed: plan.seed,
            method: plan.method,
            detail: plan.encodes().then_some(plan.detail),
            mpp: plan.mpp,
        };
        Ok(Answer {
            about,
            output: plan.output,
            tiles,
            pixels,
            timings: Timings { synthesise, ..timings },
            permits,
        })
    }
}

fn no_memory(error: std::collections::TryReserveError) -> Error {
    tracing::warn!(%error, "memory that was admitted cannot be had");
    let detail = "the server has not the memory for the answer: ask for less, or later";
    Error::new(ErrorKind::Overloaded, detail)
}

/// No code panics while it holds this lock.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The next `size` places.
fn next(end: &mut usize, size: usize) -> Range<usize> {
    let start = std::mem::replace(end, *end + size);
    start..*end
}

/// The variants of every tile in groups, tile by tile.
fn groups(sizes: &[usize], variants: usize, threads: usize) -> Vec<(usize, Range<usize>)> {
    let shared = (sizes.len() * variants).div_ceil(GROUPS_A_THREAD * threads);
    let mut groups = Vec::new();
    for (tile, size) in sizes.iter().enumerate() {
        let most = shared.min(GROUP_BYTES / (*size).max(1)).clamp(1, variants);
        let starts = (0..variants).step_by(most);
        groups.extend(starts.map(|first| (tile, first..variants.min(first + most))));
    }
    groups
}
