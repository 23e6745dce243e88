use rand_chacha::rand_core::SeedableRng;

use super::*;

fn checkered(side: u32) -> RgbImage {
    RgbImage::from_fn(side, side, |x, y| {
        image::Rgb([(x * 3) as u8, (y * 3) as u8, if (x / 4 + y / 4) % 2 == 0 { 40 } else { 200 }])
    })
}

fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// What a step makes of a tile, for some seeds.
fn made(step: Step, tile: &RgbImage) -> Vec<RgbImage> {
    let one = |seed| {
        let mut tile = tile.clone();
        step(&mut tile, &mut rng(seed));
        assert_eq!(tile.dimensions(), (tile.width(), tile.width()));
        tile
    };
    (0..24).map(one).collect()
}

fn differences<'a>(a: &'a RgbImage, b: &'a RgbImage) -> impl Iterator<Item = f64> + 'a {
    a.iter().zip(b.iter()).map(|(a, b)| f64::from(*a) - f64::from(*b))
}

/// Root mean square of the differences.
fn distance(a: &RgbImage, b: &RgbImage) -> f64 {
    (differences(a, b).map(|d| d * d).sum::<f64>() / a.len() as f64).sqrt()
}

/// Mean difference of neighbours: how sharp a tile is.
fn sharpness(tile: &RgbImage) -> f64 {
    let pairs = tile.rows().flat_map(|row| {
        row.clone()
            .zip(row.skip(1))
            .map(|(a, b)| f64::from(a[2].abs_diff(b[2])))
            .collect::<Vec<_>>()
    });
    pairs.sum::<f64>() / tile.len() as f64
}

#[test]
fn a_training_tile_has_the_asked_size_and_depends_on_the_generator_alone() {
    let config = TransformConfig { probability: 1.0, ..TransformConfig::published(32) };
    for side in [20, 32, 200] {
        let cut = |seed| training_tile(&checkered(side), &config, &mut rng(seed));
        assert_eq!(cut(1).dimensions(), (32, 32));
        assert_eq!(cut(1), cut(1));
        assert_ne!(cut(1), cut(2));
    }
}

#[test]
fn every_step_is_taken_about_as_often_as_its_chance_says() {
    let config = TransformConfig {
        tile: 32,
        tile_scale: (1.0, 1.0),
        field_scale: (1.0, 1.0),
        probability: 0.1,
    };
    let flat = RgbImage::from_pixel(32, 32, image::Rgb([200, 100, 150]));
    // Of the nine, only colour, noise, gamma and mostly compression show on one flat colour.
    let changed =
        (0..1000).filter(|&seed| training_tile(&flat, &config, &mut rng(seed)) != flat).count();
    assert!((230..=400).contains(&changed), "{changed} of 1000");
    let never = TransformConfig { probability: 0.0, ..config };
    assert!((0..50).all(|seed| training_tile(&flat, &never, &mut rng(seed)) == flat));
}

#[test]
fn crops_of_a_tile_are_of_the_published_areas_and_of_a_field_about_one_tile() {
    let ramp = |side: u32| {
        RgbImage::from_fn(side, side, |x, y| {
            image::Rgb([(x * 255 / side) as u8, (y * 255 / side) as u8, 0])
        })
    };
    let areas = |side: u32, tile: u32| -> Vec<f64> {
        let config = TransformConfig { probability: 0.0, ..TransformConfig::published(tile) };
        let area = |seed| {
            let cut = training_tile(&ramp(side), &config, &mut rng(seed));
            let (first, last) = (cut.get_pixel(0, 0), cut.get_pixel(tile - 1, tile - 1));
            let extent = |c: usize| f64::from(last[c] - first[c]) / 255.0 + 1.0 / tile as f64;
            extent(0) * extent(1)
        };
        (0..300).map(area).collect()
    };
    let tiles = areas(64, 64);
    let (least, most) = tiles
        .iter()
        .fold((1.0f64, 0.0f64), |(least, most), &area| (least.min(area), most.max(area)));
    assert!((0.05..0.2).contains(&least) && (0.8..1.05).contains(&most), "{least} to {most}");
    let fields = areas(256, 64).into_iter().sum::<f64>() / 300.0;
    assert!((0.05..0.08).contains(&fields), "a crop is {fields} of a field of 16 tiles");
}

#[test]
fn without_augmentation_a_whole_tile_comes_through_unchanged() {
    let config = TransformConfig {
        tile: 32,
        tile_scale: (1.0, 1.0),
        field_scale: (1.0, 1.0),
        probability: 0.0,
    };
    let mean = |tile: &RgbImage| tile.iter().map(|&v| v as f64).sum::<f64>() / tile.len() as f64;
    let whole = checkered(32);
    assert!((mean(&training_tile(&whole, &config, &mut rng(0))) - mean(&whole)).abs() < 3.0);
    assert_eq!(resized(&whole, [0, 0, 32, 32], 32), whole);
}

