//! All variants of a request, into one piece of memory: computing, on the CPU threads.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rayon::prelude::*;

use super::answer::{About, Answer, AnsweredTile, MadeVariant, Origin, Timings};
use super::make::Materials;
use super::workspace::Workspace;
use super::{Pipeline, decode};
use crate::serve::admission::Permit;
use crate::serve::error::Error;
use crate::serve::runtime::buffers::Buffers;

/// Variants of one tile to make on one thread: the first of them, and where their pixels go.
struct Group<'a> {
    tile: usize,
    first: usize,
    pixels: Vec<&'a mut [u8]>,
}

/// Groups for each thread: few enough that a group goes over its tile's anatomy once, enough that
/// no thread waits long for another.
const GROUPS_A_THREAD: usize = 4;

impl Pipeline {
    pub(super) async fn synthesise(
        &self,
        materials: Materials,
        timings: Timings,
        permits: Vec<Arc<Permit>>,
    ) -> Result<Answer, Error> {
        let started = Instant::now();
        let (held, buffers) = (permits.clone(), Arc::clone(&self.buffers));
        let work = move || {
            let _held = held;
            let (pixels, origins) = make_all(&materials, &buffers);
            (materials, pixels, origins)
        };
        let (materials, pixels, origins) = self.cpu.run(work).await?;
        let synthesise = started.elapsed();
        self.metrics.synthesised(origins.len(), synthesise);
        let Materials { plan, tiles, .. } = materials;
        let (mut origins, mut end) = (origins.into_iter(), 0);
        let tiles = tiles.into_iter().map(|tile| {
            let size = decode::picture_bytes((tile.width, tile.height)) as usize;
            let made = origins
                .by_ref()
                .take(plan.variants)
                .map(|origin| MadeVariant { origin, pixels: next(&mut end, size) });
            let variants = made.collect();
            AnsweredTile {
                key: tile.key,
                width: tile.width,
                height: tile.height,
                fidelity: tile.encoding.as_ref().map(|encoding| encoding.fidelity),
                original: tile.original,
                variants,
            }
        });
        let tiles = tiles.collect();
        let about = About {
            model: plan.model.name().to_owned(),
            version: plan.model.version().to_owned(),
            bundle: plan.model.bundle.digest.clone(),
            seed: plan.seed,
            method: plan.method,
            detail: plan.encodes().then_some(plan.detail),
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

/// The next `size` places.
fn next(end: &mut usize, size: usize) -> Range<usize> {
    let start = std::mem::replace(end, *end + size);
    start..*end
}

/// The pixels of all variants, tile by tile, and where each comes from.
fn make_all(materials: &Materials, buffers: &Arc<Buffers>) -> (Bytes, Vec<Origin>) {
    let variants = materials.plan.variants;
    let sizes: Vec<usize> = materials
        .tiles
        .iter()
        .map(|tile| decode::picture_bytes((tile.width, tile.height)) as usize)
        .collect();
    let mut pixels = buffers.take(sizes.iter().sum::<usize>() * variants);
    let most = (sizes.len() * variants)
        .div_ceil(GROUPS_A_THREAD * rayon::current_num_threads())
        .clamp(1, variants);
    let mut groups = Vec::new();
    let mut rest = &mut pixels[..];
    for (tile, size) in sizes.into_iter().enumerate() {
        for first in (0..variants).step_by(most) {
            let (of_group, after) = rest.split_at_mut(size * most.min(variants - first));
            groups.push(Group { tile, first, pixels: of_group.chunks_exact_mut(size).collect() });
            rest = after;
        }
    }
    let make = |workspace: &mut _, mut group: Group<'_>| {
        materials.make(group.tile, group.first, workspace, &mut group.pixels)
    };
    let origins: Vec<Vec<Origin>> = groups
        .into_par_iter()
        .map_init(|| Workspace::new(&materials.plan.model.synthesiser), make)
        .collect();
    (Bytes::from_owner(pixels), origins.into_iter().flatten().collect())
}
