//! The threads for work that computes: decoding, synthesis, compression. As many as configured, so
//! that neither the async threads nor the machine drown; what may queue for them is bounded by
//! admission. What they log stands under the request that they work for.
//!
//! Work comes as a job of one or many pieces. A thread takes one piece of the job whose turn it is,
//! then the next caller has its turn, and of one caller the next job: a request of one tile waits
//! for a piece of each other caller, never for all of what one asked for. When the caller of a job
//! is gone, because it left or its deadline passed, its pieces that have not begun will not. A
//! piece itself is not interrupted, so work is cut into pieces of about a picture.

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::Span;

use super::rounds::Rounds;
use crate::serve::caller::{Caller, CallerName};
use crate::serve::error::Error;

pub struct Cpu {
    turns: Arc<Turns>,
    threads: usize,
}

/// The jobs with pieces that have not begun, in the order of their turns.
struct Turns {
    state: Mutex<State>,
    work: Condvar,
}

struct State {
    waiting: Rounds<Waiting>,
    /// When each thread began the piece that it works on.
    at_work: Vec<Option<Instant>>,
    closed: bool,
}

struct Waiting {
    job: Arc<Job>,
    next: usize,
    /// When the job came, or had its last turn.
    since: Instant,
}

struct Job {
    caller: CallerName,
    pieces: usize,
    run: Box<dyn Fn(usize) + Send + Sync>,
    request: Span,
}

/// The items of a job, what was made of them, and who waits for it.
struct Made<I, T> {
    items: Vec<Option<I>>,
    made: Vec<Option<T>>,
    missing: usize,
    reply: Option<oneshot::Sender<Vec<Option<T>>>>,
}

/// The caller of a job; dropping it is leaving.
struct Waiter<'a> {
    turns: &'a Turns,
    job: Arc<Job>,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.turns.state);
        let left = state.waiting.remove(|waiting| Arc::ptr_eq(&waiting.job, &self.job));
        drop(state);
        // What it owns may be much to give back: not under the lock.
        drop(left);
    }
}

impl Cpu {
    /// # Errors
    /// When the threads cannot be started.
    pub fn new(threads: NonZeroUsize) -> std::io::Result<Self> {
        let threads = threads.get();
        let state =
            State { waiting: Rounds::default(), at_work: vec![None; threads], closed: false };
        let turns = Arc::new(Turns { state: Mutex::new(state), work: Condvar::new() });
        let cpu = Self { turns: Arc::clone(&turns), threads };
        for index in 0..threads {
            let turns = Arc::clone(&turns);
            let named = std::thread::Builder::new().name(format!("cpu-{index}"));
            named.spawn(move || turns.serve(index))?;
        }
        Ok(cpu)
    }

