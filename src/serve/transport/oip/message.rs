//! Messages of an inference, as what both wires have in common, and back.

use bytes::Bytes;

use super::ignored::Ignored;
use super::infer::{self, Infer};
use super::input::{Data, Input};
use super::output::{self, Output, Tensor};
use super::parameters::{self, Parameters, Value};
use super::proto;
use super::proto::infer_parameter::ParameterChoice;
use super::proto::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use super::proto::model_infer_response::InferOutputTensor;
use crate::serve::error::Error;
use crate::serve::pipeline::Answer;
use crate::serve::transport::read_body::malformed;

/// Said of every answer of a stream: each request has one.
const FINAL: &str = "triton_final_response";
/// Asks for what is said anyway.
const ASKS_FOR_FINAL: &str = "triton_enable_empty_final_response";

/// A message taken apart.
pub(crate) struct Asked {
    pub infer: Infer,
    pub wanted: Vec<Output>,
}

/// # Errors
/// `malformed_request`, with the part that cannot be read.
pub(crate) fn read(request: proto::ModelInferRequest, in_stream: bool) -> Result<Asked, Error> {
    let proto::ModelInferRequest {
        model_name,
        model_version,
        parameters,
        inputs,
        outputs,
        raw_input_contents,
        ..
    } = request;
    let mut ignored = Ignored::default();
    let value = |(name, parameter): (String, proto::InferParameter)| {
        value(&name, parameter).map(|value| (name, value))
    };
    let mut parameters: Parameters =
        parameters.into_iter().map(value).collect::<Result<_, Error>>()?;
    if in_stream {
        parameters.remove(ASKS_FOR_FINAL);
    }
    let wanted = Output::wanted(outputs.iter().map(|output| output.name.as_str()))?;
    for InferRequestedOutputTensor { name, parameters } in &outputs {
        parameters.keys().try_for_each(|each| ignored.parameter("output", name, each))?;
    }
    let inputs = tensors(inputs, raw_input_contents, &mut ignored)?;
    let model = infer::model(&model_name, &model_version);
    Ok(Asked { infer: Infer { model, parameters, inputs, ignored }, wanted })
}

/// Writes an answer and its tensors as a message.
pub(crate) fn write(
    id: String,
    answer: &Answer,
    tensors: &[Tensor],
    in_stream: bool,
) -> proto::ModelInferResponse {
    let mut parameters = output::parameters(answer);
    if in_stream {
        parameters.insert(FINAL.to_owned(), Value::Bool(true));
    }
    let describe = |tensor: &Tensor| InferOutputTensor {
        name: tensor.output.name().to_owned(),
        datatype: tensor.datatype().to_owned(),
        shape: tensor.shape.clone(),
    };
    proto::ModelInferResponse {
        model_name: answer.about.model.clone(),
        model_version: answer.about.version.clone(),
        id,
        parameters: parameters.into_iter().map(|(name, value)| (name, parameter(value))).collect(),
        outputs: tensors.iter().map(describe).collect(),
        raw_output_contents: tensors.iter().map(Tensor::raw).collect(),
    }
}

/// Raw contents are those of all inputs, or there are none.
fn tensors(
    inputs: Vec<InferInputTensor>,
    raw: Vec<Bytes>,
    ignored: &mut Ignored,
) -> Result<Vec<Input>, Error> {
    if !raw.is_empty() && raw.len() != inputs.len() {
        return Err(malformed(format!(
            "raw_input_contents has {} entries, and must have one for each of the {} inputs",
            raw.len(),
            inputs.len()
        )));
    }
    let mut raw = raw.into_iter();
    inputs.into_iter().map(|input| tensor(input, raw.next(), ignored)).collect()
}

fn tensor(
    input: InferInputTensor,
    raw: Option<Bytes>,
    ignored: &mut Ignored,
) -> Result<Input, Error> {
    let InferInputTensor { name, datatype, shape, parameters, contents } = input;
    // KServe's client says how long the raw contents are, as HTTP does.
    parameters.keys().try_for_each(|each| ignored.parameter("input", &name, each))?;
    let data = match (contents, raw) {
        (Some(_), Some(_)) => {
            return Err(malformed(format!(
                "{name} has contents and raw_input_contents, and must have one of them"
            )));
        }
        (None, Some(raw)) => Data::Raw(raw),
        (contents, None) => {
            let proto::InferTensorContents { uint_contents, bytes_contents } =
                contents.unwrap_or_default();
            match datatype.as_str() {
                "BYTES" => Data::Elements(bytes_contents),
                _ => Data::Raw(numbers(&name, &uint_contents)?.into()),
            }
        }
    };
    Ok(Input { name, datatype, shape, data })
}

