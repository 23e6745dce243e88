//! A table that names the images of a data set, whatever its folders are: a CSV file with a row for
//! each, `--manifest`.
//!
//! Its columns are found by their names: `file`, the path below the data set; and, if they are
//! there, `domain`, `slide`, `split`, and the label, whose column `--label-column` names. Others
//! are ignored, and so are blanks around values. What is empty is unknown.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use csv::StringRecord;

use super::folders::NO_DOMAIN;
use crate::listing::{Item, Listing, Names};

/// The column of labels, unless another is named.
pub const LABEL: &str = "label";

/// Lists the rows of a table of images below `root`.
///
/// # Errors
/// If the table cannot be read, has no column `file` or no column of the labels that was asked for,
/// names a file twice, or one that is not there.
pub(crate) fn list(root: &Path, table: &Path, label: &str) -> Result<Listing> {
    let shown = table.display();
    let unreadable = || format!("--manifest: {shown} cannot be read");
    let mut reader = csv::ReaderBuilder::new().from_path(table).with_context(unreadable)?;
    let headers = reader.headers().with_context(unreadable)?.clone();
    let column = |name: &str| headers.iter().position(|header| header.trim() == name);
    let file = column("file").with_context(|| {
        let held: Vec<&str> = headers.iter().map(str::trim).collect();
        format!("--manifest: {shown} has no column file: it has {}", held.join(", "))
    })?;
    let [domain, slide, split, label_column] = ["domain", "slide", "split", label].map(column);
    ensure!(
        label == LABEL || label_column.is_some(),
        "--label-column: {shown} has no column {label:?}"
    );
    let (mut listing, mut splits) = (Listing::default(), Names::default());
    let mut seen = HashMap::new();
    for record in reader.into_records() {
        let record = record.with_context(unreadable)?;
        let line = record.position().map_or(0, csv::Position::line);
        let at = || format!("--manifest: {shown}, line {line}");
        let path = below(root, record[file].trim()).with_context(at)?;
        if let Some(other) = seen.insert(path.clone(), line) {
            bail!("{}: file is {}, which line {other} names too", at(), path.display());
        }
        let cell = |column: Option<usize>| cell(&record, column);
        let item = Item {
            domain: listing.domains.number(cell(domain).unwrap_or(NO_DOMAIN)),
            label: cell(label_column).map(|label| listing.labels.number(label)),
            split: cell(split).map(|split| splits.number(split)),
            slide: cell(slide).map(Box::from),
            ..Item::file(path)
        };
        listing.items.push(item);
    }
    listing.splits = splits.all().to_vec();
    listing.training = listing.splits.iter().filter(|split| *split == "train").cloned().collect();
    Ok(listing)
}

/// A value, unless there is no such column or it is empty.
fn cell(record: &StringRecord, column: Option<usize>) -> Option<&str> {
    Some(record[column?].trim()).filter(|value| !value.is_empty())
}

/// Checks the path of an image below the data set.
fn below(root: &Path, file: &str) -> Result<PathBuf> {
    let path = PathBuf::from(file);
    let is_below = path.components().all(|part| matches!(part, Component::Normal(_)));
    ensure!(
        is_below && path.components().next().is_some(),
        "file is {file:?}, and must be a path below {}",
        root.display()
    );
    ensure!(root.join(&path).is_file(), "file is {file:?}, which is not in {}", root.display());
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(table: &str, label: &str) -> Result<Listing> {
        let dir = tempfile::tempdir()?;
        std::fs::create_dir(dir.path().join("a"))?;
        ["a/1.png", "a/2.png", "3.png"].iter().try_for_each(|file| {
            std::fs::write(dir.path().join(file), "an image, for all that is read of it")
        })?;
        let path = dir.path().join("table.csv");
        std::fs::write(&path, table)?;
        list(dir.path(), &path, label)
    }

    #[test]
    fn rows_are_images_with_what_the_columns_say_of_them() {
        let table = "slide, file ,mitosis,domain,split,more\ns1,a/1.png,1,XR,train,x\n s1 , 3.png \
            ,0,XR,val,\n,a/2.png,,,,\n";
        let listing = read(table, "mitosis").unwrap();
        let of = |item: &Item| {
            let slide = item.slide.as_deref().map(str::to_owned);
            (item.path.display().to_string(), item.domain, item.label, item.split, slide)
        };
        let items: Vec<_> = listing.items.iter().map(of).collect();
        let s1 = Some("s1".to_owned());
        assert_eq!(
            items,
            [
                ("a/1.png".to_owned(), 0, Some(0), Some(0), s1.clone()),
                ("3.png".to_owned(), 0, Some(1), Some(1), s1),
                ("a/2.png".to_owned(), 1, None, None, None),
            ]
        );
        assert_eq!(listing.domains.all(), ["XR", "default"]);
        assert_eq!(
            (listing.labels.all().len(), &listing.splits[..]),
            (2, &["train".to_owned(), "val".to_owned()][..])
        );
        assert_eq!(listing.training, ["train"]);
        // Nothing but the file is needed.
        assert_eq!(read("file\n3.png\n", LABEL).unwrap().items.len(), 1);
    }

    #[test]
    fn what_cannot_be_meant_is_named_with_its_line() {
        let refused = |table: &str, label: &str| format!("{:#}", read(table, label).err().unwrap());
        for (table, label, expected) in [
            ("path,label\n3.png,1\n", LABEL, "has no column file: it has path, label"),
            ("file\n3.png\n", "grade", "--label-column: "),
            ("file\n3.png\n4.png\n", LABEL, "line 3: file is \"4.png\", which is not in"),
            ("file\n../3.png\n", LABEL, "line 2: file is \"../3.png\", and must be a path below"),
            ("file\n/etc/hosts\n", LABEL, "and must be a path below"),
            ("file\n\"\"\n", LABEL, "file is \"\", and must be a path below"),
            ("file\n3.png\n3.png\n", LABEL, "line 3: file is 3.png, which line 2 names too"),
            ("file,label\n3.png\n", LABEL, "cannot be read"),
        ] {
            let said = refused(table, label);
            assert!(said.contains(expected), "{said}");
        }
    }
}
