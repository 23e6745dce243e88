//! Where one tile of a folder or a WILDS root lies, and where its variants go.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Endings of the pictures that are read, in the order in which they are looked for.
pub(super) const ENDINGS: [&str; 6] = ["png", "jpg", "jpeg", "tif", "tiff", "webp"];

pub(super) fn has_picture_ending(path: &Path) -> bool {
    path.extension()
        .is_some_and(|ending| ENDINGS.contains(&ending.to_string_lossy().to_lowercase().as_str()))
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tile {
    /// By its path from the root.
    File(PathBuf),
    /// A patch of camelyon17, whose path follows from its row.
    Patch(Patch),
}

/// What a row of metadata.csv says of where a patch is, as it is written there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Patch {
    pub patient: Box<str>,
    pub node: Box<str>,
    pub x: Box<str>,
    pub y: Box<str>,
}

impl Patch {
    /// The node of a variant. The loaders of this data set build a patch's path from these columns,
    /// so a variant must differ in one of them; the node is a name, while coordinates are numbers
    /// that people compute with.
    pub(super) fn node_of(&self, variant: usize) -> String {
        format!("{}_{}", self.node, number(variant))
    }

    /// The path without its ending, as those loaders build it.
    fn path(&self, node: &str) -> PathBuf {
        let Self { patient, x, y, .. } = self;
        let slide = format!("patient_{patient}_node_{node}");
        PathBuf::from(format!("patches/{slide}/patch_{slide}_x_{x}_y_{y}"))
    }
}

impl Tile {
    /// The tile's file below `root`, by its path from there.
    ///
    /// # Errors
    /// When there is none: the path that was looked for.
    pub(super) fn find(&self, root: &Path) -> Result<PathBuf, PathBuf> {
        match self {
            Self::File(path) => Ok(path.clone()),
            Self::Patch(patch) => {
                let stem = patch.path(&patch.node);
                let mut found = ENDINGS.iter().map(|ending| suffixed(&stem, &format!(".{ending}")));
                found.find(|path| root.join(path).exists()).ok_or_else(|| suffixed(&stem, ".png"))
            }
        }
    }

    /// The path of a variant, without its ending.
    pub(super) fn variant(&self, variant: usize) -> PathBuf {
        match self {
            Self::File(path) => {
                suffixed(&path.with_extension(""), &format!(".{}", number(variant)))
            }
            Self::Patch(patch) => patch.path(&patch.node_of(variant)),
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

    #[test]
    fn variants_stand_beside_each_other_under_the_name_of_their_tile() {
        assert_eq!(Tile::File("a/b.tile.png".into()).variant(7), Path::new("a/b.tile.v07"));
        let patch =
            Patch { patient: "004".into(), node: "2".into(), x: "96".into(), y: "0".into() };
        let home = "patches/patient_004_node_2_v00/patch_patient_004_node_2_v00_x_96_y_0";
        assert_eq!(Tile::Patch(patch).variant(0), Path::new(home));
    }
}
