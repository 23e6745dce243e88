//! `restain augment` as a program: what it makes of data sets, and what becomes of it when it is
//! stopped.

mod collisions;
mod folder;
mod microns;
mod odd_inputs;
mod program;
mod refusals;
mod resume;
mod selection;
mod slides;
mod webdataset;
mod wilds;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::harness::{models, picture, png, restain, tile};

/// A data set, the models, and where variants go.
struct Job {
    home: TempDir,
    models: TempDir,
}

/// Files by their path from a root.
type Tree = BTreeMap<String, Vec<u8>>;

impl Job {
    fn new() -> Self {
        let job = Self { home: tempfile::tempdir().unwrap(), models: models() };
        std::fs::create_dir(job.input()).unwrap();
        job
    }

    /// With `count` tiles of the model's size, in two folders.
    fn of_tiles(count: usize) -> Self {
        let job = Self::new();
        for number in 0..count {
            job.put(
                &format!("{}/t{number:03}.png", ["north", "south"][number % 2]),
                &png(&tile(number)),
            );
        }
        job
    }

    /// With `count` tiles that take their time: larger than the model's.
    fn of_large_tiles(count: usize) -> Self {
        let job = Self::new();
        for number in 0..count {
            job.put(&format!("{}/t{number:03}.png", number % 3), &png(&picture(number, 128, 128)));
        }
        job
    }

    fn input(&self) -> PathBuf {
        self.home.path().join("in")
    }

    fn out(&self) -> PathBuf {
        self.home.path().join("out")
    }

    /// Where the job keeps what it has to remember.
    fn state(&self) -> PathBuf {
        self.home.path().join("out.restain")
    }

    /// A file of the data set.
    fn put(&self, path: &str, bytes: &[u8]) {
        let path = self.input().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn command(&self, input: &Path, out: &Path, flags: &[&str]) -> Command {
        let mut command = restain();
        command
            .arg("augment")
            .args([input, out])
            .arg("--models")
            .arg(self.models.path())
            .args(["--threads", "1"])
            .args(flags);
        command
    }

    fn output(&self, flags: &[&str]) -> Output {
        self.command(&self.input(), &self.out(), flags).output().unwrap()
    }

    /// Runs it to its end, which is a good one, and gives what it says of it.
    fn run(&self, flags: &[&str]) -> String {
        succeeded(&self.output(flags))
    }

    /// Runs it into another folder than its own, and gives what is there then.
    fn run_into(&self, out: &str, flags: &[&str]) -> Tree {
        let out = self.home.path().join(out);
        succeeded(&self.command(&self.input(), &out, flags).output().unwrap());
        tree(&out)
    }

    /// Runs it to a bad end: the status, and what it says.
    fn refused(&self, flags: &[&str]) -> (i32, String) {
        let output = self.output(flags);
        (output.status.code().unwrap(), text(&output.stderr))
    }

    fn made(&self) -> Tree {
        tree(&self.out())
    }
}

fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// All files below a folder. Those that come and go meanwhile are passed over.
fn tree(root: &Path) -> Tree {
    let (mut files, mut open) = (Tree::new(), vec![root.to_owned()]);
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if let Ok(bytes) = std::fs::read(&path) {
                files.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(), bytes);
            }
        }
    }
    files
}

/// Compares trees by their names first, so that what differs can be read.
fn assert_same(one: &Tree, other: &Tree) {
    assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
    let different: Vec<&String> = one.keys().filter(|name| one[*name] != other[*name]).collect();
    assert!(different.is_empty(), "{different:?}");
}
