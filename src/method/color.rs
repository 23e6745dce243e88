//! The training-free baselines: colour matching and HED jitter.

/// Per-channel mean and standard deviation of a tile's pixels scaled to 0..1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChannelStats {
    pub mean: [f32; 3],
    pub std: [f32; 3],
}
