//! Starts the real `restain serve` on a free port, on the small bundle of tests/fixtures, and talks
//! to it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use reqwest::blocking::{Client, RequestBuilder, Response};
use restain_bundle::codec::{self, ImageFormat, Limits, RgbImage};
use restain_bundle::{Bundle, Precision};
use restain_engine::{Encoder, EncoderOptions, Encodings, Runtime};
use restain_method::synth::Synthesiser;
use serde_json::Value;

pub(crate) const SAFETENSORS: &str = "application/vnd.restain.safetensors";
const LIMITS: Limits = Limits { max_pixels: 1 << 26, max_side: u32::MAX };
/// Far beyond anything that is waited for: what takes longer is stuck.
const STUCK: Duration = Duration::from_secs(120);

pub(crate) fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/bundle-tiny")
}

/// `restain`, without the options that the environment holds.
pub(crate) fn restain() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_restain"));
    #[expect(clippy::disallowed_methods, reason = "the program runs without the caller's options")]
    let own = std::env::vars_os().map(|(name, _)| name).filter(|name| {
        ["RESTAIN_", "OTEL_"].iter().any(|own| name.to_string_lossy().starts_with(own))
    });
    own.for_each(|name| _ = command.env_remove(name));
    command
}

/// What a program wrote.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A models directory that holds the fixture.
pub(crate) fn models() -> tempfile::TempDir {
    let models = tempfile::tempdir().unwrap();
    install(models.path(), "tiny", "1");
    models
}

/// Puts the fixture into a models directory under a name and version, whole at once; returns where
/// it is.
pub(crate) fn install(models: &Path, name: &str, version: &str) -> PathBuf {
    let (staging, home) = (models.join(".staging"), models.join(name).join(version));
    std::fs::create_dir_all(&staging).unwrap();
    std::fs::create_dir_all(models.join(name)).unwrap();
    for entry in std::fs::read_dir(fixture()).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, staging.join(path.file_name().unwrap())).unwrap();
    }
    edit_manifest(&staging, |manifest| {
        (manifest["name"], manifest["version"]) = (name.into(), version.into());
    });
    std::fs::rename(&staging, &home).unwrap();
    home
}

/// Changes the manifest of a bundle, and so its digest.
pub(crate) fn edit_manifest(bundle: &Path, edit: impl FnOnce(&mut Value)) {
    let path = bundle.join("bundle.json");
    let mut manifest = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    edit(&mut manifest);
    std::fs::write(path, serde_json::to_vec(&manifest).unwrap()).unwrap();
}

pub(crate) struct Server {
    child: Child,
    pub address: String,
    /// Where it speaks gRPC.
    pub grpc: String,
    pub client: Client,
    models: tempfile::TempDir,
}

impl Server {
    pub(crate) fn start(flags: &[&str]) -> Self {
        Self::start_as(flags, |_| {})
    }

    /// With something changed about how the program is started.
    pub(crate) fn start_as(flags: &[&str], change: impl FnOnce(&mut Command)) -> Self {
        Self::on(models(), flags, change)
    }

    /// With something changed in the manifest of the fixture.
    pub(crate) fn with_manifest(edit: impl FnOnce(&mut Value)) -> Self {
        let models = models();
        edit_manifest(&models.path().join("tiny/1"), edit);
        Self::on(models, &[], |_| {})
    }

    fn on(models: tempfile::TempDir, flags: &[&str], change: impl FnOnce(&mut Command)) -> Self {
        let log = std::fs::File::create(models.path().join("log")).unwrap();
        let mut command = restain();
        command
            .args([
                "serve",
                "--http",
                "127.0.0.1:0",
                "--grpc",
                "127.0.0.1:0",
                "--threads",
                "1",
                "--models",
            ])
            .arg(models.path())
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(log);
        change(&mut command);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut told = |what: &str| {
            lines.find_map(|line| Some(line.strip_prefix(what)?.split(' ').next()?.to_owned()))
        };
        let (address, grpc) = (told("ready on http://"), told("gRPC on "));
        let client = crate::client().timeout(STUCK).build().unwrap();
        let log = || std::fs::read_to_string(models.path().join("log")).unwrap();
        let address = address.unwrap_or_else(|| panic!("the server did not start: {}", log()));
        Self {
            child,
            address,
            grpc: grpc.expect("the second line of a ready server"),
            client,
            models,
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn get(&self, path: &str) -> Response {
        self.client.get(self.url(path)).send().unwrap()
    }

    pub(crate) fn post(&self, query: &str) -> RequestBuilder {
        self.client.post(self.url(&format!("/v1/augment{query}")))
    }

    /// One PNG under a query string.
    pub(crate) fn png(&self, query: &str, tile: &RgbImage, accept: &str) -> Response {
        self.post(query)
            .header("content-type", "image/png")
            .header("accept", accept)
            .body(png(tile))
            .send()
            .unwrap()
    }

    /// Tiles as one tensor, pixels back as `[tile][variant]`, with their provenance.
    pub(crate) fn tensor(
        &self,
        tiles: &[RgbImage],
        references: &[RgbImage],
        request: &Value,
    ) -> (Vec<Vec<u8>>, Value) {
        let body = tensor_body(tiles, references, request);
        let response = self
            .post("")
            .header("content-type", SAFETENSORS)
            .header("accept", SAFETENSORS)
            .body(body)
            .send()
            .unwrap();
        let (status, bytes) = (response.status(), response.bytes().unwrap());
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&bytes));
        read_tensor(&bytes)
    }

