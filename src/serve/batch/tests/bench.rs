//! A queue with one worker, whose encoder waits to be let through.

use std::sync::Mutex;
use std::sync::mpsc as std_mpsc;

use bytes::Bytes;
use half::f16;

use super::super::message::Failure;
use super::super::*;
use crate::serve::admission::Admission;
use crate::serve::metrics::Metrics;
use restain_bundle::codec::TileKey;
use restain_method::geometry::GeometrySpec;
use restain_method::synth::Synthesiser;
use restain_method::{Geometry, Normalisation, PixelOrder};

pub(super) fn geometry() -> Geometry {
    Geometry::new(GeometrySpec {
        image_size: 4,
        in_channels: 3,
        patch_size: 2,
        embed_dim: 12,
        depth: 1,
        num_heads: 1,
        mlp_ratio: 1.0,
        style_bias: false,
    })
    .unwrap()
}

pub(super) type Seen = Arc<Mutex<Vec<Vec<u8>>>>;

/// Says when a batch begins, and waits to be let through; notes the first byte of every tile of
/// every batch.
pub(super) struct Gated {
    pub(super) begun: std_mpsc::Sender<usize>,
    pub(super) go: std_mpsc::Receiver<Step>,
    pub(super) seen: Seen,
}

pub(super) enum Step {
    Encode,
    Fail,
    Panic,
}

impl Encode for Gated {
    fn encode(
        &mut self,
        tiles: &[u8],
        batch: usize,
        wanted: usize,
    ) -> Result<Vec<Vec<f16>>, Failure> {
        self.begun.send(batch)?;
        match self.go.recv()? {
            Step::Encode => {}
            Step::Fail => return Err("out of memory".into()),
            Step::Panic => panic!("a bug in the encoder"),
        }
        let tiles = tiles.chunks_exact(geometry().tile_bytes());
        self.seen.lock().unwrap().push(tiles.clone().map(|tile| tile[0]).collect());
        let latents =
            |tile: &[u8]| vec![f16::from_f32(f32::from(tile[0])); geometry().tile_latents()];
        Ok(tiles.take(wanted).map(latents).collect())
    }

    fn another(&self) -> Result<Box<dyn Encode>, Failure> {
        Err("there is one only".into())
    }
}

/// Keeps everything, in a list.
#[derive(Default)]
pub(super) struct List(pub(super) Mutex<Vec<(TileKey, Arc<TileEncoding>)>>);

impl Shelf for List {
    fn forget(&self, key: &TileKey) {
        self.0.lock().unwrap().retain(|(held, _)| held != key);
    }

    fn peek(&self, key: &TileKey) -> Option<Arc<TileEncoding>> {
        self.0
            .lock()
            .unwrap()
            .iter()
            .find(|(kept, _)| kept == key)
            .map(|(_, encoding)| Arc::clone(encoding))
    }

    fn keep(&self, key: &TileKey, encoding: &Arc<TileEncoding>) {
        self.0.lock().unwrap().push((*key, Arc::clone(encoding)));
    }
}

/// One worker that is warmed at a second a tile.
pub(super) fn start(
    max_batch: usize,
    max_wait: Duration,
    encoder: Box<dyn Encode>,
    shelf: Arc<dyn Shelf>,
) -> (Batch, Arc<Admission>) {
    let metrics = Arc::new(Metrics::new().unwrap());
    let admission = Admission::new(64, 1 << 20, Arc::clone(&metrics));
    let options = QueueOptions {
        max_batch,
        max_delay: Duration::ZERO,
        max_wait,
        workers: 1,
        has_lone: false,
    };
    let worker = WorkerOptions {
        name: "test".into(),
        buckets: Buckets::up_to(max_batch),
        synthesiser: Synthesiser::new(
            geometry(),
            PixelOrder::Planar,
            Normalisation::new([0.5; 3], [0.25; 3]).unwrap(),
        ),
        shelf,
        metrics,
    };
    let (batch, _) =
        Batch::start(&options, &worker, vec![encoder], Duration::from_secs(max_batch as u64))
            .unwrap();
    (batch, admission)
}

pub(super) struct Bench {
    pub(super) batch: Batch,
    pub(super) admission: Arc<Admission>,
    pub(super) shelf: Arc<List>,
    pub(super) begun: std_mpsc::Receiver<usize>,
    pub(super) go: std_mpsc::Sender<Step>,
    pub(super) seen: Seen,
    pub(super) runtime: tokio::runtime::Runtime,
}

pub(super) type Asked = std::pin::Pin<Box<dyn Future<Output = Result<EncodeAnswer, BatchError>>>>;

impl Bench {
    pub(super) fn new(max_batch: usize) -> Self {
        Self::waiting_at_most(max_batch, Duration::from_secs(3600))
    }

    pub(super) fn waiting_at_most(max_batch: usize, max_wait: Duration) -> Self {
        let (begun_sender, begun) = std_mpsc::channel();
        let (go, go_receiver) = std_mpsc::channel();
        let (seen, shelf) = (Seen::default(), Arc::new(List::default()));
        let encoder = Gated { begun: begun_sender, go: go_receiver, seen: Arc::clone(&seen) };
        let (batch, admission) =
            start(max_batch, max_wait, Box::new(encoder), Arc::clone(&shelf) as Arc<dyn Shelf>);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        Self { batch, admission, shelf, begun, go, seen, runtime }
    }

    /// A request whose tiles are in the queue when this returns.
    pub(super) fn ask(&self, tiles: &[u8], deadline: Instant) -> Asked {
        let mut asked = self.start(tiles, deadline);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(asked.as_mut().poll(&mut context).is_pending());
        asked
    }

    pub(super) fn start(&self, tiles: &[u8], deadline: Instant) -> Asked {
        let tiles: Vec<WantedTile> = tiles.iter().copied().map(tile).collect();
        let permit = self.admission.admit(tiles.len(), 0).unwrap();
        let batch = self.batch.clone();
        let request = EncodeRequest { tiles, deadline, priority: Priority::Interactive, permit };
        Box::pin(async move { batch.encode(request).await })
    }

    pub(super) fn let_through(&self, batches: usize) {
        (0..batches).for_each(|_| self.go.send(Step::Encode).unwrap());
    }

    pub(super) fn seen(&self) -> Vec<Vec<u8>> {
        self.seen.lock().unwrap().clone()
    }
}

pub(super) fn tile(value: u8) -> WantedTile {
    let seen = Bytes::from(vec![value; geometry().tile_bytes()]);
    WantedTile { key: TileKey::of_pixels(4, 4, &seen), size: (4, 4), seen, whole: Whole::Seen }
}

pub(super) fn later() -> Instant {
    Instant::now() + Duration::from_secs(600)
}

pub(super) fn values(answer: &EncodeAnswer) -> Vec<f32> {
    answer.encodings.iter().map(|encoding| encoding.first().anatomy[0].to_f32()).collect()
}
