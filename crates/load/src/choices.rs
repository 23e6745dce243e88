//! What options are chosen from, apart from the fields of a request, whose words are those of the
//! table in `restain-request`.

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

/// When requests of an open loop begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Arrivals {
    /// At random, independent of each other, as many callers together do
    Poisson,
    /// Evenly
    Constant,
}
