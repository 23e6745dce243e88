//! Buffers of one thread that makes variants. They grow to what the first variants need, and are
//! used again for the next.

use restain_method::synth::{Scratch, Synthesiser};
use restain_method::upsample::{UpsampleScratch, Upsampler};

pub(super) struct Workspace {
    pub scratch: Scratch,
    /// `[h]`: a style, widened.
    pub style: Vec<f32>,
    /// `[N, h]`: characteristics mixed with the tile's own, or less them.
    pub mixed: Vec<f32>,
    /// `[H, W, 3]` of the model: what a style changes about a tile of another size.
    pub change: Vec<f32>,
    pub upsample: UpsampleScratch,
    pub upsampler: LastUpsampler,
}

/// The last upsampler: tiles of one request mostly have one size.
#[derive(Default)]
pub(super) struct LastUpsampler(Option<((u32, u32), Upsampler)>);

impl Workspace {
    pub(super) fn new(synthesiser: &Synthesiser) -> Self {
        Self {
            scratch: synthesiser.scratch(),
            style: vec![0.0; synthesiser.geometry().half()],
            mixed: Vec::new(),
            change: Vec::new(),
            upsample: UpsampleScratch::default(),
            upsampler: LastUpsampler::default(),
        }
    }
}

impl LastUpsampler {
    /// From `side` × `side` to the width and height of `size`.
    pub(super) fn of(&mut self, side: usize, size: (u32, u32)) -> &Upsampler {
        let last = self.0.take().filter(|(of, _)| *of == size);
        let next =
            last.unwrap_or_else(|| (size, Upsampler::new(side, size.0 as usize, size.1 as usize)));
        &self.0.insert(next).1
    }
}
