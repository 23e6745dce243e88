//! The markers of a JPEG: where it ends, and which sizes it announces. Nothing is decoded.

/// A size that a JPEG announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub width: u32,
    pub height: u32,
    pub components: u8,
}

/// Whether the file comes to its end marker. The decoder fills what is missing with grey, and a
/// half-grey tile would be augmented without a word. Segments are stepped over by their length, so
/// that the end of a thumbnail is not taken for the file's; what programs write behind the end,
/// such as a second picture, is not looked at.
pub(super) fn ends(jpeg: &[u8]) -> bool {
    let (mut at, mut scanned) = (0, false);
    while let Some(marker) = next_marker(jpeg, &mut at) {
        match marker {
            // An end without a scan is that of abbreviated tables.
            0xD9 => return scanned,
            0x01 | 0xD0..=0xD8 => {}
            _ => {
                scanned |= marker == 0xDA;
                let Some(length) = number(jpeg, at) else { return false };
                at += length.max(2) as usize;
            }
        }
    }
    false
}

/// Steps to behind the next marker, and returns it. In a scan FF is followed by 00, or by FF where
/// bytes are filled in.
fn next_marker(jpeg: &[u8], at: &mut usize) -> Option<u8> {
    let rest = jpeg.get(*at..)?;
    let place = rest.windows(2).position(|pair| pair[0] == 0xFF && !matches!(pair[1], 0 | 0xFF))?;
    *at += place + 2;
    Some(rest[place + 1])
}

fn number(jpeg: &[u8], at: usize) -> Option<u32> {
    jpeg.get(at..at + 2).map(|two| u32::from(u16::from_be_bytes([two[0], two[1]])))
}

/// Every frame that a JPEG announces. Before its first scan the segments are walked, so that what
/// stands in a comment or a thumbnail is none; after it, markers stand out of the compressed bytes.
pub(super) fn frames(jpeg: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    let (mut at, mut scanned) = (0, false);
    while let Some(&[first, marker]) = jpeg.get(at..).and_then(|rest| rest.first_chunk::<2>()) {
        if first != 0xFF || matches!(marker, 0x00 | 0x01 | 0xD0..=0xD9 | 0xFF) {
            at += 1;
            continue;
        }
        let number = |at: usize| number(jpeg, at).unwrap_or(0);
        // Start of frame: all but those that define tables.
        if matches!(marker, 0xC0..=0xCF) && !matches!(marker, 0xC4 | 0xC8 | 0xCC) {
            let components = jpeg.get(at + 9).copied().unwrap_or(0);
            frames.push(Frame { width: number(at + 7), height: number(at + 5), components });
        }
        scanned |= marker == 0xDA;
        at += if scanned { 2 } else { 2 + number(at + 2).max(2) as usize };
    }
    frames
}

#[cfg(test)]
mod tests {
    use super::super::{ImageFormat, RgbImage, encode};
    use super::*;

    fn jpeg() -> Vec<u8> {
        let pixels = (0..40 * 32 * 3).map(|i| (i * 7 % 251) as u8).collect();
        encode(ImageFormat::Jpeg, 90, &RgbImage { width: 40, height: 32, pixels }).unwrap()
    }

    #[test]
    fn a_file_ends_at_its_own_marker_whatever_stands_behind_it() {
        let file = jpeg();
        assert!(ends(&file));
        let trailers: [&[u8]; 4] = [b"SEFT", &[0xFF, 0xDA, 0, 8], &file, &file[..file.len() / 2]];
        for trailer in trailers {
            assert!(ends(&[&file, trailer].concat()));
        }
        let filled = [&file[..file.len() - 2], &[0xFF, 0xFF, 0xFF, 0xD9][..]].concat();
        assert!(ends(&filled));
    }

    #[test]
    fn every_cut_is_seen_with_a_thumbnail_that_ends_in_it_too() {
        let file = jpeg();
        let thumbnail = [&[0xFF, 0xE1][..], &(file.len() as u16 + 2).to_be_bytes(), &file].concat();
        let with = [&file[..2], &thumbnail, &file[2..]].concat();
        assert!(ends(&with));
        for cut in 0..with.len() {
            assert!(!ends(&with[..cut]), "{cut}");
        }
    }

    #[test]
    fn frames_have_their_size_and_components() {
        assert_eq!(frames(&jpeg()), [Frame { width: 40, height: 32, components: 3 }]);
    }
}
