//! The invariants of ARCHITECTURE.md, asserted on the sources themselves.
//!
//! Every rule is a function from a [`Source`] (or all of them) to what is wrong, so that each is tested on a bad
//! source as well: a rule that cannot fail guards nothing. Text is enough here; comments and strings are blanked
//! first, and macros that build paths are not looked into.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The most lines a file may have.
const MAX_LINES: usize = 400;
/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 6] = ["utils", "util", "common", "helpers", "helper", "manager"];
/// Crates that are one module's secret: crate, and where it may be named.
const SECRETS: [(&str, &[&str]); 3] = [
    ("ort", &["src/engine"]),
    ("tch", &["src/train"]),
    (
        "prost",
        &[
            "src/train/export",
            "src/train/tensorboard",
            "src/serve/grpc",
            "src/serve/oip",
            "src/serve/trace/export",
            "src/fuzz",
        ],
    ),
];
/// Who may read the environment: configuration, the programs, and the lookup of the library to load.
const ENVIRONMENT: [&str; 6] = [
    "src/bin",
    "src/serve/config",
    "src/serve/cli",
    "src/train/cli",
    "src/train/options",
    "src/engine/runtime",
];
/// Who may declare flags: configuration, the programs, and the trainer's commands, each beside its own code.
const FLAGS: [&str; 22] = [
    "src/bin",
    "src/augment/options",
    "src/health",
    "src/load/options",
    "src/serve/config",
    "src/serve/cli",
    "src/train/cli",
    "src/train/options",
    "src/train/produce",
    "src/train/preset",
    "src/train/fit",
    "src/train/losses",
    "src/train/recipe",
    "src/train/watch",
    "src/train/init",
    "src/train/import",
    "src/train/export",
    "src/train/styles",
    "src/train/downstream/options",
    "src/train/evaluate",
    "src/train/phantom/cli",
    "src/train/world/options",
];
/// Transports translate, side by side: none of them knows another.
const TRANSPORTS: [&str; 4] = ["serve::http", "serve::grpc", "serve::oip", "serve::ui"];

/// The floor of a module as drawn in ARCHITECTURE.md; `None` where the drawing leaves it to the module.
fn floor(module: &str) -> Option<u8> {
    Some(match module {
        "method" => 0,
        "engine" | "codec" | "bundle" => 1,
        "serve::access" | "serve::batch" | "serve::cache" | "serve::admission" => 2,
        "train::dataset" | "train::augment" | "train::vit" | "train::losses" | "train::adamw"
        | "train::checkpoint" => 2,
        "train::world" | "train::classifier" => 2,
        "serve::pipeline" | "train::trainer" | "train::export" | "train::styles"
        | "train::evaluate" => 3,
        "train::fit" | "train::watch" | "train::produce" | "train::downstream" => 3,
        "augment" | "load" | "train::cli" => 4,
        _ if TRANSPORTS.contains(&module) => 4,
        _ if module.starts_with("bin") => 5,
        _ => return None,
    })
}

/// One file: its path from the root of the repository, with `/`, and its text.
struct Source {
    path: String,
    text: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.into(), text: text.into() }
    }

    /// The path of the module that this file is: `src/train/phantom/mod.rs` is `["train", "phantom"]`.
    fn module(&self) -> Vec<&str> {
        let inner = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        inner.split('/').filter(|part| !["mod", "lib"].contains(part)).collect()
    }

    fn lies_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| {
            self.path == format!("{place}.rs") || self.path.starts_with(&format!("{place}/"))
        })
    }

    /// Every path of this package that the code names, from its root: `crate::a::{b, c::D}` is `a::b` and `a::c::D`.
    fn imports(&self) -> Vec<Vec<String>> {
        let code = blank(&self.text);
        let mut imports = Vec::new();
        for (start, word) in words(&code) {
            let chained = code[..start].ends_with("::");
            let from = match word {
                "crate" | "restain" if !chained => Vec::new(),
                "super" if !chained => {
                    let module = self.module();
                    module[..module.len().saturating_sub(1)]
                        .iter()
                        .map(|part| part.to_string())
                        .collect()
                }
                _ => continue,
            };
            if let Some(rest) = code[start + word.len()..].strip_prefix("::") {
                follow(rest, from, &mut imports);
            }
        }
        imports
    }
}

