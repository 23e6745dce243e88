//! Bounds of what a body is taken apart into, kept while it is taken apart: a list of two bytes an
//! item becomes tens of bytes an item, so the bound of the body's bytes is none of the memory's.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::serve::config::MOST_TILES;
use crate::serve::error::{Error, ErrorKind};

/// Most items of any list, and most parts of a form.
pub(crate) const MAX_ITEMS: usize = MOST_TILES;
/// Longest request JSON, and longest head of a tensor body.
pub(crate) const MAX_REQUEST_JSON: usize = 1 << 20;

/// # Errors
/// `too_many_tiles`, when a list would have more than [`MAX_ITEMS`].
pub(crate) fn check_items(list: &str, count: usize) -> Result<(), Error> {
    if count <= MAX_ITEMS {
        return Ok(());
    }
    let detail = format!("{list} has {count} items, and no list may have more than {MAX_ITEMS}");
    Err(Error::new(ErrorKind::TooManyTiles, detail))
}

/// A list in JSON of at most `MOST` items.
#[derive(Debug)]
pub(crate) struct List<T, const MOST: usize = MAX_ITEMS>(pub Vec<T>);

impl<T, const MOST: usize> Default for List<T, MOST> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for List<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Items::<Self>(MOST, PhantomData))
    }
}

/// An object in JSON of at most `MOST` fields.
#[derive(Debug)]
pub(crate) struct Fields<T, const MOST: usize>(pub BTreeMap<String, T>);

impl<T, const MOST: usize> Default for Fields<T, MOST> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for Fields<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Items::<Self>(MOST, PhantomData))
    }
}

struct Items<T>(usize, PhantomData<T>);

impl<T> Items<T> {
    fn too_many<E: serde::de::Error>(&self, what: &str) -> E {
        E::custom(format!("there are more than {} {what}", self.0))
    }
}

impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for Items<List<T, MOST>> {
    type Value = List<T, MOST>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            if list.len() == self.0 {
                return Err(self.too_many("items in a list"));
            }
            list.push(item);
        }
        Ok(List(list))
    }
}

impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for Items<Fields<T, MOST>> {
    type Value = Fields<T, MOST>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        let mut map = BTreeMap::new();
        while let Some((name, value)) = fields.next_entry()? {
            if map.len() == self.0 {
                return Err(self.too_many("fields in an object"));
            }
            map.insert(name, value);
        }
        Ok(Fields(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_objects_end_at_their_bound() {
        let list = |json: &str| serde_json::from_str::<List<u8, 3>>(json).map(|list| list.0);
        assert_eq!(list("[1,2,3]").unwrap(), [1, 2, 3]);
        assert!(list("[1,2,3,4]").unwrap_err().to_string().contains("more than 3 items"));
        let fields = |json: &str| serde_json::from_str::<Fields<u8, 1>>(json);
        assert_eq!(fields(r#"{"a":1}"#).unwrap().0.len(), 1);
        let error = fields(r#"{"a":1,"b":2}"#).unwrap_err().to_string();
        assert!(error.contains("more than 1 fields"), "{error}");
        assert!(check_items("keys", MAX_ITEMS).is_ok());
        assert_eq!(check_items("keys", MAX_ITEMS + 1).unwrap_err().kind, ErrorKind::TooManyTiles);
    }
}
