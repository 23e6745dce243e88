//! Glass stays glass, pen stays pen, and black padding stays black: where a tile shows its
//! background, marks on the cover glass or nothing, a style changes at most [`LIMIT`] levels.
//!
//! A model that has learnt stains may still tint what has none. How much a pixel is glass follows
//! from the tile alone: it is bright and grey; or greener than it is red, as green, cyan and blue
//! pen are and haematoxylin, eosin and DAB are not; or black. With luminance Y = (77·R + 150·G +
//! 29·B) / 256, rounded down, and chroma C = max(R, G, B) − min(R, G, B),
//!
//! glass = max(clamp(Y − 214, 0, 16) · clamp(36 − C, 0, 16), 16 · clamp(G − R − 16, 0, 16),
//! 16 · clamp(24 − max(R, G, B), 0, 16)) / 256.
//!
//! The first is 1 from luminance 230 and up to chroma 20, and 0 up to luminance 214 or from chroma
//! 36; the second, pen, is 1 where G − R is 32 or more, and 0 up to 16: on 37 fields of H&E from
//! five hospitals and on three recorded scanners, one pixel in a thousand has more than 9, and one
//! in ten thousand more than 23. The third, padding, is 1 where no channel is above 8, and 0 from
//! 24. The change d of a value becomes glass · clamp(d, −3, 3) + (1 −
//! glass) · d, in whole numbers, so that every client can compute the same bytes.

use multiversion::multiversion;

use super::geometry::CHANNELS;

/// The largest change of a value of glass, levels.
pub const LIMIT: u8 = 3;
/// The luminance up to which a pixel is no glass, and the chroma from which it is none.
const DARKEST: u8 = 214;
const MOST_CHROMA: u8 = 36;
/// Green − red up to which a pixel is no pen.
const LEAST_PEN: u8 = 16;
/// The largest channel from which a pixel is no padding.
const LEAST_COLOUR: u8 = 24;
/// Levels of luminance, of chroma, of green − red, and of the largest channel, over which a pixel becomes glass.
const RAMP: u8 = 16;
/// [`glassness`] of glass.
const WHOLE: u16 = RAMP as u16 * RAMP as u16;

type Pixel = [u8; CHANNELS];

/// The pixels of a tile that are glass or pen, at least in part, for tiles whose own pixels are not
/// at hand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Glass {
    runs: Box<[Run]>,
    /// The pixels of one run after another.
    pixels: Box<[Pixel]>,
}

/// Successive pixels of a tile, counted row by row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first pixel.
    pub start: u32,
    /// The number of pixels.
    pub len: u32,
}

impl Glass {
    /// Finds the glass and the pen of a tile, u8 `[H, W, 3]`.
    ///
    /// # Panics
    /// When the tile has 2³² pixels or more.
    pub fn of(tile: &[u8]) -> Self {
        let (tile, _) = tile.as_chunks::<CHANNELS>();
        let (mut runs, mut pixels): (Vec<Run>, Vec<Pixel>) = (Vec::new(), Vec::new());
        for (place, pixel) in tile.iter().enumerate().filter(|(_, pixel)| glassness(**pixel) > 0) {
            let place = u32::try_from(place).expect("a tile has fewer pixels");
            match runs.last_mut() {
                Some(run) if run.start + run.len == place => run.len += 1,
                _ => runs.push(Run { start: place, len: 1 }),
            }
            pixels.push(*pixel);
        }
        Self { runs: runs.into(), pixels: pixels.into() }
    }

    /// Puts together what [`Glass::runs`] and [`Glass::pixels`] gave; `None` if it is not of a tile
    /// of `count` pixels.
    pub fn from_parts(runs: Vec<Run>, pixels: &[u8], count: usize) -> Option<Self> {
        let mut free = 0;
        for run in &runs {
            let (start, len) = (u64::from(run.start), u64::from(run.len));
            if start < free || len == 0 {
                return None;
            }
            free = start + len;
        }
        let covered = runs.iter().map(|run| u64::from(run.len)).sum::<u64>();
        let (pixels, rest) = pixels.as_chunks::<CHANNELS>();
        let fits = free <= count as u64 && covered == pixels.len() as u64 && rest.is_empty();
        fits.then(|| Self { runs: runs.into(), pixels: pixels.into() })
    }

