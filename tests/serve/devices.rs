//! Where encoders run, on a machine that has a CPU and no GPU, or with a library that knows of
//! none.

use reqwest::blocking::Response;
use serde_json::Value;

use crate::harness::{Server, models, restain, text, tile};

fn model(server: &Server) -> Value {
    let models: Value = server.get("/v1/models").json().unwrap();
    models["models"][0].clone()
}

#[test]
fn a_gpu_that_is_not_there_is_named_and_nothing_is_served() {
    let models = models();
    for device in ["cuda:0", "tensorrt:0"] {
        let output = restain()
            .args([
                "serve",
                "--http",
                "127.0.0.1:0",
                "--grpc",
                "127.0.0.1:0",
                "--devices",
                device,
                "--models",
            ])
            .arg(models.path())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{device}");
        let said = text(&output.stderr);
        assert!(
            said.contains(&format!("refused on {device}"))
                && said.contains("make onnxruntime-cuda"),
            "{said}"
        );
    }
}

#[test]
fn who_allows_the_cpu_in_place_of_a_gpu_gets_it_and_is_told() {
    let server = Server::start(&["--devices", "cuda:0", "--fallback-devices", "cpu"]);
    let model = model(&server);
    assert_eq!(
        (&model["provider"], &model["precision"]),
        (&"cpu".into(), &"fp32".into()),
        "{model}"
    );
    assert!(server.get("/metrics").text().unwrap().contains("precision=\"fp32\",provider=\"cpu\""));
    let log = server.log();
    assert!(log.contains("falling back") && log.contains("cuda:0"), "{log}");
    let answer: Response = server.png("?variants=1", &tile(0), "image/png");
    assert_eq!(answer.status(), 200);
}

#[test]
fn several_encoders_of_one_device_give_what_one_gives() {
    let tiles: Vec<_> = (0..8).map(tile).collect();
    let ask = serde_json::json!({"variants": 2, "seed": 3});
    let of = |flags: &[&str]| Server::start(flags).tensor(&tiles, &[], &ask).0;
    assert_eq!(of(&["--encoders-per-device", "3", "--max-batch", "2"]), of(&[]));
    let output = restain().args(["serve", "--encoders-per-device", "17"]).output().unwrap();
    assert!(
        text(&output.stderr).contains("`--encoders-per-device 17`: must be from 0 to 16"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn a_precision_that_a_bundle_lacks_is_named_with_those_it_has() {
    let models = models();
    let output = restain()
        .args([
            "serve",
            "--http",
            "127.0.0.1:0",
            "--grpc",
            "127.0.0.1:0",
            "--precision",
            "fp16",
            "--models",
        ])
        .arg(models.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("fp16") && said.contains("fp32"), "{said}");
}
