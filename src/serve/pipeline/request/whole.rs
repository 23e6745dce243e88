//! Whole numbers as JSON has them: to JSON `2.0` and `2` are one number, and some languages write every number with a point.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserializer;
use serde::de::{Error, Unexpected, Visitor};

/// For fields of `Option<u64>` and the like.
///
/// # Errors
/// For a number that is below zero, broken, or too large for the field.
pub fn whole<'de, D: Deserializer<'de>, T: TryFrom<u64>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    deserializer.deserialize_option(Whole(PhantomData))
}

struct Whole<T>(PhantomData<T>);

impl<'de, T: TryFrom<u64>> Visitor<'de> for Whole<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from 0 on, of at most {} bits", 8 * size_of::<T>())
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        T::try_from(number)
            .map(Some)
            .map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &self))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
        // Beyond 2^53 not every whole number is one of these any more.
        let is_whole = number.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&number);
        let whole = is_whole.then_some(number as u64).and_then(|number| T::try_from(number).ok());
        whole.map(Some).ok_or_else(|| E::invalid_value(Unexpected::Float(number), &self))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Asked {
        #[serde(default, deserialize_with = "super::whole")]
        quality: Option<u32>,
    }

    #[test]
    fn a_whole_number_may_have_a_point_and_nothing_behind_it() {
        let read = |text: &str| {
            serde_json::from_str::<Asked>(&format!(r#"{{"quality":{text}}}"#))
                .map(|asked| asked.quality)
        };
        assert_eq!(
            ["7", "7.0", "70e-1", "null", "0"].map(|text| read(text).unwrap()),
            [Some(7), Some(7), Some(7), None, Some(0)]
        );
        for wrong in
            ["7.5", "-1", "-1.0", "1e300", "4294967296", "4294967296.0", "\"7\"", "[7]", "true"]
        {
            assert!(
                read(wrong)
                    .unwrap_err()
                    .to_string()
                    .contains("a whole number from 0 on, of at most 32 bits"),
                "{wrong}"
            );
        }
        assert_eq!(serde_json::from_str::<Asked>("{}").unwrap(), Asked { quality: None });
    }
}
