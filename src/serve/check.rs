//! `restain check`: everything that keeps a bundle from being served, found without serving it.

use std::path::{Path, PathBuf};

use super::config::PrecisionChoice;
use super::error::with_causes;
use restain_bundle::{Bundle, BundleError, Precision};
use restain_engine::{Device, Encoder, EncoderOptions, EngineError, Runtime};

#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Runtime(EngineError),
    #[error("the {precision} encoder on {device}")]
    Encoder { precision: Precision, device: Device, source: EngineError },
    #[error("the {0} encoder gives values that are not finite for a grey tile")]
    NotFinite(Precision),
    #[error(
        "{name}/{version} cannot be served: it has no styles, and every request that chooses from \
        its bank is rejected with no_styles. Add some with: restain-train styles --bundle {} \
        --data DIR", .dir.display()
    )]
    NoStyles { name: String, version: String, dir: PathBuf },
}

/// Verifies the bundle in `dir`, runs each of its encoders on a grey tile on `device`, and
/// describes it in a few lines, with which nodes of each encoder ran where.
///
/// # Errors
/// The first thing that is wrong with it; that it has no styles comes last.
pub fn check(dir: &Path, device: Device) -> Result<String, CheckError> {
    let bundle = Bundle::open(dir)?;
    let runtime = Runtime::load().map_err(CheckError::Runtime)?;
    let manifest = &bundle.manifest;
    let geometry = manifest.geometry;
    let mut places = String::new();
    for &precision in manifest.encoders.keys() {
        let refused = |source| CheckError::Encoder { precision, device, source };
        let (_, path) = PrecisionChoice::Always(precision).graph(&bundle, device)?;
        let options =
            EncoderOptions { half: precision == Precision::Fp16, ..EncoderOptions::on(device, 0) };
        let mut encoder = Encoder::open(&runtime, &path, &geometry, &options).map_err(refused)?;
        let encodings = encoder.encode(&vec![128; geometry.tile_bytes()], 1).map_err(refused)?;
        if !encodings
            .anatomy
            .iter()
            .chain(&encodings.characteristics)
            .all(|value| value.is_finite())
        {
            return Err(CheckError::NotFinite(precision));
        }
        let place = encoder
            .profile(1)
            .map_or_else(|error| with_causes(&error), |profile| profile.to_string());
        places += &format!("\n{precision} on {device}: {place}");
    }
    if bundle.styles.entries.is_empty() {
        let (name, version) = (manifest.name.clone(), manifest.version.clone());
        return Err(CheckError::NoStyles { name, version, dir: dir.to_owned() });
    }
    let encoders: Vec<String> = manifest.encoders.keys().map(ToString::to_string).collect();
    Ok(format!(
        "{}/{} is whole: {side}×{side} tiles, patch {}, width {}, depth {}; encoders {}; {} styles \
        of {} domains\ndigest {}{places}",
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
