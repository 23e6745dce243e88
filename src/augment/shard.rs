//! One of the parts that a job is cut into: every n-th tile or tar, so that parts are as large as
//! each other and, of a data set in order, as mixed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The `index`-th of `count`, as people write it: `3/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Shard {
    index: u32,
    count: u32,
}

impl Shard {
    /// Whether the `place`-th of all is this shard's.
    pub fn holds(self, place: usize) -> bool {
        place as u64 % u64::from(self.count) == u64::from(self.index)
    }

    /// All shards of the same job.
    pub fn all(self) -> impl Iterator<Item = Self> {
        (0..self.count).map(move |index| Self { index, count: self.count })
    }

    /// For the name of a file: `00003-of-00016`.
    pub fn file_name(self) -> String {
        format!("{:05}-of-{:05}", self.index, self.count)
    }
}

impl FromStr for Shard {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text
            .split_once('/')
            .and_then(|(index, count)| Some((index.parse().ok()?, count.parse().ok()?)));
        let (index, count): (u32, u32) =
            parts.ok_or_else(|| format!("`{text}` is no part of a job: write 3/16"))?;
        if index >= count {
            return Err(format!(
                "there is no part {text}: parts of {count} are counted from 0 to {}",
                i64::from(count) - 1
            ));
        }
        Ok(Self { index, count })
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl TryFrom<String> for Shard {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Shard> for String {
    fn from(shard: Shard) -> Self {
        shard.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_belongs_to_one_part() {
        let shards: Vec<Shard> = "0/3".parse::<Shard>().unwrap().all().collect();
        assert_eq!(shards.len(), 3);
        assert!((0..20).all(|place| shards.iter().filter(|shard| shard.holds(place)).count() == 1));
    }

    #[test]
    fn what_is_no_part_is_refused() {
        for text in ["3", "3/3", "0/0", "-1/2", "a/b", "1/2/3", ""] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
    }
}
