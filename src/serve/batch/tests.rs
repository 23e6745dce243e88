//! The queue and its workers, with threads and an encoder that waits to be let through. What the
//! queue decides at which time is tested in `queue`, without any of them.

mod bench;

use bench::*;

use super::message::Failure;
use super::*;
use half::f16;
use restain_bundle::codec::TileKey;

#[test]
fn a_batch_is_what_arrived_while_the_last_one_ran() {
    let bench = Bench::new(8);
    let first = bench.ask(&[1], later());
    assert_eq!(bench.begun.recv(), Ok(1));
    let (second, third) = (bench.ask(&[2, 3, 4], later()), bench.ask(&[5, 6], later()));
    bench.let_through(2);
    let answers = bench
        .runtime
        .block_on(async { [first.await.unwrap(), second.await.unwrap(), third.await.unwrap()] });
    // Five tiles make a batch of six: the sixth is padding.
    assert_eq!(bench.seen(), [vec![1], vec![2, 3, 4, 5, 6, 0]]);
    assert_eq!(
        answers.iter().map(values).collect::<Vec<_>>(),
        [vec![1.0], vec![2.0, 3.0, 4.0], vec![5.0, 6.0]]
    );
}

#[test]
fn a_large_request_is_split_and_joined_again_and_the_rest_of_a_batch_is_filled_up() {
    let bench = Bench::new(4);
    let first = bench.ask(&[1], later());
    assert_eq!(bench.begun.recv(), Ok(1));
    let (second, third) = (bench.ask(&[2, 3, 4, 5, 6, 7], later()), bench.ask(&[8], later()));
    bench.let_through(3);
    let answers = bench
        .runtime
        .block_on(async { [first.await.unwrap(), second.await.unwrap(), third.await.unwrap()] });
    assert_eq!(bench.seen(), [vec![1], vec![2, 3, 4, 5], vec![6, 7, 8]]);
    assert_eq!(values(&answers[1]), [2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
}

#[test]
fn who_left_or_is_too_late_costs_no_encoding() {
    let bench = Bench::new(4);
    let first = bench.ask(&[1], later());
    bench.begun.recv().unwrap();
    drop(bench.ask(&[2, 3], later()));
    let late = bench.start(&[4], Instant::now());
    let stayed = bench.ask(&[5], later());
    bench.let_through(2);
    bench.runtime.block_on(async {
        first.await.unwrap();
        stayed.await.unwrap();
        assert!(matches!(late.await.err(), Some(BatchError::Late | BatchError::Overloaded { .. })));
    });
    assert_eq!(bench.seen(), [vec![1], vec![5]]);
}

#[test]
fn who_leaves_after_the_batch_was_assembled_costs_no_encoding_either() {
    let bench = Bench::new(2);
    let first = bench.ask(&[1], later());
    bench.begun.recv().unwrap();
    // A full batch, so that it is assembled while the first runs.
    let leaving = bench.ask(&[2], later());
    let stayed = bench.ask(&[3], later());
    while bench.batch.0.shared.under_way() < 3 {
        std::thread::yield_now();
    }
    drop(leaving);
    bench.let_through(2);
    bench.runtime.block_on(async {
        first.await.unwrap();
        stayed.await.unwrap();
    });
    assert_eq!(bench.seen(), [vec![1], vec![3]]);
}

#[test]
fn a_caller_who_left_leaks_no_permit() {
    let bench = Bench::new(1);
    let first = bench.ask(&[1], later());
    bench.begun.recv().unwrap();
    drop(bench.ask(&(2..65).collect::<Vec<u8>>(), later()));
    assert!(bench.admission.admit(1, 0).is_err(), "the tiles are still in the queue");
    bench.let_through(1);
    bench.runtime.block_on(first).unwrap();
    while bench.admission.admit(64, 0).is_err() {
        std::thread::yield_now();
    }
    let last = bench.ask(&[99], later());
    bench.let_through(1);
    bench.runtime.block_on(last).unwrap();
    assert_eq!(bench.seen(), [vec![1], vec![99]]);
}

#[test]
fn one_tile_asked_for_by_many_is_encoded_once() {
    let bench = Bench::new(4);
    let first = bench.ask(&[7], later());
    bench.begun.recv().unwrap();
    // One joins what runs, one waits for another tile too and names it twice.
    let (second, third) = (bench.ask(&[7], later()), bench.ask(&[8, 7, 8], later()));
    bench.let_through(2);
    let answers = bench
        .runtime
        .block_on(async { [first.await.unwrap(), second.await.unwrap(), third.await.unwrap()] });
    assert_eq!(
        answers.iter().map(values).collect::<Vec<_>>(),
        [vec![7.0], vec![7.0], vec![8.0, 7.0, 8.0]]
    );
    assert_eq!(bench.seen(), [vec![7], vec![8]]);
    // And who comes later finds it on the shelf.
    assert_eq!(values(&bench.runtime.block_on(bench.start(&[7, 8], later())).unwrap()), [7.0, 8.0]);
    assert_eq!(bench.seen().len(), 2);
}

#[test]
fn a_tile_is_encoded_while_anyone_waits_for_it() {
    let bench = Bench::new(1);
    let first = bench.ask(&[1], later());
    bench.begun.recv().unwrap();
    let leaving = bench.ask(&[2], later());
    let stayed = bench.ask(&[2], later());
    drop(leaving);
    bench.let_through(2);
    bench.runtime.block_on(async {
        first.await.unwrap();
        assert_eq!(values(&stayed.await.unwrap()), [2.0]);
    });
}

#[test]
fn what_has_begun_is_kept_even_if_everyone_left() {
    let bench = Bench::new(1);
    let leaving = bench.ask(&[3], later());
    bench.begun.recv().unwrap();
    drop(leaving);
    bench.let_through(1);
    while bench.shelf.0.lock().unwrap().is_empty() {
        std::thread::yield_now();
    }
    assert_eq!(values(&bench.runtime.block_on(bench.start(&[3], later())).unwrap()), [3.0]);
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
    bench.let_through(1);
    assert_eq!(values(&bench.runtime.block_on(asked).unwrap()), [7.0]);
}

/// The first encoder panics, and the others answer with their number.
struct Heir(u16);

impl Encode for Heir {
    fn encode(&mut self, _: &[u8], _: usize, wanted: usize) -> Result<Vec<Vec<f16>>, Failure> {
        assert!(self.0 > 0, "a bug in the encoder");
        Ok(vec![vec![f16::from_f32(f32::from(self.0)); geometry().tile_latents()]; wanted])
    }

    fn another(&self) -> Result<Box<dyn Encode>, Failure> {
        Ok(Box::new(Self(self.0 + 1)))
    }
}

/// Panics when it is to keep a tile of this key.
struct Refuses(TileKey);

impl Shelf for Refuses {
    fn forget(&self, _: &TileKey) {}

    fn peek(&self, _: &TileKey) -> Option<Arc<TileEncoding>> {
        None
    }

    fn keep(&self, key: &TileKey, _: &Arc<TileEncoding>) {
        assert!(*key != self.0, "a bug in the cache");
    }
}

#[test]
fn whatever_panics_in_a_worker_its_callers_are_answered_and_another_encoder_takes_over() {
    let (batch, admission) =
        start(1, Duration::from_secs(3600), Box::new(Heir(0)), Arc::new(Refuses(tile(2).key)));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let ask = |value: u8| {
        let permit = admission.admit(1, 0).unwrap();
        runtime.block_on(batch.encode(EncodeRequest {
            tiles: vec![tile(value)],
            deadline: later(),
            priority: Priority::Bulk,
            permit,
        }))
    };
    let panicked = |value: u8| ask(value).err().unwrap().to_string().contains("panicked");
    assert!(panicked(1), "in the encoder");
    assert_eq!(values(&ask(1).unwrap()), [1.0]);
    assert!(panicked(2), "around it");
    assert_eq!(values(&ask(1).unwrap()), [2.0]);
    // And nothing stays held: an answer is sent right before its permit is released.
    while admission.admit(64, 0).is_err() {
        std::thread::yield_now();
    }
}

#[test]
fn a_queue_that_would_outlast_the_deadline_or_the_longest_wait_refuses() {
    // Warmed at a second a tile.
    let bench = Bench::waiting_at_most(2, Duration::from_secs(5));
    let running = bench.ask(&[1, 2], later());
    bench.begun.recv().unwrap();
    let waiting = bench.ask(&[3], later());
    let soon = Instant::now() + Duration::from_millis(500);
    let refused = bench.runtime.block_on(bench.start(&[4], soon)).err().unwrap();
    assert!(
        matches!(refused, BatchError::Overloaded { wait } if wait == Duration::from_secs(1)),
        "{refused}"
    );
    // However many tiles it has itself, a request is admitted while what stands before it is short
    // enough. Two of them may be assembled already, and count no longer.
    let large = bench.ask(&[5, 6, 7, 8, 9, 10, 11, 12], later());
    let refused = bench.runtime.block_on(bench.start(&[13], later())).err().unwrap();
    assert!(
        matches!(refused, BatchError::Overloaded { wait } if wait > Duration::from_secs(5)),
        "{refused}"
    );
    drop((waiting, large));
    bench.let_through(1);
    bench.runtime.block_on(running).unwrap();
}

#[test]
fn the_threads_end_with_the_last_handle_once_the_work_is_done() {
    let bench = Bench::new(2);
    let asked = bench.ask(&[1, 2, 3], later());
    bench.begun.recv().unwrap();
    let Bench { batch, begun, go, runtime, .. } = bench;
    drop(batch);
    (0..2).for_each(|_| go.send(Step::Encode).unwrap());
    assert_eq!(values(&runtime.block_on(asked).unwrap()), [1.0, 2.0, 3.0]);
    assert_eq!(begun.recv(), Ok(1));
    assert!(begun.recv().is_err(), "the encoder is gone with its thread");
}
