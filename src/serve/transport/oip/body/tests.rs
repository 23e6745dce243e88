//! JSON heads and the binary tensors behind them.

use super::*;

fn body(json: &str, binary: &[u8]) -> Result<Asked, Error> {
    read(Bytes::from([json.as_bytes(), binary].concat()), Some(json.len()))
}

fn input(parameters: &str) -> String {
    format!(r#"{{"inputs":[{{"name":"TILES","datatype":"UINT8","shape":[1,1,1,3]{parameters}}}]}}"#)
}

#[test]
fn tensors_lie_behind_the_json_in_their_order() {
    let json = r#"{"id":"7","inputs":[
        {"name":"TILES","datatype":"UINT8","shape":[1,1,1,3],"parameters":{"binary_data_size":3}},
        {"name":"KEYS","datatype":"BYTES","shape":[1],"data":["ab"]},
        {"name":"REFERENCES","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":4}}],
        "outputs":[{"name":"STYLE_IDS","parameters":{"binary_data":false}},{"name":"VARIANTS"}],
        "parameters":{"binary_data_output":true,"seed":5}}"#;
    let asked = body(json, b"abcdefg").unwrap();
    let [Data::Raw(first), Data::Texts(texts), Data::Raw(last)] = asked.inputs.map_data() else {
        panic!("other data")
    };
    assert_eq!(
        (&first[..], &texts[..], &last[..]),
        (&b"abc"[..], &["ab".to_owned()][..], &b"defg"[..])
    );
    assert_eq!(asked.wanted, [(Output::StyleIds, false), (Output::Variants, true)]);
    assert_eq!((asked.id.as_str(), asked.parameters.len()), ("7", 1));
}

trait MapData {
    fn map_data(self) -> [Data; 3];
}

impl MapData for Vec<Input> {
    fn map_data(self) -> [Data; 3] {
        self.into_iter()
            .map(|input| input.data)
            .collect::<Vec<_>>()
            .try_into()
            .unwrap_or_else(|_| panic!("not three"))
    }
}

#[test]
fn outputs_are_json_unless_they_are_asked_for_as_binary() {
    let data = r#","data":[[[[1,2,3]]]]"#;
    assert_eq!(body(&input(data), b"").unwrap().wanted, Output::ALL.map(|output| (output, false)));
    let json = input(data)
        .replace(r#"{"inputs""#, r#"{"parameters":{"binary_data_output":true},"inputs""#);
    assert_eq!(body(&json, b"").unwrap().wanted, Output::ALL.map(|output| (output, true)));
}

#[test]
fn what_other_servers_read_is_ignored_and_null_is_absent() {
    let json = r#"{"id":null,"model_name":"demo","parameters":null,"outputs":null,"x":[{"y":1}],
        "inputs":[{"name":"TILES","datatype":"UINT8","shape":[1.0,1,1,3],"z":null,
        "parameters":{"content_type":"np","binary_data_size":3.0},"data":null}]}"#;
    let asked = body(json, b"abc").unwrap();
    assert_eq!((asked.id.as_str(), &asked.inputs[0].shape[..]), ("", &[1, 1, 1, 3][..]));
    assert_eq!(asked.wanted.len(), Output::ALL.len());
    assert_eq!(
        asked.ignored.names(),
        ["model_name", "x", "inputs.0.z", "TILES.parameters.content_type"]
    );
    let json = input(r#","data":[1.0,2,3.0],"parameters":{"binary_data_size":null}"#).replace(
        r#"{"inputs""#,
        r#"{"outputs":[{"name":"VARIANTS","parameters":{"binary_data":null,"a":1}}],"inputs""#,
    );
    let asked = body(&json, b"").unwrap();
    assert!(matches!(&asked.inputs[0].data, Data::Raw(bytes) if bytes[..] == [1, 2, 3]));
    assert_eq!(asked.wanted, [(Output::Variants, false)]);
    assert_eq!(asked.ignored.names(), ["VARIANTS.parameters.a"]);
}

