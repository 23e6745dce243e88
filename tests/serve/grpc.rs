//! `restain.v1.Restain` says what HTTP says, in messages.

use reqwest::blocking::multipart::{Form, Part};
use restain::serve::transport::grpc::proto;
use restain::serve::transport::grpc::proto::restain_client::RestainClient;
use restain_bundle::codec::RgbImage;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::harness::{Server, decode, picture, png, read_tensor, tile, until};

pub(super) type Client = RestainClient<Channel>;

/// A client on a runtime of the test's own.
pub(super) fn client(server: &Server) -> (Runtime, Client) {
    let runtime = Runtime::new().unwrap();
    let channel = runtime.block_on(channel(server));
    (runtime, RestainClient::new(channel).max_decoding_message_size(usize::MAX))
}

pub(super) async fn channel(server: &Server) -> Channel {
    Endpoint::from_shared(format!("http://{}", server.grpc)).unwrap().connect().await.unwrap()
}

pub(super) fn pixels(tiles: &[RgbImage]) -> proto::Tiles {
    let (height, width) = (tiles[0].height as u32, tiles[0].width as u32);
    let data: Vec<u8> = tiles.iter().flat_map(|tile| tile.pixels.clone()).collect();
    proto::Tiles {
        pixels: Some(proto::Pixels { height, width, data: data.into() }),
        ..Default::default()
    }
}

pub(super) fn request(tiles: proto::Tiles) -> proto::AugmentRequest {
    proto::AugmentRequest { tiles: Some(tiles), ..Default::default() }
}

fn images(count: usize) -> proto::Tiles {
    files(&(0..count).map(tile).collect::<Vec<_>>())
}

pub(super) fn files(tiles: &[RgbImage]) -> proto::Tiles {
    proto::Tiles {
        images: tiles.iter().map(|tile| png(tile).into()).collect(),
        ..Default::default()
    }
}

fn refused(status: Status) -> (Code, String) {
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no details: {status}"));
    assert_eq!(info.domain, "restain");
    (status.code(), info.reason)
}

#[test]
fn the_same_request_gives_the_same_pixels_as_over_http() {
    let server = Server::start(&[]);
    let (runtime, mut client) = client(&server);
    let tiles: Vec<_> = (0..3).map(tile).collect();
    let style = proto::Style {
        domains: vec!["north".to_owned()],
        placement: proto::Placement::Broadcast.into(),
        ..Default::default()
    };
    let ask = proto::AugmentRequest {
        variants: Some(2),
        seed: Some(9),
        style: Some(style),
        strength: Some(0.5),
        ..request(pixels(&tiles))
    };
    let answer = runtime.block_on(client.augment(ask)).unwrap().into_inner();
    let json = json!({"variants": 2, "seed": 9, "strength": 0.5,
        "style": {"domains": ["north"], "placement": "broadcast"}});
    let (expected, provenance) = server.tensor(&tiles, &[], &json);
    assert_eq!(answer.pixels, expected.concat());
    assert_eq!(
        (answer.model.as_str(), answer.seed, answer.method()),
        ("tiny", 9, proto::Method::Vit)
    );
    let told: Vec<Value> = answer
        .tiles
        .iter()
        .flat_map(|tile| tile.variants.iter().map(|variant| json!(variant.style)))
        .collect();
    let styles: Vec<&Value> =
        provenance.as_array().unwrap().iter().map(|record| &record["style"]).collect();
    assert!(told.iter().eq(styles));
    let clipped = answer.tiles[2].variants[1].clipped.map(f64::from);
    assert!((clipped.unwrap() - provenance[5]["clipped"].as_f64().unwrap()).abs() < 1e-6);
    assert!(answer.timings.unwrap().total_ms > 0.0);
}

