//! The size of a pixel in µm, where a TIFF states it: OME-XML, Aperio's description, or a
//! resolution that is one of a microscope and not of a printer.
//!
//! A wrong size is worse than none, so only a clear statement counts: square pixels, a unit that is
//! written down, and a size between 0.05 and 20 µm. Printers' 72 to 1,200 dots an inch are 21 µm a
//! pixel and more.

use std::fmt;
use std::io::Cursor;
use std::ops::RangeInclusive;

use tiff::decoder::Decoder;
use tiff::decoder::ifd::Value;
use tiff::tags::{ResolutionUnit, Tag};

use super::{Tiff, is_tiff};

/// Sizes that are believed, µm: below is no light microscope, above no tile of tissue.
const BELIEVED: RangeInclusive<f64> = 0.05..=20.0;
/// How much wider than high pixels may be that count as square.
const SQUARE: f64 = 1.01;
/// Descriptions of whole slides are long; a size stands near their beginning.
const DESCRIPTION_BYTES: u64 = 64 << 10;

/// What a file says about the size of its pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Microns {
    /// µm a pixel.
    pub size: f64,
    /// Where that stands.
    pub from: MicronsTag,
}

/// Where a TIFF states the size of its pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MicronsTag {
    /// `PhysicalSizeX` of OME-XML.
    Ome,
    /// `MPP` in the description of Aperio's scanners.
    Aperio,
    /// `XResolution`, in centimetres or inches.
    Resolution,
}

impl fmt::Display for MicronsTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ome => "OME-XML PhysicalSizeX",
            Self::Aperio => "Aperio MPP",
            Self::Resolution => "TIFF XResolution",
        })
    }
}

/// Returns the size of a picture's pixels where its file states it; nothing for what is no TIFF,
/// is damaged, or states a size that is not believed.
pub fn microns(bytes: &[u8]) -> Option<Microns> {
    if !is_tiff(bytes) {
        return None;
    }
    let mut decoder = Decoder::new(Cursor::new(bytes)).ok()?;
    let description = description(&mut decoder, bytes.len()).unwrap_or_default();
    let stated = [
        (MicronsTag::Ome, ome(&description)),
        (MicronsTag::Aperio, aperio(&description)),
        (MicronsTag::Resolution, resolution(&mut decoder)),
    ];
    stated.into_iter().find_map(|(from, sizes)| {
        let (x, y) = sizes?;
        let is_square = x.max(y) <= SQUARE * x.min(y);
        (is_square && BELIEVED.contains(&x)).then_some(Microns { size: x, from })
    })
}

/// The first bytes of what a file of `length` bytes says about itself.
fn description(decoder: &mut Tiff<'_>, length: usize) -> Option<String> {
    let mut directory = decoder.image_ifd();
    let count = directory.find_entry(Tag::ImageDescription)?.count();
    let mut text = vec![0; count.min(DESCRIPTION_BYTES).min(length as u64) as usize];
    directory.find_tag_bytes(Tag::ImageDescription, &mut text, 0).ok()??;
    // A text ends with a 0.
    let text = text.split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(text).into_owned())
}

/// Of the first image's `Pixels`; without a unit it is µm, as OME defines it.
fn ome(description: &str) -> Option<(f64, f64)> {
    let (_, pixels) = description.split_once("<Pixels").filter(|_| description.contains("<OME"))?;
    let (pixels, _) = pixels.split_once('>')?;
    let size = |axis: &str| -> Option<f64> {
        let size: f64 = attribute(pixels, &format!("PhysicalSize{axis}"))?.parse().ok()?;
        let unit = attribute(pixels, &format!("PhysicalSize{axis}Unit"));
        Some(size * unit.map_or(Some(1.0), in_microns)?)
    };
    let x = size("X")?;
    Some((x, size("Y").unwrap_or(x)))
}

/// The value of an attribute in the text of an element.
fn attribute<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    let mut parts = element.split(['"', '\'']);
    while let (Some(before), Some(value)) = (parts.next(), parts.next()) {
        if before.trim().strip_suffix('=').is_some_and(|before| before.trim() == name) {
            return Some(value.trim());
        }
    }
    None
}

/// Units of length as OME-XML writes them; both characters for µ, and as references.
fn in_microns(unit: &str) -> Option<f64> {
    match unit {
        "\u{b5}m" | "\u{3bc}m" | "&#181;m" | "&#xB5;m" | "&#xb5;m" | "&#956;m" | "um" => Some(1.0),
        "nm" => Some(1e-3),
        "mm" => Some(1e3),
        "cm" => Some(1e4),
        "m" => Some(1e6),
        _ => None,
    }
}

/// `Aperio Image Library v12 … |AppMag = 40|MPP = 0.2527|…`
fn aperio(description: &str) -> Option<(f64, f64)> {
    let fields = description.strip_prefix("Aperio")?.split('|');
    let mut sizes = fields.filter_map(|field| field.split_once('='));
    let (_, size) = sizes.find(|(name, _)| name.trim() == "MPP")?;
    let size: f64 = size.trim().parse().ok()?;
    Some((size, size))
}

