//! Models come and go while the server runs, and nobody who uses another one notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use clap::{Args, FromArgMatches};
use restain::serve::Config;
use restain::serve::cache::{CacheOptions, EncodingsCache};
use restain::serve::metrics::Metrics;
use restain::serve::models::{LoadAsk, LoadContext, Registry};
use restain::serve::styles::Store;
use serde_json::{Value, json};

use crate::harness::{Server, edit_manifest, fixture, install, models, tile, until};

/// NAME/VERSION of the model that answers a request.
fn answered_by(server: &Server, query: &str) -> String {
    let response = server.png(query, &tile(0), "application/json");
    let status = response.status();
    let answer: Value = response.json().unwrap();
    assert_eq!(status, 200, "{answer}");
    format!("{}/{}", answer["model"].as_str().unwrap(), answer["version"].as_str().unwrap())
}

fn states(server: &Server) -> Vec<String> {
    let models: Value = server.get("/v1/models").json().unwrap();
    let each = |model: &Value| {
        let of = |field: &str| model[field].as_str().unwrap().to_owned();
        format!("{}/{} {}", of("name"), of("version"), of("state"))
    };
    models["models"].as_array().unwrap().iter().map(each).collect()
}

struct StopAtTheEnd<'a>(&'a AtomicBool);

impl Drop for StopAtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Flips the last byte of a bundle's styles.
fn damage(bundle: &std::path::Path) {
    let styles = bundle.join("styles.safetensors");
    let mut bytes = std::fs::read(&styles).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&styles, bytes).unwrap();
}

#[test]
fn a_switch_under_load_costs_not_one_request() {
    let server = Server::start(&[]);
    install(server.models(), "tiny", "2");
    let (stop, by_first, by_second) =
        (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        // Whatever happens below, the callers end.
        let _stop = StopAtTheEnd(&stop);
        let callers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let by = answered_by(&server, "");
                        let count = if by == "tiny/1" { &by_first } else { &by_second };
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let served = |count: &AtomicUsize| {
            let before = count.load(Ordering::Relaxed);
            // A caller who failed has ended, and will not be waited for.
            until("requests are answered", || {
                count.load(Ordering::Relaxed) > before + 5
                    || callers.iter().any(|caller| caller.is_finished())
            });
        };
        served(&by_first);
        let (status, loaded) = server.post_json("/v1/models/tiny/load", &json!({}));
        assert_eq!(
            (status, loaded["version"].as_str(), loaded["default"].as_bool()),
            (200, Some("2"), Some(true)),
            "{loaded}"
        );
        served(&by_second);
        let (status, unloaded) =
            server.post_json("/v1/models/tiny/unload", &json!({"version": "1"}));
        assert_eq!((status, unloaded), (200, json!({"unloaded": ["tiny/1"]})));
        served(&by_second);
        stop.store(true, Ordering::Relaxed);
        callers.into_iter().for_each(|caller| caller.join().unwrap());
    });
    assert_eq!(states(&server), ["tiny/2 ready"]);
    assert_eq!(server.metric("restain_model_info"), 1.0);
    assert!(
        !server.get("/metrics").text().unwrap().contains(r#"version="1""#),
        "the gauge of the first one is gone"
    );
}

#[test]
fn a_broken_bundle_is_refused_with_its_reason_and_the_old_one_serves() {
    let server = Server::start(&[]);
    let second = install(server.models(), "tiny", "2");
    let whole = std::fs::read(second.join("styles.safetensors")).unwrap();
    damage(&second);
    let (status, problem) =
        server.post_json("/v1/models/tiny/load", &json!({"version": "2", "default": true}));
    assert_eq!((status, problem["code"].as_str()), (422, Some("bundle_refused")));
    assert!(
        problem["detail"].as_str().unwrap().contains("styles.safetensors has sha256"),
        "{problem}"
    );
    assert_eq!(answered_by(&server, ""), "tiny/1");
    assert_eq!(states(&server), ["tiny/1 ready", "tiny/2 failed"]);
    let told: Value = server.get("/v1/models/tiny").json().unwrap();
    assert!(told["models"][1]["reason"].as_str().unwrap().contains("styles.safetensors"), "{told}");

    std::fs::write(second.join("styles.safetensors"), whole).unwrap();
    assert_eq!(server.post_json("/v1/models/tiny/load", &json!({"version": "2"})).0, 200);
    assert_eq!(states(&server), ["tiny/2 ready", "tiny/1 ready"]);
    assert_eq!(answered_by(&server, ""), "tiny/2");

    // The same name and version with other contents, and these are broken: what is served is still
    // the old contents.
    damage(&second);
    edit_manifest(&second, |manifest| manifest["quality"]["note"] = "other".into());
    assert_eq!(server.post_json("/v1/models/tiny/load", &json!({"version": "2"})).0, 422);
    assert_eq!(answered_by(&server, "?model=tiny/2"), "tiny/2");
    assert_eq!(states(&server), ["tiny/2 ready", "tiny/1 ready", "tiny/2 failed"]);
}

