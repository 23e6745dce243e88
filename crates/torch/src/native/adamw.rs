//! AdamW, gradient norm and gradient scaling, each for all parameters in one call: see adamw.cc.

#![expect(unsafe_code, reason = "libtorch is C++")]

use std::ffi::{c_char, c_int, c_void};

use anyhow::{Result, ensure};
use tch::Tensor;

use super::called;

/// The hyperparameters of one step.
#[repr(C)]
pub struct Step {
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Decay rate of the first moment.
    pub beta1: f64,
    /// Decay rate of the second moment.
    pub beta2: f64,
    /// Added to the denominator.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// The number of this step, from 1.
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

/// A parameter, its gradient and its moments: f32, of one shape, on one device.
pub struct Slot<'a> {
    /// Updated in place.
    pub parameter: &'a Tensor,
    /// Zeroed after the update.
    pub gradient: Tensor,
    /// First and second moment, updated in place.
    pub moments: (&'a Tensor, &'a Tensor),
}

/// Updates every parameter and its moments, and zeroes its gradient.
///
/// # Errors
/// If shapes differ, or libtorch reports an error.
pub fn step(with: &Step, slots: &[Slot<'_>]) -> Result<()> {
    if slots.is_empty() {
        return Ok(());
    }
    for slot in slots {
        let sizes =
            [slot.parameter, &slot.gradient, slot.moments.0, slot.moments.1].map(Tensor::size);
        ensure!(
            sizes.iter().all(|size| *size == sizes[0]),
            "a parameter, its gradient and its moments must have one shape, and have {sizes:?}"
        );
    }
    let parameters = pointers(slots.iter().map(|slot| slot.parameter));
    let gradients = pointers(slots.iter().map(|slot| &slot.gradient));
    let first = pointers(slots.iter().map(|slot| slot.moments.0));
    let second = pointers(slots.iter().map(|slot| slot.moments.1));
    let [parameters, gradients, first, second] =
        [&parameters, &gradients, &first, &second].map(|list| list.as_ptr());
    // SAFETY: the lists and the tensors that they point to outlive the call, which keeps none of
    // them; all have one length.
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

/// Computes the L2 norm of all tensors as one vector: f32 [] on their device.
///
/// # Errors
/// If libtorch reports an error.
///
/// # Panics
/// If `tensors` is empty.
pub fn norm(tensors: &[Tensor]) -> Result<Tensor> {
    let norm = Tensor::zeros([] as [i64; 0], (tch::Kind::Float, tensors[0].device()));
    let list = pointers(tensors.iter());
    // SAFETY: as for `step`; `norm` is written through its own handle.
    called(|message, room| unsafe {
        restain_norm(list.as_ptr(), tensors.len() as i64, norm.as_ptr().cast(), message, room)
    })?;
    Ok(norm)
}

/// Multiplies all tensors in place by `by`, f32 [] on their device.
///
/// # Errors
/// If libtorch reports an error.
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
