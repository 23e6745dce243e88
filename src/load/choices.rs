//! What options are chosen from: lengths of time, and the words of the server's API. They are written here again, as a
//! client has to; a word that the server does not know is its to refuse.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Serialize, Serializer};

/// A length of time: a whole number and `ms`, `s` or `m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let factor = match &text[digits..] {
            "ms" => Some(1),
            "s" => Some(1_000),
            "m" => Some(60_000),
            _ => None,
        };
        let ms = factor.and_then(|factor| text[..digits].parse::<u64>().ok()?.checked_mul(factor));
        ms.map(|ms| Self(Duration::from_millis(ms))).ok_or_else(|| format!("`{text}` is no length of time: write 500ms, 30s or 2m"))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_millis() {
            ms if ms.is_multiple_of(1_000) => write!(f, "{}s", ms / 1_000),
            ms => write!(f, "{ms}ms"),
        }
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The body of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    Safetensors,
    Multipart,
    Json,
    Image,
}

/// The body of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Accept {
    Safetensors,
    Multipart,
    Tar,
    Json,
    Png,
    Jpeg,
    Webp,
}

impl Accept {
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Safetensors => super::body::SAFETENSORS,
            Self::Multipart => "multipart/mixed",
            Self::Tar => "application/x-tar",
            Self::Json => "application/json",
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
            Self::Webp => "image/webp",
        }
    }

    /// Whether it holds one variant and no more.
    pub fn is_picture(self) -> bool {
        matches!(self, Self::Png | Self::Jpeg | Self::Webp)
    }
}

/// What a request names its tiles by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// Their pixels
    Tile,
    /// The keys of tiles that were sent before the measurement
    Key,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    Vit,
    ColorMatch,
    HedJitter,
    Identity,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Priority {
    Interactive,
    Bulk,
}

/// When requests of an open loop begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Arrivals {
    /// At random, independent of each other, as many callers together do
    Poisson,
    /// Evenly
    Constant,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_they_are_written() {
        for text in ["500ms", "30s", "0s"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        assert_eq!("2m".parse::<Span>().unwrap().0.as_secs(), 120);
        assert!("30".parse::<Span>().unwrap_err().contains("30s") && "-1s".parse::<Span>().is_err());
    }
}
