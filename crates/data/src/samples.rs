//! Samples out of WebDataset tars, grouped as the `webdataset` package groups them: a sample is a
//! run of files whose names agree up to the first dot of the last part of the path; what stands
//! behind that dot is the field.
//!
//! Names that begin with a dot belong to no sample and end none, such as the `._` files that macOS
//! puts between the members of a tar. Names that are not UTF-8 are Latin-1. Two things that the
//! package lets pass are refused, because they lose data in silence: a sample whose files do not
//! stand beside each other, and an empty file. Compressed tars are refused too: they allow neither
//! random reads nor resuming.

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Bytes;
use restain_bundle::codec::split_name;

use crate::formats::folders::is_hidden;
use crate::formats::is_image;
use crate::passed_over::{PassedOver, Reason};

/// A larger field is an error where only some fields are read.
const FIELD_BYTES: u64 = 1 << 20;
/// The number of bytes that are compared with these.
const START: u64 = 6;
/// How files begin that are compressed, and by what.
const COMPRESSED: [(&[u8], &str); 4] = [
    (&[0x1f, 0x8b], "gzip"),
    (b"BZh", "bzip2"),
    (&[0xfd, b'7', b'z', b'X', b'Z', 0], "xz"),
    (&[0x28, 0xb5, 0x2f, 0xfd], "zstd"),
];
/// How the members are named that the package takes for metadata of the tar.
const META: &str = "__";

/// What is read of the fields of samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// All bytes.
    All,
    /// The bytes of these fields; of the others only where they lie.
    Fields(&'static [&'static str]),
}

/// A sample, or a file of a tar that belongs to none.
pub enum Item {
    /// Files of one key.
    Sample(Sample),
    /// A file whose name has no dot, or is that of metadata.
    Loose {
        /// Its name.
        path: String,
        /// What is in it; empty unless all is read.
        bytes: Bytes,
    },
}

/// The files of one key.
pub struct Sample {
    /// With the folders before it.
    pub key: String,
    /// In the order of the tar; no two have one name.
    pub fields: Vec<Field>,
}

/// One file of a sample.
pub struct Field {
    /// What stands behind the first dot, as it is spelt.
    pub name: String,
    /// Where its bytes begin in the tar.
    pub offset: u64,
    /// Their number.
    pub length: u64,
    /// They themselves, if they are read.
    pub bytes: Bytes,
}

/// Why a sample has no tile.
#[derive(Debug, PartialEq, Eq)]
pub enum NoTile {
    /// It has no such field; goes on after the name of the sample.
    None(String),
    /// These fields could be it.
    Several(String),
}

/// Reads the items of a tar, in order, each with the place up to which the tar has been read.
/// `emit` may end it. Counts what belongs to no sample.
///
/// # Errors
/// In words, what is wrong with the tar.
pub fn read_samples<B>(
    tar: &Path,
    content: Content,
    passed_over: &mut PassedOver,
    emit: &mut dyn FnMut(Item, u64) -> ControlFlow<B>,
) -> Result<ControlFlow<B>, String> {
    let file = open(tar)?;
    let end = file.metadata().map_err(|error| error.to_string())?.len();
    // Where most bytes are passed over, what is read ahead is read in vain.
    let ahead = if content == Content::All { 1 << 20 } else { 4 << 10 };
    let mut archive = tar::Archive::new(BufReader::with_capacity(ahead, file));
    let members = match content {
        Content::All => archive.entries(),
        Content::Fields(_) => archive.entries_with_seek(),
    };
    read_members(members.map_err(broken)?, end, content, passed_over, emit)
}

/// As [`read_samples`], all bytes of a tar of `size` bytes that comes from elsewhere.
///
/// # Errors
/// In words, what is wrong with the tar.
pub fn read_samples_from<B>(
    mut tar: impl Read,
    size: u64,
    passed_over: &mut PassedOver,
    emit: &mut dyn FnMut(Item, u64) -> ControlFlow<B>,
) -> Result<ControlFlow<B>, String> {
    let mut start = Vec::new();
    tar.by_ref().take(START).read_to_end(&mut start).map_err(unread)?;
    check_start(&start)?;
    let mut archive = tar::Archive::new(start.chain(tar));
    let members = archive.entries().map_err(broken)?;
    read_members(members, size, Content::All, passed_over, emit)
}

