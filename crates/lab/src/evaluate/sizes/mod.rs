//! Tiles of several sizes and magnifications, each restained at its own size, beside an exact
//! target: the same tile through a known change of stain and scanner.
//!
//! A model sees a tile of 512 px shrunk and in windows, and what it changes is enlarged again;
//! techniques that work on pixels see the tile as it is. What that costs in sharpness, and whether
//! the model's patches show as a grid, no figure of tiles of the model's size says. The target
//! stain is measured on 16 tiles of the changed field, as a slide's is.

mod carry;

use std::cmp::Reverse;

use anyhow::Result;
use image::{RgbImage, imageops};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use tch::Kind;

use super::EvaluateArgs;
use super::pairs::mean;
use super::report::SizeFigures;
use super::stains::{pictures, shrunk, transformed};
use super::technique::{Change, Reference, Technique, draws};
use crate::encodings::{Encoded, Model};
use crate::exemplars::tissue_mean;
use crate::phase::Phase;
use crate::truth::{delta_e, psnr, unseen};
use restain_data::{Dataset, below};
use restain_method::exemplar::{ENOUGH_TISSUE, is_tissue};
use restain_method::field::{FieldStain, SAMPLE, sample};
use restain_method::metrics::BlockEdges;
use restain_method::shrink::shrink;

/// Sides of tiles that are common, pixels; the model's own goes before them.
const SIDES: [usize; 3] = [224, 256, 512];
/// Techniques that are compared, and whether they are given the size of the tile's pixels.
const METHODS: [Method; 5] = [
    (Technique::Vit, false),
    (Technique::Vit, true),
    (Technique::ColorMatch, false),
    (Technique::Reinhard, false),
    (Technique::Macenko, false),
];
/// Fields of each domain, tiles of each size that are cut from a field, and tiles of a field that
/// say what its stain is.
const FIELDS: usize = 2;
const TILES: usize = 2;
const STYLE_TILES: usize = 16;
/// Random places that are tried for a tile with tissue.
const TRIES: usize = 20;
/// Streams of the seed that nothing else uses.
const STREAM: u64 = 1 << 27;

type Method = (Technique, bool);

/// A tile and its target, u8 `[side, side, 3]` each, and the field that both are of.
struct Case {
    field: usize,
    side: usize,
    tile: Vec<u8>,
    truth: Vec<u8>,
}

/// ΔE, PSNR, sharpness and grid of one variant.
type Figures = [f64; 4];

/// Measures tiles of every size at every `--shrink` that the images allow. Returns nothing where no
/// image is two tiles of the model a side.
///
/// # Errors
/// If an image cannot be read, or the encoder fails.
pub(super) fn measure(
    model: &mut Model,
    dataset: &Dataset,
    args: &EvaluateArgs,
) -> Result<Vec<SizeFigures>> {
    let microns = match args.mpp {
        Some(mpp) => Some(mpp),
        None => dataset.stated_microns()?.map(|stated| stated.size),
    };
    let can_be_given = microns.is_some() && model.bundle.manifest.familiar.mpp.is_some();
    let methods: Vec<Method> = METHODS
        .into_iter()
        .filter(|(method, stated)| args.methods.contains(method) && (can_be_given || !stated))
        .collect();
    if methods.is_empty() {
        return Ok(Vec::new());
    }
    let mut figures = Vec::new();
    for &shrink in &args.shrink {
        let (references, cases) = cases(model, dataset, (shrink, args.seed))?;
        let phase = Phase::start("tiles of several sizes compared", cases.len());
        let mut found: Vec<(usize, Method, Figures)> = Vec::new();
        let microns = microns.map(|size| size * f64::from(shrink));
        for case in &cases {
            for &(method, stated) in &methods {
                let mpp = microns.filter(|_| stated);
                let made = restain(model, case, &references[case.field], (method, mpp))?;
                found.push((case.side, (method, stated), compare(model, case, mpp, &made)));
            }
            phase.advance(1);
        }
        for side in sides(model) {
            for &method in &methods {
                let of_row = || found.iter().filter(move |row| (row.0, row.1) == (side, method));
                let column = |place: usize| mean(of_row().map(|row| row.2[place]));
                let tiles = of_row().count();
                if tiles > 0 {
                    figures.push(SizeFigures {
                        side,
                        shrink,
                        microns,
                        method: method.0,
                        mpp_stated: method.1,
                        tiles,
                        delta_e: column(0),
                        psnr_db: column(1),
                        sharpness: Some(column(2)).filter(|value| value.is_finite()),
                        grid: Some(column(3)).filter(|value| value.is_finite()),
                    });
                }
            }
        }
    }
    Ok(figures)
}

