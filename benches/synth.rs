//! Variants per second on one core, beside what plain copying of as many bytes costs, and what the
//! carry adds.
//!
//! `cargo bench --bench synth`. A plain program, because the figures are rates against a memory
//! copy and need no statistics: each is the best of many short rounds, which a busy machine
//! disturbs least. What is compared is run in turns.

use half::f16;
use restain_method::clip;
use restain_method::geometry::{Geometry, GeometrySpec};
use restain_method::synth::{Carry, Element, Scratch, Synthesiser};
use restain_method::upsample::{UpsampleScratch, Upsampler};
use restain_method::{Normalisation, PixelOrder};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Shorter than a time slice, so that on a busy machine some rounds run undisturbed.
const ROUND: Duration = Duration::from_millis(2);
const ROUNDS: usize = 200;

fn geometry(image_size: usize, patch_size: usize, embed_dim: usize) -> Geometry {
    let spec = GeometrySpec {
        image_size,
        in_channels: 3,
        patch_size,
        embed_dim,
        depth: 12,
        num_heads: 16,
        mlp_ratio: 4.0,
        style_bias: false,
    };
    Geometry::new(spec).expect("a geometry of the paper's rules")
}

fn main() {
    for (name, geometry) in
        [("the demo model's", geometry(96, 8, 384)), ("base", geometry(224, 16, 768))]
    {
        for order in [PixelOrder::Planar, PixelOrder::Interleaved] {
            let normalisation =
                Normalisation::new([0.7441, 0.5895, 0.7214], [0.1301, 0.1489, 0.1107])
                    .expect("Camelyon17's");
            let (size, bytes) = (geometry.image_size(), geometry.tile_bytes());
            println!("{name} geometry, {size} px, {bytes} bytes a variant, {order}, one core");
            let bench = Bench::new(Synthesiser::new(geometry, order, normalisation));
            bench.products();
            bench.carried(1);
            bench.carried(4);
            bench.other_sizes();
        }
    }
}

struct Bench {
    synthesiser: Synthesiser,
    wide: Vec<f32>,
    /// The latents serve as anatomy and as characteristics: only their type and size matter here.
    halves: Vec<f16>,
    style: Vec<f32>,
}

impl Bench {
    fn new(synthesiser: Synthesiser) -> Self {
        let geometry = synthesiser.geometry();
        let value = |i: usize| (i * 7919 % 2003) as f32 / 2001.0 - 0.5;
        let wide: Vec<f32> = (0..geometry.tile_anatomy()).map(value).collect();
        let halves = wide.iter().map(|v| f16::from_f32(*v)).collect();
        let style = (0..geometry.half()).map(|i| (i * 31 % 97) as f32 / 96.0 - 0.5).collect();
        Self { synthesiser, wide, halves, style }
    }

    fn out(&self) -> Vec<u8> {
        vec![1; self.synthesiser.geometry().tile_bytes()]
    }

    /// Bare products, both placements and both number types.
    fn products(&self) {
        let (source, mut out) = (self.out(), self.out());
        let [copies] = rates([&mut || black_box(&mut out[..]).copy_from_slice(black_box(&source))]);
        self.report("memcpy", copies, copies);
        self.placements("f16", &self.halves, copies);
        self.placements("f32", &self.wide, copies);
    }

    fn placements<T: Element>(&self, element: &str, latents: &[T], copies: f64) {
        let synthesiser = &self.synthesiser;
        let (mut scratches, mut outs) = (self.scratches(), [self.out(), self.out()]);
        let ([first, second], [a, b]) = (&mut scratches, &mut outs);
        let [broadcast, aligned] = rates([
            &mut || synthesiser.broadcast(black_box(latents), black_box(&self.style), first, a),
            &mut || synthesiser.aligned(black_box(latents), black_box(latents), second, b),
        ]);
        self.report(&format!("broadcast {element}"), broadcast, copies);
        self.report(&format!("aligned {element}"), aligned, copies);
    }

