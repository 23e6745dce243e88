//! The monitoring of a run: TensorBoard curves, validation, sample grids, the report.

use std::collections::BTreeMap;
use std::path::Path;

use restain_bundle::{Bundle, Weights};

use super::fit::{phantom, run};

/// Steps and the bits of their values, by tag.
pub(crate) type Scalars = BTreeMap<String, Vec<(u64, u32)>>;

/// CRC-32C bit by bit, as RFC 3720 defines it: reflected, polynomial 0x1edc6f41.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| step(crc)))
}

/// The messages of a tfrecord file, whose every checksum must be right.
fn records(bytes: &[u8]) -> Vec<&[u8]> {
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let masked = |bytes: &[u8]| crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8);
    let (mut records, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let length = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
        assert_eq!(word(at + 8), masked(&bytes[at..at + 8]), "the length at {at}");
        let message = &bytes[at + 12..at + 12 + length];
        assert_eq!(word(at + 12 + length), masked(message), "the message at {at}");
        records.push(message);
        at += 16 + length;
    }
    records
}

enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a protobuf message by their numbers.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Field<'_>)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let length = bytes.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
        let (own, rest) = bytes.split_at(length);
        *bytes = rest;
        own.iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f))
    }
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let (fixed, length) = match key & 7 {
            0 => (Some(varint(&mut bytes)), 0),
            1 => (Some(u64::from_le_bytes(bytes[..8].try_into().unwrap())), 8),
            5 => (Some(u32::from_le_bytes(bytes[..4].try_into().unwrap()).into()), 4),
            2 => (None, varint(&mut bytes) as usize),
            other => panic!("wire type {other}"),
        };
        let (own, rest) = bytes.split_at(length);
        fields.push((key >> 3, fixed.map_or(Field::Bytes(own), Field::Number)));
        bytes = rest;
    }
    fields
}

/// Step, tag, the bits of a scalar and the PNG of a picture, for every value of the event file
/// (event.proto, summary.proto).
fn values(state: &Path) -> Vec<(u64, String, Option<u32>, Vec<u8>)> {
    let bytes = std::fs::read(state.join("tensorboard/events.out.tfevents.restain")).unwrap();
    let mut values = Vec::new();
    for event in records(&bytes).into_iter().map(fields) {
        let step = event
            .iter()
            .find_map(|field| if let (2, Field::Number(step)) = field { Some(*step) } else { None })
            .unwrap_or(0);
        let summaries = event.iter().filter_map(|field| {
            if let (5, Field::Bytes(bytes)) = field { Some(*bytes) } else { None }
        });
        for (_, value) in summaries.flat_map(fields) {
            let Field::Bytes(value) = value else { panic!("a value is a message") };
            let (mut tag, mut scalar, mut png) = (String::new(), None, Vec::new());
            for field in fields(value) {
                match field {
                    (1, Field::Bytes(text)) => tag = String::from_utf8(text.to_vec()).unwrap(),
                    (2, Field::Number(bits)) => scalar = Some(bits as u32),
                    (4, Field::Bytes(image)) => {
                        png = fields(image)
                            .into_iter()
                            .find_map(|f| {
                                if let (4, Field::Bytes(png)) = f {
                                    Some(png.to_vec())
                                } else {
                                    None
                                }
                            })
                            .unwrap();
                    }
                    _ => {}
                }
            }
            values.push((step, tag, scalar, png));
        }
    }
    values
}

pub(crate) fn scalars(state: &Path) -> Scalars {
    let mut scalars = Scalars::new();
    for (step, tag, bits, _) in values(state) {
        scalars.entry(tag).or_default().extend(bits.map(|bits| (step, bits)));
    }
    scalars.retain(|_, points| !points.is_empty());
    scalars
}