/// An encoder with a loop that does not end: it is stopped, refused, and in no other's way.
#[test]
fn an_encoder_that_never_ends_is_stopped_and_the_next_bundle_is_loaded() {
    let server = Server::start(&["--encode-timeout", "500ms"]);
    let endless = install(server.models(), "tiny", "2");
    let graph = std::fs::read(fixture().parent().unwrap().join("endless/encoder.onnx")).unwrap();
    std::fs::write(endless.join("encoder.onnx"), &graph).unwrap();
    edit_manifest(&endless, |manifest| {
        let digest = <sha2::Sha256 as sha2::Digest>::digest(&graph);
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        manifest["files"]["encoder.onnx"] = hex.into();
    });
    let load =
        |version: &str| server.post_json("/v1/models/tiny/load", &json!({"version": version}));
    let (status, problem) = load("2");
    assert_eq!((status, &problem["code"]), (422, &json!("bundle_refused")));
    assert!(problem["detail"].as_str().unwrap().contains("longer than 0.5 s"), "{problem}");
    install(server.models(), "tiny", "3");
    assert_eq!(load("3").0, 200);
    assert_eq!(answered_by(&server, ""), "tiny/3");
}

#[test]
fn what_is_loaded_again_is_loaded_only_when_it_has_changed() {
    let server = Server::start(&[]);
    let bundle = |server: &Server| {
        server.get("/v1/models/tiny").json::<Value>().unwrap()["models"][0]["bundle"].clone()
    };
    let (first, loads) =
        (bundle(&server), server.metric("restain_model_load_duration_seconds_count"));
    assert_eq!(server.post_json("/v1/models/tiny/load", &json!({"version": "1"})).0, 200);
    assert_eq!(
        (bundle(&server), server.metric("restain_model_load_duration_seconds_count")),
        (first.clone(), loads)
    );
    edit_manifest(&server.models().join("tiny/1"), |manifest| {
        manifest["quality"]["note"] = "better".into()
    });
    let (status, loaded) = server.post_json("/v1/models/tiny/load", &json!({"version": "1"}));
    assert_eq!((status, &loaded["quality"]["note"]), (200, &json!("better")));
    assert_ne!(bundle(&server), first);
    assert_eq!(states(&server), ["tiny/1 ready"]);
}

#[test]
fn loads_asked_for_at_once_wait_for_each_other_and_are_made_once() {
    let server = Server::start(&[]);
    install(server.models(), "tiny", "2");
    install(server.models(), "tiny", "3");
    let loads = server.metric("restain_model_load_duration_seconds_count");
    std::thread::scope(|scope| {
        let server = &server;
        let load = |version: &'static str| {
            scope.spawn(move || {
                server.post_json("/v1/models/tiny/load", &json!({"version": version}))
            })
        };
        let all: Vec<_> = ["2", "3", "2", "3", "2"].into_iter().map(load).collect();
        for load in all {
            assert_eq!(load.join().unwrap().0, 200);
        }
    });
    assert_eq!(server.metric("restain_model_load_duration_seconds_count"), loads + 2.0);
    assert_eq!(states(&server), ["tiny/3 ready", "tiny/2 ready", "tiny/1 ready"]);
}