    /// Returns where the glass lies.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Returns the tile's pixels there, u8 `[.., 3]`.
    pub fn pixels(&self) -> &[u8] {
        self.pixels.as_flattened()
    }

    /// Returns the bytes of both.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.runs) + size_of_val(&*self.pixels)
    }

    /// Does what [`keep_glass`] does, in a variant of the tile, u8 `[H, W, 3]`.
    ///
    /// # Panics
    /// When the variant is smaller than the tile.
    pub fn keep(&self, variant: &mut [u8]) {
        let mut rest: &[Pixel] = &self.pixels;
        for &Run { start, len } in &self.runs {
            let tile = rest.split_off(..len as usize).expect("runs cover the pixels");
            let part = &mut variant[start as usize * CHANNELS..][..len as usize * CHANNELS];
            keep_glass(tile.as_flattened(), part);
        }
    }
}

/// Limits the change of glass and pen in a variant. Other pixels stay as they are.
///
/// # Shapes
/// `tile` and `variant` u8 `[H, W, 3]`.
///
/// # Panics
/// When the lengths differ.
pub fn keep_glass(tile: &[u8], variant: &mut [u8]) {
    assert_eq!(tile.len(), variant.len(), "the variant has the tile's size");
    keep_in_blocks(tile.as_chunks().0, variant.as_chunks_mut().0);
}

/// Pixels that are looked at together: of tissue, which has none of glass in most blocks, no more
/// is done.
const BLOCK: usize = 128;

#[multiversion(targets = "simd")]
fn keep_in_blocks(tile: &[Pixel], variant: &mut [Pixel]) {
    let (tiles, last) = tile.as_chunks::<BLOCK>();
    let (variants, last_variants) = variant.as_chunks_mut::<BLOCK>();
    for (tile, variant) in tiles.iter().zip(variants) {
        keep_in_block(tile, variant);
    }
    for (tile, variant) in last.iter().zip(last_variants) {
        let glass = glassness(*tile);
        for (own, value) in tile.iter().zip(variant) {
            *value = limited(*own, *value, glass);
        }
    }
}

#[inline(always)]
fn keep_in_block(tile: &[Pixel; BLOCK], variant: &mut [Pixel; BLOCK]) {
    if !may_hold_glass(tile) {
        return;
    }
    let (own, mut made) = (planes(tile), planes(variant));
    let [red, green, blue] = &own;
    let mut glass = [0; BLOCK];
    for place in 0..BLOCK {
        glass[place] = glassness([red[place], green[place], blue[place]]);
    }
    for (own, made) in own.iter().zip(&mut made) {
        for place in 0..BLOCK {
            made[place] = limited(own[place], made[place], glass[place]);
        }
    }
    let [red, green, blue] = &made;
    for place in 0..BLOCK {
        variant[place] = [red[place], green[place], blue[place]];
    }
}

/// `[BLOCK, 3]` → `[3, BLOCK]`
#[inline(always)]
fn planes(pixels: &[Pixel; BLOCK]) -> [[u8; BLOCK]; CHANNELS] {
    let mut planes = [[0; BLOCK]; CHANNELS];
    for place in 0..BLOCK {
        let [red, green, blue] = pixels[place];
        (planes[0][place], planes[1][place], planes[2][place]) = (red, green, blue);
    }
    planes
}

/// Returns false only if no pixel is glass or pen, by comparing single bytes: no channel of glass
/// is below luminance − chroma, and the green of most tissue is.
#[inline(always)]
fn may_hold_glass(tile: &[Pixel; BLOCK]) -> bool {
    const DARKEST_GREEN: u8 = DARKEST - MOST_CHROMA;
    const IS_RED: [u8; BLOCK * CHANNELS] = {
        let (mut is_red, mut place) = ([0; BLOCK * CHANNELS], 0);
        while place < is_red.len() {
            is_red[place] = u8::MAX;
            place += CHANNELS;
        }
        is_red
    };
    let bytes = tile.as_flattened();
    let mut found = 0;
    for ((red, green), is_red) in bytes.iter().zip(&bytes[1..]).zip(&IS_RED) {
        let bright = green.saturating_sub(DARKEST_GREEN);
        let pen = green.saturating_sub(*red).saturating_sub(LEAST_PEN);
        let black = LEAST_COLOUR.saturating_sub(*green);
        found |= (bright | pen | black) & is_red;
    }
    found > 0
}

