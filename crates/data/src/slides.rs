//! Which images are of one slide, and so of one stain.
//!
//! An image belongs to the slide that `--manifest` names. Without one, an image of at least two
//! tiles a side stands for a slide of its own, and smaller ones belong to the slide that their data
//! set names (WILDS), or else to an unknown one: all of their domain together.

use std::collections::BTreeMap;
use std::path::Path;

use crate::{Dataset, Source};

/// Images of one slide, or of unknown slides of one domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slide {
    /// Index into [`Dataset::domains`].
    pub domain: usize,
    /// Indices into [`Dataset::sources`].
    pub sources: Vec<usize>,
    /// Whether the images are known to be of one slide.
    pub is_known: bool,
}

impl Dataset {
    /// Groups all images by slide, for tiles of side `tile` pixels; by domain, and in a fixed
    /// order.
    pub fn slides(&self, tile: usize) -> Vec<Slide> {
        let mut groups: BTreeMap<(usize, &Path), Vec<usize>> = BTreeMap::new();
        for (place, source) in self.sources.iter().enumerate() {
            groups.entry((source.domain, name(source, tile as u32))).or_default().push(place);
        }
        let slide = |((domain, name), sources): ((usize, &Path), Vec<usize>)| Slide {
            domain,
            sources,
            is_known: !name.as_os_str().is_empty(),
        };
        groups.into_iter().map(slide).collect()
    }
}

/// Returns the path that names a slide within its domain; empty if it is unknown.
fn name(source: &Source, tile: u32) -> &Path {
    if let Some(slide) = &source.slide {
        return Path::new(&**slide);
    }
    if source.width.min(source.height) >= 2 * tile {
        return &source.path;
    }
    let is_slide = |folder: &&Path| {
        let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with("patient_") && name.contains("_node_")
    };
    source.path.ancestors().skip(1).find(is_slide).unwrap_or(Path::new(""))
}

#[cfg(test)]
mod tests {
    use image::RgbImage;

    use crate::{Dataset, Selection};

    #[test]
    fn fields_are_slides_and_tiles_belong_to_those_that_their_folders_name() {
        let dir = tempfile::tempdir().unwrap();
        let images = [
            ("a/field.png", 32),
            ("a/tile.png", 16),
            ("b/patient_004_node_1/x.png", 16),
            ("b/patient_004_node_1/y.png", 16),
            ("b/patient_004_node_2/z.png", 16),
        ];
        for (name, side) in images {
            std::fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
            RgbImage::new(side, side).save(dir.path().join(name)).unwrap();
        }
        let dataset = Dataset::open(dir.path(), &Selection::default()).unwrap();
        let slides = dataset.slides(16);
        let found: Vec<_> = slides
            .iter()
            .map(|slide| (slide.domain, slide.sources.len(), slide.is_known))
            .collect();
        assert_eq!(found, [(0, 1, false), (0, 1, true), (1, 2, true), (1, 1, true)]);
        // For larger tiles the field is a tile.
        assert_eq!(dataset.slides(32).len(), 3);
    }
}
