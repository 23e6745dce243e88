//! The extension module `restain._local`: a model in a Python process, without a server.
//!
//! It carries a request's method, path, headers and body to the server's own routes
//! ([`restain::serve::embedded`]) and the answer back, so that `restain.local` returns the same
//! bytes as a server. What a request means, and how its answer is read, is in `clients/python`.

mod options;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use options::Options;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;
use restain::serve::embedded::{Embedded, Pending, Progress};
use restain::serve::error::with_causes;

/// How often a waiting call looks for signals, such as that of Ctrl-C.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// One model, ready for requests from any thread.
#[pyclass(frozen)]
struct Engine {
    /// None only when this is dropped.
    embedded: Option<Embedded>,
    /// The process that opened it: a fork has its memory, and none of its threads.
    process: u32,
}

/// A request in work; dropping it ends the work.
#[pyclass(frozen)]
struct Exchange(Pending);

/// Status, headers, and the pieces of the body.
type Answer<'py> = (u16, Vec<(String, String)>, Vec<Bound<'py, PyBytes>>);

#[pymethods]
impl Engine {
    /// Loads `model`, NAME/VERSION or NAME, of the directory `models`, with the ONNX Runtime at
    /// `library`.
    #[new]
    fn new(
        py: Python<'_>,
        models: PathBuf,
        model: String,
        library: PathBuf,
        options: Options,
    ) -> PyResult<Self> {
        let config = options.config(models, model).map_err(PyValueError::new_err)?;
        let embedded = py
            .detach(|| Embedded::open(config, Some(library.as_path())))
            .map_err(|error| PyRuntimeError::new_err(with_causes(&error)))?;
        Ok(Self { embedded: Some(embedded), process: std::process::id() })
    }

    /// Begins a request.
    fn begin(
        &self,
        method: &str,
        path: &str,
        headers: Vec<(String, String)>,
        body: PyBackedBytes,
    ) -> PyResult<Exchange> {
        let begun = http::Request::builder().method(method).uri(path);
        let begun = headers.iter().fold(begun, |begun, (name, value)| begun.header(name, value));
        let request = begun
            .header(http::header::CONTENT_LENGTH, body.len())
            .body(Bytes::from_owner(body))
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(Exchange(self.embedded()?.begin(request)))
    }

    /// Ends the model's threads and frees its memory.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let embedded = self.embedded()?;
        py.detach(|| embedded.close());
        Ok(())
    }
}

impl Engine {
    fn embedded(&self) -> PyResult<&Embedded> {
        let is_own = self.process == std::process::id();
        self.embedded.as_ref().filter(|_| is_own).ok_or_else(|| {
            PyRuntimeError::new_err("the model was opened by the process before its fork")
        })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Of a fork there is nothing to end, and to wait for its threads would never end.
        if self.process != std::process::id() {
            std::mem::forget(self.embedded.take());
        }
    }
}

#[pymethods]
impl Exchange {
    /// Waits for the answer; returns None after `seconds`, or when the request was cancelled.
    fn wait<'py>(&self, py: Python<'py>, seconds: f64) -> PyResult<Option<Answer<'py>>> {
        let seconds = Duration::try_from_secs_f64(seconds)
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        let begun = Instant::now();
        loop {
            let left = seconds.saturating_sub(begun.elapsed());
            match py.detach(|| self.0.wait(left.min(LOOK_EVERY))) {
                Progress::Done(reply) => {
                    let piece = |piece: &Bytes| PyBytes::new(py, piece);
                    let pieces = reply.pieces.iter().map(piece).collect();
                    return Ok(Some((reply.status, reply.headers, pieces)));
                }
                Progress::Cancelled => return Ok(None),
                Progress::Working if left.is_zero() => return Ok(None),
                Progress::Working => py.check_signals()?,
            }
        }
    }

    /// Ends the request, from any thread.
    fn cancel(&self) {
        self.0.cancel();
    }
}

#[pymodule]
mod _local {
    #[pymodule_export]
    use super::{Engine, Exchange};

    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");
}
