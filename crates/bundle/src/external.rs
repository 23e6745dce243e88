//! The tensors of an ONNX graph whose numbers lie in other files, which ONNX Runtime opens by
//! itself. They are found by walking the messages of the file, of which little more than the
//! lengths is read.
//!
//! Numbers of the fields are those of the standard's `onnx.proto`.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

/// Longest name that is read; a longer one is of no bundle.
const LONGEST: u64 = 4096;
/// Graphs within graphs, at most: the walk is as deep.
const DEEPEST: usize = 100;

/// A message on the way to a name.
#[derive(Clone, Copy)]
enum Message {
    Model,
    Graph,
    Node,
    Attribute,
    Function,
    Tensor,
    SparseTensor,
    /// A key and a value.
    Entry,
}

impl Message {
    /// The message that is a field of this one, where a name may be in it.
    fn field(self, number: u64) -> Option<Self> {
        use Message as M;
        Some(match (self, number) {
            (M::Model, 7) => M::Graph,
            (M::Model, 25) | (M::Function, 11) => M::Function,
            (M::Function, 7) | (M::Graph, 1) => M::Node,
            (M::Graph, 5) => M::Tensor,
            (M::Graph, 15) => M::SparseTensor,
            (M::Node, 5) => M::Attribute,
            (M::Attribute, 5 | 10) => M::Tensor,
            (M::Attribute, 6 | 11) => M::Graph,
            (M::Attribute, 22 | 23) => M::SparseTensor,
            (M::SparseTensor, 1 | 2) => M::Tensor,
            (M::Tensor, 13) => M::Entry,
            _ => return None,
        })
    }
}

/// Bytes of the weights of an encoder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EncoderBytes {
    /// Of which each session has its own: those in the graph.
    pub own: u64,
    /// Of which several sessions can use one copy: [`ExternalTensor::can_be_shared`].
    pub shared: u64,
}

/// Numbers of a graph that lie in another file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExternalTensor {
    /// Its name in the graph; of a tensor within a node it may be empty.
    pub name: String,
    /// The length of each dimension.
    pub shape: Vec<usize>,
    /// The type of the numbers, as in the standard's `TensorProto.DataType`: 1 is f32.
    pub data_type: u64,
    /// Whether it belongs to the graph itself, and not to a node or a graph within it.
    pub is_initializer: bool,
    /// The file, by its name beside the graph.
    pub location: String,
    /// Where its bytes begin in the file.
    pub offset: u64,
    /// How many there are, if the graph says so.
    pub length: Option<u64>,
}

/// `TensorProto.DataType.FLOAT`.
const F32: u64 = 1;

impl ExternalTensor {
    /// Returns whether several sessions can use one copy of it: the graph itself names it, and its
    /// numbers are f32, as many as its shape says.
    pub fn can_be_shared(&self) -> bool {
        let bytes =
            self.shape.iter().try_fold(size_of::<f32>(), |n, length| n.checked_mul(*length));
        let is_f32 = self.data_type == F32 && self.length.is_some();
        self.is_initializer && is_f32 && self.length == bytes.map(|bytes| bytes as u64)
    }

    /// Reads the numbers of a tensor of f32, row-major, from its file in `dir`.
    ///
    /// # Errors
    /// When the file cannot be read, or ends before.
    pub fn read_f32(&self, dir: &Path) -> io::Result<Vec<f32>> {
        let mut file = File::open(dir.join(&self.location))?;
        file.seek(SeekFrom::Start(self.offset))?;
        // The file's length bounds what is allocated, whatever the graph says.
        let length = self.length.unwrap_or(0).min(file.metadata()?.len());
        let mut numbers = vec![0f32; length as usize / size_of::<f32>()];
        file.read_exact(bytemuck::cast_slice_mut(&mut numbers))?;
        Ok(numbers)
    }
}

/// Returns the names of the files that the graph in `path` takes numbers from.
///
/// # Errors
/// When the file cannot be read, or is no ONNX model.
pub(crate) fn files(path: &Path) -> io::Result<Vec<String>> {
    let mut names: Vec<String> = tensors(path)?.into_iter().map(|tensor| tensor.location).collect();
    names.sort();
    names.dedup();
    Ok(names)
}

/// Returns the tensors of the graph in `path` whose numbers lie in other files.
///
/// # Errors
/// When the file cannot be read, or is no ONNX model.
pub(crate) fn tensors(path: &Path) -> io::Result<Vec<ExternalTensor>> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut walk = Walk { file: BufReader::new(file), found: Vec::new() };
    walk.message(Message::Model, length, &mut ExternalTensor::default(), 0)?;
    Ok(walk.found)
}

/// Depth of the tensors of the graph itself: in a graph in a model.
const INITIALIZERS: usize = 2;

struct Walk<R> {
    file: R,
    found: Vec<ExternalTensor>,
}

