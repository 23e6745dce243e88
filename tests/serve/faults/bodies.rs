//! Bodies that are small and cost much: lists of nothing, pictures that promise more than they are.
//! What the server takes for each is measured as the operating system sees it.

use std::io::Write;
use std::net::TcpStream;

use bytes::Bytes;
use restain_bundle::codec::RgbImage;

use super::calls::Line;
use super::{forget_peak, peak_mib, resident_mib, still_serves};
use crate::harness::{SAFETENSORS, Server, png, tile};

/// Of a body: just within `--max-body`.
const BODY: usize = 62 << 20;
/// What a request may take beyond what is lent for it: buffers of connections, tables, one tile.
const BESIDES_MIB: u64 = 64;

/// A server that has served, and how much memory it then has.
fn warm() -> (Server, u64) {
    let server = Server::start(&[]);
    still_serves(&server);
    let before = resident_mib(&server);
    forget_peak(&server);
    (server, before)
}

fn post(server: &Server, path: &str, content_type: &str, body: Vec<u8>) -> (u16, String) {
    let request = server.client.post(server.url(path)).header("content-type", content_type);
    let response = request.body(body).send().unwrap();
    (response.status().as_u16(), response.text().unwrap())
}

/// `head`, then as many of `items` as fit, then `tail`.
fn filled(head: &str, item: &str, tail: &str) -> Vec<u8> {
    let items = item.repeat((BODY - head.len() - tail.len()) / item.len());
    let items = items.strip_suffix(',').unwrap_or(&items);
    [head, items, tail].concat().into_bytes()
}

