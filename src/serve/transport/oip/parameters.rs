//! Request parameters, as the request JSON of POST /v1/augment: the same fields under the names of its query string, and two
//! of the protocol's own, `priority` as a number and `timeout`.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor};
use serde::{Deserialize, Serialize};

use crate::serve::error::Error;
use crate::serve::pipeline::request::{AugmentRequest, Priority};
use crate::serve::transport::read_body::malformed;

/// By name. Protobuf's maps have no order, so here the alphabet's is taken.
pub(crate) type Parameters = BTreeMap<String, Value>;

/// What a parameter may be. Lists are none: a parameter that is a list is a text.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Value {
    Bool(bool),
    Whole(i128),
    Real(f64),
    Text(String),
}

/// Each parameter, and what may be said. Part of every model's configuration.
pub(crate) const KNOWN: [(&str, &str); 16] = [
    ("variants", "variants of each tile; 1 when left out"),
    (
        "seed",
        "the same seed gives the same pixels; at most 2^53 - 1; drawn, and named in the answer, when left out",
    ),
    ("method", "vit (when left out), color-match, hed-jitter or identity"),
    ("from", "where styles come from: bank (when left out), batch, reference or own"),
    (
        "domains",
        "only styles of these domains; names with commas between them, or a JSON list, as in all lists",
    ),
    ("exclude_domains", "no styles of these domains"),
    ("ids", "only these styles, by ids as in STYLE_IDS"),
    ("style_ids", "as ids"),
    ("blend", "a mixture of styles: a JSON list of objects with id or domain, and weight"),
    ("placement", "broadcast (when left out) or aligned"),
    ("share", "tile (when left out) or request"),
    ("strength", "0 keeps the tile's own look, 1 (when left out) takes the style whole"),
    (
        "resize",
        "resize a tile of another size to the model's and its variants back, instead of refusing it",
    ),
    (
        "priority",
        "interactive or bulk; as a number, 0 (the default) and 1 are interactive, and 2 and above bulk",
    ),
    ("timeout", "microseconds; 0 for the server's own limit"),
    ("timeout_ms", "milliseconds, at least 1"),
];

/// # Errors
/// `malformed_request`, with the parameter at fault.
pub(crate) fn ask(parameters: Parameters) -> Result<AugmentRequest, Error> {
    let mut ask = AugmentRequest::default();
    let mut timeouts = Vec::new();
    for (name, value) in parameters {
        let field = Field { name: &name, value: &value };
        match name.as_str() {
            "variants" => ask.variants = Some(field.whole()?),
            "seed" => ask.seed = Some(field.whole()?),
            "method" => ask.method = field.word()?,
            "from" => ask.style.from = field.word()?,
            "domains" => ask.style.domains = Some(field.list()?),
            "exclude_domains" => ask.style.exclude_domains = Some(field.list()?),
            "ids" | "style_ids" => ask.style.ids = Some(field.list()?),
            "blend" => {
                ask.style.blend =
                    Some(field.json("a JSON list of objects with id or domain, and weight")?)
            }
            "placement" => ask.style.placement = field.word()?,
            "share" => ask.style.share = field.word()?,
            "strength" => ask.strength = Some(field.real()?),
            "resize" => ask.resize = field.yes_or_no()?,
            "priority" => ask.priority = field.priority()?,
            "timeout" => timeouts
                .extend(Some(field.whole()?).filter(|&us| us > 0).map(|us| us.div_ceil(1000))),
            "timeout_ms" => timeouts.push(field.whole()?),
            "sequence_id" | "sequence_start" | "sequence_end" => {
                return Err(malformed(format!(
                    "the parameter {name} is of a sequence, and requests here do not depend on each other"
                )));
            }
            _ => {
                let known: Vec<&str> = KNOWN.iter().map(|(name, _)| *name).collect();
                return Err(malformed(format!(
                    "there is no parameter `{name}`, and known are: {}",
                    known.join(", ")
                )));
            }
        }
    }
    ask.timeout_ms = timeouts.into_iter().min();
    Ok(ask)
}

/// A parameter that is being read.
struct Field<'a> {
    name: &'a str,
    value: &'a Value,
}

