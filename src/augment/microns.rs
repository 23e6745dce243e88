//! The size of a tile's pixels where `--mpp` names none: what the tile's own file states, and a
//! count of it for the summary, so that nothing is taken in silence.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use restain_bundle::codec::{self, Microns, MicronsTag};

/// What the files of a run stated.
#[derive(Debug, Default)]
pub(super) struct Stated(Mutex<Counts>);

/// By where it stood: how many files, the smallest and the largest size.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Counts(BTreeMap<MicronsTag, (usize, f64, f64)>);

impl Stated {
    /// Counts what the file of one tile states.
    pub(super) fn add(&self, stated: Microns) {
        self.lock().add(stated);
    }

    pub(super) fn counts(&self) -> Counts {
        self.lock().clone()
    }

    /// No code panics while it holds this lock.
    fn lock(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The size that takes effect for a tile: what was asked for, or what its file states, and then
/// where that stands.
pub(super) fn of_file(asked: Option<f32>, file: &[u8]) -> (Option<f32>, Option<Microns>) {
    if asked.is_some() {
        return (asked, None);
    }
    let stated = codec::microns(file);
    (stated.map(|stated| stated.size as f32), stated)
}

impl Counts {
    fn add(&mut self, Microns { size, from }: Microns) {
        let (count, least, most) = self.0.entry(from).or_insert((0, size, size));
        (*count, *least, *most) = (*count + 1, least.min(size), most.max(size));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each = self.0.iter().map(|(from, (count, least, most))| {
            let size =
                if least == most { format!("{least}") } else { format!("{least} to {most}") };
            format!("{from} {size} µm of {count} tiles")
        });
        f.write_str(&each.collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_files_state_is_counted_by_where_it_stands() {
        let stated = Stated::default();
        assert!(stated.counts().is_empty());
        for (size, from) in
            [(0.5, MicronsTag::Aperio), (0.25, MicronsTag::Ome), (0.25, MicronsTag::Aperio)]
        {
            stated.add(Microns { size, from });
        }
        let said = "OME-XML PhysicalSizeX 0.25 µm of 1 tiles, Aperio MPP 0.25 to 0.5 µm of 2 tiles";
        assert_eq!(stated.counts().to_string(), said);
    }
}
