//! The variant of a tile of any size as a server makes it by default: the tile, and what the style
//! changes about it, computed at the model's size, in windows where the tile is large.

use anyhow::Result;

use crate::encodings::Model;
use restain_method::Style;
use restain_method::exemplar::{mean_style, stained_in};
use restain_method::geometry::CHANNELS;
use restain_method::glass::keep_glass;
use restain_method::shrink::shrink;
use restain_method::upsample::{UpsampleScratch, Upsampler};
use restain_method::windows::{Scaling, Windows};

/// The server's own `--window`.
const WINDOW: f64 = 4.0;

/// How the model sees a tile of `side` pixels a side, whose pixels have `mpp` µm where that is
/// stated.
fn windows(model: &Model, side: usize, mpp: Option<f64>) -> Windows {
    let scaling = Scaling::up_to(model.synth.geometry().image_size(), WINDOW);
    let scaling = match (mpp, model.bundle.manifest.familiar.mpp) {
        (Some(mpp), Some([_, coarsest])) => scaling.within(mpp, coarsest),
        _ => scaling,
    };
    scaling.windows((side, side))
}

/// Pixels of a tile of `side` pixels a side that one patch of the model stands for, along a side.
pub(super) fn patch_side(model: &Model, side: usize, mpp: Option<f64>) -> f64 {
    let (canvas, _) = windows(model, side, mpp).canvas();
    (model.synth.geometry().patch_size() * side) as f64 / canvas as f64
}

/// Adds to a tile, u8 `[side, side, 3]`, what the change to a style makes of its anatomy. A tile in
/// one window changes from its own characteristics, patch by patch, and one in several from the
/// mean of all of its tissue.
pub(super) fn carried(
    model: &mut Model,
    (tile, side): (&[u8], usize),
    mpp: Option<f64>,
    style: &Style,
) -> Result<Vec<u8>> {
    let (windows, size) = (windows(model, side, mpp), (side, side));
    let canvas = shrink(tile, size, windows.canvas());
    let seen = (0..windows.count()).map(|index| windows.cut(index, &canvas)).collect();
    let encoded = model.encode(seen)?;
    let synth = &model.synth;
    let geometry = synth.geometry();
    let stained = stained_in(geometry, &windows, &canvas);
    let own = encoded.iter().map(|window| &window.characteristics[..]);
    let patches = own.zip(stained.chunks_exact(geometry.patches()));
    let mean = mean_style(geometry, patches).filter(|_| !windows.is_whole());
    let (mut scratch, mut of_window) = (synth.scratch(), vec![0.0; geometry.tile_bytes()]);
    let mut change = vec![0.0; windows.canvas().0 * windows.canvas().1 * CHANNELS];
    for (index, window) in encoded.iter().enumerate() {
        let mut difference = window.characteristics.clone();
        match &mean {
            None => synth.difference_into(&window.characteristics, &style.0, 1.0, &mut difference),
            Some(mean) => {
                let pairs = style.0.iter().zip(&mean.0).cycle();
                difference.iter_mut().zip(pairs).for_each(|(to, (style, mean))| *to = style - mean);
            }
        }
        synth.change(&window.anatomy, &difference, &mut scratch, &mut of_window);
        windows.blend(index, &of_window, &mut change);
    }
    let mut out = vec![0; tile.len()];
    let upsampler = Upsampler::new(windows.canvas(), size);
    upsampler.add(&change, tile, &mut UpsampleScratch::default(), &mut out);
    keep_glass(tile, &mut out);
    Ok(out)
}
