//! Lists of texts in a JSON body. What lies in the place of a list, or of one of its texts, is read
//! too, so that it can be named with its place instead of with its line and column.

use std::borrow::Cow;
use std::fmt;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess,
    Visitor,
};

use crate::serve::error::Error;
use crate::serve::transport::bounds::MAX_ITEMS;
use crate::serve::transport::read_body::malformed;

/// What was sent in the place of a list of texts; nothing stands for null.
#[derive(Debug, Default)]
pub(super) struct Texts<'a>(Option<Given<'a>>);

/// A value, as far as it matters here.
#[derive(Debug)]
enum Given<'a> {
    /// Where it lies in the body, unless it has escapes.
    Text(Cow<'a, str>),
    List(Vec<Given<'a>>),
    /// Anything else, as an error names it.
    Other(String),
}

impl<'a> Texts<'a> {
    /// The texts of the list `name`, each of which an error calls `one` and its index.
    ///
    /// # Errors
    /// `malformed_request`, when this is no list, or has what is no text.
    pub(super) fn read(
        self,
        name: &'static str,
        one: &'static str,
        must_be: &str,
    ) -> Result<Vec<Cow<'a, str>>, Error> {
        let items = match self.0 {
            None => return Ok(Vec::new()),
            Some(Given::List(items)) => items,
            Some(Given::Text(_)) => return Err(no_list(name, "a text", must_be)),
            Some(Given::Other(what)) => return Err(no_list(name, &what, must_be)),
        };
        let text = |(index, item)| match item {
            Given::Text(text) => Ok(text),
            Given::List(_) => unreachable!("lists in a list are `Other`"),
            Given::Other(what) => {
                let said = format!("{one} {index} is {what}, and must be {must_be}");
                Err(malformed(said).at(one, index))
            }
        };
        items.into_iter().enumerate().map(text).collect()
    }
}

fn no_list(name: &str, what: &str, must_be: &str) -> Error {
    malformed(format!("{name} is {what}, and must be a list, of which each item is {must_be}"))
}

impl<'de: 'a, 'a> Deserialize<'de> for Texts<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Reading { lists: true }.deserialize(deserializer).map(Self)
    }
}

/// Reads a value, and if `lists` the values of a list; passes over what is in others.
#[derive(Clone, Copy)]
struct Reading {
    lists: bool,
}

impl<'de> DeserializeSeed<'de> for Reading {
    type Value = Option<Given<'de>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reading {
    type Value = Option<Given<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(other(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(other(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(other(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(other(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Some(Given::Text(Cow::Owned(value.to_owned()))))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Self::Value, E> {
        Ok(Some(Given::Text(Cow::Borrowed(value))))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        if !self.lists {
            while items.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(other("a list"));
        }
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Self { lists: false })? {
            if list.len() == MAX_ITEMS {
                return Err(A::Error::custom(format!(
                    "there are more than {MAX_ITEMS} items in a list"
                )));
            }
            list.push(item.unwrap_or_else(|| Given::Other("null".to_owned())));
        }
        Ok(Some(Given::List(list)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        while fields.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(other("an object"))
    }
}

fn other<'a>(what: impl ToString) -> Option<Given<'a>> {
    Some(Given::Other(what.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Vec<String>, String> {
        let texts: Texts<'_> = serde_json::from_str(json).unwrap();
        let read = texts.read("tiles", "tile", "base64 text");
        read.map(|texts| texts.into_iter().map(Cow::into_owned).collect())
            .map_err(|error| error.detail)
    }

    #[test]
    fn texts_are_read_and_null_is_none() {
        assert_eq!(read(r#"["a", "b\n"]"#).unwrap(), ["a", "b\n"]);
        assert!(read("null").unwrap().is_empty());
        assert!(read("[]").unwrap().is_empty());
    }

    #[test]
    fn what_is_no_text_is_named_with_its_place() {
        for (json, said) in [
            (r#"["a", null]"#, "tile 1 is null, and must be base64 text"),
            ("[2.5]", "tile 0 is 2.5, and must be base64 text"),
            ("[true]", "tile 0 is true, and must be base64 text"),
            (r#"["a", "b", ["c"]]"#, "tile 2 is a list, and must be base64 text"),
            (r#"[{"b64": "c"}]"#, "tile 0 is an object, and must be base64 text"),
            ("\"a\"", "tiles is a text, and must be a list, of which each item is base64 text"),
            ("7", "tiles is 7, and must be a list, of which each item is base64 text"),
            ("{}", "tiles is an object, and must be a list, of which each item is base64 text"),
        ] {
            assert_eq!(read(json).unwrap_err(), said, "{json}");
        }
    }

    #[test]
    fn a_list_ends_at_its_bound() {
        let json = format!("[{}\"\"]", "\"\",".repeat(MAX_ITEMS));
        let error = serde_json::from_str::<Texts<'_>>(&json).unwrap_err().to_string();
        assert!(error.contains("more than"), "{error}");
    }
}
