//! From what a caller sent to pixels: sizes off the headers first, then the pixels themselves.

use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use half::f16;

use super::Work;
use crate::serve::admission::Permit;
use crate::serve::batch::at_canvas;
use crate::serve::error::{Error, ErrorKind};
use crate::serve::runtime::cpu::Cpu;
use restain_bundle::codec::{self, DecodeError, Limits, RgbImage, TileKey};
use restain_method::Geometry;
use restain_method::exemplar;
use restain_method::geometry::CHANNELS;
use restain_method::windows::{Scaling, Windows};

/// One tile as it came.
pub enum TileInput {
    /// The bytes of a PNG, JPEG, WebP or TIFF.
    File(Bytes),
    /// Pixels, `[height, width, 3] u8`.
    Pixels { width: usize, height: usize, pixels: Bytes },
    /// A tile that was sent before.
    Key(TileKey),
}

/// A tile, as far as it is here.
pub(super) struct Decoded {
    pub key: TileKey,
    /// Nothing when only the key came.
    pub pixels: Option<TilePixels>,
}

pub(super) struct TilePixels {
    pub width: usize,
    pub height: usize,
    /// `[height, width, 3] u8`
    pub bytes: Bytes,
    /// What the model sees of it; absent when the method does not need the model.
    pub for_model: Option<ForModel>,
    /// Whether there is a stain in it, or it is blank, black, flat or pen.
    pub has_stain: bool,
}

/// A tile at the scale at which the model sees it.
#[derive(Clone)]
pub(super) struct ForModel {
    pub windows: Windows,
    /// The tile at the size of the canvas, u8.
    pub canvas: Bytes,
}

/// What the headers say: enough to refuse and to account, before a pixel is decoded. Of a key they
/// say nothing.
pub(super) struct Sizes {
    tiles: Vec<Option<(usize, usize)>>,
    references: Vec<Option<(usize, usize)>>,
}

impl Sizes {
    /// # Errors
    /// The first picture that is none, or is too large, with its index.
    pub(super) fn probe(
        tiles: &[TileInput],
        references: &[TileInput],
        limits: &Limits,
    ) -> Result<Self, Error> {
        Ok(Self {
            tiles: probe_all("tile", tiles, limits)?,
            references: probe_all("reference", references, limits)?,
        })
    }

    /// # Errors
    /// The first tile with a side that no tile may have.
    pub(super) fn check(&self) -> Result<(), Error> {
        for (list, sizes) in [("tile", &self.tiles), ("reference", &self.references)] {
            for (index, size) in sizes.iter().enumerate() {
                size.map_or(Ok(()), |size| check_size(list, index, size))?;
            }
        }
        Ok(())
    }

    /// A sheet is one picture, encoded in one piece: it has as few pixels as any that is read.
    ///
    /// # Errors
    /// `image_too_large`, when the sheet of all tiles and their variants would have more pixels.
    pub(super) fn check_sheet(&self, work: &Work<'_>, max_pixels: u64) -> Result<(), Error> {
        let side = work.model.bundle.manifest.geometry.image_size();
        let sizes = self.tiles.iter().flatten().filter(|_| !work.at_model_size);
        let most = |sides: &dyn Fn(&(usize, usize)) -> usize| sizes.clone().map(sides).max();
        let (width, height) =
            most(&|size| size.0).zip(most(&|size| size.1)).unwrap_or((side, side));
        let cell = codec::sheet_bytes(width, height) / CHANNELS as u64;
        let (rows, columns) = (self.tiles.len() as u64, work.variants as u64 + 1);
        let pixels = cell * rows * columns;
        if pixels <= max_pixels {
            return Ok(());
        }
        let detail = format!(
            "a sheet of {rows}×{columns} pictures of {width}×{height} has {pixels} pixels, and may \
            have at most {max_pixels}: ask for fewer variants or tiles, or leave out output.sheet"
        );
        Err(Error::new(ErrorKind::ImageTooLarge, detail))
    }

