//! A tile's key does not open another's tile: encodings are held for each access key.

use restain::serve::transport::grpc::proto;
use restain::serve::transport::grpc::proto::augment_stream_response::Result as Outcome;
use restain::serve::transport::oip::proto as oip;
use restain::serve::transport::oip::proto::grpc_inference_service_client as oip_client;
use restain_bundle::codec::TileKey;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio_stream::StreamExt;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Status};

use super::access::Keys;
use super::grpc::{channel, client, pixels, request};
use crate::harness::{SAFETENSORS, Server, key_body, read_tensor, tensor_body, tile};

/// What a wire answers to a tile's key: the pixels of its variant, or that it is not held.
type Answer = Option<Vec<u8>>;

fn post(server: &Server, token: &str, path: &str, kind: &str, body: Vec<u8>) -> (u16, Vec<u8>) {
    let ask = server.client.post(server.url(path)).bearer_auth(token).header("content-type", kind);
    let answer = ask.header("accept", SAFETENSORS).body(body).send().unwrap();
    (answer.status().as_u16(), answer.bytes().unwrap().to_vec())
}

fn not_held(status: u16, body: &[u8]) {
    let text = String::from_utf8_lossy(body);
    assert!(status == 404 && text.contains("tile_not_held"), "{status} {text}");
}

fn signed<T>(token: &str, message: T) -> Request<T> {
    let mut metadata = MetadataMap::new();
    metadata.insert("authorization", format!("Bearer {token}").parse().unwrap());
    Request::from_parts(metadata, Default::default(), message)
}

fn found(answer: Result<Vec<u8>, Status>) -> Answer {
    match answer {
        Ok(pixels) => Some(pixels),
        Err(status) => {
            assert_eq!(status.code(), Code::NotFound, "{status}");
            None
        }
    }
}

fn by_http(server: &Server, token: &str, key: &TileKey) -> [Answer; 4] {
    let keys = [key.to_string()];
    let request = json!({"seed": 7});
    let tensor = post(server, token, "/v1/augment", SAFETENSORS, key_body(&keys, &request));
    let json = json!({"keys": keys, "request": request}).to_string();
    let json = post(server, token, "/v1/augment", "application/json", json.into());
    let variant = |(status, body): (u16, Vec<u8>)| match status {
        200 => Some(read_tensor(&body).0[0].clone()),
        _ => {
            not_held(status, &body);
            None
        }
    };
    let (status, body) =
        post(server, token, "/v1/encode", SAFETENSORS, key_body(&keys, &json!({})));
    let encoded = match status {
        200 => Some(Vec::new()),
        _ => {
            not_held(status, &body);
            None
        }
    };
    let input = json!({"name": "KEYS", "datatype": "BYTES", "shape": [1], "data": keys});
    let infer =
        json!({"inputs": [input], "outputs": [{"name": "VARIANTS"}], "parameters": {"seed": 7}});
    let (status, body) =
        post(server, token, "/v2/models/tiny/infer", "application/json", infer.to_string().into());
    let inferred = match status {
        200 => {
            let answer: Value = serde_json::from_slice(&body).unwrap();
            serde_json::from_value(answer["outputs"][0]["data"].clone()).unwrap()
        }
        _ => {
            not_held(status, &body);
            None
        }
    };
    [variant(tensor), variant(json), encoded, inferred]
}

fn by_grpc(server: &Server, token: &str, key: &TileKey) -> [Answer; 5] {
    let (runtime, mut client) = client(server);
    let tiles =
        || proto::Tiles { keys: vec![key.as_bytes().to_vec().into()], ..Default::default() };
    let asked = || proto::AugmentRequest { seed: Some(7), ..request(tiles()) };
    let augmented = runtime.block_on(client.augment(signed(token, asked())));
    let encode = proto::EncodeRequest { tiles: Some(tiles()), ..Default::default() };
    let encoded = runtime.block_on(client.encode(signed(token, encode)));
    let message = proto::AugmentStreamRequest { id: "1".to_owned(), request: Some(asked()) };
    let streamed = runtime.block_on(async {
        let requests = tokio_stream::once(message);
        let mut answers =
            client.augment_stream(signed(token, requests)).await.unwrap().into_inner();
        match answers.next().await.unwrap().unwrap().result.unwrap() {
            Outcome::Response(response) => Some(response.pixels.to_vec()),
            Outcome::Problem(problem) => {
                assert_eq!(problem.code, "tile_not_held");
                None
            }
        }
    });
    let [inferred, in_stream] = by_oip(&runtime, server, token, key);
    [
        found(augmented.map(|answer| answer.into_inner().pixels.to_vec())),
        found(encoded.map(|_| Vec::new())),
        streamed,
        inferred,
        in_stream,
    ]
}

