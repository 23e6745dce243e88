//! What the reader makes of fields, and what it says where it cannot.

use serde_json::json;

use crate::{
    BlendPart, BlendSource, FIELDS, Fault, Kind, Method, Operation, Reader, Request, Share, Value,
    Wire, field, read, read_flag,
};

fn json(text: &str) -> Result<Request, crate::Error> {
    let mut reader = Reader::new(Operation::Augment, Wire::Json);
    reader.take_object("the request JSON", Value::from_json(text.as_bytes()).unwrap())?;
    Ok(reader.finish())
}

fn query(pairs: &[(&str, &str)]) -> Result<Request, crate::Error> {
    let pairs = pairs.iter().map(|(name, text)| (*name, Value::from(*text)));
    read(Operation::Augment, Wire::Query, pairs)
}

/// Two requests that say the same, however they came.
fn same(a: Request, b: Request) {
    assert_eq!(a.to_json(), b.to_json());
}

#[test]
fn a_query_says_what_json_says() {
    let nested = r#"{"variants": 2.0, "strength": 1, "detail": "model", "output": {"quality": 80, "sheet": true}, "method": "color-match",
        "style": {"from": "bank", "domains": ["north", " west "], "share": "request"}}"#;
    let flat = [
        ("variants", "2"),
        ("strength", " 1.0 "),
        ("detail", "model"),
        ("sheet", "True"),
        ("quality", "80.0"),
        ("method", "color-match"),
        ("style.from", " bank"),
        ("style_domains", " north ,west,"),
        ("share", "request"),
    ];
    let read = query(&flat).unwrap();
    assert_eq!(
        (read.variants, read.method, read.style_share),
        (2, Method::ColorMatch, Share::Request)
    );
    same(read, json(nested).unwrap());
    let lists = [r#"["north", "west"]"#, "north,west", " north , west "];
    for list in lists {
        let flat = query(&[("domains", list)]).unwrap();
        assert_eq!(flat.style_domains.unwrap(), ["north", "west"], "{list}");
        let nested = json(&json!({"style": {"domains": list}}).to_string()).unwrap();
        assert_eq!(nested.style_domains.unwrap(), ["north", "west"], "{list}");
    }
}

