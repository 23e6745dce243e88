//! Encoding without gradients, by the encoder that is being trained: for validation, sample grids
//! and the check of an exported graph. `restain_lab::encodings` does the same with the exported
//! graph.

use anyhow::Result;
use tch::Tensor;

use crate::input::loader::standardise;
use crate::model::mixing::halves;
use crate::model::vit::Vit;
use restain_engine::Encodings;
use restain_method::Normalisation;

/// Encodes tiles, u8 [batch, H, W, 3], and returns their anatomy, f32 [batch, N, h], and
/// characteristics, f32 [batch, N, S], without CLS.
///
/// # Errors
/// If libtorch cannot copy the result.
pub(crate) fn encode(
    vit: &Vit,
    normalisation: &Normalisation,
    tiles: &[u8],
    batch: usize,
) -> Result<Encodings> {
    let _guard = tch::no_grad_guard();
    let tile = vit.geometry.image_size();
    let z = vit.encode(&standardise(tiles, batch, tile, normalisation, vit.device()));
    let patches = z.narrow(1, 1, vit.geometry.patches() as i64);
    let (anatomy, characteristics) = halves(&patches, &vit.geometry);
    let plain = |half: Tensor| Vec::<f32>::try_from(half.reshape([-1]).to_device(tch::Device::Cpu));
    Ok(Encodings { batch, anatomy: plain(anatomy)?, characteristics: plain(characteristics)? })
}
