//! gloo (libtorch's own copy) over TCP: sums and broadcasts of host memory.
//!
//! The C++ half is `gloo.cc` in `native`. It does no arithmetic on devices: that is `nccl`.

#![expect(unsafe_code, reason = "gloo is C++")]

use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr::NonNull;

use anyhow::Result;

use restain_torch::native::called;
use restain_torch::place::Place;

#[repr(C)]
struct Rendezvous {
    host: *const c_char,
    attempt: *const c_char,
    port: c_int,
    serves: c_int,
    rank: c_int,
    size: c_int,
    timeout_s: c_int,
}

unsafe extern "C" {
    fn restain_gloo_join(
        at: *const Rendezvous,
        group: *mut *mut c_void,
        message: *mut c_char,
        room: usize,
    ) -> c_int;
    fn restain_gloo_leave(group: *mut c_void);
    fn restain_gloo_sum(
        group: *mut c_void,
        data: *mut f32,
        length: i64,
        message: *mut c_char,
        room: usize,
    ) -> c_int;
    fn restain_gloo_broadcast(
        group: *mut c_void,
        data: *mut u8,
        length: i64,
        message: *mut c_char,
        room: usize,
    ) -> c_int;
    fn restain_cuda_select(index: c_int, message: *mut c_char, room: usize) -> c_int;
}

pub(super) struct Gloo {
    group: NonNull<c_void>,
}

impl Gloo {
    /// Connects to every process of the run and waits for them, at most `timeout_s`.
    pub(super) fn join(place: &Place, timeout_s: u32) -> Result<Self> {
        let (host, attempt) =
            (CString::new(place.address.as_str())?, CString::new(place.attempt.as_str())?);
        let at = Rendezvous {
            host: host.as_ptr(),
            attempt: attempt.as_ptr(),
            port: place.port.into(),
            serves: place.serves.into(),
            rank: place.rank as c_int,
            size: place.size as c_int,
            timeout_s: timeout_s as c_int,
        };
        let mut group = std::ptr::null_mut();
        // SAFETY: `at` and what it points to outlive the call, which keeps none of it.
        called(|message, room| unsafe { restain_gloo_join(&at, &mut group, message, room) })?;
        Ok(Self { group: NonNull::new(group).expect("set on success") })
    }

    /// Sums `data` over all processes, in place in each.
    pub(super) fn sum(&self, data: &mut [f32]) -> Result<()> {
        // SAFETY: the slice is borrowed until the call is over, and so is the sum.
        called(|message, room| unsafe {
            restain_gloo_sum(
                self.group.as_ptr(),
                data.as_mut_ptr(),
                data.len() as i64,
                message,
                room,
            )
        })
    }

    /// Copies `data` of process 0 into that of every process.
    pub(super) fn broadcast(&self, data: &mut [u8]) -> Result<()> {
        // SAFETY: as for `sum`.
        called(|message, room| unsafe {
            restain_gloo_broadcast(
                self.group.as_ptr(),
                data.as_mut_ptr(),
                data.len() as i64,
                message,
                room,
            )
        })
    }
}

impl Drop for Gloo {
    fn drop(&mut self) {
        // SAFETY: made by `join`, and not used afterwards.
        unsafe { restain_gloo_leave(self.group.as_ptr()) }
    }
}

/// Makes a CUDA device this thread's current one, which NCCL uses.
pub(super) fn select_cuda(index: usize) -> Result<()> {
    // SAFETY: no pointer but the message's.
    called(|message, room| unsafe { restain_cuda_select(index as c_int, message, room) })
}
