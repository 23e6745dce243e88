//! The corpus through every decoder, and what chance makes of it: the part of fuzzing that needs no
//! second build of all dependencies. Chance has a seed, so that what fails once fails again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::{TARGETS, Target};

/// Inputs made of the corpus of each decoder.
const MUTANTS: usize = 4000;
/// Numbers that lengths, counts and sizes go wrong at.
const EDGES: [u64; 9] = [0, 1, 0x7f, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, u64::MAX];

fn place(of: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(of)
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let listed = std::fs::read_dir(place("corpus").join(name))
        .unwrap_or_else(|error| panic!("the corpus of {name}: {error}"));
    let mut paths: Vec<PathBuf> = listed.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

struct Chance(ChaCha8Rng);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        (self.0.next_u64() % end.max(1) as u64) as usize
    }

    /// One to four changes of one file, some of them with a piece of another.
    fn mutant(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = corpus[self.below(corpus.len())].clone();
        for _ in 0..=self.below(4) {
            self.change(&mut bytes, corpus);
        }
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let at = self.below(bytes.len());
        let end = (at + 1 + self.below(32)).min(bytes.len());
        match self.below(7) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
            1 if !bytes.is_empty() => bytes[at] = self.0.next_u64() as u8,
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at.min(end)..end)),
            4 => {
                let twice = bytes[at.min(end)..end].to_vec();
                bytes.splice(at.min(end)..at.min(end), twice);
            }
            5 => {
                let width = 1 << self.below(4);
                let edge = EDGES[self.below(EDGES.len())];
                let number = if self.below(2) == 0 {
                    edge.to_le_bytes()[..width].to_vec()
                } else {
                    edge.to_be_bytes()[8 - width..].to_vec()
                };
                let over = (at + width).min(bytes.len());
                bytes.splice(at.min(over)..over, number);
            }
            _ => {
                let other = &corpus[self.below(corpus.len())];
                let from = self.below(other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
}

fn survives(name: &str, target: Target, bytes: &[u8], which: &str) {
    if catch_unwind(AssertUnwindSafe(|| target(bytes))).is_err() {
        let path = std::env::temp_dir().join(format!("restain-fuzz-{name}-{which}"));
        std::fs::write(&path, bytes).unwrap();
        panic!("{name} fails on {which}, which is in {}", path.display());
    }
}

fn replay(name: &str) {
    let (_, target) = TARGETS.into_iter().find(|(target, _)| *target == name).unwrap();
    let corpus = corpus(name);
    corpus
        .iter()
        .enumerate()
        .for_each(|(index, bytes)| survives(name, target, bytes, &format!("file-{index}")));
    let mut chance = Chance(ChaCha8Rng::seed_from_u64(6));
    (0..MUTANTS)
        .for_each(|n| survives(name, target, &chance.mutant(&corpus), &format!("mutant-{n}")));
}

macro_rules! replayed {
    ($($test:ident: $name:literal,)*) => {
        $(#[test] fn $test() { replay($name); })*

        const REPLAYED: &[&str] = &[$($name),*];
    };
}

replayed! {
    a_picture_is_decoded_or_refused: "image",
    a_json_body_is_read_or_refused: "json",
    a_query_string_is_read_or_refused: "query",
    a_form_is_read_or_refused: "form",
    a_form_that_adds_styles_is_read_or_refused: "add_form",
    a_tensor_body_is_read_or_refused: "safetensors",
    an_inference_body_is_read_or_refused: "oip",
    an_inference_message_is_read_or_refused: "oip_grpc",
    a_message_is_read_or_refused: "grpc",
    a_bundle_is_opened_or_refused: "bundle",
    weights_are_read_or_refused: "weights",
    a_style_bank_is_read_or_refused: "styles",
    a_cache_entry_is_read_or_refused: "cache_entry",
    pixels_go_through_or_are_refused: "pixels",
}

#[test]
fn every_decoder_has_its_fuzzer_its_corpus_and_its_replay() {
    let manifest: toml::Value =
        toml::from_str(&std::fs::read_to_string(place("Cargo.toml")).unwrap()).unwrap();
    let names = TARGETS.map(|(name, _)| name);
    let fuzzers: Vec<&str> = manifest["bin"]
        .as_array()
        .unwrap()
        .iter()
        .map(|bin| bin["name"].as_str().unwrap())
        .collect();
    assert_eq!((fuzzers, REPLAYED), (names.to_vec(), &names[..]));
    for name in names {
        assert!(
            place("fuzz_targets").join(format!("{name}.rs")).is_file() && !corpus(name).is_empty(),
            "{name}"
        );
    }
}

#[test]
fn a_decoder_that_panics_is_found() {
    let panics = catch_unwind(|| survives("none", |_| panic!("as it must"), b"", "a-test"));
    assert!(panics.is_err());
    std::fs::remove_file(std::env::temp_dir().join("restain-fuzz-none-a-test")).unwrap();
}
