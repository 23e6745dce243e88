//! Weights that the encoders of one graph share on a CPU: each has a session of its own, and all of
//! them one copy of the numbers, packed once as the products want them.

use std::fmt;
use std::sync::Arc;

use ort::session::builder::{PrepackedWeights, SessionBuilder};
use ort::value::{DynValue, Tensor};

use super::EngineError;

/// Initialisers of a graph by name, and what ONNX Runtime packs of them.
#[derive(Clone)]
pub struct SharedWeights {
    tensors: Arc<[(String, Arc<DynValue>)]>,
    packed: PrepackedWeights,
}

impl SharedWeights {
    /// Takes the initialisers that are to be shared: the name and the shape of each, and its
    /// numbers, row-major. The others are read from the graph by every session.
    ///
    /// # Errors
    /// When a shape does not fit the numbers.
    pub fn new(
        tensors: impl IntoIterator<Item = (String, Vec<usize>, Vec<f32>)>,
    ) -> Result<Self, EngineError> {
        let tensors = tensors.into_iter().map(|(name, shape, numbers)| {
            let tensor = Tensor::from_array((shape, numbers)).map_err(EngineError::Weights)?;
            Ok((name, Arc::new(tensor.into_dyn())))
        });
        let tensors = tensors.collect::<Result<Vec<_>, EngineError>>()?;
        Ok(Self { tensors: tensors.into(), packed: PrepackedWeights::new() })
    }

    /// Has a session take these instead of its own.
    pub(crate) fn give(&self, builder: SessionBuilder) -> ort::Result<SessionBuilder> {
        let mut builder = builder;
        for (name, tensor) in self.tensors.iter() {
            builder = builder.with_initializer(name, Arc::clone(tensor))?;
        }
        Ok(builder.with_prepacked_weights(&self.packed)?)
    }
}

impl fmt::Debug for SharedWeights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedWeights").field("tensors", &self.tensors.len()).finish()
    }
}
