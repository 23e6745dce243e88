//! The paired recipe: its losses fall, it resumes exactly, and what it cannot work with is refused.

use std::path::Path;

use restain_bundle::{Bundle, Weights};

use super::fit::{phantom, refusal, run};
use super::monitor::scalars;
use super::resume::{learnt, stopped};

const FIT: &str = "fit --data tiles --preset tiny --recipe paired --batch 6 --device cpu --seed 5 \
                   --scalars-every 1";
const TERMS: [&str; 10] = [
    "reconstruction",
    "there",
    "back",
    "self",
    "invariance",
    "agreement",
    "beside",
    "detail",
    "border",
    "total",
];

fn weights(home: &Path, name: &str) -> Weights {
    Weights::read(&home.join("models").join(name).join("1/weights.safetensors")).unwrap()
}

#[test]
fn forty_steps_on_phantom_tiles_lower_every_picture_term_and_give_a_bundle() {
    let home = tempfile::tempdir().unwrap();
    phantom(home.path());
    run(home.path(), &format!("{FIT} --steps 40 --out models/paired/1"));
    let scalars = scalars(&home.path().join("runs/paired-1"));
    for term in TERMS {
        let curve: Vec<f64> = scalars[&format!("loss/{term}")]
            .iter()
            .map(|(_, bits)| f64::from(f32::from_bits(*bits)))
            .collect();
        assert_eq!(curve.len(), 40, "{term}");
        assert!(curve.iter().all(|value| value.is_finite()), "{term}");
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        if ["reconstruction", "there", "back", "self", "total"].contains(&term) {
            let (first, last) = (mean(&curve[..5]), mean(&curve[35..]));
            assert!(last < 0.8 * first, "{term}: {first}, then {last}");
        }
    }
    let bundle = Bundle::open(&home.path().join("models/paired/1")).unwrap();
    assert_eq!(bundle.styles.domains, ["hospital_0", "hospital_1", "hospital_2"]);
    assert_eq!(bundle.manifest.provenance["tiles_seen"], 240);
}

#[test]
fn a_stopped_run_ends_with_the_losses_and_weights_of_one_that_was_not() {
    let home = tempfile::tempdir().unwrap();
    phantom(home.path());
    let home = home.path();
    let watched =
        "--validation-share .34 --validation-tiles 6 --validate-every 8 --samples-every 10";
    let fit = format!("{FIT} --steps 20 --grad-accum-steps 2 --warm-up-steps 5 {watched}");
    run(home, &format!("{fit} --out models/straight/1"));
    stopped(home, &fit, "stopped");
    run(home, "resume runs/stopped-1 --device cpu");
    assert_eq!(weights(home, "stopped"), weights(home, "straight"));
    let learnt = [learnt(home, "stopped"), learnt(home, "straight")];
    assert!(learnt[1].contains_key("validation/there"));
    assert_eq!(learnt[0], learnt[1]);
}

#[test]
fn what_the_recipe_cannot_work_with_is_refused() {
    let home = tempfile::tempdir().unwrap();
    phantom(home.path());
    let home = home.path();
    for (options, said) in [
        ("--recipe paired --batch 3", "--batch is 3, and must be even"),
        ("--recipe paired --match-weight 1", "--match-weight is for --recipe cross"),
        ("--recipe cross --paired-there-weight 2", "are for --recipe paired"),
        (
            "--recipe paired --paired-border-weight=-1",
            "`--paired-border-weight -1`: must be at least 0",
        ),
        (
            "--recipe paired --paired-glass-chance 1.5",
            "`--paired-glass-chance 1.5`: must be from 0 to 1",
        ),
        (
            "--recipe paired --paired-largest-crop 40",
            "`--paired-largest-crop 40`: must be from 1 to 16",
        ),
    ] {
        let arguments = format!("fit --data tiles --preset tiny --out models/none/1 {options}");
        let refused = refusal(home, &arguments);
        assert!(refused.contains(said), "{refused}");
    }
}
