//! Encoding of lossy WebP through libwebp: there is no lossy encoder in Rust. The only unsafe code
//! of the codec.
//!
//! Only the encoder of that C library is called, and only on pixels of our own. Untrusted bytes are
//! decoded in Rust (`decode`). Lossless WebP is encoded in Rust too, three times as fast as by
//! libwebp.

#![expect(unsafe_code, reason = "libwebp is C")]

use std::mem::MaybeUninit;
use std::slice;

use libwebp_sys::{
    WebPConfig, WebPEncode, WebPEncodingError, WebPMemoryWrite, WebPMemoryWriter,
    WebPMemoryWriterClear, WebPMemoryWriterInit, WebPPicture, WebPPictureFree,
    WebPPictureImportRGB,
};

use super::RgbImage;

/// 0 is the fastest of seven; on tiles the next saves 3 % of the bytes at best, for a fifth of the
/// speed.
const METHOD: i32 = 0;
/// The fastest that holds the descriptions of blocks to the format's bound.
const BOUNDED_METHOD: i32 = 2;

/// Bounds of the format's own header fields.
const MAX_SIDE: usize = 16_383;

#[derive(Debug, thiserror::Error)]
pub(super) enum WebpError {
    #[error("{width}×{height} pixels are not 1 to {MAX_SIDE} a side")]
    Size { width: usize, height: usize },
    #[error("libwebp reports error {0}")]
    Library(i32),
}

/// Encodes a picture at `quality` 1 to 99, with chroma subsampling 4:2:0, the only one of the
/// format.
///
/// # Errors
/// When the size is outside the format's bounds, or memory runs out.
///
/// # Panics
/// When the pixels are not `width × height × 3` bytes.
pub(super) fn lossy(quality: u8, picture: &RgbImage) -> Result<Vec<u8>, WebpError> {
    let RgbImage { width, height, ref pixels } = *picture;
    if !(1..=MAX_SIDE).contains(&width) || !(1..=MAX_SIDE).contains(&height) {
        return Err(WebpError::Size { width, height });
    }
    assert_eq!(pixels.len(), width * height * 3, "an RgbImage holds width × height pixels");
    let mut canvas = Canvas::new(width, height);
    // SAFETY: the pixels are height rows of width × 3 bytes each, as asserted; the call only reads
    // them, and reports in its result when memory for its copy cannot be had.
    let imported =
        unsafe { WebPPictureImportRGB(&mut canvas.0, pixels.as_ptr(), width as i32 * 3) };
    if imported == 0 {
        return Err(WebpError::Library(canvas.0.error_code as i32));
    }
    match write(&mut canvas, quality, METHOD) {
        // The format has 512 KiB for what the encoder decides about all blocks together. Some 20
        // million pixels of noise need more, unless the encoder chooses with that bound in view.
        Err(WebPEncodingError::VP8_ENC_ERROR_PARTITION0_OVERFLOW) => {
            write(&mut canvas, quality, BOUNDED_METHOD)
        }
        written => written,
    }
    .map_err(|error| WebpError::Library(error as i32))
}

/// Encodes what is on the canvas.
fn write(canvas: &mut Canvas, quality: u8, method: i32) -> Result<Vec<u8>, WebPEncodingError> {
    let mut config = WebPConfig::new().expect("libwebp is linked with its own bindings");
    config.quality = f32::from(quality);
    config.method = method;
    let mut output = Output::new();
    canvas.0.writer = Some(WebPMemoryWrite);
    canvas.0.custom_ptr = (&raw mut output.0).cast();
    // SAFETY: both structures are initialised, and the writer that `custom_ptr` points to outlives
    // the call.
    if unsafe { WebPEncode(&config, &mut canvas.0) } == 0 {
        return Err(canvas.0.error_code);
    }
    Ok(output.bytes().to_vec())
}

/// libwebp's picture; its planes are libwebp's memory.
struct Canvas(WebPPicture);

impl Canvas {
    fn new(width: usize, height: usize) -> Self {
        let mut picture = WebPPicture::new().expect("libwebp is linked with its own bindings");
        (picture.width, picture.height) = (width as i32, height as i32);
        Self(picture)
    }
}

impl Drop for Canvas {
    fn drop(&mut self) {
        // SAFETY: initialised in `new`; without planes the call does nothing.
        unsafe { WebPPictureFree(&mut self.0) }
    }
}

/// The growing buffer that libwebp writes to.
struct Output(WebPMemoryWriter);

impl Output {
    fn new() -> Self {
        let mut writer = MaybeUninit::uninit();
        // SAFETY: the call initialises every field.
        Self(unsafe {
            WebPMemoryWriterInit(writer.as_mut_ptr());
            writer.assume_init()
        })
    }

    fn bytes(&self) -> &[u8] {
        if self.0.mem.is_null() {
            return &[];
        }
        // SAFETY: the library has written `size` bytes at `mem`.
        unsafe { slice::from_raw_parts(self.0.mem, self.0.size) }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // SAFETY: initialised in `new`; frees the buffer, if there is one.
        unsafe { WebPMemoryWriterClear(&mut self.0) }
    }
}
