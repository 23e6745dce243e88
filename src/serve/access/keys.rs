//! The file of keys: each with its scopes, rate and concurrency. It holds digests of tokens and no
//! token.
//!
//! The digest is SHA-256 and nothing slower, because a token is 256 random bits, which cannot be
//! guessed, and is hashed with every request.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::token::PREFIX;
use crate::serve::caller::{Caller, CallerName};
use restain_request::Priority;

/// Every key is a label of a metric: they must not be without bound.
pub(super) const MAX_KEYS: usize = 1000;
const MAX_NAME: usize = 64;

/// What a key may be used for.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Tiles in, variants or encodings out; what models and styles there are
    Augment,
    /// Adding and removing domains of the style bank
    Styles,
    /// Loading and unloading models
    Models,
    /// What Prometheus scrapes, and statistics
    Metrics,
}

impl Scope {
    /// As the file has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Augment => "augment",
            Self::Styles => "styles",
            Self::Models => "models",
            Self::Metrics => "metrics",
        }
    }
}

/// One entry of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// The holder's name, for the log and the metrics.
    pub name: Arc<str>,
    /// Of the token, in hex.
    pub sha256: String,
    pub scopes: BTreeSet<Scope>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<f64>,
    /// Requests that may come at once, after a silence; what comes in one second when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// Requests at once, until the last byte of the answer is taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<usize>,
    /// Tiles in flight at once, until the last byte of their answers is taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tiles: Option<usize>,
    /// The highest priority that its tiles are given; what it asks for when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
}

impl Key {
    /// A key for `token`, which is not kept.
    pub fn new(name: &str, token: &str, scopes: impl IntoIterator<Item = Scope>) -> Self {
        let scopes = scopes.into_iter().collect();
        Self {
            name: name.into(),
            sha256: hex(&digest(token.as_bytes())),
            scopes,
            requests_per_second: None,
            burst: None,
            concurrency: None,
            tiles: None,
            priority: None,
        }
    }

    /// # Errors
    /// Says what is wrong with the entry.
    pub fn check(&self) -> Result<(), String> {
        if self.name.contains(PREFIX) {
            return Err(format!(
                "a `name` holds {PREFIX:?}, with which tokens begin: names stand in logs and \
                metrics, and tokens nowhere"
            ));
        }
        let letters =
            |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        if self.name.is_empty() || self.name.len() > MAX_NAME || !letters(&self.name) {
            return Err(format!(
                "a `name` must be 1 to {MAX_NAME} letters, digits, `.`, `_` or `-`"
            ));
        }
        let wrong = |what: String| Err(format!("key {}: {what}", self.name));
        if self.scopes.is_empty() {
            return wrong(
                "`scopes` is empty, and must name at least one of augment, styles, models, metrics"
                    .to_owned(),
            );
        }
        match self.requests_per_second {
            Some(rate) if !(rate.is_finite() && rate > 0.0) => {
                return wrong(format!("`requests_per_second` is {rate}, and must be above 0"));
            }
            None if self.burst.is_some() => {
                return wrong("`burst` means nothing without `requests_per_second`".to_owned());
            }
            _ => {}
        }
        for (name, value) in [
            ("burst", self.burst.map(u64::from)),
            ("concurrency", self.concurrency.map(|most| most as u64)),
            ("tiles", self.tiles.map(|most| most as u64)),
        ] {
            if value == Some(0) {
                return wrong(format!(
                    "`{name}` is 0, which admits no request: it must be at least 1"
                ));
            }
        }
        Ok(())
    }

    /// Who its requests are from.
    pub(super) fn caller(&self) -> Caller {
        Caller {
            name: CallerName::Key(Arc::clone(&self.name)),
            most_tiles: self.tiles,
            highest: self.priority.unwrap_or_default(),
        }
    }

