//! What ARCHITECTURE.md claims and the compiler cannot say, asserted on the sources themselves.
//!
//! The walls between crates are rustc's: what a crate does not depend on it cannot name. Here is
//! the rest: which crate may depend on which, rings of modules inside a crate, transports that know
//! each other, the floors of the server, long files and empty names. Every rule is tried on sources
//! that break it as well: a rule that cannot fail guards nothing.

mod modules;
mod packages;

use std::fs;
use std::path::{Path, PathBuf};

use modules::Crate;
use packages::Package;

/// The most lines a file may have.
const MAX_LINES: usize = 400;
/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 6] = ["utils", "util", "common", "helpers", "helper", "manager"];
/// The server from the bottom up; a module imports from its own floor and those below. What is not
/// listed is on no floor.
const FLOORS: [&[&str]; 4] = [
    &["serve::error", "serve::runtime", "serve::metrics", "serve::trace"],
    &["serve::access", "serve::admission", "serve::batch", "serve::cache", "serve::styles"],
    &["serve::models", "serve::pipeline", "serve::services"],
    &["serve::transport", "augment"],
];
/// Transports translate, side by side: none of them knows another.
const TRANSPORTS: [&str; 3] =
    ["serve::transport::http", "serve::transport::grpc", "serve::transport::oip"];

const NOTHING: [String; 0] = [];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folders of all packages: the root and each folder of crates/.
fn package_folders() -> Vec<PathBuf> {
    let crates = fs::read_dir(root().join("crates")).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = crates.chain([root().to_owned()]).collect();
    folders.sort();
    folders
}

