//! The bundle that the repository ships: whole, small, and as good as it was asked to be.

use std::path::{Path, PathBuf};

use restain_bundle::codec::{self, Limits};
use restain_bundle::{Bundle, Precision};
use restain_engine::{Encoder, EncoderOptions, Runtime};
use restain_method::metrics::psnr;
use restain_method::synth::Synthesiser;

fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo/3")
}

#[test]
fn the_demo_bundle_is_verified_and_has_the_styles_of_five_hospitals() {
    let bundle = Bundle::open(&demo()).unwrap();
    assert_eq!(bundle.styles.domains, ["centre_0", "centre_1", "centre_2", "centre_3", "centre_4"]);
    assert!(Precision::ALL.iter().all(|precision| bundle.encoder_path(*precision).is_ok()));
    let listed: Vec<&str> = bundle.manifest.files.keys().map(String::as_str).collect();
    assert!(listed.contains(&"MODEL_CARD.md") && listed.contains(&"samples.png"), "{listed:?}");
}

#[test]
fn the_demo_bundle_takes_at_most_80_megabytes() {
    let bytes: u64 = std::fs::read_dir(demo())
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!(bytes <= 80_000_000, "{bytes} bytes");
}

#[test]
fn the_demo_bundles_recorded_figures_meet_their_targets() {
    let quality = Bundle::open(&demo()).unwrap().manifest.quality;
    for domain in quality["reconstruction"].as_array().unwrap() {
        assert!(
            domain["psnr_db"].as_f64().unwrap() >= 32.0 && domain["ssim"].as_f64().unwrap() >= 0.93,
            "{domain}"
        );
    }
    let vit = &quality["mean"]["vit"];
    assert!(vit["left"].as_f64().unwrap() <= 0.2 && vit["ssim"].as_f64().unwrap() >= 0.85, "{vit}");
}

#[test]
fn the_demo_bundles_fp16_encoder_reconstructs_at_45_db_of_fp32() {
    let bundle = Bundle::open(&demo()).unwrap();
    let manifest = &bundle.manifest;
    let picture =
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/tile.png")).unwrap();
    let tile = codec::decode(&picture, &Limits::of_tile(1 << 20)).unwrap();
    let synthesiser =
        Synthesiser::new(manifest.geometry, manifest.pixel_order, manifest.normalisation);
    let reconstruct = |precision| {
        let graph = bundle.encoder_path(precision).unwrap();
        let mut encoder = Encoder::open(
            &Runtime::load().unwrap(),
            &graph,
            &manifest.geometry,
            &EncoderOptions::cpu(1),
        )
        .unwrap();
        let encodings = encoder.encode(&tile.pixels, 1).unwrap();
        let mut out = vec![0; manifest.geometry.tile_bytes()];
        synthesiser.aligned(
            &encodings.anatomy,
            &encodings.characteristics,
            &mut synthesiser.scratch(),
            &mut out,
        );
        out
    };
    let (fp16, fp32) = (reconstruct(Precision::Fp16), reconstruct(Precision::Fp32));
    assert!(fp16 != fp32 && psnr(&fp16, &fp32) >= 45.0, "{} dB", psnr(&fp16, &fp32));
}
