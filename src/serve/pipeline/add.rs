//! A domain out of reference tiles: decoded, admitted and encoded as any tile is, and then one
//! style from each, chosen as the trainer chooses them.

use std::sync::Arc;
use std::time::Instant;

use super::decode::{Decoded, TileInput};
use super::encode::Asking;
use super::request::{Counts, Request};
use super::{Admitted, Pipeline, Work};
use crate::serve::admission::Permit;
use crate::serve::batch::{Priority, TileEncoding, Window};
use crate::serve::cache::Tenant;
use crate::serve::error::{Error, ErrorKind};
use crate::serve::models::Model;
use crate::serve::runtime::cpu;
use crate::serve::trace;
use restain_method::Style;
use restain_method::color::ChannelStats;
use restain_method::exemplar::{self, ENOUGH_TISSUE};
use restain_method::windows::Scaling;

/// A domain to be added, read off its wire.
pub struct AddStyles {
    pub ask: Request,
    pub tiles: Vec<TileInput>,
    /// When its first byte came.
    pub received: Instant,
    /// For the bytes of its body.
    pub permit: Arc<Permit>,
    /// Whose encodings it may use.
    pub tenant: Tenant,
}

impl Pipeline {
    /// Adds the domain; when this returns, it is kept. Gives the model it was added to.
    ///
    /// # Errors
    /// One of the table's kinds, with the sentence for the caller.
    pub async fn add_styles(&self, request: AddStyles) -> Result<Arc<Model>, Error> {
        let (timeout, received) = (request.ask.timeout_ms, request.received);
        self.in_time(timeout, received, async |deadline| self.add(request, deadline).await).await
    }

    async fn add(&self, request: AddStyles, deadline: Instant) -> Result<Arc<Model>, Error> {
        let AddStyles { ask, tiles, permit: body, tenant, .. } = request;
        let Request { domain, model, styles, .. } = ask;
        let model = self.models.find(model.as_deref())?;
        let wanted = usize::try_from(styles).unwrap_or(usize::MAX);
        model.styles.check_new(&domain)?;
        self.check_counts(Counts { tiles: tiles.len(), references: 0 })?;
        let scaling = Scaling::whole(model.bundle.manifest.geometry.image_size());
        let work = Work {
            model: &model,
            encodes: true,
            variants: 1,
            at_model_size: true,
            sheet: false,
            scaling,
        };
        let Admitted { tiles, permit, .. } =
            trace::stage("decode", self.decode(work, tiles, Vec::new(), &body)).await?;

        let chosen_for = Arc::clone(&model);
        let tiles = self.cpu.run(move || choose(&chosen_for, tiles, wanted)).await??;
        let (priority, held) = (Priority::Interactive, Arc::clone(&permit));
        let asking = Asking { deadline, priority, permit: held, tenant, scaling };
        let encodings = self.encoded(&model, &tiles, &[], asking).await?.tiles;
        let mut styles = Vec::with_capacity(tiles.len());
        for (tile, encoding) in tiles.into_iter().zip(encodings) {
            // One after the other: this is hundreds of products a tile, and those who wait for a
            // variant go in between. A caller who leaves costs no more than the tile in work.
            let (of, held) = (Arc::clone(&model), Arc::clone(&permit));
            let work = move || {
                let _held = held;
                style(&of, model_pixels(&tile), &encoding)
            };
            styles.push(self.cpu.run(work).await?);
        }
        if styles.iter().any(|(style, _)| style.0.iter().any(|value| !value.is_finite())) {
            return Err(Error::internal(&"a style has values that are not finite"));
        }
        // Once the file is being written it is written to the end, whatever becomes of the caller.
        let (models, kept_by) = (Arc::clone(&self.models), Arc::clone(&model));
        let keep = move || {
            kept_by.styles.add(&domain, styles)?;
            tracing::info!(
                domain,
                model = kept_by.name(),
                version = kept_by.version(),
                "a domain was added"
            );
            models.update_metrics();
            Ok(())
        };
        cpu::blocking(keep).await??;
        Ok(model)
    }

    /// Removes a domain that was added.
    ///
    /// # Errors
    /// As [`Bank::remove`](crate::serve::styles::Bank::remove), and `model_not_found`.
    pub async fn remove_styles(&self, domain: String, model: Option<&str>) -> Result<(), Error> {
        let (models, model) = (Arc::clone(&self.models), self.models.find(model)?);
        let remove = move || {
            model.styles.remove(&domain)?;
            tracing::info!(
                domain,
                model = model.name(),
                version = model.version(),
                "a domain was removed"
            );
            models.update_metrics();
            Ok(())
        };
        cpu::blocking(remove).await?
    }
}

/// The tiles that styles are taken from, in their order.
fn choose(model: &Model, tiles: Vec<Decoded>, wanted: usize) -> Result<Vec<Decoded>, Error> {
    let (geometry, sent) = (&model.bundle.manifest.geometry, tiles.len());
    let mut tissue = tiles;
    tissue.retain(|tile| {
        let patches = exemplar::stained(geometry, model_pixels(tile));
        let stained = patches.iter().filter(|&&stained| stained).count();
        stained as f64 >= ENOUGH_TISSUE * patches.len() as f64
    });
    if tissue.is_empty() {
        let detail = format!(
            "none of the {sent} tiles is half tissue or more: background, pen, and what is black \
            or flat, has no stain to give"
        );
        return Err(Error::new(ErrorKind::NoStyles, detail));
    }
    let typical = exemplar::typical(&tissue.iter().map(model_pixels).collect::<Vec<_>>(), wanted);
    let mut index = 0..;
    tissue.retain(|_| index.next().is_some_and(|index| typical.contains(&index)));
    Ok(tissue)
}

/// The pixels that the encoder sees.
fn model_pixels(tile: &Decoded) -> &[u8] {
    let pixels = tile.pixels.as_ref().and_then(|pixels| pixels.for_model.as_ref());
    &pixels.expect("reference tiles come whole, and are decoded for the model").canvas
}

fn style(model: &Model, tile: &[u8], encoding: &TileEncoding) -> (Style, ChannelStats) {
    let Window { anatomy, characteristics } = encoding.first();
    let patch = exemplar::representative(&model.synthesiser, tile, anatomy, characteristics);
    (
        exemplar::style_of(model.synthesiser.geometry(), characteristics, patch),
        ChannelStats::from_tile(tile),
    )
}
