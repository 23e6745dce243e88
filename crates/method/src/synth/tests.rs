use super::reference::{values_aligned, values_broadcast};
use super::*;
use crate::geometry::GeometrySpec;
use crate::latent;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use safetensors::SafeTensors;

const ORDERS: [PixelOrder; 2] = [PixelOrder::Planar, PixelOrder::Interleaved];

fn geometry(image_size: usize, patch_size: usize, rank: usize) -> Geometry {
    with_bias(image_size, patch_size, rank, false)
}

fn with_bias(image_size: usize, patch_size: usize, rank: usize, style_bias: bool) -> Geometry {
    let embed_dim = 2 * CHANNELS * patch_size * rank;
    Geometry::new(GeometrySpec {
        image_size,
        in_channels: 3,
        patch_size,
        embed_dim,
        depth: 1,
        num_heads: 1,
        mlp_ratio: 4.0,
        style_bias,
    })
    .unwrap()
}

fn normalisation() -> Normalisation {
    Normalisation::new([0.7441, 0.5895, 0.7214], [0.1301, 0.1489, 0.1107]).unwrap()
}

/// Numbers whose products of rank L have a deviation of about 1, as standardised values do.
fn latents(len: usize, rank: usize, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let scale = (3.0 / (rank as f32).sqrt()).sqrt();
    (0..len).map(|_| (rng.next_u32() as f32 / u32::MAX as f32 * 2.0 - 1.0) * scale).collect()
}

/// `[C, H, W]` values to `[H, W, C]` pixels, by the plain way.
fn pixels(values: &[f32], normalisation: &Normalisation) -> Vec<u8> {
    let plane = values.len() / CHANNELS;
    let pixel = |i: usize, c: usize| {
        (values[c * plane + i] * normalisation.std[c] + normalisation.mean[c]) * 255.0
    };
    (0..plane)
        .flat_map(|i| [0, 1, 2].map(|c| pixel(i, c).round().clamp(0.0, 255.0) as u8))
        .collect()
}

#[track_caller]
fn assert_within_a_level(made: &[u8], expected: &[u8], what: &str) {
    let worst = made.iter().zip(expected).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
    let off = made.iter().zip(expected).filter(|(a, b)| a != b).count();
    assert!(
        worst <= 1 && off * 100 <= made.len(),
        "{what}: {off} of {} bytes off, by up to {worst}",
        made.len()
    );
}

/// Every side and rank that has code of its own, and their neighbours, without and with a style
/// bias.
fn geometries() -> impl Iterator<Item = Geometry> {
    [
        (32, 16, 8),
        (48, 16, 11),
        (16, 16, 1),
        (32, 16, 16),
        (48, 16, 5),
        (32, 8, 4),
        (24, 8, 8),
        (16, 8, 3),
        (12, 4, 2),
        (9, 3, 2),
        (10, 5, 2),
        (28, 14, 7),
        (64, 32, 2),
    ]
    .into_iter()
    .flat_map(|(side, patch, rank)| [false, true].map(|bias| with_bias(side, patch, rank, bias)))
}

#[test]
fn several_styles_at_once_are_the_same_as_one_after_the_other() {
    for order in ORDERS {
        let geometry = geometry(48, 16, 8);
        let synthesiser = Synthesiser::new(geometry, order, normalisation());
        let anatomy: Vec<f16> =
            latents(geometry.tile_anatomy(), 8, 1).into_iter().map(f16::from_f32).collect();
        let styles: Vec<Vec<f32>> =
            (2..5).map(|seed| latents(geometry.style_len(), 8, seed)).collect();
        let (mut alone, mut together) =
            (vec![vec![0; geometry.tile_bytes()]; 3], vec![vec![1; geometry.tile_bytes()]; 3]);
        let mut scratch = synthesiser.scratch();
        for (style, out) in styles.iter().zip(&mut alone) {
            synthesiser.broadcast(&anatomy, style, &mut scratch, out);
        }
        let styles: Vec<&[f32]> = styles.iter().map(Vec::as_slice).collect();
        let mut outs: Vec<&mut [u8]> = together.iter_mut().map(Vec::as_mut_slice).collect();
        synthesiser.broadcast_each(&anatomy, &styles, &mut scratch, &mut outs);
        assert!(alone == together && alone[0] != alone[1]);
    }
}

