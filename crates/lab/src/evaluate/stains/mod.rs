//! How well a technique changes the stain and leaves the tissue, on fields: images of several tiles
//! a side, each of one slide.
//!
//! `truth` compares variants with an exact target: the same tile through a known change of stain
//! and scanner that no training draws. `tissue` measures what a change of stain must not change:
//! glass, tissue beside glass, what two overlapping tiles share, the order of nuclei and the rest.
//! Every figure is measured in three ways of describing a stain, [`Way`].

mod slides;
mod tissue;
mod truth;

use anyhow::Result;
use rayon::prelude::*;

use crate::encodings::Model;
use crate::evaluate::EvaluateArgs;
use crate::evaluate::pairs::mean;
use crate::evaluate::report::StainFigures;
use crate::evaluate::technique::{Technique, Way};
use crate::phase::Phase;
use restain_data::Dataset;
pub(super) use slides::shrunk;
use slides::{Slide, slides};
use truth::Case;
pub(super) use truth::{pictures, transformed};

/// Measures every technique with a target, in every way, at every magnification. Returns nothing if
/// no image is two tiles a side and shows two stains.
///
/// # Errors
/// If an image cannot be read, or the encoder fails.
pub(super) fn measure(
    model: &mut Model,
    dataset: &Dataset,
    args: &EvaluateArgs,
) -> Result<Vec<StainFigures>> {
    let mut figures = Vec::new();
    for &shrink in &args.shrink {
        let slides = slides(model, dataset, shrink, args.seed)?;
        if slides.is_empty() {
            tracing::info!(
                "no image is two tiles a side at 1/{shrink} of its size, and shows two stains"
            );
            continue;
        }
        let cases = truth::cases(model, &slides, args.seed)?;
        let model = &*model;
        let methods = args.methods.iter().filter(|method| method.has_target());
        let jobs: Vec<(Technique, Way)> = methods
            .flat_map(|&method| Way::ALL.map(|way| (method, way)))
            .filter(|&(method, way)| differs(method, way))
            .collect();
        let phase = Phase::start("methods compared with exact targets", jobs.len());
        for (method, way) in jobs {
            figures.push(of_technique(model, (&slides, &cases), (method, way, shrink)));
            phase.advance(1);
        }
    }
    Ok(figures)
}

/// Returns whether a technique does something else in this way than in the one before.
fn differs(method: Technique, way: Way) -> bool {
    match method {
        Technique::Identity => way == Way::Tile,
        Technique::VitModel | Technique::Tone => way != Way::Slide,
        _ => true,
    }
}

fn of_technique(
    model: &Model,
    (slides, cases): (&[Slide], &[Case]),
    (method, way, shrink): (Technique, Way, u32),
) -> StainFigures {
    let truths: Vec<truth::Error> =
        cases.par_iter().map(|case| case.error(model, slides, (method, way))).collect();
    let kept: Vec<tissue::Kept> = (0..slides.len())
        .into_par_iter()
        .map(|slide| tissue::measure(model, slides, slide, (method, way)))
        .collect();
    let of_truth = |of: fn(&truth::Error) -> Option<f64>| some_mean(truths.iter().filter_map(of));
    let of_kept = |of: fn(&tissue::Kept) -> Option<f64>| some_mean(kept.iter().filter_map(of));
    StainFigures {
        shrink,
        method,
        way,
        delta_e: of_truth(|error| Some(error.delta_e)),
        psnr_db: of_truth(|error| Some(error.psnr_db)),
        strength: of_truth(|error| error.strength),
        glassy_delta_e: of_truth(|error| error.glassy_delta_e()),
        glass: of_truth(|error| error.glass),
        blank: kept.iter().filter_map(|kept| kept.blank).reduce(f64::max),
        beside_glass: of_kept(|kept| kept.beside_glass),
        overlap: of_kept(|kept| kept.overlap),
        order: of_kept(|kept| kept.order),
        order_before: of_kept(|kept| kept.order_before),
    }
}

fn some_mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    Some(mean(values)).filter(|mean| mean.is_finite())
}
