//! The exported graphs against a plain implementation of the network in f64, and against vectors of
//! the published code (tests/fixtures/published, see tests/fixtures/README.md).

mod plain;

use std::path::PathBuf;

use prost::Message;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use safetensors::SafeTensors;

use super::onnx::ModelProto;
use super::*;
use crate::publish::import::read_checkpoint;
use restain_bundle::{Bundle, Tensor, layout};
use restain_method::geometry::GeometrySpec;

const NORMALISATION: Normalisation = Normalisation { mean: [0.5; 3], std: [0.25; 3] };

fn small() -> Geometry {
    small_with(false)
}

fn small_with(style_bias: bool) -> Geometry {
    let spec = GeometrySpec {
        image_size: 8,
        in_channels: 3,
        patch_size: 4,
        embed_dim: 24,
        depth: 1,
        num_heads: 2,
        mlp_ratio: 4.0,
        style_bias,
    };
    Geometry::new(spec).unwrap()
}

/// Weights that no symmetry makes easy: uniform in ±0.3, norms around 1.
fn random_weights(geometry: &Geometry) -> Weights {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut uniform = || (rng.next_u32() as f32 / u32::MAX as f32 - 0.5) * 0.6;
    let tensors = layout(geometry).into_iter().map(|(name, shape)| {
        let centre = if name.contains("norm") && name.ends_with("weight") { 1.0 } else { 0.0 };
        let data = (0..shape.iter().product()).map(|_| centre + uniform()).collect();
        (name, Tensor { shape, data })
    });
    Weights { tensors: tensors.collect() }
}

fn request<'a>(
    weights: &'a Weights,
    geometry: Geometry,
    out: &'a Path,
    reference: Reference<'a>,
) -> ExportRequest<'a> {
    ExportRequest {
        weights,
        geometry,
        pixel_order: PixelOrder::Interleaved,
        normalisation: NORMALISATION,
        name: "tiny".to_owned(),
        version: "1".to_owned(),
        provenance: json!({ "recipe": "test" }),
        out,
        overwrite: false,
        int8: true,
        reference,
        trained: false,
    }
}

fn open(bundle: &Bundle, precision: Precision) -> Encoder {
    let path = bundle.encoder_path(precision).unwrap();
    let options = EncoderOptions::cpu(1);
    Encoder::open(&Runtime::load().unwrap(), &path, &bundle.manifest.geometry, &options).unwrap()
}

