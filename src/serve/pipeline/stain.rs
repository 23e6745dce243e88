//! Which tiles of a request have a stain. One that is blank, black, flat or pen has none to give,
//! and takes none: its variants keep its own look.

use super::choose::{Giver, Givers, Of};
use super::make::{Materials, Prepared};
use super::request::Method;
use super::source::Source;
use crate::serve::batch::{Carried, TileEncoding};
use crate::serve::error::{Error, ErrorKind};
use restain_method::exemplar;
use restain_method::synth::Synthesiser;

impl Materials {
    /// Finds the tiles of the request that a style can be taken from, where it is taken from them.
    ///
    /// # Errors
    /// `no_styles`, when references were sent and none of them has a stain.
    pub(super) fn find_givers(mut self) -> Result<Self, Error> {
        let givers = |list: &[Prepared], of: fn(usize) -> Of| {
            let giver = |(index, tile): (usize, &Prepared)| {
                let patches = self.stained_patches(tile);
                (!patches.is_empty()).then_some(Giver { of: of(index), patches })
            };
            Givers(list.iter().enumerate().filter_map(giver).collect())
        };
        let givers = match self.plan.style.source {
            Source::Own | Source::Batch => givers(&self.tiles, Of::Tile),
            Source::Reference => givers(&self.references, Of::Reference),
            Source::Bank(_) | Source::Blend(_) | Source::None => return Ok(self),
        };
        if self.plan.style.source == Source::Reference && givers.0.is_empty() {
            let detail = "no reference tile has a stain to give: each is blank, black, flat or pen";
            return Err(Error::new(ErrorKind::NoStyles, detail));
        }
        self.givers = givers;
        Ok(self)
    }

    /// Whether a tile's variants take a style.
    pub(super) fn takes_style(&self, tile: &Prepared) -> bool {
        match self.plan.method {
            Method::HedJitter | Method::Identity => true,
            Method::Vit | Method::ColorMatch => tile.takes_style(&self.plan.model.synthesiser),
        }
    }

    /// The patches that a stain can be taken from. A method that works on pixels takes that of the
    /// whole tile, as patch 0.
    fn stained_patches(&self, tile: &Prepared) -> Vec<usize> {
        match &tile.encoding {
            Some(encoding) => {
                let stained = tile.stained(&self.plan.model.synthesiser, encoding);
                let places = stained.iter().enumerate().filter(|(_, stained)| **stained);
                places.map(|(patch, _)| patch).collect()
            }
            None => {
                if tile.has_stain == Some(true) {
                    vec![0]
                } else {
                    Vec::new()
                }
            }
        }
    }
}

impl Prepared {
    /// Whether there is a stain in its pixels; of a key without an encoding that is not known.
    pub(super) fn takes_style(&self, synthesiser: &Synthesiser) -> bool {
        match (self.has_stain, &self.encoding) {
            (Some(has_stain), _) => has_stain,
            (None, Some(encoding)) => match encoding.carried() {
                Carried::Pixels(pixels) => {
                    exemplar::has_stain(pixels, encoding.size.0 as usize, exemplar::STAIN_SQUARE)
                }
                Carried::Residual(..) => self.stained(synthesiser, encoding).contains(&true),
            },
            (None, None) => true,
        }
    }

    /// The mean characteristics of its patches with a stain, `[S]`; nothing where none has one.
    pub(super) fn own_stain(&self, synthesiser: &Synthesiser) -> Option<&[f32]> {
        let (geometry, encoding) = (synthesiser.geometry(), self.encoding());
        encoding.stain(|| {
            let stained = self.stained(synthesiser, encoding).chunks_exact(geometry.patches());
            let characteristics = encoding.seen().map(|window| window.characteristics);
            exemplar::mean_style(geometry, characteristics.zip(stained))
        })
    }

    /// Looked for in the pixels that the encoder saw, window by window.
    fn stained<'a>(&self, synthesiser: &Synthesiser, encoding: &'a TileEncoding) -> &'a [bool] {
        let geometry = synthesiser.geometry();
        encoding.stained(|| match &self.for_model {
            Some(seen) => exemplar::stained_in(geometry, &seen.windows, &seen.canvas),
            None => {
                let canvas = encoding.canvas(synthesiser, &mut synthesiser.scratch());
                exemplar::stained_in(geometry, &encoding.windows, &canvas)
            }
        })
    }
}
