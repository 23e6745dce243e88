//! A field means the same whichever way it comes. Every field of the table is sent with the same
//! values as a query string, as JSON, in a form, as parameters of the Open Inference Protocol and
//! in a gRPC message, and the answers are compared: the same variants, or the same code. Where a
//! wire cannot express a value, it is left out there.

mod wires;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reqwest::blocking::Response;
use reqwest::blocking::multipart::{Form, Part};
use restain::serve::transport::grpc::proto;
use restain_bundle::codec::RgbImage;
use restain_request::{FIELDS, Field, Kind, Operation, Wire};
use serde_json::{Map, Value, json};
use tokio::runtime::Runtime;
use tonic_types::StatusExt;

use super::grpc::{Client, client, pixels};
use crate::harness::{Server, decode, png, tile};
use wires::{Wires, values};

/// What became of a request.
#[derive(Debug, PartialEq)]
enum Outcome {
    /// The pixels of its variants, and their styles.
    Made(Vec<Vec<u8>>, Vec<String>),
    /// The code of its error.
    Refused(String),
}

/// Percent-encoded, every byte that is not a letter or a digit.
fn query_string(pairs: &[(String, String)]) -> String {
    let encoded = |text: &str| -> String {
        let byte = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        };
        text.bytes().map(byte).collect()
    };
    let pair = |(name, text): &(String, String)| format!("{}={}", encoded(name), encoded(text));
    format!("?{}", pairs.iter().map(pair).collect::<Vec<_>>().join("&"))
}

fn of_http(answer: Response) -> (Outcome, String) {
    let body: Value = answer.json().unwrap();
    if let Some(code) = body["code"].as_str() {
        return (Outcome::Refused(code.to_owned()), body["detail"].as_str().unwrap().to_owned());
    }
    let variants = body["tiles"][0]["variants"].as_array().unwrap();
    let picture = |variant: &Value| {
        decode(&BASE64_STANDARD.decode(variant["image"].as_str().unwrap()).unwrap()).pixels
    };
    let style = |variant: &Value| variant["style"].as_str().unwrap_or_default().to_owned();
    (
        Outcome::Made(variants.iter().map(picture).collect(), variants.iter().map(style).collect()),
        String::new(),
    )
}

/// What is asked besides the field: so that the same seed decides, and that the field makes a
/// difference.
fn beside(field: &Field) -> Vec<(&'static Field, Value)> {
    let mut others = vec![("seed", json!(7)), ("variants", json!(2))];
    if field.path == "output.quality" {
        others.push(("output.format", json!("jpeg")));
    }
    if matches!(field.path, "timeout_ms" | "priority" | "seed") {
        others.push(("method", json!("hed-jitter")));
    }
    let of = |path: &str| FIELDS.iter().find(|field| field.path == path).unwrap();
    others
        .into_iter()
        .filter(|(path, _)| *path != field.path)
        .map(|(path, value)| (of(path), value))
        .collect()
}

/// The request JSON of fields.
fn nested(fields: &[(&Field, Value)]) -> Value {
    let mut request = Map::new();
    for (field, value) in fields {
        match field.path.split_once('.') {
            None => _ = request.insert(field.path.to_owned(), value.clone()),
            Some((group, name)) => {
                let group = request.entry(group).or_insert_with(|| json!({}));
                group[name] = value.clone();
            }
        }
    }
    request.into()
}