    /// The entry as a piece of the file.
    pub fn to_toml(&self) -> String {
        let file = File { key: vec![self.clone()] };
        toml::to_string(&file).expect("names, digests and numbers can be written as TOML")
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    key: Vec<Key>,
}

/// All of a file.
#[derive(Debug)]
pub(super) struct Keys {
    by_digest: HashMap<[u8; 32], Arc<Key>>,
}

impl Keys {
    /// # Errors
    /// Says which entry is wrong, and how.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text =
            std::str::from_utf8(bytes).map_err(|_| "the file of keys is not UTF-8".to_owned())?;
        // The error would quote the line at fault: a token that is there by mistake must not get
        // into the log.
        let File { key: keys } = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
            format!("line {line}: {}", without_values(error.message()))
        })?;
        if keys.is_empty() || keys.len() > MAX_KEYS {
            return Err(format!(
                "the file holds {} keys, and must hold 1 to {MAX_KEYS}",
                keys.len()
            ));
        }
        let (mut by_digest, mut names) = (HashMap::new(), HashSet::new());
        for (place, key) in (1..).zip(keys) {
            key.check().map_err(|what| format!("entry {place}: {what}"))?;
            if !names.insert(Arc::clone(&key.name)) {
                return Err(format!("key {}: there are two of this name", key.name));
            }
            let digest = unhex(&key.sha256)
                .ok_or_else(|| format!("key {}: `sha256` must be 64 hex digits", key.name))?;
            let name = Arc::clone(&key.name);
            if let Some(other) = by_digest.insert(digest, Arc::new(key)) {
                return Err(format!("key {name}: its `sha256` is that of {}", other.name));
            }
        }
        Ok(Self { by_digest })
    }

    /// Finds the key of a token. The time it takes depends on digests, which reveal no token.
    pub(super) fn find(&self, token: &[u8]) -> Option<&Arc<Key>> {
        self.of(&digest(token))
    }

    /// The key of a token's digest.
    pub(super) fn of(&self, digest: &[u8; 32]) -> Option<&Arc<Key>> {
        self.by_digest.get(digest)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.by_digest.values().any(|key| key.name.as_ref() == name)
    }
}

/// Returns what would have been right. The text at fault is not quoted: it may be a token.
fn without_values(message: &str) -> &str {
    match message.find("expected") {
        Some(place) => &message[place..],
        // The name of a field of ours.
        None if message.starts_with("missing field") => message,
        None => "this is not TOML",
    }
}

pub(super) fn digest(token: &[u8]) -> [u8; 32] {
    Sha256::digest(token).into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u32> = text.chars().map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits
        .chunks(2)
        .map(|pair| (pair[0] << 4 | *pair.last().expect("chunks are not empty")) as u8)
        .collect();
    (digits.len() == 64).then(|| bytes.try_into().expect("64 digits are 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, token: &str) -> Key {
        Key::new(name, token, [Scope::Augment, Scope::Metrics])
    }

    fn refused(text: &str) -> String {
        Keys::parse(text.as_bytes()).unwrap_err()
    }

    #[test]
    fn a_token_finds_its_key_and_no_other() {
        let text = entry("a", "first").to_toml() + &entry("b", "second").to_toml();
        let keys = Keys::parse(text.as_bytes()).unwrap();
        assert_eq!(keys.find(b"second").unwrap().name.as_ref(), "b");
        assert!(keys.find(b"third").is_none() && keys.find(b"").is_none());
        assert!(!text.contains("second"));
    }

    /// SHA-256 of "abc", FIPS 180-2, appendix B.1: any tool makes these digests.
    #[test]
    fn the_digest_is_plain_sha256() {
        let text = entry("a", "abc").to_toml();
        assert!(
            text.contains("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            "{text}"
        );
    }

    #[test]
    fn what_is_wrong_with_a_file_is_named() {
        let good = entry("a", "t").to_toml();
        assert!(refused("").contains("missing field `key`"), "{}", refused(""));
        assert!(refused("key = []").contains("holds 0 keys"));
        assert!(refused(&(good.clone() + &good)).contains("two of this name"));
        assert!(
            refused(&(good.clone() + &good.replace("\"a\"", "\"b\""))).contains("is that of a")
        );
        assert!(refused(&good.replace("sha256 = \"", "sha256 = \"0")).contains("64 hex digits"));
        assert!(
            refused(&good.replace("augment", "everything")).contains("expected one of `augment`")
        );
        assert!(refused(&good.replace("\"a\"", "\"a b\"")).contains("letters, digits"));
        assert!(refused(&(good.clone() + "burst = 3")).contains("without `requests_per_second`"));
        assert!(refused(&(good.clone() + "requests_per_second = 0.0")).contains("above 0"));
        assert!(refused(&(good.clone() + "concurrency = 0")).contains("`concurrency` is 0"));
        assert!(refused(&(good + "tokn = \"rst_secret\"")).contains("expected one of `name`"));
    }

    #[test]
    fn a_token_in_the_file_is_not_quoted() {
        assert!(!refused("[[key]]\nname = rst_secret").contains("rst_secret"));
        for text in [
            "scopes = \"SECRET\"",
            "scopes = [\"SECRET\"]",
            "name = SECRET",
            "SECRET = 1",
            "name = \"Bearer SECRET\"",
            "SECRET",
        ] {
            let said = refused(&format!("[[key]]\n{}", text.replace("SECRET", "rst_secret")));
            assert!(!said.contains("secret"), "{said}");
        }
        let named = entry("a", "t").to_toml().replace("\"a\"", "\"rst_secret\"");
        assert!(
            !refused(&named).contains("secret") && refused(&named).contains("entry 1: a `name`"),
            "{}",
            refused(&named)
        );
    }
}
