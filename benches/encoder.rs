//! Encoders of a device on demand, for the benchmarks of GPUs: `benches/encoder.py` asks in turn
//! with PyTorch.
//!
//!     encoder BUNDLE DEVICE PRECISION [ENCODERS]
//!
//! opens as many encoders as the server would, or ENCODERS, says so in a line of JSON, and answers
//! every line of its input with another:
//!
//!     run BATCH SECONDS             tiles a second, all encoders busy, and the milliseconds of a
//!                                   batch that is alone
//!     profile BATCH                 which provider ran which operators, and for how long
//!     compare PRECISION [DEVICE]    PSNR between the tiles that both reconstruct, in dB
//!     encode TILES LATENTS          a file of tiles, u8 [batch, H, W, 3], into one of latents,
//!                                   f16 [batch, 2, N, h]

#![expect(clippy::disallowed_methods, reason = "a bench is a program with arguments of its own")]

use std::io::BufRead;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use half::f16;
use restain::serve::config::{Config, Devices, PrecisionChoice};
use restain_bundle::{Bundle, Precision};
use restain_engine::{Device, Encoder, EncoderOptions, Runtime};
use restain_method::metrics::psnr;
use restain_method::synth::Synthesiser;
use serde_json::{Value, json};

/// Tiles that are compared.
const COMPARED: usize = 8;
/// Largest batch of a TensorRT engine.
const LARGEST: usize = 256;

struct Bench {
    bundle: Bundle,
    device: Device,
    encoders: Vec<Encoder>,
    // Where it is named last, it is dropped last.
    runtime: Runtime,
}

fn main() -> Result<()> {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [bundle, device, precision, count @ ..] = &arguments[..] else {
        bail!("encoder BUNDLE DEVICE PRECISION [ENCODERS]")
    };
    let (device, precision): (Device, Precision) =
        (device.parse().map_err(anyhow::Error::msg)?, precision.parse()?);
    let config = Config {
        encoders_per_device: count.first().map_or(Ok(0), |count| count.parse())?,
        ..Config::default()
    };
    let (bundle, runtime) = (Bundle::open(Path::new(bundle))?, Runtime::load()?);
    let (_, onnx) = PrecisionChoice::Always(precision).graph(&bundle, device)?;
    let layout = config.layout(&Devices(vec![device]), bundle.encoder_bytes(&onnx)?);
    let lanes = layout.sharing();
    let encoders = layout.encoders[..lanes]
        .iter()
        .map(|&(device, threads)| open(&runtime, &bundle, device, precision, threads))
        .collect::<Result<_>>()?;
    let mut bench = Bench { bundle, device, encoders, runtime };
    let profile = bench.encoders[0].profile(1)?;
    let nodes = profile.nodes();
    say(&json!({ "device": device, "precision": precision, "nodes": nodes, "lanes": lanes }));
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let answer = match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["run", batch, seconds] => {
                bench.run(batch.parse()?, Duration::from_secs_f64(seconds.parse()?))?
            }
            ["profile", batch] => bench.profile(batch.parse()?)?,
            ["compare", precision] => bench.compare(precision.parse()?, device)?,
            ["compare", precision, device] => {
                bench.compare(precision.parse()?, device.parse().map_err(anyhow::Error::msg)?)?
            }
            ["encode", tiles, latents] => bench.encode(Path::new(tiles), Path::new(latents))?,
            _ => bail!(
                "run BATCH SECONDS, profile BATCH, compare PRECISION [DEVICE], or encode TILES \
                LATENTS, and not {line:?}"
            ),
        };
        say(&answer);
    }
    Ok(())
}

fn say(answer: &Value) {
    println!("{answer}");
}

fn open(
    runtime: &Runtime,
    bundle: &Bundle,
    device: Device,
    precision: Precision,
    threads: usize,
) -> Result<Encoder> {
    let (precision, onnx) = PrecisionChoice::Always(precision).graph(bundle, device)?;
    let options = EncoderOptions {
        half: precision == Precision::Fp16,
        largest_batch: LARGEST,
        ..EncoderOptions::on(device, threads)
    };
    Ok(Encoder::open(runtime, &onnx, &bundle.manifest.geometry, &options)?)
}

