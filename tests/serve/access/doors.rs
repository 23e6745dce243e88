//! Keys beside the API: the port for probes, `restain key` and `restain load`.

use super::*;

#[test]
fn probes_have_a_port_of_their_own_and_find_nothing_else_there() {
    let keys = Keys::new(&["a"]);
    let addresses = keys.dir.path().join("addresses");
    let server =
        keys.server(&["--probes", "127.0.0.1:0", "--address-file", addresses.to_str().unwrap()]);
    let told = std::fs::read_to_string(&addresses).unwrap();
    let probes = told.lines().nth(2).unwrap();
    let get = |path: &str| server.client.get(format!("http://{probes}{path}")).send().unwrap();
    assert!(["/health/live", "/health/ready"].iter().all(|path| get(path).status() == 200));
    assert_eq!(code(get("/metrics")), "route_not_found");
    assert_eq!(code(get("/v1/models")), "route_not_found");
}

#[test]
fn a_key_that_no_server_would_take_is_not_made() {
    for (words, what) in [
        ("a,b", "letters"),
        ("a --requests-per-second 0", "above 0"),
        ("a --concurrency 0", "concurrency"),
        ("a --tiles 0", "tiles"),
        ("a --priority urgent", "priority"),
        ("a --burst 3", "requests-per-second"),
    ] {
        let said = restain().arg("key").args(words.split(' ')).output().unwrap();
        let text = String::from_utf8(said.stderr).unwrap();
        assert!(
            said.status.code() == Some(2) && said.stdout.is_empty() && text.contains(what),
            "{words}: {text}"
        );
    }
}

#[test]
fn the_load_generator_shows_a_key_to_the_server_and_to_nobody_else() {
    let keys = Keys::new(&["a"]);
    let server = keys.server(&[]);
    let load = |more: &[&str], key: Option<&str>| {
        let mut command = restain();
        command
            .args([
                "load",
                &server.url(""),
                "--requests",
                "2",
                "--tiles-per-request",
                "1",
                "--fail-on-error",
            ])
            .args(more);
        key.into_iter().for_each(|key| _ = command.env("RESTAIN_LOAD_KEY", key));
        let Output { status, stdout, stderr } = command.output().unwrap();
        (status.success(), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
    };
    let token = keys.tokens[0].as_str();
    for more in [&[][..], &["--json", "-"], &["--print-config"]] {
        let (done, told) = load(more, Some(token));
        assert!(done && !told.contains(token), "{told}");
    }
    let (done, told) = load(&[], None);
    assert!(!done && told.contains("401"), "{told}");
}
