//! The files that an ONNX graph names for its numbers, which ONNX Runtime opens by itself. They are
//! found by walking the messages of the file, of which only the lengths are read.
//!
//! Numbers of the fields are those of the standard's `onnx.proto`.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
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

/// Returns the names of the files that the graph in `path` takes numbers from.
///
/// # Errors
/// When the file cannot be read, or is no ONNX model.
pub(crate) fn files(path: &Path) -> io::Result<Vec<String>> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut walk = Walk { file: BufReader::new(file), names: Vec::new() };
    walk.message(Message::Model, length, 0)?;
    walk.names.sort();
    walk.names.dedup();
    Ok(walk.names)
}

struct Walk<R> {
    file: R,
    names: Vec<String>,
}

impl<R: Read + Seek> Walk<R> {
    /// Walks a message of `left` bytes.
    fn message(&mut self, message: Message, mut left: u64, depth: usize) -> io::Result<()> {
        if depth > DEEPEST {
            return Err(invalid("its graphs are nested too deep"));
        }
        let (mut key, mut value) = (Vec::new(), Vec::new());
        while left > 0 {
            let tag = self.varint(&mut left)?;
            let length = match tag & 7 {
                0 => {
                    self.varint(&mut left)?;
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
                (_, number, 2) if message.field(number).is_some() => {
                    let field = message.field(number).unwrap_or(message);
                    self.message(field, length, depth + 1)?;
                }
                _ => self.file.seek_relative(i64::try_from(length).map_err(io::Error::other)?)?,
            }
        }
        if key == b"location" {
            self.names.push(String::from_utf8_lossy(&value).into_owned());
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
    fn what_is_no_model_is_an_error() {
        assert!(found(b"").unwrap().is_empty());
        for bytes in [&[0x3A, 9][..], &[0xFF; 12], &[0x0B]] {
            assert!(found(bytes).is_err(), "{bytes:?}");
        }
    }
}
