//! The types of fields: how each is read from a [`Value`], and written as JSON.

use serde::Serialize;
use serde_json::json;

use crate::ImageFormat;
use crate::choices::{Choice, Detail, Method, Placement, Priority, Share, StyleSource};
use crate::descriptor::{Field, Kind};
use crate::error::{Error, Fault};
use crate::value::{MAX_VALUES, Number, Value};

/// A field that is being read, under the name that the caller gave it.
#[derive(Clone, Copy)]
pub struct Given<'a> {
    pub field: &'static Field,
    pub name: &'a str,
}

impl Given<'_> {
    fn malformed(self, value: &Value) -> Error {
        self.field.wrong(Fault::Malformed, self.name, value)
    }

    fn out_of_range(self, value: &Value) -> Error {
        self.field.wrong(self.field.fault, self.name, value)
    }

    /// The scalars of a list, which may also be written as JSON or, where `split` says so, with
    /// commas.
    fn items(self, value: Value, split: bool) -> Result<Vec<Value>, Error> {
        match value {
            Value::List(items) => Ok(items),
            Value::Text(text) if text.trim_start().starts_with('[') => {
                let list = Value::from_json(text.as_bytes()).map_err(|error| {
                    let wrong = self.malformed(&Value::Text(text));
                    Error::malformed(format!("{wrong}: as JSON, {error}"))
                })?;
                self.items(list, split)
            }
            value => match value.scalar() {
                Some(text) if split => Ok(text
                    .split(',')
                    .map(str::trim)
                    .filter(|item| !item.is_empty())
                    // Enough to see that they are too many.
                    .take(MAX_VALUES)
                    .map(Value::from)
                    .collect()),
                _ => Err(self.malformed(&value)),
            },
        }
    }
}

/// A type of field. Null never reaches it: it is a field that was left out.
pub trait FieldType: Sized {
    /// # Errors
    /// Where the value is of another type, or out of the field's range.
    fn read(given: Given<'_>, value: Value) -> Result<Self, Error>;

    fn json(&self) -> serde_json::Value;
}

impl<T: FieldType> FieldType for Option<T> {
    fn read(given: Given<'_>, value: Value) -> Result<Self, Error> {
        T::read(given, value).map(Some)
    }

    fn json(&self) -> serde_json::Value {
        self.as_ref().map_or(serde_json::Value::Null, T::json)
    }
}

impl FieldType for bool {
    fn read(given: Given<'_>, value: Value) -> Result<Self, Error> {
        let text = value.scalar().ok_or_else(|| given.malformed(&value))?;
        match (text.to_ascii_lowercase().as_str(), value.number()) {
            ("true", _) | (_, Some(Number::Whole(1))) => Ok(true),
            ("false", _) | (_, Some(Number::Whole(0))) => Ok(false),
            _ => Err(given.malformed(&value)),
        }
    }

    fn json(&self) -> serde_json::Value {
        json!(self)
    }
}

fn integer(given: Given<'_>, value: &Value) -> Result<u64, Error> {
    let Kind::Integer { min, max, .. } = given.field.kind else {
        unreachable!("a field of an integer type is an integer in the table")
    };
    match value.number() {
        Some(Number::Whole(number)) => u64::try_from(number)
            .ok()
            .filter(|number| (min..=max).contains(number))
            .ok_or_else(|| given.out_of_range(value)),
        // Too large to know whether it is whole, and for every range.
        Some(Number::Real(number)) if number.fract() == 0.0 => Err(given.out_of_range(value)),
        Some(Number::Real(_)) | None => Err(given.malformed(value)),
    }
}

macro_rules! integers {
    ($($type:ty),*) => {$(
        impl FieldType for $type {
            fn read(given: Given<'_>, value: Value) -> Result<Self, Error> {
                <$type>::try_from(integer(given, &value)?).map_err(|_| given.out_of_range(&value))
            }

            fn json(&self) -> serde_json::Value {
                json!(self)
            }
        }
    )*};
}
integers!(u8, u64);

macro_rules! numbers {
    ($($type:ty),*) => {$(
        impl FieldType for $type {
            fn read(given: Given<'_>, value: Value) -> Result<Self, Error> {
                number_in_range(given, &value).map(|number| number as Self)
            }

            fn json(&self) -> serde_json::Value {
                json!(self)
            }
        }
    )*};
}
numbers!(f32, f64);

fn number_in_range(given: Given<'_>, value: &Value) -> Result<f64, Error> {
    let Kind::Number { min, max } = given.field.kind else {
        unreachable!("a field of a number's type is a number in the table")
    };
    let number = float(value).ok_or_else(|| given.malformed(value))?;
    if (min..=max).contains(&number) { Ok(number) } else { Err(given.out_of_range(value)) }
}

fn float(value: &Value) -> Option<f64> {
    value.number().map(|number| match number {
        Number::Whole(number) => number as f64,
        Number::Real(number) => number,
    })
}

impl FieldType for String {
    fn read(given: Given<'_>, value: Value) -> Result<Self, Error> {
        value.scalar().ok_or_else(|| given.malformed(&value))
    }

