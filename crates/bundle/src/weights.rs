//! The encoder's parameters by their published names, in `weights.safetensors`, so that PyTorch
//! users can load them.
//!
//! The published state dict also holds the position embeddings, which are computed and not trained:
//! they are written for PyTorch users, and checked and dropped when read.
//!
//! A map from names to shapes and numbers, checked against the encoder's layout. It computes
//! nothing: see the trainer and the exported graph.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::WeightsError;
use restain_method::Geometry;
use restain_method::geometry::{CHANNELS, GeometrySpec};
use restain_method::positions::{position_table, positions};

/// The file name of the weights in a bundle.
pub const WEIGHTS_FILE: &str = "weights.safetensors";
/// The published name of the position embeddings, [1, N+1, E].
pub const POSITIONS: &str = "encoder.pos_embed";
/// The linear layer from characteristics, h, to their style bias, C·P, without `.weight`. The
/// published model has none.
pub const STYLE_BIAS: &str = "style_bias";
/// A parameter that the same authors' later model has, and this one has not. Its encoder has the
/// names of this one, and blocks of another kind.
const OF_STYLIZING_VIT: &str = "post_process_conv.weight";
/// Computed in f64 by everyone, and rounded to f32.
const POSITION_TOLERANCE: f32 = 1e-5;

/// One parameter: row-major values and their shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// The length of each dimension.
    pub shape: Vec<usize>,
    /// The values, row-major.
    pub data: Vec<f32>,
}

/// Every parameter of an encoder, ordered by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weights {
    /// Published name → parameter.
    pub tensors: BTreeMap<String, Tensor>,
}

impl Weights {
    /// Returns a parameter.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn get(&self, name: &str) -> Result<&Tensor, WeightsError> {
        self.tensors.get(name).ok_or_else(|| WeightsError::Missing { name: name.to_owned() })
    }

    /// Takes a state dict. Position embeddings in it are checked and dropped.
    ///
    /// # Errors
    /// When the position embeddings are not the sin-cos ones, or it is another model's.
    pub fn from_tensors(mut tensors: BTreeMap<String, Tensor>) -> Result<Self, WeightsError> {
        if let Some(name) = tensors.keys().find(|name| name.ends_with(OF_STYLIZING_VIT)) {
            return Err(WeightsError::StylizingVit { name: name.clone() });
        }
        if let Some(found) = tensors.remove(POSITIONS) {
            check_positions(&found)?;
        }
        Ok(Self { tensors })
    }

    /// Reads a safetensors file of F32, F16 or BF16 tensors.
    ///
    /// # Errors
    /// When the file cannot be read, or a tensor has another type.
    pub fn read(path: &Path) -> Result<Self, WeightsError> {
        let bytes = std::fs::read(path).map_err(|source| WeightsError::Io {
            action: "read",
            path: path.to_owned(),
            source,
        })?;
        let file = SafeTensors::deserialize(&bytes)?;
        let tensors = file.iter().map(|(name, view)| {
            let data = decode(name, &view)?;
            Ok((name.to_owned(), Tensor { shape: view.shape().to_vec(), data }))
        });
        Self::from_tensors(tensors.collect::<Result<_, WeightsError>>()?)
    }

    /// Writes the parameters as a safetensors file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), WeightsError> {
        write(path, self.tensors.iter())
    }

    /// Writes the state dict that the published code loads: the parameters and the position
    /// embeddings.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_with_positions(
        &self,
        path: &Path,
        geometry: &Geometry,
    ) -> Result<(), WeightsError> {
        let shape = vec![1, geometry.patches() + 1, geometry.embed_dim()];
        let table = Tensor { shape, data: positions(geometry) };
        write(path, self.tensors.iter().chain([(&POSITIONS.to_owned(), &table)]))
    }

    /// Infers every size but the two that weights do not show, and checks every parameter against
    /// the layout.
    ///
    /// # Errors
    /// Names the first parameter that is missing, unknown, not finite or of another shape.
    pub fn geometry(&self, num_heads: usize, image_size: usize) -> Result<Geometry, WeightsError> {
        let patch = self.get("encoder.patch_embed.proj.weight")?;
        let &[embed_dim, in_channels, patch_size, _] = patch.shape.as_slice() else {
            return Err(misshapen(
                "encoder.patch_embed.proj.weight",
                patch,
                "[embed_dim, 3, patch_size, patch_size]",
            ));
        };
        let fc1 = self.get("encoder.blocks.0.mlp.fc1.weight")?;
        let &[hidden, _] = fc1.shape.as_slice() else {
            return Err(misshapen("encoder.blocks.0.mlp.fc1.weight", fc1, "[hidden, embed_dim]"));
        };
        let depth = (0..)
            .take_while(|i| self.tensors.contains_key(&format!("encoder.blocks.{i}.norm1.weight")))
            .count();
        let mlp_ratio = hidden as f64 / embed_dim as f64;
        let geometry = Geometry::new(GeometrySpec {
            image_size,
            in_channels,
            patch_size,
            embed_dim,
            depth,
            num_heads,
            mlp_ratio,
            style_bias: self.tensors.contains_key(&format!("{STYLE_BIAS}.weight")),
        })?;
        self.check(&geometry)?;
        Ok(geometry)
    }

    /// Checks that these are exactly the parameters of an encoder of this geometry.
    ///
    /// # Errors
    /// As [`Weights::geometry`].
    pub fn check(&self, geometry: &Geometry) -> Result<(), WeightsError> {
        let layout = layout(geometry);
        for (name, shape) in &layout {
            let tensor = self.get(name)?;
            if tensor.shape != *shape || tensor.data.len() != shape.iter().product::<usize>() {
                return Err(misshapen(name, tensor, &format!("{shape:?}")));
            }
            if let Some(index) = tensor.data.iter().position(|value| !value.is_finite()) {
                return Err(WeightsError::Value {
                    name: name.clone(),
                    index,
                    value: tensor.data[index],
                });
            }
        }
        match self.tensors.keys().find(|name| !layout.contains_key(*name)) {
            Some(name) => Err(WeightsError::Unknown { name: name.clone() }),
            None => Ok(()),
        }
    }
}

