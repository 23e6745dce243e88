//! A range of strengths: each variant draws its own.

use serde_json::{Value, json};

use crate::harness::{Server, picture, tile};

/// The strengths of the variants of an answer.
fn drawn(provenance: &Value) -> Vec<f64> {
    let records = provenance.as_array().unwrap().iter();
    records.map(|record| record["strength"].as_f64().unwrap()).collect()
}

#[test]
fn every_variant_draws_a_strength_and_is_that_of_the_strength() {
    let server = Server::start(&[]);
    for (method, tile) in [("vit", tile(0)), ("vit", picture(1, 60, 50)), ("color-match", tile(0))]
    {
        let tiles = std::slice::from_ref(&tile);
        let ask = json!({
            "seed": 4, "variants": 12, "method": method, "strength": 0.75, "strength_from": 0.25
        });
        let (variants, provenance) = server.tensor(tiles, &[], &ask);
        let strengths = drawn(&provenance);
        assert!(strengths.iter().all(|strength| (0.25..0.75).contains(strength)), "{strengths:?}");
        let (least, most) = strengths
            .iter()
            .fold((1.0, 0.0), |(least, most): (f64, f64), &one| (least.min(one), most.max(one)));
        assert!(most - least > 0.2, "{strengths:?}");
        assert!(server.tensor(tiles, &[], &ask).0 == variants, "replayed");
        for (index, strength) in strengths.iter().enumerate().take(3) {
            let alone = json!({"seed": 4, "variants": 12, "method": method, "strength": strength});
            let (of_strength, records) = server.tensor(tiles, &[], &alone);
            assert_eq!(records[index]["style"], provenance[index]["style"], "the same styles");
            assert!(of_strength[index] == variants[index], "{method}, {strength}");
            assert!(records[index].get("strength").is_none());
        }
    }
}

#[test]
fn a_range_of_one_strength_is_that_strength() {
    let server = Server::start(&[]);
    let ask = |request: Value| server.tensor(&[tile(1)], &[], &request);
    let one = ask(json!({"seed": 1, "strength": 0.5}));
    let range = ask(json!({"seed": 1, "strength": 0.5, "strength_from": 0.5}));
    assert!(one == range);
    let from = ask(json!({"seed": 1, "strength_from": 0.999}));
    assert!(drawn(&from.1)[0] >= 0.999, "up to the default");
}
