use std::collections::BTreeMap;
use std::error::Error;
use std::fs;

use serde_json::{Value, json};

use super::*;
use restain_method::color::ChannelStats;
use restain_method::geometry::GeometrySpec;
use restain_method::{Geometry, Normalisation, PixelOrder, Style};

const HALF: usize = 12;

fn manifest() -> Manifest {
    let spec = GeometrySpec {
        image_size: 8,
        in_channels: 3,
        patch_size: 4,
        embed_dim: 24,
        depth: 1,
        num_heads: 2,
        mlp_ratio: 4.0,
        style_bias: false,
    };
    Manifest {
        familiar: Familiar::default(),
        schema: SCHEMA.to_owned(),
        name: "tiny".to_owned(),
        version: "1".to_owned(),
        geometry: Geometry::new(spec).unwrap(),
        pixel_order: PixelOrder::Planar,
        normalisation: Normalisation::new([0.7, 0.6, 0.7], [0.1, 0.2, 0.1]).unwrap(),
        encoders: BTreeMap::from([(Precision::Fp32, "encoder.onnx".to_owned())]),
        files: BTreeMap::new(),
        provenance: json!({ "recipe": "test" }),
        quality: json!({}),
    }
}

fn bank() -> StyleBank {
    let mut bank = StyleBank::default();
    for (n, domain) in ["a", "b", "a"].into_iter().enumerate() {
        let source = ChannelStats { mean: [0.5, 0.25, n as f32], std: [0.125; 3] };
        bank.push(domain, Style((0..HALF).map(|i| (n * HALF + i) as f32).collect()), source);
    }
    bank
}

/// A home directory with one bundle in it.
pub(super) fn written() -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("tiny/1");
    let mut draft = BundleDraft::new(&dir, false, manifest()).unwrap();
    draft.add("encoder.onnx", b"a graph").unwrap();
    draft.set_styles(bank()).unwrap();
    draft.publish().unwrap();
    (home, dir)
}

/// Every message of an error's chain.
fn reason(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |error| (*error).source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn refusal(dir: &Path) -> String {
    reason(&Bundle::open(dir).unwrap_err())
}

/// Changes the manifest as it lies on disk.
fn tamper(dir: &Path, change: impl FnOnce(&mut Value)) {
    let path = dir.join(MANIFEST_FILE);
    let mut value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    fs::write(&path, value.to_string()).unwrap();
}

/// Replaces the styles, with the digest to match.
fn replace_styles(dir: &Path, bytes: &[u8]) {
    fs::write(dir.join(STYLES_FILE), bytes).unwrap();
    let digest = file_digest(&dir.join(STYLES_FILE)).unwrap();
    tamper(dir, |value| value["files"][STYLES_FILE] = json!(digest));
}

#[test]
fn what_was_written_is_read_back() {
    let (_home, dir) = written();
    let bundle = Bundle::open(&dir).unwrap();
    assert_eq!(bundle.styles, bank());
    assert_eq!(bundle.styles.entries[2].id, "a/1");
    assert_eq!(bundle.manifest.geometry, manifest().geometry);
    assert_eq!(bundle.digest, file_digest(&dir.join(MANIFEST_FILE)).unwrap());
    assert_eq!(bundle.encoder_path(Precision::Fp32).unwrap(), dir.join("encoder.onnx"));
    let missing = bundle.encoder_path(Precision::Int8).unwrap_err().to_string();
    assert_eq!(missing, "no int8 encoder: this bundle has fp32");
}

#[test]
fn a_flipped_byte_is_refused() {
    let (_home, dir) = written();
    fs::write(dir.join("encoder.onnx"), b"b graph").unwrap();
    assert!(refusal(&dir).contains("encoder.onnx has sha256"), "{}", refusal(&dir));
}

#[test]
fn a_missing_file_is_refused() {
    let (_home, dir) = written();
    fs::remove_file(dir.join("encoder.onnx")).unwrap();
    assert_eq!(refusal(&dir), "encoder.onnx is missing, though the manifest lists it");
}

#[test]
fn names_that_lead_out_of_the_directory_are_refused() {
    for name in
        ["../encoder.onnx", "..", "/etc/passwd", "a/b", "a\\b", "", ".hidden", MANIFEST_FILE]
    {
        let (_home, dir) = written();
        tamper(&dir, |value| value["files"][name] = json!("00"));
        assert!(refusal(&dir).contains("must be a plain name"), "{name}: {}", refusal(&dir));
        let (_home, dir) = written();
        let mut draft = BundleDraft::new(&dir, true, manifest()).unwrap();
        assert!(draft.add(name, b"").is_err(), "{name}");
    }
}

#[test]
fn a_manifest_that_is_not_ours_is_refused() {
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 8] = [
        (
            |value| value["schema"] = json!("restain.bundle/2"),
            "schema is \"restain.bundle/2\", and this program reads \"restain.bundle/1\"",
        ),
        (|value| drop(value.as_object_mut().unwrap().remove("schema")), "missing field `schema`"),
        (|value| value["name"] = json!("../x"), "name is \"../x\""),
        (|value| value["version"] = json!(""), "version is \"\""),
        (|value| value["encoders"] = json!({}), "encoders is empty"),
        (
            |value| value["encoders"]["int8"] = json!("x.onnx"),
            "encoders.int8 is \"x.onnx\", which files does not list",
        ),
        (|value| value["geometry"]["num_heads"] = json!(5), "num_heads 5"),
        (|value| value["normalisation"]["std"][1] = json!(0.0), "std of channel 1 is 0"),
    ];
    for (change, expected) in cases {
        let (_home, dir) = written();
        tamper(&dir, change);
        assert!(refusal(&dir).contains(expected), "{expected}: {}", refusal(&dir));
    }
    // JSON has no NaN: what stands for it is no number.
    let (_home, dir) = written();
    tamper(&dir, |value| value["normalisation"]["std"] = json!([0.1, f64::NAN, 0.1]));
    assert!(refusal(&dir).contains("invalid type: null"), "{}", refusal(&dir));
}