/// A value as text; nothing where there is no text that says the same.
fn as_text(field: &Field, value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Array(_) if matches!(field.kind, Kind::Texts { .. } | Kind::Blend { .. }) => {
            Some(value.to_string())
        }
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Sets a field of a message; says whether the message can express the value.
fn set(message: &mut proto::AugmentRequest, field: &Field, value: &Value) -> bool {
    let style = message.style.get_or_insert_default();
    let small = || value.as_u64().and_then(|number| u32::try_from(number).ok());
    let lower = || value.as_str().filter(|word| **word == word.to_lowercase());
    let word =
        |prefix: &str| Some(format!("{prefix}{}", lower()?.to_uppercase().replace('-', "_")));
    let names = || -> Option<Vec<String>> {
        let names = value.as_array().filter(|names| !names.is_empty())?.iter();
        names.map(|name| name.as_str().map(str::to_owned)).collect()
    };
    macro_rules! number {
        ($place:expr, $number:expr) => {{
            $place = $number;
            $place.is_some()
        }};
    }
    macro_rules! word {
        ($place:expr, $type:ident, $prefix:literal) => {{
            let value = word($prefix).and_then(|name| proto::$type::from_str_name(&name));
            value.is_some_and(|value| {
                $place = value.into();
                value as i32 != 0
            })
        }};
    }
    macro_rules! names {
        ($place:expr) => {
            names().is_some_and(|names| {
                $place = names;
                true
            })
        };
    }
    match field.path {
        "variants" => number!(message.variants, small()),
        "output.quality" => number!(message.quality, small()),
        "seed" => number!(message.seed, value.as_u64()),
        "timeout_ms" => number!(message.timeout_ms, value.as_u64()),
        "style.spread" => number!(
            style.spread,
            value.as_f64().map(|number| number as f32).filter(|number| number.is_finite())
        ),
        "strength" => number!(
            message.strength,
            value.as_f64().map(|number| number as f32).filter(|number| number.is_finite())
        ),
        "strength_from" => number!(
            message.strength_from,
            value.as_f64().map(|number| number as f32).filter(|number| number.is_finite())
        ),
        "mpp" => number!(
            message.mpp,
            value.as_f64().map(|number| number as f32).filter(|number| number.is_finite())
        ),
        "model" => value.as_str().filter(|name| !name.is_empty()).is_some_and(|name| {
            message.model = name.to_owned();
            true
        }),
        "method" => word!(message.method, Method, "METHOD_"),
        "detail" => word!(message.detail, Detail, "DETAIL_"),
        "style.from" => word!(style.from, StyleSource, "STYLE_SOURCE_"),
        "style.placement" => word!(style.placement, Placement, "PLACEMENT_"),
        "style.share" => word!(style.share, Share, "SHARE_"),
        "priority" => word!(message.priority, Priority, "PRIORITY_"),
        "output.format" => word!(message.format, Format, "FORMAT_"),
        "style.domains" => names!(style.domains),
        "style.exclude_domains" => names!(style.exclude_domains),
        "style.ids" => names!(style.ids),
        "slide" => names!(message.slide),
        "style.blend" => parts(value).is_some_and(|parts| {
            style.blend = parts;
            true
        }),
        "output.sheet" => false,
        other => panic!("the test does not know the field {other}"),
    }
}

fn parts(value: &Value) -> Option<Vec<proto::BlendPart>> {
    use proto::blend_part::Of;
    let part = |part: &Value| {
        let weight = part["weight"].as_f64()? as f32;
        let of = match (part["id"].as_str(), part["domain"].as_str()) {
            (Some(id), None) => Some(Of::Id(id.to_owned())),
            (None, Some(domain)) => Some(Of::Domain(domain.to_owned())),
            _ => None,
        };
        Some(proto::BlendPart { of, weight })
    };
    value.as_array().filter(|parts| !parts.is_empty())?.iter().map(part).collect()
}

/// How many milliseconds a request may take is decided by the clock: that it was taken is what is
/// compared.
fn settled(field: &Field, outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Refused(code) if field.path == "timeout_ms" && code == "deadline_exceeded" => {
            Outcome::Made(Vec::new(), Vec::new())
        }
        Outcome::Made(..) if field.path == "timeout_ms" => Outcome::Made(Vec::new(), Vec::new()),
        outcome => outcome,
    }
}

