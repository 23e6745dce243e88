//! What the phantom promises, as facts about its pixels.

use super::*;

const SPEC: PhantomSpec = PhantomSpec { seed: 11, side: 64 };
const HOSPITALS: usize = 5;
const TILES: u64 = 24;

fn mean_colour(tile: &Tile) -> [f64; 3] {
    let pixels = tile.pixels.len() as f64 / 3.0;
    std::array::from_fn(|c| tile.pixels.iter().skip(c).step_by(3).map(|&v| v as f64).sum::<f64>() / pixels)
}

fn average(colours: &[[f64; 3]]) -> [f64; 3] {
    std::array::from_fn(|c| colours.iter().map(|colour| colour[c]).sum::<f64>() / colours.len() as f64)
}

fn distance(a: [f64; 3], b: [f64; 3]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
}

fn colours(hospital: usize, keep: impl Fn(Label) -> bool) -> Vec<[f64; 3]> {
    (0..TILES).map(|i| tile(&SPEC, hospital, i)).filter(|t| keep(t.label)).map(|t| mean_colour(&t)).collect()
}

#[test]
fn the_same_numbers_give_the_same_tile_and_any_other_number_another() {
    let first = tile(&SPEC, 1, 4);
    assert_eq!(first, tile(&SPEC, 1, 4));
    assert_ne!(first.pixels, tile(&SPEC, 1, 6).pixels);
    assert_ne!(first.pixels, tile(&SPEC, 2, 4).pixels);
    assert_ne!(first.pixels, tile(&PhantomSpec { seed: 12, ..SPEC }, 1, 4).pixels);
}

#[test]
fn any_side_is_possible() {
    for side in [8, 33, 96] {
        assert_eq!(tile(&PhantomSpec { side, ..SPEC }, 0, 1).pixels.len(), side * side * 3);
    }
}

/// White balance aside, what tells hospitals apart is the colour of tissue: tiles that are half background are
/// no measure of it, so a hospital's colour here is the median over its tiles.
#[test]
fn hospitals_differ_in_colour_more_than_their_tiles_do() {
    let every: Vec<Vec<[f64; 3]>> = (0..HOSPITALS).map(|h| colours(h, |_| true)).collect();
    let middles: Vec<[f64; 3]> = every.iter().map(|tiles| average(tiles)).collect();
    // Chromaticity, so that the share of background in a tile counts for little.
    let hue = |colour: [f64; 3]| {
        let darkness = colour.map(|v| -(v.max(1.0) / 250.0).ln());
        let total: f64 = darkness.iter().sum::<f64>().max(1e-6);
        darkness.map(|d| d / total)
    };
    let within = every
        .iter()
        .zip(&middles)
        .map(|(tiles, middle)| tiles.iter().map(|&t| distance(hue(t), hue(*middle))).sum::<f64>() / tiles.len() as f64)
        .sum::<f64>()
        / HOSPITALS as f64;
    for a in 0..HOSPITALS {
        for b in 0..a {
            let between = distance(hue(middles[a]), hue(middles[b]));
            assert!(between > within, "hospitals {a} and {b} are {between:.3} apart, tiles {within:.3}");
        }
    }
}

#[test]
fn colour_does_not_give_the_class_away() {
    for hospital in 0..HOSPITALS {
        let normal = average(&colours(hospital, |label| label == Label::Normal));
        let tumour = average(&colours(hospital, |label| label == Label::Tumour));
        assert!(distance(normal, tumour) < 25.0, "hospital {hospital}: {normal:?} and {tumour:?}");
    }
}

#[test]
fn some_tiles_have_background_and_it_is_white() {
    let white = |tile: &Tile| tile.pixels.chunks_exact(3).filter(|p| p.iter().all(|&v| v > 205)).count() as f64 / 4096.0;
    for hospital in 0..HOSPITALS {
        let half_white = (0..60).filter(|&i| (0.25..0.9).contains(&white(&tile(&SPEC, hospital, i)))).count();
        assert!((3..45).contains(&half_white), "hospital {hospital}: {half_white} of 60 tiles");
    }
}
