//! Tiles in, encodings out: for a caller who makes the variants.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::answer::{EncodeAnswer, EncoderAbout, Timings};
use super::decode::Decoded;
use super::encode::{Asking, EncodedTiles};
use super::make::Prepared;
use super::request::{Counts, Detail};
use super::{Admitted, Pipeline, Request, Work, trace_work};
use crate::serve::admission::Permit;
use crate::serve::batch::TileEncoding;
use crate::serve::error::Error;
use crate::serve::models::Phases;
use crate::serve::trace;
use restain_method::windows::Scaling;

impl Pipeline {
    /// Tiles in, encodings out.
    ///
    /// # Errors
    /// One of the table's kinds, with the sentence for the caller.
    pub async fn encode(&self, request: Request) -> Result<EncodeAnswer, Error> {
        let (timeout, received) = (request.ask.timeout_ms, request.received);
        self.in_time(timeout, received, async |deadline| self.encodings(request, deadline).await)
            .await
    }

    async fn encodings(&self, request: Request, deadline: Instant) -> Result<EncodeAnswer, Error> {
        let Request { ask, tiles, permit: body, received, tenant, .. } = request;
        let model = self.models.find(ask.model.as_deref())?;
        let asked = model.statistics.asked(received);
        let counts = Counts { tiles: tiles.len(), references: 0 };
        trace_work(&model, counts);
        self.check_counts(counts)?;
        let scaling = match ask.detail {
            Detail::Carry => self.scaling(&model, ask.mpp),
            Detail::Model => Scaling::whole(model.bundle.manifest.geometry.image_size()),
        };
        let work = Work::encoding(&model, scaling);
        let Admitted { tiles, permit, decode, .. } =
            trace::stage("decode", self.decode(work, tiles, Vec::new(), &body)).await?;
        let held = Arc::clone(&permit);
        let asking = Asking { deadline, priority: ask.priority, permit: held, tenant, scaling };
        let EncodedTiles { tiles: encodings, queue, encode, .. } =
            self.encoded(&model, &tiles, &[], asking).await?;
        asked.answered(tiles.len(), &Phases { queue, decode, encode, synthesise: Duration::ZERO });
        let mut permits = vec![body, Arc::clone(&permit)];
        permits.extend(admit_windows(&tiles, &encodings, &permit)?);
        let tiles = Prepared::all(tiles, encodings, None, false);
        let (about, held) = (EncoderAbout::of(&model, self.limits.window), permits.clone());
        let finish = move || {
            let _held = held;
            tiles.into_iter().map(|tile| tile.encoded(&model.synthesiser)).collect()
        };
        Ok(EncodeAnswer {
            about,
            detail: ask.detail,
            tiles: self.cpu.run(finish).await?,
            timings: Timings { queue, encode, ..Timings::default() },
            permits,
        })
    }
}

/// A tile that came as a key was admitted as one window: what the answer has of the others.
fn admit_windows(
    tiles: &[Decoded],
    encodings: &[Arc<TileEncoding>],
    permit: &Permit,
) -> Result<Option<Arc<Permit>>, Error> {
    let keys = tiles.iter().zip(encodings).filter(|(tile, _)| tile.pixels.is_none());
    let beyond = keys.map(|(_, encoding)| {
        let all = size_of_val(encoding.latents());
        (all - all / encoding.windows.count()) as u64
    });
    let bytes: u64 = beyond.sum();
    (bytes > 0).then(|| permit.admit(0, bytes)).transpose()
}