#[test]
fn every_field_means_the_same_on_every_wire() {
    let mut wires = Wires::start();
    let (mut compared, values) = (0, values());
    for field in FIELDS.iter().filter(|field| field.operations.contains(&Operation::Augment)) {
        let others = beside(field);
        for value in &values {
            if field.path == "seed" && value.is_null() {
                // One is drawn for each.
                continue;
            }
            let all: Vec<(&Field, Value)> =
                others.iter().cloned().chain([(field, value.clone())]).collect();
            let request = nested(&all);
            let (expected, detail) = wires.by_json(&request);
            let expected = settled(field, expected);
            assert!(
                !detail.contains("invalid digit") && !detail.contains("invalid float"),
                "{detail}"
            );
            let mut check = |wire: Wire, (outcome, said): (Outcome, String)| {
                compared += 1;
                let outcome = settled(field, outcome);
                assert!(
                    outcome == expected,
                    "{} = {value} by {wire:?}: {said}; by JSON: {detail}",
                    field.path
                );
                // An error of the field's own names it as this wire does.
                if detail.starts_with(field.path) {
                    let name = field.name_on(wire).unwrap();
                    assert!(
                        said.starts_with(&*name),
                        "{} = {value} by {wire:?}: {said}",
                        field.path
                    );
                }
            };
            check(Wire::Json, wires.by_form(&request));
            let text: Option<Vec<(String, String)>> = all
                .iter()
                .map(|(field, value)| {
                    Some((field.name_on(Wire::Query)?.into_owned(), as_text(field, value)?))
                })
                .collect();
            if let Some(query) = text {
                check(Wire::Query, wires.by_query(&query));
            }
            let parameters: Option<Map<String, Value>> = all
                .iter()
                .map(|(field, value)| Some((field.name_on(Wire::Oip)?.into_owned(), value.clone())))
                .collect();
            // A number is Triton's own way to say a priority.
            if let Some(parameters) = parameters
                && !(field.path == "priority" && value.is_number())
            {
                check(Wire::Oip, wires.by_oip(&parameters.into()));
            }
            let mut message = super::grpc::request(pixels(&[tile(0)]));
            if all.iter().all(|(field, value)| set(&mut message, field, value)) {
                check(Wire::Grpc, wires.by_grpc(message));
            }
        }
    }
    assert!(compared > 3000, "{compared} answers were compared");
}

#[test]
fn null_is_a_field_that_was_left_out() {
    let wires = Wires::start();
    let all: Vec<(&Field, Value)> = FIELDS
        .iter()
        .filter(|field| field.operations.contains(&Operation::Augment) && field.path != "seed")
        .map(|field| (field, Value::Null))
        .collect();
    let mut request = nested(&all);
    request["seed"] = json!(7);
    assert_eq!(wires.by_json(&request), wires.by_json(&json!({"seed": 7})));
    assert_eq!(
        wires.by_json(&json!({"seed": 7, "style": null, "output": null})),
        wires.by_json(&json!({"seed": 7}))
    );
}

#[test]
fn a_field_is_named_as_the_caller_spelt_it() {
    let wires = Wires::start();
    let query = |name: &str, value: &str| wires.by_query(&[(name.to_owned(), value.to_owned())]).1;
    for name in ["quality", "output.quality", "output_quality"] {
        assert_eq!(
            query(name, "low"),
            format!("{name} is `low`, and must be a whole number from 1 to 100")
        );
    }
    assert!(query("style_ids", "north/99").starts_with("style_ids names `north/99`"));
    let said = wires.by_json(&json!({"output": {"quality": 0}})).1;
    assert_eq!(said, "output.quality is 0, and must be a whole number from 1 to 100");
    let said = wires.by_json(&json!({"domains": ["north"]})).1;
    assert!(said.contains("no field `domains`, did you mean `style.domains`?"), "{said}");
    let said = query("strenght", "1");
    assert!(
        said.contains(
            "no query parameter `strenght`, did you mean `strength`? Known are: model, variants"
        ),
        "{said}"
    );
    assert!(
        wires.by_json(&json!({"style.from": "own"})).1.contains("no field `style.from`"),
        "JSON nests"
    );
    let twice = wires
        .by_query(&[("ids".to_owned(), "a".to_owned()), ("style_ids".to_owned(), "b".to_owned())])
        .1;
    assert_eq!(twice, "style_ids is given, and so is ids, which is the same field");
}
