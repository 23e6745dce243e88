//! The body of POST …/infer: JSON, and behind it, where `Inference-Header-Content-Length` says how long the JSON is, the
//! bytes of the tensors that have a `binary_data_size`, in their order. The answer is written the same way.

use axum::http::HeaderMap;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::data::{Elements, Numbers};
use super::input::{Data, Input};
use super::output::{Output, Tensor, TensorData};
use super::parameters::{Parameters, Value};
use crate::serve::error::{Error, ErrorKind};
use crate::serve::transport::read_body::{json_object, malformed};

/// How long the JSON is, where tensors follow it.
pub(crate) const JSON_LENGTH: &str = "inference-header-content-length";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    #[serde(default)]
    id: String,
    #[serde(default)]
    parameters: Parameters,
    inputs: Vec<InputHead>,
    #[serde(default)]
    outputs: Vec<OutputHead>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InputHead {
    name: String,
    datatype: String,
    shape: Vec<i64>,
    #[serde(default)]
    parameters: Parameters,
    data: Option<Elements>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OutputHead {
    name: String,
    #[serde(default)]
    parameters: Parameters,
}

/// A body taken apart.
pub(crate) struct Asked {
    pub id: String,
    pub parameters: Parameters,
    pub inputs: Vec<Input>,
    /// Each with whether it is to be binary.
    pub wanted: Vec<(Output, bool)>,
}

/// Takes the body apart: computing, as far as tensors come as JSON.
///
/// # Errors
/// `malformed_request`, with the part that cannot be read.
pub(crate) fn read(body: Bytes, json_length: Option<usize>) -> Result<Asked, Error> {
    let length = json_length.unwrap_or(body.len());
    if length > body.len() {
        return Err(malformed(format!(
            "{JSON_LENGTH} is {length}, and the body has {} bytes",
            body.len()
        )));
    }
    let mut binary = body.slice(length..);
    let Head { id, mut parameters, inputs, outputs } =
        json_object("the JSON of the body", &body[..length])?;
    let binary_output = parameters
        .remove("binary_data_output")
        .map(|value| yes_or_no("binary_data_output", &value))
        .transpose()?;
    let inputs =
        inputs.into_iter().map(|input| tensor(input, &mut binary)).collect::<Result<_, _>>()?;
    if !binary.is_empty() {
        return Err(malformed(format!(
            "{} bytes behind the JSON belong to no input: see binary_data_size",
            binary.len()
        )));
    }
    let wanted = Output::wanted(outputs.iter().map(|output| output.name.as_str()))?;
    let binaries = outputs.into_iter().map(|output| is_binary(output, binary_output));
    let mut binaries = binaries.collect::<Result<Vec<bool>, Error>>()?;
    binaries.resize(wanted.len(), binary_output.unwrap_or_default());
    Ok(Asked { id, parameters, inputs, wanted: wanted.into_iter().zip(binaries).collect() })
}

/// How long the JSON at the head of the body is, if it is said.
///
/// # Errors
/// `malformed_request`, when it is no number.
pub(crate) fn json_length(headers: &HeaderMap) -> Result<Option<usize>, Error> {
    let Some(value) = headers.get(JSON_LENGTH) else { return Ok(None) };
    let text = String::from_utf8_lossy(value.as_bytes());
    text.parse()
        .map(Some)
        .map_err(|_| malformed(format!("{JSON_LENGTH} is `{text}`, and must be a number of bytes")))
}

/// # Errors
/// `unsupported_media_type`, when the body is compressed.
pub(crate) fn check_encoding(headers: &HeaderMap) -> Result<(), Error> {
    let given =
        headers.get("content-encoding").map(|value| String::from_utf8_lossy(value.as_bytes()));
    match given.as_deref() {
        None | Some("" | "identity") => Ok(()),
        Some(given) => {
            let detail = format!(
                "Content-Encoding is `{given}`, and bodies are read as they are: send it without compression"
            );
            Err(Error::new(ErrorKind::UnsupportedMediaType, detail))
        }
    }
}

fn tensor(input: InputHead, binary: &mut Bytes) -> Result<Input, Error> {
    let InputHead { name, datatype, shape, parameters, data } = input;
    let mut size = None;
    for (parameter, value) in parameters {
        match (parameter.as_str(), &value) {
            ("binary_data_size", Value::Integer(bytes)) => size = Some(*bytes),
            ("binary_data_size", _) => {
                return Err(malformed(format!(
                    "binary_data_size of {name} is {value}, and must be a number of bytes"
                )));
            }
            _ => return Err(unknown("input", &name, &parameter)),
        }
    }
    let data = match (data, size) {
        (Some(_), Some(_)) => {
            return Err(malformed(format!(
                "{name} has data and a binary_data_size, and must have one of them"
            )));
        }
        (None, None) => {
            return Err(malformed(format!(
                "{name} has neither data nor a binary_data_size, and must have one of them"
            )));
        }
        (None, Some(size)) => {
            let of_body = usize::try_from(size).ok().filter(|&size| size <= binary.len());
            let size = of_body.ok_or_else(|| {
                malformed(format!(
                    "binary_data_size of {name} is {size}, and {} bytes are left of the body",
                    binary.len()
                ))
            })?;
            Data::Raw(binary.split_to(size))
        }
        (Some(Elements { numbers, texts }), None) => match datatype.as_str() {
            "BYTES" if !numbers.is_empty() => {
                return Err(malformed(format!("{name} is BYTES, and its data are numbers")));
            }
            "BYTES" => Data::Texts(texts),
            _ if !texts.is_empty() => {
                return Err(malformed(format!("{name} is {datatype}, and its data are texts")));
            }
            _ => Data::Raw(numbers.into()),
        },
    };
    Ok(Input { name, datatype, shape, data })
}

fn is_binary(output: OutputHead, all: Option<bool>) -> Result<bool, Error> {
    let OutputHead { name, parameters } = output;
    let mut binary = all.unwrap_or_default();
    for (parameter, value) in parameters {
        match parameter.as_str() {
            "binary_data" => binary = yes_or_no("binary_data", &value)?,
            _ => return Err(unknown("output", &name, &parameter)),
        }
    }
    Ok(binary)
}

fn yes_or_no(name: &str, value: &Value) -> Result<bool, Error> {
    if let Value::Bool(value) = value {
        Ok(*value)
    } else {
        Err(malformed(format!("the parameter {name} is {value}, and must be true or false")))
    }
}

/// What a tensor has no parameter for, shared memory and classification among it.
pub(crate) fn unknown(what: &str, tensor: &str, parameter: &str) -> Error {
    malformed(format!(
        "the {what} {tensor} has a parameter `{parameter}`, which is not served here"
    ))
}

#[derive(Serialize)]
struct AnswerHead<'a> {
    model_name: &'a str,
    model_version: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    id: &'a str,
    parameters: Parameters,
    outputs: Vec<AnswerTensor<'a>>,
}