#[test]
fn styles_of_another_model_are_refused() {
    let (_home, dir) = written();
    let mut other = StyleBank::default();
    other.push("a", Style(vec![0.0; 24]), ChannelStats { mean: [0.5; 3], std: [0.1; 3] });
    replace_styles(&dir, &other.to_bytes(24).unwrap());
    assert_eq!(
        refusal(&dir),
        "styles.safetensors is not a valid style bank: a style has 24 numbers, and the model's \
        half of embed_dim is 12"
    );
    assert!(matches!(
        other.to_bytes(HALF),
        Err(StylesError::StyleLength { found: 24, expected: HALF })
    ));
}

#[test]
fn styles_that_are_not_numbers_are_refused() {
    let (_home, dir) = written();
    let mut poisoned = bank();
    poisoned.entries[1].source.std[2] = f32::NAN;
    replace_styles(&dir, &poisoned.to_bytes(HALF).unwrap());
    assert_eq!(
        refusal(&dir),
        "styles.safetensors is not a valid style bank: source_std[5] is NaN, and must be finite \
        and not negative"
    );
    let mut poisoned = bank();
    poisoned.entries[2].style.0[0] = f32::INFINITY;
    replace_styles(&dir, &poisoned.to_bytes(HALF).unwrap());
    assert_eq!(
        refusal(&dir),
        "styles.safetensors is not a valid style bank: characteristics[24] is inf, and must be \
        finite"
    );
    let mut lost = bank();
    lost.entries[0].domain = 9;
    replace_styles(&dir, &lost.to_bytes(HALF).unwrap());
    assert_eq!(
        refusal(&dir),
        "styles.safetensors is not a valid style bank: style 0 has domain 9, and there are 2 \
        domains"
    );
    replace_styles(&dir, b"no safetensors");
    assert!(
        refusal(&dir)
            .starts_with("styles.safetensors is not a valid style bank: not a safetensors file"),
        "{}",
        refusal(&dir)
    );
}

#[test]
fn a_dropped_draft_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let mut draft = BundleDraft::new(&home.path().join("1"), false, manifest()).unwrap();
    draft.add("encoder.onnx", b"a graph").unwrap();
    drop(draft);
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
}

#[test]
fn a_bundle_that_would_not_open_is_not_put_in_place() {
    let home = tempfile::tempdir().unwrap();
    let draft = BundleDraft::new(&home.path().join("1"), false, manifest()).unwrap();
    assert!(matches!(draft.publish(), Err(BundleError::UnlistedEncoder { .. })));
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
}

