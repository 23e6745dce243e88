//! AdamW over all parameters at once: see adamw.cc.

#![expect(unsafe_code, reason = "libtorch is C++")]

use std::ffi::{c_char, c_int, c_void};

use anyhow::{Result, ensure};
use tch::Tensor;

use super::called;

/// The numbers of one step.
#[repr(C)]
pub struct Step {
    pub learning_rate: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    pub weight_decay: f64,
    /// Counted from one.
    pub step: i64,
}

type List = *const *const c_void;

unsafe extern "C" {
    fn restain_adamw_step(
        with: *const Step,
        parameters: List,
        gradients: List,
        first: List,
        second: List,
        count: i64,
        message: *mut c_char,
        room: usize,
    ) -> c_int;
    fn restain_norm(
        tensors: List,
        count: i64,
        norm: *const c_void,
        message: *mut c_char,
        room: usize,
    ) -> c_int;
    fn restain_scale(
        tensors: List,
        count: i64,
        by: *const c_void,
        message: *mut c_char,
        room: usize,
    ) -> c_int;
}

/// One parameter with what belongs to it, all of one shape, f32, on one device.
pub struct Slot<'a> {
    pub parameter: &'a Tensor,
    pub gradient: Tensor,
    /// First and second moment.
    pub moments: (&'a Tensor, &'a Tensor),
}

/// Updates every parameter and both of its moments, and zeroes its gradient.
///
/// # Errors
/// When sizes differ, or libtorch refuses.
pub fn step(with: &Step, slots: &[Slot<'_>]) -> Result<()> {
    if slots.is_empty() {
        return Ok(());
    }
    for slot in slots {
        let sizes =
            [slot.parameter, &slot.gradient, slot.moments.0, slot.moments.1].map(Tensor::size);
        ensure!(
            sizes.iter().all(|size| *size == sizes[0]),
            "a parameter, its gradient and moments have sizes {sizes:?}"
        );
    }
    let parameters = pointers(slots.iter().map(|slot| slot.parameter));
    let gradients = pointers(slots.iter().map(|slot| &slot.gradient));
    let first = pointers(slots.iter().map(|slot| slot.moments.0));
    let second = pointers(slots.iter().map(|slot| slot.moments.1));
    let [parameters, gradients, first, second] =
        [&parameters, &gradients, &first, &second].map(|list| list.as_ptr());
    // SAFETY: the lists and the tensors that they point to outlive the call, which keeps none of them; all have one length.
    called(|message, room| unsafe {
        restain_adamw_step(
            with,
            parameters,
            gradients,
            first,
            second,
            slots.len() as i64,
            message,
            room,
        )
    })
}

/// The Euclidean norm of all of them together, f32 scalar on their device.
///
/// # Errors
/// When libtorch refuses.
pub fn norm(tensors: &[Tensor]) -> Result<Tensor> {
    let norm = Tensor::zeros([] as [i64; 0], (tch::Kind::Float, tensors[0].device()));
    let list = pointers(tensors.iter());
    // SAFETY: as for `step`; `norm` is written through its own handle.
    called(|message, room| unsafe {
        restain_norm(list.as_ptr(), tensors.len() as i64, norm.as_ptr().cast(), message, room)
    })?;
    Ok(norm)
}

/// Multiplies all of them by `by`, a scalar on their device.
///
/// # Errors
/// When libtorch refuses.
pub fn scale(tensors: &[Tensor], by: &Tensor) -> Result<()> {
    let list = pointers(tensors.iter());
    // SAFETY: as for `step`.
    called(|message, room| unsafe {
        restain_scale(list.as_ptr(), tensors.len() as i64, by.as_ptr().cast(), message, room)
    })
}

fn pointers<'a>(tensors: impl Iterator<Item = &'a Tensor>) -> Vec<*const c_void> {
    tensors.map(|tensor| tensor.as_ptr().cast::<c_void>()).collect()
}