/// Of pixels for each centimetre or inch; a unit that is not written down is none.
fn resolution(decoder: &mut Tiff<'_>) -> Option<(f64, f64)> {
    let unit = decoder.find_tag_unsigned::<u16>(Tag::ResolutionUnit).ok()??;
    let length = match ResolutionUnit::from_u16(unit)? {
        ResolutionUnit::Centimeter => 1e4,
        ResolutionUnit::Inch => 25_400.0,
        _ => return None,
    };
    let mut size = |tag| match decoder.find_tag(tag) {
        Ok(Some(Value::Rational(pixels, lengths))) => {
            Some(length * f64::from(lengths) / f64::from(pixels))
        }
        _ => None,
    };
    let x = size(Tag::XResolution)?;
    Some((x, size(Tag::YResolution).unwrap_or(x)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tiff::encoder::{Rational, TiffEncoder, colortype::RGB8};

    /// A small file with a description and a resolution.
    fn file(description: &str, resolution: Option<(u16, Rational, Rational)>) -> Vec<u8> {
        let mut file = Cursor::new(Vec::new());
        let mut encoder = TiffEncoder::new(&mut file).unwrap();
        let mut image = encoder.new_image::<RGB8>(2, 2).unwrap();
        // As bytes where it must be: the encoder writes no µ into a text.
        match description {
            "" => Ok(()),
            text if text.is_ascii() => image.encoder().write_tag(Tag::ImageDescription, text),
            text => image.encoder().write_tag(Tag::ImageDescription, text.as_bytes()),
        }
        .unwrap();
        if let Some((unit, x, y)) = resolution {
            image.encoder().write_tag(Tag::ResolutionUnit, unit).unwrap();
            image.encoder().write_tag(Tag::XResolution, x).unwrap();
            image.encoder().write_tag(Tag::YResolution, y).unwrap();
        }
        image.write_data(&[7; 12]).unwrap();
        file.into_inner()
    }

    fn described(description: &str) -> Option<Microns> {
        microns(&file(description, None))
    }

    fn at(unit: u16, x: u32, y: u32) -> Option<f64> {
        let rational = |n| Rational { n, d: 1 };
        microns(&file("", Some((unit, rational(x), rational(y))))).map(|stated| stated.size)
    }

    #[test]
    fn ome_states_a_size_and_a_unit() {
        let ome = |pixels: &str| {
            described(&format!(
                "<?xml version=\"1.0\"?><OME><Image><Pixels {pixels}/></Image></OME>"
            ))
        };
        let is = |size| Some(Microns { size, from: MicronsTag::Ome });
        assert_eq!(ome("ID=\"P:0\" PhysicalSizeX=\"0.25\" PhysicalSizeY=\"0.25\""), is(0.25));
        assert_eq!(ome("PhysicalSizeX='.5' PhysicalSizeXUnit='µm'"), is(0.5));
        assert_eq!(ome("PhysicalSizeXUnit=\"nm\" PhysicalSizeX=\"250\""), is(0.25));
        assert_eq!(ome("PhysicalSizeX = \"0.25\" PhysicalSizeXUnit=\"&#181;m\""), is(0.25));
        for none in [
            "SizeX=\"96\"",
            "PhysicalSizeX=\"1\" PhysicalSizeXUnit=\"pixel\"",
            "PhysicalSizeX=\"0.25\" PhysicalSizeY=\"0.5\"",
            "PhysicalSizeX=\"0.25\" PhysicalSizeY=\"1\" PhysicalSizeYUnit=\"mm\"",
            "PhysicalSizeX=\"NaN\"",
            "PhysicalSizeX=\"264.6\"",
            "Name=\"PhysicalSizeX=\" Of=\"0.25\"",
        ] {
            assert_eq!(ome(none), None, "{none}");
        }
    }

    #[test]
    fn aperio_states_microns_a_pixel() {
        let text = "Aperio Image Library v12.0.15\n240x240 |AppMag = 40|MPP = 0.2527|Left = 25";
        assert_eq!(described(text), Some(Microns { size: 0.2527, from: MicronsTag::Aperio }));
        assert_eq!(described(&text.replace("Aperio", "Another")), None);
        assert_eq!(described(&text.replace("0.2527", "40x")), None);
        assert!(described("Aperio |MPP = 0.25").is_some(), "also as the last of all");
    }

    #[test]
    fn a_resolution_counts_where_it_is_one_of_a_microscope() {
        assert_eq!((at(3, 40_000, 40_000), at(2, 50_800, 50_800)), (Some(0.25), Some(0.5)));
        for dots_an_inch in [72, 96, 150, 300, 600, 1200] {
            assert_eq!(at(2, dots_an_inch, dots_an_inch), None, "{dots_an_inch}");
        }
        for (unit, x, y) in [(3, 28, 28), (1, 40_000, 40_000), (3, 40_000, 20_000), (3, 0, 0)] {
            assert_eq!(at(unit, x, y), None, "{unit} {x} {y}");
        }
    }

    #[test]
    fn what_is_no_whole_tiff_states_nothing() {
        let whole = file("Aperio |MPP = 0.25", None);
        assert!(microns(&whole).is_some());
        for end in 0..whole.len() {
            let cut = microns(&whole[..end]);
            assert!(cut.is_none_or(|stated| stated.size == 0.25), "cut at {end}");
        }
        assert_eq!(microns(b"\x89PNG\r\n\x1a\n"), None);
    }
}
