//! The head of a safetensors body, so that the numbers behind it are sent from where they lie and
//! copied nowhere.

use std::collections::BTreeMap;

use safetensors::Dtype;
use serde_json::{Map, Value, json};

/// One tensor, in the order in which the numbers follow.
pub(super) struct TensorHead {
    pub name: &'static str,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
}

/// Length, then JSON padded to eight bytes, as the format asks. The same tensors and metadata give
/// the same bytes.
pub(super) fn head(tensors: &[TensorHead], metadata: BTreeMap<&str, String>) -> Vec<u8> {
    let mut entries = Map::from_iter([("__metadata__".to_owned(), json!(metadata))]);
    let mut start = 0;
    for TensorHead { name, dtype, shape } in tensors {
        let end = start + shape.iter().product::<usize>() * dtype.bitsize() / 8;
        entries.insert(
            (*name).to_owned(),
            json!({"dtype": dtype, "shape": shape, "data_offsets": [start, end]}),
        );
        start = end;
    }
    let mut text = Value::Object(entries).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    [&(text.len() as u64).to_le_bytes()[..], &text].concat()
}

#[cfg(test)]
mod tests {
    use safetensors::SafeTensors;

    use super::*;

    #[test]
    fn it_is_what_the_format_asks() {
        let tensors = [
            TensorHead { name: "b", dtype: Dtype::F16, shape: vec![2, 3] },
            TensorHead { name: "a", dtype: Dtype::U8, shape: vec![5] },
        ];
        let mut bytes = head(&tensors, BTreeMap::from([("said", "\"quoted\"".to_owned())]));
        assert_eq!(bytes.len() % 8, 0);
        bytes.extend(0..17);
        let (_, read) = SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!(read.metadata().as_ref().unwrap()["said"], "\"quoted\"");
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let (b, a) = (file.tensor("b").unwrap(), file.tensor("a").unwrap());
        assert_eq!((b.dtype(), b.shape(), b.data()[0]), (Dtype::F16, &[2, 3][..], 0));
        assert_eq!((a.dtype(), a.shape(), a.data()[0]), (Dtype::U8, &[5][..], 12));
    }
}