fn by_oip(runtime: &Runtime, server: &Server, token: &str, key: &TileKey) -> [Answer; 2] {
    let input = oip::model_infer_request::InferInputTensor {
        name: "KEYS".to_owned(),
        datatype: "UINT8".to_owned(),
        shape: vec![1, TileKey::BYTES as i64],
        ..Default::default()
    };
    let seed = oip::infer_parameter::ParameterChoice::Int64Param(7);
    let asked = oip::ModelInferRequest {
        model_name: "tiny".to_owned(),
        inputs: vec![input],
        raw_input_contents: vec![key.as_bytes().to_vec().into()],
        parameters: [("seed".to_owned(), oip::InferParameter { parameter_choice: Some(seed) })]
            .into(),
        ..Default::default()
    };
    let raw = |answer: oip::ModelInferResponse| answer.raw_output_contents[0].to_vec();
    runtime.block_on(async {
        let mut client = oip_client::GrpcInferenceServiceClient::new(channel(server).await);
        let inferred = client.model_infer(signed(token, asked.clone())).await;
        let stream = signed(token, tokio_stream::once(asked));
        let mut answers = client.model_stream_infer(stream).await.unwrap().into_inner();
        let answer = answers.next().await.unwrap().unwrap();
        let in_stream = match answer.error_message.as_str() {
            "" => answer.infer_response.map(raw),
            error => {
                assert!(error.starts_with("tile_not_held"), "{error}");
                None
            }
        };
        [found(inferred.map(|answer| raw(answer.into_inner()))), in_stream]
    })
}

#[test]
fn a_key_names_no_tile_of_another_tenant_on_any_wire() {
    let keys = Keys::new(&["a --scope augment", "b --scope augment"]);
    let [a, b] = [&keys.tokens[0], &keys.tokens[1]];
    let server = keys.server(&[]);
    let (tile, key) = (tile(0), TileKey::of(&tile(0)));
    let body = tensor_body(std::slice::from_ref(&tile), &[], &json!({"seed": 7}));
    let (status, sent) = post(&server, a, "/v1/augment", SAFETENSORS, body.clone());
    let expected = Some(read_tensor(&sent).0[0].clone());
    assert_eq!(status, 200);
    for answer in by_http(&server, b, &key).into_iter().chain(by_grpc(&server, b, &key)) {
        assert_eq!(answer, None);
    }
    let own = |token: &str| {
        for answer in by_http(&server, token, &key).into_iter().chain(by_grpc(&server, token, &key))
        {
            // Encodings are asked for without looking at them.
            assert!(answer == expected || answer == Some(Vec::new()));
        }
    };
    own(a);
    // With the tile itself the other gets the same bytes, and holds it from then on.
    assert_eq!(post(&server, b, "/v1/augment", SAFETENSORS, body), (200, sent));
    own(b);
    let (runtime, mut client) = client(&server);
    let sent = request(pixels(&[crate::harness::tile(1)]));
    runtime.block_on(client.augment(signed(a, sent))).unwrap();
    let key = TileKey::of(&crate::harness::tile(1));
    for (token, held) in [(a, true), (b, false)] {
        let mut answers =
            by_http(&server, token, &key).into_iter().chain(by_grpc(&server, token, &key));
        assert!(answers.all(|answer| answer.is_some() == held));
    }
}

#[test]
fn encodings_are_shared_where_the_server_says_so() {
    let keys = Keys::new(&["a --scope augment", "b --scope augment"]);
    let server = keys.server(&["--share-encodings"]);
    let body = tensor_body(&[tile(0)], &[], &json!({"seed": 7}));
    assert_eq!(post(&server, &keys.tokens[0], "/v1/augment", SAFETENSORS, body).0, 200);
    let key = TileKey::of(&tile(0));
    let other = &keys.tokens[1];
    for answer in by_http(&server, other, &key).into_iter().chain(by_grpc(&server, other, &key)) {
        assert!(answer.is_some());
    }
}
