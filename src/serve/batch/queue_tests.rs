//! Facts about the scheduling, with a clock that the test moves.

use bytes::Bytes;
use tokio::sync::oneshot;

use super::super::message::Encoded;
use super::*;
use crate::serve::admission::Admission;
use crate::serve::batch::{BatchError, Whole};
use crate::serve::metrics::Metrics;

use std::sync::Arc;

type Reply = oneshot::Receiver<Result<Encoded, BatchError>>;

struct Scene {
    queue: Queue,
    start: Instant,
    permit: Arc<crate::serve::admission::Permit>,
    max_wait_ms: u64,
}

impl Scene {
    fn new(max_batch: usize, max_delay_ms: u64, workers: usize) -> Self {
        let admission = Admission::new(1, 1, Arc::new(Metrics::new().unwrap()));
        let queue = Queue::new(max_batch, Duration::from_millis(max_delay_ms), workers);
        let permit = admission.admit(0, 0).unwrap();
        Self { queue, start: Instant::now(), permit, max_wait_ms: 3_600_000 }
    }

    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    /// A tile that comes at `ms` and is wanted for an hour.
    fn comes(&mut self, value: u8, priority: Priority, ms: u64) -> Reply {
        self.comes_until(value, priority, ms, ms + 3_600_000)
    }

    fn comes_until(&mut self, value: u8, priority: Priority, ms: u64, deadline_ms: u64) -> Reply {
        self.comes_from(0, value, priority, [ms, deadline_ms])
    }

    /// A tile that a caller brings at the first time, and wants until the second, ms.
    fn comes_from(&mut self, caller: u8, value: u8, priority: Priority, times: [u64; 2]) -> Reply {
        let ([ms, deadline_ms], caller) = (times, name(caller));
        let (reply, answer) = oneshot::channel();
        let waiter = Waiter {
            caller,
            deadline: self.at(deadline_ms),
            queued: self.at(ms),
            turn_by: self.at(ms + self.max_wait_ms),
            _permit: Arc::clone(&self.permit),
            asker: None,
            reply,
        };
        if let Err(waiter) = self.queue.join(&key(value), priority, waiter) {
            let tile = WantedTile {
                key: key(value),
                size: (1, 1),
                seen: Bytes::new(),
                whole: Whole::Seen,
            };
            self.queue.push(tile, priority, waiter);
        }
        answer
    }

    fn next(&mut self, worker: usize, ms: u64) -> Next<Vec<u8>> {
        let now = self.at(ms);
        match self.queue.next(worker, now) {
            Next::Take(batch) => {
                Next::Take(batch.iter().map(|tile| tile.key.as_bytes()[0]).collect())
            }
            Next::Wait(until) => Next::Wait(until),
            Next::End => Next::End,
        }
    }

    fn finish(&mut self, worker: usize, values: &[u8]) -> usize {
        let keys: Vec<TileKey> = values.iter().copied().map(key).collect();
        self.queue.finish(worker, &keys).into_iter().flatten().count()
    }
}

fn name(caller: u8) -> CallerName {
    CallerName::Address([10, 0, 0, caller].into())
}

fn key(value: u8) -> TileKey {
    TileKey::from_bytes([value; 32])
}

use Priority::{Bulk, Interactive};

#[test]
fn an_idle_worker_takes_what_there_is_at_once() {
    let mut scene = Scene::new(4, 0, 1);
    assert_eq!(scene.next(0, 0), Next::Wait(None));
    let _waits = scene.comes(1, Interactive, 5);
    assert_eq!(scene.next(0, 5), Next::Take(vec![1]));
}

#[test]
fn a_delay_lets_a_batch_fill_and_no_longer() {
    let mut scene = Scene::new(3, 10, 1);
    let mut waits = vec![scene.comes(1, Interactive, 0)];
    assert_eq!(scene.next(0, 1), Next::Wait(Some(scene.at(10))));
    waits.push(scene.comes(2, Bulk, 4));
    assert_eq!(scene.next(0, 9), Next::Wait(Some(scene.at(10))), "the first to come decides");
    assert_eq!(scene.next(0, 10), Next::Take(vec![1, 2]));
    scene.finish(0, &[1, 2]);
    waits.extend([3, 4, 5].map(|value| scene.comes(value, Interactive, 20)));
    assert_eq!(scene.next(0, 20), Next::Take(vec![3, 4, 5]), "a full batch does not wait");
}

