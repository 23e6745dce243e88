//! An encoder graph in a session of ONNX Runtime.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use half::f16;
use half::slice::HalfFloatSliceExt as _;
use ort::session::{RunOptions, Session};
use ort::value::{Outlet, TensorElementType, ValueType};

use super::bound::Bound;
use super::profile::Profile;
use super::{Device, EncoderOptions, EngineError, INPUT, OUTPUTS, Runtime, SharedWeights, session};
use restain_method::Geometry;
use restain_method::geometry::CHANNELS;

/// Batch sizes whose buffers are kept.
const MOST_SIZES: usize = 16;

/// The latents of a batch of tiles.
#[derive(Clone, Debug, PartialEq)]
pub struct Encodings {
    /// Tiles.
    pub batch: usize,
    /// [batch, N, h] row-major.
    pub anatomy: Vec<f32>,
    /// [batch, N, S] row-major.
    pub characteristics: Vec<f32>,
}

/// A session over a bundle's graph. One worker owns it: `encode` takes `&mut self`.
#[derive(Debug)]
pub struct Encoder {
    session: Session,
    geometry: Geometry,
    device: Device,
    run_limit: Option<Duration>,
    /// The type of the latents: f32, or f16 from a graph that computes in it.
    element: TensorElementType,
    /// Buffers by batch size.
    bound: BTreeMap<usize, Bound>,
}

/// Latents in the graph's own type, [batch, N, h] or [batch, N, S] row-major.
enum Latents<'a> {
    Full(&'a [f32]),
    Half(&'a [f16]),
}

impl Latents<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Full(values) => values.len(),
            Self::Half(values) => values.len(),
        }
    }

    fn to_full(&self) -> Vec<f32> {
        match self {
            Self::Full(values) => values.to_vec(),
            Self::Half(values) => values.to_f32_vec(),
        }
    }

    /// Appends the `latent` numbers of the `index`-th tile to `to`, as f16.
    fn append(&self, index: usize, latent: usize, to: &mut Vec<f16>) {
        let span = index * latent..(index + 1) * latent;
        match self {
            Self::Half(values) => to.extend_from_slice(&values[span]),
            Self::Full(values) => {
                let before = to.len();
                to.resize(before + latent, f16::ZERO);
                to[before..].convert_from_f32_slice(&values[span]);
            }
        }
    }
}

impl Encoder {
    /// Opens the graph and checks that its input are tiles, and its outputs latents, of `geometry`.
    ///
    /// # Errors
    /// When the device is not available, the graph cannot be loaded, or its input or outputs have
    /// other names, types or shapes.
    pub fn open(
        runtime: &Runtime,
        onnx: &Path,
        geometry: &Geometry,
        options: &EncoderOptions,
    ) -> Result<Self, EngineError> {
        Self::open_with(runtime, onnx, geometry, options, None)
    }

    /// Opens the graph as [`Encoder::open`] does, with weights that it shares with other encoders of
    /// the same graph. The graph's own are not looked at.
    ///
    /// # Errors
    /// As [`Encoder::open`].
    pub fn open_with(
        runtime: &Runtime,
        onnx: &Path,
        geometry: &Geometry,
        options: &EncoderOptions,
        weights: Option<&SharedWeights>,
    ) -> Result<Self, EngineError> {
        let refused = |source: ort::Error| EngineError::Graph { path: onnx.to_owned(), source };
        let mut builder = session::builder(runtime, options, geometry).map_err(|source| {
            match options.device {
                Device::Cpu => refused(source),
                _ => EngineError::Device(source),
            }
        })?;
        if let Some(weights) = weights {
            builder = weights.give(builder).map_err(EngineError::Weights)?;
        }
        let session = builder.commit_from_file(onnx).map_err(refused)?;
        let element = check_signature(&session, geometry)
            .map_err(|problem| EngineError::Signature { path: onnx.to_owned(), problem })?;
        Ok(Self {
            session,
            geometry: *geometry,
            device: options.device,
            run_limit: options.run_limit.filter(|_| !matches!(options.device, Device::TensorRt(_))),
            element,
            bound: BTreeMap::new(),
        })
    }

    /// The sizes of the model.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Encodes a batch of tiles.
    ///
    /// # Shapes
    /// `tiles` u8 [batch, H, W, 3] row-major; anatomy f32 [batch, N, h], characteristics f32 [batch,
    /// N, S].
    ///
    /// # Errors
    /// When `tiles` has another length, or the runtime fails.
    pub fn encode(&mut self, tiles: &[u8], batch: usize) -> Result<Encodings, EngineError> {
        self.run(
            tiles,
            batch,
            &RunOptions::new().map_err(EngineError::Run)?,
            |anatomy, characteristics| Encodings {
                batch,
                anatomy: anatomy.to_full(),
                characteristics: characteristics.to_full(),
            },
        )
    }

    /// Encodes a batch whose first `wanted` entries are tiles and whose rest is padding, to half
    /// precision.
    ///
    /// # Shapes
    /// `tiles` u8 [batch, H, W, 3] row-major; for each wanted tile f16 anatomy [N, h], then
    /// characteristics [N, S].
    ///
    /// # Errors
    /// As [`Encoder::encode`].
    pub fn encode_halves(
        &mut self,
        tiles: &[u8],
        batch: usize,
        wanted: usize,
    ) -> Result<Vec<Vec<f16>>, EngineError> {
        let geometry = self.geometry;
        self.run(
            tiles,
            batch,
            &RunOptions::new().map_err(EngineError::Run)?,
            |anatomy, characteristics| {
                let halves = |index: usize| {
                    let mut both = Vec::with_capacity(geometry.tile_latents());
                    anatomy.append(index, geometry.tile_anatomy(), &mut both);
                    characteristics.append(index, geometry.tile_characteristics(), &mut both);
                    both
                };
                (0..wanted.min(batch)).map(halves).collect()
            },
        )
    }

