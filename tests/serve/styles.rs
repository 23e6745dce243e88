//! The style bank: domains that come and go, domains that nobody may use, and mixtures.

use std::path::Path;

use reqwest::blocking::multipart::{Form, Part};
use restain_bundle::StyleBank;
use restain_bundle::codec::RgbImage;
use restain_method::color::{ChannelStats, color_match};
use restain_method::{Style, exemplar};
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};

use crate::harness::{Parts, SAFETENSORS, Server, edit_manifest, picture, png, tensor_body, tile};

/// Tiles of another look: darker, and each different.
fn reference(number: usize) -> RgbImage {
    let mut tile = tile(100 + number);
    tile.pixels.iter_mut().for_each(|value| *value -= 60);
    tile
}

fn add(server: &Server, fields: &[(&'static str, &str)], tiles: &[RgbImage]) -> (u16, Value) {
    let form = fields
        .iter()
        .fold(Form::new(), |form, (name, value)| form.text(*name, (*value).to_owned()));
    let form = tiles.iter().fold(form, |form, tile| form.part("tile", Part::bytes(png(tile))));
    let response = server.client.post(server.url("/v1/styles")).multipart(form).send().unwrap();
    (response.status().as_u16(), response.json().unwrap())
}

fn remove(server: &Server, domain: &str) -> (u16, Value) {
    let response =
        server.client.delete(server.url(&format!("/v1/styles/{domain}"))).send().unwrap();
    (response.status().as_u16(), response.json().unwrap_or_default())
}

/// `domain origin styles`, each.
fn domains(server: &Server) -> Vec<String> {
    let styles: Value = server.get("/v1/styles").json().unwrap();
    let each = |domain: &Value| {
        let count = domain["styles"].as_array().unwrap().len();
        format!(
            "{} {} {count}",
            domain["domain"].as_str().unwrap(),
            domain["origin"].as_str().unwrap()
        )
    };
    styles["domains"].as_array().unwrap().iter().map(each).collect()
}

fn names(server: &Server) -> Vec<String> {
    domains(server).iter().map(|domain| domain.split(' ').next().unwrap().to_owned()).collect()
}

/// What a refused request is told.
#[track_caller]
fn refused((status, problem): (u16, Value), expected: u16, code: &str, said: &str) {
    assert_eq!((status, problem["code"].as_str()), (expected, Some(code)), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains(said), "{problem}");
}

#[track_caller]
fn augment_refused(server: &Server, request: &Value, expected: u16, code: &str, said: &str) {
    let body = tensor_body(&[tile(0)], &[], request);
    let response = server.post("").header("content-type", SAFETENSORS).body(body).send().unwrap();
    refused((response.status().as_u16(), response.json().unwrap()), expected, code, said);
}

/// The file of added styles in a state directory.
fn state_file(state: &Path) -> std::path::PathBuf {
    let files: Vec<_> = std::fs::read_dir(state.join("styles"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

#[test]
fn an_added_domain_is_used_where_it_is_named_and_changes_nothing_else() {
    let server = Server::start(&[]);
    let mut parts = Parts::of(server.bundle());
    let own = server.bundle().styles.domains;
    let plain = json!({"variants": 8, "seed": 3});
    let without = json!({"variants": 8, "seed": 3, "style": {"exclude_domains": ["north"]}});
    let before =
        (server.tensor(&[tile(0), tile(1)], &[], &plain), server.tensor(&[tile(0)], &[], &without));

    let tiles: Vec<RgbImage> = (0..5).map(reference).collect();
    let (status, added) = add(&server, &[("domain", "night"), ("styles", "3")], &tiles);
    assert_eq!(status, 201, "{added}");
    assert_eq!(
        (&added["origin"], &added["persistent"], &added["model"]),
        (&json!("added"), &json!(false), &json!("tiny"))
    );
    let ids: Vec<&str> = added["styles"]
        .as_array()
        .unwrap()
        .iter()
        .map(|style| style["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["night/0", "night/1", "night/2"]);
    assert_eq!(names(&server), [own.clone(), vec!["night".to_owned()]].concat());
    assert!(server.get("/metrics").text().unwrap().contains(r#"restain_styles{domain="night"} 3"#));
    assert!(
        server.tensor(&[tile(0), tile(1)], &[], &plain) == before.0,
        "what names nothing gives what it gave"
    );
    assert!(server.tensor(&[tile(0)], &[], &without) == before.1, "and so does what only excludes");

    // The very styles that the trainer would have chosen.
    let pixels: Vec<&[u8]> = tiles.iter().map(|tile| &tile.pixels[..]).collect();
    let chosen: Vec<Style> = exemplar::typical(&pixels, 3)
        .into_iter()
        .map(|index| {
            let encodings = parts.encode(&tiles[index]);
            let (anatomy, characteristics) =
                (&encodings.anatomy[..], &encodings.characteristics[..]);
            let patch = exemplar::representative(
                &parts.synthesiser,
                &tiles[index].pixels,
                anatomy,
                characteristics,
            );
            exemplar::style_of(parts.synthesiser.geometry(), characteristics, patch)
        })
        .collect();
    let encodings = parts.encode(&tile(0));
    for style in [json!({"domains": ["night"]}), json!({"ids": ["night/0", "night/1", "night/2"]})]
    {
        let (variants, provenance) =
            server.tensor(&[tile(0)], &[], &json!({"variants": 4, "seed": 1, "style": style}));
        for (variant, record) in variants.iter().zip(provenance.as_array().unwrap()) {
            let n: usize =
                record["style"].as_str().unwrap().strip_prefix("night/").unwrap().parse().unwrap();
            assert!(
                record["domain"] == "night"
                    && *variant == parts.broadcast(&encodings, &chosen[n].0),
                "{record}"
            );
        }
    }

    refused(
        add(&server, &[("domain", "night")], &tiles),
        409,
        "domain_exists",
        "was added already",
    );
    refused(
        add(&server, &[("domain", "south")], &tiles),
        409,
        "domain_exists",
        "the bundle itself",
    );
    refused(remove(&server, "south"), 409, "domain_of_bundle", "exclude_domains");
    assert_eq!(remove(&server, "night").0, 204);
    refused(remove(&server, "night"), 404, "domain_not_found", "none");
    assert_eq!(names(&server), own);
    assert!(!server.get("/metrics").text().unwrap().contains("night"));
    augment_refused(
        &server,
        &json!({"style": {"domains": ["night"]}}),
        422,
        "unknown_domain",
        "north, south, west",
    );
}

#[test]
fn a_tensor_adds_a_domain_too_and_the_order_of_adding_does_not_matter() {
    let server = Server::start(&[]);
    let by_tensor = |domain: &str, tiles: &[RgbImage]| {
        let body = tensor_body(
            tiles,
            &[],
            &json!({"domain": domain, "model": "tiny/1", "styles": 2, "resize": true}),
        );
        let response = server
            .client
            .post(server.url("/v1/styles"))
            .header("content-type", SAFETENSORS)
            .body(body)
            .send()
            .unwrap();
        assert_eq!(response.status(), 201, "{}", response.text().unwrap());
    };
    let large: Vec<RgbImage> = (0..2).map(|number| picture(number, 64, 64)).collect();
    by_tensor("b", &large);
    by_tensor("a", &[reference(0), reference(1)]);
    let asked = || {
        server.tensor(
            &[tile(0)],
            &[],
            &json!({"variants": 8, "seed": 5, "style": {"domains": ["b", "a", "north"]}}),
        )
    };
    let first = asked();
    assert_eq!(remove(&server, "b").0, 204);
    by_tensor("b", &large);
    assert!(asked() == first);
}

#[test]
fn what_was_acknowledged_is_there_after_a_kill_and_a_restart() {
    let state = tempfile::tempdir().unwrap();
    let flags = ["--state-dir", state.path().to_str().unwrap()];
    let server = Server::start(&flags);
    let named = json!({"variants": 4, "seed": 2, "style": {"domains": ["night", "day"]}});
    for (domain, from) in [("night", 0), ("day", 5)] {
        let (status, added) =
            add(&server, &[("domain", domain)], &[reference(from), reference(from + 1)]);
        assert_eq!((status, &added["persistent"]), (201, &json!(true)));
    }
    let before = server.tensor(&[tile(0)], &[], &named);
    assert_eq!(add(&server, &[("domain", "last")], &[reference(9)]).0, 201);
    server.signal("KILL");
    assert!(!server.wait().success());

    std::fs::write(state.path().join("styles/abc.safetensors.part"), "of a crash").unwrap();
    let server = Server::start(&flags);
    let kept = ["day added 2", "last added 1", "night added 2"];
    assert_eq!(domains(&server)[3..], kept);
    assert!(server.tensor(&[tile(0)], &[], &named) == before);
    assert_eq!(remove(&server, "last").0, 204);
    server.signal("KILL");
    assert!(!server.wait().success());

    let server = Server::start(&flags);
    assert_eq!(domains(&server)[3..], ["day added 2", "night added 2"]);
    // It is a style bank like any other, and there is nothing else.
    let bank =
        StyleBank::from_bytes(&std::fs::read(state_file(state.path())).unwrap(), 24).unwrap();
    assert_eq!(bank.domains, ["day", "night"]);

    // Of this bundle, and of no other: with other contents it has another digest.
    edit_manifest(&server.models().join("tiny/1"), |manifest| {
        manifest["quality"]["note"] = "other".into()
    });
    assert_eq!(server.post_json("/v1/models/tiny/load", &json!({})).0, 200);
    assert_eq!(domains(&server).len(), 3);
    augment_refused(&server, &named, 422, "unknown_domain", "`night`");
}

#[test]
fn what_is_kept_in_memory_outlives_unloading_the_bundle() {
    let server = Server::start(&[]);
    assert_eq!(add(&server, &[("domain", "night")], &[reference(0)]).0, 201);
    assert_eq!(server.post_json("/v1/models/tiny/unload", &json!({})).0, 200);
    assert_eq!(server.get("/v1/styles").status(), 404);
    assert_eq!(server.post_json("/v1/models/tiny/load", &json!({})).0, 200);
    assert_eq!(domains(&server)[3..], ["night added 1"]);
}

#[test]
fn a_damaged_file_is_set_aside_and_does_not_stop_the_server() {
    let state = tempfile::tempdir().unwrap();
    let flags = ["--state-dir", state.path().to_str().unwrap()];
    let server = Server::start(&flags);
    assert_eq!(add(&server, &[("domain", "night")], &[reference(0)]).0, 201);
    drop(server);
    let file = state_file(state.path());
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() - 5]).unwrap();
    let server = Server::start(&flags);
    assert_eq!(domains(&server).len(), 3);
    assert!(server.log().contains("is set aside"), "{}", server.log());
    let aside = state_file(state.path());
    assert!(
        aside.to_str().unwrap().ends_with(".damaged-1")
            && std::fs::read(&aside).unwrap().len() == bytes.len() - 5
    );
    assert_eq!(add(&server, &[("domain", "night")], &[reference(0)]).0, 201);
}

#[test]
fn what_cannot_be_kept_is_not_added() {
    let state = tempfile::tempdir().unwrap();
    let server = Server::start(&["--state-dir", state.path().to_str().unwrap()]);
    std::fs::remove_dir_all(state.path()).unwrap();
    refused(
        add(&server, &[("domain", "night")], &[reference(0)]),
        500,
        "state_not_written",
        "was not made",
    );
    assert_eq!(domains(&server).len(), 3);
    std::fs::create_dir_all(state.path().join("styles")).unwrap();
    assert_eq!(add(&server, &[("domain", "night")], &[reference(0)]).0, 201);
}

#[test]
fn a_domain_that_cannot_be_is_refused_by_name() {
    let server = Server::start(&["--max-tiles", "3"]);
    let tiles = [reference(0)];
    for domain in ["", ".", "..", "a/b", "../x", "a b", "é"] {
        refused(
            add(&server, &[("domain", domain)], &tiles),
            422,
            "domain_name",
            &format!("domain is {domain:?}"),
        );
    }
    for styles in ["0", "257"] {
        refused(
            add(&server, &[("domain", "a"), ("styles", styles)], &tiles),
            422,
            "styles_out_of_range",
            "from 1 to 256",
        );
    }
    refused(
        add(&server, &[("domain", "a"), ("styles", "many")], &tiles),
        400,
        "malformed_request",
        "many",
    );
    refused(
        add(&server, &[("domain", "a"), ("domian", "b")], &tiles),
        400,
        "malformed_request",
        "domian",
    );
    refused(
        add(&server, &[("domain", "a"), ("model", "other")], &tiles),
        404,
        "model_not_found",
        "tiny/1",
    );
    refused(add(&server, &[("domain", "a")], &[]), 422, "no_tiles", "no tile");
    refused(
        add(&server, &[("domain", "a")], &[0, 1, 2, 3].map(reference)),
        413,
        "too_many_tiles",
        "at most 3",
    );
    refused(add(&server, &[("domain", "a")], &[picture(0, 20, 20)]), 422, "tile_size", "20×20");
    let white = RgbImage { pixels: vec![250; tile(0).pixels.len()], ..tile(0) };
    refused(
        add(&server, &[("domain", "a")], &[white.clone(), white]),
        422,
        "no_styles",
        "none of the 2 tiles",
    );
    let sent = server
        .client
        .post(server.url("/v1/styles"))
        .header("content-type", "image/png")
        .body(png(&tile(0)))
        .send()
        .unwrap();
    refused(
        (sent.status().as_u16(), sent.json().unwrap()),
        415,
        "unsupported_media_type",
        "multipart/form-data",
    );
    assert_eq!(domains(&server).len(), 3);
    assert_eq!(server.metric("restain_inflight_bytes"), 0.0);
}

#[test]
fn a_forbidden_domain_is_used_by_nobody() {
    let state = tempfile::tempdir().unwrap();
    let state_dir = state.path().to_str().unwrap();
    let server = Server::start(&["--state-dir", state_dir]);
    assert_eq!(add(&server, &[("domain", "night")], &[reference(0)]).0, 201);
    assert_eq!(add(&server, &[("domain", "day")], &[reference(1)]).0, 201);
    let excluding = server.tensor(
        &[tile(0)],
        &[],
        &json!({"variants": 16, "seed": 4, "style": {"exclude_domains": ["south"]}}),
    );
    drop(server);

    let server = Server::start(&[
        "--state-dir",
        state_dir,
        "--forbid-domain",
        "south,night",
        "--forbid-domain",
        "elsewhere",
    ]);
    assert_eq!(names(&server), ["north", "west", "day"]);
    let models: Value = server.get("/v1/models").json().unwrap();
    assert_eq!(models["models"][0]["domains"], json!(["north", "west", "day"]));
    assert!(!server.get("/metrics").text().unwrap().contains(r#"domain="south""#));
    // As if every request had excluded it.
    assert!(server.tensor(&[tile(0)], &[], &json!({"variants": 16, "seed": 4})) == excluding);
    assert!(
        server.tensor(
            &[tile(0)],
            &[],
            &json!({"variants": 16, "seed": 4, "style": {"exclude_domains": ["south"]}})
        ) == excluding
    );
    for style in [
        json!({"domains": ["north", "south"]}),
        json!({"ids": ["south/0"]}),
        json!({"domains": ["night"]}),
        json!({"blend": [{"id": "north/0", "weight": 1}, {"id": "south/0", "weight": 1}]}),
        json!({"blend": [{"domain": "south", "weight": 1}]}),
        json!({"domains": ["elsewhere"]}),
    ] {
        for method in ["vit", "color-match", "identity"] {
            augment_refused(
                &server,
                &json!({"style": style, "method": method}),
                422,
                "domain_forbidden",
                "never to use",
            );
        }
    }
    refused(
        add(&server, &[("domain", "elsewhere")], &[reference(0)]),
        422,
        "domain_forbidden",
        "elsewhere",
    );
    // It is kept all the same, for when it is allowed again.
    assert_eq!(add(&server, &[("domain", "dusk")], &[reference(2)]).0, 201);
    drop(server);
    assert_eq!(names(&Server::start(&["--state-dir", state_dir]))[3..], ["day", "dusk", "night"]);
}

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
        server.tensor(&[tile(0)], &[], &json!({"style": fixed, "seed": 1}));
    assert!(variants[0] == parts.broadcast(&encodings, &blended.0));
    assert_eq!(
        (&provenance[0]["style"], &provenance[0]["domain"]),
        (&json!("north/1*0.75+south/0*0.25"), &Value::Null)
    );
    let (variants, _) =
        server.tensor(&[tile(0)], &[], &json!({"style": fixed, "seed": 1, "strength": 0.5}));
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
        server.tensor(&[tile(0)], &[], &json!({"style": drawn, "seed": 6, "variants": variants}))
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
        let (variants, _) =
            server.tensor(&[tile(0)], &[], &json!({"style": {"ids": [style["id"]]}}));
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
