//! `small`: a residual network (He et al. 2016) that a CPU core trains in seconds.
//!
//! Four convolutions of stride 2 and three residual ones, each with batch norm and ReLU, each a 3 ×
//! 3: 25 million multiply-adds a tile of 96 px.

use tch::Tensor;

use super::layers::{BatchNorm, Builder, Conv, Window};

/// Channels after each halving of the side.
const WIDTHS: [i64; 4] = [16, 32, 64, 128];
/// Channels at the end.
pub(super) const FEATURES: i64 = WIDTHS[3];

struct Unit {
    conv: Conv,
    norm: BatchNorm,
}

impl Unit {
    fn build(
        builder: &mut Builder,
        name: &str,
        (inputs, outputs): (i64, i64),
        stride: i64,
    ) -> Self {
        let window = Window { side: 3, stride, padding: 1 };
        Self {
            conv: builder.conv(&format!("{name}.conv"), inputs, outputs, window),
            norm: builder.norm(&format!("{name}.norm"), outputs),
        }
    }

    fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        self.norm.forward(&self.conv.forward(x), train)
    }
}

/// Halves the side, then adds one residual convolution.
struct Stage {
    down: Unit,
    residual: Option<Unit>,
}

pub(super) struct Small(Vec<Stage>);

impl Small {
    pub(super) fn build(builder: &mut Builder) -> Self {
        let mut inputs = 3;
        let stages = WIDTHS.iter().enumerate().map(|(i, &width)| {
            let down = Unit::build(builder, &format!("features.{i}.down"), (inputs, width), 2);
            // The first stage is the stem: at its resolution a convolution costs most and has the
            // smallest receptive field.
            let residual = (i > 0).then(|| {
                Unit::build(builder, &format!("features.{i}.residual"), (width, width), 1)
            });
            inputs = width;
            Stage { down, residual }
        });
        Self(stages.collect())
    }

    /// [B, 3, H, W] f32 → [B, 128, H/16, W/16] f32.
    pub(super) fn forward(&self, tiles: &Tensor, train: bool) -> Tensor {
        self.0.iter().fold(tiles.shallow_clone(), |x, stage| {
            let x = stage.down.forward(&x, train).relu();
            match &stage.residual {
                Some(residual) => (&x + residual.forward(&x, train)).relu(),
                None => x,
            }
        })
    }
}