/// Adds every path that a use tree stands for, and returns what follows it.
fn follow<'a>(mut rest: &'a str, mut path: Vec<String>, found: &mut Vec<Vec<String>>) -> &'a str {
    loop {
        rest = rest.trim_start();
        if let Some(mut inside) = rest.strip_prefix('{') {
            while !inside.trim_start().starts_with('}') && !inside.trim().is_empty() {
                inside = follow(inside, path.clone(), found).trim_start();
                inside = inside.strip_prefix(',').unwrap_or(inside);
            }
            return inside.trim_start().strip_prefix('}').unwrap_or("");
        }
        let end = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
        if end == 0 {
            found.push(path);
            let end = rest.find([',', '}', ';']).unwrap_or(rest.len());
            return &rest[end..];
        }
        match &rest[..end] {
            "super" => _ = path.pop(),
            name => path.push(name.to_string()),
        }
        rest = &rest[end..];
        match rest.strip_prefix("::") {
            Some(further) => rest = further,
            None => {
                found.push(path);
                let end = rest.find([',', '}', ';']).unwrap_or(rest.len());
                return &rest[end..];
            }
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Every word of the code and where it starts.
fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.split(|c: char| !is_word(c))
        .filter(|word| !word.is_empty())
        .map(|word| (word.as_ptr() as usize - code.as_ptr() as usize, word))
}

/// The code with comments and the insides of strings taken out.
fn blank(text: &str) -> String {
    let (mut code, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(first) = rest.chars().next() {
        let skip = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if first == '"' {
            string_end(rest)
        } else if let Some(hashes) = raw_string(rest).filter(|_| !code.ends_with(is_word)) {
            let close = format!("\"{}", "#".repeat(hashes));
            rest[hashes + 2..].find(&close).map_or(rest.len(), |end| hashes + 2 + end + close.len())
        } else if rest.starts_with("'\"'") || rest.starts_with("'\\'") {
            3
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        code.push(' ');
        rest = &rest[skip..];
    }
    code
}

/// Hashes of the raw string that begins here.
fn raw_string(rest: &str) -> Option<usize> {
    let after = rest.strip_prefix('r')?;
    let hashes = after.bytes().take_while(|&b| b == b'#').count();
    after[hashes..].starts_with('"').then_some(hashes)
}

fn string_end(rest: &str) -> usize {
    let mut escaped = false;
    let end = rest.bytes().enumerate().skip(1).find(|&(_, byte)| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    });
    end.map_or(rest.len(), |(at, _)| at + 1)
}

/// The module that a path belongs to, as coarse as the rules speak of it: one name, or two inside serve and train.
fn coarse<S: AsRef<str>>(path: &[S]) -> String {
    let depth = match path.first().map(AsRef::as_ref) {
        Some("serve" | "train" | "bin") => 2,
        _ => 1,
    };
    path.iter().take(depth).map(AsRef::as_ref).collect::<Vec<_>>().join("::")
}

/// Module → modules it imports, by names that are modules of these sources.
fn graph(sources: &[Source]) -> BTreeMap<String, BTreeSet<String>> {
    let modules: BTreeSet<String> = sources.iter().map(|source| coarse(&source.module())).collect();
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources {
        let from = coarse(&source.module());
        let to = source
            .imports()
            .into_iter()
            .map(|path| coarse(&path))
            .filter(|to| *to != from && modules.contains(to));
        graph.entry(from.clone()).or_default().extend(to);
    }
    graph
}

fn upward_imports(sources: &[Source]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (from, targets) in graph(sources) {
        for to in targets {
            let climbs = floor(&from).zip(floor(&to)).is_some_and(|(from, to)| to > from);
            // What the drawing leaves open still stands above everything shared.
            let leaves_the_ground = floor(&from).is_some_and(|floor| floor < 2)
                && (to.starts_with("serve") || to.starts_with("train"));
            let side = |module: &str| module.split("::").next().unwrap_or_default().to_string();
            let sides = ["serve", "train", "load"];
            let crosses = side(&from) != side(&to)
                && [&from, &to].iter().all(|module| sides.contains(&side(module).as_str()));
            let neighbours =
                TRANSPORTS.contains(&from.as_str()) && TRANSPORTS.contains(&to.as_str());
            if climbs || leaves_the_ground || crosses || neighbours {
                wrong.push(format!("{from} imports {to}"));
            }
        }
    }
    wrong
}

/// Modules that import each other, directly or round a ring. A parent and its own children do not count.
fn rings(sources: &[Source]) -> Vec<String> {
    let graph = graph(sources);
    let reaches =
        |from: &str, to: &str| {
            let (mut seen, mut open) = (BTreeSet::new(), vec![from.to_string()]);
            while let Some(module) = open.pop() {
                for next in graph.get(&module).into_iter().flatten().filter(|next| {
                    next.contains("::") || !["serve", "train"].contains(&next.as_str())
                }) {
                    if next == to {
                        return true;
                    }
                    if seen.insert(next.clone()) {
                        open.push(next.clone());
                    }
                }
            }
            false
        };
    graph
        .keys()
        .filter(|module| !["serve", "train"].contains(&module.as_str()))
        .filter(|module| reaches(module, module))
        .cloned()
        .collect()
}

fn named_secrets(source: &Source) -> Vec<String> {
    let code = blank(&source.text);
    let names = |secret: &str| {
        words(&code).any(|(at, word)| {
            word == secret
                && code[at + word.len()..].starts_with("::")
                && !code[..at].ends_with("::")
        })
    };
    let told = SECRETS.iter().filter(|(secret, places)| !source.lies_in(places) && names(secret));
    told.map(|(secret, _)| format!("{} names {secret}", source.path)).collect()
}

fn hidden_inputs(source: &Source) -> Vec<String> {
    let code = blank(&source.text);
    let reads = ["env::var", "env::args"].iter().any(|call| code.contains(call));
    let derives = code.split("derive(").skip(1).filter_map(|after| after.split(')').next());
    let flags =
        derives.flat_map(words).any(|(_, word)| ["Args", "Parser", "Subcommand"].contains(&word));
    let mut wrong = Vec::new();
    if reads && !source.lies_in(&ENVIRONMENT) {
        wrong.push(format!("{} reads the environment", source.path));
    }
    if flags && !source.lies_in(&FLAGS) {
        wrong.push(format!("{} declares flags", source.path));
    }
    wrong
}

fn shapeless_files(source: &Source) -> Vec<String> {
    let lines = source.text.lines().count();
    let long = (lines > MAX_LINES).then(|| format!("{} has {lines} lines", source.path));
    let empty =
        source.path.trim_end_matches(".rs").split('/').find(|part| EMPTY_NAMES.contains(part));
    long.into_iter()
        .chain(empty.map(|name| format!("{}: `{name}` says nothing", source.path)))
        .collect()
}

/// Every Rust file below `folder`.
fn read(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut sources, mut open) = (Vec::new(), vec![root.join(folder)]);
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                open.push(entry);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                let path = entry.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
                sources.push(Source { path, text: fs::read_to_string(&entry).unwrap() });
            }
        }
    }
    assert!(!sources.is_empty(), "no sources in {folder}");
    sources
}