/// Returns how much each pixel of a tile is glass, 0 to 1: u8 `[H, W, 3]` → f32 `[H, W]`.
pub fn shares(tile: &[u8]) -> Vec<f32> {
    let (tile, _) = tile.as_chunks::<CHANNELS>();
    tile.iter().map(|&pixel| f32::from(glassness(pixel)) / f32::from(WHOLE)).collect()
}

/// A value of a variant, with the change of glass limited; without glass, itself. Of what is beyond
/// the limit, the share that is glass is taken back; halves are rounded up.
#[inline(always)]
fn limited(own: u8, value: u8, glass: u16) -> u8 {
    let beyond = |a: u8, b: u8| u16::from(a.saturating_sub(b).saturating_sub(LIMIT));
    let down = (beyond(value, own) * glass + (WHOLE / 2 - 1)) >> WHOLE.ilog2();
    let up = (beyond(own, value) * glass + WHOLE / 2) >> WHOLE.ilog2();
    // One of the two is 0, and the value does not pass the tile's.
    value - down as u8 + up as u8
}

/// How much a pixel is glass or pen, of [`WHOLE`]. In the narrowest numbers that hold it, so that
/// most pixels fit into a vector.
#[inline(always)]
fn glassness([red, green, blue]: Pixel) -> u16 {
    let weighted = 77 * u16::from(red) + 150 * u16::from(green) + 29 * u16::from(blue);
    let (most, least) = (red.max(green).max(blue), red.min(green).min(blue));
    let ramp = |value: u8| value.min(RAMP);
    let bright = ramp(((weighted >> 8) as u8).saturating_sub(DARKEST));
    let grey = ramp(MOST_CHROMA.saturating_sub(most - least));
    let pen = ramp(green.saturating_sub(red).saturating_sub(LEAST_PEN));
    let black = ramp(LEAST_COLOUR.saturating_sub(most));
    (u16::from(bright) * u16::from(grey)).max(u16::from(RAMP) * u16::from(pen.max(black)))
}