impl<R: Read + Seek> Walk<R> {
    /// Walks a message of `left` bytes, part of `of` if it is part of a tensor.
    fn message(
        &mut self,
        message: Message,
        mut left: u64,
        of: &mut ExternalTensor,
        depth: usize,
    ) -> io::Result<()> {
        if depth > DEEPEST {
            return Err(invalid("its graphs are nested too deep"));
        }
        let (mut key, mut value) = (Vec::new(), Vec::new());
        while left > 0 {
            let tag = self.varint(&mut left)?;
            let length = match tag & 7 {
                0 => {
                    let number = self.varint(&mut left)?;
                    match (message, tag >> 3) {
                        (Message::Tensor, 1) => of.shape.push(dimension(number)?),
                        (Message::Tensor, 2) => of.data_type = number,
                        _ => {}
                    }
                    0
                }
                1 => 8,
                5 => 4,
                2 => self.varint(&mut left)?,
                _ => return Err(invalid("it is no ONNX model")),
            };
            left = left.checked_sub(length).ok_or_else(|| invalid("it is cut off"))?;
            match (message, tag >> 3, tag & 7) {
                (Message::Entry, 1, 2) => key = self.text(length)?,
                (Message::Entry, 2, 2) => value = self.text(length)?,
                (Message::Tensor, 1, 2) => {
                    let mut left = length;
                    while left > 0 {
                        of.shape.push(dimension(self.varint(&mut left)?)?);
                    }
                }
                // A longer name is passed over: the file of such a tensor is found all the same.
                (Message::Tensor, 8, 2) if length <= LONGEST => of.name = text(self.text(length)?),
                (_, number, 2) if message.field(number).is_some() => {
                    let field = message.field(number).unwrap_or(message);
                    if matches!(field, Message::Tensor) {
                        let mut tensor = ExternalTensor {
                            is_initializer: depth + 1 == INITIALIZERS,
                            ..ExternalTensor::default()
                        };
                        self.message(field, length, &mut tensor, depth + 1)?;
                        if !tensor.location.is_empty() {
                            self.found.push(tensor);
                        }
                    } else {
                        self.message(field, length, of, depth + 1)?;
                    }
                }
                _ => self.file.seek_relative(i64::try_from(length).map_err(io::Error::other)?)?,
            }
        }
        match &key[..] {
            b"location" => {
                // Which of two counts is the runtime's affair: both are found.
                if !of.location.is_empty() {
                    self.found.push(of.clone());
                }
                of.location = text(value);
            }
            b"offset" => of.offset = number(value)?,
            b"length" => of.length = Some(number(value)?),
            _ => {}
        }
        Ok(())
    }

    fn text(&mut self, length: u64) -> io::Result<Vec<u8>> {
        if length > LONGEST {
            return Err(invalid("it names a file at too great a length"));
        }
        let mut text = vec![0; length as usize];
        self.file.read_exact(&mut text)?;
        Ok(text)
    }

    fn varint(&mut self, left: &mut u64) -> io::Result<u64> {
        let mut number = 0;
        for at in 0..10 {
            let mut byte = [0];
            *left = left.checked_sub(1).ok_or_else(|| invalid("it is cut off"))?;
            self.file.read_exact(&mut byte)?;
            number |= u64::from(byte[0] & 0x7F).checked_shl(7 * at).unwrap_or(0);
            if byte[0] & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(invalid("it is no ONNX model"))
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

fn number(bytes: Vec<u8>) -> io::Result<u64> {
    text(bytes).parse().map_err(|_| invalid("a place in another file is no number"))
}

fn dimension(number: u64) -> io::Result<usize> {
    usize::try_from(number).map_err(|_| invalid("a tensor has an impossible dimension"))
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, body: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, body.len() as u8][..], body].concat()
    }

    fn tensor(file: &str) -> Vec<u8> {
        let entry = |key: &str, value: &str| {
            let entry = [field(1, key.as_bytes()), field(2, value.as_bytes())].concat();
            field(13, &entry)
        };
        // A name, numbers that look like an entry, and the file.
        let looks = field(9, &entry("location", "no-file"));
        [field(8, b"weight"), looks, entry("offset", "8"), entry("location", file)].concat()
    }

    fn found(model: &[u8]) -> io::Result<Vec<String>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.onnx");
        std::fs::write(&path, model).unwrap();
        files(&path)
    }

    #[test]
    fn names_are_found_wherever_a_tensor_may_be() {
        let initializer = field(7, &field(5, &tensor("a")));
        let constant = field(7, &field(1, &field(5, &field(5, &tensor("b")))));
        let of_loop = field(1, &field(5, &field(6, &field(5, &tensor("c")))));
        let in_loop = field(7, &of_loop);
        let version = [8, 9];
        let model = [&version[..], &initializer, &constant, &in_loop].concat();
        assert_eq!(found(&model).unwrap(), ["a", "b", "c"]);
    }

    #[test]
    fn an_initializer_is_found_with_its_shape_and_place() {
        let number = |field: u8, number: u8| vec![field << 3, number];
        let whole = [
            number(2, 1),
            field(1, &[3, 5]),
            tensor("a"),
            field(13, &[field(1, b"length"), field(2, b"60")].concat()),
        ];
        let initializer = field(7, &field(5, &whole.concat()));
        let constant = field(7, &field(1, &field(5, &field(5, &tensor("b")))));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.onnx");
        std::fs::write(&path, [initializer, constant].concat()).unwrap();
        let found = tensors(&path).unwrap();
        let first = ExternalTensor {
            name: "weight".to_owned(),
            shape: vec![3, 5],
            data_type: 1,
            is_initializer: true,
            location: "a".to_owned(),
            offset: 8,
            length: Some(60),
        };
        assert_eq!((&found[0], found[1].is_initializer), (&first, false));
    }

    #[test]
    fn no_name_is_so_long_that_its_file_is_missed() {
        let long = |number: u8, body: &[u8]| {
            let length = [body.len() as u8 & 0x7F | 0x80, (body.len() >> 7) as u8];
            [&[number << 3 | 2][..], &length, body].concat()
        };
        let named = [tensor("a"), long(8, &[b'n'; LONGEST as usize + 1])].concat();
        assert_eq!(found(&long(7, &long(5, &named))).unwrap(), ["a"]);
    }

    #[test]
    fn what_is_no_model_is_an_error() {
        assert!(found(b"").unwrap().is_empty());
        for bytes in [&[0x3A, 9][..], &[0xFF; 12], &[0x0B]] {
            assert!(found(bytes).is_err(), "{bytes:?}");
        }
    }
}
