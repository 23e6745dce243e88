//! Session options: execution provider, threads, memory and precision.

use ort::ep::{ArenaExtendStrategy, CUDA, ExecutionProviderDispatch, TensorRT};
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};

use super::{Device, EncoderOptions, INPUT, Runtime};
use restain_method::Geometry;
use restain_method::geometry::CHANNELS;

pub(crate) fn builder(
    runtime: &Runtime,
    options: &EncoderOptions,
    geometry: &Geometry,
) -> ort::Result<SessionBuilder> {
    let builder = Session::builder(&runtime.environment)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(options.intra_threads)?
        // Between two runs the threads are for others: as many encoders as there are cores may run.
        .with_config_entry("session.force_spinning_stop", "1")?
        .with_config_entry("session.x64quantprecision", if int8_overflows() { "1" } else { "0" })?;
    // An error instead of a fallback to the CPU: a server configured for a GPU must not run without
    // it unnoticed.
    let strictly = ExecutionProviderDispatch::error_on_failure;
    match options.device {
        Device::Cpu => Ok(builder),
        Device::Cuda(index) => {
            Ok(builder.with_execution_providers([strictly(cuda(index, options).build())])?)
        }
        Device::TensorRt(index) => {
            let providers = [
                strictly(tensorrt(index, options, geometry).build()),
                strictly(cuda(index, options).build()),
            ];
            Ok(builder.with_execution_providers(providers)?)
        }
    }
}

fn cuda(index: u16, options: &EncoderOptions) -> CUDA {
    // Batches come in few sizes: the arena takes what the largest needs, and no power of two above
    // it.
    let cuda = CUDA::default()
        .with_device_id(i32::from(index))
        .with_arena_extend_strategy(ArenaExtendStrategy::SameAsRequested)
        // TF32 would give fp32 the digits of fp16: use the fp16 graph for speed.
        .with_tf32(false);
    options.gpu_memory.into_iter().fold(cuda, CUDA::with_memory_limit)
}

/// Builds one engine for all batch sizes from one to the largest; otherwise each new size would
/// build its own.
fn tensorrt(index: u16, options: &EncoderOptions, geometry: &Geometry) -> TensorRT {
    let side = geometry.image_size();
    let shape = |batch: usize| format!("{INPUT}:{batch}x{side}x{side}x{CHANNELS}");
    let largest = options.largest_batch.max(1);
    let tensorrt = TensorRT::default()
        .with_device_id(i32::from(index))
        .with_fp16(options.half)
        .with_profile_min_shapes(shape(1))
        .with_profile_opt_shapes(shape(largest))
        .with_profile_max_shapes(shape(largest));
    match &options.engines {
        Some(directory) => {
            tensorrt.with_engine_cache(true).with_engine_cache_path(directory.display())
        }
        None => tensorrt,
    }
}

/// Returns whether the fast uint8 × int8 product saturates its 16-bit sums on this processor: x86
/// without VNNI does. The exact product is three times slower, so that it is chosen only there.
fn int8_overflows() -> bool {
    #[cfg(target_arch = "x86_64")]
    return !(std::arch::is_x86_feature_detected!("avx512vnni")
        || std::arch::is_x86_feature_detected!("avxvnni"));
    #[cfg(not(target_arch = "x86_64"))]
    false
}
