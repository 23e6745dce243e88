//! I/O buffers of a session for one batch size: it reads tiles from them and writes latents to them
//! in every run.
//!
//! For a GPU they are pinned, so that copies are asynchronous: while one encoder copies, another on
//! the same device computes.

#![expect(unsafe_code, reason = "Send and Sync by hand")]

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

// SAFETY: ONNX Runtime ties neither tensors nor bindings to a thread. `ort` omits both traits
// because a tensor may wrap memory of any type that the caller owns; these own memory of ONNX
// Runtime. A shared reference cannot change them.
unsafe impl Send for Bound {}
unsafe impl Sync for Bound {}

impl Bound {
    /// Allocates for `batch` tiles, and latents of `element`, f32 or f16: [batch, N, h] and [batch,
    /// N, S].
    pub(crate) fn new(
        session: &Session,
        geometry: &Geometry,
        element: TensorElementType,
        batch: usize,
        device: Device,
    ) -> ort::Result<Self> {
        let side = geometry.image_size();
        let allocator = |memory| host_memory(session, device, memory);
        let tiles = Tensor::new(&allocator(MemoryType::CPUInput)?, [batch, side, side, CHANNELS])?;
        let mut binding = session.create_binding()?;
        for (name, length) in OUTPUTS.into_iter().zip([geometry.half(), geometry.style_len()]) {
            let shape = [batch, geometry.patches(), length];
            let mut output = DynTensor::new(&allocator(MemoryType::CPUOutput)?, element, shape)?;
            binding.bind_output(name, &mut output)?;
        }
        Ok(Self { tiles, binding })
    }

    /// Copies `tiles` into the input buffer, whose size they must have, and binds it.
    pub(crate) fn take(&mut self, tiles: &[u8]) -> ort::Result<()> {
        self.tiles.extract_tensor_mut().1.copy_from_slice(tiles);
        // Bound again for each run: it is binding that copies to a device.
        self.binding.bind_input(INPUT, &self.tiles)
    }
}

/// Returns an allocator of pinned memory for a GPU. When none is left it returns one of ordinary
/// memory, whose copies are slower.
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