#[test]
fn pictures_pixels_and_keys_may_be_mixed_and_keep_their_order() {
    let server = Server::start(&[]);
    let (runtime, mut client) = client(&server);
    let key = runtime.block_on(
        client.encode(proto::EncodeRequest { tiles: Some(images(1)), ..Default::default() }),
    );
    let keys = key.unwrap().into_inner().keys;
    let tiles = proto::Tiles {
        images: vec![png(&tile(2)).into()],
        keys: keys.clone(),
        ..pixels(&[tile(1)])
    };
    let ask = proto::AugmentRequest {
        format: proto::Format::Png.into(),
        seed: Some(3),
        ..request(tiles)
    };
    let answer = runtime.block_on(client.augment(ask)).unwrap().into_inner();
    assert_eq!(answer.tiles[2].key, keys[0]);
    assert!(answer.pixels.is_empty());
    for (answered, number) in answer.tiles.iter().zip([2, 1, 0]) {
        let (expected, _) = server.tensor(&[tile(number)], &[], &json!({"seed": 3}));
        assert_eq!(decode(&answered.variants[0].image).pixels, expected[0]);
        assert_eq!(
            (answered.height, answered.width),
            (tile(0).height as u32, tile(0).width as u32)
        );
    }
}

#[test]
fn references_give_their_style() {
    let server = Server::start(&[]);
    let (runtime, mut client) = client(&server);
    let style = proto::Style { from: proto::StyleSource::Reference.into(), ..Default::default() };
    let ask = proto::AugmentRequest {
        references: Some(images(2)),
        style: Some(style),
        seed: Some(1),
        ..request(pixels(&[tile(5)]))
    };
    let answer = runtime.block_on(client.augment(ask)).unwrap().into_inner();
    let json = json!({"style": {"from": "reference"}, "seed": 1});
    let (expected, _) = server.tensor(&[tile(5)], &[tile(0), tile(1)], &json);
    assert_eq!(answer.pixels, expected.concat());
    assert!(answer.tiles[0].variants[0].style.starts_with("reference/"));
}

#[test]
fn a_domain_can_be_added_listed_and_used() {
    let server = Server::start(&[]);
    let (runtime, mut client) = client(&server);
    let ask = proto::AddStylesRequest {
        domain: "ours".to_owned(),
        tiles: Some(images(4)),
        styles: Some(2),
        ..Default::default()
    };
    let added =
        runtime.block_on(client.add_styles(ask.clone())).unwrap().into_inner().domain.unwrap();
    assert_eq!(
        (added.name.as_str(), added.origin(), added.styles.len()),
        ("ours", proto::DomainOrigin::Added, 2)
    );
    let listed = runtime
        .block_on(client.list_styles(proto::ListStylesRequest::default()))
        .unwrap()
        .into_inner();
    let names: Vec<&str> = listed.domains.iter().map(|domain| domain.name.as_str()).collect();
    let own = server.bundle().styles.domains;
    assert_eq!(names[..names.len() - 1], own[..]);
    assert_eq!(listed.domains.last(), Some(&added));
    assert_eq!(
        refused(runtime.block_on(client.add_styles(ask)).unwrap_err()),
        (Code::AlreadyExists, "domain_exists".to_owned())
    );
}

#[test]
fn a_slide_is_added_and_variants_change_from_its_stain() {
    let server = Server::start(&[]);
    let (runtime, mut client) = client(&server);
    let ask = proto::AddSlideRequest { tiles: Some(images(4)), ..Default::default() };
    let added = runtime.block_on(client.add_slide(ask.clone())).unwrap().into_inner();
    assert_eq!((added.tiles, added.slide.len(), added.persistent), (4, 32, false));
    assert_eq!(runtime.block_on(client.add_slide(ask)).unwrap().into_inner(), added);
    let ask = |slide: &[&str]| proto::AugmentRequest {
        seed: Some(1),
        slide: slide.iter().map(|&id| id.to_owned()).collect(),
        ..request(pixels(&[tile(0)]))
    };
    let answer = runtime.block_on(client.augment(ask(&[&added.slide]))).unwrap().into_inner();
    assert_eq!(answer.tiles[0].slide, added.slide);
    let plain = runtime.block_on(client.augment(ask(&[]))).unwrap().into_inner();
    assert!(plain.tiles[0].slide.is_empty() && plain.pixels != answer.pixels);
    let json = serde_json::json!({"seed": 1, "slide": added.slide});
    assert!(server.tensor(&[tile(0)], &[], &json).0.concat() == answer.pixels);
    assert_eq!(
        refused(runtime.block_on(client.augment(ask(&["none"]))).unwrap_err()),
        (Code::InvalidArgument, "unknown_slide".to_owned())
    );
}

