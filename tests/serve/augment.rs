//! What comes back is the method's own product, and the same every time.

use restain_method::color::{ChannelStats, color_match};
use serde_json::{Value, json};

use crate::harness::{Parts, Server, tile};

#[test]
fn a_variant_is_the_product_of_the_tiles_anatomy_and_the_style_it_names() {
    let server = Server::start(&[]);
    let mut parts = Parts::of(server.bundle());
    let tiles = [tile(0), tile(1), tile(2)];
    let request = json!({"variants": 4, "seed": 7, "detail": "model"});
    let (variants, provenance) = server.tensor(&tiles, &[], &request);
    assert_eq!(variants.len(), 12);
    let mut domains = std::collections::BTreeSet::new();
    for (n, (variant, record)) in variants.iter().zip(provenance.as_array().unwrap()).enumerate() {
        assert_eq!(
            (record["index"].as_u64(), record["seed"].as_u64(), &record["method"]),
            (Some(n as u64 % 4), Some(7), &json!("vit"))
        );
        assert_eq!(
            (&record["model"], &record["version"], &record["bundle"]),
            (&json!("tiny"), &json!("1"), &json!(server.bundle().digest))
        );
        let encodings = parts.encode(&tiles[n / 4]);
        assert!(
            *variant == parts.broadcast(&encodings, parts.style(record["style"].as_str().unwrap())),
            "variant {n}"
        );
        domains.insert(record["domain"].to_string());
    }
    assert!(domains.len() > 1, "twelve draws from several domains: {domains:?}");
}

#[test]
fn the_same_request_gives_the_same_bytes_whatever_shares_the_batch() {
    let server = Server::start(&["--max-batch", "8"]);
    let alone =
        |number: usize| server.tensor(&[tile(number)], &[], &json!({"variants": 2, "seed": 3})).0;
    let all: Vec<_> = (0..7).map(tile).collect();
    let (together, _) = server.tensor(&all, &[], &json!({"variants": 2, "seed": 3}));
    for number in 0..7 {
        assert!(alone(number) == together[number * 2..][..2], "tile {number}");
    }
    let asked = |accept: &str| server.png("?variants=3&seed=9", &tile(0), accept).bytes().unwrap();
    for accept in [
        "application/json",
        "multipart/mixed",
        "application/x-tar",
        "application/vnd.restain.safetensors",
    ] {
        assert!(asked(accept) == asked(accept), "{accept}");
    }
}

#[test]
fn a_seed_is_drawn_and_told_and_makes_the_variant_again() {
    let server = Server::start(&[]);
    let first = server.png("", &tile(0), "image/png");
    let record: Value =
        serde_json::from_str(first.headers()["restain-provenance"].to_str().unwrap()).unwrap();
    let again = server.png(&format!("?seed={}", record["seed"]), &tile(0), "image/png");
    assert_eq!(first.bytes().unwrap(), again.bytes().unwrap());
    let other = server.png("", &tile(0), "image/png");
    assert!(
        !other.headers()["restain-provenance"]
            .to_str()
            .unwrap()
            .contains(&record["seed"].to_string())
    );
}

#[test]
fn styles_come_from_where_they_were_asked_for() {
    let server = Server::start(&[]);
    let mut parts = Parts::of(server.bundle());
    let (tiles, references) = ([tile(0), tile(1)], [tile(8)]);
    let ask = |style: Value| {
        let request = json!({"seed": 1, "style": style, "detail": "model"});
        server.tensor(&tiles, &references, &request)
    };
    let own = parts.encode(&tiles[0]);
    let half = own.characteristics.len() / parts.bundle.manifest.geometry.patches();
    let one = |encodings: &restain_engine::Encodings, id: &str| {
        let patch: usize = id.split_once('#').unwrap().1.parse().unwrap();
        encodings.characteristics[patch * half..][..half].to_vec()
    };

    let (variants, _) = ask(json!({"from": "own", "placement": "aligned"}));
    assert!(
        variants[0] == parts.aligned(&own, &own.characteristics),
        "own and aligned is the reconstruction"
    );

    let reference = parts.encode(&references[0]);
    let (variants, provenance) = ask(json!({"from": "reference"}));
    let id = provenance[0]["style"].as_str().unwrap();
    assert!(
        id.starts_with("reference/0#")
            && variants[0] == parts.broadcast(&own, &one(&reference, id)),
        "{id}"
    );
    let (variants, _) = ask(json!({"from": "reference", "placement": "aligned"}));
    assert!(variants[0] == parts.aligned(&own, &reference.characteristics));

    let other = parts.encode(&tiles[1]);
    let (variants, provenance) = ask(json!({"from": "batch"}));
    let id = provenance[0]["style"].as_str().unwrap();
    assert!(
        id.starts_with("tile/1#") && variants[0] == parts.broadcast(&own, &one(&other, id)),
        "{id}"
    );

    let (_, provenance) = ask(json!({"domains": ["south"]}));
    assert_eq!(provenance[0]["domain"], "south");
    let (_, provenance) = ask(json!({"ids": ["north/1"]}));
    assert_eq!(provenance[1]["style"], "north/1");
    let (_, shared) = ask(json!({"share": "request"}));
    assert_eq!(shared[0]["style"], shared[1]["style"]);
}

