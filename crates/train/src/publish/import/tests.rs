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

/// A checkpoint with one entry `w`: the pickle `{"w": _rebuild_tensor_v2((storage 0 of `kind`),
/// offset, (2, 2), stride)}`.
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

/// What the error and its sources say.
fn refusal(path: &Path) -> String {
    let error = read_checkpoint(path).unwrap_err();
    let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |e| e.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[test]
fn every_refusal_names_its_reason() {
    let home = tempfile::tempdir().unwrap();
    let data = [0; 32];
    let tensor =
        |kind, offset, stride| refusal(&checkpoint(home.path(), kind, offset, stride, &data));
    let pickle = |bytes: &[u8]| refusal(&write_zip(home.path(), bytes, &data));
    for (refused, reason) in [
        (tensor("FloatStorage", 6, [2, 1]), "storage"),
        (tensor("LongStorage", 0, [2, 1]), "w is a tensor of I64, and must be of"),
        (pickle(b"\x80\x02}."), "no state dict"),
        // A call to os.system: it is not made, and there is no dict of tensors.
        (pickle(b"cos\nsystem\nX\x04\0\0\0true\x85R."), "neither .safetensors nor a PyTorch"),
        (pickle(b"X\xff\xff\xff\xff"), "neither .safetensors nor a PyTorch"),
        (pickle(b"h\x05."), "memo reference 5"),
        (pickle(b"t."), "neither .safetensors nor a PyTorch"),
    ] {
        assert!(refused.contains(reason), "{refused}, not {reason}");
    }
}

/// A call to os.system beside a tensor changes nothing: it is neither made nor needed.
#[test]
fn nothing_in_a_checkpoint_is_executed() {
    let home = tempfile::tempdir().unwrap();
    let mark = home.path().join("executed");
    let command = format!("touch {}", mark.display());
    let mut pickle = b"\x80\x02cos\nsystem\nX".to_vec();
    pickle.extend((command.len() as u32).to_le_bytes());
    pickle.extend(command.bytes());
    pickle.extend(b"\x85R.");
    refusal(&write_zip(home.path(), &pickle, &[]));
    assert!(!mark.exists());
}

#[test]
fn a_small_file_cannot_ask_for_much_memory() {
    let home = tempfile::tempdir().unwrap();
    // A view of 200 × 200 × 200 numbers, all of them the first of the storage.
    let mut pickle =
        b"\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storage".to_vec();
    pickle.extend(b"ctorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x08tQK\0");
    pickle.extend(b"K\xc8K\xc8K\xc8\x87K\0K\0K\0\x87\x89)tRs.");
    let said = refusal(&write_zip(home.path(), &pickle, &[0; 32]));
    assert!(said.contains("take 32000000 bytes, more than 16 times"), "{said}");

    // Each tuple holds the one before it twice: 2^40 values when written out.
    let mut pickle = b"\x80\x02)q\0".to_vec();
    pickle.extend((0..40).flat_map(|n: u8| [b'h', n, b'h', n, 0x86, b'q', n + 1]));
    pickle.push(b'.');
    let said = refusal(&write_zip(home.path(), &pickle, &[]));
    assert!(said.contains("memo bomb"), "{said}");
}
