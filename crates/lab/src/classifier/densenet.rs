//! DenseNet-121: Huang, Liu, van der Maaten, Weinberger, "Densely Connected Convolutional
//! Networks", CVPR 2017.
//!
//! Growth 32, bottlenecks of 128, blocks of 6, 12, 24 and 16 layers. Parameters have torchvision's
//! names, so that weights can be compared. Pretrained weights are not loaded.

use tch::Tensor;

use super::layers::{BatchNorm, Builder, Conv, Window};

const GROWTH: i64 = 32;
/// Channels of a layer's 1 × 1 convolution.
const BOTTLENECK: i64 = 4 * GROWTH;
const BLOCKS: [usize; 4] = [6, 12, 24, 16];
const STEM: i64 = 2 * GROWTH;
/// Channels at the end.
pub(super) const FEATURES: i64 = 1024;

const ONE: Window = Window { side: 1, stride: 1, padding: 0 };
const THREE: Window = Window { side: 3, stride: 1, padding: 1 };
const SEVEN: Window = Window { side: 7, stride: 2, padding: 3 };

/// norm → ReLU → convolution, the paper's "composite function".
struct Composite {
    norm: BatchNorm,
    conv: Conv,
}

impl Composite {
    fn build(
        builder: &mut Builder,
        names: (&str, &str),
        (inputs, outputs): (i64, i64),
        window: Window,
    ) -> Self {
        Self {
            norm: builder.norm(names.0, inputs),
            conv: builder.conv(names.1, inputs, outputs, window),
        }
    }

    fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        self.conv.forward(&self.norm.forward(x, train).relu())
    }
}

/// One dense layer, whose output is concatenated to its input.
struct Dense {
    bottleneck: Composite,
    growth: Composite,
}

pub(super) struct DenseNet {
    conv0: Conv,
    norm0: BatchNorm,
    /// Each block with the transition after it; the last has none.
    blocks: Vec<(Vec<Dense>, Option<Composite>)>,
    norm5: BatchNorm,
}

impl DenseNet {
    pub(super) fn build(builder: &mut Builder) -> Self {
        let conv0 = builder.conv("features.conv0", 3, STEM, SEVEN);
        let norm0 = builder.norm("features.norm0", STEM);
        let mut channels = STEM;
        let mut blocks = Vec::new();
        for (b, &layers) in BLOCKS.iter().enumerate() {
            let dense = (1..=layers).map(|layer| {
                let part =
                    |name: &str| format!("features.denseblock{}.denselayer{layer}.{name}", b + 1);
                let bottleneck = Composite::build(
                    builder,
                    (&part("norm1"), &part("conv1")),
                    (channels, BOTTLENECK),
                    ONE,
                );
                let growth = Composite::build(
                    builder,
                    (&part("norm2"), &part("conv2")),
                    (BOTTLENECK, GROWTH),
                    THREE,
                );
                channels += GROWTH;
                Dense { bottleneck, growth }
            });
            let dense = dense.collect();
            let transition = (b + 1 < BLOCKS.len()).then(|| {
                let part = |name: &str| format!("features.transition{}.{name}", b + 1);
                let halved = Composite::build(
                    builder,
                    (&part("norm"), &part("conv")),
                    (channels, channels / 2),
                    ONE,
                );
                channels /= 2;
                halved
            });
            blocks.push((dense, transition));
        }
        debug_assert_eq!(channels, FEATURES);
        Self { conv0, norm0, blocks, norm5: builder.norm("features.norm5", FEATURES) }
    }

    /// [B, 3, H, W] f32 → [B, 1024, H/32, W/32] f32.
    pub(super) fn forward(&self, tiles: &Tensor, train: bool) -> Tensor {
        let stem = self.norm0.forward(&self.conv0.forward(tiles), train).relu();
        let mut x = stem.max_pool2d([3; 2], [2; 2], [1; 2], [1; 2], false);
        for (dense, transition) in &self.blocks {
            for layer in dense {
                let grown = layer.growth.forward(&layer.bottleneck.forward(&x, train), train);
                x = Tensor::cat(&[x, grown], 1);
            }
            if let Some(transition) = transition {
                x = transition
                    .forward(&x, train)
                    .avg_pool2d([2; 2], [2; 2], [0; 2], false, true, None);
            }
        }
        self.norm5.forward(&x, train).relu()
    }
}
