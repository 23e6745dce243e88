//! The encoders of one bundle: one session for each device, opened, warmed, and put to work behind one queue.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use half::f16;

use super::batch::{self, Batch, Buckets, Encode, Failure, QueueOptions, WorkerOptions};
use super::cache::{EncodingsCache, Scope};
use super::config::Config;
use super::metrics::Metrics;
use crate::bundle::Bundle;
use crate::engine::{Device, Encoder, EncoderOptions, EngineError, Runtime};
use crate::method::Geometry;

/// A bundle's queue, its workers, and its part of the cache.
pub struct Encoders {
    pub batch: Batch,
    pub scope: Scope,
    pub threads: Vec<JoinHandle<()>>,
}

/// What encoders are started with.
pub struct EncodersContext<'a> {
    pub runtime: &'a Runtime,
    pub config: &'a Config,
    pub cache: &'a Arc<EncodingsCache>,
    pub metrics: &'a Arc<Metrics>,
}

#[derive(Debug, thiserror::Error)]
pub enum EncodersError {
    #[error("the encoder is refused on {device}: {source}")]
    Encoder { device: Device, source: EngineError },
    #[error("the encoder fails on grey tiles on {device}: {source}")]
    Warm { device: Device, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("its threads cannot be started: {0}")]
    Thread(std::io::Error),
}

impl Encoders {
    /// Opens `onnx`, a graph of `bundle`, on every device.
    ///
    /// # Errors
    /// When one of them refuses it, or fails on grey tiles.
    pub fn start(bundle: &Bundle, onnx: &Path, context: &EncodersContext<'_>) -> Result<Self, EncodersError> {
        let EncodersContext { config, metrics, .. } = context;
        let (manifest, devices) = (&bundle.manifest, &config.devices.0);
        let buckets = Buckets::up_to(config.largest_batch());
        let mut encoders: Vec<Box<dyn Encode>> = Vec::new();
        let mut warmed = Duration::ZERO;
        for &device in devices {
            let options = EncoderOptions { device, intra_threads: config.threads_of_encoder() };
            let origin = Origin {
                runtime: context.runtime.clone(),
                bundle: bundle.dir.clone(),
                digest: bundle.digest.clone(),
                onnx: onnx.to_owned(),
                geometry: manifest.geometry,
                options,
            };
            let mut encoder = origin.open().map_err(|source| EncodersError::Encoder { device, source })?;
            let took = batch::warm(&mut encoder, &manifest.geometry, &buckets);
            warmed = warmed.max(took.map_err(|source| EncodersError::Warm { device, source })?);
            encoders.push(Box::new(encoder));
        }
        let numbers = 2 * manifest.geometry.tile_latent();
        let scope = context.cache.scope(&[&bundle.digest, &config.precision.to_string(), config.devices.provider()], numbers);
        let queue = QueueOptions {
            max_batch: config.largest_batch(),
            max_delay: config.max_delay.0,
            max_wait: config.max_queue_wait.0,
            workers: devices.len(),
        };
        let worker = WorkerOptions {
            name: manifest.name.clone(),
            buckets,
            geometry: manifest.geometry,
            shelf: Arc::new(scope.clone()),
            metrics: Arc::clone(metrics),
        };
        let (batch, threads) = Batch::start(&queue, &worker, encoders, warmed).map_err(EncodersError::Thread)?;
        Ok(Self { batch, scope, threads })
    }
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
}

impl Origin {
    fn open(self) -> Result<OpenedEncoder, EngineError> {
        let encoder = Encoder::open(&self.runtime, &self.onnx, &self.geometry, &self.options)?;
        Ok(OpenedEncoder { encoder, origin: self })
    }
}

struct OpenedEncoder {
    encoder: Encoder,
    origin: Origin,
}

#[derive(Debug, thiserror::Error)]
#[error("in {} lies another bundle by now", .0.display())]
struct OtherBundle(PathBuf);

impl Encode for OpenedEncoder {
    fn encode(&mut self, tiles: &[u8], batch: usize, wanted: usize) -> Result<Vec<Vec<f16>>, Failure> {
        self.encoder.encode_halves(tiles, batch, wanted).map_err(Into::into)
    }

    /// Only of the very same bundle: its directory may have been given other contents, or taken away.
    fn another(&self) -> Result<Box<dyn Encode>, Failure> {
        if Bundle::open(&self.origin.bundle)?.digest != self.origin.digest {
            return Err(OtherBundle(self.origin.bundle.clone()).into());
        }
        Ok(Box::new(self.origin.clone().open()?))
    }
}
