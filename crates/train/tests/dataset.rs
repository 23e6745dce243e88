//! Data sets as they are released, made small, and the real `restain-train` on them.

mod runs;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use image::{Rgb, RgbImage};
use restain_bundle::Bundle;
use restain_data::{Dataset, Format, Selection};
use restain_train::run::checkpoint::Checkpoint;

use super::fit::{restain_train, run};

fn put(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// A tile of stripes of tissue in one colour.
fn tile(side: u32, color: [u8; 3]) -> RgbImage {
    RgbImage::from_fn(side, side, |x, y| {
        if (x / 3 + y / 5) % 2 == 0 { Rgb(color) } else { Rgb([250, 245, 250]) }
    })
}

fn png(image: impl Into<image::DynamicImage>) -> Vec<u8> {
    let mut bytes = Vec::new();
    image.into().write_to(&mut std::io::Cursor::new(&mut bytes), image::ImageFormat::Png).unwrap();
    bytes
}

fn select(change: impl FnOnce(&mut Selection)) -> Selection {
    let mut selection = Selection::default();
    change(&mut selection);
    selection
}

fn refusal(root: &Path, selection: &Selection) -> String {
    let refused = format!("{:#}", Dataset::open(root, selection).err().expect("it is refused"));
    assert!(!refused.contains('\n'), "{refused}");
    refused
}

/// Split, label and domain of every source, in words.
fn described(dataset: &Dataset) -> Vec<String> {
    let name = |names: &[String], number: Option<usize>| {
        number.map_or("-".to_owned(), |number| names[number].clone())
    };
    let one = |s: &restain_data::Source| {
        format!(
            "{} {} {}",
            dataset.domains[s.domain],
            name(&dataset.splits, s.split),
            name(&dataset.labels, s.label)
        )
    };
    dataset.sources.iter().map(one).collect()
}

/// WILDS with four tiles a centre, of which the last has `split` 1; `unlabelled` as that release
/// has it.
fn wilds(root: &Path, unlabelled: bool) {
    let mut table = String::from(",patient,node,x_coord,y_coord,tumor,slide,center,split\n");
    for center in 0..5u32 {
        for i in 0..4u32 {
            let (patient, split) =
                (center * 20 + 4, if unlabelled { 10 } else { u32::from(i == 3) });
            let slide = format!("patient_{patient:03}_node_1");
            let color = [120 + 20 * center as u8, 60 + 10 * i as u8, 150];
            let rgba = image::DynamicImage::from(tile(96, color)).into_rgba8();
            put(
                &root.join(format!("patches/{slide}/patch_{slide}_x_{}_y_96.png", i * 96)),
                &png(rgba),
            );
            table += &format!(
                "{},{patient:03},1,{},96,{},{center},{center},{split}\n",
                center * 4 + i,
                i * 96,
                i % 2
            );
        }
    }
    put(&root.join("metadata.csv"), table.as_bytes());
}

#[test]
fn wilds_has_the_official_splits_by_centre() {
    let home = tempfile::tempdir().unwrap();
    let release = home.path().join("camelyon17_v1.0");
    wilds(&release, false);
    for root in [home.path(), &release] {
        let all = Dataset::open(root, &Selection::default()).unwrap();
        assert_eq!(all.domains, ["center_0", "center_1", "center_2", "center_3", "center_4"]);
        assert_eq!((all.sources.len(), all.sources[0].width, all.tiles(96)), (20, 96, 20));
        assert_eq!(
            described(&all)[..4],
            [
                "center_0 train normal",
                "center_0 train normal",
                "center_0 id_val tumor",
                "center_0 train tumor"
            ]
        );
        let of = |split: &str| {
            described(&Dataset::open(root, &select(|s| s.splits = vec![split.into()])).unwrap())
        };
        assert_eq!(of("train").len(), 9);
        assert_eq!(
            of("id_val"),
            ["center_0 id_val tumor", "center_3 id_val tumor", "center_4 id_val tumor"]
        );
        assert!(
            of("val").len() == 4 && of("val").iter().all(|one| one.starts_with("center_1 val"))
        );
        assert!(
            of("test").len() == 4 && of("test").iter().all(|one| one.starts_with("center_2 test"))
        );
        let training = Dataset::open(root, &Selection::default().for_training()).unwrap();
        assert_eq!(training.domains, ["center_0", "center_3", "center_4"]);
        let image = training.image(&training.sources[0]).unwrap();
        assert_eq!((image.dimensions(), image.get_pixel(0, 0).0), ((96, 96), [120, 60, 150]));
        assert!(
            refusal(root, &select(|s| s.splits = vec!["ood".into()]))
                .contains("--split ood is not in")
        );
        assert!(
            refusal(root, &select(|s| s.exclude_domains = vec!["center_5".into()]))
                .contains("center_3, center_4")
        );
    }
}

#[test]
fn the_unlabelled_release_goes_by_centre_alone_and_has_no_labels() {
    let home = tempfile::tempdir().unwrap();
    wilds(&home.path().join("camelyon17_unlabeled_v1.0"), true);
    let all = Dataset::open(home.path(), &Selection::default()).unwrap();
    assert_eq!(all.splits, ["train_unlabeled", "val_unlabeled", "test_unlabeled"]);
    let described = described(&all);
    assert_eq!(
        [&described[0], &described[4], &described[8]],
        ["center_0 train_unlabeled -", "center_1 val_unlabeled -", "center_2 test_unlabeled -"]
    );
    assert_eq!(
        Dataset::open(home.path(), &Selection::default().for_training()).unwrap().sources.len(),
        12
    );
    wilds(&home.path().join("camelyon17_v1.0"), false);
    assert!(
        refusal(home.path(), &Selection::default())
            .contains("camelyon17_v1.0 and camelyon17_unlabeled_v1.0: name one of them")
    );
}

#[test]
fn what_is_missing_of_wilds_is_named() {
    let home = tempfile::tempdir().unwrap();
    wilds(home.path(), false);
    let table = fs::read_to_string(home.path().join("metadata.csv")).unwrap();
    let put_table = |text: &str| put(&home.path().join("metadata.csv"), text.as_bytes());

    put_table(&table.replace("tumor,", "").replace(",center,", ",centre,"));
    assert!(
        refusal(home.path(), &Selection::default())
            .ends_with("metadata.csv lacks the columns tumor, center")
    );
    put_table(&table.replace("0,004,1,0,96,0,", "0,004,1,0,96,maybe,"));
    assert!(
        refusal(home.path(), &Selection::default())
            .contains("metadata.csv, line 2: tumor is \"maybe\", and must be 0 or 1")
    );
    put_table(&table);
    fs::remove_dir_all(home.path().join("patches/patient_044_node_1")).unwrap();
    let refused = refusal(home.path(), &Selection::default());
    let first = "patches/patient_044_node_1/patch_patient_044_node_1_x_0_y_96.png";
    assert!(
        refused.contains("4 of 20 files of metadata.csv are missing") && refused.contains(first),
        "{refused}"
    );
    // What is not selected need not be there.
    assert_eq!(
        Dataset::open(home.path(), &Selection::default().for_training()).unwrap().sources.len(),
        9
    );
    fs::remove_file(home.path().join("metadata.csv")).unwrap();
    assert!(refusal(home.path(), &Selection::default()).ends_with("metadata.csv is missing"));
}

#[test]
fn epithelium_and_stroma_have_institutions_splits_and_tissues() {
    let home = tempfile::tempdir().unwrap();
    for (i, institution) in ["NKI", "VGH"].into_iter().enumerate() {
        for split in ["train", "test"] {
            for tissue in ["epi", "str"] {
                put(
                    &home.path().join(institution).join(split).join(tissue).join("1.png"),
                    &png(tile(24, [90 * i as u8, 9, 9])),
                );
            }
        }
    }
    let all = Dataset::open(home.path(), &Selection::default()).unwrap();
    assert_eq!(
        described(&all)[..4],
        ["NKI test epi", "NKI test str", "NKI train epi", "NKI train str"]
    );
    let training =
        Dataset::open(home.path(), &select(|s| s.domains = vec!["VGH".into()]).for_training())
            .unwrap();
    assert_eq!(described(&training), ["VGH train epi", "VGH train str"]);
    fs::remove_dir_all(home.path().join("VGH/test/str")).unwrap();
    assert!(
        refusal(home.path(), &Selection::default()).ends_with("lacks the folders VGH/test/str")
    );
}

fn pcam(home: &Path) {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/pcam");
    for entry in fs::read_dir(fixture)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().unwrap() == "h5")
    {
        fs::copy(&entry, home.join(entry.file_name().unwrap())).unwrap();
    }
}

