//! Writing down an ONNX graph, node by node: every method returns the name of what it made.
//!
//! It knows protobuf and names, and nothing of the network: see `encoder`.

use prost::Message;

use super::onnx::{
    AttributeProto, DataLocation, DataType, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    StringStringEntryProto, TensorProto, ValueInfoProto,
};

/// The standard's operators as of this version, unless a graph says otherwise; 20 is the first with
/// `Gelu`.
const OPSET: i64 = 20;
/// Where ONNX Runtime's own operators are.
const RUNTIME_DOMAIN: &str = "com.microsoft";
/// The IR version that goes with it.
const IR_VERSION: i64 = 9;

/// A span of bytes in a file beside the graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ExternalData {
    pub location: String,
    pub offset: usize,
    pub length: usize,
}

pub(super) struct Graph {
    graph: GraphProto,
    opset: i64,
}

impl Graph {
    pub(super) fn new(
        name: &str,
        inputs: Vec<ValueInfoProto>,
        outputs: Vec<ValueInfoProto>,
    ) -> Self {
        Self {
            graph: GraphProto {
                name: name.to_owned(),
                input: inputs,
                output: outputs,
                ..GraphProto::default()
            },
            opset: OPSET,
        }
    }

    /// With the standard's operators as of another version.
    pub(super) fn of_opset(self, opset: i64) -> Self {
        Self { opset, ..self }
    }

    /// A node with one output.
    pub(super) fn node(
        &mut self,
        op: &str,
        inputs: &[&str],
        attributes: Vec<AttributeProto>,
    ) -> String {
        let output = format!("{op}_{}", self.graph.node.len());
        self.node_into(op, inputs, &[&output], attributes);
        output
    }

    /// A node with one output, of the operators that ONNX Runtime adds to the standard's.
    pub(super) fn runtime_node(
        &mut self,
        op: &str,
        inputs: &[&str],
        attributes: Vec<AttributeProto>,
    ) -> String {
        let output = format!("{op}_{}", self.graph.node.len());
        self.runtime_node_into(op, inputs, &[&output], attributes);
        output
    }

    /// The same with several outputs, named here; an empty name is one that is not wanted.
    pub(super) fn runtime_node_into(
        &mut self,
        op: &str,
        inputs: &[&str],
        outputs: &[&str],
        attributes: Vec<AttributeProto>,
    ) {
        self.node_into(op, inputs, outputs, attributes);
        let node = self.graph.node.last_mut().expect("it was just added");
        node.domain = RUNTIME_DOMAIN.to_owned();
    }

    /// A node whose outputs are named here: the graph's own outputs, or several at once.
    pub(super) fn node_into(
        &mut self,
        op: &str,
        inputs: &[&str],
        outputs: &[&str],
        attributes: Vec<AttributeProto>,
    ) {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        self.graph.node.push(NodeProto {
            input: own(inputs),
            output: own(outputs),
            name: format!("{}:{op}", self.graph.node.len()),
            op_type: op.to_owned(),
            attribute: attributes,
            domain: String::new(),
        });
    }

    pub(super) fn reshape(&mut self, input: &str, shape: &[i64]) -> String {
        let shape = self.int64s(shape);
        self.node("Reshape", &[input, &shape], Vec::new())
    }

    pub(super) fn transpose(&mut self, input: &str, order: &[i64]) -> String {
        self.node("Transpose", &[input], vec![AttributeProto::ints("perm", order)])
    }

    pub(super) fn cast(&mut self, input: &str, to: DataType) -> String {
        self.node("Cast", &[input], vec![AttributeProto::int("to", i32::from(to).into())])
    }

    /// A constant list of integers: shapes, axes and bounds.
    pub(super) fn int64s(&mut self, values: &[i64]) -> String {
        let name = format!("int64s_{}", self.graph.initializer.len());
        self.initializer(tensor(
            &name,
            DataType::Int64,
            &[values.len()],
            values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        ))
    }

    pub(super) fn float32s(&mut self, name: &str, dims: &[usize], values: &[f32]) -> String {
        self.initializer(tensor(
            name,
            DataType::Float,
            dims,
            values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        ))
    }

    pub(super) fn int8s(&mut self, name: &str, dims: &[usize], values: &[i8]) -> String {
        self.initializer(tensor(
            name,
            DataType::Int8,
            dims,
            values.iter().map(|&value| value as u8).collect(),
        ))
    }

    pub(super) fn uint8(&mut self, value: u8) -> String {
        let name = format!("uint8_{}", self.graph.initializer.len());
        self.initializer(tensor(&name, DataType::Uint8, &[], vec![value]))
    }

    /// Float32 values that stay in a file beside the graph. Asking again for a name gives the same
    /// initializer.
    pub(super) fn external(&mut self, name: &str, dims: &[usize], data: &ExternalData) -> String {
        if self.graph.initializer.iter().any(|held| held.name == name) {
            return name.to_owned();
        }
        let entry =
            |key: &str, value: String| StringStringEntryProto { key: key.to_owned(), value };
        self.initializer(TensorProto {
            dims: dims.iter().map(|&dim| dim as i64).collect(),
            data_type: DataType::Float.into(),
            name: name.to_owned(),
            external_data: vec![
                entry("location", data.location.clone()),
                entry("offset", data.offset.to_string()),
                entry("length", data.length.to_string()),
            ],
            data_location: DataLocation::External.into(),
            ..TensorProto::default()
        })
    }

    fn initializer(&mut self, tensor: TensorProto) -> String {
        let name = tensor.name.clone();
        self.graph.initializer.push(tensor);
        name
    }

    /// The bytes of the `.onnx` file.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        let standard = OperatorSetIdProto { domain: String::new(), version: self.opset };
        let runtime = OperatorSetIdProto { domain: RUNTIME_DOMAIN.to_owned(), version: 1 };
        let uses_runtime = self.graph.node.iter().any(|node| node.domain == RUNTIME_DOMAIN);
        ModelProto {
            ir_version: IR_VERSION,
            producer_name: "restain".to_owned(),
            producer_version: env!("CARGO_PKG_VERSION").to_owned(),
            graph: Some(self.graph),
            opset_import: std::iter::once(standard)
                .chain(uses_runtime.then_some(runtime))
                .collect(),
        }
        .encode_to_vec()
    }
}

/// A tensor held in the graph itself; `raw` is little-endian and row-major.
pub(super) fn tensor(name: &str, data_type: DataType, dims: &[usize], raw: Vec<u8>) -> TensorProto {
    TensorProto {
        dims: dims.iter().map(|&dim| dim as i64).collect(),
        data_type: data_type.into(),
        name: name.to_owned(),
        raw_data: raw,
        ..TensorProto::default()
    }
}
