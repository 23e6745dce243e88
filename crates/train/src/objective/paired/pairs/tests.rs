//! What pairs are, on fields that a formula makes.

use super::*;
use restain_data::Selection;

const ARGS: PairedArgs = PairedArgs {
    there: 1.0,
    back: 1.0,
    own: 0.5,
    invariance: 0.5,
    agreement: 0.0,
    change: 1.0,
    beside: 0.0,
    detail: 0.4,
    border: 0.3,
    draws: 1,
    field_pairs: 1,
    slide: 0.5,
    base: 0.0,
    wide: 0.5,
    free: 0.2,
    quantiles: 0.5,
    glass: 0.5,
    largest_crop: 1.35,
};

/// Two domains of two fields each, of two stains whose amounts a formula makes, one corner glass;
/// the red of each field is brighter than that of the one before.
fn fields(dir: &std::path::Path) {
    for domain in 0..2u32 {
        std::fs::create_dir_all(dir.join(format!("d{domain}"))).unwrap();
        for field in 0..2u32 {
            let weaker = 1.0 + 0.4 * f64::from(domain * 2 + field);
            let image = RgbImage::from_fn(64, 64, |x, y| {
                let i = x * 64 + y;
                let amounts = match x < 16 && y < 16 {
                    true => [0.0; 2],
                    false => [f64::from(i * i % 31) / 25.0, f64::from((i * 7 + 3) % 29) / 25.0],
                };
                image::Rgb([0, 1, 2].map(|c| {
                    let od = amounts[0] * [0.65, 0.7, 0.29][c] / weaker
                        + amounts[1] * [0.07, 0.99, 0.11][c];
                    (242.0 * (-od).exp()).round() as u8
                }))
            });
            image.save(dir.join(format!("d{domain}/{field}.png"))).unwrap();
        }
    }
}

fn pairs(dir: &std::path::Path, workers: usize) -> Pairs<Arc<Dataset>> {
    let dataset = Dataset::open(dir, &Selection { workers, ..Selection::default() }).unwrap();
    Pairs::new(Arc::new(dataset), ARGS, 16, 8).unwrap()
}

#[test]
fn pairs_depend_neither_on_the_number_of_threads_nor_on_the_batch() {
    let dir = tempfile::tempdir().unwrap();
    fields(dir.path());
    let (one, four) = (pairs(dir.path(), 1), pairs(dir.path(), 4));
    let whole = one.batch(7, 10, 6).unwrap();
    let part = four.batch(7, 12, 2).unwrap();
    let tile = 16 * 16 * 3;
    assert_eq!(part.pixels[..2 * tile], whole.pixels[2 * tile..4 * tile]);
    assert_eq!(part.pixels[2 * tile..], whole.pixels[8 * tile..10 * tile]);
    assert_eq!(part.plan.transforms, whole.plan.transforms[2..4]);
    assert_ne!(one.batch(8, 10, 6).unwrap().pixels, whole.pixels);
}

#[test]
fn domains_take_turns_and_both_tiles_are_of_one_field_whose_stain_comes_with_them() {
    let dir = tempfile::tempdir().unwrap();
    fields(dir.path());
    let pairs = pairs(dir.path(), 2);
    let plan = pairs.batch(3, 0, 8).unwrap().plan;
    // The fields' own stains tell them apart.
    let domain = |stain: &FieldStain| {
        pairs.units.all.iter().find(|unit| unit.stain == *stain).expect("a field's stain").domain
    };
    for round in plan.stains.chunks(2) {
        assert_ne!(domain(&round[0]), domain(&round[1]));
    }
    assert!(plan.transforms.iter().zip(&plan.stains).all(|(g, stain)| g.white == stain.white));
    assert!(plan.tissue.iter().all(|patches| patches.len() == 4));
}

#[test]
fn pasted_glass_has_the_white_of_its_field_and_leaves_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    fields(dir.path());
    let pairs = pairs(dir.path(), 1);
    let stain = &pairs.units.all[0].stain;
    let (mut glass, mut kept) = (0, 0);
    for stream in 0..20 {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        rng.set_stream(stream);
        let mut tile = RgbImage::from_pixel(32, 32, image::Rgb([90, 60, 120]));
        paste_glass(&mut tile, stain, Cover::Part, &mut rng);
        for pixel in tile.pixels() {
            let off = |c: usize| (f64::from(pixel.0[c]) - 255.0 * stain.white[c]).abs();
            glass += usize::from((0..3).all(|c| off(c) < 6.0));
            kept += usize::from(pixel.0 == [90, 60, 120]);
        }
    }
    assert!(glass > 4000 && kept > 4000, "{glass} glass, {kept} kept");
}

#[test]
fn tiles_of_one_slide_or_domain_are_one_unit() {
    let dir = tempfile::tempdir().unwrap();
    fields(dir.path());
    let dataset = Dataset::open(dir.path(), &Selection::default()).unwrap();
    // For tiles of 64 px these fields are tiles.
    let units = Units::measure(&dataset, 64).unwrap();
    let sources: Vec<_> = units.all.iter().map(|unit| unit.sources.clone()).collect();
    assert_eq!(sources, [[0, 1], [2, 3]]);
    assert_eq!(Units::measure(&dataset, 32).unwrap().all.len(), 4);
}

#[test]
fn a_data_set_without_two_stains_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let grey = RgbImage::from_fn(64, 64, |x, y| image::Rgb([(x + y) as u8; 3]));
    grey.save(dir.path().join("grey.png")).unwrap();
    let dataset = Dataset::open(dir.path(), &Selection::default()).unwrap();
    let refused = Units::measure(&dataset, 16).err().unwrap().to_string();
    assert!(refused.contains("none of the 1 of this data set has two stains"), "{refused}");
}

#[test]
fn with_another_stain_first_a_field_and_its_tiles_change_together() {
    let dir = tempfile::tempdir().unwrap();
    fields(dir.path());
    let own = pairs(dir.path(), 1);
    let mut other = pairs(dir.path(), 1);
    other.args.base = 1.0;
    let [before, after] = [&own, &other].map(|pairs| pairs.batch(7, 0, 6).unwrap());
    // The same crops in another stain: glass stays brightest, and the plan has the new stain.
    assert_ne!(before.pixels, after.pixels);
    for (i, (before, after)) in before.plan.stains.iter().zip(&after.plan.stains).enumerate() {
        assert_ne!(before, after, "pair {i}");
    }
    let all = own.units.all.iter().map(|unit| &unit.stain);
    assert!(all.into_iter().all(|own| !after.plan.stains.contains(own)));
    // The new stain is measured on the pixels that are trained on: transforms start from its white.
    let starts = after.plan.transforms.iter().map(|g| g.white);
    assert!(starts.zip(&after.plan.stains).all(|(white, stain)| white == stain.white));
}
