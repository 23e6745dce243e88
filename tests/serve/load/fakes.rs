//! The load generator against servers that force a fault.

use super::*;

/// A server that holds the first `most` tiles that it is sent, and answers for keys as the contract
/// says.
fn keeper(most: usize) -> (String, tokio::runtime::Runtime) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let models = json!({"models": [{"name": "keeper", "version": "1", "default": true, "geometry": {"image_size": 16}}]});
    let held = Arc::new(Mutex::new(HashSet::new()));
    let augment = move |headers: HeaderMap, body: axum::body::Bytes| async move {
        assert_eq!(
            (&headers["content-type"], &headers["accept"]),
            (&SAFETENSORS.parse().unwrap(), &SAFETENSORS.parse().unwrap())
        );
        answer(&body, &mut held.lock().unwrap(), most)
    };
    let router = axum::Router::new()
        .route("/v1/models", get(move || async { axum::Json(models) }))
        .route("/v1/augment", post(augment));
    runtime.spawn(axum::serve(listener, router).into_future());
    (address, runtime)
}

fn answer(body: &[u8], held: &mut HashSet<String>, most: usize) -> Response {
    let file = SafeTensors::deserialize(body).unwrap();
    let keys: Vec<String> = if let Ok(tiles) = file.tensor("tiles") {
        assert_eq!(tiles.shape()[1..], [16, 16, 3]);
        let size = [16u32.to_le_bytes(), 16u32.to_le_bytes()].concat();
        let key = |pixels: &[u8]| blake3::hash(&[&size, pixels].concat()).to_string();
        tiles.data().chunks_exact(16 * 16 * 3).map(key).collect()
    } else {
        let keys: Vec<_> = file
            .tensor("keys")
            .unwrap()
            .data()
            .chunks_exact(32)
            .map(|key| blake3::Hash::from_slice(key).unwrap().to_string())
            .collect();
        if !keys.iter().all(|key| held.contains(key)) {
            return (
                StatusCode::NOT_FOUND,
                json!({"code": "tile_not_held", "detail": "send it"}).to_string(),
            )
                .into_response();
        }
        keys
    };
    let room = most - held.len();
    held.extend(keys.iter().take(room).cloned());
    let records: Vec<Value> = keys.iter().map(|key| json!({"tile_key": key})).collect();
    let pixels = vec![0; keys.len() * 16 * 16 * 3];
    let view = TensorView::new(Dtype::U8, vec![keys.len(), 1, 16, 16, 3], &pixels).unwrap();
    let metadata = [("provenance".to_owned(), json!(records).to_string())].into();
    (
        [("content-type", SAFETENSORS)],
        safetensors::serialize([("variants", view)], Some(metadata)).unwrap(),
    )
        .into_response()
}

#[test]
fn by_key_every_tile_is_sent_once_and_then_named() {
    let by_key = |most: usize| {
        let (address, _runtime) = keeper(most);
        let flags = [
            "--send",
            "key",
            "--distinct",
            "40",
            "--tiles-per-request",
            "1",
            "--requests",
            "60",
            "--check",
            "--json",
            "-",
        ];
        let output = restain().args(["load", &address]).args(flags).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let report = by_key(40);
    assert_eq!(
        (count(&report["requests"]["ok"]), report["errors"].as_object().unwrap().len()),
        (60, 0),
        "{report}"
    );
    let report = by_key(20);
    let missing = count(&report["errors"]["tile_not_held"]["count"]);
    assert!(missing > 0 && missing + count(&report["requests"]["ok"]) == 60, "{report}");
}

/// A server that says that it serves tiles, and then takes requests without a word: hangs up at
/// once, or never answers.
fn mute(hangs_up: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let (mut first, _) = listener.accept().unwrap();
        let mut asked = BufReader::new(first.try_clone().unwrap()).lines().map_while(Result::ok);
        assert!(asked.any(|line| line.is_empty()), "the head of a request has an end");
        let models = r#"{"models": [{"name": "m", "version": "1", "default": true, "geometry": {"image_size": 16}}]}"#;
        write!(first, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{models}", models.len())
            .unwrap();
        let mut kept = vec![first];
        for stream in listener.incoming() {
            // Closing with the request unread breaks the connection.
            kept.extend(stream.ok().filter(|_| !hangs_up));
        }
    });
    address
}

#[test]
fn who_hangs_up_and_who_never_answers_are_told_apart() {
    for (hangs_up, kind) in [(true, "broken"), (false, "timeout")] {
        let flags =
            ["--requests", "6", "--tiles-per-request", "1", "--timeout", "200ms", "--json", "-"];
        let output = restain().args(["load", &mute(hangs_up)]).args(flags).output().unwrap();
        let report: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        assert_eq!(count(&report["errors"][kind]["count"]), 6, "{report}");
        assert_eq!(
            (count(&report["requests"]["begun"]), count(&report["requests"]["errored"])),
            (6, 6)
        );
    }
}
