//! The encoders of one bundle: one session for each device, opened, warmed, and put to work behind
//! one queue.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use half::f16;

use crate::serve::batch::{self, Batch, Buckets, Encode, Failure, QueueOptions, WorkerOptions};
use crate::serve::cache::{EncodingsCache, Scope};
use crate::serve::config::{Config, Devices, SHARED_COPIES};
use crate::serve::error::with_causes;
use crate::serve::metrics::Metrics;
use restain_bundle::{Bundle, BundleError, ExternalTensor, Precision};
use restain_engine::{Device, Encoder, EncoderOptions, EngineError, Runtime, SharedWeights};
use restain_method::Geometry;
use restain_method::synth::Synthesiser;

/// A bundle's queue, its workers, and its part of the cache.
pub(crate) struct Encoders {
    pub batch: Batch,
    pub scope: Scope,
    pub threads: Vec<JoinHandle<()>>,
    pub precision: Precision,
    /// See [`Device::provider`].
    pub provider: &'static str,
}

/// What encoders are started with.
pub(crate) struct EncodersContext<'a> {
    pub runtime: &'a Runtime,
    pub config: &'a Config,
    pub cache: &'a Arc<EncodingsCache>,
    pub metrics: &'a Arc<Metrics>,
}

#[derive(Debug, thiserror::Error)]
pub enum EncodersError {
    #[error(transparent)]
    Bundle(Box<BundleError>),
    #[error("the encoder is refused on {device}: {source}")]
    Encoder { device: Device, source: EngineError },
    #[error("the encoder fails on grey tiles on {device}: {source}")]
    Warm { device: Device, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("its threads cannot be started: {0}")]
    Thread(std::io::Error),
}

impl Encoders {
    /// Opens an encoder of `bundle` for every place that the configuration has for one.
    ///
    /// # Errors
    /// When one of them is refused, or fails on grey tiles, and there is nothing to fall back to.
    pub(crate) fn start(
        bundle: &Bundle,
        context: &EncodersContext<'_>,
    ) -> Result<Self, EncodersError> {
        let started = Self::start_on(&context.config.devices, bundle, context);
        match (started, &context.config.fallback_devices) {
            (
                Err(error @ (EncodersError::Encoder { .. } | EncodersError::Warm { .. })),
                Some(fallback),
            ) => {
                let (name, version, error) =
                    (&bundle.manifest.name, &bundle.manifest.version, with_causes(&error));
                tracing::warn!(model = name, version, %fallback, error, "devices cannot be used: \
                    falling back");
                Self::start_on(fallback, bundle, context)
            }
            (started, _) => started,
        }
    }

    fn start_on(
        devices: &Devices,
        bundle: &Bundle,
        context: &EncodersContext<'_>,
    ) -> Result<Self, EncodersError> {
        let EncodersContext { config, metrics, .. } = context;
        let (manifest, provider) = (&bundle.manifest, devices.provider());
        let (precision, onnx) = config
            .precision
            .graph(bundle, devices.0[0])
            .map_err(|source| EncodersError::Bundle(Box::new(source)))?;
        let of_bundle = |source| EncodersError::Bundle(Box::new(source));
        let layout = config.layout(devices, bundle.encoder_bytes(&onnx).map_err(of_bundle)?);
        let (places, largest_batch) = (&layout.encoders, layout.largest_batch);
        let buckets = Buckets::up_to(largest_batch);
        let weights = shared_weights(bundle, &onnx, places)?;
        let mut encoders: Vec<Box<dyn Encode>> = Vec::new();
        let mut warmed = Duration::ZERO;
        for (place, &(device, intra_threads)) in places.iter().enumerate() {
            let options = EncoderOptions {
                device,
                intra_threads,
                gpu_memory: config
                    .gpu_memory
                    .map(|bytes| usize::try_from(bytes.0).unwrap_or(usize::MAX)),
                half: precision == Precision::Fp16,
                largest_batch,
                engines: config.cache_dir.as_ref().map(|directory| directory.join("tensorrt")),
                run_limit: Some(config.encode_timeout.0),
            };
            let origin = Origin {
                runtime: context.runtime.clone(),
                bundle: bundle.dir.clone(),
                digest: bundle.digest.clone(),
                onnx: onnx.clone(),
                geometry: manifest.geometry,
                options,
                weights: weights.clone(),
            };
            let mut encoder =
                origin.open().map_err(|source| EncodersError::Encoder { device, source })?;
            let took = batch::warm(&mut encoder, &manifest.geometry, &buckets);
            warmed = warmed.max(took.map_err(|source| EncodersError::Warm { device, source })?);
            if device.gpu().is_some() && !places[..place].iter().any(|(other, _)| *other == device)
            {
                encoder.log_nodes(&format!("{}/{}", manifest.name, manifest.version));
            }
            encoders.push(Box::new(encoder));
        }
        let scope = context.cache.scope(
            &[&bundle.digest, &precision.to_string(), provider, context.runtime.build()],
            &manifest.geometry,
        );
        let queue = QueueOptions {
            max_batch: largest_batch,
            max_delay: config.max_delay.0,
            max_wait: config.max_queue_wait.0,
            workers: layout.sharing(),
            has_lone: layout.has_lone,
        };
        let worker = WorkerOptions {
            name: manifest.name.clone(),
            buckets,
            synthesiser: Synthesiser::new(
                manifest.geometry,
                manifest.pixel_order,
                manifest.normalisation,
            ),
            shelf: Arc::new(scope.clone()),
            metrics: Arc::clone(metrics),
        };
        let (batch, threads) =
            Batch::start(&queue, &worker, encoders, warmed).map_err(EncodersError::Thread)?;
        Ok(Self { batch, scope, threads, precision, provider })
    }
}

