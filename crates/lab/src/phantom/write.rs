//! Writing a phantom to disk, in one of two layouts that the trainer reads.
//!
//! Folders: `<domain>/<class>/<index>.png`. WILDS: `metadata.csv` and `patches/` as in
//! camelyon17_v1.0, so that any reader of that data set reads this one. A folder that is not empty
//! is an error, because tiles of two phantoms in one folder could not be distinguished.

use std::fmt::Write as _;
use std::fs;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use rayon::prelude::*;

use super::{Label, MAX_HOSPITALS, MAX_TILES, PhantomSpec, SIDES, Tile, tile};

/// The names of the files: `--layout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Layout {
    /// `<domain>/<class>/<index>.png`
    Folders,
    /// `metadata.csv` and `patches/`, as in camelyon17_v1.0
    Wilds,
}

/// The image format of the files: `--format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum FileFormat {
    /// Lossless
    Png,
    /// Quality 95
    Jpeg,
}

/// Quality of tiles written as JPEG: high, because the hospital's scanner has compressed them
/// already.
const JPEG_QUALITY: u8 = 95;
/// Tiles of a slide in the WILDS layout.
const TILES_PER_SLIDE: u64 = 64;
/// Slides of a centre, each of one patient, as in camelyon17_v1.0.
const SLIDES: u64 = 10;
/// In the WILDS layout one pair of tiles in this many is held out (`split` 1), as in that data set.
const HELD_OUT: u64 = 10;

/// What to write, and where.
#[derive(Clone, Debug)]
pub(crate) struct WriteSpec {
    pub out: PathBuf,
    pub phantom: PhantomSpec,
    pub hospitals: usize,
    pub tiles_per_domain: u64,
    pub layout: Layout,
    pub format: FileFormat,
}

/// Writes every tile, and calls `written` after each, from any thread. Returns the number of tiles.
///
/// # Errors
/// If a number is out of range, the folder is not empty, or a file cannot be written.
pub(crate) fn write(spec: &WriteSpec, written: &(dyn Fn() + Sync)) -> anyhow::Result<u64> {
    ensure!(
        (1..=MAX_HOSPITALS).contains(&spec.hospitals),
        "hospitals must be from 1 to {MAX_HOSPITALS}"
    );
    ensure!(
        (1..=MAX_TILES).contains(&spec.tiles_per_domain),
        "tiles per domain must be from 1 to {MAX_TILES}"
    );
    ensure!(
        SIDES.contains(&spec.phantom.side),
        "a tile's side must be from {} to {} pixels",
        SIDES.start(),
        SIDES.end()
    );
    fs::create_dir_all(&spec.out).with_context(|| format!("making {}", spec.out.display()))?;
    let empty = fs::read_dir(&spec.out)
        .with_context(|| format!("reading {}", spec.out.display()))?
        .next()
        .is_none();
    ensure!(empty, "{} is not empty: name a new folder", spec.out.display());

    let total = spec.hospitals as u64 * spec.tiles_per_domain;
    (0..total).into_par_iter().try_for_each(|number| {
        let (hospital, index) =
            ((number / spec.tiles_per_domain) as usize, number % spec.tiles_per_domain);
        let path = spec.out.join(path(spec, hospital, index));
        let folder = path.parent().context("every tile lies in a folder")?;
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        save(&path, spec, &tile(&spec.phantom, hospital, index))
            .with_context(|| format!("writing {}", path.display()))?;
        written();
        anyhow::Ok(())
    })?;
    if spec.layout == Layout::Wilds {
        fs::write(spec.out.join("metadata.csv"), metadata(spec)).context("writing metadata.csv")?;
    }
    Ok(total)
}

fn path(spec: &WriteSpec, hospital: usize, index: u64) -> PathBuf {
    let extension = match spec.format {
        FileFormat::Png => "png",
        FileFormat::Jpeg => "jpg",
    };
    match spec.layout {
        Layout::Folders => PathBuf::from(format!(
            "hospital_{hospital}/{}/{index:06}.{extension}",
            Label::of(index).name()
        )),
        Layout::Wilds => {
            let Place { patient, node, x, y, .. } = Place::of(hospital, index);
            let slide = format!("patient_{patient:03}_node_{node}");
            PathBuf::from(format!("patches/{slide}/patch_{slide}_x_{x}_y_{y}.{extension}"))
        }
    }
}

/// The place of a tile on a slide, as in camelyon17_v1.0, where a centre has 20 patient numbers and
/// 10 slides.
struct Place {
    patient: u64,
    node: u64,
    slide: u64,
    x: u64,
    y: u64,
}