#[test]
fn a_busy_worker_is_given_only_a_full_batch_ahead_and_only_one() {
    let mut scene = Scene::new(2, 0, 1);
    let mut waits = vec![scene.comes(1, Interactive, 0)];
    assert_eq!(scene.next(0, 0), Next::Take(vec![1]));
    waits.push(scene.comes(2, Interactive, 1));
    assert_eq!(scene.next(0, 1), Next::Wait(None), "open to who comes");
    waits.extend([3, 4, 5].map(|value| scene.comes(value, Interactive, 2)));
    assert_eq!(scene.next(0, 2), Next::Take(vec![2, 3]));
    assert_eq!(scene.next(0, 2), Next::Wait(None), "one runs, one is assembled");
    assert_eq!(scene.finish(0, &[1]), 1);
    assert_eq!(scene.next(0, 3), Next::Take(vec![4, 5]));
}

#[test]
fn two_workers_share_the_line() {
    let mut scene = Scene::new(2, 0, 2);
    let _waits = [1, 2, 3].map(|value| scene.comes(value, Interactive, 0));
    assert_eq!(scene.next(0, 0), Next::Take(vec![1, 2]));
    assert_eq!(scene.next(1, 0), Next::Take(vec![3]));
}

#[test]
fn bulk_gets_every_fourth_turn_and_all_of_them_when_nobody_else_waits() {
    let mut scene = Scene::new(8, 0, 1);
    let _bulk: Vec<Reply> = (100..110).map(|value| scene.comes(value, Bulk, 0)).collect();
    let _interactive: Vec<Reply> = (0..9).map(|value| scene.comes(value, Interactive, 1)).collect();
    assert_eq!(scene.next(0, 1), Next::Take(vec![0, 1, 2, 100, 3, 4, 5, 101]));
    assert_eq!(scene.next(0, 1), Next::Take(vec![6, 7, 8, 102, 103, 104, 105, 106]));
}

#[test]
fn bulk_moves_on_under_endless_interactive_load() {
    let mut scene = Scene::new(1, 0, 1);
    let _bulk = scene.comes(200, Bulk, 0);
    let mut waits = Vec::new();
    let turns = (0..8u8).map(|value| {
        waits.push(scene.comes(value, Interactive, 0));
        waits.push(scene.comes(value + 100, Interactive, 0));
        let Next::Take(batch) = scene.next(0, 0) else { panic!("there is work") };
        scene.finish(0, &batch);
        batch[0]
    });
    assert!(turns.collect::<Vec<u8>>().contains(&200));
}

#[test]
fn a_tile_of_bulk_that_somebody_waits_for_moves_up() {
    let mut scene = Scene::new(1, 0, 1);
    let _bulk = [1, 2].map(|value| scene.comes(value, Bulk, 0));
    let _interactive = scene.comes(2, Interactive, 1);
    let ahead = |priority| scene.queue.ahead_of(priority, &name(0));
    assert_eq!((ahead(Bulk), ahead(Interactive)), (2, 1));
    assert_eq!(scene.next(0, 1), Next::Take(vec![2]));
    assert_eq!(scene.finish(0, &[2]), 2, "both hear of it");
    assert_eq!(scene.next(0, 2), Next::Take(vec![1]));
    scene.finish(0, &[1]);
    assert_eq!(scene.next(0, 3), Next::Wait(None), "its old place in the line is empty");
}