#[test]
fn what_is_wrong_is_named_with_its_code() {
    let server = Server::start(&[]);
    let (runtime, mut client) = client(&server);
    let mut augment = |request| refused(runtime.block_on(client.augment(request)).unwrap_err());
    let is = |code, reason: &str| (code, reason.to_owned());
    assert_eq!(augment(proto::AugmentRequest::default()), is(Code::InvalidArgument, "no_tiles"));
    let good = || request(pixels(&[tile(0)]));
    let style = proto::Style { domains: vec!["nowhere".to_owned()], ..Default::default() };
    assert_eq!(
        augment(proto::AugmentRequest { style: Some(style), ..good() }),
        is(Code::InvalidArgument, "unknown_domain")
    );
    assert_eq!(
        augment(proto::AugmentRequest { model: "none".to_owned(), ..good() }),
        is(Code::NotFound, "model_not_found")
    );
    assert_eq!(
        augment(proto::AugmentRequest { method: 77, ..good() }),
        is(Code::InvalidArgument, "malformed_request")
    );
    assert_eq!(
        augment(request(pixels(&[picture(0, 8, 8)]))),
        is(Code::InvalidArgument, "tile_size")
    );
    assert_eq!(
        augment(proto::AugmentRequest { timeout_ms: Some(0), ..good() }),
        is(Code::InvalidArgument, "timeout_out_of_range")
    );

    let mut cut = pixels(&[tile(0)]);
    cut.pixels.as_mut().unwrap().data.truncate(100);
    let status = runtime.block_on(client.augment(request(cut))).unwrap_err();
    assert!(status.message().contains("tiles.pixels has 100 bytes"), "{status}");
    let nothing = proto::Tiles {
        pixels: Some(proto::Pixels { height: 0, width: 9, data: Default::default() }),
        ..Default::default()
    };
    let status = runtime.block_on(client.augment(request(nothing))).unwrap_err();
    assert_eq!(refused(status).1, "malformed_request");

    let keys =
        proto::Tiles { keys: vec![vec![7; 32].into(), vec![8; 32].into()], ..pixels(&[tile(0)]) };
    let status = runtime.block_on(client.augment(request(keys))).unwrap_err();
    let info = status.get_details_error_info().unwrap();
    assert_eq!((status.code(), info.metadata["indices"].as_str()), (Code::NotFound, "0,1"));
}

#[test]
fn a_message_past_the_limit_is_refused_before_it_is_read() {
    let server = Server::start(&["--max-body", "64KiB"]);
    let (runtime, mut client) = client(&server);
    let tiles: Vec<_> = (0..64).map(tile).collect();
    let status = runtime.block_on(client.augment(request(pixels(&tiles)))).unwrap_err();
    assert!(status.message().contains("the limit is 65536"), "{status}");
    assert_eq!(refused(status), (Code::ResourceExhausted, "body_too_large".to_owned()));
    assert!(runtime.block_on(client.augment(request(pixels(&tiles[..1])))).is_ok());
}

#[test]
fn a_caller_who_leaves_gives_everything_back() {
    let server = Server::start(&["--max-delay", "500ms", "--max-batch", "4"]);
    let (runtime, mut client) = client(&server);
    let call = runtime.spawn(async move { client.augment(request(pixels(&[tile(0)]))).await });
    until("the tile waits", || server.metric("restain_queue_tiles") == 1.0);
    call.abort();
    until("nothing is held for it", || {
        server.metric("restain_inflight_bytes") == 0.0
            && server.metric("restain_queue_tiles") == 0.0
    });
    assert_eq!(server.metric("restain_tiles_total"), 0.0, "nor is it encoded");
}

