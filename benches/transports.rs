//! Every way in against `POST /v1/augment`: gRPC, and the Open Inference Protocol over HTTP and
//! gRPC, with the same tiles, the same variants, as many callers, in turns against one server.
//!
//! `transports MODELS [SECONDS]` prints tiles a second of each and its ratio. Two loads: `held`,
//! tiles whose encodings the server holds and whose pixels come again, where the wire is most of
//! the work; and `new`, tiles that the server has not seen.

#![expect(clippy::disallowed_methods, reason = "a bench is a program with arguments of its own")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use restain::serve::transport::grpc::proto;
use restain::serve::transport::grpc::proto::restain_client::RestainClient;
use restain::serve::transport::oip::proto as oip;
use restain::serve::transport::oip::proto::grpc_inference_service_client::GrpcInferenceServiceClient;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::json;
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};

const SAFETENSORS: &str = "application/vnd.restain.safetensors";
const TILES: usize = 32;
const VARIANTS: u32 = 4;
const CALLERS: usize = 4;
const ROUNDS: usize = 3;
const WAYS: [Way; 4] = [Way::Http, Way::Grpc, Way::OipHttp, Way::OipGrpc];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Http,
    Grpc,
    OipHttp,
    OipGrpc,
}

/// Tiles of one request after the other, `[TILES, side, side, 3] u8`.
struct Supply {
    side: usize,
    new: bool,
    next: AtomicU64,
}

struct Server {
    child: Child,
    http: String,
    grpc: String,
}

/// One caller's connection.
enum Caller {
    Http(SendRequest<Full<Bytes>>, String),
    Grpc(Box<RestainClient<Channel>>),
    OipHttp(SendRequest<Full<Bytes>>, String),
    OipGrpc(Box<GrpcInferenceServiceClient<Channel>>),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let models = arguments.first().map_or("models", String::as_str);
    let span = Duration::from_secs(arguments.get(1).map_or(Ok(8), |text| text.parse())?);
    let server = Server::start(models)?;
    let server_side = server.side().await?;
    for new in [false, true] {
        let supply = Arc::new(Supply { side: server_side, new, next: AtomicU64::new(0) });
        let mut rates = [const { Vec::new() }; WAYS.len()];
        for _ in 0..ROUNDS {
            for (way, rates) in WAYS.iter().zip(&mut rates) {
                rates.push(measure(&server, *way, &supply, span).await?);
            }
        }
        let median = |rates: &mut Vec<f64>| {
            rates.sort_by(f64::total_cmp);
            rates[rates.len() / 2]
        };
        let medians = rates.each_mut().map(median);
        println!(
            "{} tiles of {server_side} px, {TILES} a request, {VARIANTS} variants:",
            if new { "new" } else { "held" }
        );
        for (way, rate) in WAYS.iter().zip(medians) {
            println!("  {way:?}: {rate:.1} tiles/s, {:.2} of /v1/augment", rate / medians[0]);
        }
    }
    Ok(())
}

/// Tiles a second of `CALLERS` callers.
async fn measure(
    server: &Server,
    way: Way,
    supply: &Arc<Supply>,
    span: Duration,
) -> anyhow::Result<f64> {
    let mut callers = Vec::new();
    for _ in 0..CALLERS {
        callers.push(Caller::open(server, way).await?);
    }
    let started = Instant::now();
    let tasks: Vec<_> = callers
        .into_iter()
        .map(|mut caller| {
            let supply = Arc::clone(supply);
            tokio::spawn(async move {
                let mut tiles = 0;
                while started.elapsed() < span {
                    let answer = caller.ask(supply.side, supply.take()).await?;
                    let least = TILES * VARIANTS as usize * supply.side * supply.side * 3;
                    ensure!(
                        answer >= least,
                        "{answer} bytes came, and the variants alone are {least}"
                    );
                    tiles += TILES;
                }
                Ok(tiles)
            })
        })
        .collect();
    let mut tiles = 0;
    for task in tasks {
        tiles += task.await??;
    }
    Ok(tiles as f64 / started.elapsed().as_secs_f64())
}

impl Supply {
    fn take(&self) -> Vec<u8> {
        let number = if self.new { self.next.fetch_add(1, Ordering::Relaxed) + 1 } else { 0 };
        let mut pixels: Vec<u8> =
            (0..TILES * self.side * self.side * 3).map(|at| 150 + (at * 7919 % 97) as u8).collect();
        for (tile, first) in pixels.chunks_exact_mut(self.side * self.side * 3).zip(0_u64..) {
            tile[..8].copy_from_slice(&number.to_le_bytes());
            tile[8] = first as u8;
        }
        pixels
    }
}