    fn json(&self) -> serde_json::Value {
        json!(self)
    }
}

macro_rules! choices {
    ($($type:ty),*) => {$(
        impl FieldType for $type {
            fn read(given: Given<'_>, value: Value) -> Result<Self, Error> {
                let named = value.scalar().and_then(|name| Self::named(&name));
                named.ok_or_else(|| given.malformed(&value))
            }

            fn json(&self) -> serde_json::Value {
                json!(self.name())
            }
        }
    )*};
}
choices!(Method, Detail, StyleSource, Placement, Share, Priority, ImageFormat);

impl FieldType for Vec<String> {
    fn read(given: Given<'_>, value: Value) -> Result<Self, Error> {
        let Kind::Texts { max_items } = given.field.kind else {
            unreachable!("a field of texts is a list of names in the table")
        };
        let items = given.items(value, true)?;
        let (name, count) = (given.name, items.len());
        if count > max_items {
            return Err(Error::malformed(format!(
                "{name} has {count} names, and must have at most {max_items}"
            )));
        }
        let item = |(place, item): (usize, &Value)| {
            item.scalar().ok_or_else(|| {
                Error::malformed(format!("{name}[{place}] is {item}, and must be a name"))
            })
        };
        items.iter().enumerate().map(item).collect()
    }

    fn json(&self) -> serde_json::Value {
        json!(self)
    }
}

/// A style of a blend, with its weight.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BlendPart {
    #[serde(flatten)]
    pub source: BlendSource,
    /// Above 0. Its share is this over the sum of all.
    pub weight: f32,
}

/// Which style a part of a blend is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BlendSource {
    /// One of the bank.
    Id(String),
    /// One of a domain of the bank, drawn for each variant.
    Domain(String),
}

impl FieldType for Vec<BlendPart> {
    fn read(given: Given<'_>, value: Value) -> Result<Self, Error> {
        let Kind::Blend { max_items } = given.field.kind else {
            unreachable!("a field of a blend's type is a blend in the table")
        };
        let items = given.items(value, false)?;
        let (name, count) = (given.name, items.len());
        if !(1..=max_items).contains(&count) {
            return Err(Error::new(
                Fault::Blend,
                format!("{name} has {count} parts, and must have from 1 to {max_items}"),
            ));
        }
        let parts: Self = items
            .into_iter()
            .enumerate()
            .map(|(place, part)| blend_part(&format!("{name}[{place}]"), part))
            .collect::<Result<_, _>>()?;
        let sum: f32 = parts.iter().map(|part| part.weight).sum();
        if !(sum.is_finite() && sum >= f32::MIN_POSITIVE) {
            return Err(Error::new(
                Fault::Blend,
                format!("the weights of {name} sum to {sum:?}: take ones nearer to 1"),
            ));
        }
        Ok(parts)
    }

    fn json(&self) -> serde_json::Value {
        json!(self)
    }
}

/// One part, which `name` names in errors.
fn blend_part(name: &str, part: Value) -> Result<BlendPart, Error> {
    let Value::Object(fields) = part else {
        return Err(Error::malformed(format!(
            "{name} is {part}, and must be an object with an id or a domain, and a weight"
        )));
    };
    let (mut id, mut domain, mut weight) = (None, None, None);
    for (field, value) in fields {
        let place = match field.as_str() {
            "id" => &mut id,
            "domain" => &mut domain,
            "weight" => &mut weight,
            _ => {
                return Err(Error::malformed(format!(
                    "there is no field `{name}.{field}`; known are: id, domain, weight"
                )));
            }
        };
        if value != Value::Null && place.replace(value).is_some() {
            return Err(Error::malformed(format!("{name}.{field} is given twice")));
        }
    }
    let text = |field: &str, value: Option<Value>| {
        let Some(value) = value else { return Ok(None) };
        value.scalar().map(Some).ok_or_else(|| {
            Error::malformed(format!("{name}.{field} is {value}, and must be a text"))
        })
    };
    let source = match (text("id", id)?, text("domain", domain)?) {
        (Some(id), None) => BlendSource::Id(id),
        (None, Some(domain)) => BlendSource::Domain(domain),
        _ => {
            return Err(Error::new(
                Fault::StyleConflict,
                format!("{name} must have either an id or a domain"),
            ));
        }
    };
    let weight = weight.ok_or_else(|| {
        Error::malformed(format!("{name}.weight is missing, and must be a number above 0"))
    })?;
    let wrong = |fault| {
        Error::new(fault, format!("{name}.weight is {weight}, and must be a number above 0"))
    };
    let number = float(&weight).ok_or_else(|| wrong(Fault::Malformed))? as f32;
    if !(number.is_finite() && number > 0.0) {
        return Err(wrong(Fault::Blend));
    }
    Ok(BlendPart { source, weight: number })
}