impl Place {
    fn of(hospital: usize, index: u64) -> Self {
        let (group, cell) = (index / TILES_PER_SLIDE, index % TILES_PER_SLIDE);
        let (round, slide) = (group / SLIDES, group % SLIDES);
        Self {
            patient: hospital as u64 * 20 + slide,
            node: slide % 5,
            slide: hospital as u64 * SLIDES + slide,
            // Further tiles of the same slide lie below those before, so that no two share a place.
            x: (cell % 8) * 96,
            y: (cell / 8 + round * 8) * 96,
        }
    }
}

fn metadata(spec: &WriteSpec) -> String {
    let mut csv = String::from(",patient,node,x_coord,y_coord,tumor,slide,center,split\n");
    for number in 0..spec.hospitals as u64 * spec.tiles_per_domain {
        let (hospital, index) = (number / spec.tiles_per_domain, number % spec.tiles_per_domain);
        let Place { patient, node, slide, x, y } = Place::of(hospital as usize, index);
        let tumour = u8::from(Label::of(index) == Label::Tumour);
        let split = u8::from(index / 2 % HELD_OUT == HELD_OUT - 1);
        writeln!(csv, "{number},{patient:03},{node},{x},{y},{tumour},{slide},{hospital},{split}")
            .expect("a String takes any text");
    }
    csv
}

fn save(path: &Path, spec: &WriteSpec, tile: &Tile) -> anyhow::Result<()> {
    let side = spec.phantom.side as u32;
    let file = BufWriter::new(fs::File::create(path)?);
    match spec.format {
        FileFormat::Png => {
            let encoder =
                PngEncoder::new_with_quality(file, CompressionType::Fast, FilterType::Adaptive);
            encoder.write_image(&tile.pixels, side, side, ExtendedColorType::Rgb8)?;
        }
        FileFormat::Jpeg => {
            let encoder = JpegEncoder::new_with_quality(file, JPEG_QUALITY);
            encoder.write_image(&tile.pixels, side, side, ExtendedColorType::Rgb8)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn spec(out: &Path, layout: Layout) -> WriteSpec {
        let phantom = PhantomSpec { seed: 1, side: 16 };
        WriteSpec {
            out: out.into(),
            phantom,
            hospitals: 2,
            tiles_per_domain: 30,
            layout,
            format: FileFormat::Png,
        }
    }

    #[test]
    fn folders_name_domain_and_class_and_hold_the_very_pixels() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(write(&spec(folder.path(), Layout::Folders), &|| ()).unwrap(), 60);
        let read =
            image::open(folder.path().join("hospital_1/tumour/000003.png")).unwrap().into_rgb8();
        assert_eq!(read.into_raw(), tile(&PhantomSpec { seed: 1, side: 16 }, 1, 3).pixels);
        assert_eq!(fs::read_dir(folder.path().join("hospital_0/normal")).unwrap().count(), 15);
    }

    #[test]
    fn every_row_of_a_wilds_phantom_names_a_file() {
        let folder = tempfile::tempdir().unwrap();
        write(&spec(folder.path(), Layout::Wilds), &|| ()).unwrap();
        let csv = fs::read_to_string(folder.path().join("metadata.csv")).unwrap();
        let rows: Vec<Vec<&str>> =
            csv.lines().skip(1).map(|line| line.split(',').collect()).collect();
        assert_eq!(rows.len(), 60);
        for row in &rows {
            let slide = format!("patient_{}_node_{}", row[1], row[2]);
            let file = folder
                .path()
                .join(format!("patches/{slide}/patch_{slide}_x_{}_y_{}.png", row[3], row[4]));
            assert!(file.is_file(), "{}", file.display());
        }
        assert_eq!(rows.iter().filter(|row| row[5] == "1").count(), 30);
        assert_eq!(rows.iter().filter(|row| row[8] == "1").count(), 4);
    }

    #[test]
    fn no_two_tiles_share_a_place() {
        let places: BTreeSet<_> =
            (0..5000).map(|i| Place::of(0, i)).map(|p| (p.patient, p.node, p.x, p.y)).collect();
        assert_eq!(places.len(), 5000);
    }

    #[test]
    fn a_folder_that_holds_something_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("mine"), "").unwrap();
        let refused = write(&spec(folder.path(), Layout::Folders), &|| ()).unwrap_err();
        assert!(refused.to_string().contains("is not empty"), "{refused}");
    }
}
