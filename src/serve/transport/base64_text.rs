//! Base64 in JSON, as programs write it: `base64`, MIME libraries and PEM put line ends into it,
//! and errors in words.

use base64::prelude::BASE64_STANDARD;
use base64::{DecodeError, Engine};
use bytes::Bytes;

/// Decodes base64. White space between its digits is passed over.
///
/// # Errors
/// In words, what is wrong with it; goes on after its name.
pub(super) fn decode(text: &str) -> Result<Bytes, String> {
    let is_plain = !text.bytes().any(|byte| byte.is_ascii_whitespace());
    if is_plain {
        return BASE64_STANDARD
            .decode(text)
            .map(Bytes::from)
            .map_err(|error| describe(error, text));
    }
    let digits: String = text.chars().filter(|digit| !digit.is_ascii_whitespace()).collect();
    BASE64_STANDARD.decode(&digits).map(Bytes::from).map_err(|error| describe(error, &digits))
}

/// Says what is wrong with digits without white space.
fn describe(error: DecodeError, digits: &str) -> String {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte);
    let stranger = digits.char_indices().find(|(_, digit)| !u8::try_from(*digit).is_ok_and(known));
    let length = digits.len();
    match (stranger, error) {
        (Some((place, digit)), _) => format!(
            "is not base64: it has {digit:?} after {place} digits, and digits are A to Z, a to z, \
             0 to 9, + and /, with = at the end"
        ),
        (None, DecodeError::InvalidLength(_) | DecodeError::InvalidPadding) => format!(
            "is not base64: it has {length} digits, and must have a multiple of 4, with = at the \
            end"
        ),
        (None, _) => "is not base64: its last digits are damaged, or it goes on after =".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_are_passed_over() {
        assert_eq!(decode("AQIDBAUG").unwrap()[..], [1, 2, 3, 4, 5, 6]);
        assert_eq!(decode("AQID\r\nBAUG\n").unwrap()[..], [1, 2, 3, 4, 5, 6]);
        assert_eq!(decode(" AQ==\t").unwrap()[..], [1]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let said = |text: &str| decode(text).unwrap_err();
        assert!(said("AQ\n-D").contains("it has '-' after 2 digits"));
        assert!(said("AQID\u{e4}").contains("it has '\u{e4}' after 4 digits"));
        assert!(said("AQI").contains("it has 3 digits, and must have a multiple of 4"));
        assert!(said("AQ==AQID").contains("goes on after ="));
        assert!(said("AQJ=").contains("damaged"));
    }
}
