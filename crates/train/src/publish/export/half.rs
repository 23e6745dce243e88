//! The encoder in fp16, for GPUs: the same network in ONNX Runtime's own fused operators.
//!
//! `Attention` is the product that makes queries, keys and values, and flash attention, in one;
//! `SkipLayerNormalization` adds bias and residual and normalises while the numbers are at hand;
//! `BiasGelu` likewise. Nothing in the graph asks for a shape at run time, which would be computed
//! on the CPU. The graph holds no weights: those of `weights.safetensors` are cast and transposed
//! by nodes without other inputs, which ONNX Runtime computes once, on opening. Pixels are
//! standardised in f32; sums inside the operators are f32 on every device.

use super::encoder::{EncoderGraph, LAYER_NORM_EPSILON};
use super::graph::Graph;
use super::onnx::{AttributeProto, DataType, ValueInfoProto};
use restain_bundle::STYLE_BIAS;

/// ONNX Runtime's CUDA provider has `Pad` as of this version of the standard and none of the later
/// ones (1.31).
const OPSET: i64 = 18;

impl EncoderGraph<'_> {
    /// The bytes of the `.onnx` file whose latents are f16.
    pub(super) fn build_half(&self) -> Vec<u8> {
        let side = self.geometry.image_size();
        let outputs = self.outputs(DataType::Float16);
        let tiles = ValueInfoProto::batched("tiles", DataType::Uint8, &[side, side, 3]);
        let mut graph = Graph::new("restain-encoder", vec![tiles], outputs).of_opset(OPSET);
        let patches = self.patchify(&mut graph);
        let patches = graph.cast(&patches, DataType::Float16);
        let mut tokens = self.embed_half(&mut graph, &patches);

        let depth = self.geometry.depth();
        let [scale, shift] = self.norm_half(&mut graph, "encoder.blocks.0.norm1");
        let attributes = vec![AttributeProto::int("axis", -1), epsilon()];
        let mut normed = graph.node("LayerNormalization", &[&tokens, &scale, &shift], attributes);
        for block in 0..depth {
            let name = format!("encoder.blocks.{block}");
            let attended = self.attend_half(&mut graph, &normed, &format!("{name}.attn"));
            [normed, tokens] = self.add_and_norm(
                &mut graph,
                [&tokens, &attended],
                &format!("{name}.attn.proj.bias"),
                &format!("{name}.norm2"),
            );
            let update = self.mlp_half(&mut graph, &normed, &format!("{name}.mlp"));
            let next = if block + 1 < depth {
                format!("encoder.blocks.{}.norm1", block + 1)
            } else {
                "encoder.norm".to_owned()
            };
            [normed, tokens] = self.add_and_norm(
                &mut graph,
                [&tokens, &update],
                &format!("{name}.mlp.fc2.bias"),
                &next,
            );
        }
        self.split(&mut graph, &normed, |graph, of| self.style_bias_half(graph, of));
        graph.into_bytes()
    }

    /// Patches → tokens [batch, N+1, E]. What does not depend on the tile is one table: CLS, then
    /// position plus bias.
    fn embed_half(&self, graph: &mut Graph, patches: &str) -> String {
        let (embed, count) = (self.geometry.embed_dim(), self.geometry.patches());
        let weight = self.parameter(
            graph,
            "encoder.patch_embed.proj.weight",
            &[embed, self.geometry.patch_values()],
        );
        let weight = transposed_half(graph, &weight);
        let tokens = graph.node("MatMul", &[patches, &weight], Vec::new());
        let tokens = graph.reshape(&tokens, &[-1, count as i64, embed as i64]);
        // A row of zeros in front of every tile's tokens.
        let pads = graph.int64s(&[0, 1, 0, 0, 0, 0]);
        let tokens = graph.node("Pad", &[&tokens, &pads], Vec::new());

        let cls = self.parameter(graph, "encoder.cls_token", &[1, embed]);
        let bias = self.parameter(graph, "encoder.patch_embed.proj.bias", &[embed]);
        let places = graph.external("positions", &[count, embed], &self.positions_of_patches());
        let places = graph.node("Add", &[&places, &bias], Vec::new());
        let table = graph.node("Concat", &[&cls, &places], vec![AttributeProto::int("axis", 0)]);
        let table = graph.cast(&table, DataType::Float16);
        graph.node("Add", &[&tokens, &table], Vec::new())
    }

    /// [batch, N+1, E] → the same, before the projection's bias.
    fn attend_half(&self, graph: &mut Graph, normed: &str, name: &str) -> String {
        let weight = self.weight_half(graph, &format!("{name}.qkv"));
        let bias = self.vector_half(graph, &format!("{name}.qkv.bias"));
        let heads = vec![AttributeProto::int("num_heads", self.geometry.num_heads() as i64)];
        let mixed = graph.runtime_node("Attention", &[normed, &weight, &bias], heads);
        let weight = self.weight_half(graph, &format!("{name}.proj"));
        graph.node("MatMul", &[&mixed, &weight], Vec::new())
    }

    /// [batch, N+1, E] → the same, before the last layer's bias.
    fn mlp_half(&self, graph: &mut Graph, normed: &str, name: &str) -> String {
        let weight = self.weight_half(graph, &format!("{name}.fc1"));
        let hidden = graph.node("MatMul", &[normed, &weight], Vec::new());
        let bias = self.vector_half(graph, &format!("{name}.fc1.bias"));
        let hidden = graph.runtime_node("BiasGelu", &[&hidden, &bias], Vec::new());
        let weight = self.weight_half(graph, &format!("{name}.fc2"));
        graph.node("MatMul", &[&hidden, &weight], Vec::new())
    }

    /// tokens + update + bias, normalised and as it is: [normed, tokens].
    fn add_and_norm(
        &self,
        graph: &mut Graph,
        [tokens, update]: [&str; 2],
        bias: &str,
        norm: &str,
    ) -> [String; 2] {
        let [scale, shift] = self.norm_half(graph, norm);
        let bias = self.vector_half(graph, bias);
        let outputs = [format!("{norm}.normed"), format!("{norm}.tokens")];
        // Its second and third outputs, mean and deviation, are for training.
        graph.runtime_node_into(
            "SkipLayerNormalization",
            &[tokens, update, &scale, &shift, &bias],
            &[&outputs[0], "", "", &outputs[1]],
            vec![epsilon()],
        );
        outputs
    }

    /// Characteristics [batch, N, h] → their bias [batch, N, C·P].
    fn style_bias_half(&self, graph: &mut Graph, characteristics: &str) -> String {
        let weight = self.weight_half(graph, STYLE_BIAS);
        let product = graph.node("MatMul", &[characteristics, &weight], Vec::new());
        let bias = self.vector_half(graph, &format!("{STYLE_BIAS}.bias"));
        graph.node("Add", &[&product, &bias], Vec::new())
    }

    fn norm_half(&self, graph: &mut Graph, name: &str) -> [String; 2] {
        ["weight", "bias"].map(|part| self.vector_half(graph, &format!("{name}.{part}")))
    }

    fn vector_half(&self, graph: &mut Graph, name: &str) -> String {
        let shape = self.shape(name);
        let vector = self.parameter(graph, name, &shape);
        graph.cast(&vector, DataType::Float16)
    }

    /// [in, out], the transpose of how PyTorch keeps it.
    fn weight_half(&self, graph: &mut Graph, layer: &str) -> String {
        let name = format!("{layer}.weight");
        let weight = self.parameter(graph, &name, &self.shape(&name));
        transposed_half(graph, &weight)
    }

    fn shape(&self, name: &str) -> Vec<usize> {
        self.weights.tensors[name].shape.clone()
    }
}

fn transposed_half(graph: &mut Graph, weight: &str) -> String {
    let weight = graph.cast(weight, DataType::Float16);
    graph.transpose(&weight, &[1, 0])
}

fn epsilon() -> AttributeProto {
    AttributeProto::float("epsilon", LAYER_NORM_EPSILON)
}