fn each(rule: fn(&Source) -> Vec<String>) -> Vec<String> {
    read("src").iter().flat_map(rule).collect()
}

const NOTHING: [String; 0] = [];

#[test]
fn imports_point_down_and_serve_train_and_load_never_meet() {
    assert_eq!(upward_imports(&read("src")), NOTHING);
}

#[test]
fn no_modules_import_each_other() {
    assert_eq!(rings(&read("src")), NOTHING);
}

#[test]
fn foreign_engines_and_protobuf_stay_where_they_belong() {
    assert_eq!(each(named_secrets), NOTHING);
}

#[test]
fn only_configuration_reads_flags_and_environment() {
    assert_eq!(each(hidden_inputs), NOTHING);
}

#[test]
fn files_are_short_and_their_names_say_something() {
    let tests: Vec<String> = read("tests").iter().flat_map(shapeless_files).collect();
    assert_eq!([each(shapeless_files), tests].concat(), NOTHING);
}

#[test]
fn a_climbing_a_crossing_and_a_neighbourly_import_are_seen() {
    let sources = [
        Source::new("src/method/synth.rs", "use crate::{codec::decode, serve::batch::Queue};"),
        Source::new("src/codec/mod.rs", "fn f() { crate::method::psnr() }"),
        Source::new("src/load/mod.rs", "use crate::{codec::RgbImage, serve::http::Form};"),
        Source::new("src/serve/batch.rs", "use crate::train::vit::Vit;"),
        Source::new("src/serve/http/mod.rs", "use super::grpc::Reply;"),
        Source::new("src/serve/grpc/mod.rs", "use crate::serve::batch; // use crate::serve::http;"),
        Source::new("src/train/vit.rs", ""),
    ];
    let wrong = [
        "load imports serve::http",
        "method imports codec",
        "method imports serve::batch",
        "serve::batch imports train::vit",
        "serve::http imports serve::grpc",
    ];
    assert_eq!(upward_imports(&sources), wrong);
}

