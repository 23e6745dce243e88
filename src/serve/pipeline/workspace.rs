//! Buffers of one thread that makes variants. They grow to what the first variants need, and are
//! used again for the next.

use crate::serve::batch::TileEncoding;
use restain_method::synth::{Scratch, Synthesiser};
use restain_method::upsample::{UpsampleScratch, Upsampler};

pub(super) struct Workspace {
    pub scratch: Scratch,
    /// `[S]`: a style, widened.
    pub style: Vec<f32>,
    /// `[N, S]`: characteristics mixed with the tile's own, or less them.
    pub mixed: Vec<f32>,
    /// `[rows, columns, 3]` of the canvas: what a style changes about a tile of another size.
    pub change: Vec<f32>,
    /// `[H, W, 3]` of the model: the same in one window of several.
    pub of_window: Vec<f32>,
    pub upsample: UpsampleScratch,
    pub upsampler: LastUpsampler,
}

/// The last upsampler: tiles of one request mostly have one size.
#[derive(Default)]
pub(super) struct LastUpsampler(Option<(Sizes, Upsampler)>);

/// Of a canvas, and of a tile.
type Sizes = ((usize, usize), (usize, usize));

impl Workspace {
    pub(super) fn new(synthesiser: &Synthesiser) -> Self {
        Self {
            scratch: synthesiser.scratch(),
            style: vec![0.0; synthesiser.geometry().style_len()],
            mixed: Vec::new(),
            change: Vec::new(),
            of_window: Vec::new(),
            upsample: UpsampleScratch::default(),
            upsampler: LastUpsampler::default(),
        }
    }
}

impl LastUpsampler {
    /// From a tile's canvas to its own size.
    pub(super) fn of(&mut self, tile: &TileEncoding) -> &Upsampler {
        let sizes = (tile.windows.canvas(), (tile.size.0 as usize, tile.size.1 as usize));
        let last = self.0.take().filter(|(of, _)| *of == sizes);
        let next = last.unwrap_or_else(|| (sizes, Upsampler::new(sizes.0, sizes.1)));
        &self.0.insert(next).1
    }
}