#[derive(Serialize)]
struct AnswerTensor<'a> {
    name: &'static str,
    datatype: &'static str,
    shape: &'a [i64],
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<BinarySize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<AnswerData<'a>>,
}

#[derive(Serialize)]
struct BinarySize {
    binary_data_size: usize,
}

#[derive(Serialize)]
#[serde(untagged)]
enum AnswerData<'a> {
    Numbers(Numbers<'a>),
    Texts(&'a [String]),
}

/// Who answers, and what.
pub(crate) struct Answered<'a> {
    pub model: &'a str,
    pub version: &'a str,
    pub id: &'a str,
    pub parameters: Parameters,
    /// Each with whether it is to be binary.
    pub tensors: Vec<(Tensor, bool)>,
}

/// A body in pieces: the JSON, and behind it the tensors that are binary, from where they lie. Nothing is said of the JSON's
/// length where it is all.
pub(crate) fn write(answered: Answered<'_>) -> (Vec<Bytes>, Option<usize>) {
    let Answered { model, version, id, parameters, tensors } = answered;
    let mut binary = Vec::new();
    let mut describe = |(tensor, is_binary): &'_ (Tensor, bool)| {
        let raw = is_binary.then(|| tensor.raw());
        let size = raw.as_ref().map(|raw| BinarySize { binary_data_size: raw.len() });
        binary.extend(raw);
        size
    };
    let sizes: Vec<Option<BinarySize>> = tensors.iter().map(&mut describe).collect();
    let outputs = tensors.iter().zip(sizes).map(|((tensor, is_binary), parameters)| AnswerTensor {
        name: tensor.output.name(),
        datatype: tensor.output.datatype(),
        shape: &tensor.shape,
        parameters,
        data: (!is_binary).then(|| match &tensor.data {
            TensorData::Numbers(bytes) => AnswerData::Numbers(Numbers(bytes)),
            TensorData::Texts(texts) => AnswerData::Texts(texts),
        }),
    });
    let head = AnswerHead {
        model_name: model,
        model_version: version,
        id,
        parameters,
        outputs: outputs.collect(),
    };
    let json =
        Bytes::from(serde_json::to_vec(&head).expect("answers are strings, numbers and lists"));
    let length = (!binary.is_empty()).then_some(json.len());
    (std::iter::once(json).chain(binary).collect(), length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(json: &str, binary: &[u8]) -> Result<Asked, Error> {
        read(Bytes::from([json.as_bytes(), binary].concat()), Some(json.len()))
    }

    fn input(parameters: &str) -> String {
        format!(
            r#"{{"inputs":[{{"name":"TILES","datatype":"UINT8","shape":[1,1,1,3]{parameters}}}]}}"#
        )
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
        let [Data::Raw(first), Data::Texts(texts), Data::Raw(last)] = asked.inputs.map_data()
        else {
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
        assert_eq!(
            body(&input(data), b"").unwrap().wanted,
            Output::ALL.map(|output| (output, false))
        );
        let json = input(data)
            .replace(r#"{"inputs""#, r#"{"parameters":{"binary_data_output":true},"inputs""#);
        assert_eq!(body(&json, b"").unwrap().wanted, Output::ALL.map(|output| (output, true)));
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
            (input(r#","data":[1,2,3],"parameters":{"binary_data_size":3}"#), b"abc", "has data and a binary_data_size"),
            (input(r#","data":["a"]"#), b"", "its data are texts"),
            (input(r#","parameters":{"shared_memory_region":"r"}"#), b"", "`shared_memory_region`"),
            (input("").replace("[1,1,1,3]", "[99999999999999999999,1,1,3]"), b"", "expected i64"),
            (r#"{"inputs":[],"outputs":[{"name":"VARIANTS","parameters":{"classification":3}}]}"#.to_owned(), b"", "`classification`"),
            (r#"{"inputs":[],"input":[]}"#.to_owned(), b"", "unknown field `input`"),
            (r#"{"inputs":[],"parameters":{"binary_data_output":1}}"#.to_owned(), b"", "binary_data_output is 1"),
            ("[]".to_owned(), b"", "must be an object"),
            (String::new(), b"abc", "is empty"),
        ] {
            let error = body(&json, binary).err().unwrap();
            assert!(error.detail.contains(said), "{json}: {error}");
        }
        let two = r#"{"name":"TILES","datatype":"UINT8","shape":[1],"parameters":{"binary_data_size":2}}"#;
        let error = body(&format!(r#"{{"inputs":[{two},{two}]}}"#), b"abc").err().unwrap();
        assert!(
            error.detail.contains("is 2, and 1 bytes are left"),
            "no two tensors share bytes: {error}"
        );
        let error = read(Bytes::from_static(b"{}"), Some(3)).err().unwrap();
        assert!(error.detail.contains("the body has 2 bytes"), "{error}");
    }

    #[test]
    fn a_length_is_a_number_and_a_body_comes_as_it_is() {
        let headers = |name: &'static str, value: &str| {
            HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())])
        };
        assert_eq!(json_length(&HeaderMap::new()).unwrap(), None);
        assert_eq!(json_length(&headers(JSON_LENGTH, "12")).unwrap(), Some(12));
        for value in ["-1", "1e3", "", "99999999999999999999999"] {
            assert!(json_length(&headers(JSON_LENGTH, value)).is_err(), "{value}");
        }
        assert!(check_encoding(&headers("content-encoding", "identity")).is_ok());
        assert!(
            check_encoding(&headers("content-encoding", "gzip"))
                .unwrap_err()
                .detail
                .contains("gzip")
        );
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
}
