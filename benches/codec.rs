//! Megabytes of pixels per second on one core, writing and reading each kind, with the bytes of a
//! tile and, where something is lost, the likeness in dB.
//!
//! `cargo bench --bench codec`. A plain program; each rate is the best of many short rounds, which
//! a busy machine disturbs least. Grain decides what compression finds, so the tiles are a rendered
//! one and the demo model's own output.

use restain_bundle::codec::{ImageFormat, Limits, RgbImage, decode, encode, resize};
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

const ROUND: Duration = Duration::from_millis(20);
const ROUNDS: usize = 30;
const LIMITS: Limits = Limits::of_tile(1 << 20);

fn main() {
    let tile = read("docs/tile.png");
    let (side, samples) = (tile.width, read("models/demo/9/samples.png"));
    report("docs/tile.png", std::slice::from_ref(&tile));
    report("the demo model's samples", &cuts(&samples, side));
    report("docs/tile.png, four ways on one tile", &[four_ways(&resize(&tile, 112, 112))]);
}

fn read(path: &str) -> RgbImage {
    let bytes = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("committed");
    decode(&bytes, &LIMITS).expect("a picture of the repository")
}

fn report(name: &str, tiles: &[RgbImage]) {
    let raw = tiles[0].pixels.len();
    println!(
        "{name}: {} of {}×{}, {raw} bytes of pixels each, one core",
        tiles.len(),
        tiles[0].width,
        tiles[0].height
    );
    println!(
        "{:<14} {:>10} {:>12} {:>10} {:>10} {:>8}",
        "kind", "write MB/s", "variants/s", "read MB/s", "bytes", "PSNR dB"
    );
    let lossy = [50, 75, 90, 95, 99]
        .map(|quality| [(ImageFormat::Jpeg, quality), (ImageFormat::Webp, quality)]);
    let kinds = [(ImageFormat::Png, 90), (ImageFormat::Webp, 100), (ImageFormat::Jpeg, 100)];
    for (format, quality) in kinds.into_iter().chain(lossy.into_iter().flatten()) {
        let write =
            |tile: &RgbImage| encode(format, quality, tile).expect("a size that every kind holds");
        let files: Vec<Vec<u8>> = tiles.iter().map(write).collect();
        let pictures: Vec<RgbImage> =
            files.iter().map(|file| decode(file, &LIMITS).expect("just written")).collect();
        let written = tiles_per_second(tiles, |tile| drop(black_box(write(tile))));
        let decoded = tiles_per_second(&files, |file| drop(black_box(decode(file, &LIMITS))));
        let bytes = files.iter().map(Vec::len).sum::<usize>() / files.len();
        let likeness = psnr(tiles, &pictures).map_or("lossless".into(), |db| format!("{db:.1}"));
        let megabytes = |rate: f64| rate * raw as f64 / 1e6;
        let kind = format!("{format:?} {quality}").to_lowercase();
        println!(
            "{kind:<14} {:>10.0} {written:>12.0} {:>10.0} {bytes:>10} {likeness:>8}",
            megabytes(written),
            megabytes(decoded)
        );
    }
}

/// Tiles of `side` off a sheet, as many as lie in it without a margin.
fn cuts(sheet: &RgbImage, side: usize) -> Vec<RgbImage> {
    let corners = (0..sheet.height / side)
        .flat_map(|y| (0..sheet.width / side).map(move |x| (x * side, y * side)));
    let row = |x: usize, y: usize| &sheet.pixels[(y * sheet.width + x) * 3..][..side * 3];
    let cut =
        |(x, y): (usize, usize)| (y..y + side).flat_map(|y| row(x, y).iter().copied()).collect();
    corners.map(|corner| RgbImage { width: side, height: side, pixels: cut(corner) }).collect()
}

/// Twice the side: the tile, mirrored, transposed, and both, so that no row occurs twice.
fn four_ways(tile: &RgbImage) -> RgbImage {
    let side = tile.width;
    let at = |y: usize, x: usize| {
        let (down, right) = (y % side, x % side);
        let right = if x < side { right } else { side - 1 - right };
        let (row, column) = if y < side { (down, right) } else { (right, down) };
        &tile.pixels[(row * side + column) * 3..][..3]
    };
    let pixels = (0..2 * side)
        .flat_map(|y| (0..2 * side).flat_map(move |x| at(y, x).iter().copied()))
        .collect();
    RgbImage { width: 2 * side, height: 2 * side, pixels }
}

/// The best round's rate.
fn tiles_per_second<T>(items: &[T], mut call: impl FnMut(&T)) -> f64 {
    let mut next = items.iter().cycle();
    let mut round = || {
        let (start, mut calls) = (Instant::now(), 0u32);
        while start.elapsed() < ROUND || (calls as usize) < items.len() {
            next.by_ref().take(8).for_each(&mut call);
            calls += 8;
        }
        f64::from(calls) / start.elapsed().as_secs_f64()
    };
    (0..ROUNDS).map(|_| round()).fold(0.0, f64::max)
}

/// Over all tiles together; none when nothing was lost.
fn psnr(tiles: &[RgbImage], pictures: &[RgbImage]) -> Option<f64> {
    let pairs = || tiles.iter().zip(pictures).flat_map(|(a, b)| a.pixels.iter().zip(&b.pixels));
    let error = pairs().map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2)).sum::<f64>()
        / pairs().count() as f64;
    (error > 0.0).then(|| 10.0 * (255.0 * 255.0 / error).log10())
}
