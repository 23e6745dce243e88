//! What the pipeline answers, as messages.

use std::time::Duration;

use bytes::Bytes;

use super::proto;
use crate::serve::batch::Window;
use crate::serve::error::Error;
use crate::serve::models::Model;
use crate::serve::pipeline::AddedSlide;
use crate::serve::pipeline::answer::{
    Answer, AnsweredTile, EncodeAnswer, EncoderAbout, Timings, WindowGrid, hundredths,
};
use crate::serve::pipeline::request::{Detail, Method};
use crate::serve::styles::{DomainOrigin, Offer};
use restain_method::PixelOrder;
use restain_method::windows::Windows;

/// Writes the message; `pictures`, `[tile][variant]`, where they were asked for.
pub(super) fn augmented(
    answer: &Answer,
    mut pictures: Option<Vec<Vec<Vec<u8>>>>,
    total: Duration,
) -> proto::AugmentResponse {
    let tile = |(index, tile): (usize, &AnsweredTile)| {
        let mut pictures =
            pictures.as_mut().map(|pictures| std::mem::take(&mut pictures[index]).into_iter());
        let variants = tile.variants.iter().map(|variant| proto::Variant {
            index: number(variant.origin.index),
            style: variant.origin.style.clone().unwrap_or_default(),
            domain: variant.origin.domain.clone().unwrap_or_default(),
            strength: variant.origin.strength,
            clipped: variant.origin.clipped,
            image: pictures.as_mut().and_then(Iterator::next).map(Bytes::from).unwrap_or_default(),
        });
        proto::AugmentedTile {
            key: Bytes::copy_from_slice(tile.key.as_bytes()),
            height: number(tile.height),
            width: number(tile.width),
            variants: variants.collect(),
            fidelity: tile.fidelity(),
            slide: tile.slide.clone().unwrap_or_default(),
            warning: tile.warning.clone().unwrap_or_default(),
            windows: number(tile.windows),
        }
    };
    let about = &answer.about;
    proto::AugmentResponse {
        model: about.model.clone(),
        version: about.version.clone(),
        bundle: about.bundle.clone(),
        seed: about.seed,
        method: method(about.method).into(),
        detail: about.detail.map_or(0, |detail| self::detail(detail).into()),
        mpp: about.mpp,
        tiles: answer.tiles.iter().enumerate().map(tile).collect(),
        pixels: if answer.output.format.is_none() { answer.pixels.clone() } else { Bytes::new() },
        timings: Some(timings(&answer.timings, total)),
    }
}

pub(super) fn encoded(answer: &EncodeAnswer, total: Duration) -> proto::EncodeResponse {
    let tiles = &answer.tiles;
    let joined = |half: fn(Window<'_>) -> &[half::f16]| {
        let windows = tiles.iter().flat_map(|tile| tile.encoding.seen());
        let pieces: Vec<&[u8]> = windows.map(|window| bytemuck::cast_slice(half(window))).collect();
        Bytes::from(pieces.concat())
    };
    let length = answer.about.geometry.style_len();
    let stains = tiles.iter().flat_map(|tile| tile.stain_or_nan(length));
    proto::EncodeResponse {
        encoder: Some(encoder(&answer.about)),
        keys: tiles.iter().map(|tile| Bytes::copy_from_slice(tile.key.as_bytes())).collect(),
        anatomy: joined(|window| window.anatomy),
        characteristics: joined(|window| window.characteristics),
        timings: Some(timings(&answer.timings, total)),
        fidelity: tiles.iter().map(|tile| hundredths(tile.encoding.fidelity)).collect(),
        windows: tiles.iter().map(|tile| windows(&tile.encoding.windows)).collect(),
        stain: stains.flat_map(f32::to_le_bytes).collect(),
        takes_style: tiles.iter().map(|tile| tile.takes_style).collect(),
    }
}