/// The sides of tiles, in ascending order.
fn sides(model: &Model) -> Vec<usize> {
    let own = model.synth.geometry().image_size();
    std::iter::once(own).chain(SIDES.into_iter().filter(|&side| side > own)).collect()
}

/// Cuts tiles of a few fields of each domain, with their targets. Returns the targets' stains too,
/// one for each field.
fn cases(
    model: &mut Model,
    dataset: &Dataset,
    (shrink, seed): (u32, u64),
) -> Result<(Vec<Reference>, Vec<Case>)> {
    let side = model.synth.geometry().image_size();
    let (mut references, mut cases) = (Vec::new(), Vec::new());
    let mut of_domain = vec![0; dataset.domains.len()];
    // The largest first, of which there are tiles of every size.
    let mut sources: Vec<_> = dataset.sources.iter().enumerate().collect();
    sources.sort_by_key(|(_, source)| Reverse(source.width.min(source.height)));
    for (index, source) in sources {
        let is_field = source.width.min(source.height) / shrink >= 2 * side as u32;
        if !is_field || of_domain[source.domain] == FIELDS {
            continue;
        }
        let Some(image) = dataset.readable(source)? else { continue };
        let image = shrunk(&image, shrink);
        let Some(stain) = FieldStain::of(&sample(image.as_raw(), SAMPLE)) else { continue };
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(STREAM + index as u64);
        let change = unseen(&stain, &mut rng);
        let mut cut = |side: usize| tissue(model, &image, side, &mut rng);
        let styles: Vec<Vec<u8>> = (0..STYLE_TILES).filter_map(|_| cut(side)).collect();
        if styles.is_empty() {
            continue;
        }
        let fitting: Vec<usize> = sides(model)
            .into_iter()
            .filter(|&side| side <= image.width().min(image.height()) as usize)
            .collect();
        for &side in &fitting {
            let tiles: Vec<Vec<u8>> = (0..TILES).filter_map(|_| cut(side)).collect();
            let truths = transformed(&change, tiles.iter().map(Vec::as_slice), side);
            let pairs = tiles.into_iter().zip(truths);
            let field = references.len();
            cases.extend(pairs.map(|(tile, truth)| Case { field, side, tile, truth }));
        }
        let styles = model.encode(transformed(&change, styles.iter().map(Vec::as_slice), side))?;
        let pixels: Vec<&[u8]> = styles.iter().map(|tile| tile.tile.as_slice()).collect();
        references.push(Reference::new(tissue_mean(model, &styles), &pixels));
        of_domain[source.domain] += 1;
    }
    Ok((references, cases))
}

/// Cuts a tile at a random place where the model would see tissue; `None` where there is none.
fn tissue(model: &Model, image: &RgbImage, side: usize, rng: &mut ChaCha8Rng) -> Option<Vec<u8>> {
    let geometry = model.synth.geometry();
    let seen = geometry.image_size();
    let mut at = |length: u32| below(rng, u64::from(length) - side as u64 + 1) as u32;
    let mut tiles = (0..TRIES).map(|_| {
        let (x, y) = (at(image.width()), at(image.height()));
        imageops::crop_imm(image, x, y, side as u32, side as u32).to_image().into_raw()
    });
    tiles.find(|tile| is_tissue(geometry, &shrink(tile, (side, side), (seen, seen)), ENOUGH_TISSUE))
}

/// The variant of a tile at its own size, u8 `[side, side, 3]`; `mpp` is stated to the model where it is known.
fn restain(
    model: &mut Model,
    case: &Case,
    to: &Reference,
    (method, mpp): (Technique, Option<f64>),
) -> Result<Vec<u8>> {
    if method == Technique::Vit {
        return carry::carried(model, (&case.tile, case.side), mpp, &to.style);
    }
    // Techniques that work on pixels need no encoding.
    let content =
        Encoded { tile: case.tile.clone(), anatomy: Vec::new(), characteristics: Vec::new() };
    let change = Change { from: None, to };
    Ok(method.apply(&model.synth, &content, change, &mut draws(0, STREAM, 0)))
}

fn compare(model: &Model, case: &Case, mpp: Option<f64>, made: &[u8]) -> Figures {
    let [a, b] = [made, &case.truth].map(|tile| pictures([tile], case.side));
    let off = delta_e(&a, &b).mean(Kind::Float).double_value(&[]);
    // Where the borders of the model's patches come to lie in the tile.
    let step = carry::patch_side(model, case.side, mpp);
    let edges = |tile: &[u8]| {
        let mut edges = BlockEdges::default();
        edges.add_every(tile, case.side, step);
        edges
    };
    let (made, truth) = (edges(made), edges(&case.truth));
    let psnr_db = psnr(&a, &b).double_value(&[0]);
    [off, psnr_db, made.step() / truth.step(), made.ratio() / truth.ratio()]
}