#[test]
fn patch_camelyon_is_read_out_of_its_hdf5_files() {
    let home = tempfile::tempdir().unwrap();
    pcam(home.path());
    let all = Dataset::open(home.path(), &Selection::default()).unwrap();
    assert_eq!(
        (all.sources.len(), all.splits.as_slice()),
        (7, ["train", "valid", "test"].map(String::from).as_slice())
    );
    let seen = |split: &str| -> Vec<(u8, Option<usize>)> {
        let dataset =
            Dataset::open(home.path(), &select(|s| s.splits = vec![split.into()])).unwrap();
        let one = |source: &restain_data::Source| {
            let image = dataset.image(source).unwrap();
            assert_eq!(
                (image.dimensions(), image.get_pixel(17, 90).0[1..].to_vec()),
                ((96, 96), vec![16, 80])
            );
            (image.get_pixel(0, 0).0[0], source.label)
        };
        dataset.sources.iter().map(one).collect()
    };
    assert_eq!(seen("train"), [(10, Some(0)), (20, Some(1)), (30, Some(1)), (40, Some(0))]);
    // Two of these share a chunk.
    assert_eq!(
        (seen("valid"), seen("test")),
        (vec![(50, Some(1)), (60, Some(0))], vec![(70, Some(1))])
    );
}

