//! What is wrong with JSON, in words: the field, what is there, and what it must be.

use serde::Deserialize;
use serde_json::error::Category;

use super::read_body::{malformed, object};
use crate::serve::error::Error;

/// Reads an object of JSON; `what` it is stands in the error.
///
/// # Errors
/// `malformed_request`, with the field at fault.
pub(crate) fn read_object<'de, T: Deserialize<'de>>(
    what: &str,
    json: &'de [u8],
) -> Result<T, Error> {
    object(json).map_err(|found| malformed(format!("{what} is {found}, and must be an object")))?;
    serde_json::from_slice(json).map_err(|error| wrong::<T>(what, json, &error))
}

/// The error of JSON that cannot be read as `T`. Reads it again: which field it is in is not asked
/// while there is nothing wrong.
pub(crate) fn wrong<'de, T: Deserialize<'de>>(
    what: &str,
    json: &'de [u8],
    error: &serde_json::Error,
) -> Error {
    let text = error.to_string();
    if error.classify() != Category::Data {
        return malformed(format!("{what} is not valid JSON: {text}"));
    }
    let mut again = serde_json::Deserializer::from_slice(json);
    let path = serde_path_to_error::deserialize::<_, T>(&mut again)
        .err()
        .map(|error| error.path().to_string())
        // The root, or what cannot be told.
        .filter(|path| path != "." && !path.contains('?'));
    malformed(in_words(what, path.as_deref(), &text))
}

/// Puts a message of serde into words; `path` is the field at fault, if it is not all of `what`.
fn in_words(what: &str, path: Option<&str>, text: &str) -> String {
    let text = text.rsplit_once(" at line ").map_or(text, |(text, _)| text);
    let field = path.unwrap_or(what);
    let kinds = ["invalid type: ", "invalid value: ", "invalid length "];
    if let Some(rest) = kinds.iter().find_map(|kind| text.strip_prefix(kind))
        && let Some((found, must_be)) = rest.split_once(", expected ")
    {
        return format!(
            "{field} is {}, and must be {}",
            found_in_words(found),
            type_in_words(must_be)
        );
    }
    if let Some(rest) = text.strip_prefix("unknown field ") {
        let (name, known) = rest.split_once(", ").unwrap_or((rest, ""));
        let known = known.trim_start_matches("expected one of ").trim_start_matches("expected ");
        return match known {
            "" | "there are no fields" => format!("{what} has the unknown field {name}"),
            known => format!("{what} has the unknown field {name}, and may have {known}"),
        };
    }
    if let Some(name) = text.strip_prefix("duplicate field ") {
        return format!("{what} has the field {name} twice");
    }
    if let Some(name) = text.strip_prefix("missing field ") {
        return format!("{field} lacks the field {name}");
    }
    format!("{field}: {text}")
}

/// What is there.
fn found_in_words(found: &str) -> String {
    let value = |kind: &str| Some(found.strip_prefix(kind)?.trim_matches('`').to_owned());
    match found {
        "sequence" => "a list".to_owned(),
        "map" => "an object".to_owned(),
        _ => value("integer ")
            .or_else(|| value("floating point "))
            .or_else(|| value("boolean "))
            .or_else(|| Some(format!("`{}`", found.strip_prefix("string \"")?.strip_suffix('"')?)))
            .unwrap_or_else(|| found.to_owned()),
    }
}

/// What must be.
fn type_in_words(must_be: &str) -> &str {
    match must_be {
        "a sequence" => "a list",
        "a map" => "an object",
        "a string" | "a borrowed string" => "a text",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number of at least 0",
        "i8" | "i16" | "i32" | "i64" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        _ if must_be.starts_with("struct ") => "an object",
        _ => must_be,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "read, and compared by the errors alone")]
    struct Outer {
        inner: Vec<Inner>,
        count: Option<u32>,
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "read, and compared by the errors alone")]
    struct Inner {
        name: String,
    }

    #[test]
    fn an_error_names_the_field_what_is_there_and_what_must_be() {
        for (json, said) in [
            ("5", "the body is 5, and must be an object"),
            ("[]", "the body is a list, and must be an object"),
            (r#"{"inner": 5}"#, "inner is 5, and must be a list"),
            (r#"{"inner": [7]}"#, "inner[0] is 7, and must be an object"),
            (r#"{"inner": [{"name": null}]}"#, "inner[0].name is null, and must be a text"),
            (r#"{"inner": [{"name": ["a"]}]}"#, "inner[0].name is a list, and must be a text"),
            (r#"{"inner": [{}]}"#, "inner[0] lacks the field `name`"),
            (
                r#"{"inner": [], "count": "x"}"#,
                "count is `x`, and must be a whole number of at least 0",
            ),
            (
                r#"{"inner": [], "count": -1}"#,
                "count is -1, and must be a whole number of at least 0",
            ),
            (
                r#"{"iner": []}"#,
                "the body has the unknown field `iner`, and may have `inner` or `count`",
            ),
            (r#"{"inner": [], "inner": []}"#, "the body has the field `inner` twice"),
        ] {
            let error = read_object::<Outer>("the body", json.as_bytes()).unwrap_err();
            assert_eq!(error.detail, said, "{json}");
        }
        let cut = read_object::<Outer>("the body", b"{\"inner\"").unwrap_err();
        assert!(cut.detail.starts_with("the body is not valid JSON: EOF"), "{cut}");
    }
}
