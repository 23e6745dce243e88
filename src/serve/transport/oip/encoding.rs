//! A BYTES tensor as bytes: before every element its length, four bytes, little-endian.

use bytes::{Bytes, BytesMut};

use crate::serve::transport::bounds::MAX_ITEMS;

/// The elements, where they lie.
///
/// # Errors
/// What is wrong with them, to stand behind the tensor's name.
pub(super) fn split(mut bytes: Bytes) -> Result<Vec<Bytes>, String> {
    let mut elements = Vec::new();
    while !bytes.is_empty() {
        if elements.len() == MAX_ITEMS {
            return Err(format!("has more than {MAX_ITEMS} elements"));
        }
        let Some(&length) = bytes.first_chunk() else {
            return Err(format!("ends within the length of element {}", elements.len()));
        };
        let rest = bytes.split_off(4);
        let length = u32::from_le_bytes(length) as usize;
        if length > rest.len() {
            return Err(format!(
                "has {} bytes left for element {}, which says that it has {length}",
                rest.len(),
                elements.len()
            ));
        }
        elements.push(rest.slice(..length));
        bytes = rest.slice(length..);
    }
    Ok(elements)
}

pub(super) fn join(elements: &[impl AsRef<[u8]>]) -> Bytes {
    let elements = elements.iter().map(AsRef::as_ref);
    let mut bytes = BytesMut::with_capacity(elements.clone().map(|one| 4 + one.len()).sum());
    for element in elements {
        // Ids of styles, a few letters, and pictures, which are bounded by their pixels.
        bytes.extend_from_slice(&(element.len() as u32).to_le_bytes());
        bytes.extend_from_slice(element);
    }
    bytes.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_joined_is_split() {
        let texts = ["a/1".to_owned(), String::new(), "ä".to_owned()];
        let elements = split(join(&texts)).unwrap();
        assert_eq!(elements, ["a/1".as_bytes(), b"", "ä".as_bytes()]);
        assert!(split(Bytes::new()).unwrap().is_empty());
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        for (bytes, said) in [
            (&b"\x01"[..], "within the length of element 0"),
            (b"\x05\0\0\0abc", "has 3 bytes left for element 0, which says that it has 5"),
            (b"\x01\0\0\0a\xff\xff\xff\xff", "element 1, which says that it has 4294967295"),
        ] {
            let error = split(Bytes::from_static(bytes)).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
