//! Samples out of the entries of a tar, and entries out of samples.

use std::io::{self, Read};
use std::ops::ControlFlow;

use bytes::Bytes;

use crate::augment::maker::Variant;
use crate::augment::tile::{ENDINGS, number};
use restain_bundle::codec::{ImageFormat, split_name};

const PROVENANCE: &str = "restain.json";
/// What ends a tar: two empty blocks.
pub(super) const END: [u8; 1024] = [0; 1024];

pub(super) enum Item {
    Sample(Sample),
    /// A file whose name has no dot, or begins with one, belongs to no sample, and is carried
    /// along.
    Loose {
        path: String,
        bytes: Bytes,
    },
}

pub(super) struct Sample {
    /// With the folders before it.
    pub key: String,
    pub fields: Vec<Field>,
}

pub(super) struct Field {
    /// What stands behind the first dot.
    pub name: String,
    pub bytes: Bytes,
}

/// Why a sample has no tile.
#[derive(Debug)]
pub(super) enum NoTile {
    None(String),
    /// The fields that could be it.
    Several(String),
}

/// Reads the items of a tar, in order, each with where the tar has been read to. `emit` may end it.
///
/// # Errors
/// In words, what is wrong with the tar.
pub(super) fn read<B>(
    tar: impl Read,
    emit: &mut dyn FnMut(Item, u64) -> ControlFlow<B>,
) -> Result<ControlFlow<B>, String> {
    let mut archive = tar::Archive::new(io::BufReader::with_capacity(1 << 20, tar));
    let broken = |error: io::Error| format!("the tar is damaged or cut off: {error}");
    let (mut open, mut at): (Option<Sample>, u64) = (None, 0);
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        // Folders and links hold no data; readers of this format pass over them as well.
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = entry.path_bytes().into_owned();
        let path = String::from_utf8(path)
            .map_err(|error| format!("the name {:?} is not UTF-8", error.to_string()))?;
        let (size, before) = (entry.size(), at);
        at = entry.raw_file_position() + size;
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(broken)?;
        if bytes.len() as u64 != size {
            return Err(format!("the tar is cut off: {path} has {} of {size} bytes", bytes.len()));
        }
        let bytes = Bytes::from(bytes);
        let (key, field) = match split_name(&path) {
            Some((key, field)) => {
                (key.to_owned(), Some(Field { name: field.to_owned(), bytes: bytes.clone() }))
            }
            None => (String::new(), None),
        };
        if let (Some(sample), Some(field)) = (&mut open, &field)
            && sample.key == key
            && sample.fields.iter().any(|other| other.name == field.name)
        {
            return Err(format!("sample {key} has the field {} twice", field.name));
        }
        match (&mut open, field) {
            (Some(sample), Some(field)) if sample.key == key => sample.fields.push(field),
            (_, field) => {
                if let Some(ended) = open.take()
                    && let ControlFlow::Break(stop) = emit(Item::Sample(ended), before)
                {
                    return Ok(ControlFlow::Break(stop));
                }
                match field {
                    Some(field) => open = Some(Sample { key, fields: vec![field] }),
                    None => {
                        if let ControlFlow::Break(stop) = emit(Item::Loose { path, bytes }, at) {
                            return Ok(ControlFlow::Break(stop));
                        }
                    }
                }
            }
        }
    }
    Ok(open.map_or(ControlFlow::Continue(()), |last| emit(Item::Sample(last), at)))
}

pub(super) fn variant_key(key: &str, variant: usize) -> String {
    format!("{key}_{}", number(variant))
}

/// Entries of a tar that is being written.
pub(super) struct Entries(tar::Builder<Vec<u8>>);

impl Default for Entries {
    fn default() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }
}

impl Entries {
    fn append(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        self.0.append_data(&mut header, path, bytes)
    }

    /// Without what ends a tar.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        let mut bytes = self.0.into_inner().expect("memory takes what is written to it");
        bytes.truncate(bytes.len() - END.len());
        bytes
    }
}