/// Returns whether a colour, of a pixel or the mean of several, is that of pen and not of a stain.
pub(crate) fn is_pen([red, green, _]: [f64; CHANNELS]) -> bool {
    green - red >= f64::from(LEAST_PEN + RAMP / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_is_limited_by_the_formula() {
        for (own, value) in (0..=255u8).flat_map(|own| (0..=255).map(move |value| (own, value))) {
            let change = i32::from(value) - i32::from(own);
            let limit = i32::from(LIMIT);
            for glass in 0..=WHOLE {
                let share = i32::from(glass);
                let kept = change.clamp(-limit, limit) * share + change * (256 - share);
                let expected = i32::from(own) + ((kept + 128) >> 8);
                let found = i32::from(limited(own, value, glass));
                assert_eq!(found, expected, "{own} to {value}, {glass} of {WHOLE}");
            }
        }
    }

    #[test]
    fn glass_and_pen_change_by_three_levels_at_most_and_tissue_as_the_style_says() {
        // The tile's pixel, the variant's, and what is left of the change.
        let cases: [(Pixel, Pixel, Pixel); 12] = [
            ([243, 243, 243], [180, 240, 255], [240, 240, 246]),
            ([250, 240, 236], [0, 0, 0], [247, 237, 233]),
            ([255, 255, 255], [255, 254, 100], [255, 254, 252]),
            // Half of the way to glass, by luminance: half of the change beyond three levels.
            ([222, 222, 222], [182, 222, 242], [201, 222, 234]),
            // Too dark, and too coloured.
            ([214, 214, 214], [100, 90, 80], [100, 90, 80]),
            ([250, 214, 245], [200, 100, 180], [200, 100, 180]),
            // Pen, green and blue; halfway to it; and the bluest haematoxylin.
            ([40, 150, 120], [140, 60, 160], [43, 147, 123]),
            ([40, 64, 160], [80, 64, 120], [62, 64, 139]),
            ([60, 70, 150], [140, 60, 160], [140, 60, 160]),
            // Padding, black or nearly; halfway to it; and the darkest nuclei.
            ([0, 8, 5], [90, 40, 120], [3, 11, 8]),
            ([16, 10, 16], [76, 10, 46], [48, 10, 33]),
            ([10, 5, 24], [90, 40, 120], [90, 40, 120]),
        ];
        for (tile, variant, expected) in cases {
            let mut kept = variant;
            keep_glass(&tile, &mut kept);
            assert_eq!(kept, expected, "{variant:?} of {tile:?}");
        }
    }

    #[test]
    fn what_is_kept_of_a_tile_limits_its_variants_as_the_tile_itself_does() {
        let tile: Vec<u8> = (0..40 * 30 * 3u32).map(|i| (150 + i / 3 * 7 % 106) as u8).collect();
        let variant: Vec<u8> = (0..tile.len() as u32).map(|i| (i * 31 % 256) as u8).collect();
        let (mut by_tile, mut by_glass) = (variant.clone(), variant.clone());
        keep_glass(&tile, &mut by_tile);
        let glass = Glass::of(&tile);
        glass.keep(&mut by_glass);
        assert_eq!(by_glass, by_tile);
        assert!(by_tile != variant && glass.bytes() < 8 * tile.len() / 3, "{}", glass.bytes());
        let again = Glass::from_parts(glass.runs().to_vec(), glass.pixels(), 1200);
        assert_eq!(again, Some(glass));
    }

    #[test]
    fn a_pixel_among_others_is_kept_as_it_is_alone() {
        // Glass, pen and tissue on either side of every bound, in many orders.
        let near = |seed: u32, place: u32| {
            let random = (place + 1).wrapping_mul(seed).wrapping_mul(2_654_435_761) >> 16;
            [170, 178, 180, 214, 215, 230, 250, 255, 40, 56, 57, 72, 90, 10, 23, 24]
                [random as usize % 16]
        };
        let tile: Vec<u8> = (0..3 * 5000).map(|place| near(7, place)).collect();
        let variant: Vec<u8> = (0..3 * 5000).map(|place| near(11, place)).collect();
        let (mut together, mut alone) = (variant.clone(), variant);
        keep_glass(&tile, &mut together);
        for (tile, variant) in tile.chunks(CHANNELS).zip(alone.chunks_mut(CHANNELS)) {
            keep_glass(tile, variant);
        }
        assert!(together == alone);
    }

    #[test]
    fn parts_that_belong_to_no_tile_are_refused() {
        let run = |start, len| Run { start, len };
        let of = |runs: &[Run], pixels: usize| {
            Glass::from_parts(runs.to_vec(), &vec![250; pixels], 10).is_some()
        };
        assert!(of(&[run(0, 4), run(6, 4)], 24) && of(&[], 0));
        assert!(!of(&[run(0, 4), run(3, 4)], 24), "they overlap");
        assert!(!of(&[run(6, 5)], 15), "beyond the tile");
        assert!(!of(&[run(0, 4)], 9) && !of(&[run(0, 3)], 10), "not as many pixels");
        assert!(!of(&[run(0, 0)], 0) && !of(&[run(u32::MAX, u32::MAX)], 3));
    }

    #[test]
    fn white_is_glass_half_way_up_the_ramp_half_and_tissue_none() {
        let tile = [243, 243, 243, 222, 222, 222, 200, 100, 180];
        assert_eq!(shares(&tile), [1.0, 0.5, 0.0]);
    }

    #[test]
    fn a_tile_without_glass_keeps_nothing() {
        let glass = Glass::of(&[200; 300]);
        assert_eq!((glass.bytes(), glass.runs()), (0, &[][..]));
    }
}