/// The weights of a graph that many encoders on CPUs share. Sharing takes two copies, however many
/// encoders there are, so that it pays from three on. What lies in the graph itself is not shared.
fn shared_weights(
    bundle: &Bundle,
    onnx: &Path,
    places: &[(Device, usize)],
) -> Result<Option<SharedWeights>, EncodersError> {
    if places.len() <= SHARED_COPIES as usize
        || places.iter().any(|(device, _)| *device != Device::Cpu)
    {
        return Ok(None);
    }
    let of_bundle = |source| EncodersError::Bundle(Box::new(source));
    let tensors = bundle.external_tensors(onnx).map_err(of_bundle)?;
    let shared = tensors.into_iter().filter(ExternalTensor::can_be_shared);
    let read = shared.map(|tensor| {
        let numbers = bundle.read_external(&tensor).map_err(of_bundle)?;
        Ok((tensor.name, tensor.shape, numbers))
    });
    let read = read.collect::<Result<Vec<_>, EncodersError>>()?;
    let weights = SharedWeights::new(read);
    weights.map(Some).map_err(|source| EncodersError::Encoder { device: Device::Cpu, source })
}

/// Where an encoder comes from, so that another can be opened.
#[derive(Clone)]
struct Origin {
    runtime: Runtime,
    bundle: PathBuf,
    digest: String,
    onnx: PathBuf,
    geometry: Geometry,
    options: EncoderOptions,
    weights: Option<SharedWeights>,
}

impl Origin {
    fn open(self) -> Result<OpenedEncoder, EngineError> {
        let Self { runtime, onnx, geometry, options, weights, .. } = &self;
        let encoder = Encoder::open_with(runtime, onnx, geometry, options, weights.as_ref())?;
        Ok(OpenedEncoder { encoder, origin: self })
    }
}

struct OpenedEncoder {
    encoder: Encoder,
    origin: Origin,
}

impl OpenedEncoder {
    /// Which provider runs which nodes: one that the GPU cannot run goes to the CPU, and every
    /// batch waits for it.
    fn log_nodes(&mut self, model: &str) {
        let device = self.origin.options.device;
        match self.encoder.profile(1) {
            Ok(profile) => tracing::info!(model, %device, %profile, "nodes of the encoder"),
            Err(error) => {
                tracing::info!(model, %device, error = with_causes(&error), "the provider of each \
                    node is unknown")
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{} now holds another bundle", .0.display())]
struct OtherBundle(PathBuf);

impl Encode for OpenedEncoder {
    fn encode(
        &mut self,
        tiles: &[u8],
        batch: usize,
        wanted: usize,
    ) -> Result<Vec<Vec<f16>>, Failure> {
        self.encoder.encode_halves(tiles, batch, wanted).map_err(Into::into)
    }

    /// Only of the very same bundle: its directory may have been given other contents, or taken
    /// away.
    fn another(&self) -> Result<Box<dyn Encode>, Failure> {
        if Bundle::open(&self.origin.bundle)?.digest != self.origin.digest {
            return Err(OtherBundle(self.origin.bundle.clone()).into());
        }
        Ok(Box::new(self.origin.clone().open()?))
    }
}
