//! The encoder as an ONNX graph: uint8 tiles in, anatomy and characteristics out, CLS left out,
//! normalisation inside.
//!
//! Tokens stay two-dimensional, [batch·tokens, E], through the whole network, so that every linear
//! layer is one `Gemm` (or its int8 stand-in) that takes PyTorch's [out, in] weights as they lie in
//! `weights.safetensors`; only attention needs heads apart. The graph holds no number of
//! `weights.safetensors` in fp32.

use std::collections::{BTreeMap, BTreeSet};

use super::graph::{ExternalData, Graph};
use super::onnx::{AttributeProto, DataType, ValueInfoProto};
use super::quantise;
use restain_bundle::{POSITIONS, STYLE_BIAS, Weights};
use restain_method::{Geometry, Normalisation};

pub(super) const LAYER_NORM_EPSILON: f32 = 1e-6;

/// Everything that a graph is made from.
pub(super) struct EncoderGraph<'a> {
    pub geometry: &'a Geometry,
    pub normalisation: &'a Normalisation,
    pub weights: &'a Weights,
    /// Where each parameter lies in `weights.safetensors`.
    pub spans: &'a BTreeMap<String, ExternalData>,
    /// Linear layers computed in int8, by name without `.weight`. Empty: an fp32 graph.
    pub int8: &'a BTreeSet<String>,
}

/// The names of the linear layers that may be computed in int8: all but the patch embedding and the
/// style bias.
pub(super) fn quantisable(geometry: &Geometry) -> Vec<String> {
    let layers = ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"];
    (0..geometry.depth())
        .flat_map(|block| layers.map(|layer| format!("encoder.blocks.{block}.{layer}")))
        .collect()
}