#[test]
fn what_is_unloaded_is_not_found_and_the_rest_is_named() {
    let server = Server::start(&[]);
    install(server.models(), "other", "1");
    assert_eq!(server.post_json("/v1/models/other/load", &json!({})).0, 200);
    assert_eq!(answered_by(&server, ""), "tiny/1", "a second name takes the default from nobody");
    let (status, problem) = server.post_json("/v1/models/tiny/unload", &json!({}));
    assert_eq!((status, problem["code"].as_str()), (409, Some("model_is_default")));

    let (status, loaded) = server.post_json("/v1/models/other/load", &json!({"default": true}));
    assert_eq!((status, loaded["default"].as_bool()), (200, Some(true)));
    assert_eq!(answered_by(&server, ""), "other/1");
    assert_eq!(server.post_json("/v1/models/tiny/unload", &json!({})).0, 200);
    let refused: Value = server.png("?model=tiny", &tile(0), "*/*").json().unwrap();
    assert_eq!(
        (refused["status"].as_u64(), refused["code"].as_str()),
        (Some(404), Some("model_not_found"))
    );
    assert!(refused["detail"].as_str().unwrap().ends_with("served models: other/1"), "{refused}");
    assert_eq!(server.get("/v1/models/tiny").status(), 404);
    assert_eq!(server.post_json("/v1/models/tiny/unload", &json!({})).0, 404);

    // The last one may go: there is no other to make the default first.
    assert_eq!(server.post_json("/v1/models/other/unload", &json!({})).0, 200);
    assert_eq!(server.png("", &tile(0), "*/*").status(), 404);
    assert_eq!(server.post_json("/v1/models/tiny/load", &json!({})).0, 200);
    assert_eq!(answered_by(&server, ""), "tiny/1");
}

#[test]
fn a_pinned_version_stays_the_default_and_a_name_follows_its_highest() {
    let server = Server::start(&[]);
    install(server.models(), "tiny", "1.9");
    install(server.models(), "tiny", "1.10");
    assert_eq!(
        server.post_json("/v1/models/tiny/load", &json!({"version": "1.9", "default": true})).0,
        200
    );
    let (_, loaded) = server.post_json("/v1/models/tiny/load", &json!({}));
    assert_eq!(
        (loaded["version"].as_str(), loaded["default"].as_bool()),
        (Some("1.10"), Some(false))
    );
    assert_eq!(
        (answered_by(&server, ""), answered_by(&server, "?model=tiny")),
        ("tiny/1.9".to_owned(), "tiny/1.10".to_owned())
    );
    assert_eq!(server.post_json("/v1/models/tiny/unload", &json!({"version": "1.9"})).0, 409);
    assert_eq!(server.post_json("/v1/models/tiny/load", &json!({"default": true})).0, 200);
    // Going back is unloading the highest: the default is the name, and follows.
    assert_eq!(server.post_json("/v1/models/tiny/unload", &json!({"version": "1.10"})).0, 200);
    assert_eq!(answered_by(&server, ""), "tiny/1.9");
}

#[test]
fn no_name_leads_out_of_the_models_directory() {
    let server = Server::start(&[]);
    let outside = tempfile::tempdir().unwrap();
    install(outside.path(), "tiny", "9");
    let up = format!("../{}/tiny", outside.path().file_name().unwrap().to_str().unwrap());
    for (path, body) in [
        (format!("/v1/models/{}/load", up.replace('/', "%2F")), json!({})),
        ("/v1/models/tiny/load".to_owned(), json!({"version": format!("../{up}/9")})),
        ("/v1/models/tiny/load".to_owned(), json!({"version": ".."})),
        ("/v1/models/%2Ftmp/load".to_owned(), json!({})),
        ("/v1/models/tiny%00/load".to_owned(), json!({})),
        ("/v1/models/..%2Ftiny/unload".to_owned(), json!({})),
    ] {
        let (status, problem) = server.post_json(&path, &body);
        assert_eq!(
            (status, problem["code"].as_str()),
            (422, Some("model_name")),
            "{path} {body}: {problem}"
        );
    }
    let (status, problem) = server.post_json("/v1/models/tiny/load", &json!({"version": "7"}));
    assert_eq!((status, problem["code"].as_str()), (404, Some("model_not_found")));
    assert!(problem["detail"].as_str().unwrap().contains("tiny/1"), "{problem}");
    let (status, problem) = server.post_json("/v1/models/tiny/load", &json!({"vershun": "1"}));
    assert_eq!((status, problem["code"].as_str()), (400, Some("malformed_request")));
}

