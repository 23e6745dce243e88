//! Variants per second on one core at the base geometry, beside what plain copying of as many bytes costs.
//!
//! `cargo bench --bench synth`. A plain program, because the figures are rates against a memory copy and need no
//! statistics: each is the best of many short rounds, which a busy machine disturbs least.

use half::f16;
use restain_method::geometry::{Geometry, GeometrySpec};
use restain_method::synth::{Element, Scratch, Synthesiser};
use restain_method::{Normalisation, PixelOrder};
use std::hint::black_box;
use std::time::{Duration, Instant};

const ROUND: Duration = Duration::from_millis(30);
const ROUNDS: usize = 50;

fn main() {
    let spec = GeometrySpec {
        image_size: 224,
        in_channels: 3,
        patch_size: 16,
        embed_dim: 768,
        depth: 12,
        num_heads: 16,
        mlp_ratio: 4.0,
    };
    let geometry = Geometry::new(spec).expect("the paper's base geometry");
    let (source, mut out) = (vec![1u8; geometry.tile_bytes()], vec![0u8; geometry.tile_bytes()]);
    let copies = calls_per_second(|| black_box(&mut out[..]).copy_from_slice(black_box(&source)));
    println!(
        "base geometry 224/16/768, rank {}: {} bytes a variant, one core",
        geometry.rank(),
        geometry.tile_bytes()
    );
    println!(
        "{:<32} {:>9.0} tiles/s  {:>6.2} GB/s",
        "memcpy",
        copies,
        copies * geometry.tile_bytes() as f64 / 1e9
    );
    let wide: Vec<f32> =
        (0..geometry.tile_latent()).map(|i| (i * 7919 % 2003) as f32 / 1001.0 - 1.0).collect();
    let halves: Vec<f16> = wide.iter().map(|v| f16::from_f32(*v)).collect();
    for order in [PixelOrder::Planar, PixelOrder::Interleaved] {
        let normalisation = Normalisation::new([0.7441, 0.5895, 0.7214], [0.1301, 0.1489, 0.1107])
            .expect("Camelyon17's");
        let synthesiser = Synthesiser::new(geometry, order, normalisation);
        both_placements(&synthesiser, "f16", &halves, &mut out, copies);
        both_placements(&synthesiser, "f32", &wide, &mut out, copies);
    }
}

/// The latents serve as anatomy and as characteristics: only their type and size matter here.
fn both_placements<T: Element>(
    synthesiser: &Synthesiser,
    element: &str,
    latents: &[T],
    out: &mut [u8],
    copies: f64,
) {
    let mut scratch: Scratch = synthesiser.scratch();
    let style: Vec<f32> =
        (0..synthesiser.geometry().half()).map(|i| (i * 31 % 97) as f32 / 48.0 - 1.0).collect();
    let report = |placement: &str, rate: f64| {
        let name = format!("{placement} {element} {}", synthesiser.pixel_order());
        let bytes = rate * synthesiser.geometry().tile_bytes() as f64 / 1e9;
        println!(
            "{name:<32} {rate:>9.0} tiles/s  {bytes:>6.2} GB/s  1/{:.1} of memcpy",
            copies / rate
        );
    };
    report(
        "broadcast",
        calls_per_second(|| {
            synthesiser.broadcast(
                black_box(latents),
                black_box(&style),
                &mut scratch,
                black_box(out),
            )
        }),
    );
    report(
        "aligned",
        calls_per_second(|| {
            synthesiser.aligned(
                black_box(latents),
                black_box(latents),
                &mut scratch,
                black_box(out),
            )
        }),
    );
}

/// The best round's rate.
fn calls_per_second(mut call: impl FnMut()) -> f64 {
    let round = |call: &mut dyn FnMut()| {
        let (start, mut calls) = (Instant::now(), 0u32);
        while start.elapsed() < ROUND {
            (0..8).for_each(|_| call());
            calls += 8;
        }
        f64::from(calls) / start.elapsed().as_secs_f64()
    };
    (0..ROUNDS).map(|_| round(&mut call)).fold(0.0, f64::max)
}