/// Every Rust file below `folder`, with its path relative to it, `/` between its parts.
fn rust_files(folder: &Path) -> Vec<(String, String)> {
    let (mut files, mut open) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(next) = open.pop() {
        for path in fs::read_dir(&next).into_iter().flatten().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let relative = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                files.push((relative, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    files
}

fn is_within(module: &str, room: &str) -> bool {
    module.strip_prefix(room).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Imports from a lower floor of the server to a higher one, and of one transport from another.
fn wrong_imports(server: &Crate) -> Vec<String> {
    let floor = |module: &str| {
        FLOORS.iter().position(|rooms| rooms.iter().any(|room| is_within(module, room)))
    };
    let transport = |module: &str| TRANSPORTS.iter().find(|room| is_within(module, room));
    let is_wrong = |(from, to): &(&str, &str)| {
        let climbs = floor(from).zip(floor(to)).is_some_and(|(from, to)| from < to);
        let crosses = transport(from).zip(transport(to)).is_some_and(|(from, to)| from != to);
        climbs || crosses
    };
    let wrong = server.imports().filter(is_wrong);
    wrong.map(|(from, to)| format!("{from} imports {to}")).collect()
}

fn shapeless(path: &str, text: &str) -> Vec<String> {
    let lines = text.lines().count();
    let long = (lines > MAX_LINES).then(|| format!("{path} has {lines} lines"));
    let mut parts = path.trim_end_matches(".rs").split('/');
    let empty = parts.find(|part| EMPTY_NAMES.contains(part));
    long.into_iter().chain(empty.map(|name| format!("{path}: `{name}` says nothing"))).collect()
}

#[test]
fn no_package_of_the_server_depends_on_one_of_the_trainer_and_engines_have_one_owner() {
    let packages: Vec<Package> = package_folders().iter().map(|at| Package::read(at)).collect();
    assert_eq!(packages::wrong_dependencies(&packages), NOTHING);
}

#[test]
fn modules_import_each_other_in_no_ring() {
    let rings: Vec<String> = package_folders()
        .iter()
        .flat_map(|folder| {
            let rings = Crate::new(&rust_files(&folder.join("src"))).rings();
            rings.into_iter().map(move |ring| {
                format!("{}: {ring}", folder.strip_prefix(root()).unwrap().display())
            })
        })
        .collect();
    assert_eq!(rings, NOTHING);
}

#[test]
fn imports_of_the_server_point_down_and_no_transport_knows_another() {
    let server = Crate::new(&rust_files(&root().join("src")));
    assert_eq!(wrong_imports(&server), NOTHING);
}

#[test]
fn files_are_short_and_their_names_say_something() {
    let folders = package_folders();
    let wrong: Vec<String> = folders
        .iter()
        .flat_map(|folder| ["src", "tests", "benches"].map(|part| folder.join(part)))
        .flat_map(|folder| {
            rust_files(&folder).into_iter().map(move |(path, text)| {
                (format!("{}/{path}", folder.strip_prefix(root()).unwrap().display()), text)
            })
        })
        .flat_map(|(path, text)| shapeless(&path, &text))
        .collect();
    assert_eq!(wrong, NOTHING);
}

/// A crate of files whose text is given.
fn crate_of(files: &[(&str, &str)]) -> Crate {
    let owned: Vec<_> =
        files.iter().map(|&(path, text)| (path.to_owned(), text.to_owned())).collect();
    Crate::new(&owned)
}

#[test]
fn a_climbing_and_a_crossing_import_are_seen() {
    let server = crate_of(&[
        ("lib.rs", "mod serve;"),
        ("serve/mod.rs", "mod batch; mod transport; mod pipeline; mod error;"),
        ("serve/error.rs", "use super::pipeline as stage;"),
        ("serve/batch.rs", "fn f() { crate::serve::pipeline::run() }"),
        ("serve/pipeline.rs", "use crate::serve::{batch, error::Error};"),
        ("serve/transport/mod.rs", "pub mod http; pub mod grpc; pub use grpc::Reply;"),
        ("serve/transport/http.rs", "use super::Reply;"),
        ("serve/transport/grpc.rs", "pub struct Reply; use crate::serve::pipeline;"),
    ]);
    let mut wrong = wrong_imports(&server);
    wrong.sort();
    let expected = [
        "serve::batch imports serve::pipeline",
        "serve::error imports serve::pipeline",
        "serve::transport::http imports serve::transport::grpc",
    ];
    assert_eq!(wrong, expected);
}

#[test]
fn rings_of_two_of_three_and_through_a_re_export_are_seen_and_strings_are_not() {
    let ring = |a: &str, b: &str, c: &str| {
        crate_of(&[
            ("lib.rs", "mod a; mod b; mod c; pub use b::B;"),
            ("a.rs", a),
            ("b.rs", b),
            ("c.rs", c),
        ])
        .rings()
    };
    assert_eq!(ring("use crate::b::B;", "use super::{c, a::A};", ""), ["a, b"]);
    assert_eq!(ring("use crate::b;", "fn f(c: crate::c::C) {}", "use crate::a::*;"), ["a, b, c"]);
    // By way of the name that the root gives out, and under another name.
    assert_eq!(ring("use crate::B;", "use crate::a as other;", ""), ["a, b"]);
    assert_eq!(ring("use crate::b;", "mod inner { use crate::a; }", ""), ["a, b"]);
    assert_eq!(ring("use crate::b;", "#[cfg(test)] mod tests { use crate::a; }", ""), NOTHING);
    assert_eq!(
        ring("use crate::b;", "// use crate::a;\nconst S: &str = \"crate::a\";", ""),
        NOTHING
    );
    assert_eq!(ring("use crate::b;", "use crate::c;", "use std::fmt;"), NOTHING);
}

#[test]
fn a_parent_and_its_own_children_are_no_ring() {
    let tree =
        [("lib.rs", "mod a;"), ("a/mod.rs", "mod b; pub use b::B;"), ("a/b.rs", "use super::A;")];
    assert_eq!(crate_of(&tree).rings(), NOTHING);
}

#[test]
fn a_forbidden_dependency_is_seen_however_it_is_renamed() {
    let packages = |manifests: &[&str]| -> Vec<Package> {
        manifests.iter().map(|text| Package::parse(text)).collect()
    };
    let wrong = |manifests: &[&str]| packages::wrong_dependencies(&packages(manifests)).len();
    let of = |name: &str, dependency: &str| {
        format!("[package]\nname = \"{name}\"\n[dependencies]\n{dependency}\n")
    };
    assert_eq!(wrong(&[&of("restain-engine", "ort.workspace = true")]), 0);
    assert_eq!(wrong(&[&of("restain", "ort = \"2\"")]), 1);
    assert_eq!(wrong(&[&of("restain", "runtime = { package = \"ort\", version = \"2\" }")]), 1);
    let data = of("restain-data", "tch = \"1\"");
    // The server reaches the trainer by way of a crate between.
    let bundle = of("restain-bundle", "restain-lab.workspace = true");
    let lab = of("restain-lab", "");
    let server = of("restain", "restain-bundle.workspace = true");
    assert_eq!(wrong(&[&data]), 1);
    assert_eq!(wrong(&[&server, &bundle, &lab]), 2);
}

#[test]
fn a_long_file_and_an_empty_name_are_seen() {
    assert_eq!(shapeless("src/codec/utils.rs", &"\n".repeat(MAX_LINES + 1)).len(), 2);
    assert_eq!(shapeless("src/codec/decode.rs", &"\n".repeat(MAX_LINES)), NOTHING);
}
