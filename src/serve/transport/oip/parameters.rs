//! Request parameters, read as a query string of POST /v1/augment is: the same fields under the
//! same names, and two of the protocol's own, `priority` as a number and `timeout`.

use std::collections::BTreeMap;

pub(crate) use restain_request::Value;
use restain_request::{FIELDS, Operation, Priority, Reader, Request, Wire};

use super::ignored::Ignored;
use crate::serve::error::Error;
use crate::serve::pipeline::request::field_error;
use crate::serve::transport::read_body::malformed;

/// By name. Protobuf's maps have no order, so here the alphabet's is taken.
pub(crate) type Parameters = BTreeMap<String, Value>;

/// The parameters that the protocol has and the request JSON does not, and what else one may be.
const OF_THE_PROTOCOL: [(&str, &str); 2] = [
    ("priority", "As a number, 0 (the default) and 1 are interactive, and 2 and above bulk."),
    ("timeout", "Microseconds until the request fails; 0 for the server's own limit."),
];

/// Returns each parameter with its meaning. Part of every model's configuration.
pub(crate) fn known() -> Vec<(String, String)> {
    let mut known = Vec::new();
    for field in FIELDS.iter().filter(|field| field.operations.contains(&Operation::Augment)) {
        let Some(name) = field.name_on(Wire::Oip) else { continue };
        let must = format!("{} It must be {}", field.doc, field.kind);
        let default = (field.default)();
        let default = default.as_str().map_or_else(|| default.to_string(), str::to_owned);
        let default =
            if default == "null" { ".".to_owned() } else { format!("; default {default}.") };
        known.push((name.into_owned(), format!("{must}{default}")));
    }
    for (name, text) in OF_THE_PROTOCOL {
        match known.iter_mut().find(|(known, _)| known == name) {
            Some((_, told)) => *told = format!("{told} {text}"),
            None => known.push((name.to_owned(), text.to_owned())),
        }
    }
    known
}

/// Whether a parameter of this name is read.
pub(super) fn is_known(name: &str) -> bool {
    let mut fields = FIELDS.iter().filter(|field| field.operations.contains(&Operation::Augment));
    OF_THE_PROTOCOL.iter().any(|(known, _)| *known == name)
        || fields.any(|field| field.is_named(Wire::Oip, name))
}

/// Reads the parameters of a request. Those that are not known are ignored: other servers have
/// them.
///
/// # Errors
/// Of the parameter that cannot be read.
pub(crate) fn ask(parameters: Parameters, ignored: &mut Ignored) -> Result<Request, Error> {
    let mut reader = Reader::new(Operation::Augment, Wire::Oip);
    let mut timeout = None;
    for (name, value) in parameters {
        match name.as_str() {
            "priority" => reader.take(&name, priority(value)?).map_err(field_error)?,
            "timeout" => timeout = milliseconds(&value)?,
            "sequence_id" | "sequence_start" | "sequence_end" => {
                return Err(malformed(format!(
                    "the parameter {name} is of a sequence, and requests here do not depend on \
                    each other"
                )));
            }
            name if is_known(name) => reader.take(name, value).map_err(field_error)?,
            name => ignored.add(&format_args!("parameters.{name}")),
        }
    }
    let mut ask = reader.finish();
    ask.timeout_ms = ask.timeout_ms.into_iter().chain(timeout).min();
    Ok(ask)
}

/// Triton's numbers fall from the highest priority, 1; 0 is the default's.
fn priority(value: Value) -> Result<Value, Error> {
    let priority = match value.whole() {
        None => return Ok(value),
        Some(0 | 1) => Priority::Interactive,
        Some(2..) => Priority::Bulk,
        Some(_) => {
            let must = "interactive, bulk or a whole number, and not below 0";
            return Err(malformed(format!("priority is {value}, and must be {must}")));
        }
    };
    Ok(Value::from(restain_request::Choice::name(priority)))
}