#[test]
fn polling_loads_what_is_new_and_unloads_what_is_gone() {
    let server = Server::start(&["--poll-models", "20ms"]);
    let second = install(server.models(), "tiny", "2");
    until("the new version is served", || states(&server) == ["tiny/2 ready", "tiny/1 ready"]);

    // Unloaded on request: that its directory is there is no reason to load it again.
    assert_eq!(server.post_json("/v1/models/tiny/unload", &json!({"version": "2"})).0, 200);
    let third = install(server.models(), "tiny", "3");
    until("the third version is served", || states(&server) == ["tiny/3 ready", "tiny/1 ready"]);
    edit_manifest(&second, |manifest| manifest["quality"]["note"] = "another".into());
    until("the second has changed", || {
        states(&server) == ["tiny/3 ready", "tiny/2 ready", "tiny/1 ready"]
    });

    let broken = install(server.models(), "broken", "1");
    damage(&broken);
    edit_manifest(&broken, |manifest| {
        manifest["quality"]["note"] = "so that it is seen as it is".into()
    });
    until("the broken one is refused", || states(&server).contains(&"broken/1 failed".to_owned()));
    std::fs::remove_dir_all(&second).unwrap();
    until("the second is gone", || {
        !states(&server).iter().any(|state| state.starts_with("tiny/2"))
    });
    // Each of the two files is written in two steps, and may be seen between them.
    assert!(
        server.log().matches("a bundle was refused").count() <= 4,
        "once for each state it was seen in: {}",
        server.log()
    );

    // The default: its name lives on in the first version, so it may go.
    std::fs::remove_dir_all(&third).unwrap();
    until("the default falls to the next version", || answered_by(&server, "") == "tiny/1");
}

#[test]
fn an_unloaded_model_gives_back_its_memory_when_the_last_request_lets_go() {
    let models = models();
    install(models.path(), "tiny", "2");
    let command = Config::augment_args(clap::Command::new("serve"));
    let flags = [
        "serve",
        "--threads",
        "1",
        "--max-batch",
        "1",
        "--models",
        models.path().to_str().unwrap(),
    ];
    let config =
        Config::from_arg_matches(&command.get_matches_from(flags)).unwrap().checked().unwrap();
    let metrics = Arc::new(Metrics::new().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let options = CacheOptions { memory_bytes: 0, disk: None };
    let cache = runtime.block_on(EncodingsCache::open(&options, Arc::clone(&metrics))).unwrap();
    let styles = Store::open(None, &[], Arc::clone(&metrics)).unwrap();
    let context = LoadContext::open(config, cache, metrics, styles, false).unwrap();
    let registry = Registry::open(context).unwrap();
    // A worker is two threads: one assembles, one encodes.
    assert_eq!(runtime.block_on(registry.workers()), 4);

    let held = registry.find(Some("tiny/1")).unwrap();
    let gone = Arc::downgrade(&held);
    runtime.block_on(registry.unload("tiny", Some("1"))).unwrap();
    assert_eq!(
        registry.find(Some("tiny/1")).err().unwrap().detail,
        "no model `tiny/1` is served; served models: tiny/2"
    );
    assert_eq!(runtime.block_on(registry.workers()), 4, "whoever holds it can still work with it");
    drop(held);
    assert!(gone.upgrade().is_none());
    until("its worker has ended", || runtime.block_on(registry.workers()) == 2);

    // Loading it again many times leaves as many workers as there are models.
    for note in 0..5 {
        edit_manifest(&models.path().join("tiny/2"), |manifest| {
            manifest["quality"]["note"] = note.into()
        });
        let ask =
            LoadAsk { name: "tiny".to_owned(), version: Some("2".to_owned()), default: false };
        runtime.block_on(registry.load(ask)).unwrap();
    }
    until("one worker is left", || runtime.block_on(registry.workers()) == 2);
    let workers = runtime.block_on(registry.close());
    workers.into_iter().for_each(|worker| worker.join().unwrap());
}
