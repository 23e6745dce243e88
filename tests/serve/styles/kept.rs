//! Added domains outlive a restart, a kill and damage.

use super::*;

#[test]
fn what_was_acknowledged_is_there_after_a_kill_and_a_restart() {
    let state = tempfile::tempdir().unwrap();
    let flags = ["--state", state.path().to_str().unwrap()];
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
    let flags = ["--state", state.path().to_str().unwrap()];
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
    let server = Server::start(&["--state", state.path().to_str().unwrap()]);
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