impl Caller {
    async fn open(server: &Server, way: Way) -> anyhow::Result<Self> {
        let channel = || async {
            Endpoint::from_shared(format!("http://{}", server.grpc))?
                .connect()
                .await
                .context("gRPC")
        };
        let http = || async {
            let stream = TcpStream::connect(&server.http).await?;
            stream.set_nodelay(true)?;
            let (sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            anyhow::Ok(sender)
        };
        Ok(match way {
            Way::Http => Self::Http(http().await?, server.http.clone()),
            Way::OipHttp => Self::OipHttp(http().await?, server.http.clone()),
            Way::Grpc => Self::Grpc(Box::new(
                RestainClient::new(channel().await?).max_decoding_message_size(usize::MAX),
            )),
            Way::OipGrpc => Self::OipGrpc(Box::new(
                GrpcInferenceServiceClient::new(channel().await?)
                    .max_decoding_message_size(usize::MAX),
            )),
        })
    }

    /// Bytes of the answer.
    async fn ask(&mut self, side: usize, pixels: Vec<u8>) -> anyhow::Result<usize> {
        match self {
            Self::Http(sender, host) => {
                let view = TensorView::new(Dtype::U8, vec![TILES, side, side, 3], &pixels)?;
                let request = json!({"variants": VARIANTS, "seed": 1}).to_string();
                let body = safetensors::serialize(
                    [("tiles", view)],
                    Some([("request".to_owned(), request)].into()),
                )?;
                let request = hyper::Request::post("/v1/augment")
                    .header("host", host.as_str())
                    .header("accept", SAFETENSORS);
                post(sender, request.header("content-type", SAFETENSORS), body).await
            }
            Self::OipHttp(sender, host) => {
                let input = json!({"name": "TILES", "shape": [TILES, side, side, 3],
                    "datatype": "UINT8",
                    "parameters": {"binary_data_size": pixels.len()}});
                let head = json!({"inputs": [input],
                    "parameters": {"variants": VARIANTS, "seed": 1, "binary_data_output": true}});
                let head = head.to_string();
                let request =
                    hyper::Request::post("/v2/models/demo/infer").header("host", host.as_str());
                let request = request.header("inference-header-content-length", head.len());
                post(sender, request, [head.as_bytes(), &pixels].concat()).await
            }
            Self::Grpc(client) => {
                let pixels =
                    proto::Pixels { height: side as u32, width: side as u32, data: pixels.into() };
                let tiles = proto::Tiles { pixels: Some(pixels), ..Default::default() };
                let ask = proto::AugmentRequest {
                    tiles: Some(tiles),
                    variants: Some(VARIANTS),
                    seed: Some(1),
                    ..Default::default()
                };
                Ok(client.augment(ask).await?.into_inner().pixels.len())
            }
            Self::OipGrpc(client) => {
                use oip::infer_parameter::ParameterChoice::Int64Param;
                use oip::model_infer_request::InferInputTensor;
                let number =
                    |value| oip::InferParameter { parameter_choice: Some(Int64Param(value)) };
                let shape = vec![TILES as i64, side as i64, side as i64, 3];
                let input = InferInputTensor {
                    name: "TILES".to_owned(),
                    datatype: "UINT8".to_owned(),
                    shape,
                    ..Default::default()
                };
                let ask = oip::ModelInferRequest {
                    model_name: "demo".to_owned(),
                    inputs: vec![input],
                    raw_input_contents: vec![pixels.into()],
                    parameters: [
                        ("variants".to_owned(), number(i64::from(VARIANTS))),
                        ("seed".to_owned(), number(1)),
                    ]
                    .into(),
                    ..Default::default()
                };
                let answer = client.model_infer(ask).await?.into_inner();
                Ok(answer.raw_output_contents.iter().map(Bytes::len).sum())
            }
        }
    }
}

async fn post(
    sender: &mut SendRequest<Full<Bytes>>,
    request: hyper::http::request::Builder,
    body: Vec<u8>,
) -> anyhow::Result<usize> {
    sender.ready().await?;
    let answer = sender.send_request(request.body(Full::from(body))?).await?;
    let status = answer.status();
    let bytes = answer.into_body().collect().await?.to_bytes();
    ensure!(status == 200, "{status}: {}", String::from_utf8_lossy(&bytes[..bytes.len().min(400)]));
    Ok(bytes.len())
}

impl Server {
    fn start(models: &str) -> anyhow::Result<Self> {
        let ports = ["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--log", "error"];
        let mut command = Command::new(env!("CARGO_BIN_EXE_restain"));
        let mut child = command
            .args(["serve", "--models", models])
            .args(ports)
            .stdout(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("it is piped")?)
            .lines()
            .map_while(Result::ok);
        let mut told = |what: &str| {
            lines.find_map(|line| Some(line.strip_prefix(what)?.split(' ').next()?.to_owned()))
        };
        let (http, grpc) = (told("ready on http://"), told("gRPC on "));
        Ok(Self {
            child,
            http: http.context("the server did not start")?,
            grpc: grpc.context("no gRPC")?,
        })
    }

    /// Of the model's tiles, in pixels.
    async fn side(&self) -> anyhow::Result<usize> {
        let channel = Endpoint::from_shared(format!("http://{}", self.grpc))?.connect().await?;
        let mut client = RestainClient::new(channel);
        let tiles = proto::Tiles {
            images: vec![std::fs::read("docs/tile.png")?.into()],
            ..Default::default()
        };
        let answer = client
            .encode(proto::EncodeRequest { tiles: Some(tiles), ..Default::default() })
            .await?;
        Ok(answer.into_inner().encoder.context("no encoder")?.image_size as usize)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Whether it still runs or has ended by itself, it is gone afterwards.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