    /// Memory for the pixels and the latents, and for the variants of each tile. A key is taken for
    /// a tile of the model's size; what it is beyond that is accounted for once it is known.
    pub(super) fn bytes(&self, work: &Work<'_>) -> u64 {
        let geometry = &work.model.bundle.manifest.geometry;
        let side = geometry.image_size();
        let pixels = |size: &Option<(usize, usize)>| picture_bytes(size.unwrap_or((side, side)));
        let all = self.tiles.iter().chain(&self.references);
        let decoded: u64 = all.map(pixels).sum();
        // The tile as the encoder sees it, what the encoder makes of it, and what is kept of it.
        let for_model = |size: &Option<(usize, usize)>| {
            let windows = work.scaling.windows(size.unwrap_or((side, side)));
            windows_bytes(&windows, geometry) + pixels(size)
        };
        let encoded: u64 = match work.encodes {
            true => self.tiles.iter().chain(&self.references).map(for_model).sum(),
            false => 0,
        };
        let of_answer = |size: &Option<(usize, usize)>| match work.at_model_size {
            true => picture_bytes((side, side)),
            false => pixels(size),
        };
        let made = self.tiles.iter().map(|size| answer_bytes(of_answer(size), work.variants));
        decoded + encoded + made.sum::<u64>()
    }

    /// What the encoder has to do at most: the windows of all tiles and references; those of keys,
    /// which are mostly held, count as one each.
    pub(super) fn windows(&self, work: &Work<'_>) -> usize {
        let count = |size: &Option<(usize, usize)>| match (size, work.encodes) {
            (Some(size), true) => work.scaling.windows(*size).count(),
            _ => 1,
        };
        self.tiles.iter().chain(&self.references).map(count).sum()
    }
}

/// Memory for what the model sees of a tile, its windows cut out, and what the encoder makes of
/// them.
pub(super) fn windows_bytes(windows: &Windows, geometry: &Geometry) -> u64 {
    let latents = geometry.tile_latents() * size_of::<f16>();
    // Until all windows are encoded, each lies apart.
    let copies = if windows.is_whole() { 1 } else { 2 };
    let each = geometry.tile_bytes() + copies * latents;
    let canvas = if windows.is_whole() { 0 } else { picture_bytes(windows.canvas()) };
    (windows.count() * each) as u64 + canvas
}

/// Memory in which a variant's change is computed: one float a value of the canvas.
pub(super) fn change_bytes(windows: &Windows) -> u64 {
    picture_bytes(windows.canvas()) * size_of::<f32>() as u64
}

/// Memory that decoding and resizing need while they are at work, beside what they make: a file's
/// decoder works with up to 16-bit RGBA twice over, resizing with four floats for each pixel of
/// as many rows as the model sees.
pub(super) fn working_bytes<'a>(
    inputs: impl Iterator<Item = &'a TileInput>,
    sizes: &Sizes,
    scaling: Option<Scaling>,
    threads: usize,
) -> u64 {
    let of = |(input, size): (&TileInput, &Option<(usize, usize)>)| {
        let (width, height) = size.unwrap_or_default();
        let file = matches!(input, TileInput::File(_));
        let decoding = if file { width * height * codec::DECODER_BYTES_A_PIXEL } else { 0 };
        let windows = scaling.zip(*size).map(|(scaling, size)| scaling.windows(size));
        let resizing = windows.filter(|windows| windows.canvas() != (width, height));
        let resizing = resizing.map_or(0, |windows| {
            let (columns, rows) = windows.canvas();
            16 * width.max(columns) * windows.side().min(rows) + 3 * width * height
        });
        (decoding + resizing) as u64
    };
    let all = sizes.tiles.iter().chain(&sizes.references);
    let most = inputs.zip(all).map(of).max().unwrap_or_default();
    most * threads.min(sizes.tiles.len() + sizes.references.len()) as u64
}

/// Bytes of a picture's pixels.
pub(super) fn picture_bytes((width, height): (usize, usize)) -> u64 {
    (width * height * CHANNELS) as u64
}

/// A variant is held as pixels and then as the bytes of a picture, which for noise are as many.
pub(super) fn answer_bytes(picture: u64, variants: usize) -> u64 {
    2 * picture * variants as u64
}

/// Pixels of a tile's side. Below, a tile has too few patches to say anything; above, it is a
/// slide.
pub(crate) const SIDES: RangeInclusive<usize> = 16..=8192;