#[test]
fn hdf5_files_that_are_packed_missing_or_of_another_shape_are_named() {
    let home = tempfile::tempdir().unwrap();
    pcam(home.path());
    let file = |split: &str, part: &str| {
        home.path().join(format!("camelyonpatch_level_2_split_{split}_{part}.h5"))
    };
    let write = |path: PathBuf, name: &str, shape: &[u64]| {
        let mut builder = hdf5_pure::FileBuilder::new();
        builder
            .create_dataset(name)
            .with_u8_data(&vec![1; shape.iter().product::<u64>() as usize])
            .with_shape(shape);
        builder.write(path).unwrap();
    };
    let refused = || refusal(home.path(), &Selection::default());
    // Not chunked at all.
    write(file("test", "x"), "x", &[1, 96, 96, 3]);
    let dataset = Dataset::open(home.path(), &select(|s| s.splits = vec!["test".into()])).unwrap();
    assert_eq!(dataset.image(&dataset.sources[0]).unwrap().get_pixel(5, 5).0, [1; 3]);
    write(file("test", "x"), "x", &[1, 64, 64, 3]);
    assert!(
        refused().ends_with("test_x.h5: x is u8 [1, 64, 64, 3], and must be u8 [n, 96, 96, 3]")
    );
    write(file("test", "x"), "images", &[1, 96, 96, 3]);
    assert!(refused().contains("test_x.h5 has no data set \"x\""));
    fs::remove_file(file("test", "x")).unwrap();
    write(file("valid", "y"), "y", &[3, 1, 1, 1]);
    assert!(refused().ends_with("valid_y.h5: y is [3, 1, 1, 1], and must be [2, 1, 1, 1]"));
    fs::rename(file("valid", "y"), file("valid", "y").with_extension("h5.gz")).unwrap();
    assert!(
        refused()
            .ends_with("camelyonpatch_level_2_split_valid_y.h5.gz is compressed: gunzip it first")
    );
    fs::remove_file(file("valid", "y").with_extension("h5.gz")).unwrap();
    assert!(
        refused().contains("valid_y.h5 is missing beside camelyonpatch_level_2_split_valid_x.h5")
    );
    for split in ["train", "valid"] {
        fs::rename(file(split, "x"), file(split, "x").with_extension("h5.gz")).unwrap();
    }
    assert!(refused().contains("valid_x.h5.gz are compressed: gunzip them first"));
}