impl Item {
    pub(super) fn append_to(&self, entries: &mut Entries) -> io::Result<()> {
        match self {
            Self::Sample(sample) => sample.append_to(entries),
            Self::Loose { path, bytes } => entries.append(path, bytes),
        }
    }
}

impl Sample {
    /// Which field is the tile: the one that was `named`, or the only one that is a picture.
    ///
    /// # Errors
    /// When there is none, or it must be said which.
    pub(super) fn tile(&self, named: Option<&str>) -> Result<usize, NoTile> {
        if let Some(named) = named {
            let place = self.fields.iter().position(|field| field.name == named);
            return place.ok_or_else(|| NoTile::None(format!("has no field {named}")));
        }
        let is_picture =
            |field: &Field| ENDINGS.contains(&ending(&field.name).to_lowercase().as_str());
        let pictures: Vec<usize> =
            (0..self.fields.len()).filter(|&place| is_picture(&self.fields[place])).collect();
        match pictures[..] {
            [] => Err(NoTile::None("has no picture".to_owned())),
            [one] => Ok(one),
            _ => Err(NoTile::Several(
                pictures
                    .iter()
                    .map(|&place| &self.fields[place].name[..])
                    .collect::<Vec<_>>()
                    .join(", "),
            )),
        }
    }

    pub(super) fn append_to(&self, entries: &mut Entries) -> io::Result<()> {
        self.fields.iter().try_for_each(|field| {
            entries.append(&format!("{}.{}", self.key, field.name), &field.bytes)
        })
    }

    /// The sample once more, with a variant in the place of field `tile`.
    pub(super) fn append_variant(
        &self,
        entries: &mut Entries,
        number: usize,
        tile: usize,
        format: ImageFormat,
        variant: &Variant,
    ) -> io::Result<()> {
        let key = variant_key(&self.key, number);
        for (place, field) in self.fields.iter().enumerate() {
            match place == tile {
                true => entries
                    .append(&format!("{key}.{}", renamed(&field.name, format)), &variant.picture)?,
                // The tile may be a variant itself; what it came from is named by its own key and
                // file.
                false if field.name == PROVENANCE => {}
                false => entries.append(&format!("{key}.{}", field.name), &field.bytes)?,
            }
        }
        entries.append(&format!("{key}.{PROVENANCE}"), &variant.provenance)
    }
}

fn ending(field: &str) -> &str {
    field.rsplit('.').next().unwrap_or(field)
}

/// The field's name with the ending of what is in it now. `jpeg` stays `jpeg`, since it is right.
fn renamed(field: &str, format: ImageFormat) -> String {
    let own = ending(field);
    if format == ImageFormat::Jpeg && own.eq_ignore_ascii_case("jpeg") {
        return field.to_owned();
    }
    format!("{}{}", &field[..field.len() - own.len()], format.extension())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_keeps_its_name_and_changes_its_ending() {
        assert_eq!(renamed("input.jpg", ImageFormat::Png), "input.png");
        assert_eq!(renamed("tif", ImageFormat::Webp), "webp");
        assert_eq!(renamed("JPEG", ImageFormat::Jpeg), "JPEG");
    }

    #[test]
    fn the_only_picture_is_the_tile_and_several_are_asked_about() {
        let sample = |names: &[&str]| Sample {
            key: "k".into(),
            fields: names
                .iter()
                .map(|name| Field { name: (*name).into(), bytes: Bytes::new() })
                .collect(),
        };
        assert_eq!(sample(&["cls", "input.PNG"]).tile(None).unwrap(), 1);
        assert!(matches!(sample(&["cls"]).tile(None), Err(NoTile::None(_))));
        let masked = sample(&["mask.png", "png"]);
        assert!(
            matches!(masked.tile(None), Err(NoTile::Several(names)) if names == "mask.png, png")
        );
        assert_eq!(masked.tile(Some("png")).unwrap(), 1);
        assert!(
            matches!(masked.tile(Some("tif")), Err(NoTile::None(said)) if said.contains("tif"))
        );
    }
}
