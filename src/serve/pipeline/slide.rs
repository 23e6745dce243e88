//! The context of a slide: what some of its tiles say of its own stain.
//!
//! One tile cannot say it, because its statistics depend on what is in it. The context is the mean
//! of the characteristics of all patches with a stain, and the colours of all pixels, and its id is
//! a hash of the tiles' keys: the same tiles in any order give the same slide.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::encode::Asking;
use super::request::Counts;
use super::{Admitted, Pipeline, Request, Work};
use crate::serve::batch::{TileEncoding, at_canvas};
use crate::serve::error::{Error, ErrorKind};
use crate::serve::models::Model;
use crate::serve::runtime::cpu;
use crate::serve::styles::Offer;
use crate::serve::trace;
use restain_bundle::codec::TileKey;
use restain_method::Style;
use restain_method::color::ChannelStats;
use restain_method::exemplar;
use restain_request::field;

/// Bytes of the hash in an id: as unlikely to be met twice as that of a file.
const ID_BYTES: usize = 16;

/// A slide that is kept.
pub struct AddedSlide {
    pub model: Arc<Model>,
    pub id: String,
    /// How many different tiles it was made from.
    pub tiles: usize,
}

/// The slides of a request's tiles, as places in the bank's.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Slides {
    /// Each tile stands for itself.
    #[default]
    None,
    One(usize),
    Each(Vec<usize>),
}

impl Slides {
    /// Resolves what a request says of slides.
    ///
    /// # Errors
    /// `unknown_slide` or `slide_count`.
    pub(super) fn new(
        bank: &Offer,
        ask: &super::request::Request,
        counts: Counts,
    ) -> Result<Self, Error> {
        let Some(ids) = ask.slide.as_deref().filter(|ids| !ids.is_empty()) else {
            return Ok(Self::None);
        };
        let name = ask.name(&field::slide);
        if ids.len() != 1 && ids.len() != counts.tiles {
            let detail = format!(
                "{name} has {} ids for {} tiles, and must have one for all tiles or one for each",
                ids.len(),
                counts.tiles
            );
            return Err(Error::new(ErrorKind::SlideCount, detail));
        }
        let places = ids.iter().map(|id| bank.find_slide(&name, id));
        let places: Vec<usize> = places.collect::<Result<_, _>>()?;
        Ok(if let [place] = places[..] { Self::One(place) } else { Self::Each(places) })
    }

    /// The slide of a tile of the request.
    pub(super) fn of(&self, tile: usize) -> Option<usize> {
        match self {
            Self::None => None,
            Self::One(place) => Some(*place),
            Self::Each(places) => Some(places[tile]),
        }
    }
}

impl Pipeline {
    /// Adds the context of a slide from some of its tiles; when this returns, it is kept.
    ///
    /// # Errors
    /// One of the table's kinds, with the sentence for the caller.
    pub async fn add_slide(&self, request: Request) -> Result<AddedSlide, Error> {
        let (timeout, received) = (request.ask.timeout_ms, request.received);
        self.in_time(timeout, received, async |deadline| self.slide(request, deadline).await).await
    }

    async fn slide(&self, request: Request, deadline: Instant) -> Result<AddedSlide, Error> {
        let Request { ask, tiles, permit: body, tenant, .. } = request;
        let model = self.models.find(ask.model.as_deref())?;
        self.check_counts(Counts { tiles: tiles.len(), references: 0 })?;
        let scaling = self.scaling(&model, ask.mpp);
        let work = Work::encoding(&model, scaling);
        let Admitted { tiles, permit, .. } =
            trace::stage("decode", self.decode(work, tiles, Vec::new(), &body)).await?;
        let (priority, held) = (ask.priority, Arc::clone(&permit));
        let asking = Asking { deadline, priority, permit: held, tenant, scaling };
        let encodings = self.encoded(&model, &tiles, &[], asking).await?.tiles;
        // In the order of their keys, each once.
        let tiles: BTreeMap<[u8; TileKey::BYTES], Arc<TileEncoding>> =
            tiles.iter().map(|tile| *tile.key.as_bytes()).zip(encodings).collect();
        let count = tiles.len();
        let (of, held) = (Arc::clone(&model), permit);
        let measure = move || {
            let _held = held;
            let id = id(tiles.keys());
            context(&of, tiles.into_values()).map(|(style, source)| (id, style, source))
        };
        let (id, style, source) = self.cpu.run(measure).await??;
        let kept_by = Arc::clone(&model);
        let keep = move || {
            if kept_by.styles.add_slide(&id, style, source)? {
                tracing::info!(
                    slide = id,
                    tiles = count,
                    model = kept_by.name(),
                    version = kept_by.version(),
                    "a slide was added"
                );
            }
            Ok::<_, Error>(id)
        };
        let id = cpu::blocking(keep).await??;
        Ok(AddedSlide { model, id, tiles: count })
    }

    /// Removes the context of a slide.
    ///
    /// # Errors
    /// As [`Bank::remove_slide`](crate::serve::styles::Bank::remove_slide), and `model_not_found`.
    pub async fn remove_slide(&self, id: String, model: Option<&str>) -> Result<(), Error> {
        let model = self.models.find(model)?;
        cpu::blocking(move || model.styles.remove_slide(&id)).await?
    }
}

fn id<'a>(keys: impl Iterator<Item = &'a [u8; TileKey::BYTES]>) -> String {
    let mut hasher = blake3::Hasher::new();
    keys.for_each(|key| {
        hasher.update(key);
    });
    hasher.finalize().to_hex()[..2 * ID_BYTES].to_owned()
}

fn context(
    model: &Model,
    tiles: impl Iterator<Item = Arc<TileEncoding>>,
) -> Result<(Style, ChannelStats), Error> {
    let synthesiser = &model.synthesiser;
    let geometry = synthesiser.geometry();
    let mut scratch = synthesiser.scratch();
    let tiles: Vec<(Arc<TileEncoding>, Bytes)> = tiles
        .map(|tile| {
            let pixels = tile.pixels(synthesiser, &mut scratch);
            (tile, pixels)
        })
        .collect();
    let patches = tiles.iter().flat_map(|(tile, pixels)| {
        let find = || {
            let canvas = at_canvas(tile.size, pixels, &tile.windows);
            exemplar::stained_in(geometry, &tile.windows, &canvas)
        };
        let characteristics = tile.seen().map(|window| window.characteristics);
        characteristics.zip(tile.stained(find).chunks_exact(geometry.patches()))
    });
    let style = exemplar::mean_style(geometry, patches).ok_or_else(|| {
        let detail = format!(
            "none of the {} tiles has tissue: background, pen, and what is black or flat, has no \
            stain",
            tiles.len()
        );
        Error::new(ErrorKind::NoStyles, detail)
    })?;
    if style.0.iter().any(|value| !value.is_finite()) {
        return Err(Error::internal(&"a slide has values that are not finite"));
    }
    Ok((style, ChannelStats::from_tiles(tiles.iter().map(|(_, pixels)| &pixels[..]))))
}
