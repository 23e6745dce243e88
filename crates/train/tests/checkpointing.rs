//! Gradient checkpointing changes what is kept, and nothing that is learnt.

use restain_method::geometry::GeometrySpec;
use restain_method::{Geometry, Normalisation, PixelOrder};
use restain_train::model::mixing::Synthesiser;
use restain_train::model::vit::Vit;
use restain_train::objective::losses::TermWeights;
use restain_train::objective::recipe::{Recipe, RecipeArgs};
use restain_train::objective::scene::{Batch, Scene};
use tch::{Device, Kind, Tensor};

/// The same encoder without gradient checkpointing and with it. libtorch's generator is one for all
/// threads, and other tests draw from it: only copied weights are the same weights.
fn pair() -> [Vit; 2] {
    let spec = GeometrySpec {
        image_size: 32,
        in_channels: 3,
        patch_size: 8,
        embed_dim: 96,
        depth: 3,
        num_heads: 4,
        mlp_ratio: 4.0,
        style_bias: false,
    };
    let geometry = Geometry::new(spec).unwrap();
    let weights = Vit::init(geometry, 3, Device::Cpu, Kind::Float).unwrap().weights().unwrap();
    [false, true].map(|on| {
        Vit::from_weights(geometry, &weights, Device::Cpu, Kind::Float).unwrap().checkpointing(on)
    })
}

/// Three tiles, other ones for every `draw`.
fn tiles(draw: u64) -> Tensor {
    let pixels = Tensor::arange(3 * 3 * 32 * 32, (Kind::Float, Device::Cpu)) * (0.7 + draw as f64);
    pixels.sin().view([3, 3, 32, 32])
}

/// Gradients after two batches of a recipe.
fn gradients(vit: &Vit, recipe: Recipe) -> Vec<Tensor> {
    let synth = Synthesiser { geometry: vit.geometry, pixel_order: PixelOrder::Planar };
    let objective =
        RecipeArgs { recipe, mixes: 2, weights: TermWeights::first(), ..RecipeArgs::default() };
    let scene = Scene {
        vit,
        synth: &synth,
        normalisation: &Normalisation { mean: [0.5; 3], std: [0.25; 3] },
    };
    for draw in 0..2 {
        vit.backward(&objective.losses(&scene, &Batch::of(tiles(draw)), 11, draw).total());
    }
    vit.parameters().iter().map(|(_, parameter)| parameter.grad()).collect()
}

#[test]
fn gradients_are_those_without_it_also_through_tiles_made_from_encodings() {
    for recipe in [Recipe::Published, Recipe::Cross] {
        let [kept, computed_again] = pair();
        let pairs = gradients(&kept, recipe).into_iter().zip(gradients(&computed_again, recipe));
        for ((name, _), (expected, found)) in kept.parameters().iter().zip(pairs) {
            let difference = (&found - &expected).abs().max().double_value(&[])
                / expected.abs().max().double_value(&[]);
            assert!(
                difference < 2e-6,
                "{recipe:?}: the gradient of {name} is {difference:.1e} away"
            );
        }
    }
}

#[test]
fn encoding_without_gradients_leaves_nothing_behind() {
    let [kept, computed_again] = pair();
    let seen = |vit: &Vit| tch::no_grad(|| vit.encode(&tiles(0)));
    assert_eq!(seen(&computed_again), seen(&kept));
    // What was only looked at is no part of this: `backward` would find no way to it.
    computed_again.backward(&computed_again.encode(&tiles(1)).square().sum(Kind::Float));
    assert!(computed_again.parameters().iter().all(|(_, parameter)| parameter.grad().defined()));
}