    /// Runs a batch of grey tiles and returns which provider ran which nodes, and for how long.
    ///
    /// # Errors
    /// When the run fails, or the temporary file for ONNX Runtime's profile cannot be written or
    /// read.
    pub fn profile(&mut self, batch: usize) -> Result<Profile, EngineError> {
        let directory = tempfile::tempdir().map_err(EngineError::Profile)?;
        let mut options = RunOptions::new().map_err(EngineError::Run)?;
        options.enable_profiling(directory.path().join("run")).map_err(EngineError::Run)?;
        let tiles = vec![128; batch * self.geometry.tile_bytes()];
        self.run(&tiles, batch, &options, |_, _| ())?;
        Profile::read(directory.path()).map_err(EngineError::Profile)
    }

    /// Runs the graph and passes anatomy and characteristics to `read`.
    fn run<T>(
        &mut self,
        tiles: &[u8],
        batch: usize,
        options: &RunOptions,
        read: impl FnOnce(Latents<'_>, Latents<'_>) -> T,
    ) -> Result<T, EngineError> {
        let expected = batch * self.geometry.tile_bytes();
        if batch == 0 || tiles.len() != expected {
            return Err(EngineError::TileBytes { found: tiles.len(), expected, batch });
        }
        if !self.bound.contains_key(&batch) {
            if self.bound.len() == MOST_SIZES {
                self.bound.clear();
            }
            let bound = Bound::new(&self.session, &self.geometry, self.element, batch, self.device)
                .map_err(EngineError::Run)?;
            self.bound.insert(batch, bound);
        }
        let bound = self.bound.get_mut(&batch).expect("present, or inserted above");
        bound.take(tiles).map_err(EngineError::Run)?;
        let session = &mut self.session;
        let outputs = within(self.run_limit, options, || {
            session.run_binding_with_options(&bound.binding, options)
        })?;
        let latents = |name: &'static str, each: usize| {
            let output = &outputs[name];
            let values = match self.element {
                TensorElementType::Float16 => {
                    output.try_extract_tensor().map(|(_, values)| Latents::Half(values))
                }
                _ => output.try_extract_tensor().map(|(_, values)| Latents::Full(values)),
            };
            let values = values.map_err(EngineError::Run)?;
            let expected = batch * each;
            if values.len() != expected {
                return Err(EngineError::OutputLength { name, found: values.len(), expected });
            }
            Ok(values)
        };
        let [anatomy, characteristics] = OUTPUTS;
        Ok(read(
            latents(anatomy, self.geometry.tile_anatomy())?,
            latents(characteristics, self.geometry.tile_characteristics())?,
        ))
    }
}

/// Does a run, and has it stopped when it takes longer than `limit`: a graph may be one that never
/// ends.
fn within<T>(
    limit: Option<Duration>,
    options: &RunOptions,
    run: impl FnOnce() -> ort::Result<T>,
) -> Result<T, EngineError> {
    let Some(limit) = limit else { return run().map_err(EngineError::Run) };
    thread::scope(|scope| {
        let (over, watched) = mpsc::channel::<()>();
        let watch = scope.spawn(move || {
            let is_late = watched.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
            is_late && options.terminate().is_ok()
        });
        let outcome = run();
        drop(over);
        let stopped = watch.join().is_ok_and(|stopped| stopped);
        outcome.map_err(|error| match stopped {
            true => EngineError::TooLong(limit),
            false => EngineError::Run(error),
        })
    })
}

/// Checks names, types and shapes of input and outputs; returns the type of the latents.
fn check_signature(session: &Session, geometry: &Geometry) -> Result<TensorElementType, String> {
    let side = geometry.image_size() as i64;
    match session.inputs() {
        [input] => check_outlet(
            "input",
            input,
            INPUT,
            TensorElementType::Uint8,
            &[-1, side, side, CHANNELS as i64],
        )?,
        inputs => {
            return Err(format!("it has {} inputs, and must have one, {INPUT:?}", inputs.len()));
        }
    }
    let is_half = session.outputs().iter().any(|output| {
        matches!(output.dtype(), ValueType::Tensor { ty: TensorElementType::Float16, .. })
    });
    let element = if is_half { TensorElementType::Float16 } else { TensorElementType::Float32 };
    for (name, length) in OUTPUTS.into_iter().zip([geometry.half(), geometry.style_len()]) {
        let output = session.outputs().iter().find(|output| output.name() == name);
        let output = output.ok_or_else(|| format!("it has no output {name:?}"))?;
        let latent = [-1, geometry.patches() as i64, length as i64];
        check_outlet("output", output, name, element, &latent)?;
    }
    Ok(element)
}

fn check_outlet(
    kind: &str,
    outlet: &Outlet,
    name: &str,
    element: TensorElementType,
    dims: &[i64],
) -> Result<(), String> {
    let expected = format!("its {kind} must be {name:?}, {element} {dims:?} (-1: any batch)");
    match outlet.dtype() {
        ValueType::Tensor { ty, shape, .. }
            if outlet.name() == name && *ty == element && shape[..] == *dims =>
        {
            Ok(())
        }
        found => Err(format!("{expected}, and it is {:?}, {found}", outlet.name())),
    }
}
