//! Trained weights → a bundle.
mod encoder;
mod graph;
mod onnx;
mod quantise;