fn read_members<R: Read, B>(
    members: tar::Entries<'_, R>,
    end: u64,
    content: Content,
    passed_over: &mut PassedOver,
    emit: &mut dyn FnMut(Item, u64) -> ControlFlow<B>,
) -> Result<ControlFlow<B>, String> {
    let mut groups = Groups::default();
    let mut at = 0;
    for member in members {
        let mut member = member.map_err(broken)?;
        let Some(name) = name(&member, passed_over) else { continue };
        let before = at;
        let (offset, length) = (member.raw_file_position(), member.size());
        at = offset + length;
        if at > end {
            return Err(format!("the tar is cut off within {name}"));
        }
        let parts = split_name(&name).filter(|_| !is_meta(&name));
        let is_read = match (content, parts) {
            (Content::All, _) => true,
            (Content::Fields(wanted), Some((_, field))) => {
                wanted.iter().any(|wanted| field.eq_ignore_ascii_case(wanted))
            }
            (Content::Fields(_), None) => false,
        };
        if is_read && content != Content::All && length > FIELD_BYTES {
            return Err(format!("{name} has {length} bytes, and may have {FIELD_BYTES}"));
        }
        let mut bytes = Vec::new();
        if is_read {
            member.read_to_end(&mut bytes).map_err(broken)?;
        }
        let bytes = Bytes::from(bytes);
        let ended = match parts {
            Some((key, field)) => {
                let field = Field { name: field.to_owned(), offset, length, bytes };
                groups.push(key, field)?.map(|ended| emit(Item::Sample(ended), before))
            }
            None => {
                passed_over.add(Reason::NoSample, Path::new(&name));
                Some(emit(Item::Loose { path: name, bytes }, before))
            }
        };
        if let Some(ControlFlow::Break(stop)) = ended {
            return Ok(ControlFlow::Break(stop));
        }
    }
    Ok(groups.open.map_or(ControlFlow::Continue(()), |last| emit(Item::Sample(last), at)))
}

/// Opens a tar that is neither empty nor compressed.
fn open(tar: &Path) -> Result<File, String> {
    let file = File::open(tar).map_err(|error| format!("it cannot be opened: {error}"))?;
    let mut start = [0; START as usize];
    let read = file.read_at(&mut start, 0).map_err(unread)?;
    check_start(&start[..read])?;
    Ok(file)
}

/// Refuses a tar that begins so.
fn check_start(start: &[u8]) -> Result<(), String> {
    if start.is_empty() {
        return Err("it is empty: a tar has at least two blocks of 512 bytes".to_owned());
    }
    match COMPRESSED.iter().find(|(magic, _)| start.starts_with(magic)) {
        Some((_, by)) => Err(format!("it is {by}: unpack what is compressed")),
        None => Ok(()),
    }
}

fn unread(error: io::Error) -> String {
    format!("it cannot be read: {error}")
}

fn broken(error: io::Error) -> String {
    format!("the tar is damaged or cut off: {error}")
}

/// The name of a member that may belong to a sample. Counts those that may not; folders hold no
/// data and are not counted.
fn name(member: &tar::Entry<'_, impl Read>, passed_over: &mut PassedOver) -> Option<String> {
    let kind = member.header().entry_type();
    if kind.is_dir() || kind.is_pax_global_extensions() {
        return None;
    }
    let name = text_of(&member.path_bytes());
    let reason = if !kind.is_file() && !kind.is_contiguous() {
        Reason::NoFile
    } else if Path::new(&name).iter().any(is_hidden) {
        Reason::Hidden
    } else {
        return Some(name);
    };
    passed_over.add(reason, Path::new(&name));
    None
}

/// Decodes a name: as UTF-8, or else as Latin-1, in which every byte is the character of its
/// number. Old programs of Windows write such names. Python keeps their bytes as lone surrogates,
/// which neither JSON nor Arrow can hold.
fn text_of(name: &[u8]) -> String {
    match std::str::from_utf8(name) {
        Ok(name) => name.to_owned(),
        Err(_) => name.iter().copied().map(char::from).collect(),
    }
}

/// As the package recognises them: `__info__`, or what lies in a folder of such a name.
fn is_meta(name: &str) -> bool {
    let first = name.split('/').next().unwrap_or(name);
    first.len() > META.len() && first.starts_with(META) && first.ends_with(META)
}

/// The sample whose files are being read, and the keys of those before it.
#[derive(Default)]
struct Groups {
    open: Option<Sample>,
    closed: HashSet<String>,
}

