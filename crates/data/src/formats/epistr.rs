//! The epithelium-stroma data set: `{IHC,NCH,NKI,VGH}/{train,test}/{epi,str}/image`. The
//! institution is the domain, the tissue is the label, and train and test are official splits.

use std::path::Path;

use anyhow::{Result, bail, ensure};

use super::folders::Files;
use crate::listing::{Item, Listing};

const INSTITUTIONS: [&str; 4] = ["IHC", "NCH", "NKI", "VGH"];
const SPLITS: [&str; 2] = ["train", "test"];
const TISSUES: [&str; 2] = ["epi", "str"];

/// Returns whether `root` holds a split of any institution.
pub(crate) fn is_here(root: &Path) -> bool {
    INSTITUTIONS
        .iter()
        .any(|institution| SPLITS.iter().any(|split| root.join(institution).join(split).is_dir()))
}

/// Lists the images of every institution that `root` holds.
///
/// # Errors
/// If there is no institution, or a folder of one is missing.
pub(crate) fn list(root: &Path) -> Result<Listing> {
    let here: Vec<&str> =
        INSTITUTIONS.into_iter().filter(|institution| root.join(institution).is_dir()).collect();
    ensure!(
        !here.is_empty(),
        "{} holds none of the folders {}",
        root.display(),
        INSTITUTIONS.join(", ")
    );
    let mut listing = Listing {
        splits: SPLITS.map(String::from).to_vec(),
        training: vec![SPLITS[0].into()],
        ..Listing::default()
    };
    let mut missing = Vec::new();
    for institution in here {
        for (split, split_name) in SPLITS.iter().enumerate() {
            for tissue in TISSUES {
                let folder = Path::new(institution).join(split_name).join(tissue);
                if !root.join(&folder).is_dir() {
                    missing.push(folder.display().to_string());
                    continue;
                }
                let (domain, label) =
                    (listing.domains.number(institution), Some(listing.labels.number(tissue)));
                let found = Files::below(&root.join(&folder))?;
                listing.passed_over.merge(found.passed_over);
                listing.items.extend(found.images.into_iter().map(|image| Item {
                    domain,
                    label,
                    split: Some(split),
                    ..Item::file(folder.join(image))
                }));
            }
        }
    }
    if !missing.is_empty() {
        bail!("{} lacks the folders {}", root.display(), missing.join(", "));
    }
    Ok(listing)
}
