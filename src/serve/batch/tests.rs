use std::sync::Mutex;
use std::sync::mpsc as std_mpsc;

use super::*;
use crate::engine::Encodings;
use crate::method::Geometry;
use crate::method::geometry::GeometrySpec;
use crate::serve::admission::Admission;
use crate::serve::metrics::Metrics;

fn geometry() -> Geometry {
    Geometry::new(GeometrySpec { image_size: 4, in_channels: 3, patch_size: 2, embed_dim: 12, depth: 1, num_heads: 1, mlp_ratio: 1.0 })
        .unwrap()
}

type Seen = Arc<Mutex<Vec<Vec<u8>>>>;

/// Says when a batch begins, and waits to be let through; notes the first byte of every tile of every batch.
struct Gated {
    begun: std_mpsc::Sender<usize>,
    go: std_mpsc::Receiver<Step>,
    seen: Seen,
}

enum Step {
    Encode,
    Fail,
    Panic,
}

impl Encode for Gated {
    fn encode(&mut self, tiles: &[u8], batch: usize) -> Result<Encodings, Box<dyn std::error::Error + Send + Sync>> {
        self.begun.send(batch)?;
        match self.go.recv()? {
            Step::Encode => {}
            Step::Fail => return Err("out of memory".into()),
            Step::Panic => panic!("a bug in the encoder"),
        }
        let tile_bytes = geometry().tile_bytes();
        self.seen.lock().unwrap().push(tiles.chunks_exact(tile_bytes).map(|tile| tile[0]).collect());
        let latent = geometry().tile_latent();
        let anatomy = tiles.chunks_exact(tile_bytes).flat_map(|tile| vec![f32::from(tile[0]); latent]).collect();
        Ok(Encodings { batch, anatomy, characteristics: vec![0.0; batch * latent] })
    }
}

struct Bench {
    batch: Batch,
    admission: Arc<Admission>,
    begun: std_mpsc::Receiver<usize>,
    go: std_mpsc::Sender<Step>,
    seen: Seen,
    runtime: tokio::runtime::Runtime,
}

impl Bench {
    fn new(max_batch: usize) -> Self {
        let metrics = Arc::new(Metrics::new().unwrap());
        let admission = Admission::new(64, 1 << 20, Arc::clone(&metrics));
        let (batch, jobs) = Batch::channel(64);
        let (begun_sender, begun) = std_mpsc::channel();
        let (go, go_receiver) = std_mpsc::channel();
        let seen = Seen::default();
        let options = WorkerOptions { max_batch, geometry: geometry(), admission: Arc::clone(&admission), metrics };
        let worker = Worker::new(options, Box::new(Gated { begun: begun_sender, go: go_receiver, seen: Arc::clone(&seen) }));
        std::thread::spawn(move || worker.run(jobs));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        Self { batch, admission, begun, go, seen, runtime }
    }

    /// A request whose tiles are in the queue when this returns.
    fn ask(&self, tiles: &[u8], deadline: Instant) -> std::pin::Pin<Box<impl Future<Output = Result<EncodeAnswer, BatchError>> + use<>>> {
        let tiles: Vec<Arc<[u8]>> = tiles.iter().map(|&value| vec![value; geometry().tile_bytes()].into()).collect();
        let permit = self.admission.admit(tiles.len(), 0).unwrap();
        let batch = self.batch.clone();
        let mut asked = Box::pin(async move { batch.encode(EncodeRequest { tiles, deadline, permit }).await });
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(asked.as_mut().poll(&mut context).is_pending());
        asked
    }
}

fn later() -> Instant {
    Instant::now() + Duration::from_secs(600)
}

#[test]
fn a_batch_is_what_arrived_while_the_last_one_ran() {
    let bench = Bench::new(4);
    let first = bench.ask(&[1], later());
    assert_eq!(bench.begun.recv(), Ok(1));
    let (second, third) = (bench.ask(&[2, 3], later()), bench.ask(&[4], later()));
    for _ in 0..2 {
        bench.go.send(Step::Encode).unwrap();
    }
    let answers = bench.runtime.block_on(async { [first.await.unwrap(), second.await.unwrap(), third.await.unwrap()] });
    // Three tiles make a batch of four: the fourth is padding.
    assert_eq!(*bench.seen.lock().unwrap(), [vec![1], vec![2, 3, 4, 0]]);
    let values = |answer: &EncodeAnswer| answer.encodings.iter().map(|encoding| encoding.anatomy[0]).collect::<Vec<_>>();
    assert_eq!(answers.iter().map(values).collect::<Vec<_>>(), [vec![1.0], vec![2.0, 3.0], vec![4.0]]);
}