#[test]
fn a_draft_can_be_used_before_it_is_published_and_its_place_is_empty_until_then() {
    let home = tempfile::tempdir().unwrap();
    let place = home.path().join("tiny/1");
    let mut draft = BundleDraft::new(&place, false, manifest()).unwrap();
    draft.add("encoder.onnx", b"a graph").unwrap();
    let so_far = draft.so_far().unwrap();
    assert_eq!(Bundle::open(&so_far.dir).unwrap().digest, so_far.digest);
    assert!(so_far.styles.entries.is_empty());
    draft.set_styles(bank()).unwrap();
    // A file that was hashed already is hashed again when it is written again.
    draft.add("encoder.onnx", b"a better graph").unwrap();
    assert!(!place.exists());
    let bundle = draft.publish().unwrap();
    assert_eq!((bundle.dir.as_path(), &bundle.styles), (place.as_path(), &bank()));
    assert_eq!(Bundle::open(&place).unwrap().digest, bundle.digest);
    assert!(!so_far.dir.exists());
}

#[test]
fn an_existing_bundle_is_replaced_only_when_asked() {
    let (home, dir) = written();
    let refused = BundleDraft::new(&dir, false, manifest());
    assert!(matches!(refused, Err(BundleError::Exists { .. })));
    let before = Bundle::open(&dir).unwrap();
    let mut draft = BundleDraft::new(&dir, true, manifest()).unwrap();
    draft.add("encoder.onnx", b"another graph").unwrap();
    let after = draft.publish().unwrap();
    assert_ne!(after.digest, before.digest);
    assert!(after.styles.entries.is_empty());
    assert_eq!(Bundle::open(&dir).unwrap().digest, after.digest);
    assert_eq!(fs::read_dir(home.path().join("tiny")).unwrap().count(), 1);
}

#[test]
fn a_bundle_that_appears_while_a_draft_is_made_is_not_replaced() {
    let (home, dir) = written();
    let mut draft = BundleDraft::new(&home.path().join("tiny/2"), false, manifest()).unwrap();
    draft.add("encoder.onnx", b"another graph").unwrap();
    fs::rename(&dir, home.path().join("tiny/2")).unwrap();
    assert!(matches!(draft.publish(), Err(BundleError::Exists { .. })));
    assert_eq!(Bundle::open(&home.path().join("tiny/2")).unwrap().styles, bank());
}

#[test]
fn a_copy_changes_what_it_names_and_keeps_the_rest() {
    let (home, dir) = written();
    let mut draft = BundleDraft::of(&dir).unwrap();
    draft.manifest.quality = json!({ "psnr_db": 31.5 });
    let mut styles = draft.styles().clone();
    styles.push("c", Style(vec![1.0; HALF]), ChannelStats { mean: [0.5; 3], std: [0.1; 3] });
    draft.add("samples.png", b"a picture").unwrap();
    draft.set_styles(styles).unwrap();
    let bundle = draft.publish().unwrap();
    let reread = Bundle::open(&dir).unwrap();
    assert_eq!(reread.digest, bundle.digest);
    assert_eq!(reread.manifest.quality["psnr_db"], 31.5);
    assert_eq!(reread.styles.domains, ["a", "b", "c"]);
    assert_eq!(fs::read(dir.join("encoder.onnx")).unwrap(), b"a graph");
    assert!(reread.manifest.files.contains_key("samples.png"));
    assert_eq!(fs::read_dir(home.path().join("tiny")).unwrap().count(), 1);
}

#[test]
fn a_copy_that_fails_keeps_the_old_bundle() {
    let (home, dir) = written();
    let before = Bundle::open(&dir).unwrap();
    let mut draft = BundleDraft::of(&dir).unwrap();
    // Written in place, this would reach into the old bundle through the shared file.
    fs::write(draft.path("encoder.onnx").unwrap(), b"half a gr").unwrap();
    assert!(matches!(draft.add("../outside", b""), Err(BundleError::FileName(_))));
    drop(draft);
    assert_eq!(Bundle::open(&dir).unwrap().digest, before.digest);
    assert_eq!(fs::read(dir.join("encoder.onnx")).unwrap(), b"a graph");
    assert_eq!(fs::read_dir(home.path().join("tiny")).unwrap().count(), 1);
}

