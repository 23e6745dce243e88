//! PyTorch's checkpoint: a zip with `data.pkl`, which names tensors, and `data/<key>`, which hold their numbers.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use zip::ZipArchive;

use super::ImportError;
use super::pickle::{Id, Pickle, Value};
use restain_bundle::{Tensor, Weights};

type Archive = ZipArchive<BufReader<File>>;

pub(super) fn read(path: &Path) -> Result<Weights, ImportError> {
    let file =
        File::open(path).map_err(|source| ImportError::Open { path: path.to_owned(), source })?;
    let mut archive = ZipArchive::new(BufReader::new(file))
        .map_err(|source| ImportError::NotAZip { path: path.to_owned(), source })?;
    let pickle_entry = archive
        .file_names()
        .find(|name| name.ends_with("/data.pkl"))
        .map(str::to_owned)
        .ok_or(ImportError::NoPickle)?;
    let root = pickle_entry.trim_end_matches("data.pkl").to_owned();
    let byte_order = format!("{root}byteorder");
    if archive.file_names().any(|name| name == byte_order) {
        let order = read_entry(&mut archive, &byte_order)?;
        if order != b"little" {
            return Err(ImportError::ByteOrder(String::from_utf8_lossy(&order).into_owned()));
        }
    }
    let pickle = Pickle::parse(&read_entry(&mut archive, &pickle_entry)?)?;
    let mut tensors = BTreeMap::new();
    for &(key, value) in state_dict(&pickle).ok_or(ImportError::NoStateDict)? {
        let name = pickle.text(key).ok_or(ImportError::NoStateDict)?.to_owned();
        let refused = |problem: String| ImportError::Tensor { name: name.clone(), problem };
        let view = View::parse(&pickle, value).ok_or_else(|| refused("not a tensor".to_owned()))?;
        let bytes = read_entry(&mut archive, &format!("{root}data/{}", view.storage))?;
        let tensor = view.gather(&bytes).map_err(refused)?;
        tensors.insert(name, tensor);
    }
    Weights::from_tensors(tensors)
        .map_err(|source| ImportError::Weights { path: path.to_owned(), source })
}

/// The dict of tensors: the whole checkpoint, or what it holds under `model`.
fn state_dict(pickle: &Pickle) -> Option<&[(Id, Id)]> {
    let dict = |id: Id| {
        if let Value::Dict(items) = pickle.get(id) { Some(items.as_slice()) } else { None }
    };
    let root = dict(pickle.root)?;
    let nested = root
        .iter()
        .find(|(key, _)| pickle.text(*key) == Some("model"))
        .and_then(|(_, value)| dict(*value));
    nested.or(Some(root)).filter(|items| !items.is_empty())
}

/// A tensor as the pickle describes it: a view of a storage.
struct View {
    storage: String,
    /// `FloatStorage` and the like.
    kind: String,
    offset: usize,
    shape: Vec<usize>,
    stride: Vec<usize>,
}

impl View {
    fn parse(pickle: &Pickle, id: Id) -> Option<Self> {
        let Value::Call { callee, arguments } = *pickle.get(id) else { return None };
        let arguments = pickle.tuple(arguments)?;
        match pickle.global(callee)? {
            // (tensor, requires_grad, hooks)
            "torch._utils _rebuild_parameter" => match *pickle.get(*arguments.first()?) {
                // One level only: a parameter holds a tensor, never another parameter.
                Value::Call { callee, arguments }
                    if pickle.global(callee)? == "torch._utils _rebuild_tensor_v2" =>
                {
                    Self::rebuild(pickle, pickle.tuple(arguments)?)
                }
                _ => None,
            },
            "torch._utils _rebuild_tensor_v2" => Self::rebuild(pickle, arguments),
            _ => None,
        }
    }

    /// (storage, offset, size, stride, requires_grad, hooks)
    fn rebuild(pickle: &Pickle, arguments: &[Id]) -> Option<Self> {
        let [storage, offset, shape, stride, ..] = *arguments else { return None };
        let Value::Persistent(storage) = *pickle.get(storage) else { return None };
        // ("storage", class, key, device, elements)
        let [_, class, key, ..] = *pickle.tuple(storage)? else { return None };
        let counts = |id: Id| {
            pickle.tuple(id)?.iter().map(|&item| pickle.count(item)).collect::<Option<Vec<_>>>()
        };
        Some(Self {
            storage: pickle.text(key)?.to_owned(),
            kind: pickle.global(class)?.to_owned(),
            offset: pickle.count(offset)?,
            shape: counts(shape)?,
            stride: counts(stride)?,
        })
    }

    /// The view's numbers, row-major.
    fn gather(&self, bytes: &[u8]) -> Result<Tensor, String> {
        let storage = decode(&self.kind, bytes)?;
        let too_large = || {
            format!(
                "shape {:?} with stride {:?} reaches beyond its storage of {}",
                self.shape,
                self.stride,
                storage.len()
            )
        };
        let count = self
            .shape
            .iter()
            .try_fold(1_usize, |product, &dim| product.checked_mul(dim))
            .ok_or_else(too_large)?;
        if self.shape.len() != self.stride.len() || count > storage.len() {
            return Err(too_large());
        }
        let mut data = Vec::with_capacity(count);
        let mut index = vec![0; self.shape.len()];
        for _ in 0..count {
            let mut steps = index.iter().zip(&self.stride);
            let place = steps.try_fold(self.offset, |sum, (&at, &stride): (&usize, &usize)| {
                sum.checked_add(at.checked_mul(stride)?)
            });
            data.push(*place.and_then(|place| storage.get(place)).ok_or_else(too_large)?);
            for dim in (0..index.len()).rev() {
                index[dim] += 1;
                if index[dim] < self.shape[dim] {
                    break;
                }
                index[dim] = 0;
            }
        }
        Ok(Tensor { shape: self.shape.clone(), data })
    }
}

fn decode(kind: &str, bytes: &[u8]) -> Result<Vec<f32>, String> {
    fn numbers<const N: usize>(bytes: &[u8], number: fn([u8; N]) -> f32) -> Vec<f32> {
        bytes
            .chunks_exact(N)
            .map(|chunk| number(chunk.try_into().expect("chunks of N bytes")))
            .collect()
    }
    match kind {
        "torch FloatStorage" => Ok(numbers(bytes, f32::from_le_bytes)),
        "torch HalfStorage" => Ok(numbers(bytes, |two| half::f16::from_le_bytes(two).to_f32())),
        "torch BFloat16Storage" => {
            Ok(numbers(bytes, |two| half::bf16::from_le_bytes(two).to_f32()))
        }
        "torch DoubleStorage" => Ok(numbers(bytes, |eight| f64::from_le_bytes(eight) as f32)),
        kind => Err(format!("{kind} is not a storage of floating-point numbers")),
    }
}

fn read_entry(archive: &mut Archive, entry: &str) -> Result<Vec<u8>, ImportError> {
    let mut file = archive
        .by_name(entry)
        .map_err(|source| ImportError::Entry { entry: entry.to_owned(), source })?;
    // The size in the header is a claim: memory grows with what is really there.
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)
        .map_err(|source| ImportError::Read { entry: entry.to_owned(), source })?;
    Ok(bytes)
}
