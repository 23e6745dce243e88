//! Entries of a tar, made out of samples.

use std::io;

use serde_json::{Value, json};

use crate::augment::maker::Variant;
use crate::augment::tile::number;
use restain_bundle::codec::ImageFormat;
use restain_data::Sample;

const PROVENANCE: &str = "restain.json";
/// What ends a tar: two empty blocks.
pub(super) const END: [u8; 1024] = [0; 1024];

fn variant_key(key: &str, variant: usize) -> String {
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
    pub(super) fn append(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        self.0.append_data(&mut header, path, bytes)
    }

    /// Appends the sample, with a provenance like that of its variants. `picture` stands in the
    /// place of field `tile`, where that is not named after `format`.
    pub(super) fn append_original(
        &mut self,
        sample: &Sample,
        picture: Option<(usize, ImageFormat, Vec<u8>)>,
        variant: &Variant,
    ) -> io::Result<()> {
        let key = &sample.key;
        for (place, field) in sample.fields.iter().enumerate() {
            match &picture {
                Some((tile, format, bytes)) if place == *tile => {
                    self.append(&format!("{key}.{}", renamed(&field.name, *format)), bytes)?
                }
                _ => self.append(&format!("{key}.{}", field.name), &field.bytes)?,
            }
        }
        if sample.fields.iter().any(|field| is_provenance(&field.name)) {
            return Ok(());
        }
        self.append(&format!("{key}.{PROVENANCE}"), &provenance_of_original(variant))
    }

    /// Appends the sample once more, with a variant in the place of field `tile`.
    pub(super) fn append_variant(
        &mut self,
        sample: &Sample,
        number: usize,
        tile: usize,
        format: ImageFormat,
        variant: &Variant,
    ) -> io::Result<()> {
        let key = variant_key(&sample.key, number);
        for (place, field) in sample.fields.iter().enumerate() {
            let name = &field.name;
            match place == tile {
                true => {
                    self.append(&format!("{key}.{}", renamed(name, format)), &variant.picture)?
                }
                // The tile may be a variant itself; what it came from is named by its own key and
                // file.
                false if is_provenance(name) => {}
                false => self.append(&format!("{key}.{name}"), &field.bytes)?,
            }
        }
        self.append(&format!("{key}.{PROVENANCE}"), &variant.provenance)
    }

    /// Without what ends a tar.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        let mut bytes = self.0.into_inner().expect("memory takes what is written to it");
        bytes.truncate(bytes.len() - END.len());
        bytes
    }
}

fn is_provenance(field: &str) -> bool {
    field.eq_ignore_ascii_case(PROVENANCE)
}

/// The provenance of an original: the fields that its variants have, with values of the same types,
/// so that readers which infer the columns of a tar from its first samples find the same in each.
fn provenance_of_original(variant: &Variant) -> Vec<u8> {
    let mut record: Value =
        serde_json::from_slice(&variant.provenance).expect("it was written as JSON");
    record["method"] = json!("original");
    record["index"] = json!(-1);
    record["strength"] = json!(0.0);
    for field in ["style", "domain"] {
        if record[field].is_string() {
            record[field] = json!("");
        }
    }
    let mut text = serde_json::to_vec_pretty(&record).expect("it was JSON before");
    text.push(b'\n');
    text
}

/// Checks that the variant, which may have another ending than the tile, takes the name of no other
/// field.
///
/// # Errors
/// In words, if it does.
pub(super) fn check_fields(
    sample: &Sample,
    tile: usize,
    format: ImageFormat,
) -> Result<(), String> {
    let own = &sample.fields[tile].name;
    let name = renamed(own, format);
    let mut others = sample.fields.iter().enumerate().filter(|(place, _)| *place != tile);
    if others.any(|(_, field)| field.name.eq_ignore_ascii_case(&name)) {
        return Err(format!(
            "sample {} has a field {name}, which is the name that a variant of its field {own} \
            would have: choose another --format",
            sample.key
        ));
    }
    Ok(())
}

/// Whether a field is named after this format.
pub(super) fn has_name_of(field: &str, format: ImageFormat) -> bool {
    format_named(field) == Some(format)
}

fn ending(field: &str) -> &str {
    field.rsplit('.').next().unwrap_or(field)
}

/// The format that a field is named after, if it is one that variants can have.
pub(super) fn format_named(field: &str) -> Option<ImageFormat> {
    match &ending(field).to_ascii_lowercase()[..] {
        "png" => Some(ImageFormat::Png),
        "jpg" | "jpeg" => Some(ImageFormat::Jpeg),
        "webp" => Some(ImageFormat::Webp),
        _ => None,
    }
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
    fn a_field_is_named_after_a_format_by_its_ending() {
        let formats = ["PNG", "input.jpg", "jpeg", "webp", "tif"].map(format_named);
        let (png, jpeg) = (Some(ImageFormat::Png), Some(ImageFormat::Jpeg));
        assert_eq!(formats, [png, jpeg, jpeg, Some(ImageFormat::Webp), None]);
    }

    #[test]
    fn an_original_has_the_fields_of_a_variant_and_their_types() {
        let provenance = br#"{"source": "k.png", "style": "a/1", "domain": null, "index": 0, "method": "vit", "strength": 1.0}"#;
        let variant = Variant { picture: Vec::new(), provenance: provenance.to_vec() };
        let made: Value = serde_json::from_slice(&provenance_of_original(&variant)).unwrap();
        let expected = json!({
            "source": "k.png", "style": "", "domain": null, "index": -1, "method": "original",
            "strength": 0.0
        });
        assert_eq!(made, expected);
    }
}