impl EncoderGraph<'_> {
    /// The bytes of the `.onnx` file.
    pub(super) fn build(&self) -> Vec<u8> {
        let side = self.geometry.image_size();
        let mut graph = Graph::new(
            "restain-encoder",
            vec![ValueInfoProto::batched("tiles", DataType::Uint8, &[side, side, 3])],
            self.outputs(DataType::Float),
        );
        let patches = self.patchify(&mut graph);
        let mut tokens = self.embed(&mut graph, &patches);
        for block in 0..self.geometry.depth() {
            tokens = self.block(&mut graph, &tokens, &format!("encoder.blocks.{block}"));
        }
        let tokens = self.layer_norm(&mut graph, &tokens, "encoder.norm");
        self.split(&mut graph, &tokens, |graph, of| self.style_bias(graph, of));
        graph.into_bytes()
    }

    /// u8 [batch, H, W, 3] → standardised f32 [batch·N, C·P·P], moved while still one byte a value.
    pub(super) fn patchify(&self, graph: &mut Graph) -> String {
        let (grid, side) = (self.geometry.grid() as i64, self.geometry.patch_size() as i64);
        let cut = graph.reshape("tiles", &[-1, grid, side, grid, side, 3]);
        let channels_first = graph.transpose(&cut, &[0, 1, 3, 5, 2, 4]);
        let planes = graph.reshape(&channels_first, &[-1, 3, side * side]);
        let values = graph.cast(&planes, DataType::Float);
        let Normalisation { mean, std, .. } = *self.normalisation;
        // (v / 255 - mean) / std as one product and one sum.
        let scale = [0, 1, 2].map(|c| (1.0 / (255.0 * f64::from(std[c]))) as f32);
        let shift = [0, 1, 2].map(|c| (-f64::from(mean[c]) / f64::from(std[c])) as f32);
        let scale = graph.float32s("normalise.scale", &[3, 1], &scale);
        let shift = graph.float32s("normalise.shift", &[3, 1], &shift);
        let scaled = graph.node("Mul", &[&values, &scale], Vec::new());
        let standardised = graph.node("Add", &[&scaled, &shift], Vec::new());
        graph.reshape(&standardised, &[-1, 3 * side * side])
    }

    /// Patches → tokens [batch·(N+1), E], CLS in front, positions added.
    fn embed(&self, graph: &mut Graph, patches: &str) -> String {
        let (embed, count) = (self.geometry.embed_dim(), self.geometry.patches());
        let weight = self.parameter(
            graph,
            "encoder.patch_embed.proj.weight",
            &[embed, self.geometry.patch_values()],
        );
        let bias = self.parameter(graph, "encoder.patch_embed.proj.bias", &[embed]);
        let tokens = gemm(graph, patches, &weight, &bias);
        let tokens = graph.reshape(&tokens, &[-1, count as i64, embed as i64]);
        let places = graph.external("positions", &[count, embed], &self.positions_of_patches());
        let tokens = graph.node("Add", &[&tokens, &places], Vec::new());

        let cls = self.parameter(graph, "encoder.cls_token", &[1, 1, embed]);
        let batch = graph.node(
            "Shape",
            &["tiles"],
            vec![AttributeProto::int("start", 0), AttributeProto::int("end", 1)],
        );
        let rest = graph.int64s(&[1, embed as i64]);
        let shape = graph.node("Concat", &[&batch, &rest], vec![AttributeProto::int("axis", 0)]);
        let cls = graph.node("Expand", &[&cls, &shape], Vec::new());
        let tokens = graph.node("Concat", &[&cls, &tokens], vec![AttributeProto::int("axis", 1)]);
        graph.reshape(&tokens, &[-1, embed as i64])
    }

    /// Row 0, that of CLS, is zero and left out: the other rows are a span of their own in the same
    /// file.
    pub(super) fn positions_of_patches(&self) -> ExternalData {
        let whole = &self.spans[POSITIONS];
        let row_bytes = self.geometry.embed_dim() * size_of::<f32>();
        ExternalData {
            location: whole.location.clone(),
            offset: whole.offset + row_bytes,
            length: whole.length - row_bytes,
        }
    }

    /// One pre-norm block on [batch·(N+1), E].
    fn block(&self, graph: &mut Graph, tokens: &str, name: &str) -> String {
        let normed = self.layer_norm(graph, tokens, &format!("{name}.norm1"));
        let attended = self.attention(graph, &normed, &format!("{name}.attn"));
        let tokens = graph.node("Add", &[tokens, &attended], Vec::new());
        let normed = self.layer_norm(graph, &tokens, &format!("{name}.norm2"));
        let hidden = self.linear(graph, &normed, &format!("{name}.mlp.fc1"));
        let hidden = graph.node("Gelu", &[&hidden], Vec::new());
        let update = self.linear(graph, &hidden, &format!("{name}.mlp.fc2"));
        graph.node("Add", &[&tokens, &update], Vec::new())
    }

    fn attention(&self, graph: &mut Graph, tokens: &str, name: &str) -> String {
        let (count, heads) = (self.geometry.patches() as i64 + 1, self.geometry.num_heads() as i64);
        let width = self.geometry.embed_dim() as i64 / heads;
        let qkv = self.linear(graph, tokens, &format!("{name}.qkv"));
        if !self.int8.is_empty() {
            let mixed = fused_attention(graph, &qkv, name, [count, heads, width]);
            return self.linear(graph, &mixed, &format!("{name}.proj"));
        }
        let qkv = graph.reshape(&qkv, &[-1, count, 3, heads, width]);
        // [3, batch, heads, tokens, width]: each third is one contiguous piece.
        let qkv = graph.transpose(&qkv, &[2, 0, 3, 1, 4]);
        let parts = ["query", "key", "value"].map(|part| format!("{name}.{part}"));
        let [query, key, value] = parts.each_ref().map(String::as_str);
        let thirds = vec![AttributeProto::int("axis", 0), AttributeProto::int("num_outputs", 3)];
        graph.node_into("Split", &[&qkv], &[query, key, value], thirds);

        let scale = graph.float32s(&format!("{name}.scale"), &[], &[1.0 / (width as f32).sqrt()]);
        let key = graph.transpose(key, &[0, 1, 2, 4, 3]);
        let scores = graph.node("MatMul", &[query, &key], Vec::new());
        let scores = graph.node("Mul", &[&scores, &scale], Vec::new());
        let shares = graph.node("Softmax", &[&scores], vec![AttributeProto::int("axis", -1)]);
        let mixed = graph.node("MatMul", &[&shares, value], Vec::new());
        let mixed = graph.transpose(&mixed, &[0, 1, 3, 2, 4]);
        let mixed = graph.reshape(&mixed, &[-1, heads * width]);
        self.linear(graph, &mixed, &format!("{name}.proj"))
    }

    /// The two outputs, anatomy [batch, N, h] and characteristics [batch, N, S].
    pub(super) fn outputs(&self, of: DataType) -> Vec<ValueInfoProto> {
        [("anatomy", self.geometry.half()), ("characteristics", self.geometry.style_len())]
            .map(|(name, length)| {
                ValueInfoProto::batched(name, of, &[self.geometry.patches(), length])
            })
            .into()
    }

    /// Tokens, of which Z is [batch, N+1, E], → the two outputs. `linear` adds the layer that makes
    /// the style bias of characteristics [batch, N, h].
    pub(super) fn split(
        &self,
        graph: &mut Graph,
        tokens: &str,
        linear: impl FnOnce(&mut Graph, &str) -> String,
    ) {
        let (count, embed, half) = (
            self.geometry.patches() as i64 + 1,
            self.geometry.embed_dim() as i64,
            self.geometry.half() as i64,
        );
        let tokens = graph.reshape(tokens, &[-1, count, embed]);
        let axes = graph.int64s(&[1, 2]);
        let last = if self.geometry.style_bias() { "product" } else { "characteristics" };
        for (output, from, to) in [("anatomy", 0, half), (last, half, embed)] {
            let starts = graph.int64s(&[1, from]);
            let ends = graph.int64s(&[count, to]);
            graph.node_into("Slice", &[&tokens, &starts, &ends, &axes], &[output], Vec::new());
        }
        if self.geometry.style_bias() {
            let bias = linear(graph, last);
            let joined = vec![AttributeProto::int("axis", -1)];
            graph.node_into("Concat", &[last, &bias], &["characteristics"], joined);
        }
    }

    /// Characteristics [batch, N, h] → their bias [batch, N, C·P].
    fn style_bias(&self, graph: &mut Graph, characteristics: &str) -> String {
        let [patches, half] = [self.geometry.patches(), self.geometry.half()].map(|n| n as i64);
        let rows = graph.reshape(characteristics, &[-1, half]);
        let bias = self.linear(graph, &rows, STYLE_BIAS);
        graph.reshape(&bias, &[-1, patches, self.geometry.style_len() as i64 - half])
    }

    /// [rows, in] → [rows, out], in int8 when the layer is listed.
    fn linear(&self, graph: &mut Graph, input: &str, name: &str) -> String {
        let weight = &self.weights.tensors[&format!("{name}.weight")];
        let bias = self.parameter(graph, &format!("{name}.bias"), &weight.shape[..1]);
        if self.int8.contains(name) {
            return quantise::linear(graph, input, name, weight, &bias);
        }
        let weight = self.parameter(graph, &format!("{name}.weight"), &weight.shape);
        gemm(graph, input, &weight, &bias)
    }

    fn layer_norm(&self, graph: &mut Graph, tokens: &str, name: &str) -> String {
        let embed = [self.geometry.embed_dim()];
        let weight = self.parameter(graph, &format!("{name}.weight"), &embed);
        let bias = self.parameter(graph, &format!("{name}.bias"), &embed);
        let attributes = vec![
            AttributeProto::int("axis", -1),
            AttributeProto::float("epsilon", LAYER_NORM_EPSILON),
        ];
        graph.node("LayerNormalization", &[tokens, &weight, &bias], attributes)
    }

    /// A parameter where it lies, under any shape with as many values.
    pub(super) fn parameter(&self, graph: &mut Graph, name: &str, dims: &[usize]) -> String {
        graph.external(name, dims, &self.spans[name])
    }
}

