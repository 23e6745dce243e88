//! What the phantom promises, as facts about its pixels.

use super::*;

const SPEC: PhantomSpec = PhantomSpec { seed: 11, side: 64 };
const HOSPITALS: usize = 5;
const TILES: u64 = 60;

/// White of any hospital: brighter in every channel than stained tissue.
fn is_white(pixel: &[u8]) -> bool {
    pixel.iter().all(|&v| v > 205)
}

/// Mean colour of a tile's tissue, so that the share of background in it counts for nothing.
/// `None`: no tissue.
fn tissue_colour(tile: &Tile) -> Option<[f64; 3]> {
    let tissue: Vec<[f64; 3]> = tile
        .pixels
        .chunks_exact(3)
        .filter(|p| !is_white(p))
        .map(|p| [p[0], p[1], p[2]].map(f64::from))
        .collect();
    (tissue.len() > 400).then(|| average(&tissue))
}

fn average(colours: &[[f64; 3]]) -> [f64; 3] {
    std::array::from_fn(|c| {
        colours.iter().map(|colour| colour[c]).sum::<f64>() / colours.len() as f64
    })
}

fn distance(a: [f64; 3], b: [f64; 3]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
}

fn colours(hospital: usize, keep: impl Fn(Label) -> bool) -> Vec<[f64; 3]> {
    (0..TILES)
        .map(|i| tile(&SPEC, hospital, i))
        .filter(|t| keep(t.label))
        .filter_map(|t| tissue_colour(&t))
        .collect()
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

#[test]
fn hospitals_differ_in_colour_more_than_their_tiles_do() {
    let tiles: Vec<_> = (0..HOSPITALS).map(|h| colours(h, |_| true)).collect();
    let middles: Vec<_> = tiles.iter().map(|tiles| average(tiles)).collect();
    let spread = |(tiles, middle): (&Vec<[f64; 3]>, &[f64; 3])| {
        tiles.iter().map(|&tile| distance(tile, *middle)).sum::<f64>() / tiles.len() as f64
    };
    let within = tiles.iter().zip(&middles).map(spread).sum::<f64>() / HOSPITALS as f64;
    for a in 0..HOSPITALS {
        for b in 0..a {
            let between = distance(middles[a], middles[b]);
            assert!(
                between > within,
                "hospitals {a} and {b} are {between:.1} apart, tiles {within:.1}"
            );
        }
    }
}

#[test]
fn colour_does_not_give_the_class_away() {
    for hospital in 0..HOSPITALS {
        let normal = colours(hospital, |label| label == Label::Normal);
        let tumour = colours(hospital, |label| label == Label::Tumour);
        let apart = distance(average(&normal), average(&tumour));
        let within = normal.iter().map(|&tile| distance(tile, average(&normal))).sum::<f64>()
            / normal.len() as f64;
        assert!(
            apart < within,
            "hospital {hospital}: classes are {apart:.1} apart, tiles of one class {within:.1}"
        );
    }
}

#[test]
fn some_tiles_have_background_and_it_is_white() {
    let white =
        |tile: &Tile| tile.pixels.chunks_exact(3).filter(|p| is_white(p)).count() as f64 / 4096.0;
    for hospital in 0..HOSPITALS {
        let half_white =
            (0..60).filter(|&i| (0.25..0.9).contains(&white(&tile(&SPEC, hospital, i)))).count();
        assert!((3..45).contains(&half_white), "hospital {hospital}: {half_white} of 60 tiles");
    }
}
