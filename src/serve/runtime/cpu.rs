//! The threads for work that computes: decoding, synthesis, compression. As many as configured, so
//! that neither the async threads nor the machine drown; what may queue for them is bounded by
//! admission. What they log stands under the request that they work for.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::sync::oneshot;
use tracing::Span;

use crate::serve::error::Error;

pub struct Cpu {
    pool: rayon::ThreadPool,
}

impl Cpu {
    /// # Errors
    /// When the threads cannot be started.
    pub fn new(threads: usize) -> Result<Self, rayon::ThreadPoolBuildError> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("cpu-{index}"))
            .build()?;
        Ok(Self { pool })
    }

    /// Runs `work` on the pool; rayon's parallel iterators inside it stay on the pool. Dropping the
    /// future before the work began costs nothing.
    ///
    /// # Errors
    /// `internal` when the work panicked, which takes no thread down.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let request = Span::current();
        self.pool.spawn(move || {
            if reply.is_closed() {
                return;
            }
            // What `work` owns is dropped by the unwinding; nothing half-changed is shared.
            if let Ok(done) = request.in_scope(|| catch_unwind(AssertUnwindSafe(work))) {
                let _ = reply.send(done);
            }
        });
        answer.await.map_err(|_| Error::panicked())
    }
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
    use super::*;
    use crate::serve::error::ErrorKind;

    #[test]
    fn a_panic_is_an_error_and_the_pool_goes_on() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let cpu = Cpu::new(1).unwrap();
        let error = runtime.block_on(cpu.run(|| panic!("a bug"))).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Internal);
        assert_eq!(runtime.block_on(cpu.run(|| 7)).unwrap(), 7);
    }
}
