//! The body of POST …/infer: JSON, and behind it, where `Inference-Header-Content-Length` says how
//! long the JSON is, the bytes of the tensors that have a `binary_data_size`, in their order. The
//! answer is written the same way.
//!
//! The protocol is read by many servers, and its clients write fields and parameters that only some
//! of them know (`model_name`, MLServer's `content_type`). Such fields are ignored, and null is a
//! field that was left out. Fields that change the answer, shared memory and classification, are
//! rejected by name.

use axum::http::HeaderMap;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::data::{Elements, Numbers, Whole};
use super::ignored::Ignored;
use super::input::{Data, Input};
use super::output::{Output, Tensor, TensorData};
use super::parameters::{Parameters, Value};
use crate::serve::error::Error;
use crate::serve::transport::bounds::{Fields, List};
use crate::serve::transport::read_body::malformed;

/// Most tensors of a request, and most sides of one; there are three inputs and three outputs.
const MAX_TENSORS: usize = 16;
/// Most parameters of a request or a tensor: more than there are.
const MAX_PARAMETERS: usize = 64;

/// How long the JSON is, where tensors follow it.
pub(crate) const JSON_LENGTH: &str = "inference-header-content-length";

#[derive(Deserialize)]
struct Head {
    id: Option<String>,
    parameters: Option<Fields<Value, MAX_PARAMETERS>>,
    inputs: List<InputHead, MAX_TENSORS>,
    outputs: Option<List<OutputHead, MAX_TENSORS>>,
}

#[derive(Deserialize)]
struct InputHead {
    name: String,
    datatype: String,
    shape: List<Whole, MAX_TENSORS>,
    parameters: Option<Fields<Value, MAX_PARAMETERS>>,
    data: Option<Elements>,
}

#[derive(Deserialize)]
struct OutputHead {
    name: String,
    parameters: Option<Fields<Value, MAX_PARAMETERS>>,
}

/// A body taken apart.
pub(crate) struct Asked {
    pub id: String,
    pub parameters: Parameters,
    pub inputs: Vec<Input>,
    /// Each with whether it is to be binary.
    pub wanted: Vec<(Output, bool)>,
    pub ignored: Ignored,
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
    let mut ignored = Ignored::default();
    let Head { id, parameters, inputs: List(inputs), outputs } =
        ignored.read_object("the JSON of the body", &body[..length])?;
    let Fields(mut parameters) = parameters.unwrap_or_default();
    let List(outputs) = outputs.unwrap_or_default();
    let binary_output = parameters
        .remove("binary_data_output")
        .filter(|value| *value != Value::Null)
        .map(|value| yes_or_no("binary_data_output", &value))
        .transpose()?;
    let inputs = inputs.into_iter().map(|input| tensor(input, &mut binary, &mut ignored));
    let inputs = inputs.collect::<Result<_, _>>()?;
    if !binary.is_empty() {
        return Err(malformed(format!(
            "{} bytes behind the JSON belong to no input: see binary_data_size",
            binary.len()
        )));
    }
    let wanted = Output::wanted(outputs.iter().map(|output| output.name.as_str()))?;
    let binaries = outputs.into_iter().map(|output| is_binary(output, binary_output, &mut ignored));
    let mut binaries = binaries.collect::<Result<Vec<bool>, Error>>()?;
    binaries.resize(wanted.len(), binary_output.unwrap_or_default());
    let wanted = wanted.into_iter().zip(binaries).collect();
    Ok(Asked { id: id.unwrap_or_default(), parameters, inputs, wanted, ignored })
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

fn tensor(input: InputHead, binary: &mut Bytes, ignored: &mut Ignored) -> Result<Input, Error> {
    let InputHead { name, datatype, shape: List(shape), parameters, data } = input;
    let shape = shape.into_iter().map(|Whole(side)| side).collect();
    let mut size = None;
    for (parameter, value) in parameters.unwrap_or_default().0 {
        match (parameter.as_str(), value.whole()) {
            ("binary_data_size", _) if value == Value::Null => {}
            ("binary_data_size", Some(bytes)) => size = Some(bytes),
            ("binary_data_size", None) => {
                return Err(malformed(format!(
                    "binary_data_size of {name} is {value}, and must be a number of bytes"
                )));
            }
            _ => ignored.parameter("input", &name, &parameter)?,
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

fn is_binary(output: OutputHead, all: Option<bool>, ignored: &mut Ignored) -> Result<bool, Error> {
    let OutputHead { name, parameters } = output;
    let mut binary = all.unwrap_or_default();
    for (parameter, value) in parameters.unwrap_or_default().0 {
        match parameter.as_str() {
            "binary_data" if value == Value::Null => {}
            "binary_data" => binary = yes_or_no("binary_data", &value)?,
            _ => ignored.parameter("output", &name, &parameter)?,
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
    Floats(&'a [f32]),
    Base64(Vec<String>),
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

/// A body in pieces: the JSON, and behind it the tensors that are binary, from where they lie.
/// Nothing is said of the JSON's length where it is all.
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
        datatype: tensor.datatype(),
        shape: &tensor.shape,
        parameters,
        data: (!is_binary).then(|| match &tensor.data {
            TensorData::Numbers(bytes) => AnswerData::Numbers(Numbers(bytes)),
            TensorData::Texts(texts) => AnswerData::Texts(texts),
            TensorData::Floats(floats) => AnswerData::Floats(floats),
            TensorData::Pictures(pictures) => AnswerData::Base64(
                pictures.iter().map(|file| BASE64_STANDARD.encode(file)).collect(),
            ),
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
mod tests;
