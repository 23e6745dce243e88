//! Resampling of one axis: bilinear where pixels become more, a triangle as wide as the pixels that
//! it covers where they become fewer. Pixel centres are aligned, edges are repeated.

/// Which pixels of one axis make a pixel of the other size, and with what weights.
#[derive(Clone, Debug)]
pub(super) struct Taps {
    /// Pixels that make one.
    pub each: usize,
    /// The first of them.
    pub starts: Vec<usize>,
    /// `[pixels, each]`
    pub weights: Vec<f32>,
}

impl Taps {
    /// From `from` to `to` pixels, neither 0.
    pub(super) fn new(from: usize, to: usize) -> Self {
        let scale = from as f64 / to as f64;
        let radius = scale.max(1.0);
        let each = ((2.0 * radius).ceil() as usize + usize::from(scale > 1.0)).min(from);
        let (mut starts, mut weights) = (Vec::with_capacity(to), Vec::with_capacity(to * each));
        for place in 0..to {
            let centre = (place as f64 + 0.5) * scale - 0.5;
            // Beyond the edges the edge is repeated, which is a centre that stops there.
            let centre = centre.clamp(0.0, (from - 1) as f64);
            let first = ((centre - radius).floor() + 1.0).max(0.0) as usize;
            let start = first.min(from - each);
            let weight =
                |tap: usize| (1.0 - ((start + tap) as f64 - centre).abs() / radius).max(0.0);
            let sum: f64 = (0..each).map(weight).sum();
            starts.push(start);
            weights.extend((0..each).map(|tap| (weight(tap) / sum) as f32));
        }
        Self { each, starts, weights }
    }
}