/// Returns name and shape of every parameter of an encoder.
pub fn layout(geometry: &Geometry) -> BTreeMap<String, Vec<usize>> {
    let (embed, hidden, side) =
        (geometry.embed_dim(), geometry.mlp_hidden(), geometry.patch_size());
    let mut layout = BTreeMap::from([
        ("encoder.cls_token".to_owned(), vec![1, 1, embed]),
        ("encoder.patch_embed.proj.weight".to_owned(), vec![embed, CHANNELS, side, side]),
        ("encoder.patch_embed.proj.bias".to_owned(), vec![embed]),
        ("encoder.norm.weight".to_owned(), vec![embed]),
        ("encoder.norm.bias".to_owned(), vec![embed]),
    ]);
    if geometry.style_bias() {
        let outputs = CHANNELS * side;
        layout.insert(format!("{STYLE_BIAS}.weight"), vec![outputs, geometry.half()]);
        layout.insert(format!("{STYLE_BIAS}.bias"), vec![outputs]);
    }
    for block in 0..geometry.depth() {
        for norm in ["norm1", "norm2"] {
            for part in ["weight", "bias"] {
                layout.insert(format!("encoder.blocks.{block}.{norm}.{part}"), vec![embed]);
            }
        }
        for (linear, outputs, inputs) in [
            ("attn.qkv", 3 * embed, embed),
            ("attn.proj", embed, embed),
            ("mlp.fc1", hidden, embed),
            ("mlp.fc2", embed, hidden),
        ] {
            layout.insert(format!("encoder.blocks.{block}.{linear}.weight"), vec![outputs, inputs]);
            layout.insert(format!("encoder.blocks.{block}.{linear}.bias"), vec![outputs]);
        }
    }
    layout
}

fn write<'a>(
    path: &Path,
    tensors: impl Iterator<Item = (&'a String, &'a Tensor)>,
) -> Result<(), WeightsError> {
    let views = tensors.map(|(name, tensor)| {
        // Little-endian is what the format asks for, and what every supported machine holds.
        Ok((
            name.as_str(),
            TensorView::new(Dtype::F32, tensor.shape.clone(), bytemuck::cast_slice(&tensor.data))?,
        ))
    });
    let views = views.collect::<Result<Vec<_>, WeightsError>>()?;
    // Not `serialize_to_file`, whose files only their owner may read.
    let bytes = safetensors::serialize(views, None)?;
    std::fs::write(path, bytes).map_err(|source| WeightsError::Io {
        action: "write",
        path: path.to_owned(),
        source,
    })
}

fn check_positions(found: &Tensor) -> Result<(), WeightsError> {
    let misshapen = || WeightsError::PositionShape { name: POSITIONS, found: found.shape.clone() };
    let &[1, rows, embed] = found.shape.as_slice() else { return Err(misshapen()) };
    let grid = rows.saturating_sub(1).isqrt();
    if grid == 0 || grid * grid + 1 != rows || embed % 4 != 0 || found.data.len() != rows * embed {
        return Err(misshapen());
    }
    let table = position_table(grid, embed);
    let apart =
        |value: f32, expected: f32| value.is_nan() || (value - expected).abs() > POSITION_TOLERANCE;
    match found.data.iter().zip(&table).position(|(&value, &expected)| apart(value, expected)) {
        Some(index) => Err(WeightsError::Position {
            name: POSITIONS,
            index,
            value: found.data[index],
            expected: table[index],
        }),
        None => Ok(()),
    }
}

fn misshapen(name: &str, tensor: &Tensor, expected: &str) -> WeightsError {
    WeightsError::Shape {
        name: name.to_owned(),
        found: tensor.shape.clone(),
        expected: expected.to_owned(),
    }
}

fn decode(name: &str, view: &TensorView<'_>) -> Result<Vec<f32>, WeightsError> {
    let pairs = || view.data().chunks_exact(2).map(|two| [two[0], two[1]]);
    match view.dtype() {
        Dtype::F32 => Ok(view
            .data()
            .chunks_exact(4)
            .map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]))
            .collect()),
        Dtype::F16 => Ok(pairs().map(|two| half::f16::from_le_bytes(two).to_f32()).collect()),
        Dtype::BF16 => Ok(pairs().map(|two| half::bf16::from_le_bytes(two).to_f32()).collect()),
        dtype => Err(WeightsError::Dtype { name: name.to_owned(), dtype }),
    }
}
