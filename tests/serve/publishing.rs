//! A bundle that is being made, one without styles, and one that is replaced, under a server that
//! polls.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use restain_bundle::{Bundle, BundleDraft, STYLES_FILE, StyleBank};
use serde_json::{Value, json};

use crate::harness::{Server, fixture, install, restain, text, tile, until};

/// The fixture as a draft of NAME/VERSION, with everything but styles.
fn draft(models: &Path, name: &str, version: &str) -> BundleDraft {
    let made = Bundle::open(&fixture()).unwrap();
    let (place, mut manifest) = (models.join(name).join(version), made.manifest.clone());
    (manifest.name, manifest.version) = (name.to_owned(), version.to_owned());
    let mut draft = BundleDraft::new(&place, false, manifest).unwrap();
    for file in made.manifest.files.keys().filter(|file| *file != STYLES_FILE) {
        draft.add(file, &std::fs::read(made.dir.join(file)).unwrap()).unwrap();
    }
    draft
}

fn styles() -> StyleBank {
    Bundle::open(&fixture()).unwrap().styles
}

/// NAME/VERSION of the model that answers a request, or the code and detail of the refusal.
fn answered_by(server: &Server, query: &str) -> Result<String, [String; 2]> {
    let answer: Value = server.png(query, &tile(0), "application/json").json().unwrap();
    let field = |name: &str| answer[name].as_str().map(str::to_owned);
    match field("code") {
        Some(code) => Err([code, field("detail").unwrap()]),
        None => Ok(format!("{}/{}", field("model").unwrap(), field("version").unwrap())),
    }
}

fn is_ready(server: &Server, model: &str) -> bool {
    let models: Value = server.get("/v1/models").json().unwrap();
    models["models"].as_array().unwrap().iter().any(|found| {
        let of = |field: &str| found[field].as_str().unwrap().to_owned();
        format!("{}/{}", of("name"), of("version")) == model && of("state") == "ready"
    })
}

/// Sends requests without a model until `work` is done, of which every one must be answered.
fn while_requests_are_answered(server: &Server, work: impl FnOnce()) {
    struct Done<'a>(&'a AtomicBool);
    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                answered_by(server, "").unwrap();
            }
        });
        // Whatever becomes of the work, the caller ends.
        let _done = Done(&done);
        work();
    });
}

#[test]
fn a_bundle_that_is_being_made_is_seen_by_nobody_before_it_is_complete() {
    let server = Server::start(&["--poll-models", "20ms"]);
    while_requests_are_answered(&server, || {
        let mut second = draft(server.models(), "tiny", "2");
        // What a kill leaves at this moment: everything but styles, manifest included.
        let killed = second.so_far().unwrap().dir;
        assert!(killed.join("bundle.json").is_file());
        // A later bundle is there, so the server has looked.
        install(server.models(), "other", "1");
        until("the server has looked", || is_ready(&server, "other/1"));
        assert_eq!(answered_by(&server, "").unwrap(), "tiny/1");
        assert!(!is_ready(&server, "tiny/2"));

        second.set_styles(styles()).unwrap();
        second.publish().unwrap();
        until("the second version answers", || answered_by(&server, "").unwrap() == "tiny/2");
    });
    assert!(!server.log().contains("no styles"), "{}", server.log());
}

#[test]
fn a_version_without_styles_is_not_the_default_until_it_has_some() {
    let server = Server::start(&["--poll-models", "20ms"]);
    let second = server.models().join("tiny/2");
    while_requests_are_answered(&server, || {
        draft(server.models(), "tiny", "2").publish().unwrap();
        until("the second version is loaded", || is_ready(&server, "tiny/2"));
        for query in ["", "?model=tiny", "?model=tiny/1"] {
            assert_eq!(answered_by(&server, query).unwrap(), "tiny/1", "{query}");
        }
        assert!(server.log().contains("it is not made the default"), "{}", server.log());

        let [code, detail] = answered_by(&server, "?model=tiny/2").unwrap_err();
        assert_eq!(code, "no_styles");
        assert!(
            detail.contains("tiny/2 has no styles") && detail.contains("restain-train styles"),
            "{detail}"
        );
        assert_eq!(answered_by(&server, "?model=tiny/2&from=own").unwrap(), "tiny/2");

        // Asked for by name, it is refused; the name itself means the version that can answer.
        let pin = json!({"version": "2", "default": true});
        let (status, problem) = server.post_json("/v1/models/tiny/load", &pin);
        assert_eq!((status, problem["code"].as_str()), (422, Some("bundle_refused")), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains("tiny/2 is loaded"), "{problem}");
        let (status, loaded) = server.post_json("/v1/models/tiny/load", &json!({"default": true}));
        assert_eq!(
            (status, loaded["version"].as_str(), loaded["default"].as_bool()),
            (200, Some("2"), Some(false)),
            "{loaded}"
        );

        let mut with_styles = BundleDraft::of(&second).unwrap();
        with_styles.set_styles(styles()).unwrap();
        with_styles.publish().unwrap();
        until("the second version answers", || answered_by(&server, "").unwrap() == "tiny/2");
    });
}

#[test]
fn a_name_whose_styles_may_not_be_used_gives_way_to_the_first_that_has_some() {
    let domains = styles().domains;
    let mut flags = vec!["--poll-models", "20ms"];
    domains.iter().for_each(|domain| flags.extend(["--forbid-domain", domain]));
    let server = Server::start(&flags);
    let [code, detail] = answered_by(&server, "").unwrap_err();
    assert_eq!(code, "no_styles");
    assert!(
        detail.contains("tiny/1 has no styles that this server may use")
            && detail.contains("--forbid-domain"),
        "{detail}"
    );
    let mut other = draft(server.models(), "alpha", "1");
    let mut bank = StyleBank::default();
    let entry = styles().entries.swap_remove(0);
    bank.push("open", entry.style, entry.source);
    other.set_styles(bank).unwrap();
    other.publish().unwrap();
    until("the other name is loaded", || is_ready(&server, "alpha/1"));
    assert_eq!(answered_by(&server, "").unwrap(), "alpha/1");
}

#[test]
fn a_bundle_that_is_replaced_again_and_again_is_always_there() {
    let server = Server::start(&["--poll-models", "1ms"]);
    let place = server.models().join("tiny/1");
    let note = |server: &Server| {
        let told: Value = server.get("/v1/models/tiny").json().unwrap();
        told["models"][0]["quality"]["note"].clone()
    };
    while_requests_are_answered(&server, || {
        for number in 0..30 {
            let mut draft = BundleDraft::of(&place).unwrap();
            draft.manifest.quality = json!({ "note": number });
            draft.publish().unwrap();
        }
        until("the last one is served", || note(&server) == json!(29));
    });
    let log = server.log();
    assert!(!log.contains("refused") && !log.contains("is gone"), "{log}");
}

#[test]
fn check_fails_on_a_bundle_that_cannot_be_served() {
    let home = tempfile::tempdir().unwrap();
    let bundle = draft(home.path(), "tiny", "1").publish().unwrap().dir;
    let checked = || restain().arg("check").arg(&bundle).output().unwrap();
    let refused = checked();
    assert_eq!(refused.status.code(), Some(1));
    let said = text(&refused.stderr);
    assert!(
        said.contains("tiny/1 cannot be served: it has no styles")
            && said.contains("restain-train styles --bundle")
            && said.lines().count() == 1,
        "{said}"
    );
    let mut with_styles = BundleDraft::of(&bundle).unwrap();
    with_styles.set_styles(styles()).unwrap();
    with_styles.publish().unwrap();
    assert_eq!(checked().status.code(), Some(0));
}