/// The bundle of these weights, and the folder that it lies in for as long as that is held.
fn exported(
    weights: &Weights,
    change: impl FnOnce(ExportRequest<'_>) -> ExportRequest<'_>,
) -> (tempfile::TempDir, Bundle) {
    let home = tempfile::tempdir().unwrap();
    let geometry = weights.geometry(small().num_heads(), small().image_size()).unwrap();
    let out = home.path().join("tiny/1");
    let plain = |tiles: &[u8], batch: usize| {
        Ok(plain::encode(weights, &geometry, &NORMALISATION, tiles, batch))
    };
    let bundle =
        export(&change(request(weights, geometry, &out, &plain))).unwrap().publish().unwrap();
    (home, bundle)
}

#[test]
fn the_graph_is_the_network_of_the_paper() {
    is_the_network(small());
}

#[test]
fn the_graph_has_the_style_bias() {
    is_the_network(small_with(true));
}

fn is_the_network(geometry: Geometry) {
    let weights = random_weights(&geometry);
    let (_home, bundle) = exported(&weights, |request| request);
    assert_eq!(bundle.manifest.geometry, geometry);

    let found = bundle.manifest.provenance["export"]["fp32_relative_difference"].as_f64().unwrap();
    assert!(found < 2e-6, "{found}");
    assert_eq!(bundle.manifest.provenance["recipe"], "test");
    assert!(bundle.styles.entries.is_empty());
    assert_eq!(Weights::read(&bundle.dir.join(WEIGHTS_FILE)).unwrap(), weights);
}

#[test]
fn a_tiles_latents_do_not_depend_on_its_batch() {
    for geometry in [small(), small_with(true)] {
        do_not_depend_on_the_batch(geometry);
    }
}

fn do_not_depend_on_the_batch(geometry: Geometry) {
    let weights = random_weights(&geometry);
    let (_home, bundle) = exported(&weights, |request| request);
    let tiles = fixed_tiles(&geometry);
    for precision in Precision::ALL {
        let mut encoder = open(&bundle, precision);
        let together = encoder.encode(&tiles, TILES).unwrap();
        for (index, tile) in tiles.chunks_exact(geometry.tile_bytes()).enumerate() {
            let alone = encoder.encode(tile, 1).unwrap();
            let span = |numbers: usize| index * numbers..(index + 1) * numbers;
            assert_eq!(
                alone.anatomy,
                together.anatomy[span(geometry.tile_anatomy())],
                "{precision}, tile {index}"
            );
            assert_eq!(
                alone.characteristics,
                together.characteristics[span(geometry.tile_characteristics())],
                "{precision}, tile {index}"
            );
        }
    }
}

#[test]
fn int8_stays_near_fp32() {
    let geometry = small();
    let weights = random_weights(&geometry);
    let (_home, bundle) = exported(&weights, |request| request);
    let tiles = fixed_tiles(&geometry);
    let [fp32, int8] = [Precision::Fp32, Precision::Int8]
        .map(|precision| open(&bundle, precision).encode(&tiles, TILES).unwrap());
    let apart = relative_difference(&int8, &fp32);
    assert!(apart > 1e-4 && apart < 0.03, "{apart}");
}

#[test]
fn fp16_stays_nearer_and_in_few_operators() {
    let geometry = small();
    let weights = random_weights(&geometry);
    let (_home, bundle) = exported(&weights, |request| request);
    let tiles = fixed_tiles(&geometry);
    let [fp32, fp16] = [Precision::Fp32, Precision::Fp16]
        .map(|precision| open(&bundle, precision).encode(&tiles, TILES).unwrap());
    let apart = relative_difference(&fp16, &fp32);
    assert!(apart > 1e-5 && apart < 0.005, "{apart}");
    let recorded = bundle.manifest.provenance["export"]["fp16"]["psnr_db"].as_f64().unwrap();
    assert!(recorded > FP16_PSNR, "{recorded}");

    let file = std::fs::metadata(bundle.encoder_path(Precision::Fp16).unwrap()).unwrap().len();
    assert!(file < 20_000, "{file} bytes: it holds no weights");
    let profile = open(&bundle, Precision::Fp16).profile(1).unwrap();
    let nodes = |operator: &str| {
        profile
            .operators
            .iter()
            .filter(|of| of.operator == operator)
            .map(|of| of.nodes)
            .sum::<usize>()
    };
    // What computes shapes would run on the CPU, wherever the rest runs.
    assert_eq!(
        (nodes("Attention"), nodes("SkipLayerNormalization"), nodes("BiasGelu"), nodes("Shape")),
        (1, 2, 1, 0),
        "{profile}"
    );
    assert_eq!(profile.nodes().into_keys().collect::<Vec<_>>(), ["CPUExecutionProvider"]);
}

/// Operators for which ONNX Runtime's CUDA provider has kernels in fp16 (of pixels: uint8 and f32)
/// as of opset 18.
const ON_CUDA: [&str; 11] = [
    "Add",
    "Attention",
    "BiasGelu",
    "Cast",
    "Concat",
    "LayerNormalization",
    "MatMul",
    "Mul",
    "Pad",
    "SkipLayerNormalization",
    "Slice",
];

#[test]
fn the_fp16_graph_has_nothing_that_a_gpu_cannot_run() {
    let weights = random_weights(&small_with(true));
    let (_home, bundle) = exported(&weights, |request| request);
    let model = ModelProto::decode(
        std::fs::read(bundle.encoder_path(Precision::Fp16).unwrap()).unwrap().as_slice(),
    )
    .unwrap();
    let standard = model.opset_import.iter().find(|of| of.domain.is_empty()).unwrap();
    assert_eq!(standard.version, 18);
    for node in model.graph.unwrap().node {
        let moves = ["Reshape", "Transpose"].contains(&node.op_type.as_str());
        assert!(moves || ON_CUDA.contains(&node.op_type.as_str()), "{}", node.op_type);
    }
}

#[test]
fn what_fp16_cannot_hold_is_left_out() {
    let mut weights = random_weights(&small());
    // 70,000 is more than its largest number.
    weights.tensors.get_mut("encoder.blocks.0.mlp.fc2.bias").unwrap().data[0] = 70_000.0;
    let (_home, bundle) =
        exported(&weights, |request| ExportRequest { int8: false, trained: true, ..request });
    assert_eq!(bundle.manifest.encoders.into_keys().collect::<Vec<_>>(), [Precision::Fp32]);
    assert_eq!(bundle.manifest.provenance["export"]["fp16"]["left_out"], true);
    let file = bundle.dir.join(Precision::Fp16.file_name());
    assert!(!file.exists());
    let error = add_fp16(&mut BundleDraft::of(&bundle.dir).unwrap()).unwrap_err();
    assert!(matches!(error, ExportError::Fp16Disagrees { .. }), "{error}");
    assert!(Bundle::open(&bundle.dir).is_ok() && !file.exists());
}

#[test]
fn a_bundle_without_fp16_is_given_it() {
    let weights = random_weights(&small());
    let (_home, whole) = exported(&weights, |request| request);
    let mut draft = BundleDraft::of(&whole.dir).unwrap();
    draft.manifest.encoders.remove(&Precision::Fp16);
    draft.remove(Precision::Fp16.file_name()).unwrap();
    draft.publish().unwrap();
    let mut draft = BundleDraft::of(&whole.dir).unwrap();
    assert!(add_fp16(&mut draft).unwrap() > FP16_PSNR);
    draft.publish().unwrap();
    assert_eq!(Bundle::open(&whole.dir).unwrap().digest, whole.digest);
}

/// One large weight in every row of a layer leaves the others no levels.
fn spoil(weights: &mut Weights, layer: &str) {
    let weight = weights.tensors.get_mut(&format!("{layer}.weight")).unwrap();
    weight.data.iter_mut().step_by(weight.shape[1]).for_each(|number| *number = 60.0);
}

#[test]
fn layers_that_int8_would_ruin_stay_in_fp32() {
    let mut weights = random_weights(&small());
    let layer = "encoder.blocks.0.mlp.fc2";
    spoil(&mut weights, layer);
    let (_home, bundle) = exported(&weights, |request| ExportRequest { trained: true, ..request });
    let record = &bundle.manifest.provenance["export"]["int8"];
    assert_eq!(record["layers_kept_in_fp32"], json!([layer]), "{record}");
    assert!(record["psnr_db"].as_f64().unwrap() >= INT8_PSNR, "{record}");
}

#[test]
fn weights_that_do_not_agree_leave_nothing_behind() {
    let geometry = small();
    let weights = random_weights(&geometry);
    let home = tempfile::tempdir().unwrap();
    let out = home.path().join("1");
    let off = |tiles: &[u8], batch: usize| {
        let mut encodings = plain::encode(&weights, &geometry, &NORMALISATION, tiles, batch);
        encodings.anatomy[5] += 0.01;
        Ok(encodings)
    };
    let error = export(&request(&weights, geometry, &out, &off)).unwrap_err();
    assert!(matches!(error, ExportError::Fp32Disagrees { found } if found > 1e-4), "{error}");
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
}

#[test]
fn a_nan_never_agrees() {
    let encodings = |value: f32| Encodings {
        batch: 1,
        anatomy: vec![value, 1.0],
        characteristics: vec![1.0, 2.0],
    };
    assert_eq!(relative_difference(&encodings(f32::NAN), &encodings(1.0)), f64::INFINITY);
    assert_eq!(relative_difference(&encodings(1.0), &encodings(1.0)), 0.0);
}

fn reference_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/published")
}