impl Groups {
    /// Adds a field. Returns the sample that ended before it.
    fn push(&mut self, key: &str, field: Field) -> Result<Option<Sample>, String> {
        if let Some(sample) = self.open.as_mut().filter(|sample| sample.key == key) {
            // Readers take fields in lower case.
            if sample.fields.iter().any(|other| other.name.eq_ignore_ascii_case(&field.name)) {
                return Err(format!("sample {key} has the field {} twice", field.name));
            }
            sample.fields.push(field);
            return Ok(None);
        }
        if self.closed.contains(key) {
            return Err(format!(
                "sample {key} is there twice, or its files do not stand beside each other: write \
                 the files of each sample one after another"
            ));
        }
        let next = Sample { key: key.to_owned(), fields: vec![field] };
        let ended = self.open.replace(next);
        self.closed.extend(ended.iter().map(|ended| ended.key.clone()));
        Ok(ended)
    }
}

/// Goes on after the name of the sample.
impl fmt::Display for NoTile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None(reason) => f.write_str(reason),
            Self::Several(names) => {
                write!(f, "has several images, {names}: name the tile's field with --image-field")
            }
        }
    }
}

impl Sample {
    /// Returns the field that is the tile: the one that was `named`; or the only one that is an
    /// image; or, of several, the only one whose name is an ending alone, such as `png` beside
    /// `seg.png`.
    ///
    /// # Errors
    /// If there is none, or it must be said which.
    pub fn tile(&self, named: Option<&str>) -> Result<usize, NoTile> {
        let of = |wanted: &dyn Fn(&Field) -> bool| -> Vec<usize> {
            (0..self.fields.len()).filter(|&place| wanted(&self.fields[place])).collect()
        };
        if let Some(named) = named {
            let found = of(&|field| field.name.eq_ignore_ascii_case(named));
            return found.first().copied().ok_or_else(|| {
                NoTile::None(format!("has no field {named}, but {}", self.names(|_| true)))
            });
        }
        // With a stem before it, since the name of a field may be an ending alone.
        let is_picture = |field: &Field| is_image(Path::new(&format!("k.{}", field.name)));
        let plain = |field: &Field| is_picture(field) && !field.name.contains('.');
        match (&of(&is_picture)[..], &of(&plain)[..]) {
            ([], _) => Err(NoTile::None("has no picture".to_owned())),
            ([one], _) | (_, [one]) => Ok(*one),
            _ => Err(NoTile::Several(self.names(is_picture))),
        }
    }

    fn names(&self, wanted: impl Fn(&Field) -> bool) -> String {
        let names = self.fields.iter().filter(|field| wanted(field)).map(|field| &field.name[..]);
        names.collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_picture_is_the_tile_and_several_are_asked_about() {
        let sample = |names: &[&str]| {
            let field = |name: &&str| Field {
                name: (*name).into(),
                offset: 0,
                length: 0,
                bytes: Bytes::new(),
            };
            Sample { key: "k".into(), fields: names.iter().map(field).collect() }
        };
        assert_eq!(sample(&["cls", "input.PNG"]).tile(None), Ok(1));
        assert!(matches!(sample(&["cls"]).tile(None), Err(NoTile::None(_))));
        assert_eq!(sample(&["seg.png", "PNG"]).tile(None), Ok(1));
        let masked = sample(&["mask.png", "input.png"]);
        let asked = Err(NoTile::Several("mask.png, input.png".into()));
        assert_eq!(masked.tile(None), asked);
        assert_eq!(masked.tile(Some("input.png")), Ok(1));
        assert!(
            matches!(masked.tile(Some("tif")), Err(NoTile::None(said)) if said.contains("tif"))
        );
        assert!(matches!(sample(&["png", "jpg"]).tile(None), Err(NoTile::Several(_))));
    }

    #[test]
    fn a_name_that_is_not_utf_8_is_latin_1() {
        assert_eq!(text_of("Pr\u{e4}parat.png".as_bytes()), "Pr\u{e4}parat.png");
        assert_eq!(text_of(b"Pr\xe4parat.png"), "Pr\u{e4}parat.png");
        assert_eq!(text_of(b"\xe4\x80.png"), "\u{e4}\u{80}.png");
    }

    #[test]
    fn metadata_is_named_as_the_package_names_it() {
        let are = ["__info__", "__x__/a.png", "__x__"].map(is_meta);
        let are_not = ["__a.png", "a/__x__/b.png", "__"].map(is_meta);
        assert_eq!((are, are_not), ([true; 3], [false; 3]));
    }
}
