//! Where one tile of a data set lies, and where its variants go.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use restain_data::{Patch, Place};

/// A tile that is a file, or a row of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    /// Its path in IN.
    pub source: PathBuf,
    /// Its path in OUT, if originals are written.
    pub original: PathBuf,
    /// What its row says, if it is a patch of camelyon17, whose path follows from its row.
    pub patch: Option<Box<Patch>>,
    /// Where its bytes are.
    pub place: Place,
}

/// Returns the node of a variant. The loaders of camelyon17 build a patch's path from the columns
/// of its row, so a variant must differ in one of them; the node is a name, while coordinates are
/// numbers that people compute with.
pub(super) fn node_of(patch: &Patch, variant: usize) -> String {
    format!("{}_{}", patch.node, number(variant))
}

impl Tile {
    /// The path of a variant, without its ending.
    pub(super) fn variant(&self, variant: usize) -> PathBuf {
        match &self.patch {
            Some(patch) => patch.path(&node_of(patch, variant)),
            None => suffixed(&self.stem(), &format!(".{}", number(variant))),
        }
    }

    /// The path of the original, without its ending.
    pub(super) fn stem(&self) -> PathBuf {
        self.original.with_extension("")
    }

    /// The stem of the tile whose variant this one has the name of, if it has such a name and is
    /// one of the first `variants`.
    pub(super) fn stem_of_source(&self, variants: usize) -> Option<PathBuf> {
        let without = |name: &str, before: char| {
            let (source, last) = name.rsplit_once(before)?;
            (0..variants).any(|variant| last == number(variant)).then(|| source.to_owned())
        };
        match &self.patch {
            Some(patch) => Some(patch.path(&without(&patch.node, '_')?)),
            None => {
                let stem = self.stem();
                Some(stem.with_file_name(without(stem.file_name()?.to_str()?, '.')?))
            }
        }
    }
}

/// `v07`
pub(super) fn number(variant: usize) -> String {
    format!("v{variant:02}")
}

/// A path with something behind its name: names may hold dots, which `with_extension` would cut at.
pub(super) fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tile(path: &str, node: Option<&str>) -> Tile {
        let patch = node.map(|node| {
            let [patient, node, x, y] = ["004", node, "96", "0"].map(Box::from);
            Box::new(Patch { patient, node, x, y })
        });
        Tile { source: path.into(), original: path.into(), patch, place: Place::File }
    }

    #[test]
    fn variants_stand_beside_each_other_under_the_name_of_their_tile() {
        assert_eq!(tile("a/b.tile.png", None).variant(7), Path::new("a/b.tile.v07"));
        let home = "patches/patient_004_node_2_v00/patch_patient_004_node_2_v00_x_96_y_0";
        assert_eq!(tile("x.png", Some("2")).variant(0), Path::new(home));
    }

    #[test]
    fn a_tile_that_has_the_name_of_a_variant_leads_to_the_other() {
        let source = |path, node| tile(path, node).stem_of_source(2);
        assert_eq!(source("a/b.tile.v01.jpg", None), Some("a/b.tile".into()));
        assert_eq!([source("a/b.v02.png", None), source("v01.png", None)], [None, None]);
        let stem = "patches/patient_004_node_2/patch_patient_004_node_2_x_96_y_0";
        assert_eq!(source("x.png", Some("2_v01")), Some(stem.into()));
        assert_eq!(source("x.v01.png", Some("2")), None);
    }
}
