//! `restain load`: a load generator, open or closed loop, with a report of throughput, latency and
//! errors.
//!
//! It connects to a server as any client does and shares no code with it but the decoding of
//! pictures, so that a common bug cannot hide. One thread prepares requests, one sends arrivals,
//! and a runtime of one thread sends requests and reads responses; on a machine of few cores the
//! rest is left to the server.
//!
//! It leaves out the expected pixels of a response (see the tests), and retries (a rejected
//! request is counted).

mod arrivals;
mod body;
mod check;
mod choices;
mod connection;
mod drawn;
mod drive;
mod exchange;
mod mix;
mod options;
mod progress;
mod report;
mod server;
mod tally;
mod target;
mod tiles;
mod tls;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

pub use drive::Ending;
pub use options::LoadArgs;
pub use report::Report;
pub use tls::{TlsArgs, server_name};

use arrivals::{Extent, Schedule};
use body::{Prepared, Writer};
use choices::Payload;
use drive::{Driver, Pace};
use exchange::{Failure, Terms, exchange};
use progress::Progress;
use tally::{Tally, Window};
use tiles::Pool;

/// Requests that are prepared, beyond those in flight.
const AHEAD: usize = 16;
/// Tiles of a request that sends tiles for their keys: a number that any server accepts.
const PRELUDE_TILES: usize = 32;
const PRELUDE_BYTES: usize = 16 << 20;

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Server(#[from] server::ServerError),
    #[error(transparent)]
    Tiles(#[from] tiles::TilesError),
    #[error("cannot send a tile before the run: {kind}: {detail}")]
    Prelude { kind: String, detail: String },
    #[error("cannot start the threads of the generator: {0}")]
    Threads(std::io::Error),
    #[error("cannot listen for Ctrl-C: {0}")]
    Signal(std::io::Error),
    #[error("cannot write the report to {}", .path.display())]
    Report { path: PathBuf, source: std::io::Error },
}

/// Sends the load that the options describe, and writes the reports.
///
/// # Errors
/// When the run cannot begin (no server, no tiles), or a report cannot be written. Failed requests
/// are in the report.
pub fn run(args: &LoadArgs) -> Result<(Report, Ending), LoadError> {
    let mut runtime = match args.pace.threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        threads => {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            runtime.worker_threads(threads);
            runtime
        }
    };
    let runtime = runtime.enable_all().build().map_err(LoadError::Threads)?;
    let (report, ending) = runtime.block_on(measure(args))?;
    // Whatever is still under way after Ctrl-C is of no use to anyone.
    runtime.shutdown_background();
    report.write(&args.report)?;
    Ok((report, ending))
}

async fn measure(args: &LoadArgs) -> Result<(Report, Ending), LoadError> {
    let model = server::model(&args.url, args.ask.model.as_deref()).await?;
    let pool =
        Pool::open(&args.tiles, args.ask.body_format, model.geometry.image_size, args.seed())?;
    let drawn_from = pool.tiles.len();
    tracing::info!(
        "{}/{} at {}, {drawn_from} tiles to draw from",
        model.name,
        model.version,
        args.url
    );
    let writer = Writer::new(pool, &args.tiles, &args.ask, args.seed());
    let terms = Arc::new(Terms {
        target: args.url.clone(),
        timeout: args.pace.timeout.0,
        check: args.ask.check,
    });
    if args.tiles.send == Payload::Key {
        send_all(&writer, &terms).await?;
    }
    let interrupt = interrupted()?;

    let extent =
        args.pace.requests.map_or(Extent::Duration(args.pace.duration.0), Extent::Requests);
    let start = Instant::now();
    let window_start = start + args.warmup();
    let end = match extent {
        Extent::Duration(duration) => Some(window_start + duration),
        Extent::Requests(_) => None,
    };
    let driver = Driver {
        pace: pace(args, start, extent),
        terms,
        requests: write_ahead(writer),
        tally: Tally::new(
            Window { start: window_start, end },
            args.ask.timeout_ms.map(Duration::from_millis),
        ),
        progress: Progress::new(extent),
    };
    let (tally, ending) = driver.run(interrupt).await;
    Ok((Report::new(args, model, drawn_from, &tally, ending), ending))
}

fn pace(args: &LoadArgs, start: Instant, extent: Extent) -> Pace {
    let Some(rate) = args.pace.rate else {
        return Pace::Closed { concurrency: args.pace.concurrency, extent };
    };
    let (tell, arrivals) = mpsc::unbounded_channel();
    let schedule = Schedule::new(args.pace.arrivals, rate, args.seed());
    arrivals::announce(start, arrivals::take(schedule, args.warmup(), extent), tell);
    Pace::Open { arrivals, max_outstanding: args.pace.max_outstanding }
}

/// Prepares requests on a thread of its own, so that compressing a tile delays no response.
fn write_ahead(writer: Writer) -> mpsc::Receiver<Prepared> {
    let (send, requests) = mpsc::channel(AHEAD);
    std::thread::spawn(move || {
        for number in 0.. {
            let request =
                writer.request(number).expect("a tile that was written once can be written again");
            if send.blocking_send(request).is_err() {
                break;
            }
        }
    });
    requests
}

/// Sends every tile once, so that requests can send its key.
async fn send_all(writer: &Writer, terms: &Terms) -> Result<(), LoadError> {
    let mut idle = None;
    for request in writer.prelude(PRELUDE_TILES, PRELUDE_BYTES).map_err(tiles::TilesError::from)? {
        let (connection, outcome) = exchange(terms, idle, request).await;
        outcome.result.map_err(|Failure { kind, detail }| LoadError::Prelude { kind, detail })?;
        idle = connection;
    }
    Ok(())
}

/// Starts to listen for Ctrl-C.
fn interrupted() -> Result<impl Future<Output = ()>, LoadError> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt()).map_err(LoadError::Signal)?;
    Ok(async move { _ = interrupt.recv().await })
}
