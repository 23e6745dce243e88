//! What a decoder may be given, and why it gives nothing.

/// Upper bounds for a picture, whatever its header says.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Upper bound of width × height.
    pub max_pixels: u64,
    /// Upper bound of width, and of height: memory that follows one side, as that of resizing does,
    /// is not bounded by pixels.
    pub max_side: u32,
}

/// Longest side of a tile.
pub const MAX_SIDE: u32 = 8192;

impl Limits {
    /// Limits of a tile.
    pub const fn of_tile(max_pixels: u64) -> Self {
        Self { max_pixels, max_side: MAX_SIDE }
    }

    /// Checks the size of a picture, whether it is in a file or not, and returns its pixels.
    ///
    /// # Errors
    /// When it has too many pixels, or a side is too long or 0.
    pub fn check(&self, width: u32, height: u32) -> Result<u64, DecodeError> {
        let Self { max_pixels, max_side } = *self;
        let pixels = u64::from(width) * u64::from(height);
        if pixels > max_pixels {
            return Err(DecodeError::TooLarge { width, height, max_pixels });
        }
        if pixels == 0 || width.max(height) > max_side {
            return Err(DecodeError::SideOutOfRange { width, height, max_side });
        }
        Ok(pixels)
    }
}

/// Why bytes could not be decoded.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what variants and fields are")]
pub enum DecodeError {
    #[error("not a picture in a supported format: PNG, JPEG, WebP or TIFF")]
    UnknownKind,
    #[error("the picture is {width}×{height} pixels, and at most {max_pixels} pixels are decoded")]
    TooLarge { width: u32, height: u32, max_pixels: u64 },
    #[error("the picture is {width}×{height} pixels, and a side has from 1 to {max_side}")]
    SideOutOfRange { width: u32, height: u32, max_side: u32 },
    #[error("the {kind} file cannot be decoded: {source}")]
    Undecodable { kind: &'static str, source: image::ImageError },
    #[error("the TIFF file cannot be decoded: {reason}")]
    Tiff { reason: String },
    #[error("the JPEG file is cut off: its end marker is missing")]
    CutOff,
}

/// Bytes that a decoder may hold for one pixel: 16-bit RGBA, and as much again for its own working
/// memory.
pub const DECODER_BYTES_A_PIXEL: usize = 16;
/// Memory that does not depend on the picture: tables, a colour profile, a TIFF's tile that is
/// larger than the picture.
pub(super) const DECODER_BYTES: u64 = 4 << 20;