#[test]
fn a_deadline_that_passes_in_the_line_ends_the_wait() {
    let mut scene = Scene::new(2, 0, 1);
    let mut late = scene.comes_until(1, Interactive, 0, 50);
    let _stays = scene.comes(2, Interactive, 0);
    assert_eq!(scene.next(0, 50), Next::Take(vec![2]));
    assert!(matches!(late.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
}

#[test]
fn a_deadline_that_passes_after_assembly_counts_as_well() {
    let mut scene = Scene::new(2, 0, 1);
    let _late = scene.comes_until(1, Interactive, 0, 50);
    let _stays = scene.comes(2, Interactive, 0);
    assert_eq!(scene.next(0, 0), Next::Take(vec![1, 2]));
    let now = scene.at(60);
    assert_eq!(scene.queue.still_wanted(&[key(1), key(2)], now), [false, true]);
    assert_eq!(scene.finish(0, &[2]), 1);
    let _again = scene.comes(1, Interactive, 61);
    assert_eq!(scene.next(0, 61), Next::Take(vec![1]), "who asks again starts anew");
}

#[test]
fn when_all_in_line_have_left_there_is_nothing_to_do() {
    let mut scene = Scene::new(4, 0, 1);
    drop([1, 2, 3].map(|value| scene.comes(value, Bulk, 0)));
    assert_eq!(scene.next(0, 1), Next::Wait(None));
    assert_eq!((scene.queue.ahead_of(Bulk, &name(0)), scene.queue.under_way()), (0, 0));
}

#[test]
fn a_closed_queue_is_emptied_and_then_ends() {
    let mut scene = Scene::new(2, 1000, 1);
    let _waits = [1, 2, 3].map(|value| scene.comes(value, Interactive, 0));
    scene.queue.close();
    assert_eq!(scene.next(0, 0), Next::Take(vec![1, 2]));
    assert_eq!(scene.next(0, 0), Next::Wait(None));
    scene.finish(0, &[1, 2]);
    assert_eq!(scene.next(0, 0), Next::Take(vec![3]), "and no delay holds it up");
    scene.finish(0, &[3]);
    assert_eq!(scene.next(0, 0), Next::End);
}

const HOUR: [u64; 2] = [0, 3_600_000];

#[test]
fn callers_take_turns_tile_by_tile_whoever_brings_more() {
    let mut scene = Scene::new(4, 0, 1);
    let mut waits: Vec<Reply> =
        (1..7).map(|value| scene.comes_from(1, value, Interactive, HOUR)).collect();
    waits.extend([21, 22].map(|value| scene.comes_from(2, value, Interactive, HOUR)));
    waits.push(scene.comes_from(3, 31, Interactive, HOUR));
    let ahead = [1, 2, 3, 4].map(|caller| scene.queue.ahead_of(Interactive, &name(caller)));
    assert_eq!(ahead, [6 + 2 + 1, 2 + 3 + 1, 1 + 2 + 2, 3], "of the next tile of each");
    assert_eq!(scene.next(0, 0), Next::Take(vec![1, 21, 31, 2]));
    assert_eq!(scene.next(0, 0), Next::Take(vec![22, 3, 4, 5]));
}

#[test]
fn a_tile_that_two_callers_want_is_encoded_at_the_first_of_their_turns() {
    let mut scene = Scene::new(1, 0, 1);
    let _greedy = [1, 2, 3, 4].map(|value| scene.comes_from(1, value, Interactive, HOUR));
    let _other = scene.comes_from(2, 4, Interactive, HOUR);
    for (value, waiters) in [(1, 1), (4, 2), (2, 1), (3, 1)] {
        assert_eq!(scene.next(0, 0), Next::Take(vec![value]));
        assert_eq!(scene.finish(0, &[value]), waiters);
    }
    assert_eq!(scene.next(0, 0), Next::Wait(None));
}

#[test]
fn what_left_the_line_is_no_turn_of_its_caller() {
    let mut scene = Scene::new(2, 0, 1);
    let gone = [1, 2].map(|value| scene.comes_from(1, value, Interactive, HOUR));
    let _stay = [3, 4].map(|value| scene.comes_from(1, value, Interactive, HOUR));
    let _other = scene.comes_from(2, 21, Interactive, HOUR);
    drop(gone);
    assert_eq!(scene.next(0, 0), Next::Take(vec![3, 21]));
}

/// `sharing` workers, and a lone one behind them.
fn with_lone(max_batch: usize, sharing: usize) -> Scene {
    let mut scene = Scene::new(max_batch, 0, sharing);
    scene.queue.add_lone();
    scene
}

#[test]
fn a_tile_that_is_alone_goes_to_the_lone_worker_and_no_other_tile_does() {
    let mut scene = with_lone(1, 2);
    let _replies: Vec<Reply> = (1..2).map(|tile| scene.comes(tile, Interactive, 0)).collect();
    assert_eq!(scene.next(0, 0), Next::Wait(None));
    assert_eq!(scene.next(1, 0), Next::Wait(None));
    assert_eq!(scene.next(2, 0), Next::Take(vec![1]));
    // While it is at work the others take what comes.
    let _more: Vec<Reply> = (2..5).map(|tile| scene.comes(tile, Interactive, 1)).collect();
    assert_eq!(scene.next(2, 1), Next::Wait(None));
    assert_eq!(scene.next(0, 1), Next::Take(vec![2]));
    assert_eq!(scene.next(1, 1), Next::Take(vec![3]));
    assert_eq!(scene.finish(2, &[1]), 1);
    // One waits, and nothing is quiet: the lone worker leaves it to those who share.
    assert_eq!(scene.next(2, 2), Next::Wait(None));
    assert_eq!(scene.finish(0, &[2]), 1);
    assert_eq!(scene.next(0, 3), Next::Take(vec![4]));
    assert_eq!((scene.finish(0, &[4]), scene.finish(1, &[3])), (1, 1));
    // Quiet again.
    let _last = scene.comes(9, Bulk, 4);
    assert_eq!(scene.next(1, 4), Next::Wait(None));
    assert_eq!(scene.next(2, 4), Next::Take(vec![9]));
}

#[test]
fn workers_that_share_take_equal_parts_and_nothing_ahead_of_one_that_is_idle() {
    let mut scene = with_lone(8, 3);
    let _replies: Vec<Reply> = (1..8).map(|tile| scene.comes(tile, Interactive, 0)).collect();
    assert_eq!(scene.next(3, 0), Next::Wait(None));
    assert_eq!(scene.next(0, 0), Next::Take(vec![1, 2, 3]));
    assert_eq!(scene.next(0, 0), Next::Wait(None));
    assert_eq!(scene.next(1, 0), Next::Take(vec![4, 5]));
    assert_eq!(scene.next(2, 0), Next::Take(vec![6, 7]));
    // All are busy: a full batch is taken ahead.
    let _more: Vec<Reply> = (10..18).map(|tile| scene.comes(tile, Interactive, 1)).collect();
    assert_eq!(scene.next(1, 1), Next::Take((10..18).collect()));
}

#[test]
fn a_queue_that_is_closed_ends_every_worker_once_it_is_empty() {
    let mut scene = with_lone(1, 2);
    let _reply = scene.comes(1, Interactive, 0);
    scene.queue.close();
    assert_eq!(scene.next(0, 0), Next::Wait(None));
    assert_eq!(scene.next(2, 0), Next::Take(vec![1]));
    assert_eq!((scene.next(0, 0), scene.next(1, 0)), (Next::End, Next::End));
    assert_eq!(scene.finish(2, &[1]), 1);
    assert_eq!(scene.next(2, 0), Next::End);
}

#[test]
fn a_tile_that_has_waited_longer_than_it_may_is_refused_when_its_turn_comes() {
    let mut scene = Scene { max_wait_ms: 100, ..Scene::new(1, 0, 1) };
    let mut late = scene.comes(1, Priority::Interactive, 0);
    let mut in_time = scene.comes(2, Priority::Interactive, 50);
    assert!(late.try_recv().is_err(), "it may still be in time");
    assert_eq!(scene.next(0, 120), Next::Take(vec![2]));
    let refused = late.try_recv().unwrap().unwrap_err();
    let after = Duration::from_millis(120);
    assert!(matches!(refused, BatchError::Overloaded { wait } if wait == after), "{refused}");
    assert!(in_time.try_recv().is_err());
    assert_eq!(scene.finish(0, &[2]), 1);
}
