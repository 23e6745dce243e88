//! Value parsers of numbers that have a range.

use std::error::Error;
use std::fmt::Display;
use std::str::FromStr;

use crate::message;

/// What numbers of options have in common.
pub trait Number: FromStr<Err: Error + 'static> + PartialOrd + Display + Copy {}

impl<T: FromStr<Err: Error + 'static> + PartialOrd + Display + Copy> Number for T {}

/// Returns a parser of numbers from `least` to `most`, both included.
pub fn within<T: Number>(least: T, most: T) -> impl Fn(&str) -> Result<T, String> + Clone {
    move |text| {
        let is_within = |number: &T| least <= *number && *number <= most;
        number(text, is_within, || format!("must be from {least} to {most}"))
    }
}

/// Returns a parser of numbers of at least `least`.
pub fn at_least<T: Number>(least: T) -> impl Fn(&str) -> Result<T, String> + Clone {
    move |text| number(text, |number| least <= *number, || format!("must be at least {least}"))
}

/// Returns a parser of numbers above `bound`.
pub fn above<T: Number>(bound: T) -> impl Fn(&str) -> Result<T, String> + Clone {
    move |text| number(text, |number| bound < *number, || format!("must be above {bound}"))
}

fn number<T: Number>(
    text: &str,
    is_right: impl Fn(&T) -> bool,
    wrong: impl Fn() -> String,
) -> Result<T, String> {
    let number = text.trim().parse::<T>().map_err(|error| message::plain(&error))?;
    // Infinity passes every lower bound.
    let is_infinite = matches!(number.to_string().as_str(), "inf" | "-inf");
    if is_right(&number) && !is_infinite { Ok(number) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_outside_its_range_is_rejected_with_the_range() {
        assert_eq!(within(0.0, 1.0)("0.5"), Ok(0.5));
        for text in ["1.5", "-0.1", "nan", "inf"] {
            assert_eq!(within(0.0, 1.0)(text).unwrap_err(), "must be from 0 to 1", "{text}");
        }
        assert_eq!(at_least(1u64)("0").unwrap_err(), "must be at least 1");
        assert_eq!(above(0.0)("0").unwrap_err(), "must be above 0");
        assert!(at_least(0.0)("inf").is_err());
    }

    #[test]
    fn text_that_is_no_number_is_rejected_in_plain_words() {
        assert_eq!(at_least(1usize)("4x").unwrap_err(), "not a whole number");
        assert_eq!(at_least(1usize)("-4").unwrap_err(), "not a whole number");
        assert_eq!(within(0u8, 9)("256").unwrap_err(), "the number is too large");
        assert_eq!(at_least(0.0)("one").unwrap_err(), "not a number");
    }
}
