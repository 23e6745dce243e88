//! One encoder graph in one session.

use std::path::Path;

use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::value::{Outlet, TensorElementType, TensorRef, ValueType};

use super::{EngineError, Runtime};
use crate::method::Geometry;
use crate::method::geometry::CHANNELS;

const INPUT: &str = "tiles";
const OUTPUTS: [&str; 2] = ["anatomy", "characteristics"];

/// How an encoder runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncoderOptions {
    /// Threads that share one `encode`; 0 leaves the number to the runtime.
    pub intra_threads: usize,
}

/// What an encoder makes of tiles.
#[derive(Clone, Debug, PartialEq)]
pub struct Encodings {
    pub batch: usize,
    /// [batch, N, h] row-major.
    pub anatomy: Vec<f32>,
    /// [batch, N, h] row-major.
    pub characteristics: Vec<f32>,
}

/// A session over a bundle's graph. Owned by one worker: `encode` takes it exclusively.
#[derive(Debug)]
pub struct Encoder {
    session: Session,
    geometry: Geometry,
}

impl Encoder {
    /// Opens the graph and checks that it takes tiles of `geometry` and answers in latents of it.
    pub fn open(runtime: &Runtime, onnx: &Path, geometry: &Geometry, options: &EncoderOptions) -> Result<Self, EngineError> {
        let refused = |source: ort::Error| EngineError::Graph { path: onnx.to_owned(), source };
        let mut builder = session_builder(runtime, options).map_err(refused)?;
        let session = builder.commit_from_file(onnx).map_err(refused)?;
        check_signature(&session, geometry).map_err(|problem| EngineError::Signature { path: onnx.to_owned(), problem })?;
        Ok(Self { session, geometry: *geometry })
    }

    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Encodes `tiles`, u8 [batch, H, W, 3] row-major.
    pub fn encode(&mut self, tiles: &[u8], batch: usize) -> Result<Encodings, EngineError> {
        let expected = batch * self.geometry.tile_bytes();
        if batch == 0 || tiles.len() != expected {
            return Err(EngineError::TileBytes { found: tiles.len(), expected, batch });
        }
        let side = self.geometry.image_size();
        let latents = batch * self.geometry.tile_latent();
        let input = TensorRef::from_array_view(([batch, side, side, CHANNELS], tiles)).map_err(EngineError::Run)?;
        let outputs = self.session.run(ort::inputs![INPUT => input]).map_err(EngineError::Run)?;
        let latent = |name: &'static str| {
            let (_, values) = outputs[name].try_extract_tensor::<f32>().map_err(EngineError::Run)?;
            if values.len() != latents {
                return Err(EngineError::OutputLength { name, found: values.len(), expected: latents });
            }
            Ok(values.to_vec())
        };
        Ok(Encodings { batch, anatomy: latent(OUTPUTS[0])?, characteristics: latent(OUTPUTS[1])? })
    }
}

fn session_builder(runtime: &Runtime, options: &EncoderOptions) -> ort::Result<SessionBuilder> {
    Ok(Session::builder(&runtime.environment)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(options.intra_threads)?)
}

fn check_signature(session: &Session, geometry: &Geometry) -> Result<(), String> {
    let side = geometry.image_size() as i64;
    let latent = [-1, geometry.patches() as i64, geometry.half() as i64];
    match session.inputs() {
        [input] => check_outlet("input", input, INPUT, TensorElementType::Uint8, &[-1, side, side, CHANNELS as i64])?,
        inputs => return Err(format!("it takes {} inputs, and must take one, {INPUT:?}", inputs.len())),
    }
    for name in OUTPUTS {
        let output = session.outputs().iter().find(|output| output.name() == name);
        let output = output.ok_or_else(|| format!("it has no output {name:?}"))?;
        check_outlet("output", output, name, TensorElementType::Float32, &latent)?;
    }
    Ok(())
}

fn check_outlet(kind: &str, outlet: &Outlet, name: &str, element: TensorElementType, dims: &[i64]) -> Result<(), String> {
    let expected = format!("its {kind} must be {name:?}, {element} {dims:?} (-1: any batch)");
    match outlet.dtype() {
        ValueType::Tensor { ty, shape, .. } if outlet.name() == name && *ty == element && shape[..] == *dims => Ok(()),
        found => Err(format!("{expected}, and it is {:?}, {found}", outlet.name())),
    }
}