#[test]
fn null_and_nothing_are_the_default() {
    same(json("{}").unwrap(), Request::default());
    same(
        json(r#"{"variants": null, "method": null, "style": null, "output": {"quality": null}}"#)
            .unwrap(),
        Request::default(),
    );
    let written = Request::default().to_json();
    for field in FIELDS.iter().filter(|field| field.operations.contains(&Operation::Augment)) {
        let pointer = format!("/{}", field.path.replace('.', "/"));
        assert_eq!(written.pointer(&pointer), Some(&(field.default)()), "{}", field.path);
    }
}

#[test]
fn what_is_wrong_is_said_with_its_name_its_value_and_what_would_be_right() {
    for (pairs, fault, said) in [
        (
            [("quality", "0")],
            Fault::Quality,
            "quality is 0, and must be a whole number from 1 to 100",
        ),
        (
            [("quality", "much")],
            Fault::Malformed,
            "quality is `much`, and must be a whole number from 1 to 100",
        ),
        (
            [("output.quality", "1.5")],
            Fault::Malformed,
            "output.quality is 1.5, and must be a whole number from 1 to 100",
        ),
        (
            [("variants", "-1")],
            Fault::Variants,
            "variants is -1, and must be a whole number from 1 to the server's --max-variants",
        ),
        (
            [("strength", "1.5")],
            Fault::Strength,
            "strength is 1.5, and must be a number from 0 to 1",
        ),
        (
            [("strength", "nan")],
            Fault::Malformed,
            "strength is `nan`, and must be a number from 0 to 1",
        ),
        (
            [("timeout_ms", "0")],
            Fault::Timeout,
            "timeout_ms is 0, and must be a whole number of at least 1 and at most 2^53 - 1 = \
            9007199254740991",
        ),
        ([("sheet", "yes")], Fault::Malformed, "sheet is `yes`, and must be true or false"),
        (
            [("method", "")],
            Fault::Malformed,
            "method is empty, and must be one of vit, color-match, hed-jitter, identity",
        ),
        ([("blend", "[]")], Fault::Blend, "blend has 0 parts, and must have from 1 to 16"),
        (
            [("blend", r#"[{"id": "a", "weight": 0}]"#)],
            Fault::Blend,
            "blend[0].weight is 0, and must be a number above 0",
        ),
        (
            [("blend", r#"[{"id": "a", "domain": "b", "weight": 1}]"#)],
            Fault::StyleConflict,
            "blend[0] must have either an id or a domain",
        ),
        (
            [("blend", r#"[{"id": "a"}]"#)],
            Fault::Malformed,
            "blend[0].weight is missing, and must be a number above 0",
        ),
        (
            [("blend", r#"[{"id": "a", "wieght": 1}]"#)],
            Fault::Malformed,
            "there is no field `blend[0].wieght`; known are: id, domain, weight",
        ),
    ] {
        let error = query(&pairs).unwrap_err();
        assert_eq!((error.fault, error.detail.as_str()), (fault, said));
    }
    let huge = json(&format!(r#"{{"style":{{"ids":{}}}}}"#, json!(vec!["a"; 1025]))).unwrap_err();
    assert_eq!(huge.detail, "style.ids has 1025 names, and must have at most 1024");
    let nested = json(r#"{"style": {"domains": ["a", null]}}"#).unwrap_err();
    assert_eq!(nested.detail, "style.domains[1] is null, and must be a name");
    let sum = r#"{"style":{"blend":[{"id":"a","weight":3e38},{"id":"a","weight":3e38}]}}"#;
    assert!(json(sum).unwrap_err().detail.contains("sum to inf"));
}

#[test]
fn an_unknown_name_is_answered_with_the_nearest() {
    let said = |error: Result<Request, crate::Error>| error.unwrap_err().detail;
    let nearest = said(json(r#"{"strenght": 1}"#));
    assert!(
        nearest.starts_with(
            "there is no field `strenght`, did you mean `strength`? Known are: model, "
        ),
        "{nearest}"
    );
    assert!(said(json(r#"{"domains": []}"#)).contains("did you mean `style.domains`?"));
    assert!(
        said(json(r#"{"style": {"domain": []}}"#))
            .contains("no field `style.domain`, did you mean `style.domains`?")
    );
    assert!(
        said(json(r#"{"style.domains": []}"#)).contains("no field `style.domains`"),
        "JSON nests"
    );
    assert!(
        said(query(&[("zzz", "1")])).starts_with("there is no query parameter `zzz`. Known are:")
    );
    assert!(said(json(r#"{"style": []}"#)).contains("style is a list, and must be an object"));
    assert!(said(json("[]")).contains("the request JSON is a list, and must be an object"));
    let encode = read(Operation::Encode, Wire::Query, [("variants", Value::from("1"))]);
    assert!(said(encode).ends_with("Known are: model, detail, mpp, priority, timeout_ms"));
}

#[test]
fn a_field_that_is_given_twice_is_an_error() {
    assert_eq!(json(r#"{"seed": 1, "seed": 2}"#).unwrap_err().detail, "seed is given twice");
    let error = query(&[("ids", "a"), ("style_ids", "b")]).unwrap_err();
    assert_eq!(error.detail, "style_ids is given, and so is ids, which is the same field");
}

#[test]
fn a_request_remembers_what_its_fields_were_called() {
    let read = query(&[("style_ids", "a")]).unwrap();
    assert_eq!(
        (read.name(&field::style_ids), read.name(&field::style_domains)),
        ("style_ids".into(), "domains".into())
    );
    assert_eq!(json("{}").unwrap().name(&field::style_ids), "style.ids");
}

#[test]
fn a_blend_is_read_from_json_and_from_a_text() {
    let list = r#"[{"id": " a/1 ", "weight": 2}, {"domain": "b", "weight": "0.5", "id": null}]"#;
    let parts = vec![
        BlendPart { source: BlendSource::Id("a/1".to_owned()), weight: 2.0 },
        BlendPart { source: BlendSource::Domain("b".to_owned()), weight: 0.5 },
    ];
    assert_eq!(query(&[("blend", list)]).unwrap().style_blend.unwrap(), parts);
    assert_eq!(
        json(&format!(r#"{{"style": {{"blend": {list}}}}}"#)).unwrap().style_blend.unwrap(),
        parts
    );
}

#[test]
fn a_flag_says_what_it_must_be() {
    assert_eq!(read_flag::<u8>(&field::output_quality, "80.0"), Ok(80));
    assert_eq!(
        read_flag::<u8>(&field::output_quality, "300"),
        Err("must be a whole number from 1 to 100".to_owned())
    );
    assert_eq!(read_flag::<Method>(&field::method, " vit"), Ok(Method::Vit));
}

#[test]
fn the_last_part_of_every_path_is_a_name_of_its_own() {
    let names: std::collections::BTreeSet<&str> =
        FIELDS.iter().map(|field| field.short_name()).collect();
    assert_eq!(names.len(), FIELDS.len());
    for field in FIELDS {
        assert!(field.doc.ends_with('.') && field.doc.is_ascii(), "{}", field.path);
        let bound = match field.kind {
            Kind::Texts { max_items } | Kind::Blend { max_items } => max_items,
            _ => 1,
        };
        assert!((1..=4096).contains(&bound));
    }
}
