//! DenseNet-121 against torchvision's: tools/reference_classifier.py wrote
//! `tests/fixtures/densenet121.safetensors`.

use std::path::Path;

use restain_lab::classifier::{Architecture, Classifier};
use tch::{Device, Tensor};

/// As `numbers` of the script: in -1..1, from a name and an index.
fn numbers(name: &str, count: i64) -> Tensor {
    let seed = name
        .bytes()
        .fold(2166136261u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(16777619));
    let number = |index: u32| {
        let x = index.wrapping_mul(2654435761).wrapping_add(seed);
        let x = [2246822519, 3266489917]
            .iter()
            .fold(x, |x, &multiplier| (x ^ (x >> 15)).wrapping_mul(multiplier));
        (f64::from((x ^ (x >> 16)) >> 8) / f64::from(1 << 23) - 1.0) as f32
    };
    Tensor::from_slice(&(0..count as u32).map(number).collect::<Vec<_>>())
}

/// As `value` of the script.
fn value(name: &str, shape: &[i64]) -> Tensor {
    let u = numbers(name, shape.iter().product()).view(shape);
    if shape.len() > 1 {
        return u * (6.0 / shape[1..].iter().product::<i64>() as f64).sqrt();
    }
    if name.ends_with(".weight") || name.ends_with(".running_var") {
        u * 0.3 + 1.0
    } else {
        u * 0.3
    }
}

fn assert_near(what: &str, found: &Tensor, expected: &Tensor, tolerance: f64) {
    assert_eq!(found.size(), expected.size(), "{what}");
    let difference = (found.detach() - expected).abs().max().double_value(&[])
        / expected.abs().max().double_value(&[]);
    assert!(difference < tolerance, "{what} is {difference:.1e} away");
}

#[test]
fn forward_backward_and_running_statistics_agree_with_torchvision() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/densenet121.safetensors");
    let expected = Tensor::read_safetensors(path).unwrap();
    let expected = |name: &str| {
        &expected
            .iter()
            .find(|(held, _)| held == name)
            .unwrap_or_else(|| panic!("no vector {name}"))
            .1
    };
    let classifier = Classifier::init(Architecture::DenseNet121, 3, 0, Device::Cpu);
    tch::no_grad(|| {
        for (name, tensor) in classifier.parameters().iter().chain(classifier.buffers()) {
            tensor.shallow_clone().copy_(&value(name, &tensor.size()));
        }
    });
    let tiles = numbers("tiles", 2 * 3 * 64 * 64).view([2, 3, 64, 64]);
    assert_near("logits", &classifier.logits(&tiles, false), expected("evaluated.logits"), 1e-4);
    assert_near(
        "features",
        &classifier.features(&tiles).slice(1, None, None, 16),
        expected("evaluated.features"),
        1e-4,
    );

    let logits = classifier.logits(&tiles, true);
    assert_near("logits in training", &logits, expected("trained.logits"), 1e-3);
    logits.cross_entropy_for_logits(&Tensor::from_slice(&[0i64, 2])).backward();
    // Each by itself: the gradient of the first layer is a thousand times that of others.
    let ratios = |tensors: Vec<Tensor>, expected: &Tensor| {
        let norms = Tensor::stack(&tensors.iter().map(Tensor::norm).collect::<Vec<_>>(), 0);
        (norms / expected, expected.ones_like())
    };
    let gradients = classifier.parameters().iter().map(|(_, parameter)| parameter.grad()).collect();
    let (found, one) = ratios(gradients, expected("trained.gradient_norms"));
    // Batch norm over eight numbers, in f32 here and f64 there.
    assert_near("gradients", &found, &one, 2e-2);
    let buffers = classifier.buffers().iter().map(|(_, buffer)| buffer.shallow_clone()).collect();
    let (found, one) = ratios(buffers, expected("trained.buffer_norms"));
    assert_near("running statistics", &found, &one, 1e-4);
}