/// # Errors
/// `tile_size`, when a side is out of bounds.
fn check_size(
    list: &'static str,
    index: usize,
    (width, height): (usize, usize),
) -> Result<(), Error> {
    if SIDES.contains(&width) && SIDES.contains(&height) {
        return Ok(());
    }
    let (least, most) = (SIDES.start(), SIDES.end());
    let detail = format!(
        "{list} {index} is {width}×{height} pixels, and must have from {least} to {most} pixels a \
        side"
    );
    Err(Error::new(ErrorKind::TileSize, detail).at(list, index))
}

fn probe_all(
    list: &'static str,
    inputs: &[TileInput],
    limits: &Limits,
) -> Result<Vec<Option<(usize, usize)>>, Error> {
    let probe = |(index, input): (usize, &TileInput)| match input {
        TileInput::Key(_) => Ok(None),
        TileInput::Pixels { width, height, .. } => {
            let side = |side: usize| u32::try_from(side).unwrap_or(u32::MAX);
            let checked = limits.check(side(*width), side(*height));
            checked.map(|_| Some((*width, *height))).map_err(|error| refused(&error, list, index))
        }
        TileInput::File(bytes) => {
            codec::probe(bytes, limits).map(Some).map_err(|error| refused(&error, list, index))
        }
    };
    inputs.iter().enumerate().map(probe).collect()
}

/// How tiles are decoded: `scaling` is how the model sees them, when it will; the permits are held
/// while a thread is at work, whichever caller leaves.
pub(super) struct Decoding {
    pub scaling: Option<Scaling>,
    pub limits: Limits,
    pub permits: Vec<Arc<Permit>>,
}

/// Decodes tiles and references, a picture at a time.
///
/// # Errors
/// The first picture that cannot be decoded, with its index.
pub(super) async fn all(
    cpu: &Cpu,
    tiles: Vec<TileInput>,
    references: Vec<TileInput>,
    decoding: Decoding,
) -> Result<(Vec<Decoded>, Vec<Decoded>), Error> {
    let count = tiles.len();
    let tiles = tiles.into_iter().enumerate().map(|(index, tile)| ("tile", index, tile));
    let references = references.into_iter().enumerate();
    let references = references.map(|(index, tile)| ("reference", index, tile));
    let decoded = cpu.each(tiles.chain(references).collect(), move |(list, index, input)| {
        let Decoding { scaling, limits, permits: _held } = &decoding;
        decode(list, index, input, *scaling, limits)
    });
    // In order, so that of several bad tiles the first is named, whichever thread was faster.
    let mut tiles: Vec<Decoded> = decoded.await?.into_iter().collect::<Result<_, _>>()?;
    let references = tiles.split_off(count);
    Ok((tiles, references))
}

fn decode(
    list: &'static str,
    index: usize,
    input: TileInput,
    scaling: Option<Scaling>,
    limits: &Limits,
) -> Result<Decoded, Error> {
    let (width, height, bytes) = match input {
        TileInput::Key(key) => return Ok(Decoded { key, pixels: None }),
        TileInput::Pixels { width, height, pixels } => (width, height, pixels),
        TileInput::File(file) => {
            let RgbImage { width, height, pixels } =
                codec::decode(&file, limits).map_err(|error| refused(&error, list, index))?;
            (width, height, Bytes::from(pixels))
        }
    };
    let key = TileKey::of_pixels(width, height, &bytes);
    let for_model = scaling.map(|scaling| {
        let windows = scaling.windows((width, height));
        let canvas = at_canvas((width as u32, height as u32), &bytes, &windows);
        ForModel { windows, canvas }
    });
    let has_stain = exemplar::has_stain(&bytes, width, exemplar::STAIN_SQUARE);
    Ok(Decoded { key, pixels: Some(TilePixels { width, height, bytes, for_model, has_stain }) })
}

fn refused(error: &DecodeError, list: &'static str, index: usize) -> Error {
    let kind = match error {
        DecodeError::TooLarge { .. } => ErrorKind::ImageTooLarge,
        DecodeError::SideOutOfRange { .. } => ErrorKind::TileSize,
        _ => ErrorKind::UndecodableImage,
    };
    Error::new(kind, format!("{list} {index}: {error}")).at(list, index)
}