    /// A cached tile of the model's size: with its own detail, and without.
    fn carried(&self, variants: usize) {
        let synthesiser = &self.synthesiser;
        let mut scratches = self.scratches();
        let mut own = self.out();
        synthesiser.aligned(&self.halves, &self.halves, &mut scratches[0], &mut own);
        let (residual, _) =
            synthesiser.compare(&self.halves, &self.halves, &own, &mut scratches[0]);
        let styles = vec![&self.style[..]; variants];
        let mut outs = [vec![self.out(); variants], vec![self.out(); variants]];
        let ([first, second], [a, b]) = (&mut scratches, &mut outs);
        let carry = Carry { anatomy: &self.halves[..], residual: &residual };
        let [model, carried] = rates([
            &mut || {
                let mut outs: Vec<&mut [u8]> = a.iter_mut().map(Vec::as_mut_slice).collect();
                synthesiser.broadcast_each(black_box(&self.halves), &styles, first, &mut outs);
            },
            &mut || {
                let mut outs: Vec<&mut [u8]> = b.iter_mut().map(Vec::as_mut_slice).collect();
                synthesiser.carry_each(black_box(carry), &styles, second, &mut outs);
            },
        ]);
        self.counted("values at 0 or 255", &outs[1][0]);
        println!(
            "{:<32} {:>9.0} variants/s of {:>9.0}, {:.3} times the time",
            format!("carried, {variants} a tile"),
            carried * variants as f64,
            model * variants as f64,
            model / carried
        );
    }

    /// A cached tile of another size, by step.
    fn other_sizes(&self) {
        let synthesiser = &self.synthesiser;
        let [mut scratch, mut other] = self.scratches();
        let (mut mixed, mut change) = (self.wide.clone(), vec![0.0; self.out().len()]);
        let (difference, tile) = (self.wide.clone(), self.out());
        let [differences, changes, compared] = rates([
            &mut || synthesiser.difference_into(&self.halves, &self.style, 1.0, &mut mixed),
            &mut || synthesiser.change(&self.halves, &difference, &mut scratch, &mut change),
            &mut || {
                black_box(synthesiser.compare(&self.halves, &self.halves, &tile, &mut other));
            },
        ]);
        println!(
            "{:<32} {:.1} µs; difference of styles {:.1} µs, change {:.1} µs",
            "residual and fidelity, once",
            1e6 / compared,
            1e6 / differences,
            1e6 / changes
        );
        for side in [256, 512, 1024] {
            let of_model = synthesiser.geometry().image_size();
            let upsampler = Upsampler::new((of_model, of_model), (side, side));
            let (tile, mut out) = (vec![99; side * side * 3], vec![0; side * side * 3]);
            let mut scratch = UpsampleScratch::default();
            let [added] =
                rates([&mut || upsampler.add(black_box(&change), &tile, &mut scratch, &mut out)]);
            println!("{:<32} {:.1} µs", format!("upsample and add, {side} px"), 1e6 / added);
            self.counted(&format!("values at 0 or 255, {side} px"), &out);
        }
    }

    /// What it takes to say how much of a variant is clipped.
    fn counted(&self, name: &str, variant: &[u8]) {
        let [counted] = rates([&mut || {
            black_box(clip::share(7, black_box(variant)));
        }]);
        println!("{name:<32} {:.2} µs", 1e6 / counted);
    }

    fn scratches(&self) -> [Scratch; 2] {
        [self.synthesiser.scratch(), self.synthesiser.scratch()]
    }

    fn report(&self, name: &str, rate: f64, copies: f64) {
        let bytes = rate * self.out().len() as f64 / 1e9;
        println!(
            "{name:<32} {rate:>9.0} tiles/s  {bytes:>6.2} GB/s  1/{:.1} of memcpy",
            copies / rate
        );
    }
}

/// Returns the calls a second of each, in turns; of the best round.
fn rates<const N: usize>(mut calls: [&mut dyn FnMut(); N]) -> [f64; N] {
    let mut best = [0.0f64; N];
    for _ in 0..ROUNDS {
        for (call, best) in calls.iter_mut().zip(&mut best) {
            let (start, mut count) = (Instant::now(), 0u32);
            while start.elapsed() < ROUND {
                call();
                count += 1;
            }
            *best = best.max(f64::from(count) / start.elapsed().as_secs_f64());
        }
    }
    best
}