impl Bench {
    fn run(&mut self, batch: usize, time: Duration) -> Result<Value> {
        let tiles = tiles(self.bundle.manifest.geometry.tile_bytes(), batch);
        // The first run of a size takes memory and picks kernels.
        for encoder in &mut self.encoders {
            encoder.encode_halves(&tiles, batch, batch)?;
        }
        let alone = median(
            (0..5).map(|_| timed(&mut self.encoders[0], &tiles, batch)).collect::<Result<_>>()?,
        );
        let started = Instant::now();
        let batches = std::thread::scope(|scope| {
            let repeat = |encoder: &mut Encoder| -> Result<usize> {
                let mut batches = 0;
                while started.elapsed() < time {
                    encoder.encode_halves(&tiles, batch, batch)?;
                    batches += 1;
                }
                Ok(batches)
            };
            let lanes: Vec<_> = self
                .encoders
                .iter_mut()
                .map(|encoder| scope.spawn(move || repeat(encoder)))
                .collect();
            lanes
                .into_iter()
                .map(|lane| lane.join().expect("it does not panic"))
                .sum::<Result<usize>>()
        })?;
        let rate = (batches * batch) as f64 / started.elapsed().as_secs_f64();
        Ok(json!({ "batch": batch, "tiles_per_second": rate, "batch_ms": alone * 1e3 }))
    }

    fn profile(&mut self, batch: usize) -> Result<Value> {
        // Once before, so that what is measured is not the first.
        self.encoders[0].profile(batch)?;
        let profile = self.encoders[0].profile(batch)?;
        let whole: u64 = profile.operators.iter().map(|operator| operator.microseconds).sum();
        let operators: Vec<Value> = profile
            .operators
            .iter()
            .map(|of| {
                let share = of.microseconds as f64 / whole.max(1) as f64;
                json!({ "operator": of.operator, "provider": of.provider, "nodes": of.nodes, "share": share, "ms": of.microseconds as f64 / 1e3 })
            })
            .collect();
        Ok(json!({ "operators": operators }))
    }

    fn compare(&mut self, precision: Precision, device: Device) -> Result<Value> {
        let mut other = open(&self.runtime, &self.bundle, device, precision, 0)
            .with_context(|| format!("on {}, beside {}", device, self.device))?;
        let tiles = tiles(self.bundle.manifest.geometry.tile_bytes(), COMPARED);
        let found = self.encoders[0].encode_halves(&tiles, COMPARED, COMPARED)?;
        let expected = other.encode_halves(&tiles, COMPARED, COMPARED)?;
        let (found, expected) = (self.reconstruct(&found), self.reconstruct(&expected));
        let db = psnr(&found, &expected);
        Ok(json!({ "psnr_db": db.is_finite().then_some(db), "identical": found == expected }))
    }

    fn encode(&mut self, tiles: &Path, latents: &Path) -> Result<Value> {
        let tiles = std::fs::read(tiles)?;
        let batch = tiles.len() / self.bundle.manifest.geometry.tile_bytes();
        let encodings = self.encoders[0].encode_halves(&tiles, batch, batch)?;
        let bytes: Vec<u8> =
            encodings.iter().flatten().flat_map(|value| value.to_le_bytes()).collect();
        std::fs::write(latents, bytes)?;
        Ok(json!({ "batch": batch }))
    }

    fn reconstruct(&self, encodings: &[Vec<f16>]) -> Vec<u8> {
        let manifest = &self.bundle.manifest;
        let synthesiser =
            Synthesiser::new(manifest.geometry, manifest.pixel_order, manifest.normalisation);
        let mut tiles = vec![0; encodings.len() * manifest.geometry.tile_bytes()];
        for (tile, encoding) in
            tiles.chunks_exact_mut(manifest.geometry.tile_bytes()).zip(encodings)
        {
            let (anatomy, characteristics) = encoding.split_at(manifest.geometry.tile_anatomy());
            synthesiser.aligned(anatomy, characteristics, &mut synthesiser.scratch(), tile);
        }
        tiles
    }
}

/// Something with slopes and edges; every tile another.
fn tiles(tile_bytes: usize, batch: usize) -> Vec<u8> {
    (0..batch)
        .flat_map(|tile| {
            (0..tile_bytes).map(move |at| {
                (128.0 + 60.0 * (at as f32 / 97.0 + tile as f32).sin()) as u8 ^ (at % 7) as u8
            })
        })
        .collect()
}

fn timed(encoder: &mut Encoder, tiles: &[u8], batch: usize) -> Result<f64> {
    let started = Instant::now();
    encoder.encode_halves(tiles, batch, batch)?;
    Ok(started.elapsed().as_secs_f64())
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}
