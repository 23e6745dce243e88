//! Whether a TIFF is one picture. Microscopes write the planes of a picture, or the pictures of a
//! stack, one behind the other; a reader that takes the first one gets the red plane of a tile.
//! Smaller copies and masks beside a picture are none of their own, and say so.

use tiff::tags::Tag;

use super::{Tiff, refused, unreadable};
use crate::codec::limits::DecodeError;

/// Most directories that are looked at, and most entries of all of them: a file could make its list
/// endless, and every page the same large one.
const MOST_PAGES: usize = 64;
const MOST_ENTRIES: usize = 1 << 16;

/// `NewSubfileType`: a smaller copy, and a mask.
const REDUCED: u32 = 1;
const MASK: u32 = 4;
/// `SubfileType`, which it replaced: a smaller copy.
const OLD_REDUCED: u32 = 2;

/// # Errors
/// When the file holds several pictures.
pub(super) fn check(decoder: &mut Tiff<'_>) -> Result<(), DecodeError> {
    let mut next = decoder.ifd_pointer();
    let (mut pictures, mut pages, mut entries) = (0, 0, 0);
    while let Some(place) = next {
        pages += 1;
        if pages > MOST_PAGES {
            return Err(refused(format!("it has more than {MOST_PAGES} pages, and a tile is one")));
        }
        let page = decoder.read_directory(place).map_err(unreadable)?;
        entries += page.len();
        if entries > MOST_ENTRIES {
            return Err(refused(format!("its pages have more than {MOST_ENTRIES} entries")));
        }
        let mut tags = decoder.read_directory_tags(&page);
        let mut number = |tag| tags.find_tag_unsigned::<u32>(tag).map_err(unreadable);
        let kind = number(Tag::NewSubfileType)?.unwrap_or(0);
        let is_smaller = kind & REDUCED != 0 || number(Tag::SubfileType)? == Some(OLD_REDUCED);
        // The first is the one that is read, whatever it says of itself.
        let is_picture = pages == 1 || !(is_smaller || kind & MASK != 0);
        pictures += usize::from(is_picture);
        next = page.next();
    }
    if pictures > 1 {
        return Err(several(pictures));
    }
    imagej(decoder)
}

fn several(pictures: usize) -> DecodeError {
    refused(format!(
        "it holds {pictures} pictures, and a tile is one: save the planes of a picture as one RGB \
        picture"
    ))
}

/// ImageJ may write a stack behind a single directory, whose description alone counts it.
fn imagej(decoder: &mut Tiff<'_>) -> Result<(), DecodeError> {
    let Some(description) = decoder.find_tag(Tag::ImageDescription).map_err(unreadable)? else {
        return Ok(());
    };
    let Ok(description) = description.into_string() else { return Ok(()) };
    if !description.starts_with("ImageJ=") {
        return Ok(());
    }
    let images = description.lines().find_map(|line| line.trim().strip_prefix("images="));
    match images.and_then(|images| images.parse::<usize>().ok()) {
        Some(images) if images > 1 => Err(several(images)),
        _ => Ok(()),
    }
}