/// `timeout` in milliseconds, rounded up; nothing for 0.
fn milliseconds(value: &Value) -> Result<Option<u64>, Error> {
    let wrong =
        || malformed(format!("timeout is {value}, and must be a whole number of microseconds"));
    let us = match (value, value.whole()) {
        (Value::Null, _) => 0,
        (_, Some(us)) => u64::try_from(us).map_err(|_| wrong())?,
        (Value::Text(text), _) => text.trim().parse().map_err(|_| wrong())?,
        _ => return Err(wrong()),
    };
    Ok(Some(us.div_ceil(1000)).filter(|&ms| ms > 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use restain_request::{Detail, Method, Share};

    fn asked(json: &str) -> Result<Request, Error> {
        let parameters = serde_json::from_str(json).map_err(|error| malformed(error.to_string()));
        ask(parameters?, &mut Ignored::default())
    }

    #[test]
    fn parameters_are_the_request_json_laid_flat() {
        let ask = asked(
            r#"{"variants":3,"seed":7,"method":"color-match","domains":"a, b","ids":"[\"a/1\",\"b/2\"]","strength":1,
            "share":"request","detail":"model","timeout":1500,"timeout_ms":9,"blend":"[{\"id\":\"a/1\",\"weight\":2}]"}"#,
        );
        let ask = ask.unwrap();
        assert_eq!(
            (ask.variants, ask.seed, ask.method, ask.strength),
            (3, Some(7), Method::ColorMatch, 1.0)
        );
        assert_eq!(ask.style_domains.unwrap(), ["a", "b"]);
        assert_eq!(ask.style_ids.unwrap(), ["a/1", "b/2"]);
        assert_eq!(
            (ask.style_share, ask.detail, ask.timeout_ms),
            (Share::Request, Detail::Model, Some(2))
        );
        assert_eq!(ask.style_blend.unwrap()[0].weight, 2.0);
    }

    #[test]
    fn priorities_are_words_or_tritons_numbers() {
        let of = |json: &str| asked(json).unwrap().priority;
        assert_eq!(of("{}"), of(r#"{"priority":0}"#));
        assert_eq!(of(r#"{"priority":1}"#), Priority::Interactive);
        assert_eq!(of(r#"{"priority":2.0}"#), of(r#"{"priority":"bulk"}"#));
    }

    #[test]
    fn null_is_absent_and_whole_floats_are_whole_numbers() {
        let ask =
            asked(r#"{"variants":2.0,"seed":null,"timeout":1500.0,"priority":null}"#).unwrap();
        assert_eq!((ask.variants, ask.seed, ask.timeout_ms), (2, None, Some(2)));
        assert_eq!(ask.priority, asked("{}").unwrap().priority);
    }

    #[test]
    fn parameters_of_other_servers_are_ignored() {
        let json = r#"{"content_type":"np","headers":{"a":"b"},"sheet":true,"variants":3}"#;
        let mut ignored = Ignored::default();
        let ask = ask(serde_json::from_str(json).unwrap(), &mut ignored).unwrap();
        let names = ["parameters.content_type", "parameters.headers", "parameters.sheet"];
        assert_eq!((ask.variants, ignored.names()), (3, &names.map(str::to_owned)[..]));
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (json, said) in [
            (r#"{"variants":-1}"#, "variants is -1"),
            (r#"{"variants":1.5}"#, "variants is 1.5"),
            (r#"{"variants":"three"}"#, "variants is `three`"),
            (r#"{"seed":1e400}"#, "out of range"),
            (r#"{"domains":{"a":1}}"#, "domains is an object, and must be names"),
            (r#"{"domains":"[1"}"#, "domains is `[1`, and must be names"),
            (r#"{"ids":"a","style_ids":"b"}"#, "style_ids is given, and so is ids"),
            (r#"{"timeout":"soon"}"#, "timeout is `soon`"),
            (r#"{"method":"gan"}"#, "method"),
            (r#"{"priority":-1}"#, "priority is -1"),
            (r#"{"sequence_id":4}"#, "sequence_id"),
            (r#"{"variants":2.5}"#, "variants is 2.5"),
        ] {
            let error = asked(json).unwrap_err();
            assert!(error.detail.contains(said), "{json}: {error}");
        }
    }

    #[test]
    fn every_parameter_that_is_named_is_known() {
        let known = known();
        assert!(
            known.iter().any(|(name, told)| name == "priority" && told.contains("2 and above"))
        );
        assert!(known.iter().all(|(name, _)| is_known(name)));
    }
}
