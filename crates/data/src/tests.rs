use std::collections::BTreeSet;

use super::*;

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, width, height) in
        [("a/one.png", 40, 20), ("a/deep/two.png", 20, 20), ("b/three.jpg", 60, 40)]
    {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        RgbImage::from_pixel(width, height, image::Rgb([9, 8, 7])).save(path).unwrap();
    }
    std::fs::write(dir.path().join("README.md"), "not an image").unwrap();
    dir
}

fn open(dir: &tempfile::TempDir, selection: Selection) -> Result<Dataset> {
    Dataset::open(dir.path(), &selection)
}

#[test]
fn folders_are_domains_and_the_folders_in_them_labels() {
    let dir = folder();
    let dataset = open(&dir, Selection::default()).unwrap();
    assert_eq!(dataset.domains, ["a", "b"]);
    assert_eq!(
        (dataset.labels.as_slice(), dataset.splits.len()),
        (["deep".to_owned()].as_slice(), 0)
    );
    let sources: Vec<_> = dataset
        .sources
        .iter()
        .map(|s| (s.path.to_str().unwrap(), s.domain, s.label, s.width))
        .collect();
    assert_eq!(
        sources,
        [
            ("a/deep/two.png", 0, Some(0), 20),
            ("a/one.png", 0, None, 40),
            ("b/three.jpg", 1, None, 60)
        ]
    );
    assert_eq!(dataset.tiles(20), 2 + 1 + 6);
    assert_eq!(dataset.grid_tiles(&dataset.sources[1], 20).unwrap().len(), 2);
}

#[test]
fn a_selection_must_name_images_and_domains_that_exist() {
    let dir = folder();
    let exclude =
        |path: &str| open(&dir, Selection { exclude: vec![path.into()], ..Selection::default() });
    assert_eq!(exclude("a/one.png").unwrap().sources.len(), 2);
    assert!(
        exclude("a/oen.png").err().unwrap().to_string().contains("a/oen.png is not an image of")
    );
    let domains =
        |names: &str| open(&dir, Selection { domains: vec![names.into()], ..Selection::default() });
    let only_b = domains("b").unwrap();
    assert_eq!(
        (only_b.domains.as_slice(), only_b.sources[0].domain, only_b.labels.len()),
        (["b".to_owned()].as_slice(), 0, 1)
    );
    assert!(domains("c").err().unwrap().to_string().contains("--domains c is not in"));
    let without =
        open(&dir, Selection { exclude_domains: vec!["b".into()], ..Selection::default() })
            .unwrap();
    assert_eq!(without.domains, ["a"]);
    let nothing =
        Selection { exclude_domains: vec!["a".into(), "b".into()], ..Selection::default() };
    assert!(open(&dir, nothing).err().unwrap().to_string().contains("select no image of"));
    let split = Selection { splits: vec!["train".into()], ..Selection::default() };
    assert!(open(&dir, split).err().unwrap().to_string().contains("has no official splits"));
}

#[test]
fn draws_depend_on_seed_and_index_alone_and_balance_domains() {
    let dir = folder();
    let dataset = open(&dir, Selection::default()).unwrap();
    let drawn =
        |seed: u64| (0..400).map(|i| dataset.draw(seed, i).0.path.clone()).collect::<Vec<_>>();
    assert_eq!(drawn(1), drawn(1));
    assert_ne!(drawn(1), drawn(2));
    let of_b = drawn(1).iter().filter(|path| path.starts_with("b")).count();
    assert!((150..250).contains(&of_b), "{of_b} of 400 from one of two domains");
}