/// Adds attention as a single operator of ONNX Runtime, which copies less. Only the int8 graph uses
/// it; the fp32 graph keeps to standard operators, so that other runtimes can run it. `qkv` [rows,
/// 3·E] → [rows, E].
fn fused_attention(
    graph: &mut Graph,
    qkv: &str,
    name: &str,
    [count, heads, width]: [i64; 3],
) -> String {
    let parts = ["query", "key", "value"].map(|part| format!("{name}.{part}"));
    let outputs = parts.each_ref().map(String::as_str);
    let thirds = vec![AttributeProto::int("axis", 1), AttributeProto::int("num_outputs", 3)];
    graph.node_into("Split", &[qkv], &outputs, thirds);
    let [query, key, value] = outputs.map(|part| graph.reshape(part, &[-1, count, heads * width]));
    let heads_of = vec![AttributeProto::int("num_heads", heads)];
    let mixed = graph.runtime_node("MultiHeadAttention", &[&query, &key, &value], heads_of);
    graph.reshape(&mixed, &[-1, heads * width])
}

/// input · weightᵀ + bias, as PyTorch lays weights out.
fn gemm(graph: &mut Graph, input: &str, weight: &str, bias: &str) -> String {
    graph.node("Gemm", &[input, weight, bias], vec![AttributeProto::int("transB", 1)])
}