fn numbers(name: &str, numbers: &[u32]) -> Result<Vec<u8>, Error> {
    let number = |&number: &u32| {
        u8::try_from(number).map_err(|_| {
            malformed(format!("the contents of {name} hold {number}, and UINT8 is from 0 to 255"))
        })
    };
    numbers.iter().map(number).collect()
}

fn value(name: &str, parameter: proto::InferParameter) -> Result<Value, Error> {
    Ok(match parameter.parameter_choice {
        Some(ParameterChoice::BoolParam(value)) => Value::Bool(value),
        Some(ParameterChoice::Int64Param(value)) => Value::Integer(value.into()),
        Some(ParameterChoice::Uint64Param(value)) => Value::Integer(value.into()),
        Some(ParameterChoice::DoubleParam(value)) => Value::Float(value),
        Some(ParameterChoice::StringParam(value)) => Value::Text(value),
        None if !parameters::is_known(name) => Value::Null,
        None => return Err(malformed(format!("the parameter {name} has no value"))),
    })
}

fn parameter(value: Value) -> proto::InferParameter {
    let choice = match value {
        Value::Bool(value) => ParameterChoice::BoolParam(value),
        // The largest that is written is a seed.
        Value::Integer(value) => {
            ParameterChoice::Int64Param(i64::try_from(value).unwrap_or(i64::MAX))
        }
        Value::Float(value) => ParameterChoice::DoubleParam(value),
        Value::Text(value) => ParameterChoice::StringParam(value),
        other @ (Value::Null | Value::List(_) | Value::Object(_)) => {
            ParameterChoice::StringParam(serde_json::json!(other).to_string())
        }
    };
    proto::InferParameter { parameter_choice: Some(choice) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(
        contents: Option<proto::InferTensorContents>,
        raw: &[&'static [u8]],
    ) -> proto::ModelInferRequest {
        let (name, datatype) = ("TILES".to_owned(), "UINT8".to_owned());
        let input = InferInputTensor {
            name,
            datatype,
            shape: vec![1, 1, 1, 3],
            contents,
            ..InferInputTensor::default()
        };
        let raw_input_contents = raw.iter().map(|bytes| Bytes::from_static(bytes)).collect();
        proto::ModelInferRequest {
            inputs: vec![input],
            raw_input_contents,
            ..proto::ModelInferRequest::default()
        }
    }

    fn contents(numbers: &[u32]) -> Option<proto::InferTensorContents> {
        Some(proto::InferTensorContents {
            uint_contents: numbers.to_vec(),
            ..proto::InferTensorContents::default()
        })
    }

    #[test]
    fn typed_and_raw_contents_are_the_same() {
        for request in [request(contents(&[1, 2, 255]), &[]), request(None, &[b"\x01\x02\xff"])] {
            let asked = read(request, false).unwrap();
            assert!(
                matches!(&asked.infer.inputs[0].data, Data::Raw(bytes) if bytes[..] == [1, 2, 255])
            );
            assert_eq!((asked.wanted.len(), asked.infer.model), (Output::ALL.len(), None));
        }
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let no_value = proto::ModelInferRequest {
            parameters: [("seed".to_owned(), proto::InferParameter::default())].into(),
            ..request(None, &[b"abc"])
        };
        for (request, said) in [
            (request(contents(&[1]), &[b"a"]), "TILES has contents and raw_input_contents"),
            (request(contents(&[256]), &[]), "hold 256"),
            (request(None, &[b"a", b"b"]), "has 2 entries"),
            (no_value, "seed has no value"),
        ] {
            let error = read(request, false).err().unwrap();
            assert!(error.detail.contains(said), "{error}");
        }
    }

    #[test]
    fn what_is_not_known_is_ignored() {
        let of_kserve = || [("binary_data_size".to_owned(), parameter(Value::Integer(3)))].into();
        let mut request = request(None, &[b"abc"]);
        request.inputs[0].parameters = of_kserve();
        let output =
            InferRequestedOutputTensor { name: "VARIANTS".into(), parameters: of_kserve() };
        request.outputs = vec![output];
        request.parameters = [("of_later".to_owned(), proto::InferParameter::default())].into();
        let Asked { mut infer, .. } = read(request, false).unwrap();
        parameters::ask(infer.parameters, &mut infer.ignored).unwrap();
        assert_eq!(
            infer.ignored.names(),
            [
                "VARIANTS.parameters.binary_data_size",
                "TILES.parameters.binary_data_size",
                "parameters.of_later"
            ]
        );
    }
}
