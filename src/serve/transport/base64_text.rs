//! Base64 in JSON, as programs write it: `base64`, MIME libraries and PEM put line ends into it.

use base64::prelude::BASE64_STANDARD;
use base64::{DecodeError, Engine};
use bytes::Bytes;

/// Decodes base64. White space between its digits is passed over.
///
/// # Errors
/// Where it is not base64; offsets do not count white space.
pub(super) fn decode(text: &str) -> Result<Bytes, DecodeError> {
    let is_plain = !text.bytes().any(|byte| byte.is_ascii_whitespace());
    if is_plain {
        return BASE64_STANDARD.decode(text).map(Bytes::from);
    }
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    BASE64_STANDARD.decode(digits).map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_are_passed_over() {
        assert_eq!(decode("AQIDBAUG").unwrap()[..], [1, 2, 3, 4, 5, 6]);
        assert_eq!(decode("AQID\r\nBAUG\n").unwrap()[..], [1, 2, 3, 4, 5, 6]);
        assert_eq!(decode(" AQ==\t").unwrap()[..], [1]);
        assert!(decode("AQ!D\n").is_err() && decode("AQI").is_err());
    }
}