#[test]
fn a_broadcast_variant_is_the_plain_product_within_a_level() {
    for (geometry, order) in geometries().flat_map(|geometry| ORDERS.map(|order| (geometry, order)))
    {
        let anatomy: Vec<f16> = latents(geometry.tile_anatomy(), geometry.rank(), 1)
            .into_iter()
            .map(f16::from_f32)
            .collect();
        let widened: Vec<f32> = anatomy.iter().map(|v| v.to_f32()).collect();
        let style = latents(geometry.style_len(), geometry.rank(), 2);
        let expected =
            pixels(&values_broadcast(&geometry, order, &widened, &style), &normalisation());
        let synthesiser = Synthesiser::new(geometry, order, normalisation());
        let (mut scratch, mut out) = (synthesiser.scratch(), vec![0; geometry.tile_bytes()]);
        synthesiser.broadcast(&anatomy, &style, &mut scratch, &mut out);
        assert_within_a_level(&out, &expected, &format!("f16 {order} {geometry:?}"));
        synthesiser.broadcast(&widened, &style, &mut scratch, &mut out);
        assert_within_a_level(&out, &expected, &format!("f32 {order} {geometry:?}"));
    }
}

#[test]
fn an_aligned_variant_is_the_plain_product_within_a_level() {
    for (geometry, order) in geometries().flat_map(|geometry| ORDERS.map(|order| (geometry, order)))
    {
        let half = |count, seed| -> Vec<f16> {
            latents(count, geometry.rank(), seed).into_iter().map(f16::from_f32).collect()
        };
        let anatomy = half(geometry.tile_anatomy(), 1);
        let characteristics = half(geometry.tile_characteristics(), 2);
        let wide = |half: &[f16]| -> Vec<f32> { half.iter().map(|v| v.to_f32()).collect() };
        let expected = pixels(
            &values_aligned(&geometry, order, &wide(&anatomy), &wide(&characteristics)),
            &normalisation(),
        );
        let synthesiser = Synthesiser::new(geometry, order, normalisation());
        let (mut scratch, mut out) = (synthesiser.scratch(), vec![0; geometry.tile_bytes()]);
        synthesiser.aligned(&anatomy, &characteristics, &mut scratch, &mut out);
        assert_within_a_level(&out, &expected, &format!("f16 {order} {geometry:?}"));
        synthesiser.aligned(&anatomy, &wide(&characteristics), &mut scratch, &mut out);
        assert_within_a_level(&out, &expected, &format!("f16 × f32 {order} {geometry:?}"));
    }
}

/// A tile of bytes that has nothing to do with any latents.
fn noise(geometry: &Geometry, seed: u64) -> Vec<u8> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..geometry.tile_bytes()).map(|_| rng.next_u32() as u8).collect()
}

/// clamp(tile + style's levels − own levels), the own rounded: the carry written plainly.
fn carried(tile: &[u8], style: &[f32], own: &[f32], normalisation: &Normalisation) -> Vec<u8> {
    let plane = tile.len() / CHANNELS;
    let level = |values: &[f32], at: usize| {
        let (pixel, c) = (at / CHANNELS, at % CHANNELS);
        let value = values[c * plane + pixel] * normalisation.std[c] + normalisation.mean[c];
        value * 255.0
    };
    let pixel = |at| f32::from(tile[at]) - level(own, at).round_ties_even() + level(style, at);
    (0..tile.len()).map(|at| pixel(at).round_ties_even().clamp(0.0, 255.0) as u8).collect()
}

#[test]
fn a_carried_variant_is_the_plain_sum_within_a_level() {
    for (geometry, order) in geometries().flat_map(|geometry| ORDERS.map(|order| (geometry, order)))
    {
        let synthesiser = Synthesiser::new(geometry, order, normalisation());
        let anatomy = latents(geometry.tile_anatomy(), geometry.rank(), 1);
        let [own, each] =
            [2, 3].map(|seed| latents(geometry.tile_characteristics(), geometry.rank(), seed));
        let style = &each[..geometry.style_len()];
        let (mut scratch, mut out) = (synthesiser.scratch(), vec![0; geometry.tile_bytes()]);
        // What the model reconstructs has a narrow residual, noise a wide one.
        let mut near = vec![0; geometry.tile_bytes()];
        synthesiser.aligned(&anatomy, &own, &mut scratch, &mut near);
        near.iter_mut().step_by(5).for_each(|byte| *byte ^= 9);
        for (tile, is_narrow) in [(near, true), (noise(&geometry, 4), false)] {
            let (residual, _) = synthesiser.compare(&anatomy, &own, &tile, &mut scratch);
            assert_eq!(matches!(residual, Residual::Narrow(_)), is_narrow, "{geometry:?}");
            let carry = Carry { anatomy: &anatomy, residual: &residual };
            let plain = |characteristics: &[f32]| {
                values_aligned(&geometry, order, &anatomy, characteristics)
            };
            let norm = normalisation();
            synthesiser.carry_each(carry, &[style], &mut scratch, &mut [&mut out]);
            let expected =
                carried(&tile, &plain(&style.repeat(geometry.patches())), &plain(&own), &norm);
            assert_within_a_level(&out, &expected, &format!("broadcast {order} {geometry:?}"));
            synthesiser.carry_aligned(carry, &each, &mut scratch, &mut out);
            let expected = carried(&tile, &plain(&each), &plain(&own), &norm);
            assert_within_a_level(&out, &expected, &format!("aligned {order} {geometry:?}"));
            synthesiser.restore(carry, &own, &mut scratch, &mut out);
            assert!(out == tile, "restored: {order} {geometry:?}");
        }
    }
}

