//! Values with a unit: durations such as `500ms` or `30s`, and sizes such as `64MiB`.
//!
//! `humantime` and `bytesize` read them. Two newtypes give both the errors of these programs and
//! serde's text form.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use humantime::DurationError;
use serde::{Deserialize, Serialize};

/// A duration, written as one or more numbers with a unit: `500ms`, `30s`, `1m 30s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(pub Duration);

/// A number of bytes: `65536`, `64KiB` (1024 bytes each), `64kB` (1000 bytes each), `1.5GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ByteSize(pub u64);

/// The units that a size is written in, the largest that divides it.
const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("", 1)];

impl FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text).map(Self).map_err(|error| match error {
            DurationError::UnknownUnit { unit, value, .. } if unit.is_empty() => {
                format!("missing unit, for example {value}s")
            }
            DurationError::UnknownUnit { unit, .. } => {
                format!("unknown unit `{unit}`: use ms, s, m or h")
            }
            DurationError::NumberOverflow => "the number is too large".to_owned(),
            _ => {
                "not a duration: write a number and a unit, for example 500ms, 30s or 2m".to_owned()
            }
        })
    }
}

impl FromStr for ByteSize {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = "not a size in bytes: write for example 65536, 64KiB, 64MiB or 2GiB";
        let bytes = text.trim().parse::<bytesize::ByteSize>().map_err(|_| wrong.to_owned())?;
        // What does not fit saturates in `bytesize`.
        if bytes.0 == u64::MAX {
            Err("the number is too large".to_owned())
        } else {
            Ok(Self(bytes.0))
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl fmt::Display for ByteSize {
    /// Writes the exact number, where `bytesize` rounds to one decimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, bytes): &&(&str, u64)| self.0.is_multiple_of(*bytes) && self.0 >= *bytes;
        let (unit, bytes) = SIZES.iter().find(fits).unwrap_or(&("", 1));
        write!(f, "{}{unit}", self.0 / bytes)
    }
}

macro_rules! through_text {
    ($($unit:ty),*) => {$(
        impl TryFrom<String> for $unit {
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }
        impl From<$unit> for String {
            fn from(value: $unit) -> Self {
                value.to_string()
            }
        }
    )*};
}
through_text!(Span, ByteSize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_value_reads_back() {
        for text in ["500ms", "30s", "2m", "1m 30s", "0s"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        for text in ["0", "1000", "1KiB", "64MiB", "3GiB", "1500KiB"] {
            assert_eq!(text.parse::<ByteSize>().unwrap().to_string(), text);
        }
        for size in ["1.5GiB", "1610612736", "1536MiB"] {
            assert_eq!(size.parse::<ByteSize>().unwrap(), ByteSize(3 << 29));
        }
    }

    #[test]
    fn an_error_says_what_would_be_right() {
        let span = |text: &str| text.parse::<Span>().unwrap_err();
        assert_eq!(span("30"), "missing unit, for example 30s");
        assert_eq!(span("3 fortnights"), "unknown unit `fortnights`: use ms, s, m or h");
        for text in ["-1s", "", "s", "soon"] {
            assert!(span(text).contains("for example 500ms"), "{text}");
        }
        let size = |text: &str| text.parse::<ByteSize>().unwrap_err();
        assert_eq!(size("99999999999GiB"), "the number is too large");
        for text in ["", "-1", "4 gigs", "GiB"] {
            assert!(size(text).contains("for example 65536"), "{text}");
        }
    }
}