fn windows(windows: &Windows) -> proto::WindowGrid {
    let WindowGrid { height, width, rows, columns } = WindowGrid::of(windows);
    let numbers = |list: Vec<usize>| list.into_iter().map(number).collect();
    proto::WindowGrid {
        height: number(height),
        width: number(width),
        rows: numbers(rows),
        columns: numbers(columns),
    }
}

fn encoder(about: &EncoderAbout) -> proto::EncoderInfo {
    let geometry = &about.geometry;
    proto::EncoderInfo {
        model: about.model.clone(),
        version: about.version.clone(),
        bundle: about.bundle.clone(),
        patches: number(geometry.patches()),
        half: number(geometry.half()),
        style_length: number(geometry.style_len()),
        image_size: number(geometry.image_size()),
        patch_size: number(geometry.patch_size()),
        pixel_order: match about.pixel_order {
            PixelOrder::Planar => "planar".to_owned(),
            PixelOrder::Interleaved => "interleaved".to_owned(),
        },
        mean: about.normalisation.mean.to_vec(),
        std: about.normalisation.std.to_vec(),
        window: about.window,
    }
}

pub(super) fn styles(model: &Model, offer: &Offer) -> proto::ListStylesResponse {
    proto::ListStylesResponse {
        model: model.name().to_owned(),
        version: model.version().to_owned(),
        persistent: model.styles.is_persistent(),
        domains: (0..offer.domains().count()).map(|place| domain(offer, place)).collect(),
    }
}

/// The domain at a place of the offer.
pub(super) fn domain(offer: &Offer, place: usize) -> proto::Domain {
    let info = |style: usize| {
        let entry = offer.style(style);
        proto::StyleInfo {
            id: entry.id.clone(),
            source_mean: entry.source.mean.to_vec(),
            source_std: entry.source.std.to_vec(),
        }
    };
    let origin = match offer.origin(place) {
        DomainOrigin::Bundle => proto::DomainOrigin::Bundle,
        DomainOrigin::Added => proto::DomainOrigin::Added,
    };
    let styles =
        (0..offer.styles()).filter(|&style| offer.domain_of(style) == place).map(info).collect();
    proto::Domain { name: offer.domain_name(place).to_owned(), origin: origin.into(), styles }
}

pub(super) fn slide(added: AddedSlide) -> proto::AddSlideResponse {
    proto::AddSlideResponse {
        model: added.model.name().to_owned(),
        version: added.model.version().to_owned(),
        persistent: added.model.styles.is_persistent(),
        slide: added.id,
        tiles: number(added.tiles),
    }
}

/// What `Augment` would have ended with, as part of a stream.
pub(super) fn problem(error: Error) -> proto::Problem {
    let row = error.kind.row();
    let indices = if error.indices.is_empty() {
        error.at.iter().map(|fault| fault.index).collect()
    } else {
        error.indices
    };
    proto::Problem {
        status: row.grpc_code,
        code: row.code.to_owned(),
        detail: error.detail,
        list: error.at.map(|fault| fault.list.to_owned()).unwrap_or_default(),
        indices: indices.into_iter().map(number).collect(),
        retry_after_s: error.retry_after.map_or(0, |wait| wait.as_secs()),
    }
}

fn method(method: Method) -> proto::Method {
    match method {
        Method::Vit => proto::Method::Vit,
        Method::ColorMatch => proto::Method::ColorMatch,
        Method::HedJitter => proto::Method::HedJitter,
        Method::Identity => proto::Method::Identity,
    }
}

fn detail(detail: Detail) -> proto::Detail {
    match detail {
        Detail::Carry => proto::Detail::Carry,
        Detail::Model => proto::Detail::Model,
    }
}

fn timings(timings: &Timings, total: Duration) -> proto::Timings {
    let ms = |span: Duration| span.as_secs_f64() * 1e3;
    let Timings { queue, encode, synthesise } = *timings;
    proto::Timings {
        queue_ms: ms(queue),
        encode_ms: ms(encode),
        synthesise_ms: ms(synthesise),
        total_ms: ms(total),
    }
}

/// Sizes and places in a request, all bounded by the server's limits.
fn number(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}
