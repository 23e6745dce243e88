//! The values that every field is given, and the wires that they are sent over.

use super::*;

/// Every value is sent as every field.
pub(super) fn values() -> Vec<Value> {
    let mut values = vec![
        json!(null),
        json!(true),
        json!(false),
        json!(0),
        json!(1),
        json!(2),
        json!(3),
        json!(-1),
        json!(1.0),
        json!(2.0),
        json!(2.5),
        json!(0.25),
        json!(-0.5),
        json!(1e300),
        json!(1e20),
        json!(100),
        json!(101),
        json!(256),
        json!(300_000),
        json!(4_294_967_296_u64),
        json!(9_007_199_254_740_991_u64),
        json!(9_007_199_254_740_992_u64),
        json!(u64::MAX),
        json!([]),
        json!({}),
        json!({"a": 1}),
        json!([null]),
        json!([1]),
        json!([[1]]),
        json!(["north"]),
        json!(["north", " west "]),
        json!(["nowhere"]),
        json!(["north/0"]),
        json!([" north/0", "south/0 "]),
        json!([{"id": "north/0", "weight": 1}]),
        json!([{"domain": " north ", "weight": "0.5"}]),
        json!([{"id": "north/0", "weight": 0}]),
        json!([{"id": "north/0", "weight": -1}]),
        json!([{"domain": "nowhere", "weight": 1}]),
        json!([{"id": "north/0"}]),
        json!([{"weight": 1}]),
        json!([{"id": "north/0", "weight": 1}, {"domain": "west", "weight": 2.0}]),
        json!(vec!["north"; 1025]),
    ];
    let texts = [
        "true",
        "True",
        " FALSE ",
        "yes",
        "",
        " ",
        "0",
        "1",
        " 2 ",
        "2.0",
        "0.25",
        "1e1",
        "+1",
        "-1",
        "1e400",
        "nan",
        "inf",
        "0x10",
        "1_000",
        "abc",
        "vit",
        " identity ",
        "color-match",
        "carry",
        " model ",
        "VIT",
        "own",
        "batch",
        "aligned",
        "request",
        "jpeg",
        "webp",
        "bulk",
        "tiny",
        " tiny/1 ",
        "north",
        " north ",
        "north, west",
        "nowhere",
        "north/0",
        r#"["north"]"#,
        r#" ["north/0", "south/0"] "#,
        r#"["north""#,
        r#"[{"id": "north/0", "weight": 1}]"#,
        r#"[{"id": "north/0", "weight": "much"}]"#,
    ];
    values.extend(texts.map(Value::from));
    values
}

/// The wires to one server.
pub(super) struct Wires {
    pub(super) server: Server,
    pub(super) runtime: Runtime,
    pub(super) grpc: Client,
    pub(super) tile: RgbImage,
    pub(super) png: Vec<u8>,
}

impl Wires {
    pub(super) fn start() -> Self {
        let server = Server::start(&[]);
        let (runtime, grpc) = client(&server);
        Self { server, runtime, grpc, tile: tile(0), png: png(&tile(0)) }
    }

    pub(super) fn by_json(&self, request: &Value) -> (Outcome, String) {
        let body = json!({"request": request, "tiles": [BASE64_STANDARD.encode(&self.png)]});
        of_http(
            self.server.post("").header("accept", "application/json").json(&body).send().unwrap(),
        )
    }

    pub(super) fn by_form(&self, request: &Value) -> (Outcome, String) {
        let form = Form::new()
            .text("request", request.to_string())
            .part("tile", Part::bytes(self.png.clone()));
        of_http(
            self.server
                .post("")
                .header("accept", "application/json")
                .multipart(form)
                .send()
                .unwrap(),
        )
    }

    pub(super) fn by_query(&self, query: &[(String, String)]) -> (Outcome, String) {
        let post = self.server.post(&query_string(query)).header("content-type", "image/png");
        of_http(post.header("accept", "application/json").body(self.png.clone()).send().unwrap())
    }

    pub(super) fn by_oip(&self, parameters: &Value) -> (Outcome, String) {
        let RgbImage { width, height, pixels } = &self.tile;
        let input = json!({"name": "TILES", "datatype": "UINT8", "shape": [1, height, width, 3],
            "data": pixels});
        let body = json!({"inputs": [input], "parameters": parameters});
        let answer = self
            .server
            .client
            .post(self.server.url("/v2/models/tiny/infer"))
            .json(&body)
            .send()
            .unwrap();
        let body: Value = answer.json().unwrap();
        if let Some(error) = body["error"].as_str() {
            let (code, detail) = error.split_once(": ").unwrap();
            return (Outcome::Refused(code.to_owned()), detail.to_owned());
        }
        let output = |name: &str| {
            let outputs = body["outputs"].as_array().unwrap();
            outputs.iter().find(|output| output["name"] == name).unwrap()["data"]
                .as_array()
                .unwrap()
                .clone()
        };
        let bytes: Vec<u8> =
            output("VARIANTS").iter().map(|byte| byte.as_u64().unwrap() as u8).collect();
        let styles: Vec<String> =
            output("STYLE_IDS").iter().map(|style| style.as_str().unwrap().to_owned()).collect();
        (
            Outcome::Made(bytes.chunks(pixels.len()).map(<[u8]>::to_vec).collect(), styles),
            String::new(),
        )
    }

    pub(super) fn by_grpc(&mut self, request: proto::AugmentRequest) -> (Outcome, String) {
        match self.runtime.block_on(self.grpc.augment(request)) {
            Err(status) => {
                let code = status.get_details_error_info().unwrap().reason;
                (Outcome::Refused(code), status.message().to_owned())
            }
            Ok(answer) => {
                let answer = answer.into_inner();
                let variants = &answer.tiles[0].variants;
                let styles = variants.iter().map(|variant| variant.style.clone()).collect();
                let pixels = if answer.pixels.is_empty() {
                    variants.iter().map(|variant| decode(&variant.image).pixels).collect()
                } else {
                    answer.pixels.chunks(self.tile.pixels.len()).map(<[u8]>::to_vec).collect()
                };
                (Outcome::Made(pixels, styles), String::new())
            }
        }
    }
}
