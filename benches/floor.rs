//! What a server is compared with: its encoder in a bare loop, and its own HTTP sending a constant
//! body.
//!
//! `floor bare BUNDLE PRECISION THREADS [LARGEST]` prints, for every batch size, the tiles a second
//! of a loop and the median time of a batch. `floor constant ADDRESS BYTES` answers every request
//! with the same bytes, through the server's own loop of connections and its own kind of body, so
//! that what is left of a ratio is what the server itself spends. `benches/serve.py` runs both.

#![expect(clippy::disallowed_methods, reason = "a bench is a program with arguments of its own")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::routing::get;
use bytes::Bytes;
use restain::serve::metrics::Metrics;
use restain::serve::middleware::permit_body::PermitBody;
use restain::serve::transport::listen::{ListenOptions, Protocol, serve};
use restain_bundle::{Bundle, Precision};
use restain_engine::{Encoder, EncoderOptions, Runtime};
use serde_json::json;

const BATCHES: [usize; 6] = [1, 2, 4, 8, 16, 32];
/// How long each size of batch is repeated.
const LOOP: Duration = Duration::from_secs(3);

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["bare", bundle, precision, threads] => {
            bare(Path::new(bundle), precision.parse()?, threads.parse()?, &BATCHES)
        }
        ["bare", bundle, precision, threads, largest] => {
            let largest: usize = largest.parse()?;
            let batches: Vec<usize> =
                BATCHES.into_iter().filter(|batch| *batch <= largest).collect();
            bare(Path::new(bundle), precision.parse()?, threads.parse()?, &batches)
        }
        ["constant", address, bytes] => constant(address, bytes.parse()?),
        _ => {
            bail!("floor bare BUNDLE PRECISION THREADS [LARGEST], or floor constant ADDRESS BYTES")
        }
    }
}

fn bare(dir: &Path, precision: Precision, threads: usize, batches: &[usize]) -> anyhow::Result<()> {
    let bundle = Bundle::open(dir)?;
    let geometry = bundle.manifest.geometry;
    let mut encoder = Encoder::open(
        &Runtime::load()?,
        &bundle.encoder_path(precision)?,
        &geometry,
        &EncoderOptions::cpu(threads),
    )?;
    let mut best = 0f64;
    for &batch in batches {
        let tiles: Vec<u8> =
            (0..batch * geometry.tile_bytes()).map(|at| (at * 7919 % 251) as u8).collect();
        encoder.encode_halves(&tiles, batch, batch)?;
        let started = Instant::now();
        let mut times = Vec::new();
        while started.elapsed() < LOOP {
            let began = Instant::now();
            encoder.encode_halves(&tiles, batch, batch)?;
            times.push(began.elapsed());
        }
        let rate = (batch * times.len()) as f64 / started.elapsed().as_secs_f64();
        best = best.max(rate);
        times.sort();
        println!(
            "{precision} batch {batch:>2}: {rate:>8.2} tiles/s, {:.4} s a batch",
            times[times.len() / 2].as_secs_f64()
        );
    }
    println!("{precision} best: {best:.3} tiles/s");
    Ok(())
}

fn constant(address: &str, bytes: usize) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(address).await.with_context(|| address.to_owned())?;
        let body = Bytes::from(vec![7; bytes]);
        let answer = move |request: Request| {
            let body = body.clone();
            async move {
                let asked = to_bytes(request.into_body(), usize::MAX).await;
                let asked = asked.map_err(|error| error.to_string())?;
                drop(asked);
                let body = Body::new(PermitBody::new([body], Vec::new()));
                Ok::<_, String>(axum::response::Response::new(body))
            }
        };
        // What `restain load` asks first.
        let models = json!({"models": [{
            "name": "floor", "version": "1", "default": true, "state": "ready", "geometry": {"image_size": 224},
        }]});
        let models = get(async move || axum::Json(models));
        let router = axum::Router::new().route("/v1/models", models).fallback(answer);
        let metrics = Arc::new(Metrics::new()?);
        let options = ListenOptions {
            port: "floor",
            metrics,
            tls: None,
            max_connections: 64,
            max_connections_of_address: 64,
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(30),
        };
        println!("ready on http://{}", listener.local_addr()?);
        serve(listener, router, Protocol::Http1, options, std::future::pending()).await;
        Ok(())
    })
}
