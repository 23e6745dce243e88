//! Tokens: the secret that the holder of a key sends.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

/// A fixed prefix, by which secret scanners recognise a token.
pub(super) const PREFIX: &str = "rst_";

/// 256 bits from the system, as text that fits into a header.
///
/// # Errors
/// When the system gives no random bytes.
pub fn token() -> std::io::Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(bytes)))
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_two_are_the_same() {
        let tokens: std::collections::HashSet<_> =
            (0..100).map(|_| super::token().unwrap()).collect();
        assert!(tokens.len() == 100 && tokens.iter().all(|token| token.len() == "rst_".len() + 43));
    }
}