    /// Tiles by key as one tensor: the status and the body.
    pub(crate) fn by_key(&self, keys: &[String], request: &Value) -> (u16, Vec<u8>) {
        let response = self
            .post("")
            .header("content-type", SAFETENSORS)
            .header("accept", SAFETENSORS)
            .body(key_body(keys, request));
        let response = response.send().unwrap();
        (response.status().as_u16(), response.bytes().unwrap().to_vec())
    }

    /// One value of /metrics.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        self.try_metric(name).unwrap_or_else(|| panic!("no {name} at /metrics"))
    }

    /// Nothing when the server does not answer, or not with this.
    pub(crate) fn try_metric(&self, name: &str) -> Option<f64> {
        let text = self.client.get(self.url("/metrics")).send().ok()?.text().ok()?;
        let line = text.lines().find(|line| line.split([' ', '{']).next() == Some(name))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: &str) {
        let done = Command::new("kill")
            .args([&format!("-{signal}"), &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(done.success());
    }

    pub(crate) fn wait(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// Its models directory, and its log in it.
    pub(crate) fn models(&self) -> &Path {
        self.models.path()
    }

    /// What the server has logged so far; it writes its lines behind its answers.
    pub(crate) fn log(&self) -> String {
        let waiting = || self.try_metric("restain_log_lines_waiting");
        until("its lines are written", || waiting().is_none_or(|lines| lines == 0.0));
        std::fs::read_to_string(self.models().join("log")).unwrap()
    }

    /// POST with a JSON body, the status and the JSON of the answer.
    pub(crate) fn post_json(&self, path: &str, body: &Value) -> (u16, Value) {
        let request = self.client.post(self.url(path)).header("content-type", "application/json");
        let response = request.body(body.to_string()).send().unwrap();
        (response.status().as_u16(), response.json().unwrap())
    }

    /// The bundle that it serves.
    pub(crate) fn bundle(&self) -> Bundle {
        Bundle::open(&self.models.path().join("tiny/1")).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Whether it still runs or has ended by itself, it is gone afterwards.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ends a test that needs what this machine lacks: a failure in CI, which installs it and runs as
/// root; elsewhere the test is left out.
#[expect(clippy::disallowed_methods, reason = "CI is the variable by which every CI names itself")]
pub(crate) fn lacks(what: &str) {
    assert!(std::env::var_os("CI").is_none(), "CI must run this test, and has no {what}");
    eprintln!("left out: this machine has no {what}");
}

/// Asks again until it is so. What never becomes so is a failure, not a hang.
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !so() {
        assert!(started.elapsed() < STUCK, "never: {what}");
        std::thread::yield_now();
    }
}

/// A tile of the fixture's size, different for every number.
pub(crate) fn tile(number: usize) -> RgbImage {
    let side = Bundle::open(&fixture()).unwrap().manifest.geometry.image_size();
    picture(number, side, side)
}

pub(crate) fn picture(number: usize, width: usize, height: usize) -> RgbImage {
    let mut state = number as u32 + 1;
    let noise = (0..width * height * 3).map(|at| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (150 + at / (width * 3) * 2 + (state >> 27) as usize).min(255) as u8
    });
    RgbImage { width, height, pixels: noise.collect() }
}

pub(crate) fn png(picture: &RgbImage) -> Vec<u8> {
    codec::encode(ImageFormat::Png, 90, picture).unwrap()
}

pub(crate) fn decode(bytes: &[u8]) -> RgbImage {
    codec::decode(bytes, &LIMITS).unwrap()
}

pub(crate) fn tensor_body(tiles: &[RgbImage], references: &[RgbImage], request: &Value) -> Vec<u8> {
    use safetensors::{Dtype, tensor::TensorView};
    let flat =
        |tiles: &[RgbImage]| tiles.iter().flat_map(|tile| tile.pixels.clone()).collect::<Vec<u8>>();
    let (tiles_flat, references_flat) = (flat(tiles), flat(references));
    let shape = |tiles: &[RgbImage]| vec![tiles.len(), tiles[0].height, tiles[0].width, 3];
    let mut tensors =
        vec![("tiles", TensorView::new(Dtype::U8, shape(tiles), &tiles_flat).unwrap())];
    if !references.is_empty() {
        tensors.push((
            "references",
            TensorView::new(Dtype::U8, shape(references), &references_flat).unwrap(),
        ));
    }
    safetensors::serialize(tensors, Some([("request".to_owned(), request.to_string())].into()))
        .unwrap()
}

/// Tiles of any sizes, packed.
pub(crate) fn packed_body(tiles: &[RgbImage], request: &Value) -> Vec<u8> {
    use safetensors::{Dtype, tensor::TensorView};
    let flat = tiles.iter().flat_map(|tile| tile.pixels.clone()).collect::<Vec<u8>>();
    let shapes: Vec<u8> = tiles
        .iter()
        .flat_map(|tile| [tile.height, tile.width])
        .flat_map(|side| (side as i64).to_le_bytes())
        .collect();
    let tensors = [
        ("tiles", TensorView::new(Dtype::U8, vec![flat.len()], &flat).unwrap()),
        ("shapes", TensorView::new(Dtype::I64, vec![tiles.len(), 2], &shapes).unwrap()),
    ];
    safetensors::serialize(tensors, Some([("request".to_owned(), request.to_string())].into()))
        .unwrap()
}

/// Keys alone, as one tensor.
pub(crate) fn key_body(keys: &[String], request: &Value) -> Vec<u8> {
    use safetensors::{Dtype, tensor::TensorView};
    let bytes: Vec<u8> =
        keys.iter().flat_map(|key| *key.parse::<codec::TileKey>().unwrap().as_bytes()).collect();
    let tensors = [("keys", TensorView::new(Dtype::U8, vec![keys.len(), 32], &bytes).unwrap())];
    safetensors::serialize(tensors, Some([("request".to_owned(), request.to_string())].into()))
        .unwrap()
}

/// The variants, tile by tile, and their records.
pub(crate) fn read_tensor(bytes: &[u8]) -> (Vec<Vec<u8>>, Value) {
    let (_, header) = safetensors::SafeTensors::read_metadata(bytes).unwrap();
    let file = safetensors::SafeTensors::deserialize(bytes).unwrap();
    let view = file.tensor("variants").unwrap();
    let [_, _, height, width, 3] = *view.shape() else { panic!("{:?}", view.shape()) };
    let variants = view.data().chunks_exact(height * width * 3).map(<[u8]>::to_vec).collect();
    (variants, serde_json::from_str(&header.metadata().as_ref().unwrap()["provenance"]).unwrap())
}

/// The same parts as the server's, in this process.
pub(crate) struct Parts {
    pub bundle: Bundle,
    pub synthesiser: Synthesiser,
    encoder: Encoder,
}

impl Parts {
    pub(crate) fn of(bundle: Bundle) -> Self {
        let manifest = &bundle.manifest;
        let onnx = bundle.encoder_path(Precision::Fp32).unwrap();
        let encoder = Encoder::open(
            &Runtime::load().unwrap(),
            &onnx,
            &manifest.geometry,
            &EncoderOptions::cpu(1),
        )
        .unwrap();
        let synthesiser =
            Synthesiser::new(manifest.geometry, manifest.pixel_order, manifest.normalisation);
        Self { bundle, synthesiser, encoder }
    }

    pub(crate) fn encode(&mut self, tile: &RgbImage) -> Encodings {
        let Encodings { batch, anatomy, characteristics } =
            self.encoder.encode(&tile.pixels, 1).unwrap();
        // As the server keeps them, and so as it uses them.
        let kept = |values: Vec<f32>| {
            values.into_iter().map(|value| half::f16::from_f32(value).to_f32()).collect()
        };
        Encodings { batch, anatomy: kept(anatomy), characteristics: kept(characteristics) }
    }

    pub(crate) fn broadcast(&self, encodings: &Encodings, style: &[f32]) -> Vec<u8> {
        let mut out = vec![0; self.synthesiser.geometry().tile_bytes()];
        let mut scratch = self.synthesiser.scratch();
        self.synthesiser.broadcast(&encodings.anatomy, style, &mut scratch, &mut out);
        out
    }

    pub(crate) fn aligned(&self, encodings: &Encodings, characteristics: &[f32]) -> Vec<u8> {
        let mut out = vec![0; self.synthesiser.geometry().tile_bytes()];
        self.synthesiser.aligned(
            &encodings.anatomy,
            characteristics,
            &mut self.synthesiser.scratch(),
            &mut out,
        );
        out
    }

    pub(crate) fn style(&self, id: &str) -> &[f32] {
        &self.bundle.styles.entries.iter().find(|entry| entry.id == id).unwrap().style.0
    }
}