fn tar(path: &Path, entries: &[(&str, &[u8])]) {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    put(path, &builder.into_inner().unwrap());
}

#[test]
fn webdataset_tars_are_read_at_random() {
    let home = tempfile::tempdir().unwrap();
    let (red, blue) = (png(tile(32, [200, 0, 0])), png(tile(48, [0, 0, 200])));
    let jsons = [&br#"{"label": "tumor", "domain": "north"}"#[..], br#"{"domain": "south"}"#];
    tar(
        &home.path().join("shard-0.tar"),
        &[("1.png", &red), ("1.json", jsons[0]), ("2.json", jsons[1]), ("2.input.png", &blue)],
    );
    tar(
        &home.path().join("east/shard-1.tar"),
        &[("1.cls", b"10"), ("1.png", &red), ("2.png", &blue), ("2.cls", b"9"), ("3.txt", b"-")],
    );
    let all = Dataset::open(home.path(), &Selection::default()).unwrap();
    let paths: Vec<_> = all.sources.iter().map(|source| source.path.to_str().unwrap()).collect();
    assert_eq!(
        paths,
        [
            "east/shard-1.tar/1.png",
            "east/shard-1.tar/2.png",
            "shard-0.tar/1.png",
            "shard-0.tar/2.input.png"
        ]
    );
    assert_eq!(described(&all), ["east - 10", "east - 9", "north - tumor", "south - -"]);
    for source in all.sources.iter().rev() {
        let image = all.image(source).unwrap();
        let expected = if source.width == 32 { [200, 0, 0] } else { [0, 0, 200] };
        assert_eq!(
            (image.dimensions(), image.get_pixel(0, 0).0),
            ((source.width, source.width), expected)
        );
    }
    let east = Dataset::open(home.path(), &select(|s| s.domains = vec!["east".into()])).unwrap();
    assert_eq!((east.sources.len(), east.draw(1, 1).0.domain), (2, 0));

    tar(&home.path().join("west/shard-2.tar"), &[("1.a.png", &red), ("1.b.png", &blue)]);
    assert!(refusal(home.path(), &Selection::default()).ends_with(
        "shard-2.tar: sample 1 has several images, a.png, b.png: name the tile's field with \
        --image-field"
    ));
    let whole = fs::read(home.path().join("shard-0.tar")).unwrap();
    put(&home.path().join("west/shard-2.tar"), &whole[..700]);
    assert!(
        refusal(home.path(), &Selection::default())
            .contains("shard-2.tar: the tar is cut off within 1.png")
    );
    fs::remove_dir_all(home.path().join("west")).unwrap();
    put(&home.path().join("stray.png"), &red);
    assert!(
        refusal(home.path(), &Selection::default())
            .ends_with("choose one with --layout folders or --layout webdataset")
    );
    assert_eq!(
        Dataset::open(home.path(), &select(|s| s.format = Format::Folders)).unwrap().sources.len(),
        1
    );
    assert_eq!(
        Dataset::open(home.path(), &select(|s| s.format = Format::Webdataset))
            .unwrap()
            .sources
            .len(),
        4
    );
}

const FIT: &str = "fit --recipe cross --preset tiny --batch 4 --mixes 1 --steps 6 --device cpu \
    --seed 5 --save-every 1";
