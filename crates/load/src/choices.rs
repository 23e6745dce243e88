//! The words that options are chosen from, which are those of the server's API. They are written here again, as every
//! client has to, so that the server rejects a word that it does not know.

use serde::Serialize;

pub(crate) const SAFETENSORS: &str = "application/vnd.restain.safetensors";

/// The format of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum BodyFormat {
    Safetensors,
    Multipart,
    Json,
    Image,
}

/// The format of an answer's body.
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
            Self::Safetensors => SAFETENSORS,
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

/// What a request sends for its tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Payload {
    /// The tiles themselves
    Tile,
    /// Keys of tiles that were sent before the measurement
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