    /// How many threads there are.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Runs `work` as one piece. Dropping the future before the work began costs nothing.
    ///
    /// # Errors
    /// `internal` when the work panicked, which takes no thread down.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let made = self.each(vec![work], |work| work()).await?;
        made.into_iter().next().ok_or_else(Error::panicked)
    }

    /// Runs `work` on every item, each as a piece, and returns what it made in their order.
    /// Dropping the future drops the pieces that have not begun.
    ///
    /// # Errors
    /// `internal` when a piece panicked.
    pub async fn each<I, T>(
        &self,
        items: Vec<I>,
        work: impl Fn(I) -> T + Send + Sync + 'static,
    ) -> Result<Vec<T>, Error>
    where
        I: Send + 'static,
        T: Send + 'static,
    {
        let pieces = items.len();
        if pieces == 0 {
            return Ok(Vec::new());
        }
        let (reply, answer) = oneshot::channel();
        let made: Mutex<Made<I, T>> = Mutex::new(Made {
            items: items.into_iter().map(Some).collect(),
            made: std::iter::repeat_with(|| None).take(pieces).collect(),
            missing: pieces,
            reply: Some(reply),
        });
        let run = move |index: usize| {
            let item = lock(&made).items[index].take();
            let item = item.expect("a piece has one turn");
            // What the piece owns is dropped by the unwinding; nothing half-changed is shared.
            let done = catch_unwind(AssertUnwindSafe(|| work(item)));
            let mut made = lock(&made);
            match done {
                Ok(done) => {
                    made.made[index] = Some(done);
                    made.missing -= 1;
                }
                // The caller learns of it, and leaves.
                Err(_) => drop(made.reply.take()),
            }
            if made.missing == 0
                && let Some(reply) = made.reply.take()
            {
                let _ = reply.send(std::mem::take(&mut made.made));
            }
        };
        let (caller, request) = (Caller::current().name, Span::current());
        let job = Arc::new(Job { caller, pieces, run: Box::new(run), request });
        let _waiter = Waiter { turns: &self.turns, job: Arc::clone(&job) };
        self.turns.add(job);
        let made = answer.await.map_err(|_| Error::panicked())?;
        Ok(made.into_iter().map(|made| made.expect("no piece is missing")).collect())
    }

    /// For how long the piece that has been worked on longest has been, or the job that has waited
    /// longest has had no turn.
    pub fn oldest(&self) -> Duration {
        let state = lock(&self.turns.state);
        let since = state.waiting.iter().map(|waiting| waiting.since);
        let oldest = since.chain(state.at_work.iter().copied().flatten()).min();
        oldest.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

impl Drop for Cpu {
    fn drop(&mut self) {
        lock(&self.turns.state).closed = true;
        self.turns.work.notify_all();
    }
}

impl Turns {
    fn add(&self, job: Arc<Job>) {
        let (pieces, caller) = (job.pieces, job.caller.clone());
        lock(&self.state).waiting.push(&caller, Waiting { job, next: 0, since: Instant::now() });
        if pieces == 1 { self.work.notify_one() } else { self.work.notify_all() }
    }

    /// A thread's life.
    fn serve(&self, thread: usize) {
        while let Some((job, index)) = self.next(thread) {
            job.request.in_scope(|| (job.run)(index));
        }
    }

    /// The next piece; nothing when the server has ended.
    fn next(&self, thread: usize) -> Option<(Arc<Job>, usize)> {
        let mut state = lock(&self.state);
        state.at_work[thread] = None;
        let Waiting { job, next: index, .. } = loop {
            match state.waiting.take() {
                Some(waiting) => break waiting,
                None if state.closed => return None,
                None => {
                    let woken = self.work.wait(state);
                    state = woken.unwrap_or_else(std::sync::PoisonError::into_inner);
                }
            }
        };
        let (next, since) = (index + 1, Instant::now());
        if next < job.pieces {
            let waiting = Waiting { job: Arc::clone(&job), next, since };
            state.waiting.push(&job.caller, waiting);
        }
        state.at_work[thread] = Some(since);
        Some((job, index))
    }
}

/// No code panics while it holds one of these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Runs what waits for a disk on a thread that may, to its end whatever becomes of the caller.
///
/// # Errors
/// `internal` when the work panicked.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    let request = Span::current();
    tokio::task::spawn_blocking(move || request.in_scope(work)).await.map_err(|_| Error::panicked())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures_util::FutureExt;

    use super::*;
    use crate::serve::error::ErrorKind;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().build().unwrap()
    }

    fn cpu(threads: usize) -> Cpu {
        Cpu::new(NonZeroUsize::new(threads).unwrap()).unwrap()
    }

    #[test]
    fn a_panic_is_an_error_and_the_threads_go_on() {
        let (runtime, cpu) = (runtime(), cpu(1));
        let error = runtime.block_on(cpu.run(|| panic!("a bug"))).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Internal);
        let one_of_many = cpu.each(vec![1, 2, 3], |n| assert_ne!(n, 2, "a bug"));
        assert_eq!(runtime.block_on(one_of_many).unwrap_err().kind, ErrorKind::Internal);
        assert_eq!(runtime.block_on(cpu.run(|| 7)).unwrap(), 7);
    }

    #[test]
    fn what_is_made_comes_in_the_order_of_the_items() {
        let made = runtime().block_on(cpu(3).each((0..100).collect(), |n: usize| n * n)).unwrap();
        assert!(made.into_iter().eq((0..100).map(|n| n * n)));
    }

    #[test]
    fn a_small_job_waits_for_a_piece_of_a_large_one_and_not_for_all_of_it() {
        let (runtime, cpu) = (runtime(), cpu(1));
        let (log, order) = mpsc::channel();
        let (go, gate) = mpsc::channel::<()>();
        let gate = Mutex::new(gate);
        let large = log.clone();
        let large = cpu.each((0..3).collect(), move |n| {
            let _ = lock(&gate).recv();
            large.send(n).unwrap();
        });
        let small = cpu.run(move || log.send(7).unwrap());
        runtime.block_on(async {
            let (mut large, mut small) = (Box::pin(large), Box::pin(small));
            assert!((&mut large).now_or_never().is_none() && (&mut small).now_or_never().is_none());
            drop(go);
            let (large, small) = tokio::join!(large, small);
            assert!(large.is_ok() && small.is_ok());
        });
        assert_eq!(order.try_iter().collect::<Vec<_>>(), [0, 7, 1, 2]);
    }

    #[test]
    fn a_job_of_one_caller_waits_for_a_piece_of_another_and_not_for_all_of_its_jobs() {
        let (runtime, cpu) = (runtime(), cpu(1));
        let (log, order) = mpsc::channel();
        let (begun, has_begun) = mpsc::channel();
        let (go, gate) = mpsc::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let job = |address: u8, n: usize| {
            let (log, begun, gate) = (log.clone(), begun.clone(), Arc::clone(&gate));
            let work = cpu.run(move || {
                begun.send(()).unwrap();
                let _ = lock(&gate).recv();
                log.send((address, n)).unwrap();
            });
            let mut job = Box::pin(Caller::at([10, 0, 0, address].into()).scope(work));
            assert!((&mut job).now_or_never().is_none());
            job
        };
        let mut jobs = vec![job(1, 0)];
        has_begun.recv().unwrap();
        jobs.extend([job(1, 1), job(1, 2), job(1, 3), job(2, 0)]);
        drop(go);
        runtime.block_on(futures_util::future::join_all(jobs));
        assert_eq!(order.try_iter().collect::<Vec<_>>(), [(1, 0), (1, 1), (2, 0), (1, 2), (1, 3)]);
    }

    #[test]
    fn pieces_that_nobody_waits_for_do_not_begin() {
        let (runtime, cpu) = (runtime(), cpu(1));
        let (begun, count) = mpsc::channel();
        let (go, gate) = mpsc::channel::<()>();
        let gate = Mutex::new(gate);
        let work = cpu.each(vec![(); 9], move |()| {
            begun.send(()).unwrap();
            let _ = lock(&gate).recv();
        });
        let mut work = Box::pin(work);
        assert!((&mut work).now_or_never().is_none());
        count.recv().unwrap();
        assert!(cpu.oldest() > Duration::ZERO);
        drop(work);
        drop(go);
        runtime.block_on(cpu.run(|| ())).unwrap();
        assert_eq!(count.try_iter().count(), 0, "one piece, of nine");
    }
}
