//! A value as a transport hands it over: what JSON can hold, which is more than what the others
//! can.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserialize, Serialize, Serializer};

/// Most values in one, lists and objects counted with what they hold: a body of zeros and commas
/// would otherwise take sixteen times its own memory.
pub(crate) const MAX_VALUES: usize = 16_384;
/// Most bytes of texts in one, which are copied.
const MAX_TEXT: usize = 1 << 20;
/// Longest text that an error repeats, in bytes.
const MAX_SHOWN: usize = 120;
/// Beyond 2^53 a float does not hold every whole number.
const MAX_WHOLE_FLOAT: f64 = 9_007_199_254_740_992.0;

/// One value of a field.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Self>),
    /// In the order of the text, a name that is given twice included.
    Object(Vec<(String, Self)>),
}

/// A number, however it was written.
pub(crate) enum Number {
    Whole(i128),
    Real(f64),
}

impl Value {
    /// Parses JSON.
    ///
    /// # Errors
    /// Where the text is not JSON, or holds more than 16,384 values.
    pub fn from_json(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }

    /// Returns a whole number, which JSON may also write as a float: 2.0; nothing for a text.
    pub fn whole(&self) -> Option<i128> {
        match (self, self.number()) {
            (Self::Integer(_) | Self::Float(_), Some(Number::Whole(number))) => Some(number),
            _ => None,
        }
    }

    /// Returns a scalar as text, without blanks around it; nothing for null, a list or an object.
    ///
    /// Every scalar is its text: a query string, which has no types, and JSON then say the same.
    pub(crate) fn scalar(&self) -> Option<String> {
        match self {
            Self::Bool(value) => Some(value.to_string()),
            Self::Integer(value) => Some(value.to_string()),
            Self::Float(value) => Some(format!("{value:?}")),
            Self::Text(text) => Some(text.trim().to_owned()),
            Self::Null | Self::List(_) | Self::Object(_) => None,
        }
    }

    /// Returns a number, or a text that is one; nothing where it is not finite.
    pub(crate) fn number(&self) -> Option<Number> {
        match self {
            Self::Integer(value) => Some(Number::Whole(*value)),
            Self::Float(value) => real(*value),
            Self::Text(text) => {
                let text = text.trim();
                // Rust reads `inf` and `nan` as numbers too.
                if !text.ends_with(|last: char| last.is_ascii_digit() || last == '.') {
                    return None;
                }
                let whole = text.parse().ok().map(Number::Whole);
                whole.or_else(|| real(text.parse().ok()?))
            }
            Self::Null | Self::Bool(_) | Self::List(_) | Self::Object(_) => None,
        }
    }
}

/// A float that is whole is a whole number: to JSON `2.0` and `2` are one number.
fn real(value: f64) -> Option<Number> {
    if !value.is_finite() {
        return None;
    }
    let is_whole = value.fract() == 0.0 && value.abs() <= MAX_WHOLE_FLOAT;
    Some(if is_whole { Number::Whole(value as i128) } else { Number::Real(value) })
}

/// As much of a text as an error repeats.
pub(crate) fn clip(text: &str) -> Cow<'_, str> {
    let end = text.floor_char_boundary(MAX_SHOWN);
    if end == text.len() { text.into() } else { format!("{}…", &text[..end]).into() }
}

/// As an error repeats it: numbers bare, other texts in backticks and cut where they are long.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::List(_) => f.write_str("a list"),
            Self::Object(_) => f.write_str("an object"),
            Self::Text(text) if text.trim().is_empty() => f.write_str("empty"),
            Self::Text(text) if self.number().is_none() => {
                write!(f, "`{}`", clip(text))
            }
            scalar => f.write_str(&scalar.scalar().unwrap_or_default()),
        }
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Integer(value.into())
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<Vec<String>> for Value {
    fn from(items: Vec<String>) -> Self {
        Self::List(items.into_iter().map(Self::Text).collect())
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Integer(value) => serializer.serialize_i128(*value),
            Self::Float(value) => serializer.serialize_f64(*value),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                items.iter().try_for_each(|item| list.serialize_element(item))?;
                list.end()
            }
            Self::Object(fields) => {
                let mut object = serializer.serialize_map(Some(fields.len()))?;
                fields.iter().try_for_each(|(name, value)| object.serialize_entry(name, value))?;
                object.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (left, text) = (Cell::new(MAX_VALUES), Cell::new(MAX_TEXT));
        Bounded { left: &left, text: &text }.deserialize(deserializer)
    }
}

/// Reads a value while there are values left to read, and bytes of texts.
#[derive(Clone, Copy)]
struct Bounded<'a> {
    left: &'a Cell<usize>,
    text: &'a Cell<usize>,
}

impl Bounded<'_> {
    fn count_text<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        let left = self.text.get().checked_sub(text.len());
        let left = left
            .ok_or_else(|| E::custom(format!("there are more than {MAX_TEXT} bytes of texts")))?;
        self.text.set(left);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let left = self.left.get().checked_sub(1).ok_or_else(|| {
            serde::de::Error::custom(format!("there are more than {MAX_VALUES} values"))
        })?;
        self.left.set(left);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Value, E> {
        self.count_text(text)?;
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut object = Vec::new();
        while let Some(name) = fields.next_key::<String>()? {
            self.count_text(&name)?;
            object.push((name, fields.next_value_seed(self)?));
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_read_with_its_types_and_its_order() {
        let json = br#"{"b":[1,-2,2.5,1e30,"x",null,true],"a":{},"b":0}"#;
        let list = [
            Value::Integer(1),
            Value::Integer(-2),
            Value::Float(2.5),
            Value::Float(1e30),
            "x".into(),
            Value::Null,
            true.into(),
        ];
        let object = [
            ("b".to_owned(), Value::List(list.into())),
            ("a".to_owned(), Value::Object(Vec::new())),
            ("b".to_owned(), Value::Integer(0)),
        ];
        assert_eq!(Value::from_json(json).unwrap(), Value::Object(object.into()));
        assert!(Value::from_json(b"1e400").is_err());
    }

    #[test]
    fn values_are_counted_before_they_are_kept() {
        let list = |items: usize| format!("[{}]", vec!["0"; items].join(","));
        assert!(Value::from_json(list(MAX_VALUES - 1).as_bytes()).is_ok());
        let nested = format!("[{}]", vec![list(1000); 20].join(","));
        for json in [list(MAX_VALUES), nested] {
            let error = Value::from_json(json.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("more than 16384 values"), "{error}");
        }
    }

    #[test]
    fn texts_are_counted_too() {
        let text = |bytes: usize| format!("\"{}\"", "a".repeat(bytes));
        assert!(Value::from_json(text(MAX_TEXT).as_bytes()).is_ok());
        let two = format!("[{},{}]", text(MAX_TEXT / 2), text(MAX_TEXT / 2 + 1));
        let named = format!("{{{}:0}}", text(MAX_TEXT + 1));
        for json in [text(MAX_TEXT + 1), two, named] {
            let error = Value::from_json(json.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("bytes of texts"), "{error}");
        }
    }

    #[test]
    fn an_error_repeats_a_value_and_no_more_than_a_line_of_it() {
        let shown = |value: Value| value.to_string();
        assert_eq!(shown(" 2.0 ".into()), "2.0");
        assert_eq!(shown(1e300.into()), "1e300");
        assert_eq!(shown("two".into()), "`two`");
        assert_eq!(shown(" ".into()), "empty");
        assert_eq!(shown("ä".repeat(1000).into()), format!("`{}…`", "ä".repeat(60)));
    }
}