#[test]
fn a_change_is_the_difference_of_two_plain_products() {
    for (geometry, order) in geometries().flat_map(|geometry| ORDERS.map(|order| (geometry, order)))
    {
        let synthesiser = Synthesiser::new(geometry, order, normalisation());
        let anatomy = latents(geometry.tile_anatomy(), geometry.rank(), 1);
        let own = latents(geometry.tile_characteristics(), geometry.rank(), 2);
        let style = latents(geometry.style_len(), geometry.rank(), 3);
        let (mut difference, mut change) = (vec![0.0; own.len()], vec![0.0; geometry.tile_bytes()]);
        synthesiser.difference_into(&own, &style, 0.5, &mut difference);
        synthesiser.change(&anatomy, &difference, &mut synthesiser.scratch(), &mut change);
        let plane = change.len() / CHANNELS;
        let (with, without) = (
            values_broadcast(&geometry, order, &anatomy, &style),
            values_aligned(&geometry, order, &anatomy, &own),
        );
        for (at, change) in change.iter().enumerate() {
            let (place, c) = (at % CHANNELS * plane + at / CHANNELS, at % CHANNELS);
            let expected = (with[place] - without[place]) * 0.5 * normalisation().std[c] * 255.0;
            assert!((change - expected).abs() < 0.01, "{at}: {change} is not {expected}");
        }
        synthesiser.difference_into(&own, &style, 0.0, &mut difference);
        assert!(difference.iter().all(|value| *value == 0.0));
    }
}

#[test]
fn fidelity_is_the_psnr_of_the_reconstruction() {
    let geometry = geometry(32, 8, 4);
    let synthesiser = Synthesiser::new(geometry, PixelOrder::Planar, normalisation());
    let (anatomy, own) =
        (latents(geometry.tile_anatomy(), 4, 1), latents(geometry.tile_anatomy(), 4, 2));
    let (mut scratch, mut own_picture) = (synthesiser.scratch(), vec![0; geometry.tile_bytes()]);
    synthesiser.aligned(&anatomy, &own, &mut scratch, &mut own_picture);
    let mut psnr = |tile: &[u8]| synthesiser.compare(&anatomy, &own, tile, &mut scratch).1;
    assert_eq!(psnr(&own_picture), 99.0);
    let tile = noise(&geometry, 3);
    let expected = crate::metrics::psnr(&tile, &own_picture);
    assert!((f64::from(psnr(&tile)) - expected).abs() < 1e-3);
}

/// One patch of 2×2 of rank 1, in both orders. Mean 0 and std 1/255: a value is its own byte.
fn by_hand(style: &[f32], style_bias: bool) -> [[u8; 12]; 2] {
    let bytes = Normalisation::new([0.0; 3], [1.0 / 255.0; 3]).unwrap();
    let anatomy = [1.0f32, 2.0, 1.0, 1.0, 0.0, 1.0];
    ORDERS.map(|order| {
        let synthesiser = Synthesiser::new(with_bias(2, 2, 1, style_bias), order, bytes);
        let mut out = [0; 12];
        synthesiser.broadcast(&anatomy, style, &mut synthesiser.scratch(), &mut out);
        out
    })
}

/// Red = [1, 2]ᵀ·[3, 4], green all 5, blue [0, 1]ᵀ·[7, 0], worked out by hand.
#[test]
fn a_product_worked_out_by_hand() {
    let [planar, interleaved] = by_hand(&[3.0, 4.0, 5.0, 5.0, 7.0, 0.0], false);
    assert_eq!(planar, [3, 5, 0, 4, 5, 0, 6, 5, 7, 8, 5, 0]);
    assert_eq!(interleaved, [3, 4, 6, 8, 5, 5, 5, 5, 0, 0, 7, 0]);
}

/// The same with a style bias: [10, 20] is added to every row of red, [0, 1] to green, [2, 0] to
/// blue.
#[test]
fn a_style_bias_is_added_to_every_row_of_its_channel() {
    let style = [3.0, 4.0, 5.0, 5.0, 7.0, 0.0, 10.0, 20.0, 0.0, 1.0, 2.0, 0.0];
    let [planar, interleaved] = by_hand(&style, true);
    assert_eq!(planar, [13, 5, 2, 24, 6, 0, 16, 5, 9, 28, 6, 0]);
    assert_eq!(interleaved, [13, 24, 16, 28, 5, 6, 5, 6, 2, 0, 9, 0]);
}