impl Field<'_> {
    fn wrong(&self, must: &str) -> Error {
        malformed(format!("the parameter {} is {}, and must be {must}", self.name, self.value))
    }

    fn whole(&self) -> Result<u64, Error> {
        let number =
            if let Value::Whole(number) = self.value { u64::try_from(*number).ok() } else { None };
        number.ok_or_else(|| self.wrong("a whole number, and not below 0"))
    }

    fn real(&self) -> Result<f32, Error> {
        match *self.value {
            Value::Whole(number) => Ok(number as f32),
            Value::Real(number) => Ok(number as f32),
            Value::Bool(_) | Value::Text(_) => Err(self.wrong("a number")),
        }
    }

    fn yes_or_no(&self) -> Result<bool, Error> {
        if let Value::Bool(value) = self.value {
            Ok(*value)
        } else {
            Err(self.wrong("true or false"))
        }
    }

    fn text(&self, must: &str) -> Result<&str, Error> {
        if let Value::Text(text) = self.value { Ok(text) } else { Err(self.wrong(must)) }
    }

    /// One of a few words: what they are stands in the type.
    fn word<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let word = serde_json::Value::from(self.text("a word")?);
        T::deserialize(word)
            .map_err(|error| malformed(format!("the parameter {}: {error}", self.name)))
    }

    fn list(&self) -> Result<Vec<String>, Error> {
        let must = "names with commas between them, or a JSON list of names";
        let text = self.text(must)?.trim();
        if text.starts_with('[') {
            return self.json(must);
        }
        Ok(text
            .split(',')
            .map(|item| item.trim().to_owned())
            .filter(|item| !item.is_empty())
            .collect())
    }

    fn json<T: DeserializeOwned>(&self, must: &str) -> Result<T, Error> {
        serde_json::from_str(self.text(must)?).map_err(|error| {
            malformed(format!("the parameter {} must be {must}: {error}", self.name))
        })
    }

    /// Triton's numbers fall from the highest priority, 1; 0 is the default's.
    fn priority(&self) -> Result<Priority, Error> {
        match self.value {
            Value::Whole(_) if self.whole()? <= 1 => Ok(Priority::Interactive),
            Value::Whole(_) => Ok(Priority::Bulk),
            _ => self.word(),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Whole(value) => value.fmt(f),
            Self::Real(value) => value.fmt(f),
            Self::Text(value) => write!(f, "`{value}`"),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    /// By hand: what serde derives would first hold any value whatever, lists of millions included.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Scalar;
        impl Visitor<'_> for Scalar {
            type Value = Value;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false, a number or a text")
            }
            fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Value, E> {
                Ok(Value::Bool(value))
            }
            fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
                Ok(Value::Whole(value.into()))
            }
            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
                Ok(Value::Whole(value.into()))
            }
            fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
                if value.is_finite() {
                    Ok(Value::Real(value))
                } else {
                    Err(E::custom("the number is too large"))
                }
            }
            fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
                Ok(Value::Text(value.to_owned()))
            }
        }
        deserializer.deserialize_any(Scalar).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::pipeline::request::{Method, Share};

    fn asked(json: &str) -> Result<AugmentRequest, Error> {
        ask(serde_json::from_str(json).map_err(|error| malformed(error.to_string()))?)
    }

    #[test]
    fn parameters_are_the_request_json_laid_flat() {
        let ask = asked(
            r#"{"variants":3,"seed":7,"method":"color-match","domains":"a, b","ids":"[\"a/1\",\"b/2\"]","strength":1,
            "share":"request","resize":true,"timeout":1500,"timeout_ms":9,"blend":"[{\"id\":\"a/1\",\"weight\":2}]"}"#,
        );
        let ask = ask.unwrap();
        assert_eq!(
            (ask.variants, ask.seed, ask.method, ask.strength),
            (Some(3), Some(7), Method::ColorMatch, Some(1.0))
        );
        assert_eq!(ask.style.domains.unwrap(), ["a", "b"]);
        assert_eq!(ask.style.ids.unwrap(), ["a/1", "b/2"]);
        assert_eq!((ask.style.share, ask.resize, ask.timeout_ms), (Share::Request, true, Some(2)));
        assert_eq!(ask.style.blend.unwrap()[0].weight, 2.0);
    }

    #[test]
    fn priorities_are_words_or_tritons_numbers() {
        let of = |json: &str| asked(json).unwrap().priority;
        assert_eq!(of("{}"), of(r#"{"priority":0}"#));
        assert_eq!(of(r#"{"priority":1}"#), Priority::Interactive);
        assert_eq!(of(r#"{"priority":2}"#), of(r#"{"priority":"bulk"}"#));
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (json, said) in [
            (r#"{"variant":3}"#, "`variant`"),
            (r#"{"variants":-1}"#, "variants is -1"),
            (r#"{"variants":1.5}"#, "variants is 1.5"),
            (r#"{"variants":"3"}"#, "variants is `3`"),
            (r#"{"seed":1e400}"#, "out of range"),
            (r#"{"domains":["a"]}"#, "expected true, false, a number or a text"),
            (r#"{"domains":"[1]"}"#, "domains must be names"),
            (r#"{"method":"gan"}"#, "method"),
            (r#"{"priority":-1}"#, "priority is -1"),
            (r#"{"sequence_id":4}"#, "sequence_id"),
            (r#"{"sheet":true}"#, "no parameter `sheet`"),
        ] {
            let error = asked(json).unwrap_err();
            assert!(error.detail.contains(said), "{json}: {error}");
        }
    }

    #[test]
    fn every_parameter_that_is_named_is_known() {
        for (name, _) in KNOWN {
            let error = ask([(name.to_owned(), Value::Bool(true))].into());
            assert!(
                error.err().is_none_or(|error| !error.detail.contains("no parameter")),
                "{name}"
            );
        }
    }
}