#[test]
fn lists_of_nothing_are_refused_while_they_are_read() {
    let infer = "/v2/models/tiny/infer";
    let json = "application/json";
    let input = r#"{"inputs":[{"name":"TILES","datatype":"BYTES","shape":[1],"data":["#;
    let part = "--b\r\ncontent-disposition: form-data; name=\"tile\"\r\n\r\n\r\n";
    for (path, content_type, body) in [
        ("/v1/augment", json, filled(r#"{"tiles":["#, r#""","#, "]}")),
        ("/v1/augment", json, filled(r#"{"request":{"model":""#, "a", r#""}}"#)),
        ("/v1/encode", json, filled(r#"{"keys":["#, r#""","#, "]}")),
        ("/v1/augment", "multipart/form-data; boundary=b", filled("", part, "--b--\r\n")),
        (infer, json, filled(input, r#""","#, "]}]}")),
        (infer, json, filled(r#"{"inputs":["#, r#"{"name":"","datatype":"","shape":[]},"#, "]}")),
        (infer, json, filled(r#"{"inputs":[],"outputs":["#, r#"{"name":""},"#, "]}")),
    ] {
        let (server, before) = warm();
        let shown = String::from_utf8_lossy(&body[..80]).into_owned();
        let (status, text) = post(&server, path, content_type, body);
        assert!(matches!(status, 400 | 413 | 422), "{shown}: {status} {text}");
        // Three times the body is lent for what is copied.
        let (peak, most) = (peak_mib(&server), before + 3 * 62 + BESIDES_MIB);
        assert!(peak < most, "{shown}: {before} MiB before, {peak} MiB at most, of {most}");
    }
}

#[test]
fn tensors_of_nothing_are_refused_before_they_are_split() {
    let count = BODY / 3;
    let head = format!(
        r#"{{"tiles":{{"dtype":"U8","shape":[{count},1,1,3],"data_offsets":[0,{}]}}}}"#,
        count * 3
    );
    let tensors = "\"t\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},";
    let many: String =
        (0..1_000_000).map(|n| tensors.replace("\"t\"", &format!("\"t{n}\""))).collect();
    let many = format!("{{{}}}", many.trim_end_matches(','));
    for (head, data) in [(head, count * 3), (many, 0)] {
        let (server, before) = warm();
        let mut body = (head.len() as u64).to_le_bytes().to_vec();
        body.extend(head.as_bytes());
        body.resize(body.len() + data, 7);
        let (status, text) = post(&server, "/v1/augment", SAFETENSORS, body);
        assert!(matches!(status, 400 | 413), "{status} {text}");
        let (peak, most) = (peak_mib(&server), before + 62 + BESIDES_MIB);
        assert!(peak < most, "{before} MiB before, {peak} MiB at most, of {most}");
    }
}

#[test]
fn messages_of_nothing_are_counted_before_they_are_decoded() {
    // Field 2 of AugmentRequest are its tiles, whose field 1 are images; field 5 of
    // ModelInferRequest are its inputs, and field 4 its parameters.
    let nested = |outer: u8, inner: &[u8]| {
        let length = inner.len() as u32;
        let varint: Vec<u8> = (0..5)
            .map(|at| (length >> (7 * at)) as u8 & 0x7F | if at < 4 { 0x80 } else { 0 })
            .collect();
        [&[outer << 3 | 2][..], &varint, inner].concat()
    };
    for (path, message) in [
        ("/restain.v1.Restain/Augment", nested(2, &[0x0A, 0].repeat(BODY / 2))),
        ("/restain.v1.Restain/Augment", nested(1, &[0x0A, 0].repeat(BODY / 2))),
        ("/restain.v1.Restain/Encode", nested(1, &[0x0A, 0].repeat(BODY / 2))),
        ("/inference.GRPCInferenceService/ModelInfer", [0x2A, 0].repeat(BODY / 2)),
        ("/inference.GRPCInferenceService/ModelInfer", [0x22, 0].repeat(BODY / 2)),
    ] {
        let (server, before) = warm();
        let mut line = Line::to(&server);
        let (pieces, answer) = line.call(path, &[("content-type", "application/grpc")]);
        let prefix = [&[0][..], &(message.len() as u32).to_be_bytes()].concat();
        let answer = line.runtime.block_on(async {
            let sending = async {
                pieces.send(prefix.into()).await.unwrap();
                for piece in message.chunks(1 << 20) {
                    let _ = pieces.send(Bytes::copy_from_slice(piece)).await;
                }
                drop(pieces);
            };
            tokio::join!(sending, answer).1.unwrap()
        });
        let status = answer.headers().get("grpc-status").unwrap();
        assert_eq!(status, "3", "{path}");
        let (peak, most) = (peak_mib(&server), before + 62 + BESIDES_MIB);
        assert!(peak < most, "{path}: {before} MiB before, {peak} MiB at most, of {most}");
    }
}

#[test]
fn a_body_in_pieces_of_a_byte_takes_no_more_than_its_bytes() {
    let (server, before) = warm();
    let mut stream = TcpStream::connect(&server.address).unwrap();
    let head = "POST /v1/augment HTTP/1.1\r\nhost: x\r\ncontent-type: \
        image/png\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let piece = b"1\r\na\r\n".repeat(10_000);
    for _ in 0..400 {
        stream.write_all(&piece).unwrap();
    }
    stream.write_all(b"0\r\n\r\n").unwrap();
    let mut byte = [0];
    std::io::Read::read_exact(&mut stream, &mut byte).unwrap();
    let peak = peak_mib(&server);
    assert!(peak < before + BESIDES_MIB, "{before} MiB before, {peak} MiB at most");
}

/// A little-endian TIFF: its head, its one directory and what follows it.
fn tiff(entries: &[(u16, u16, u32, u32)], data: &[u8]) -> Vec<u8> {
    let mut file = b"II*\0\x08\0\0\0".to_vec();
    file.extend((entries.len() as u16).to_le_bytes());
    for &(tag, kind, count, value) in entries {
        file.extend([tag.to_le_bytes(), kind.to_le_bytes()].concat());
        file.extend([count.to_le_bytes(), value.to_le_bytes()].concat());
    }
    file.extend([0; 4]);
    file.extend(data);
    file
}

/// A tile of the model's size whose one strip is a progressive JPEG of 16,384×16,384.
fn a_large_picture_in_a_small_one() -> Vec<u8> {
    let mut jpeg = vec![0xFF, 0xD8, 0xFF, 0xDB, 0, 67, 0];
    jpeg.extend([1; 64]);
    jpeg.extend([0xFF, 0xC2, 0, 11, 8, 0x40, 0, 0x40, 0, 1, 1, 0x11, 0]);
    jpeg.extend([0xFF, 0xC4, 0, 20, 0, 1]);
    jpeg.extend([0; 16]);
    jpeg.extend([0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0xFF, 0xD9]);
    let start = 8 + 2 + 9 * 12 + 4;
    let entries = [
        (256, 4, 1, 32),
        (257, 4, 1, 32),
        (258, 3, 1, 8),
        (259, 3, 1, 7),
        (262, 3, 1, 1),
        (273, 4, 1, start),
        (277, 3, 1, 1),
        (278, 4, 1, 32),
        (279, 4, 1, jpeg.len() as u32),
    ];
    tiff(&entries, &jpeg)
}

#[test]
fn pictures_that_promise_more_than_they_are_are_refused() {
    let long = RgbImage { width: 3_000_000, height: 1, pixels: vec![90; 9_000_000] };
    for picture in [png(&long), a_large_picture_in_a_small_one()] {
        let (server, before) = warm();
        for path in ["/v1/augment", "/v1/encode"] {
            let (status, text) = post(&server, path, "image/png", picture.clone());
            assert!(matches!(status, 413 | 422), "{status} {text}");
        }
        let peak = peak_mib(&server);
        assert!(peak < before + BESIDES_MIB, "{before} MiB before, {peak} MiB at most");
    }
}

#[test]
fn tensors_are_held_to_the_limits_of_pictures() {
    let server = Server::start(&["--max-pixels", "65536"]);
    for (width, height, wanted) in [
        (3_000_000, 1, (413, "image_too_large")),
        (1, 3_000_000, (413, "image_too_large")),
        (9000, 2, (422, "tile_size")),
        (300, 300, (413, "image_too_large")),
    ] {
        let tile = RgbImage { width, height, pixels: vec![90; width * height * 3] };
        let body = crate::harness::tensor_body(&[tile], &[], &serde_json::json!({}));
        let (status, text) = post(&server, "/v1/augment", SAFETENSORS, body);
        assert_eq!(status, wanted.0, "{width}×{height}: {text}");
        assert!(text.contains(wanted.1), "{text}");
    }
    assert_eq!(server.png("", &tile(0), "image/png").status(), 200);
}

#[test]
fn memory_that_is_short_is_given_to_no_new_work() {
    let server = Server::start(&["--memory-limit", "32MiB"]);
    let refused = server.png("", &tile(0), "image/png");
    assert_eq!(refused.status(), 429);
    assert!(refused.headers().contains_key("retry-after"));
    let text = refused.text().unwrap();
    assert!(text.contains("bytes of memory"), "{text}");
    assert_eq!(server.get("/health/live").status(), 200);
}