#[test]
fn health_follows_the_life_of_the_server() {
    use tonic_health::pb::health_client::HealthClient;
    use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};
    let server = Server::start(&["--drain-delay", "10m"]);
    let runtime = Runtime::new().unwrap();
    let mut client = HealthClient::new(runtime.block_on(channel(&server)));
    let service = |name: &str| HealthCheckRequest { service: name.to_owned() };
    for name in ["", "restain.v1.Restain"] {
        let answer = runtime.block_on(client.check(service(name))).unwrap();
        assert_eq!(answer.into_inner().status(), ServingStatus::Serving);
    }
    assert_eq!(
        runtime.block_on(client.check(service("nobody"))).unwrap_err().code(),
        Code::NotFound
    );
    let mut watch =
        runtime.block_on(client.watch(service("restain.v1.Restain"))).unwrap().into_inner();
    assert_eq!(
        runtime.block_on(watch.message()).unwrap().unwrap().status(),
        ServingStatus::Serving
    );
    server.signal("TERM");
    assert_eq!(
        runtime.block_on(watch.message()).unwrap().unwrap().status(),
        ServingStatus::NotServing
    );
}

#[test]
fn reflection_tells_the_services_and_their_messages() {
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};
    let server = Server::start(&[]);
    let runtime = Runtime::new().unwrap();
    let mut client = ServerReflectionClient::new(runtime.block_on(channel(&server)));
    let mut ask = |message| {
        let request =
            ServerReflectionRequest { host: String::new(), message_request: Some(message) };
        let stream = tokio_stream::once(request);
        let answer: ServerReflectionResponse = runtime.block_on(async {
            client
                .server_reflection_info(stream)
                .await
                .unwrap()
                .into_inner()
                .message()
                .await
                .unwrap()
                .unwrap()
        });
        answer.message_response.unwrap()
    };
    let MessageResponse::ListServicesResponse(services) =
        ask(MessageRequest::ListServices(String::new()))
    else {
        panic!()
    };
    let names: Vec<&str> = services.service.iter().map(|service| service.name.as_str()).collect();
    for name in ["restain.v1.Restain", "grpc.health.v1.Health"] {
        assert!(names.contains(&name), "{names:?}");
    }
    let symbol = MessageRequest::FileContainingSymbol("restain.v1.AugmentRequest".to_owned());
    let MessageResponse::FileDescriptorResponse(files) = ask(symbol) else { panic!() };
    assert!(!files.file_descriptor_proto.is_empty());
}

#[test]
fn calls_are_counted_under_their_names() {
    let server = Server::start(&[]);
    let (runtime, mut client) = client(&server);
    runtime.block_on(client.augment(request(pixels(&[tile(0)])))).unwrap();
    runtime.block_on(client.augment(proto::AugmentRequest::default())).unwrap_err();
    let text = server.get("/metrics").text().unwrap();
    for code in ["OK", "INVALID_ARGUMENT"] {
        let line = format!(
            r#"restain_requests_total{{code="{code}",method="GRPC",route="/restain.v1.Restain/Augment"}} 1"#
        );
        assert!(text.contains(&line), "{text}");
    }
}

#[test]
fn each_port_survives_the_other_ones_protocol() {
    let server = Server::start(&["--idle-timeout", "500ms"]);
    // HTTP/1 at the gRPC port: hung up on, and not answered with anything that HTTP/1 could take
    // for a success.
    assert!(server.client.get(format!("http://{}/health/live", server.grpc)).send().is_err());
    let runtime = Runtime::new().unwrap();
    let wrong = Endpoint::from_shared(server.url("")).unwrap();
    let call = async {
        RestainClient::new(wrong.connect_lazy()).augment(request(pixels(&[tile(0)]))).await
    };
    assert!(runtime.block_on(call).is_err());

    let (runtime, mut client) = client(&server);
    runtime.block_on(client.augment(request(pixels(&[tile(0)])))).unwrap();
    let form = Form::new().part("tile", Part::bytes(png(&tile(0))));
    let answer = server
        .post("")
        .header("accept", crate::harness::SAFETENSORS)
        .multipart(form)
        .send()
        .unwrap();
    assert_eq!(read_tensor(&answer.bytes().unwrap()).0.len(), 1);
}
