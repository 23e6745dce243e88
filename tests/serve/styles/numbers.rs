//! Styles as numbers: blends, and the bank as a tensor.

use super::*;

#[test]
fn a_blend_of_styles_is_the_blend_of_their_numbers() {
    let server = Server::start(&[]);
    let mut parts = Parts::of(server.bundle());
    let entry =
        |id: &str| server.bundle().styles.entries.into_iter().find(|entry| entry.id == id).unwrap();
    let encodings = parts.encode(&tile(0));
    let fixed = json!({"blend": [{"id": "north/1", "weight": 3}, {"id": "south/0", "weight": 1}]});
    let (north, south) = (entry("north/1"), entry("south/0"));
    let blended = Style::blend(&[(3.0, &north.style), (1.0, &south.style)]).unwrap();

    let (variants, provenance) =
        server.tensor(&[tile(0)], &[], &json!({"style": fixed, "seed": 1, "detail": "model"}));
    assert!(variants[0] == parts.broadcast(&encodings, &blended.0));
    assert_eq!(
        (&provenance[0]["style"], &provenance[0]["domain"]),
        (&json!("north/1*0.75+south/0*0.25"), &Value::Null)
    );
    let half = json!({"style": fixed, "seed": 1, "strength": 0.5, "detail": "model"});
    let (variants, _) = server.tensor(&[tile(0)], &[], &half);
    let mut mixed = vec![0.0; encodings.characteristics.len()];
    parts.synthesiser.blend_into(&encodings.characteristics, &blended.0, 0.5, &mut mixed);
    assert!(variants[0] == parts.aligned(&encodings, &mixed));

    let (variants, _) = server.tensor(
        &[tile(0)],
        &[],
        &json!({"style": fixed, "seed": 1, "method": "color-match"}),
    );
    let of = |a: [f32; 3], b: [f32; 3]| std::array::from_fn(|c| 0.75 * a[c] + 0.25 * b[c]);
    let target = ChannelStats {
        mean: of(north.source.mean, south.source.mean),
        std: of(north.source.std, south.source.std),
    };
    let mut matched = vec![0; tile(0).pixels.len()];
    color_match(&tile(0).pixels, &ChannelStats::from_tile(&tile(0).pixels), &target, &mut matched);
    // The mean is summed in another order here, and a value may lie between two levels.
    assert!(variants[0].iter().zip(&matched).all(|(&a, &b)| a.abs_diff(b) <= 1));

    // A domain draws anew for each variant, and each variant is what its provenance says.
    let drawn =
        json!({"blend": [{"domain": "south", "weight": 0.5}, {"domain": "south", "weight": 1.5}]});
    let ask = |variants: usize| {
        let request = json!({"style": drawn, "seed": 6, "variants": variants, "detail": "model"});
        server.tensor(&[tile(0)], &[], &request)
    };
    let (variants, provenance) = ask(12);
    let mut seen = std::collections::BTreeSet::new();
    for (variant, record) in variants.iter().zip(provenance.as_array().unwrap()) {
        let (a, b) = record["style"].as_str().unwrap().split_once('+').unwrap();
        let (a, b) =
            (entry(a.strip_suffix("*0.25").unwrap()), entry(b.strip_suffix("*0.75").unwrap()));
        let blended = Style::blend(&[(0.5, &a.style), (1.5, &b.style)]).unwrap();
        assert!(
            record["domain"] == "south" && *variant == parts.broadcast(&encodings, &blended.0),
            "{record}"
        );
        seen.insert(record["style"].to_string());
    }
    assert!(seen.len() > 1, "{seen:?}");
    assert!(ask(3).0 == variants[..3], "a variant depends on its index, not on how many there are");
}

#[test]
fn the_bank_as_a_tensor_holds_the_numbers_that_variants_are_made_of() {
    let server = Server::start(&["--forbid-domain", "south"]);
    assert_eq!(add(&server, &[("domain", "night")], &[reference(0), reference(1)]).0, 201);
    let get = |accept: &str| {
        server.client.get(server.url("/v1/styles")).header("accept", accept).send().unwrap()
    };
    let response = get(SAFETENSORS);
    assert_eq!(
        (response.status().as_u16(), response.headers()["content-type"].to_str().unwrap()),
        (200, SAFETENSORS)
    );
    let body = response.bytes().unwrap();
    let (_, head) = SafeTensors::read_metadata(&body).unwrap();
    let said = |name: &str| {
        serde_json::from_str::<Value>(&head.metadata().as_ref().unwrap()[name]).unwrap()
    };
    let (styles, model) = (said("styles"), said("model"));

    // Both forms tell the same of the same styles, in the same order.
    let bank: Value = get("application/json").json().unwrap();
    let of = |domain: &Value| {
        let placed = |mut style: Value| {
            (style["domain"], style["origin"]) =
                (domain["domain"].clone(), domain["origin"].clone());
            style
        };
        domain["styles"].as_array().unwrap().iter().cloned().map(placed).collect::<Vec<_>>()
    };
    let listed: Vec<Value> = bank["domains"].as_array().unwrap().iter().flat_map(of).collect();
    assert_eq!(styles, json!(listed));
    assert!(
        styles.to_string().contains(r#""id":"night/1""#) && !styles.to_string().contains("south"),
        "{styles}"
    );
    let encoding = server
        .client
        .post(server.url("/v1/encode"))
        .header("content-type", "image/png")
        .body(png(&tile(0)))
        .send()
        .unwrap();
    let (_, encoding) = SafeTensors::read_metadata(&encoding.bytes().unwrap()).unwrap();
    assert_eq!(
        model,
        serde_json::from_str::<Value>(&encoding.metadata().as_ref().unwrap()["model"]).unwrap()
    );

    let mut parts = Parts::of(server.bundle());
    let file = SafeTensors::deserialize(&body).unwrap();
    let view = file.tensor("characteristics").unwrap();
    let half = parts.synthesiser.geometry().half();
    assert_eq!((view.dtype(), view.shape()), (Dtype::F32, &[listed.len(), half][..]));
    let numbers: Vec<f32> =
        view.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let encodings = parts.encode(&tile(0));
    for (style, numbers) in listed.iter().zip(numbers.chunks_exact(half)) {
        let request = json!({"style": {"ids": [style["id"]]}, "detail": "model"});
        let (variants, _) = server.tensor(&[tile(0)], &[], &request);
        assert!(variants[0] == parts.broadcast(&encodings, numbers), "{style}");
    }

    let refusal = get("image/png");
    refused(
        (refusal.status().as_u16(), refusal.json().unwrap()),
        406,
        "not_acceptable",
        SAFETENSORS,
    );
}
