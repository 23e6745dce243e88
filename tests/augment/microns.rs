//! The size of a pixel, as the files of tiles state it.

use std::io::Cursor;

use restain_bundle::codec::RgbImage;
use serde_json::{Value, json};
use tiff::encoder::{Rational, TiffEncoder, colortype::RGB8};
use tiff::tags::Tag;

use super::{Job, assert_same};
use crate::harness::{picture, png};

const OME: &str =
    "<OME><Image><Pixels PhysicalSizeX=\"0.25\" PhysicalSizeXUnit=\"&#181;m\"/></Image></OME>";

/// A TIFF with a description, at 300 dots an inch, which is a printer's.
fn tiff(tile: &RgbImage, description: &str) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut file).unwrap();
    let mut image = encoder.new_image::<RGB8>(tile.width as u32, tile.height as u32).unwrap();
    image.encoder().write_tag(Tag::ImageDescription, description).unwrap();
    image.encoder().write_tag(Tag::ResolutionUnit, 2u16).unwrap();
    for axis in [Tag::XResolution, Tag::YResolution] {
        image.encoder().write_tag(axis, Rational { n: 300, d: 1 }).unwrap();
    }
    image.write_data(&tile.pixels).unwrap();
    file.into_inner()
}

/// A job whose model knows 0.25 to 0.5 µm a pixel, so that a tile of 96 px at 0.25 µm is seen in
/// four windows.
fn job() -> Job {
    let job = Job::new();
    let path = job.models.path().join("tiny/1/bundle.json");
    let mut manifest: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    manifest["familiar"] = json!({"mpp": [0.25, 0.5]});
    std::fs::write(&path, serde_json::to_vec(&manifest).unwrap()).unwrap();
    job
}

#[test]
fn a_tiles_own_file_states_its_magnification_unless_it_is_asked_for() {
    let job = job();
    let tile = picture(1, 96, 96);
    job.put("ome.tif", &tiff(&tile, OME));
    job.put("aperio.tif", &tiff(&tile, "Aperio Image Library |AppMag = 20|MPP = 0.5"));
    job.put("printer.tif", &tiff(&tile, "300 dots an inch"));
    job.put("plain.png", &png(&tile));
    let said = job.run(&["--seed", "1"]);
    let stated = "OME-XML PhysicalSizeX 0.25 µm of 1 tiles, Aperio MPP 0.5 µm of 1 tiles";
    assert!(said.contains(stated), "{said}");
    let made = job.made();
    let record = |stem: &str| -> Value {
        serde_json::from_slice(&made[&format!("{stem}.v00.json")]).unwrap()
    };
    let (ome, aperio) = (record("ome"), record("aperio"));
    assert_eq!((&ome["mpp"], &ome["windows"]), (&json!(0.25), &json!(4)));
    assert_eq!(ome["mpp_from"], "OME-XML PhysicalSizeX");
    assert_eq!((&aperio["mpp"], &aperio["mpp_from"]), (&json!(0.5), &json!("Aperio MPP")));
    for stem in ["printer", "plain"] {
        let record = record(stem);
        assert!(record.get("mpp").is_none() && record.get("mpp_from").is_none(), "{record}");
    }
    // Named, it holds for all, and is what the file would have said.
    let named = job.run_into("named", &["--seed", "1", "--mpp", "0.25"]);
    assert!(named["plain.v00.png"] == made["ome.v00.png"]);
    assert!(named["aperio.v00.png"] == made["ome.v00.png"]);
    let record: Value = serde_json::from_slice(&named["ome.v00.json"]).unwrap();
    assert!(record["mpp"] == 0.25 && record.get("mpp_from").is_none(), "{record}");
    assert_same(&job.run_into("again", &["--seed", "1"]), &made);
}