#[test]
fn a_large_request_is_split_and_joined_again_and_the_rest_of_a_batch_is_filled_up() {
    let bench = Bench::new(4);
    let first = bench.ask(&[1], later());
    assert_eq!(bench.begun.recv(), Ok(1));
    let (second, third) = (bench.ask(&[2, 3, 4, 5, 6, 7], later()), bench.ask(&[8], later()));
    for _ in 0..3 {
        bench.go.send(Step::Encode).unwrap();
    }
    let answers = bench.runtime.block_on(async { [first.await.unwrap(), second.await.unwrap(), third.await.unwrap()] });
    assert_eq!(*bench.seen.lock().unwrap(), [vec![1], vec![2, 3, 4, 5], vec![6, 7, 8, 0]]);
    let values = answers[1].encodings.iter().map(|encoding| encoding.anatomy[0]).collect::<Vec<_>>();
    assert_eq!(values, [2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
}

#[test]
fn who_left_or_is_too_late_costs_no_encoding() {
    let bench = Bench::new(4);
    let first = bench.ask(&[1], later());
    bench.begun.recv().unwrap();
    drop(bench.ask(&[2, 3], later()));
    let late = bench.ask(&[4], Instant::now());
    let stayed = bench.ask(&[5], later());
    for _ in 0..2 {
        bench.go.send(Step::Encode).unwrap();
    }
    bench.runtime.block_on(async {
        first.await.unwrap();
        stayed.await.unwrap();
        assert!(matches!(late.await.err(), Some(BatchError::Late)));
    });
    assert_eq!(*bench.seen.lock().unwrap(), [vec![1], vec![5]]);
}

#[test]
fn a_caller_who_left_leaks_no_permit() {
    let bench = Bench::new(1);
    let first = bench.ask(&[1], later());
    bench.begun.recv().unwrap();
    drop(bench.ask(&[2; 63], later()));
    assert!(bench.admission.admit(1, 0).is_err(), "the tiles are still in the queue");
    bench.go.send(Step::Encode).unwrap();
    bench.runtime.block_on(first).unwrap();
    let last = bench.ask_when_free(&[3]);
    bench.go.send(Step::Encode).unwrap();
    bench.runtime.block_on(last).unwrap();
    assert_eq!(*bench.seen.lock().unwrap(), [vec![1], vec![3]]);
}

impl Bench {
    /// Asks as soon as the worker has skipped what stands before.
    fn ask_when_free(&self, tiles: &[u8]) -> std::pin::Pin<Box<impl Future<Output = Result<EncodeAnswer, BatchError>> + use<>>> {
        while self.admission.admit(64, 0).is_err() {
            std::thread::yield_now();
        }
        self.ask(tiles, later())
    }
}

#[test]
fn one_failure_answers_all_and_the_worker_goes_on() {
    let bench = Bench::new(4);
    for (step, said) in [(Step::Fail, "out of memory"), (Step::Panic, "panicked")] {
        let asked = bench.ask(&[1, 2], later());
        bench.go.send(step).unwrap();
        let error = bench.runtime.block_on(asked).err().unwrap();
        assert!(error.to_string().contains(said), "{error}");
    }
    let asked = bench.ask(&[7], later());
    bench.go.send(Step::Encode).unwrap();
    assert_eq!(bench.runtime.block_on(asked).unwrap().encodings[0].anatomy[0], 7.0);
}

#[test]
fn a_bucket_is_a_power_of_two_or_the_largest_batch() {
    assert_eq!([1, 2, 3, 5, 9, 12].map(|tiles| bucket(tiles, 12)), [1, 2, 4, 8, 12, 12]);
}