#[test]
fn sizes_that_lie_are_refused() {
    let size = |size: &str| input(&format!(r#","parameters":{{"binary_data_size":{size}}}"#));
    for (json, binary, said) in [
        (size("4"), &b"abc"[..], "binary_data_size of TILES is 4, and 3 bytes are left"),
        (size("-1"), b"abc", "binary_data_size of TILES is -1"),
        (size("18446744073709551615"), b"abc", "is 18446744073709551615"),
        (size("1e30"), b"abc", "must be a number of bytes"),
        (size("\"3\""), b"abc", "must be a number of bytes"),
        (size("2"), b"abc", "1 bytes behind the JSON belong to no input"),
        (input(""), b"abc", "neither data nor a binary_data_size"),
        (
            input(r#","data":[1,2,3],"parameters":{"binary_data_size":3}"#),
            b"abc",
            "has data and a binary_data_size",
        ),
        (input(r#","data":["a"]"#), b"", "its data are texts"),
        (input(r#","parameters":{"shared_memory_region":"r"}"#), b"", "`shared_memory_region`"),
        (input("").replace("[1,1,1,3]", "[99999999999999999999,1,1,3]"), b"", "whole number"),
        (
            r#"{"inputs":[],"outputs":[{"name":"VARIANTS","parameters":{"classification":3}}]}"#
                .to_owned(),
            b"",
            "`classification`",
        ),
        (
            r#"{"inputs":[],"parameters":{"binary_data_output":1}}"#.to_owned(),
            b"",
            "binary_data_output is 1",
        ),
        ("[]".to_owned(), b"", "must be an object"),
        (String::new(), b"abc", "is empty"),
    ] {
        let error = body(&json, binary).err().unwrap();
        assert!(error.detail.contains(said), "{json}: {error}");
    }
    let two =
        r#"{"name":"TILES","datatype":"UINT8","shape":[1],"parameters":{"binary_data_size":2}}"#;
    let error = body(&format!(r#"{{"inputs":[{two},{two}]}}"#), b"abc").err().unwrap();
    assert!(
        error.detail.contains("is 2, and 1 bytes are left"),
        "no two tensors share bytes: {error}"
    );
    let error = read(Bytes::from_static(b"{}"), Some(3)).err().unwrap();
    assert!(error.detail.contains("the body has 2 bytes"), "{error}");
}

#[test]
fn a_length_is_a_number() {
    let headers = |name: &'static str, value: &str| {
        HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())])
    };
    assert_eq!(json_length(&HeaderMap::new()).unwrap(), None);
    assert_eq!(json_length(&headers(JSON_LENGTH, "12")).unwrap(), Some(12));
    for value in ["-1", "1e3", "", "99999999999999999999999"] {
        assert!(json_length(&headers(JSON_LENGTH, value)).is_err(), "{value}");
    }
}

#[test]
fn an_answer_is_json_with_what_is_binary_behind_it() {
    let tensors = |binary| {
        let numbers = |output| Tensor {
            output,
            shape: vec![1, 2],
            data: TensorData::Numbers(Bytes::from_static(b"\x01\xff")),
        };
        let texts = Tensor {
            output: Output::StyleIds,
            shape: vec![1],
            data: TensorData::Texts(vec!["a/1".to_owned()]),
        };
        vec![
            (numbers(Output::Variants), binary),
            (texts, binary),
            (numbers(Output::TileKeys), false),
        ]
    };
    let answered = |binary| Answered {
        model: "m",
        version: "1",
        id: "",
        parameters: Parameters::new(),
        tensors: tensors(binary),
    };
    let (pieces, length) = write(answered(true));
    assert_eq!((length, pieces.len()), (Some(pieces[0].len()), 3));
    assert_eq!((&pieces[1][..], &pieces[2][..]), (&b"\x01\xff"[..], &b"\x03\0\0\0a/1"[..]));
    let json: serde_json::Value = serde_json::from_slice(&pieces[0]).unwrap();
    assert_eq!(json["outputs"][0]["parameters"]["binary_data_size"], 2);
    assert_eq!(json["outputs"][2]["data"], serde_json::json!([1, 255]));
    let (pieces, length) = write(answered(false));
    let json: serde_json::Value = serde_json::from_slice(&pieces[0]).unwrap();
    assert_eq!((length, pieces.len()), (None, 1));
    assert_eq!(
        (&json["outputs"][1]["data"][0], &json["id"]),
        (&"a/1".into(), &serde_json::Value::Null)
    );
}