#[test]
fn another_draw_takes_the_place_of_a_damaged_image_whatever_was_met_before() {
    let dir = folder();
    let path = dir.path().join("b/three.jpg");
    let bytes = std::fs::read(&path).unwrap();
    // The header is whole, the picture is not.
    std::fs::write(&path, &bytes[..bytes.len() - 20]).unwrap();
    let fresh = || open(&dir, Selection::default()).unwrap();
    let seen = |dataset: &Dataset, index: u64| {
        dataset.draw_image(3, index).map(|(image, rng)| (image.dimensions(), rng)).unwrap()
    };
    let together = fresh();
    let drawn: Vec<_> = (0..40).map(|i| seen(&together, i)).collect();
    assert_eq!(together.damaged(), 1);
    assert_eq!(
        drawn.iter().map(|(size, _)| *size).collect::<BTreeSet<_>>(),
        [(20, 20), (40, 20)].into()
    );
    for (i, one) in (0..40).rev().zip(drawn.iter().rev()) {
        assert_eq!(seen(&fresh(), i), *one, "draw {i}");
    }
    assert!(together.grid_tiles(together.sources.last().unwrap(), 20).unwrap().is_empty());

    let strict = open(&dir, Selection { max_damaged: 0, ..Selection::default() }).unwrap();
    let ended = (0..40).find_map(|i| strict.draw_image(3, i).err()).unwrap().to_string();
    assert!(
        ended.contains("three.jpg")
            && ended.ends_with("damaged images so far: 1, and --max-damaged is 0"),
        "{ended}"
    );
}

#[test]
fn decoded_images_are_kept_within_their_memory() {
    let dir = folder();
    let kept = |cache_bytes: u64| {
        let dataset = open(&dir, Selection { cache_bytes, ..Selection::default() }).unwrap();
        let again = |source: &Source| {
            Arc::ptr_eq(&dataset.image(source).unwrap(), &dataset.image(source).unwrap())
        };
        dataset.sources.iter().filter(|source| again(source)).count()
    };
    assert_eq!(kept(1 << 20), 3);
    // The first and smallest of them, 1,200 bytes, and nothing else.
    assert_eq!(kept(1500), 1);
    assert_eq!(kept(0), 0);
}

#[test]
fn mean_and_deviation_weigh_domains_the_same_and_leave_damaged_images_out() {
    let dir = tempfile::tempdir().unwrap();
    let grey = |name: &str, value: u8| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        RgbImage::from_pixel(16, 16, image::Rgb([value; 3])).save(path).unwrap();
    };
    (0..5).for_each(|i| grey(&format!("a/{i}.png"), 51));
    grey("b/0.png", 153);
    grey("b/1.png", 255);
    let path = dir.path().join("b/1.png");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..40]).unwrap();
    let normalisation = measure(&open(&dir, Selection::default()).unwrap()).unwrap();
    assert!(
        (normalisation.mean[0] - 0.4).abs() < 1e-6 && (normalisation.std[0] - 0.2).abs() < 1e-6,
        "{normalisation:?}"
    );
}

/// A TIFF whose pixels have a size, or none.
fn tiff(microns: Option<f64>) -> Vec<u8> {
    let mut file = std::io::Cursor::new(Vec::new());
    let mut encoder = tiff::encoder::TiffEncoder::new(&mut file).unwrap();
    let mut image = encoder.new_image::<tiff::encoder::colortype::RGB8>(20, 20).unwrap();
    if let Some(microns) = microns {
        let text = format!("Aperio |MPP = {microns}");
        image.encoder().write_tag(tiff::tags::Tag::ImageDescription, &text[..]).unwrap();
    }
    image.write_data(&[9; 1200]).unwrap();
    file.into_inner()
}

#[test]
fn the_images_state_one_size_of_a_pixel_or_none() {
    let stated = |sizes: [Option<f64>; 3]| {
        let dir = tempfile::tempdir().unwrap();
        for (number, size) in sizes.into_iter().enumerate() {
            let path = dir.path().join(format!("domain_{}/{number}.tif", number % 2));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, tiff(size)).unwrap();
        }
        open(&dir, Selection::default()).unwrap().stated_microns().unwrap()
    };
    let same = stated([Some(0.25), Some(0.25), Some(0.2501)]).unwrap();
    assert_eq!((same.size, same.images), (0.25, 3));
    assert_eq!(same.to_string(), "0.25 µm a pixel, Aperio MPP of 3 images");
    assert_eq!(stated([Some(0.25), Some(0.5), Some(0.25)]), None, "they differ");
    assert_eq!(stated([Some(0.25), None, Some(0.25)]), None, "one states none");
    assert_eq!(stated([None; 3]), None);
    assert_eq!(open(&folder(), Selection::default()).unwrap().stated_microns().unwrap(), None);
}
