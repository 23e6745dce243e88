//! The training-free baselines: colour matching and HED jitter.
