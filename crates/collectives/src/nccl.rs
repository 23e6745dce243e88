//! Sums over the GPUs of a run, by NCCL, which is looked up at run time beside libtorch_cuda.
//!
//! Written against NCCL's C interface (2.x) and *not yet run on a GPU*. Everything goes through the
//! legacy default stream, the one that `tch` computes on, so that a sum waits for the gradients and
//! the optimiser for the sum.

#![expect(unsafe_code, reason = "NCCL is C")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use libloading::os::unix::{Library, Symbol};
use tch::{Cuda, Kind, Tensor};

const LIBRARY: &str = "libnccl.so.2";
/// `ncclFloat32` of `ncclDataType_t`.
const FLOAT32: c_int = 7;
/// `ncclSum` of `ncclRedOp_t`.
const SUM: c_int = 0;

/// `ncclUniqueId`: what one process makes and all of them join by.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct UniqueId(pub [u8; 128]);

type Comm = *mut c_void;
type Unused = unsafe extern "C" fn();
type Init = unsafe extern "C" fn(*mut Comm, c_int, UniqueId, c_int) -> c_int;
type AllReduce = unsafe extern "C" fn(
    *const c_void,
    *mut c_void,
    usize,
    c_int,
    c_int,
    Comm,
    *mut c_void,
) -> c_int;

/// A communicator, which lives as long as the process.
pub(super) struct Nccl {
    comm: Comm,
    device: usize,
    all_reduce: Symbol<AllReduce>,
    abort: Symbol<unsafe extern "C" fn(Comm) -> c_int>,
    error_string: Symbol<unsafe extern "C" fn(c_int) -> *const c_char>,
    timeout: Duration,
    // Keeps the symbols valid: dropped last.
    _library: Library,
}

/// What process 0 makes for all.
pub(super) fn unique_id() -> Result<UniqueId> {
    let library = open()?;
    let mut id = UniqueId([0; 128]);
    // SAFETY: `ncclResult_t ncclGetUniqueId(ncclUniqueId*)`.
    let status = unsafe {
        library.get::<unsafe extern "C" fn(*mut UniqueId) -> c_int>(b"ncclGetUniqueId\0")?(&mut id)
    };
    ensure!(status == 0, "ncclGetUniqueId: error {status}");
    Ok(id)
}

impl Nccl {
    /// Joins the others, with the current CUDA device of this thread, which must be `device`.
    pub(super) fn join(
        id: UniqueId,
        rank: usize,
        size: usize,
        device: usize,
        timeout: Duration,
    ) -> Result<Self> {
        let library = open()?;
        let mut comm: Comm = std::ptr::null_mut();
        // SAFETY: the signatures are those of nccl.h.
        let (joined, status) = unsafe {
            let init = library.get::<Init>(b"ncclCommInitRank\0")?;
            let (all_reduce, abort) =
                (library.get(b"ncclAllReduce\0")?, library.get(b"ncclCommAbort\0")?);
            let error_string = library.get(b"ncclGetErrorString\0")?;
            let status = init(&mut comm, size as c_int, id, rank as c_int);
            (
                Self { comm, device, all_reduce, abort, error_string, timeout, _library: library },
                status,
            )
        };
        joined.check("ncclCommInitRank", status)?;
        Ok(joined)
    }

    /// The sum over all processes, in place in every process. Each tensor f32, contiguous, on the
    /// device.
    pub(super) fn sum(&self, tensors: &[Tensor]) -> Result<()> {
        for tensor in tensors {
            assert!(
                tensor.kind() == Kind::Float && tensor.is_contiguous(),
                "buckets are contiguous f32"
            );
            let (data, stream) = (tensor.data_ptr(), std::ptr::null_mut());
            // SAFETY: the tensor outlives the call and, through `wait`, the sum; a null stream is
            // the legacy default one.
            let status = unsafe {
                (self.all_reduce)(data, data, tensor.numel(), FLOAT32, SUM, self.comm, stream)
            };
            self.check("ncclAllReduce", status)?;
        }
        self.wait()
    }

    /// Until the sums are there. A process that has died leaves a kernel waiting for ever: after
    /// the timeout it is aborted.
    fn wait(&self) -> Result<()> {
        let (done, over) = sync_channel::<()>(0);
        let (comm, abort, timeout) = (self.comm as usize, &self.abort, self.timeout);
        let aborted = std::thread::scope(|scope| {
            let watch = scope.spawn(move || {
                let late = over.recv_timeout(timeout) == Err(RecvTimeoutError::Timeout);
                // SAFETY: ncclCommAbort may be called from any thread; the communicator is not used
                // afterwards.
                late && unsafe { abort(comm as Comm) } == 0
            });
            Cuda::synchronize(self.device as i64);
            drop(done);
            watch.join().expect("the watch does not panic")
        });
        ensure!(
            !aborted,
            "NCCL: the other processes gave no answer within {} s",
            self.timeout.as_secs()
        );
        Ok(())
    }

    fn check(&self, call: &str, status: c_int) -> Result<()> {
        if status == 0 {
            return Ok(());
        }
        // SAFETY: NCCL's messages are static strings.
        let text = unsafe { CStr::from_ptr((self.error_string)(status)) };
        bail!("{call}: {}", text.to_string_lossy())
    }
}

/// libtorch_cuda has loaded the library already, or holds a copy, or neither.
fn open() -> Result<Library> {
    // SAFETY: NCCL's own library; its initialisers are what every program linked with it runs at
    // start.
    let library = unsafe { Library::new(LIBRARY) }.or_else(|error| {
        let own = Library::this();
        // SAFETY: only whether the symbol is there.
        unsafe { own.get::<Unused>(b"ncclGetUniqueId\0") }.is_ok().then_some(own).ok_or(error)
    });
    library.with_context(|| format!("{LIBRARY} cannot be opened: many processes on GPUs need NCCL"))
}