/// What the caches hold may be anything that f16 can hold; a byte comes out all the same.
#[test]
fn extreme_latents_saturate() {
    let geometry = geometry(16, 16, 1);
    let synthesiser = Synthesiser::new(geometry, PixelOrder::Planar, normalisation());
    let mut out = vec![7; geometry.tile_bytes()];
    let mut made = |anatomy: f16, style: f32| {
        let latents = vec![anatomy; geometry.tile_anatomy()];
        synthesiser.broadcast(
            &latents,
            &vec![style; geometry.style_len()],
            &mut synthesiser.scratch(),
            &mut out,
        );
        assert!(out.iter().all(|byte| *byte == out[0]));
        out[0]
    };
    assert_eq!(made(f16::MAX, 1e30), 255);
    assert_eq!(made(f16::MAX, -1e30), 0);
    assert_eq!(made(f16::INFINITY, 1.0), 255);
    assert_eq!(made(f16::NAN, 1.0), 0);
}

#[test]
fn every_half_precision_number_widens_exactly() {
    let halves: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
    let mut buffer = vec![0.0; halves.len()];
    let wide = f16::widen(&halves, &mut buffer);
    for (half, wide) in halves.iter().zip(wide) {
        assert!(
            half.is_nan() && wide.is_nan() || half.to_f32().to_bits() == wide.to_bits(),
            "{half:?} became {wide}"
        );
    }
}

#[test]
fn strength_mixes_with_the_tiles_own_characteristics_patch_by_patch() {
    let geometry = geometry(32, 16, 7);
    let synthesiser = Synthesiser::new(geometry, PixelOrder::Planar, normalisation());
    let (own, style) =
        (latents(geometry.tile_anatomy(), 7, 3), latents(geometry.style_len(), 7, 4));
    let halves: Vec<f16> = own.iter().map(|v| f16::from_f32(*v)).collect();
    let mut out = vec![0.0; own.len()];
    synthesiser.blend_into(&own, &style, 0.0, &mut out);
    assert_eq!(out, own);
    synthesiser.blend_into(&halves, &style, 1.0, &mut out);
    assert_eq!(out, style.repeat(geometry.patches()));
    synthesiser.blend_into(&own, &style, 0.25, &mut out);
    let last = own.len() - 1;
    assert!((out[last] - (own[last] * 0.75 + style[style.len() - 1] * 0.25)).abs() < 1e-6);
}

#[test]
#[should_panic(expected = "scratch of this synthesiser")]
fn scratch_of_another_geometry_is_refused() {
    let synthesiser =
        |patch| Synthesiser::new(geometry(32, patch, 1), PixelOrder::Planar, normalisation());
    let style = vec![0.0; 48];
    synthesiser(16).broadcast(
        &vec![0.0f32; 4 * 48],
        &style,
        &mut synthesiser(8).scratch(),
        &mut [0; 32 * 32 * 3],
    );
}

/// The published code's own variant of two tiles, when the reference vectors are beside the
/// checkout.
#[test]
fn the_published_code_makes_the_same_values() {
    let bytes = include_bytes!("../../../../tests/fixtures/published/uint8.safetensors");
    let tensors = SafeTensors::deserialize(bytes).unwrap();
    let floats = |name: &str| -> Vec<f32> {
        tensors
            .tensor(name)
            .unwrap()
            .data()
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
            .collect()
    };
    let geometry = geometry(32, 8, 2);
    let (z, expected) = (floats("z"), floats("synth_with_style_of_tile1_token3"));
    let tokens: Vec<&[f32]> =
        z.chunks_exact((geometry.patches() + 1) * geometry.embed_dim()).collect();
    let style = &tokens[1][3 * geometry.embed_dim()..][geometry.half()..][..geometry.half()];
    let synthesiser = Synthesiser::new(
        geometry,
        PixelOrder::Interleaved,
        Normalisation::new([0.5; 3], [0.25; 3]).unwrap(),
    );
    for (tokens, expected) in tokens.iter().zip(expected.chunks_exact(geometry.tile_bytes())) {
        let (mut anatomy, mut characteristics) =
            (vec![0.0; geometry.tile_anatomy()], vec![0.0; geometry.tile_anatomy()]);
        latent::split(&geometry, tokens, &mut anatomy, &mut characteristics);
        let values = values_broadcast(&geometry, PixelOrder::Interleaved, &anatomy, style);
        let worst = values.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-4, "values differ by up to {worst}");
        let mut out = vec![0; geometry.tile_bytes()];
        synthesiser.broadcast(&anatomy, style, &mut synthesiser.scratch(), &mut out);
        assert_within_a_level(
            &out,
            &pixels(expected, &Normalisation::new([0.5; 3], [0.25; 3]).unwrap()),
            "published",
        );
    }
}
