//! The diversity of variants: how much those of one tile differ from each other.

use std::collections::BTreeMap;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rayon::prelude::*;

use crate::encodings::Model;
use crate::evaluate::pairs::mean;
use crate::evaluate::report::Diversity;
use crate::evaluate::technique::{Reference, Technique, draws};
use crate::evaluate::{Domain, EvaluateArgs};
use restain_data::below;
use restain_method::metrics::{ssim, wasserstein};

/// First stream of the seed that the pairs do not use: for references, and for techniques that
/// draw.
const STREAM: u64 = 1 << 20;

/// Measures the diversity of `--variants` variants of each tile, in random styles of other domains,
/// as a training loop would make them. `None` with one domain.
pub(super) fn measure(
    model: &Model,
    domains: &[Domain],
    args: &EvaluateArgs,
) -> Option<BTreeMap<Technique, Diversity>> {
    if domains.len() < 2 {
        return None;
    }
    let tiles: Vec<(usize, usize)> = domains
        .iter()
        .enumerate()
        .flat_map(|(d, domain)| (0..domain.tiles.len()).map(move |t| (d, t)))
        .collect();
    let all: Vec<Vec<Diversity>> = tiles
        .into_par_iter()
        .map(|(domain, tile)| of_tile(model, domains, (domain, tile), args))
        .collect();
    let over = |index: usize| Diversity {
        color_distance: mean(all.iter().map(|methods| methods[index].color_distance)),
        dissimilarity: mean(all.iter().map(|methods| methods[index].dissimilarity)),
    };
    Some(args.methods.iter().enumerate().map(|(index, method)| (*method, over(index))).collect())
}

/// Measures one tile, for each technique.
fn of_tile(
    model: &Model,
    domains: &[Domain],
    (domain, tile): (usize, usize),
    args: &EvaluateArgs,
) -> Vec<Diversity> {
    let side = model.synth.geometry().image_size();
    let mut rng = ChaCha8Rng::seed_from_u64(args.seed);
    rng.set_stream(STREAM << 32 | (domain << 16 | tile) as u64);
    let references: Vec<Reference> = (0..args.variants)
        .map(|_| {
            let other =
                (domain + 1 + below(&mut rng, domains.len() as u64 - 1) as usize) % domains.len();
            Reference::draw(&domains[other], args.style_tiles, &mut rng)
        })
        .collect();
    let content = &domains[domain].tiles[tile];
    let of = |method: &Technique| {
        let variants: Vec<Vec<u8>> = references
            .iter()
            .enumerate()
            .map(|(index, reference)| {
                let stream = STREAM + (domain * args.variants + index) as u64;
                method.apply(&model.synth, content, reference, &mut draws(args.seed, stream, tile))
            })
            .collect();
        let pairs = || (0..variants.len()).flat_map(|b| (0..b).map(move |a| (a, b)));
        Diversity {
            color_distance: mean(pairs().map(|(a, b)| wasserstein(&variants[a], &variants[b]))),
            dissimilarity: mean(
                pairs().map(|(a, b)| 1.0 - ssim(&variants[a], &variants[b], side, side)),
            ),
        }
    };
    args.methods.iter().map(of).collect()
}
