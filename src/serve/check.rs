//! `restain check`: everything that serving a bundle would refuse it for, without serving it.

use std::path::Path;

use crate::bundle::{Bundle, BundleError, Precision};
use crate::engine::{Encoder, EncoderOptions, EngineError, Runtime};

#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Runtime(EngineError),
    #[error("the {precision} encoder: {source}")]
    Encoder { precision: Precision, source: EngineError },
    #[error("the {0} encoder gives values that are not finite for a grey tile")]
    NotFinite(Precision),
}

/// Verifies the bundle in `dir`, runs each of its encoders on a grey tile, and says in a few lines what it is.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn check(dir: &Path) -> Result<String, CheckError> {
    let bundle = Bundle::open(dir)?;
    let runtime = Runtime::load().map_err(CheckError::Runtime)?;
    let manifest = &bundle.manifest;
    let geometry = manifest.geometry;
    for &precision in manifest.encoders.keys() {
        let refused = |source| CheckError::Encoder { precision, source };
        let path = bundle.encoder_path(precision)?;
        let mut encoder = Encoder::open(&runtime, &path, &geometry, &EncoderOptions::cpu(0)).map_err(refused)?;
        let encodings = encoder.encode(&vec![128; geometry.tile_bytes()], 1).map_err(refused)?;
        if !encodings.anatomy.iter().chain(&encodings.characteristics).all(|value| value.is_finite()) {
            return Err(CheckError::NotFinite(precision));
        }
    }
    let encoders: Vec<String> = manifest.encoders.keys().map(ToString::to_string).collect();
    Ok(format!(
        "{}/{} is whole: {side}×{side} tiles, patch {}, width {}, depth {}; encoders {}; {} styles of {} domains\ndigest {}",
        manifest.name,
        manifest.version,
        geometry.patch_size(),
        geometry.embed_dim(),
        geometry.depth(),
        encoders.join(", "),
        bundle.styles.entries.len(),
        bundle.styles.domains.len(),
        bundle.digest,
        side = geometry.image_size(),
    ))
}
