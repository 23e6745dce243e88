//! What every classifier must do.

use super::layers::Named;
use super::tiles::orient;
use super::*;

/// Two classes that differ by which half of the tile is dark, in colours of chance.
fn halves(count: usize, seed: u64) -> Tiles {
    use rand_chacha::rand_core::SeedableRng;
    use restain_data::below;
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let side = 32;
    let mut tile = |label: usize| -> Vec<u8> {
        let (bright, dark) = (180 + below(&mut rng, 60) as u8, 60 + below(&mut rng, 60) as u8);
        // Stripes of two widths: no flip and no turn makes one of the other.
        let period = [4, 16][label];
        (0..side * side * 3)
            .map(|i| if (i / 3 / side) / (period / 2) % 2 == 0 { bright } else { dark })
            .collect()
    };
    let labels: Vec<usize> = (0..count).map(|i| i % 2).collect();
    Tiles { pixels: labels.iter().map(|&label| tile(label)).collect(), labels, side }
}

const QUICK: FitConfig = FitConfig { learning_rate: 2e-3, epochs: 3, batch: 8, seed: 1 };

fn numbers(named: &Named) -> Vec<Vec<f32>> {
    named.iter().map(|(_, tensor)| Vec::try_from(tensor.detach().reshape([-1])).unwrap()).collect()
}

#[test]
fn a_classifier_learns_and_the_same_seed_gives_the_same_weights() {
    tch::set_num_threads(1);
    let (training, validation) = (halves(64, 1), halves(32, 2));
    let trained = |seed: u64| {
        let classifier = Classifier::init(Architecture::Small, 2, seed, Device::Cpu);
        let fitted = fit(&classifier, &training, &validation, &QUICK, None).unwrap();
        (classifier, fitted)
    };
    let ((first, fitted), (second, _), (other, _)) = (trained(1), trained(1), trained(2));
    assert!(fitted.validation.accuracy > 0.9, "{:?}", fitted.history);
    assert_eq!(numbers(&first.parameters), numbers(&second.parameters));
    assert_eq!(numbers(&first.buffers), numbers(&second.buffers));
    assert_ne!(numbers(&first.parameters), numbers(&other.parameters));
}

#[test]
fn the_weights_kept_are_those_of_the_best_epoch() {
    tch::set_num_threads(1);
    let (training, validation) = (halves(32, 1), halves(32, 2));
    let classifier = Classifier::init(Architecture::Small, 2, 3, Device::Cpu);
    let fitted = fit(&classifier, &training, &validation, &QUICK, None).unwrap();
    assert_eq!(fitted.history[fitted.epoch as usize - 1], fitted.validation);
    let again = score(&classifier.probabilities(&validation, 5).unwrap(), &validation.labels);
    assert!(
        (again.loss - fitted.validation.loss).abs() < 1e-5
            && again.accuracy == fitted.validation.accuracy
    );
}

#[test]
fn every_tile_gets_one_variant_an_epoch_and_variants_change_what_is_learnt() {
    tch::set_num_threads(1);
    let (training, validation) = (halves(16, 1), halves(4, 2));
    let mut seen = Vec::new();
    let mut variants = |batch: &[usize], rngs: &mut [rand_chacha::ChaCha8Rng], out: &mut [u8]| {
        assert_eq!((batch.len(), rngs.len()), (8, 8));
        for (&tile, out) in batch.iter().zip(out.chunks_exact_mut(training.pixels[0].len())) {
            seen.push((seen.len() / 16, tile));
            out.copy_from_slice(&training.pixels[tile]);
        }
        Ok(())
    };
    let [with, without] =
        [1, 1].map(|seed| Classifier::init(Architecture::Small, 2, seed, Device::Cpu));
    fit(&with, &training, &validation, &QUICK, Some(&mut variants)).unwrap();
    fit(&without, &training, &validation, &QUICK, None).unwrap();
    seen.sort();
    assert_eq!(
        seen,
        (0..3).flat_map(|epoch| (0..16).map(move |tile| (epoch, tile))).collect::<Vec<_>>()
    );
    assert_ne!(numbers(&with.parameters), numbers(&without.parameters));
}

#[test]
fn features_are_the_input_of_the_last_layer() {
    for (architecture, length) in [(Architecture::Small, 128), (Architecture::DenseNet121, 1024)] {
        let classifier = Classifier::init(architecture, 3, 1, Device::Cpu);
        let tiles = input(&halves(2, 1).pixels, 32, Device::Cpu);
        let features = classifier.features(&tiles);
        assert_eq!(features.size(), [2, length]);
        let logits = classifier.head.forward(&features);
        assert!((logits - classifier.logits(&tiles, false)).abs().max().double_value(&[]) < 1e-6);
    }
}

#[test]
fn the_eight_ways_are_eight_and_each_keeps_every_pixel() {
    let tile: Vec<u8> = (0..27).collect();
    let mut ways: Vec<Vec<u8>> = (0..8)
        .map(|way| {
            let mut out = vec![0; 27];
            orient(&tile, 3, way, &mut out);
            let mut pixels = out.as_chunks::<3>().0.to_vec();
            pixels.sort();
            assert_eq!(pixels, tile.as_chunks::<3>().0);
            out
        })
        .collect();
    assert_eq!(ways[0], tile);
    ways.sort();
    ways.dedup();
    assert_eq!(ways.len(), 8);
}