#[test]
fn a_bundle_that_is_replaced_while_it_is_read_is_read_whole() {
    let (home, dir) = written();
    let publish = |graph: &[u8]| {
        let mut draft = BundleDraft::of(&dir).unwrap();
        draft.add("encoder.onnx", graph).unwrap();
        draft.publish().unwrap();
    };
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| (0..100u8).for_each(|n| publish(&[n])));
        while !writer.is_finished() {
            Bundle::open(&dir).unwrap();
        }
    });
    assert_eq!(fs::read_dir(home.path().join("tiny")).unwrap().count(), 1);
}

fn weights() -> Weights {
    let tensors = layout(&manifest().geometry).into_iter().map(|(name, shape)| {
        let data = vec![0.5; shape.iter().product()];
        (name, Tensor { shape, data })
    });
    Weights { tensors: tensors.collect() }
}

#[test]
fn a_stylizing_vit_is_refused_by_name() {
    let mut tensors = weights().tensors;
    let kernel = Tensor { shape: vec![3, 3, 5, 5], data: vec![0.0; 225] };
    tensors.insert("post_process_conv.weight".to_owned(), kernel);
    let refused = reason(&Weights::from_tensors(tensors).unwrap_err());
    assert!(refused.contains("Stylizing ViT") && refused.contains("2024"), "{refused}");
}

#[test]
fn weights_say_their_own_geometry() {
    assert_eq!(weights().geometry(2, 8).unwrap(), manifest().geometry);
}

#[test]
fn positions_are_written_for_others_and_checked_when_read() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join(WEIGHTS_FILE);
    weights().write_with_positions(&path, &manifest().geometry).unwrap();
    assert_eq!(Weights::read(&path).unwrap(), weights());
    let with = |data: Vec<f32>, shape: Vec<usize>| {
        let mut tensors = weights().tensors;
        tensors.insert("encoder.pos_embed".to_owned(), Tensor { shape, data });
        reason(&Weights::from_tensors(tensors).unwrap_err())
    };
    assert!(
        with(vec![0.0; 120], vec![1, 5, 24])
            .starts_with("encoder.pos_embed[30] is 0, and the sin-cos positions have 1")
    );
    assert!(with(vec![0.0; 96], vec![1, 4, 24]).contains("must be [1, grid² + 1, embed_dim]"));
}

#[test]
fn weights_that_make_no_encoder_are_refused_by_name() {
    let refused = |change: fn(&mut BTreeMap<String, Tensor>)| {
        let mut weights = weights();
        change(&mut weights.tensors);
        reason(&weights.geometry(2, 8).unwrap_err())
    };
    let missing = refused(|map| drop(map.remove("encoder.blocks.0.attn.qkv.bias")));
    assert_eq!(missing, "encoder.blocks.0.attn.qkv.bias is missing");
    let unknown = refused(|map| {
        drop(map.insert("decoder.weight".to_owned(), Tensor { shape: vec![1], data: vec![0.0] }))
    });
    assert_eq!(unknown, "decoder.weight is not a parameter of this model");
    let misshapen = refused(|map| map.get_mut("encoder.norm.bias").unwrap().shape = vec![23]);
    assert_eq!(misshapen, "encoder.norm.bias has shape [23], and must have [24]");
    let nan = refused(|map| map.get_mut("encoder.cls_token").unwrap().data[3] = f32::NAN);
    assert_eq!(nan, "encoder.cls_token[3] is NaN: weights must be finite");
    let flat =
        refused(|map| map.get_mut("encoder.patch_embed.proj.weight").unwrap().shape = vec![24, 48]);
    assert!(flat.contains("must have [embed_dim, 3, patch_size, patch_size]"), "{flat}");
}

#[test]
fn the_same_styles_are_the_same_bytes() {
    let mut bank = StyleBank::default();
    let stats = ChannelStats { mean: [0.5; 3], std: [0.1; 3] };
    ["a", "b"].iter().for_each(|domain| bank.push(domain, Style(vec![1.0; 12]), stats));
    let first = bank.to_bytes(12).unwrap();
    (0..16).for_each(|_| assert_eq!(bank.to_bytes(12).unwrap(), first));
}
