//! The encoder written out in f64 loops: the reading of method.md that the graph is checked
//! against.

use restain_bundle::Weights;
use restain_engine::Encodings;
use restain_method::positions::positions;
use restain_method::{Geometry, Normalisation};

/// Tokens [rows][numbers].
type Tokens = Vec<Vec<f64>>;

pub(super) fn encode(
    weights: &Weights,
    geometry: &Geometry,
    normalisation: &Normalisation,
    tiles: &[u8],
    batch: usize,
) -> Encodings {
    let mut encodings = Encodings { batch, anatomy: Vec::new(), characteristics: Vec::new() };
    for tile in tiles.chunks_exact(geometry.tile_bytes()) {
        for token in encode_tile(&Plain { weights, geometry, normalisation }, tile).iter().skip(1) {
            let (anatomy, characteristics) = token.split_at(geometry.half());
            encodings.anatomy.extend(anatomy.iter().map(|&number| number as f32));
            encodings.characteristics.extend(characteristics.iter().map(|&number| number as f32));
            if geometry.style_bias() {
                let plain = Plain { weights, geometry, normalisation };
                let bias = plain.linear(&vec![characteristics.to_vec()], "style_bias");
                encodings.characteristics.extend(bias[0].iter().map(|&number| number as f32));
            }
        }
    }
    encodings
}

struct Plain<'a> {
    weights: &'a Weights,
    geometry: &'a Geometry,
    normalisation: &'a Normalisation,
}

fn encode_tile(model: &Plain<'_>, tile: &[u8]) -> Tokens {
    let patches = model.patches(tile);
    let mut tokens = vec![model.vector("encoder.cls_token")];
    tokens.extend(model.linear(&patches, "encoder.patch_embed.proj"));
    let places = positions(model.geometry);
    for (token, place) in tokens.iter_mut().zip(places.chunks_exact(model.geometry.embed_dim())) {
        token.iter_mut().zip(place).for_each(|(number, &place)| *number += f64::from(place));
    }
    for block in 0..model.geometry.depth() {
        let name = format!("encoder.blocks.{block}");
        let attended = model
            .attention(&model.norm(&tokens, &format!("{name}.norm1")), &format!("{name}.attn"));
        add(&mut tokens, &attended);
        let mut hidden = model
            .linear(&model.norm(&tokens, &format!("{name}.norm2")), &format!("{name}.mlp.fc1"));
        hidden.iter_mut().flatten().for_each(|number| *number = gelu(*number));
        add(&mut tokens, &model.linear(&hidden, &format!("{name}.mlp.fc2")));
    }
    model.norm(&tokens, "encoder.norm")
}

impl Plain<'_> {
    fn vector(&self, name: &str) -> Vec<f64> {
        self.weights.tensors[name].data.iter().map(|&number| f64::from(number)).collect()
    }

    /// Standardised patches [N][C·P·P], channel by channel, as a convolution's weight sees them.
    fn patches(&self, tile: &[u8]) -> Tokens {
        let (side, patch, grid) =
            (self.geometry.image_size(), self.geometry.patch_size(), self.geometry.grid());
        let value = |row: usize, column: usize, c: usize| {
            let pixel = f64::from(tile[(row * side + column) * 3 + c]) / 255.0;
            (pixel - f64::from(self.normalisation.mean[c])) / f64::from(self.normalisation.std[c])
        };
        let mut patches = Vec::new();
        for (top, left) in (0..grid * grid).map(|n| (n / grid * patch, n % grid * patch)) {
            let places =
                (0..3).flat_map(|c| (0..patch * patch).map(move |at| (c, at / patch, at % patch)));
            patches
                .push(places.map(|(c, row, column)| value(top + row, left + column, c)).collect());
        }
        patches
    }

    fn linear(&self, rows: &Tokens, name: &str) -> Tokens {
        let (weight, bias) =
            (self.vector(&format!("{name}.weight")), self.vector(&format!("{name}.bias")));
        let inputs = weight.len() / bias.len();
        let apply = |row: &Vec<f64>| {
            weight
                .chunks_exact(inputs)
                .zip(&bias)
                .map(|(weights, bias)| dot(row, weights) + bias)
                .collect()
        };
        rows.iter().map(apply).collect()
    }

    fn norm(&self, rows: &Tokens, name: &str) -> Tokens {
        let (weight, bias) =
            (self.vector(&format!("{name}.weight")), self.vector(&format!("{name}.bias")));
        let apply = |row: &Vec<f64>| {
            let count = row.len() as f64;
            let mean = row.iter().sum::<f64>() / count;
            let variance = row.iter().map(|number| (number - mean).powi(2)).sum::<f64>() / count;
            let scaled = row.iter().map(|number| (number - mean) / (variance + 1e-6).sqrt());
            scaled
                .zip(weight.iter().zip(&bias))
                .map(|(number, (weight, bias))| number * weight + bias)
                .collect()
        };
        rows.iter().map(apply).collect()
    }

    fn attention(&self, tokens: &Tokens, name: &str) -> Tokens {
        let embed = self.geometry.embed_dim();
        let width = embed / self.geometry.num_heads();
        let qkv = self.linear(tokens, &format!("{name}.qkv"));
        let mut mixed = vec![vec![0.0; embed]; tokens.len()];
        for head in (0..embed).step_by(width) {
            let part = |token: usize, third: usize| &qkv[token][third * embed + head..][..width];
            for (i, mixed) in mixed.iter_mut().enumerate() {
                let scores = (0..tokens.len())
                    .map(|j| (dot(part(i, 0), part(j, 1)) / (width as f64).sqrt()).exp());
                let scores: Vec<f64> = scores.collect();
                let sum: f64 = scores.iter().sum();
                for (j, score) in scores.iter().enumerate() {
                    mixed[head..head + width]
                        .iter_mut()
                        .zip(part(j, 2))
                        .for_each(|(out, value)| *out += score / sum * value);
                }
            }
        }
        self.linear(&mixed, &format!("{name}.proj"))
    }
}

fn add(tokens: &mut Tokens, update: &Tokens) {
    tokens
        .iter_mut()
        .flatten()
        .zip(update.iter().flatten())
        .for_each(|(number, update)| *number += update);
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// x·Φ(x), exact; the error function by its series, which converges everywhere.
fn gelu(x: f64) -> f64 {
    let z = x / std::f64::consts::SQRT_2;
    let (mut term, mut sum) = (z, z);
    for n in 1..200 {
        term *= -z * z / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    let erf = if z.abs() > 5.0 { z.signum() } else { sum * 2.0 / std::f64::consts::PI.sqrt() };
    0.5 * x * (1.0 + erf)
}
