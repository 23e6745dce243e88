//! The one thread that talks to the network, for callers that block.

use std::future::Future;
use std::sync::OnceLock;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// Waits for `work`. The caller is a thread that may block: never one that drives other futures.
pub(crate) fn wait<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    let (send, receive) = std::sync::mpsc::sync_channel(1);
    runtime().spawn(async move {
        // The caller may have panicked meanwhile.
        let _ = send.send(work.await);
    });
    receive.recv().expect("the work sends its result, unless it panicked")
}

/// Begins `work`, whose result is taken with [`wait`].
pub(crate) fn begin<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    runtime().spawn(work)
}

/// Chooses the cryptography of clients that are made from now on.
pub(crate) fn choose_cryptography() {
    // Fails where another part of the program has chosen one, which does as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("store")
            .enable_all()
            .build()
            .expect("a thread can be started")
    })
}
