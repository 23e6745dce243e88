//! Linear layers in int8: weights quantised once per output, activations on the way, per token.
//!
//! Activations are scaled by each row's own largest magnitude, not by one figure for the whole
//! tensor as `DynamicQuantizeLinear` does: one figure would make a tile's latents depend on the
//! tiles that share its batch, and replay forbids that. It also loses less. Rows become uint8
//! around 128, because uint8 × int8 is the product that x86 has an instruction for.

use super::graph::{Graph, tensor};
use super::onnx::{AttributeProto, DataType};
use restain_bundle::Tensor;

/// Where zero lies among the quantised activations.
const ZERO: u8 = 128;
/// Largest magnitude on either side, of activations and weights.
const LEVELS: f32 = 127.0;

/// A weight matrix in int8, transposed for the product.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct QuantisedWeight {
    /// [in, out] row-major.
    pub values: Vec<i8>,
    /// [out]: weight ≈ value · scale.
    pub scales: Vec<f32>,
}

/// Quantises a weight [out, in] symmetrically, each output by its own largest magnitude.
pub(super) fn weight(tensor: &Tensor) -> QuantisedWeight {
    let (outputs, inputs) = (tensor.shape[0], tensor.shape[1]);
    let mut values = vec![0; outputs * inputs];
    let scales: Vec<f32> =
        tensor.data.chunks_exact(inputs).map(|row| largest(row) / LEVELS).collect();
    for (output, row) in tensor.data.chunks_exact(inputs).enumerate() {
        for (input, &number) in row.iter().enumerate() {
            values[input * outputs + output] =
                (number / scales[output]).round().clamp(-LEVELS, LEVELS) as i8;
        }
    }
    QuantisedWeight { values, scales }
}

/// Never zero, so that dividing by it is safe.
fn largest(row: &[f32]) -> f32 {
    row.iter().fold(f32::MIN_POSITIVE * LEVELS, |largest, number| largest.max(number.abs()))
}

/// input [rows, in] · weightᵀ + bias → [rows, out].
pub(super) fn linear(
    graph: &mut Graph,
    input: &str,
    name: &str,
    weights: &Tensor,
    bias: &str,
) -> String {
    let (outputs, inputs) = (weights.shape[0], weights.shape[1]);
    let quantised = weight(weights);
    let weight = graph.int8s(&format!("{name}.weight.int8"), &[inputs, outputs], &quantised.values);
    let scales = graph.float32s(&format!("{name}.weight.scale"), &[outputs], &quantised.scales);

    let (rows, row_scales) = quantise_rows(graph, input);
    let zero = graph.uint8(ZERO);
    let one = graph.float32s(&format!("{name}.one"), &[], &[1.0]);
    // ONNX Runtime's own operator: MatMulInteger, Cast and Mul by the outputs' scales, while the
    // sums are in the cache. Its scale of the rows is one number for all of them, so that of each
    // row is left for the Mul that follows.
    let scaled = graph.runtime_node(
        "MatMulIntegerToFloat",
        &[&rows, &weight, &one, &scales, &zero],
        Vec::new(),
    );
    let columns = graph.int64s(&[-1, 1]);
    let row_scales = graph.node("Reshape", &[&row_scales, &columns], Vec::new());
    let scaled = graph.node("Mul", &[&scaled, &row_scales], Vec::new());
    graph.node("Add", &[&scaled, bias], Vec::new())
}

/// f32 [rows, in] → (uint8 [rows, in], scales [rows]).
fn quantise_rows(graph: &mut Graph, input: &str) -> (String, String) {
    let axis = graph.int64s(&[-1]);
    let magnitudes = graph.node("Abs", &[input], Vec::new());
    let largest =
        graph.node("ReduceMax", &[&magnitudes, &axis], vec![AttributeProto::int("keepdims", 0)]);
    let name = format!("{largest}.levels");
    let levels = graph.float32s(&name, &[], &[1.0 / LEVELS]);
    let scales = graph.node("Mul", &[&largest, &levels], Vec::new());
    let floor = graph.float32s(&format!("{name}.floor"), &[], &[f32::MIN_POSITIVE]);
    let scales = graph.node("Max", &[&scales, &floor], Vec::new());
    let shape = graph.node("Shape", &[&scales], Vec::new());
    let zero = AttributeProto::tensor("value", tensor("zero", DataType::Uint8, &[1], vec![ZERO]));
    let zeros = graph.node("ConstantOfShape", &[&shape], vec![zero]);
    let rows = graph.node(
        "QuantizeLinear",
        &[input, &scales, &zeros],
        vec![AttributeProto::int("axis", 0)],
    );
    (rows, scales)
}
