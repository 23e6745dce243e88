//! The ONNX messages that an encoder graph needs, generated from `proto/onnx.proto`, and how the
//! exporter fills them.

// One file holds all messages of the package.
#[allow(unreachable_pub, reason = "prost-build generates public items")]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/onnx.rs"));
}

pub(super) use generated::tensor_proto::{DataLocation, DataType};
pub(super) use generated::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, ValueInfoProto,
};

use generated::attribute_proto::AttributeType;
use generated::tensor_shape_proto::{Dimension, dimension};
use generated::{TensorShapeProto, TypeProto, type_proto};

impl AttributeProto {
    fn new(name: &str, kind: AttributeType) -> Self {
        Self { name: name.to_owned(), r#type: kind.into(), ..Self::default() }
    }

    pub(super) fn float(name: &str, value: f32) -> Self {
        Self { f: value, ..Self::new(name, AttributeType::Float) }
    }

    pub(super) fn int(name: &str, value: i64) -> Self {
        Self { i: value, ..Self::new(name, AttributeType::Int) }
    }

    pub(super) fn tensor(name: &str, value: TensorProto) -> Self {
        Self { t: Some(value), ..Self::new(name, AttributeType::Tensor) }
    }

    pub(super) fn ints(name: &str, values: &[i64]) -> Self {
        Self { ints: values.to_vec(), ..Self::new(name, AttributeType::Ints) }
    }
}

impl ValueInfoProto {
    /// Describes a tensor of shape [batch, `dims`…] whose first dimension is the symbolic `batch`.
    pub(super) fn batched(name: &str, element: DataType, dims: &[usize]) -> Self {
        let batch = dimension::Value::DimParam("batch".to_owned());
        let rest = dims.iter().map(|&dim| dimension::Value::DimValue(dim as i64));
        let dim = std::iter::once(batch).chain(rest).map(|value| Dimension { value: Some(value) });
        let tensor = type_proto::Tensor {
            elem_type: element.into(),
            shape: Some(TensorShapeProto { dim: dim.collect() }),
        };
        let value = Some(type_proto::Value::TensorType(tensor));
        Self { name: name.to_owned(), r#type: Some(TypeProto { value }) }
    }
}
