//! Which package depends on which, by their manifests.

use std::collections::BTreeSet;
use std::path::Path;

use toml::Table;

/// Packages of the server and of both programs; they are built without libtorch.
const SERVER: [&str; 11] = [
    "restain",
    "restain-bundle",
    "restain-data",
    "restain-engine",
    "restain-load",
    "restain-method",
    "restain-options",
    "restain-python",
    "restain-report",
    "restain-request",
    "restain-store",
];
/// Packages that only the trainer is made of.
const TRAINER: [&str; 4] = ["restain-collectives", "restain-lab", "restain-torch", "restain-train"];
/// Libraries that few packages may name.
const OWNED: [(&str, &[&str]); 5] = [
    ("ort", &["restain-engine"]),
    ("tch", &["restain-collectives", "restain-lab", "restain-torch", "restain-train"]),
    ("axum", &["restain"]),
    ("prost", &["restain", "restain-train"]),
    ("object_store", &["restain-store"]),
];
/// Packages that share no code with the server, so that a common bug cannot hide: what they may
/// depend on of this workspace.
const LOAD: [&str; 4] = ["restain-bundle", "restain-options", "restain-report", "restain-request"];

/// A package and what it depends on outside its tests, by the names of the packages meant.
pub(super) struct Package {
    name: String,
    dependencies: BTreeSet<String>,
}

impl Package {
    pub(super) fn read(folder: &Path) -> Self {
        Self::parse(&std::fs::read_to_string(folder.join("Cargo.toml")).unwrap())
    }

    pub(super) fn parse(manifest: &str) -> Self {
        let manifest: Table = manifest.parse().unwrap();
        let name = manifest["package"]["name"].as_str().unwrap().to_owned();
        let listed = manifest.get("dependencies").and_then(|listed| listed.as_table());
        let meant = |(name, value): (&String, &toml::Value)| {
            let package = value.get("package").and_then(|package| package.as_str());
            package.unwrap_or(name).to_owned()
        };
        Self { name, dependencies: listed.into_iter().flatten().map(meant).collect() }
    }
}

/// Every dependency that a rule forbids, in words; packages of no group too.
pub(super) fn wrong_dependencies(packages: &[Package]) -> Vec<String> {
    let mut wrong = Vec::new();
    for package in packages {
        let name = package.name.as_str();
        if !SERVER.contains(&name) && !TRAINER.contains(&name) {
            wrong.push(format!("{name} is neither the server's nor the trainer's"));
        }
        for dependency in reached(package, packages) {
            let crosses = SERVER.contains(&name) && TRAINER.contains(&dependency.as_str());
            let serves = TRAINER.contains(&name) && dependency == "restain";
            if crosses || serves {
                wrong.push(format!("{name} reaches {dependency}"));
            }
        }
        for (library, owners) in OWNED {
            if package.dependencies.contains(library) && !owners.contains(&name) {
                wrong.push(format!("{name} depends on {library}"));
            }
        }
        if name == "restain-load" {
            let own = package.dependencies.iter().filter(|name| name.starts_with("restain"));
            let shared = own.filter(|name| !LOAD.contains(&name.as_str()));
            wrong.extend(shared.map(|dependency| format!("restain-load depends on {dependency}")));
        }
    }
    wrong
}

/// Everything that a package depends on, directly or by way of others of the workspace.
fn reached(package: &Package, packages: &[Package]) -> BTreeSet<String> {
    let (mut found, mut open) = (BTreeSet::new(), vec![package]);
    while let Some(next) = open.pop() {
        for dependency in &next.dependencies {
            if found.insert(dependency.clone()) {
                open.extend(packages.iter().find(|package| package.name == *dependency));
            }
        }
    }
    found
}
