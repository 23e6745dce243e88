//! The quality of reconstructions, the upper bound that the rank sets, and the blocking artefact of
//! patches.

use rayon::prelude::*;

use crate::encodings::{Encoded, Model};
use crate::evaluate::Domain;
use crate::evaluate::report::Reconstruction;
use restain_method::metrics::{BlockEdges, Ceiling, psnr, rank_ceiling_psnr, ssim};

/// Measures the reconstructions of a domain, and the blocking artefact of its tiles and of their
/// reconstructions.
pub(super) fn reconstruct(model: &Model, domain: &Domain) -> (Reconstruction, [BlockEdges; 2]) {
    let geometry = model.synth.geometry();
    let (side, patch) = (geometry.image_size(), geometry.patch_size());
    let parts: Vec<_> = (0..domain.tiles.len())
        .into_par_iter()
        .map(|index| {
            let encoded = &domain.tiles[index];
            let mut out = vec![0; geometry.tile_bytes()];
            model.synth.aligned(
                &encoded.anatomy,
                &encoded.characteristics,
                &mut model.synth.scratch(),
                &mut out,
            );
            let edges = [&encoded.tile, &out].map(|tile| {
                let mut edges = BlockEdges::default();
                edges.add(tile, side, patch);
                edges
            });
            let ceilings = ceilings(model, domain, index);
            (
                [
                    psnr(&encoded.tile, &out),
                    ssim(&encoded.tile, &out, side, side),
                    ceilings[0],
                    ceilings[1],
                    ceilings[2],
                ],
                edges,
            )
        })
        .collect();
    let mean =
        |of: usize| parts.iter().map(|(scores, _)| scores[of]).sum::<f64>() / parts.len() as f64;
    let ceiling = |of: usize| Some(mean(of)).filter(|ceiling| ceiling.is_finite());
    let mut edges = [BlockEdges::default(); 2];
    parts
        .iter()
        .for_each(|(_, part)| edges.iter_mut().zip(part).for_each(|(sum, part)| sum.merge(part)));
    let figures = Reconstruction {
        domain: domain.name.clone(),
        psnr_db: mean(0),
        ssim: mean(1),
        ceiling_psnr_db: ceiling(2),
        ceiling_shared_psnr_db: ceiling(3),
        ceiling_broadcast_psnr_db: ceiling(4),
    };
    (figures, edges)
}

/// Computes the upper bounds of PSNR, dB: a basis for each patch, one shared basis, and the basis
/// of the most representative patch of the domain's next tile; the last is infinite if there is no
/// other tile.
fn ceilings(model: &Model, domain: &Domain, index: usize) -> [f64; 3] {
    let Encoded { tile, .. } = &domain.tiles[index];
    let manifest = &model.bundle.manifest;
    let of = |kind| {
        rank_ceiling_psnr(
            tile,
            &manifest.geometry,
            manifest.pixel_order,
            &manifest.normalisation,
            kind,
        )
    };
    let next = (index + 1) % domain.tiles.len();
    let foreign = Ceiling::Foreign { tile: &domain.tiles[next].tile, patch: domain.patches[next] };
    [
        of(Ceiling::PerPatch),
        of(Ceiling::Shared),
        if next == index { f64::INFINITY } else { of(foreign) },
    ]
}
