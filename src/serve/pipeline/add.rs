//! A domain out of reference tiles: decoded, admitted and encoded as any tile is, and then one style from each, chosen as
//! the trainer chooses them.

use std::sync::Arc;
use std::time::Instant;

use super::decode::{Decoded, TileInput};
use super::plan::{Counts, Plan};
use super::request::{AugmentRequest, StyleRequest, StyleSource};
use super::{Admitted, Pipeline, batch_error, deadline_exceeded};
use crate::method::Style;
use crate::method::color::ChannelStats;
use crate::method::exemplar::{self, ENOUGH_TISSUE};
use crate::serve::admission::Permit;
use crate::serve::batch::{EncodeRequest, TileEncoding};
use crate::serve::error::{Error, ErrorKind};
use crate::serve::models::Model;
use crate::serve::styles::MAX_ADDED_STYLES;

/// Styles taken when a request does not say how many.
const DEFAULT_STYLES: u64 = 16;

/// A domain to be added, read off its wire.
pub struct AddStyles {
    pub domain: String,
    pub model: Option<String>,
    pub styles: Option<u64>,
    pub resize: bool,
    pub tiles: Vec<TileInput>,
    /// When its first byte came.
    pub received: Instant,
    /// For the bytes of its body.
    pub permit: Arc<Permit>,
}

impl Pipeline {
    /// Adds the domain; when this returns, it is kept. Gives the model it was added to.
    ///
    /// # Errors
    /// One of the table's kinds, with the sentence for the caller.
    pub async fn add_styles(&self, request: AddStyles) -> Result<Arc<Model>, Error> {
        let timeout = self.limits.timeout;
        let deadline = request.received + timeout;
        match tokio::time::timeout_at(deadline.into(), self.add(request, deadline)).await {
            Ok(Err(error)) if error.kind == ErrorKind::DeadlineExceeded => Err(deadline_exceeded(timeout)),
            Ok(added) => added,
            Err(_) => Err(deadline_exceeded(timeout)),
        }
    }

    async fn add(&self, request: AddStyles, deadline: Instant) -> Result<Arc<Model>, Error> {
        let AddStyles { domain, model, styles, resize, tiles, permit: _body, .. } = request;
        let model = self.models.find(model.as_deref())?;
        let wanted = styles.unwrap_or(DEFAULT_STYLES);
        let wanted = usize::try_from(wanted).ok().filter(|wanted| (1..=MAX_ADDED_STYLES).contains(wanted)).ok_or_else(|| {
            Error::new(ErrorKind::StylesOutOfRange, format!("styles is {wanted}, and must be from 1 to {MAX_ADDED_STYLES}"))
        })?;
        model.styles.check_new(&domain)?;
        let counts = Counts { tiles: tiles.len(), references: 0 };
        self.check_counts(counts)?;
        // What is needed of the tiles is what their own style would need.
        let own = StyleRequest { from: StyleSource::Own, ..StyleRequest::default() };
        let plan = Plan::new(Arc::clone(&model), &AugmentRequest { style: own, resize, ..AugmentRequest::default() }, counts, 1)?;
        let Admitted { tiles, permit, .. } = self.decode(&plan, tiles, Vec::new()).await?;

        let chosen_for = Arc::clone(&model);
        let tiles = self.cpu.run(move || choose(&chosen_for, &tiles, wanted)).await??;
        let request = EncodeRequest { tiles: tiles.clone(), deadline, permit: Arc::clone(&permit) };
        let encodings = model.batch.encode(request).await.map_err(batch_error)?.encodings;
        let mut styles = Vec::with_capacity(tiles.len());
        for (tile, encoding) in tiles.into_iter().zip(encodings) {
            // One after the other: this is hundreds of products a tile, and those who wait for a variant go in between.
            // A caller who leaves costs no more than the tile in work.
            let (of, held) = (Arc::clone(&model), Arc::clone(&permit));
            let work = move || {
                let _held = held;
                style(&of, &tile, &encoding)
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
            tracing::info!(domain, model = kept_by.name(), version = kept_by.version(), "a domain was added");
            models.tell();
            Ok(())
        };
        tokio::task::spawn_blocking(keep).await.map_err(|panicked| Error::internal(&panicked))??;
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
            tracing::info!(domain, model = model.name(), version = model.version(), "a domain was removed");
            models.tell();
            Ok(())
        };
        tokio::task::spawn_blocking(remove).await.map_err(|panicked| Error::internal(&panicked))?
    }
}

/// The tiles that styles are taken from, in their order.
fn choose(model: &Model, tiles: &[Decoded], wanted: usize) -> Result<Vec<Arc<[u8]>>, Error> {
    let geometry = &model.bundle.manifest.geometry;
    let pixels = tiles.iter().filter_map(|tile| tile.model_pixels.clone());
    let tissue: Vec<Arc<[u8]>> = pixels.filter(|tile| exemplar::is_tissue(geometry, tile, ENOUGH_TISSUE)).collect();
    if tissue.is_empty() {
        let detail = format!("none of the {} tiles is half tissue or more, and background has no stain to give", tiles.len());
        return Err(Error::new(ErrorKind::NoStyles, detail));
    }
    Ok(exemplar::typical(&tissue, wanted).into_iter().map(|index| Arc::clone(&tissue[index])).collect())
}

fn style(model: &Model, tile: &[u8], encoding: &TileEncoding) -> (Style, ChannelStats) {
    let TileEncoding { anatomy, characteristics } = encoding;
    let patch = exemplar::representative(&model.synthesiser, tile, anatomy, characteristics);
    (exemplar::style_of(model.synthesiser.geometry(), characteristics, patch), ChannelStats::from_tile(tile))
}
