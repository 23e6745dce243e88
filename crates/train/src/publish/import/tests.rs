use std::io::Write;
use std::path::Path;

use super::*;

fn reference_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/published")
}

#[test]
fn both_published_forms_make_the_same_kind_of_model() {
    let dir = reference_dir();
    for file in ["checkpoint_best.pth", "checkpoint_latest.pth"] {
        let weights = read_checkpoint(&dir.join(file)).unwrap();
        let geometry = weights.geometry(4, 32).unwrap();
        assert_eq!(
            (geometry.embed_dim(), geometry.depth(), geometry.patch_size()),
            (96, 2, 8),
            "{file}"
        );
    }
}

#[test]
fn safetensors_are_read_as_they_are() {
    let dir = reference_dir();
    let weights = read_checkpoint(&dir.join("checkpoint_best.pth")).unwrap();
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("w.safetensors");
    weights.write(&path).unwrap();
    assert_eq!(read_checkpoint(&path).unwrap(), weights);
}

/// A checkpoint with one entry `w`: the pickle `{"w": _rebuild_tensor_v2((storage 0 of `kind`), offset, (2, 2), stride)}`.
fn checkpoint(dir: &Path, kind: &str, offset: u8, stride: [u8; 2], data: &[u8]) -> PathBuf {
    let mut pickle =
        b"\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storage".to_vec();
    pickle.extend(format!("ctorch\n{kind}\n").bytes());
    pickle.extend(b"X\x01\0\0\x000X\x03\0\0\0cpuK\x08tQK");
    pickle.push(offset);
    pickle.extend(b"K\x02K\x02\x86K");
    pickle.push(stride[0]);
    pickle.push(b'K');
    pickle.push(stride[1]);
    pickle.extend(b"\x86\x89)tRs.");
    write_zip(dir, &pickle, data)
}

fn write_zip(dir: &Path, pickle: &[u8], data: &[u8]) -> PathBuf {
    let path = dir.join("c.pth");
    let mut zip = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
    let stored =
        zip::write::FileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, bytes) in
        [("c/data.pkl", pickle), ("c/byteorder", b"little".as_slice()), ("c/data/0", data)]
    {
        zip.start_file(name, stored).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
    path
}

#[test]
fn strided_views_are_gathered_row_by_row() {
    let home = tempfile::tempdir().unwrap();
    let data: Vec<u8> = (0..8_u8).flat_map(|n| f32::from(n).to_le_bytes()).collect();
    let read = |offset, stride| {
        read_checkpoint(&checkpoint(home.path(), "FloatStorage", offset, stride, &data))
            .unwrap()
            .tensors["w"]
            .clone()
    };
    assert_eq!(read(0, [2, 1]).data, [0.0, 1.0, 2.0, 3.0]);
    // Transposed, from the third number on.
    assert_eq!(read(2, [1, 2]).data, [2.0, 4.0, 3.0, 5.0]);
}

#[test]
fn every_refusal_names_its_reason() {
    let home = tempfile::tempdir().unwrap();
    let refused = |path: PathBuf| {
        let error = read_checkpoint(&path).unwrap_err();
        let source = std::error::Error::source(&error)
            .map(|source| format!(": {source}"))
            .unwrap_or_default();
        format!("{error}{source}")
    };
    let data = [0; 32];
    assert!(
        refused(checkpoint(home.path(), "FloatStorage", 6, [2, 1], &data))
            .contains("reaches beyond its storage of 8")
    );
    assert!(
        refused(checkpoint(home.path(), "LongStorage", 0, [2, 1], &data))
            .contains("torch LongStorage is not a storage")
    );
    assert!(refused(write_zip(home.path(), b"\x80\x02}.", &data)).contains("no state dict"));
    // A call to os.system: it is not made, and its result is no dict.
    assert!(
        refused(write_zip(home.path(), b"cos\nsystem\nX\x04\0\0\0true\x85R.", &data))
            .contains("no state dict")
    );
    assert!(
        refused(write_zip(home.path(), b"ios\nsystem\n.", &data))
            .contains("instruction 0x69 at byte 0")
    );
    assert!(
        refused(write_zip(home.path(), b"X\xff\xff\xff\xff", &data)).contains("ends in the middle")
    );
    assert!(refused(write_zip(home.path(), b"h\x05.", &data)).contains("recalls value 5"));
    assert!(
        refused(write_zip(home.path(), b"t.", &data)).contains("takes more values than it made")
    );
    std::fs::write(home.path().join("old.pth"), b"\x80\x02\x8a\x0al\xfc").unwrap();
    assert!(refused(home.path().join("old.pth")).contains("torch.save"));
}
