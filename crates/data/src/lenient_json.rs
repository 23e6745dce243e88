//! JSON as Python's `json` module reads and writes it: with a byte order mark, and with `NaN`,
//! `Infinity` and `-Infinity`, which become null.

use serde_json::Value;

/// Words that Python takes for numbers and JSON does not have.
const WORDS: [&str; 3] = ["-Infinity", "Infinity", "NaN"];

/// Parses JSON.
///
/// # Errors
/// If it is not valid JSON, apart from the exceptions of this module.
pub(crate) fn parse(text: &str) -> serde_json::Result<Value> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match serde_json::from_str(text) {
        Err(_) if WORDS.iter().any(|word| text.contains(word)) => {
            serde_json::from_str(&without_words(text))
        }
        parsed => parsed,
    }
}

/// Replaces the words that stand outside strings by null.
fn without_words(text: &str) -> String {
    let (mut plain, mut rest, mut in_string) = (String::with_capacity(text.len()), text, false);
    while let Some(next) = rest.chars().next() {
        if !in_string && let Some(word) = WORDS.iter().find(|word| rest.starts_with(**word)) {
            plain.push_str("null");
            rest = &rest[word.len()..];
            continue;
        }
        // What follows a backslash ends no string.
        let length = match rest[next.len_utf8()..].chars().next() {
            Some(escaped) if in_string && next == '\\' => 1 + escaped.len_utf8(),
            _ => next.len_utf8(),
        };
        in_string ^= next == '"';
        plain.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    plain
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_python_writes_is_read() {
        let read = |text: &str| parse(text).unwrap();
        assert_eq!(read("\u{feff}{\"a\": 1}"), json!({"a": 1}));
        assert_eq!(read("{\"a\": NaN, \"b\": [-Infinity, 2]}"), json!({"a": null, "b": [null, 2]}));
        let text = r#"{"é": "NaN \" Infinity", "b": NaN}"#;
        assert_eq!(read(text), json!({"é": "NaN \" Infinity", "b": null}));
        assert!(parse("{\"a\": nan}").is_err() && parse("{NaN").is_err());
    }
}