#[test]
fn a_run_is_watched_by_validation_curves_pictures_and_a_report() {
    let home = tempfile::tempdir().unwrap();
    phantom(home.path());
    let fit = "fit --recipe cross --data tiles --preset tiny --batch 4 --mixes 1 --device cpu \
        --seed 5 --steps 40 --consistency-weight 1";
    let watch = "--validation-share .2 --validate-every 10 --samples-every 20 --scalars-every 1";
    run(home.path(), &format!("{fit} {watch} --out models/seen/1"));
    let state = home.path().join("runs/seen-1");

    let scalars = scalars(&state);
    let curve = |tag: &str| {
        scalars[tag].iter().map(|&(step, bits)| (step, f32::from_bits(bits))).collect::<Vec<_>>()
    };
    assert_eq!(
        curve("loss/total").iter().map(|point| point.0).collect::<Vec<_>>(),
        (1..=40).collect::<Vec<_>>()
    );
    let terms = [
        "reconstruction",
        "anatomy",
        "characteristics",
        "restain",
        "transfer",
        "invariance",
        "match",
        "detail",
        "border",
    ];
    let sum: f32 = terms.iter().map(|term| curve(&format!("loss/{term}"))[0].1).sum();
    assert!((sum / curve("loss/total")[0].1 - 1.0).abs() < 1e-5);
    let psnr = curve("validation/psnr_db");
    assert_eq!(psnr.iter().map(|point| point.0).collect::<Vec<_>>(), [10, 20, 30, 40]);
    assert!(psnr[3].1 > psnr[0].1 + 1.0, "{psnr:?}");
    assert!(curve("learning_rate").windows(2).all(|pair| pair[0].1 > pair[1].1));
    assert!(curve("input/wait_share").iter().all(|(_, share)| (0.0..=1.0).contains(share)));

    let pictures: Vec<_> =
        values(&state).into_iter().filter(|value| value.1 == "samples").collect();
    assert_eq!(pictures.iter().map(|picture| picture.0).collect::<Vec<_>>(), [20, 40]);
    assert_eq!(std::fs::read(state.join("samples/step-00000040.png")).unwrap(), pictures[1].3);
    // Three domains: the tiles as they were, and each in three styles, with 2 px between.
    assert_eq!(
        image::load_from_memory(&pictures[1].3).unwrap().into_rgb8().dimensions(),
        (4 * 34 - 2, 3 * 34 - 2)
    );

    let report = std::fs::read_to_string(state.join("report.html")).unwrap();
    assert_eq!(
        (report.matches("<svg").count(), report.matches("data:image/png;base64,").count()),
        (8, 2)
    );
    assert!(report.contains("<td>hospital_1</td><td>5</td><td>5</td><td>1</td>"));
    assert!(!report.contains("http") && !report.contains("<script"));
    let provenance = Bundle::open(&home.path().join("models/seen/1")).unwrap().manifest.provenance;
    assert_eq!(
        (&provenance["images_kept_out"], &provenance["validation"]["step"]),
        (&3.into(), &40.into())
    );
}

#[test]
fn the_best_weights_are_kept_beside_the_last_and_either_is_exported() {
    let home = tempfile::tempdir().unwrap();
    phantom(home.path());
    let home = home.path();
    // So fast that it is soon worse than it was.
    let fit = "fit --recipe cross --data tiles --preset tiny --batch 4 --mixes 1 --device cpu \
        --seed 5 --steps 8 --learning-rate .3";
    run(
        home,
        &format!(
            "{fit} --validation-share .2 --validate-every 1 --export best --out models/best/1"
        ),
    );
    let state = home.join("runs/best-1");
    let losses: Vec<f32> =
        scalars(&state)["validation/total"].iter().map(|&(_, bits)| f32::from_bits(bits)).collect();
    let best = 1 + (0..losses.len()).min_by(|&a, &b| losses[a].total_cmp(&losses[b])).unwrap();
    assert_ne!(best, 8, "{losses:?}");

    run(home, "export runs/best-1 --out models/last/1");
    run(home, "export runs/best-1 --best --out models/again/1");
    let bundle = |name: &str| Bundle::open(&home.join("models").join(name).join("1")).unwrap();
    let weights =
        |name: &str| Weights::read(&bundle(name).dir.join("weights.safetensors")).unwrap();
    assert_eq!(weights("best"), weights("again"));
    assert_ne!(weights("best"), weights("last"));
    assert_eq!(bundle("best").manifest.provenance["steps"], best);
    assert_eq!(bundle("last").manifest.provenance["steps"], 8);
}
