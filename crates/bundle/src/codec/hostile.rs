//! Files made to cost the reader more than their sender: each kind's headers that lie, and what
//! must come of them.
//!
//! That they are refused is asserted here; what memory they take was measured by hand (a counting
//! allocator is for a whole program, and the tests are one).

use super::decode::{decode, probe};
use super::limits::{DecodeError, Limits};
use super::{ImageFormat, RgbImage, encode};

const LIMITS: Limits = Limits::of_tile(1 << 16);

fn flat(width: usize, height: usize) -> RgbImage {
    RgbImage { width, height, pixels: vec![100; width * height * 3] }
}

fn refusal(bytes: &[u8]) -> String {
    decode(bytes, &LIMITS).expect_err("refused").to_string()
}

/// A PNG's chunk with its length and checksum.
fn chunk(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let named = [name.as_slice(), body].concat();
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
    let crc = !named
        .iter()
        .fold(!0u32, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| step(crc)));
    [(body.len() as u32).to_be_bytes().as_slice(), &named, &crc.to_be_bytes()].concat()
}

/// Signature and header, 33 bytes.
fn png_start(width: u32, height: u32) -> Vec<u8> {
    let header = [width.to_be_bytes().as_slice(), &height.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
    [b"\x89PNG\r\n\x1a\n".as_slice(), &chunk(b"IHDR", &header)].concat()
}

#[test]
fn a_png_that_holds_more_than_it_promised_gives_what_it_promised() {
    let tall = encode(ImageFormat::Png, 90, &flat(24, 2000)).unwrap();
    let bytes = [png_start(24, 16), tall[33..].to_vec()].concat();
    assert_eq!(decode(&bytes, &LIMITS).unwrap(), flat(24, 16));
}

#[test]
fn a_png_with_megabytes_of_text_is_refused_at_its_header() {
    let plain = encode(ImageFormat::Png, 90, &flat(24, 16)).unwrap();
    let text = chunk(b"zTXt", &[b"x\0\0".as_slice(), &vec![0; 1 << 20]].concat());
    let with =
        |chunks: usize| [plain[..33].to_vec(), text.repeat(chunks), plain[33..].to_vec()].concat();
    assert!(decode(&with(1), &LIMITS).is_ok());
    assert!(probe(&with(12), &LIMITS).is_err());
}

#[test]
fn a_png_of_any_promised_size_is_refused_before_its_profile_is_unpacked() {
    // The profile is damaged: a decoder that reached it would not have returned the size.
    let bytes = [png_start(60_000, 60_000), chunk(b"iCCP", b"x\0\0damaged")].concat();
    assert!(matches!(
        probe(&bytes, &LIMITS),
        Err(DecodeError::TooLarge { width: 60_000, height: 60_000, .. })
    ));
}

fn riff(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
    let one = |(name, body): &(&[u8; 4], &[u8])| {
        let padding = [0].repeat(body.len() % 2);
        [name.as_slice(), &(body.len() as u32).to_le_bytes(), body, &padding].concat()
    };
    let body = [b"WEBP".to_vec(), chunks.iter().flat_map(one).collect()].concat();
    [b"RIFF".as_slice(), &(body.len() as u32).to_le_bytes(), &body].concat()
}

/// An extended header, of sides up to 2^24.
fn canvas(width: u32, height: u32, flags: u8) -> Vec<u8> {
    [&[flags, 0, 0, 0], &(width - 1).to_le_bytes()[..3], &(height - 1).to_le_bytes()[..3]].concat()
}

#[test]
fn a_webp_bitstream_larger_than_its_canvas_is_refused_before_it_is_decoded() {
    let mut stream = encode(ImageFormat::Webp, 50, &flat(24, 16)).unwrap()[20..].to_vec();
    let file = |canvas: &[u8], stream: &[u8]| riff(&[(b"VP8X", canvas), (b"VP8 ", stream)]);
    assert!(decode(&file(&canvas(24, 16, 0), &stream), &LIMITS).is_ok());
    assert!(matches!(
        decode(&file(&canvas(16_000, 16_000, 0), &stream), &LIMITS),
        Err(DecodeError::TooLarge { .. })
    ));
    // Width and height stand behind the frame tag and the start code.
    stream[6..10].copy_from_slice(&[0xFF, 0x3F, 0xFF, 0x3F]);
    assert!(
        refusal(&file(&canvas(24, 16, 0), &stream))
            .ends_with("its bitstream has another size than its header")
    );
    assert!(matches!(
        decode(&riff(&[(b"VP8 ", &stream)]), &LIMITS),
        Err(DecodeError::TooLarge { width: 16_383, .. })
    ));
}

#[test]
fn a_webp_lossless_stream_larger_than_its_canvas_is_refused() {
    let mut stream = encode(ImageFormat::Webp, 100, &flat(24, 16)).unwrap()[20..].to_vec();
    let file = |stream: &[u8]| riff(&[(b"VP8X", &canvas(24, 16, 0)), (b"VP8L", stream)]);
    assert!(decode(&file(&stream), &LIMITS).is_ok());
    stream[1..4].fill(0xFF);
    assert!(decode(&file(&stream), &LIMITS).is_err());
}

#[test]
fn an_animated_webp_is_refused() {
    let stream = encode(ImageFormat::Webp, 50, &flat(24, 16)).unwrap()[12..].to_vec();
    let frame = [&[0; 6], [23, 0, 0, 15, 0, 0].as_slice(), &[0; 4], &stream].concat();
    let file = riff(&[
        (b"VP8X", &canvas(24, 16, 2)),
        (b"ANIM", &[0; 6]),
        (b"ANMF", &frame),
        (b"ANMF", &frame),
    ]);
    assert!(
        refusal(&file).ends_with("it is an animation, and a tile is one picture"),
        "{}",
        refusal(&file)
    );
}

/// A grey progressive JPEG written by hand: one bit a block for the first scan, then scans that
/// refine it by a bit.
fn progressive(side: u16, refinements: usize) -> Vec<u8> {
    let mut bytes = vec![0xFF, 0xD8, 0xFF, 0xDB, 0, 67, 0];
    bytes.extend([1; 64]);
    bytes.extend([0xFF, 0xC2, 0, 11, 8]);
    bytes.extend([side.to_be_bytes(), side.to_be_bytes()].concat());
    bytes.extend([1, 1, 0x11, 0]);
    // One Huffman code, a single zero bit: no difference from the block before.
    bytes.extend([0xFF, 0xC4, 0, 20, 0, 1]);
    bytes.extend([0; 16]);
    let scan = |refines: u8| {
        let blocks = usize::from(side).div_ceil(8).pow(2);
        [&[0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 0, refines], vec![0; blocks.div_ceil(8)].as_slice()]
            .concat()
    };
    bytes.extend(scan(0x01));
    bytes.extend(scan(0x10).repeat(refinements));
    bytes.extend([0xFF, 0xD9]);
    bytes
}

#[test]
fn a_jpeg_of_more_than_a_hundred_scans_is_refused() {
    assert!(decode(&progressive(64, 3), &LIMITS).is_ok());
    assert!(refusal(&progressive(64, 5000)).contains("Too many scans"));
}

#[test]
fn a_jpeg_that_promises_too_much_is_refused_before_its_scans() {
    assert!(matches!(
        decode(&progressive(65_535, 0), &LIMITS),
        Err(DecodeError::TooLarge { width: 65_535, .. })
    ));
    assert!(matches!(probe(&progressive(65_535, 0), &LIMITS), Err(DecodeError::TooLarge { .. })));
}

/// A little-endian TIFF of one directory: (tag, type, count, value) and what follows it.
fn tiff(entries: &[(u16, u16, u32, u32)], data: &[u8]) -> Vec<u8> {
    let entry = |&(tag, kind, count, value): &(u16, u16, u32, u32)| {
        [tag.to_le_bytes(), kind.to_le_bytes()]
            .concat()
            .into_iter()
            .chain([count.to_le_bytes(), value.to_le_bytes()].concat())
    };
    let head = [b"II*\0\x08\0\0\0".as_slice(), &(entries.len() as u16).to_le_bytes()].concat();
    head.into_iter()
        .chain(entries.iter().flat_map(entry))
        .chain([0; 4])
        .chain(data.iter().copied())
        .collect()
}

/// One strip of grey pixels.
fn stripped(width: u32, height: u32) -> Vec<(u16, u16, u32, u32)> {
    let (bits, packing, photometric, samples) =
        ((258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1));
    let (offsets, rows, lengths) =
        ((273, 4, 1, 8), (278, 4, 1, height), (279, 4, 1, width * height));
    vec![
        (256, 4, 1, width),
        (257, 4, 1, height),
        bits,
        packing,
        photometric,
        offsets,
        samples,
        rows,
        lengths,
    ]
}

#[test]
fn a_tiff_whose_counts_lie_is_refused() {
    assert!(decode(&tiff(&stripped(24, 16), &[5; 400]), &LIMITS).is_ok());
    assert!(matches!(
        decode(&tiff(&stripped(60_000, 60_000), &[]), &LIMITS),
        Err(DecodeError::TooLarge { .. })
    ));
    let lies = [
        (2, (258, 3, 1 << 30, 8)),
        (5, (273, 4, 1 << 30, 8)),
        (6, (277, 3, 1, 65_535)),
        (7, (278, 4, 1, 0)),
        (8, (279, 4, 1 << 30, 8)),
        (8, (279, 4, 1, u32::MAX)),
    ];
    for (index, lie) in lies {
        let mut entries = stripped(24, 16);
        entries[index] = lie;
        assert!(decode(&tiff(&entries, &[5; 400]), &LIMITS).is_err(), "{lie:?}");
    }
}

#[test]
fn a_tiff_of_tiles_beyond_all_measure_is_refused() {
    let tiled = |side: u32| {
        let mut entries = stripped(24, 16);
        entries.retain(|entry| ![273, 278, 279].contains(&entry.0));
        entries.extend([(322, 4, 1, side), (323, 4, 1, side), (324, 4, 1, 8), (325, 4, 1, 256)]);
        tiff(&entries, &[5; 2000])
    };
    assert!(decode(&tiled(32), &LIMITS).is_ok());
    for side in [0, 1, 1 << 16, u32::MAX] {
        assert!(decode(&tiled(side), &LIMITS).is_err(), "{side}");
    }
}

/// Entries of a picture in strips of one row, all of them the same bytes.
fn shared_strips(width: u32, height: u32, data: usize) -> Vec<u8> {
    let directory = 8 + 2 + 9 * 12 + 4;
    let lists = directory + data as u32;
    let mut entries = stripped(width, height);
    (entries[5].2, entries[5].3) = (height, lists);
    (entries[7].3, entries[8].2) = (1, height);
    entries[8].3 = lists + 4 * height;
    let offsets = std::iter::repeat_n(directory, height as usize);
    let lengths = std::iter::repeat_n(data as u32, height as usize);
    let lists: Vec<u8> = offsets.chain(lengths).flat_map(u32::to_le_bytes).collect();
    tiff(&entries, &[vec![5; data], lists].concat())
}

#[test]
fn a_tiff_whose_strips_are_the_same_bytes_is_refused() {
    assert!(decode(&shared_strips(24, 16, 24), &LIMITS).is_ok(), "a few may be");
    assert!(refusal(&shared_strips(24, 2000, 3 << 20)).contains("its strips have"));
}

/// Strips of JPEG.
fn of_jpeg(side: u32, jpeg: &[u8]) -> Vec<u8> {
    let mut entries = stripped(side, side);
    entries[3].3 = 7;
    // Behind the directory.
    entries[5].3 = 8 + 2 + 9 * 12 + 4;
    entries[8].3 = jpeg.len() as u32;
    tiff(&entries, jpeg)
}

#[test]
fn a_tiff_whose_inner_jpeg_is_larger_than_its_strip_is_refused() {
    assert!(decode(&of_jpeg(64, &progressive(64, 1)), &LIMITS).is_ok());
    let inner = refusal(&of_jpeg(64, &progressive(16_384, 0)));
    assert!(inner.contains("16384×16384"), "{inner}");
    // Behind one that fits, and behind a segment that hides it from a search.
    let behind = [progressive(64, 0), progressive(16_384, 0)].concat();
    assert!(refusal(&of_jpeg(64, &behind)).contains("16384×16384"));
    let mut thumbnail = vec![0xFF, 0xD8, 0xFF, 0xE1, 0, 13];
    thumbnail.extend([0xFF, 0xC0, 0, 11, 8, 0x40, 0, 0x40, 0, 1, 1]);
    thumbnail.extend(&progressive(64, 0)[2..]);
    assert!(decode(&of_jpeg(64, &thumbnail), &LIMITS).is_ok(), "a thumbnail is not the picture");
}

#[test]
fn a_tiff_whose_inner_jpeg_does_not_fill_its_strip_is_refused() {
    let narrow = refusal(&of_jpeg(64, &progressive(32, 1)));
    assert!(narrow.contains("32×32 pixels"), "rows would be sheared: {narrow}");
    let whole = progressive(64, 1);
    assert!(refusal(&of_jpeg(64, &whole[..whole.len() - 2])).contains("cut off"));
    let colour = encode(ImageFormat::Jpeg, 90, &flat(64, 64)).unwrap();
    assert!(refusal(&of_jpeg(64, &colour)).contains("3 components"));
}

#[test]
fn a_tiff_whose_pages_never_end_is_refused() {
    let mut file = tiff(&stripped(24, 16), &[5; 400]);
    let next = 8 + 2 + 9 * 12;
    file[next..next + 4].copy_from_slice(&8_u32.to_le_bytes());
    assert!(refusal(&file).contains("a cycle in the list"), "{}", refusal(&file));
}

#[test]
fn a_tiff_of_a_table_of_colours_costs_no_copy_of_what_stands_beside_it() {
    let table = 8 + 2 + 10 * 12 + 4;
    let mut entries = stripped(24, 16);
    (entries[4].3, entries[5].3) = (3, 8);
    entries.push((320, 3, 3 * 256, table));
    let colours: Vec<u8> = (0..3 * 256_u32).flat_map(|n| ((n << 8) as u16).to_le_bytes()).collect();
    let plain = tiff(&entries, &colours);
    assert!(decode(&plain, &LIMITS).is_ok());
    let large = [plain, vec![0; 5 << 20]].concat();
    assert!(refusal(&large).contains("far larger than its picture"));
}

#[test]
fn a_tiff_whose_tiles_are_far_larger_than_the_picture_is_refused() {
    let tiled = |side: u32| {
        let mut entries = stripped(24, 16);
        entries.retain(|entry| ![273, 278, 279].contains(&entry.0));
        entries.extend([(322, 4, 1, side), (323, 4, 1, side), (324, 4, 1, 8), (325, 4, 1, 256)]);
        tiff(&entries, &[5; 2000])
    };
    assert!(refusal(&tiled(8192)).contains("its tiles are 8192×8192"));
}

#[test]
fn sides_have_a_bound_of_their_own() {
    let limits = Limits::of_tile(1 << 24);
    for (width, height) in [(8193, 1), (1, 3_000_000), (0, 5)] {
        assert!(matches!(limits.check(width, height), Err(DecodeError::SideOutOfRange { .. })));
    }
    assert_eq!(limits.check(8192, 2048).unwrap(), 1 << 24);
    let long = encode(ImageFormat::Png, 90, &flat(9000, 1)).unwrap();
    assert!(matches!(probe(&long, &limits), Err(DecodeError::SideOutOfRange { width: 9000, .. })));
}
