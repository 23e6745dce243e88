//! The elements of a tensor in JSON: numbers or texts, in lists nested as the shape is, or flat.
//! Read into the bytes that they are, one after the other, so that a list of millions of numbers
//! never is millions of values of JSON.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::serve::transport::bounds::MAX_ITEMS;

/// 2^53: beyond it a float does not hold every whole number.
const MAX_WHOLE_FLOAT: f64 = 9_007_199_254_740_992.0;

/// Elements in their order.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Elements {
    pub numbers: Vec<u8>,
    pub texts: Vec<String>,
}

impl<'de> Deserialize<'de> for Elements {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut elements = Self::default();
        Nested(&mut elements).deserialize(deserializer)?;
        if !elements.numbers.is_empty() && !elements.texts.is_empty() {
            return Err(D::Error::custom(
                "data holds numbers and texts, and a tensor is of one type",
            ));
        }
        Ok(elements)
    }
}

/// Adds whatever it finds.
struct Nested<'a>(&'a mut Elements);

impl<'de> DeserializeSeed<'de> for Nested<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Nested<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("lists of numbers from 0 to 255 or of texts")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Nested(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<(), E> {
        self.0.numbers.push(
            u8::try_from(number).map_err(|_| {
                E::custom(format!("data holds {number}, and UINT8 is from 0 to 255"))
            })?,
        );
        Ok(())
    }

    // Programs whose every number is a float write 200.0.
    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<(), E> {
        match whole(number).map(u64::try_from) {
            Some(Ok(number)) => self.visit_u64(number),
            _ => Err(E::custom(format!(
                "data holds {number}, and UINT8 is a whole number from 0 to 255"
            ))),
        }
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        if self.0.texts.len() == MAX_ITEMS {
            return Err(E::custom(format!("data holds more than {MAX_ITEMS} texts")));
        }
        self.0.texts.push(text.to_owned());
        Ok(())
    }
}

/// A whole number, which JSON may also write as a float: 96.0.
pub(super) struct Whole(pub i64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WholeNumber).map(Self)
    }
}

struct WholeNumber;

impl Visitor<'_> for WholeNumber {
    type Value = i64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number")
    }

    fn visit_i64<E>(self, number: i64) -> Result<i64, E> {
        Ok(number)
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<i64, E> {
        i64::try_from(number)
            .map_err(|_| E::custom(format!("{number} is out of range: at most {}", i64::MAX)))
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<i64, E> {
        whole(number).ok_or_else(|| E::custom(format!("{number} is not a whole number")))
    }
}

/// A float that is whole, as far as floats hold every whole number.
fn whole(number: f64) -> Option<i64> {
    (number.fract() == 0.0 && number.abs() <= MAX_WHOLE_FLOAT).then_some(number as i64)
}

/// Bytes as a flat list of numbers.
pub(super) struct Numbers<'a>(pub &'a [u8]);

impl Serialize for Numbers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Elements, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn nested_and_flat_are_the_same() {
        let flat = read("[1,2,3,255]").unwrap();
        assert_eq!(flat.numbers, [1, 2, 3, 255]);
        assert_eq!(read("[[[1],[2]],[[3],[255]]]").unwrap(), flat);
        assert_eq!(read(r#"[["a"],["b"]]"#).unwrap().texts, ["a", "b"]);
        assert_eq!(read("[1.0,2e0,3,255.0]").unwrap(), flat);
        assert_eq!(read("[]").unwrap(), Elements::default());
        assert_eq!(serde_json::to_string(&Numbers(&flat.numbers)).unwrap(), "[1,2,3,255]");
    }

    #[test]
    fn a_side_is_a_whole_number_however_it_is_written() {
        let side = |json: &str| serde_json::from_str::<Whole>(json).map(|Whole(side)| side);
        assert_eq!([side("96").unwrap(), side("96.0").unwrap(), side("-1").unwrap()], [96, 96, -1]);
        for json in ["1.5", "1e300", "9223372036854775808", "\"96\"", "null"] {
            let error = side(json).unwrap_err().to_string();
            assert!(error.contains("whole number") || error.contains("out of range"), "{error}");
        }
    }

    #[test]
    fn what_is_no_element_is_refused() {
        for (json, said) in [
            ("[256]", "256"),
            ("[-1]", "-1"),
            ("[1.5]", "1.5"),
            ("[256.0]", "256"),
            ("[-1.0]", "-1"),
            ("[1e300]", "whole number from 0 to 255"),
            ("[null]", "null"),
            ("[{}]", "map"),
            (r#"[1,"a"]"#, "one type"),
            ("[[1]", "EOF"),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(said), "{json}: {error}");
        }
        // As deep as it likes: refused, and no stack overflows.
        assert!(read(&"[".repeat(100_000)).unwrap_err().contains("recursion"));
    }
}