#[test]
fn a_ring_of_two_and_of_three_is_seen() {
    let source = |name: &str, imports: &str| {
        Source::new(&format!("src/train/{name}.rs"), &format!("use crate::train::{imports};"))
    };
    assert_eq!(
        rings(&[source("a", "b::B"), source("b", "{c, a::A}"), source("c", "d")]),
        ["train::a", "train::b"]
    );
    assert_eq!(rings(&[source("a", "b"), source("b", "c"), source("c", "a")]).len(), 3);
    assert_eq!(rings(&[source("a", "b"), source("b", "c"), source("c", "d")]), NOTHING);
}

#[test]
fn a_secret_told_is_seen_and_one_only_talked_of_is_not() {
    let told = |path: &str, text: &str| named_secrets(&Source::new(path, text)).len();
    assert_eq!(told("src/serve/batch.rs", "use ort::session::Session;"), 1);
    assert_eq!(told("src/serve/http/mod.rs", "fn f(m: &dyn prost::Message, t: tch::Tensor) {}"), 2);
    assert_eq!(told("src/engine/runtime.rs", "use ort::session::Session;"), 0);
    assert_eq!(
        told(
            "src/codec/mod.rs",
            "//! Not ort::Session.\nlet s = r#\"tch::\"#; let t = \"\\\"ort::\"; support::f();"
        ),
        0
    );
}

#[test]
fn a_hidden_input_is_seen() {
    let wrong = |path: &str, text: &str| hidden_inputs(&Source::new(path, text)).len();
    assert_eq!(wrong("src/serve/batch.rs", "let n = std::env::var(\"N\");"), 1);
    assert_eq!(wrong("src/train/vit.rs", "#[derive(Clone, clap::Args)] struct A {}"), 1);
    assert_eq!(
        wrong(
            "src/serve/config/flags.rs",
            "#[derive(Clone, clap::Args)] struct A {} std::env::var(N)"
        ),
        0
    );
    assert_eq!(wrong("src/train/recipe.rs", "#[derive(clap::ValueEnum)] enum R {}"), 0);
}

#[test]
fn a_long_file_and_an_empty_name_are_seen() {
    assert_eq!(
        shapeless_files(&Source::new("src/codec/utils.rs", &"\n".repeat(MAX_LINES + 1))).len(),
        2
    );
    assert_eq!(
        shapeless_files(&Source::new("src/codec/decode.rs", &"\n".repeat(MAX_LINES))),
        NOTHING
    );
}
