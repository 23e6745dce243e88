//! Who imports whom inside one crate, read with `syn`: every path in `use` items, types and
//! expressions, followed through the names that a module gives out again. Paths that only macros
//! build are not seen.

use std::collections::{BTreeMap, BTreeSet};

use syn::visit::{self, Visit};
use syn::{ItemUse, Path, UseTree};

/// A crate as a graph of its modules. Modules written inside a file belong to the file's module.
pub(super) struct Crate {
    /// Module → modules that it imports from; ancestors and descendants left out.
    graph: BTreeMap<String, BTreeSet<String>>,
}

/// What one file says.
#[derive(Default)]
struct File {
    /// Paths that the code names, the segments of each, from the crate's root.
    paths: Vec<Vec<String>>,
    /// Names that `use` brings in, and the paths that they stand for.
    names: BTreeMap<String, Vec<String>>,
}

/// Collects the paths of a file whose module is `module`; `inner` is how deep inside inline modules
/// the code stands.
struct Collector {
    module: Vec<String>,
    inner: Vec<String>,
    file: File,
}

impl Crate {
    /// Reads files by their path below src/.
    pub(super) fn new(files: &[(String, String)]) -> Self {
        let modules: BTreeMap<String, File> =
            files.iter().map(|(path, text)| read(module_of(path), text)).collect();
        let import = |from: &String, path: &Vec<String>| {
            let to = resolve(&modules, path, 8)?;
            let related = is_ancestor(from, &to) || is_ancestor(&to, from);
            (!related).then_some(to)
        };
        let imports = |(from, file): (&String, &File)| {
            let to = file.paths.iter().filter_map(|path| import(from, path)).collect();
            (from.clone(), to)
        };
        Self { graph: modules.iter().map(imports).collect() }
    }

    pub(super) fn imports(&self) -> impl Iterator<Item = (&str, &str)> {
        self.graph
            .iter()
            .flat_map(|(from, to)| to.iter().map(move |to| (from.as_str(), to.as_str())))
    }

    /// Modules that reach each other, as one line a ring.
    pub(super) fn rings(&self) -> Vec<String> {
        let reach: BTreeMap<&str, BTreeSet<&str>> =
            self.graph.keys().map(|module| (module.as_str(), self.reached(module))).collect();
        let mut rings = BTreeSet::new();
        for (module, reached) in &reach {
            let ring: Vec<&str> = reached
                .iter()
                .copied()
                .filter(|other| reach.get(other).is_some_and(|back| back.contains(module)))
                .collect();
            if ring.len() > 1 {
                rings.insert(ring.join(", "));
            }
        }
        rings.into_iter().collect()
    }

    fn reached(&self, from: &str) -> BTreeSet<&str> {
        let (mut found, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(module) = open.pop() {
            for next in self.graph.get(module).into_iter().flatten() {
                if found.insert(next.as_str()) {
                    open.push(next);
                }
            }
        }
        found
    }
}

/// `serve/batch/mod.rs` is `["serve", "batch"]`; the root of the crate is nothing.
fn module_of(path: &str) -> Vec<String> {
    let parts = path.trim_end_matches(".rs").split('/');
    parts.filter(|part| !["mod", "lib", "main"].contains(part)).map(str::to_owned).collect()
}

fn read(module: Vec<String>, text: &str) -> (String, File) {
    let name = module.join("::");
    let mut collector = Collector { module, inner: Vec::new(), file: File::default() };
    collector.visit_file(&syn::parse_file(text).unwrap_or_else(|error| panic!("{name}: {error}")));
    (name, collector.file)
}

fn is_ancestor(module: &str, of: &str) -> bool {
    module.is_empty() || of == module || of.starts_with(&format!("{module}::"))
}

/// The module in which the thing lies that a path from the root names; nothing for what lies
/// outside the crate.
fn resolve(modules: &BTreeMap<String, File>, path: &[String], hops: usize) -> Option<String> {
    let module =
        (0..=path.len()).rev().find(|&end| modules.contains_key(&path[..end].join("::")))?;
    let name = path[..module].join("::");
    let given_out = path.get(module).and_then(|next| modules[&name].names.get(next));
    match given_out {
        // Following itself would end nowhere.
        Some(target) if hops > 0 && target != path => {
            let further: Vec<String> = [target, &path[module + 1..]].concat();
            resolve(modules, &further, hops - 1)
        }
        _ => Some(name),
    }
}

fn is_test(module: &syn::ItemMod) -> bool {
    module.attrs.iter().any(|attribute| {
        let list = attribute.meta.require_list();
        list.is_ok_and(|list| list.path.is_ident("cfg") && list.tokens.to_string() == "test")
    })
}

impl Collector {
    /// The path from the root, when it begins with `crate`, `self` or `super`, or with a name that
    /// this file knows as a module.
    fn absolute(&self, segments: &[String]) -> Option<Vec<String>> {
        let mut here = [self.module.clone(), self.inner.clone()].concat();
        let mut rest = segments;
        match segments.first()?.as_str() {
            "crate" => (here, rest) = (Vec::new(), &segments[1..]),
            "self" => rest = &segments[1..],
            "super" => {
                while rest.first().is_some_and(|part| part == "super") {
                    here.pop();
                    rest = &rest[1..];
                }
            }
            _ if segments.len() > 1 => {}
            _ => return None,
        }
        Some([here, rest.to_vec()].concat())
    }

    fn add_use(&mut self, tree: &UseTree, before: &[String]) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.add_use(&path.tree, &with(&path.ident)),
            UseTree::Name(name) if name.ident == "self" => self.bring_in(before.last(), before),
            UseTree::Name(name) => self.bring_in(Some(&name.ident.to_string()), &with(&name.ident)),
            UseTree::Rename(name) => {
                self.bring_in(Some(&name.rename.to_string()), &with(&name.ident));
            }
            UseTree::Glob(_) => self.bring_in(None, before),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.add_use(tree, before)),
        }
    }

    fn bring_in(&mut self, name: Option<&String>, path: &[String]) {
        let Some(path) = self.absolute(path) else { return };
        if let Some(name) = name.filter(|_| self.inner.is_empty()) {
            self.file.names.insert(name.clone(), path.clone());
        }
        self.file.paths.push(path);
    }
}

impl<'ast> Visit<'ast> for Collector {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        // A module in a file of its own is read there; its declaration imports nothing. Tests may
        // use what lies beside them.
        if module.content.is_some() && !is_test(module) {
            self.inner.push(module.ident.to_string());
            visit::visit_item_mod(self, module);
            self.inner.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.add_use(&item.tree, &[]);
    }

    fn visit_path(&mut self, path: &'ast Path) {
        let segments: Vec<String> =
            path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        let keyword = ["crate", "self", "super"].contains(&segments[0].as_str());
        if keyword && segments.len() > 1 {
            self.file.paths.extend(self.absolute(&segments));
        }
        visit::visit_path(self, path);
    }
}
