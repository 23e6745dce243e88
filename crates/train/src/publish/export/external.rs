//! Where each tensor lies in a safetensors file, so that a graph can use it as external data.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Error, ErrorKind, Read};
use std::path::Path;

use safetensors::tensor::Metadata;

use super::graph::ExternalData;

/// Name → span, counted from the start of the file. The graph must stand in the file's directory.
pub(super) fn spans(path: &Path) -> std::io::Result<BTreeMap<String, ExternalData>> {
    let mut file = File::open(path)?;
    let mut length = [0; 8];
    file.read_exact(&mut length)?;
    let header_bytes = u64::from_le_bytes(length);
    let mut header = Vec::new();
    file.take(header_bytes).read_to_end(&mut header)?;
    let metadata: Metadata = serde_json::from_slice(&header)?;
    let data = 8 + header.len();
    let location = path
        .file_name()
        .and_then(|name| name.to_str())
        .ok_or(Error::new(ErrorKind::InvalidInput, "no file name in UTF-8"))?;
    let span = |(from, to): (usize, usize)| ExternalData {
        location: location.to_owned(),
        offset: data + from,
        length: to - from,
    };
    Ok(metadata.tensors().into_iter().map(|(name, info)| (name, span(info.data_offsets))).collect())
}
