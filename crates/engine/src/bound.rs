//! Memory that a session reads tiles from and writes latents to, run after run, for one size of batch.
//!
//! On a GPU it is pinned, so that the copies to and from it are the device's own work: while one encoder's copies go on,
//! another of the same device computes.

#![expect(unsafe_code, reason = "says itself why it may cross threads")]

use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::{IoBinding, Session};
use ort::value::{DynTensor, Tensor, TensorElementType};

use super::{Device, INPUT, OUTPUTS};
use restain_method::Geometry;
use restain_method::geometry::CHANNELS;

#[derive(Debug)]
pub(crate) struct Bound {
    /// u8 [batch, H, W, 3].
    tiles: Tensor<u8>,
    pub binding: IoBinding,
}

// SAFETY: ONNX Runtime ties neither tensors nor bindings to a thread. `ort` leaves the marks out because a tensor may carry
// a caller's own memory of any type; these have memory of ONNX Runtime's. Nothing can be done to them through a shared
// reference.
unsafe impl Send for Bound {}
unsafe impl Sync for Bound {}

impl Bound {
    /// Allocates for `batch` tiles, and latents of `element`: f32 or f16 [batch, N, h].
    pub(crate) fn new(
        session: &Session,
        geometry: &Geometry,
        element: TensorElementType,
        batch: usize,
        device: Device,
    ) -> ort::Result<Self> {
        let side = geometry.image_size();
        let latent = [batch, geometry.patches(), geometry.half()];
        let allocator = |memory| host_memory(session, device, memory);
        let tiles = Tensor::new(&allocator(MemoryType::CPUInput)?, [batch, side, side, CHANNELS])?;
        let mut binding = session.create_binding()?;
        for name in OUTPUTS {
            let mut output = DynTensor::new(&allocator(MemoryType::CPUOutput)?, element, latent)?;
            binding.bind_output(name, &mut output)?;
        }
        Ok(Self { tiles, binding })
    }

    /// Hands the session these tiles, as many as there is room for.
    pub(crate) fn take(&mut self, tiles: &[u8]) -> ort::Result<()> {
        self.tiles.extract_tensor_mut().1.copy_from_slice(tiles);
        // Bound anew each time: it is binding that copies to a device.
        self.binding.bind_input(INPUT, &self.tiles)
    }
}

/// Pinned where there is a GPU. A system that has no more memory to pin gives ordinary memory, and slower copies.
fn host_memory(session: &Session, device: Device, memory: MemoryType) -> ort::Result<Allocator> {
    let allocator = |kind, index| {
        Allocator::new(session, MemoryInfo::new(kind, index, AllocatorType::Device, memory)?)
    };
    match device.gpu() {
        None => Ok(Allocator::default()),
        Some(index) => allocator(AllocationDevice::CUDA_PINNED, i32::from(index)).or_else(|error| {
            tracing::warn!(%device, %error, "no pinned memory: copies to the GPU will be slower");
            Ok(Allocator::default())
        }),
    }
}
