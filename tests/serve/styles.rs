//! The style bank: domains that come and go, domains that nobody may use, and mixtures.

mod kept;

mod numbers;

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
        let request = json!({"variants": 4, "seed": 1, "style": style, "detail": "model"});
        let (variants, provenance) = server.tensor(&[tile(0)], &[], &request);
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
        let body =
            tensor_body(tiles, &[], &json!({"domain": domain, "model": "tiny/1", "styles": 2}));
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
    refused(add(&server, &[("domain", "a")], &[picture(0, 15, 20)]), 422, "tile_size", "15×20");
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
    let server = Server::start(&["--state", state_dir]);
    assert_eq!(add(&server, &[("domain", "night")], &[reference(0)]).0, 201);
    assert_eq!(add(&server, &[("domain", "day")], &[reference(1)]).0, 201);
    let excluding = server.tensor(
        &[tile(0)],
        &[],
        &json!({"variants": 16, "seed": 4, "style": {"exclude_domains": ["south"]}}),
    );
    drop(server);

    let server = Server::start(&[
        "--state",
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
                "excludes on this server",
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
    assert_eq!(names(&Server::start(&["--state", state_dir]))[3..], ["day", "dusk", "night"]);
}