/// The published code's latents of its own tiles, CLS dropped and halves apart.
fn published(dir: &Path, geometry: &Geometry) -> (Vec<u8>, Encodings) {
    let bytes = std::fs::read(dir.join("uint8.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tiles = file.tensor("tiles").unwrap();
    let z: Vec<f32> = bytemuck::pod_collect_to_vec(file.tensor("z").unwrap().data());
    let half = geometry.half();
    let (mut anatomy, mut characteristics) = (Vec::new(), Vec::new());
    for tile in z.chunks_exact((geometry.patches() + 1) * geometry.embed_dim()) {
        for token in tile[geometry.embed_dim()..].chunks_exact(geometry.embed_dim()) {
            anatomy.extend_from_slice(&token[..half]);
            characteristics.extend_from_slice(&token[half..]);
        }
    }
    (tiles.data().to_vec(), Encodings { batch: tiles.shape()[0], anatomy, characteristics })
}

#[test]
fn a_published_checkpoint_exports_to_the_published_latents() {
    let dir = reference_dir();
    let weights = read_checkpoint(&dir.join("checkpoint_best.pth")).unwrap();
    let geometry = weights.geometry(4, 32).unwrap();
    let home = tempfile::tempdir().unwrap();
    let out = home.path().join("tiny/1");
    let plain = |tiles: &[u8], batch: usize| {
        Ok(plain::encode(&weights, &geometry, &NORMALISATION, tiles, batch))
    };
    let bundle = export(&request(&weights, geometry, &out, &plain)).unwrap().publish().unwrap();

    let (tiles, expected) = published(&dir, &geometry);
    let found = open(&bundle, Precision::Fp32).encode(&tiles, expected.batch).unwrap();
    let furthest =
        |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(furthest(&found.anatomy, &expected.anatomy) < 1e-4);
    assert!(furthest(&found.characteristics, &expected.characteristics) < 1e-4);
}
