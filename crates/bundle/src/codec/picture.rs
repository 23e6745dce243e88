//! Pictures in memory: resizing, and contact sheets of several.

use image::imageops::{self, FilterType};

/// Eight-bit RGB, rows from the top, `[height, width, 3]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RgbImage {
    /// In pixels.
    pub width: usize,
    /// In pixels.
    pub height: usize,
    /// `height × width × 3` bytes.
    pub pixels: Vec<u8>,
}

/// White pixels between the pictures of a sheet.
const GAP: usize = 4;

/// Resizes a picture with the Catmull-Rom filter, which keeps edges and weighs every source pixel
/// when it shrinks. At the same size it returns an equal picture.
pub fn resize(picture: &RgbImage, width: usize, height: usize) -> RgbImage {
    if (picture.width, picture.height) == (width, height) {
        return picture.clone();
    }
    let source = image::ImageBuffer::<image::Rgb<u8>, &[u8]>::from_raw(
        picture.width as u32,
        picture.height as u32,
        &picture.pixels,
    )
    .expect("an RgbImage holds width × height pixels");
    let pixels =
        imageops::resize(&source, width as u32, height as u32, FilterType::CatmullRom).into_raw();
    RgbImage { width, height, pixels }
}

impl RgbImage {
    /// Resizes the picture as [`resize`] does; at the same size it returns itself, without a copy.
    pub fn into_size(self, width: usize, height: usize) -> Self {
        if (self.width, self.height) == (width, height) {
            self
        } else {
            resize(&self, width, height)
        }
    }
}

/// Returns the bytes of a cell of a [`sheet`] with its share of the gaps, for pictures of at most
/// this size.
pub fn sheet_bytes(width: usize, height: usize) -> u64 {
    ((width + 2 * GAP) * (height + 2 * GAP) * 3) as u64
}

/// Makes a contact sheet on white: one row of pictures for each item of `rows`, in cells as large
/// as the largest picture.
pub fn sheet(rows: &[Vec<&RgbImage>]) -> RgbImage {
    let cells = || rows.iter().flatten();
    let cell_width = cells().map(|picture| picture.width).max().unwrap_or(0);
    let cell_height = cells().map(|picture| picture.height).max().unwrap_or(0);
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = columns * (cell_width + GAP) + GAP;
    let height = rows.len() * (cell_height + GAP) + GAP;
    let mut pixels = vec![255; width * height * 3];
    for (row, pictures) in rows.iter().enumerate() {
        for (column, picture) in pictures.iter().enumerate() {
            let (left, top) = (column * (cell_width + GAP) + GAP, row * (cell_height + GAP) + GAP);
            for (y, line) in picture.pixels.chunks_exact(picture.width * 3).enumerate() {
                let start = ((top + y) * width + left) * 3;
                pixels[start..start + line.len()].copy_from_slice(line);
            }
        }
    }
    RgbImage { width, height, pixels }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sheet_holds_every_picture_where_it_belongs() {
        let flat = |value: u8| RgbImage { width: 2, height: 3, pixels: vec![value; 2 * 3 * 3] };
        let (a, b) = (flat(10), flat(20));
        let sheet = sheet(&[vec![&a, &b], vec![&b]]);
        assert_eq!((sheet.width, sheet.height), (2 * (2 + GAP) + GAP, 2 * (3 + GAP) + GAP));
        let at = |x: usize, y: usize| sheet.pixels[(y * sheet.width + x) * 3];
        assert_eq!((at(GAP, GAP), at(2 * GAP + 2, GAP), at(GAP, 2 * GAP + 3)), (10, 20, 20));
        assert_eq!((at(0, 0), at(2 * GAP + 2, 2 * GAP + 3)), (255, 255));
    }

    #[test]
    fn a_flat_picture_stays_flat_at_any_size() {
        let flat = RgbImage { width: 5, height: 7, pixels: vec![90; 105] };
        assert_eq!(
            resize(&flat, 16, 9),
            RgbImage { width: 16, height: 9, pixels: vec![90; 16 * 9 * 3] }
        );
        assert_eq!(resize(&flat, 5, 7), flat);
        assert_eq!(flat.clone().into_size(16, 9), resize(&flat, 16, 9));
    }

    #[test]
    fn a_picture_that_has_the_size_keeps_its_memory() {
        let flat = RgbImage { width: 5, height: 7, pixels: vec![90; 105] };
        let place = flat.pixels.as_ptr();
        assert_eq!(flat.into_size(5, 7).pixels.as_ptr(), place);
    }
}