#[test]
fn strength_goes_from_the_tiles_own_look_to_the_style() {
    let server = Server::start(&[]);
    let mut parts = Parts::of(server.bundle());
    let encodings = parts.encode(&tile(0));
    let ask = |strength: f64| {
        let request = json!({"strength": strength, "seed": 5, "detail": "model"});
        server.tensor(&[tile(0)], &[], &request)
    };
    assert!(ask(0.0).0[0] == parts.aligned(&encodings, &encodings.characteristics));
    let (variants, provenance) = ask(0.5);
    let mut mixed = vec![0.0; encodings.characteristics.len()];
    let style = parts.style(provenance[0]["style"].as_str().unwrap());
    parts.synthesiser.blend_into(&encodings.characteristics, style, 0.5, &mut mixed);
    assert!(variants[0] == parts.aligned(&encodings, &mixed));
}

#[test]
fn styles_are_drawn_wider_or_narrower_than_the_bank_and_again_the_same() {
    let server = Server::start(&[]);
    let bundle = server.bundle();
    let parts = Parts::of(server.bundle());
    let encodings = Parts::of(server.bundle()).encode(&tile(0));
    let ask = |spread: f64, method: &str| {
        let style = json!({"spread": spread, "domains": ["north"]});
        let request = json!({"style": style, "seed": 5, "detail": "model", "method": method});
        server.tensor(&[tile(0)], &[], &request)
    };
    let (plain, provenance) = ask(1.0, "vit");
    let id = provenance[0]["style"].as_str().unwrap().to_owned();
    assert!(id.starts_with("north/") && !id.contains('~'), "{id}");
    for method in ["vit", "color-match"] {
        let [one, wide, wider] = [1.0, 2.0, 2.0].map(|spread| ask(spread, method));
        assert_eq!(wide.0, wider.0);
        assert_ne!(wide.0, one.0);
        assert_eq!(wide.1[0]["style"], format!("{id}~2"));
    }
    // At 0 a style is the mean of those that there are to choose from.
    let (narrow, provenance) = ask(0.0, "vit");
    assert_eq!(provenance[0]["style"], format!("{id}~0"));
    let north: Vec<_> =
        bundle.styles.entries.iter().filter(|e| e.id.starts_with("north/")).collect();
    let mean: Vec<f32> = (0..north[0].style.0.len())
        .map(|i| north.iter().map(|entry| entry.style.0[i]).sum::<f32>() / north.len() as f32)
        .collect();
    let expected = parts.broadcast(&encodings, &mean);
    let off = |a: &u8, b: &u8| a.abs_diff(*b);
    let most = narrow[0].iter().zip(&expected).map(|(a, b)| off(a, b)).max();
    assert!(most <= Some(1) && narrow != plain, "{most:?}");
}

#[test]
fn the_baselines_are_on_the_same_wire() {
    let server = Server::start(&[]);
    let bundle = server.bundle();
    let encoded = server.metric("restain_tiles_total");
    let ask = |method: &str| server.tensor(&[tile(0)], &[], &json!({"method": method, "seed": 2}));
    let (variants, provenance) = ask("color-match");
    let id = provenance[0]["style"].as_str().unwrap();
    let target = bundle.styles.entries.iter().find(|entry| entry.id == id).unwrap().source;
    let mut expected = vec![0; tile(0).pixels.len()];
    color_match(&tile(0).pixels, &ChannelStats::from_tile(&tile(0).pixels), &target, &mut expected);
    assert!(variants[0] == expected);
    assert!(ask("identity").0[0] == tile(0).pixels);
    let (variants, provenance) = ask("hed-jitter");
    assert!(variants[0] != tile(0).pixels && provenance[0]["style"].is_null());
    assert_eq!(server.metric("restain_tiles_total"), encoded, "no baseline costs an encoding");
}
