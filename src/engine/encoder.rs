//! One encoder graph in one session.

use std::path::Path;

use half::f16;
use half::slice::HalfFloatSliceExt as _;
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::value::{Outlet, TensorElementType, TensorRef, ValueType};

use super::{Device, EngineError, Runtime};
use crate::method::Geometry;
use crate::method::geometry::CHANNELS;

const INPUT: &str = "tiles";
const OUTPUTS: [&str; 2] = ["anatomy", "characteristics"];

/// How an encoder runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncoderOptions {
    pub device: Device,
    /// CPU threads that share one `encode`; 0 leaves the number to the runtime.
    pub intra_threads: usize,
}

impl EncoderOptions {
    /// On the CPU, with so many threads; 0 leaves the number to the runtime.
    pub fn cpu(intra_threads: usize) -> Self {
        Self { device: Device::Cpu, intra_threads }
    }
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
        self.run(tiles, batch, |anatomy, characteristics| Encodings {
            batch,
            anatomy: anatomy.to_vec(),
            characteristics: characteristics.to_vec(),
        })
    }

    /// Encodes `tiles`, u8 [batch, H, W, 3] row-major, of which the first `wanted` are tiles and the rest padding. For
    /// each of them f16 [2, N, h]: anatomy, then characteristics.
    pub fn encode_halves(&mut self, tiles: &[u8], batch: usize, wanted: usize) -> Result<Vec<Vec<f16>>, EngineError> {
        let latent = self.geometry.tile_latent();
        self.run(tiles, batch, |anatomy, characteristics| {
            let pairs = anatomy.chunks_exact(latent).zip(characteristics.chunks_exact(latent)).take(wanted);
            let halves = |(anatomy, characteristics): (&[f32], &[f32])| {
                let mut both = vec![f16::ZERO; 2 * latent];
                both[..latent].convert_from_f32_slice(anatomy);
                both[latent..].convert_from_f32_slice(characteristics);
                both
            };
            pairs.map(halves).collect()
        })
    }

    /// Runs the graph and lets `read` take what it needs of anatomy and characteristics, f32 [batch, N, h] each.
    fn run<T>(&mut self, tiles: &[u8], batch: usize, read: impl FnOnce(&[f32], &[f32]) -> T) -> Result<T, EngineError> {
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
            Ok(values)
        };
        Ok(read(latent(OUTPUTS[0])?, latent(OUTPUTS[1])?))
    }
}

fn session_builder(runtime: &Runtime, options: &EncoderOptions) -> ort::Result<SessionBuilder> {
    let builder = Session::builder(&runtime.environment)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(options.intra_threads)?
        .with_config_entry("session.x64quantprecision", if int8_overflows() { "1" } else { "0" })?;
    match options.device {
        Device::Cpu => Ok(builder),
        // An error, not the CPU in its place: a server that was given a GPU is not the same server without it.
        Device::Cuda(index) => {
            let cuda = ort::ep::CUDA::default().with_device_id(i32::from(index)).build().error_on_failure();
            Ok(builder.with_execution_providers([cuda])?)
        }
    }
}

/// Whether the fast uint8 × int8 product saturates its 16-bit sums here: on x86 without VNNI. The exact product that
/// replaces it is three times slower, so it is asked for only there.
fn int8_overflows() -> bool {
    #[cfg(target_arch = "x86_64")]
    return !(std::arch::is_x86_feature_detected!("avx512vnni") || std::arch::is_x86_feature_detected!("avxvnni"));
    #[cfg(not(target_arch = "x86_64"))]
    false
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