#[test]
fn flips_and_turns_move_pixels_and_change_none() {
    let tile = checkered(33);
    let flips = made(flip, &tile);
    for expected in [
        imageops::flip_horizontal(&tile),
        imageops::flip_vertical(&tile),
        imageops::rotate180(&tile),
    ] {
        assert!(flips.contains(&expected));
    }
    let turns = made(rotate, &tile);
    let quarter = imageops::rotate270(&tile);
    let quarters = turns.iter().filter(|turned| **turned == quarter).count();
    assert!((6..=18).contains(&quarters), "{quarters} of 24 are quarter turns");
    // Whatever the angle, the middle stays where it is.
    assert!(turns.iter().all(|turned| turned.get_pixel(16, 16) == tile.get_pixel(16, 16)));
}

#[test]
fn remapping_is_exact_on_pixels_bilinear_between_and_mirrored_outside() {
    let tile = checkered(9);
    let mapped = |source: &dyn Fn(f32, f32) -> (f32, f32)| {
        let mut tile = tile.clone();
        remap(&mut tile, source);
        tile
    };
    assert_eq!(mapped(&|x, y| (x, y)), tile);
    assert_eq!(mapped(&|x, y| (8.0 - y, x)), imageops::rotate270(&tile));
    assert_eq!(mapped(&|x, y| (-x, y)), tile);
    assert_eq!(mapped(&|x, y| (16.0 - x, y)), tile);
    let between = mapped(&|x, y| (x + 0.5, y));
    assert_eq!(
        between.get_pixel(2, 4)[0],
        (tile.get_pixel(2, 4)[0] + tile.get_pixel(3, 4)[0]).div_ceil(2)
    );
}

#[test]
fn distortions_are_smooth_and_as_large_as_they_should_be() {
    // A ramp shows where each pixel came from.
    let ramp = RgbImage::from_fn(128, 128, |x, y| image::Rgb([(x * 2) as u8, (y * 2) as u8, 9]));
    for (step, largest) in [(elastic as Step, 0.03), (grid_distortion, 0.015)] {
        for bent in made(step, &ramp) {
            let shift = distance(&bent, &ramp) / 2.0 * (3.0f64 / 2.0).sqrt();
            assert!((0.2..1.3).contains(&(shift / (largest * 128.0))), "shifts of {shift} pixels");
            let jumps = bent.rows().flat_map(|row| {
                row.clone().zip(row.skip(1)).map(|(a, b)| a[0].abs_diff(b[0])).collect::<Vec<_>>()
            });
            assert!(jumps.max().unwrap() <= 12, "neighbours stay neighbours");
            assert!(bent.pixels().all(|pixel| pixel[2] == 9));
        }
    }
}

#[test]
fn color_and_gamma_keep_places_and_change_values_a_little() {
    let tile = RgbImage::from_fn(24, 24, |x, _| {
        image::Rgb(if x < 12 { [180, 90, 150] } else { [230, 210, 225] })
    });
    for step in [color as Step, gamma] {
        let all = made(step, &tile);
        assert!(all.iter().any(|changed| distance(changed, &tile) > 5.0));
        for changed in all {
            assert!(distance(&changed, &tile) < 60.0);
            assert!(
                changed
                    .enumerate_pixels()
                    .all(|(x, _, pixel)| pixel == changed.get_pixel(x / 12 * 12, 0))
            );
        }
    }
    let mut grey = RgbImage::from_fn(256, 1, |x, _| image::Rgb([x as u8; 3]));
    gamma(&mut grey, &mut rng(1));
    assert!(grey.get_pixel(0, 0)[0] == 0 && grey.get_pixel(255, 0)[0] == 255);
    assert!(grey.pixels().zip(grey.pixels().skip(1)).all(|(a, b)| a[0] <= b[0]));
}

#[test]
fn blur_softens_and_keeps_the_mean() {
    let tile = checkered(64);
    for blurred in made(blur, &tile) {
        assert!(sharpness(&blurred) < sharpness(&tile));
        assert!((differences(&blurred, &tile).sum::<f64>() / tile.len() as f64).abs() < 1.0);
    }
}

#[test]
fn noise_is_normal_of_mean_none_and_of_the_asked_deviation() {
    let grey = RgbImage::from_pixel(128, 128, image::Rgb([128; 3]));
    for seed in 0..8 {
        let asked = between(&mut rng(seed), 1.0, 8.0);
        let mut noisy = grey.clone();
        noise(&mut noisy, &mut rng(seed));
        let deviation = distance(&noisy, &grey);
        // Rounding to whole levels adds a twelfth to the variance.
        let expected = (asked * asked + 1.0 / 12.0).sqrt();
        assert!((deviation / expected - 1.0).abs() < 0.02, "{deviation} and not {expected}");
        assert!((differences(&noisy, &grey).sum::<f64>() / grey.len() as f64).abs() < 0.1);
        let fourth = differences(&noisy, &grey).map(|d| (d / deviation).powi(4)).sum::<f64>()
            / grey.len() as f64;
        assert!((2.6..3.2).contains(&fourth), "kurtosis {fourth}");
    }
}

#[test]
fn compression_loses_a_little_and_keeps_the_picture() {
    let tile = RgbImage::from_fn(64, 64, |x, y| {
        image::Rgb([150 + (x % 16) as u8 * 4, 90 + (y % 8) as u8 * 6, 160])
    });
    for squeezed in made(compress, &tile) {
        let lost = distance(&squeezed, &tile);
        assert!(lost > 0.3 && lost < 25.0, "{lost}");
    }
}
