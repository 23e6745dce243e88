//! The report of a run: the figures as data. The summary, the JSON and the HTML page only format
//! them.

mod distribution;
mod html;
mod text;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use serde::Serialize;

use super::LoadError;
use super::drive::Ending;
use super::options::{LoadArgs, ReportArgs};
use super::server::Model;
use super::tally::{Errors, Second, Tally};
use distribution::{Bin, Percentiles, sorted};

/// The names of the fields are an interface: programs read the JSON. Times are in milliseconds,
/// rates per second.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The version of the JSON's schema.
    schema: u32,
    restain: &'static str,
    model: Model,
    options: LoadArgs,
    /// The tiles that requests were drawn from.
    tiles_drawn_from: usize,
    /// Whether Ctrl-C ended the run; requests in flight at that moment are not counted.
    interrupted: bool,
    /// The length of the window in seconds.
    window_s: f64,
    requests: Requests,
    /// Kind → count, and the message of the first. A kind is the `code` of the server's problem, or
    /// `connect`, `timeout`, `broken`, `check`, `outstanding`, `http_…`.
    errors: BTreeMap<String, Errors>,
    throughput: Throughput,
    /// Latency of 2xx responses, from the intended beginning to the last byte.
    latency_ms: Percentiles,
    /// From the intended to the actual beginning: what the generator itself adds to latencies.
    lateness_ms: Percentiles,
    /// Means of the `Server-Timing` headers; absent without such headers.
    server_timing_ms: Option<TimingMeans>,
    /// By the second that requests ended in, without the warm-up. Seconds after the window hold
    /// requests that began in it.
    seconds: Vec<SecondReport>,
    /// The histogram of latencies.
    distribution: Vec<Bin>,
}

/// Requests that began in the window.
#[derive(Clone, Copy, Debug, Serialize)]
struct Requests {
    begun: u64,
    /// 2xx responses.
    ok: u64,
    /// 2xx responses within the request's timeout.
    in_time: u64,
    errored: u64,
}

/// The work in the window divided by its length: a request of which half lies in the window counts
/// half.
#[derive(Clone, Copy, Debug, Serialize)]
struct Throughput {
    requests_per_s: f64,
    tiles_per_s: f64,
    variants_per_s: f64,
    /// 2xx responses within their timeout.
    goodput_per_s: f64,
    errors_per_s: f64,
    /// Bytes of request bodies, and of response bodies.
    bytes_out_per_s: f64,
    bytes_in_per_s: f64,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct TimingMeans {
    queue: f64,
    encode: f64,
    synthesise: f64,
    total: f64,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct SecondReport {
    second: usize,
    completed: u64,
    errored: u64,
    tiles: u64,
    variants: u64,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
}

impl Report {
    pub(super) fn new(
        args: &LoadArgs,
        model: Model,
        tiles_drawn_from: usize,
        tally: &Tally,
        ending: Ending,
    ) -> Self {
        let interrupted = ending == Ending::Interrupted;
        // Up to the last answer where nothing else ends it.
        let end = tally
            .window
            .end
            .map_or(tally.last, |end| if interrupted { end.min(tally.last) } else { end });
        let window_s = end.saturating_duration_since(tally.window.start).as_secs_f64();
        let (begun, within) = (&tally.begun, &tally.within);
        let errored = begun.errored();
        let latencies = sorted(&begun.latencies);
        let rate = |count: f64| if window_s > 0.0 { count / window_s } else { 0.0 };
        let mean = |sum: f64| sum / begun.timings as f64;
        let timing = &begun.timing_sum;
        Self {
            schema: 1,
            restain: env!("CARGO_PKG_VERSION"),
            model,
            options: args.clone(),
            tiles_drawn_from,
            interrupted,
            window_s,
            requests: Requests {
                begun: begun.ok + errored,
                ok: begun.ok,
                in_time: begun.in_time,
                errored,
            },
            errors: begun.errors.clone(),
            throughput: Throughput {
                requests_per_s: rate(within.ok),
                tiles_per_s: rate(within.tiles),
                variants_per_s: rate(within.variants),
                goodput_per_s: rate(within.in_time),
                errors_per_s: rate(within.errored),
                bytes_out_per_s: rate(within.bytes_out),
                bytes_in_per_s: rate(within.bytes_in),
            },
            latency_ms: Percentiles::of(&latencies),
            lateness_ms: Percentiles::of(&sorted(&begun.lateness)),
            server_timing_ms: (begun.timings > 0).then(|| TimingMeans {
                queue: mean(timing.queue),
                encode: mean(timing.encode),
                synthesise: mean(timing.synthesise),
                total: mean(timing.total),
            }),
            seconds: tally.seconds.iter().enumerate().map(SecondReport::of).collect(),
            distribution: distribution::bins(&latencies),
        }
    }

    /// Returns whether a measured request failed.
    pub fn has_errors(&self) -> bool {
        self.requests.errored > 0
    }

    /// Writes the summary, and the JSON and HTML files that the options name.
    pub(super) fn write(&self, args: &ReportArgs) -> Result<(), LoadError> {
        let to_stdout = args.json.as_deref() == Some(Path::new("-"));
        let json =
            || serde_json::to_string_pretty(self).expect("a report is numbers and strings") + "\n";
        // A closed standard output is not an error.
        if to_stdout {
            eprint!("{}", self.to_text());
            let _ = std::io::stdout().write_all(json().as_bytes());
        } else {
            let _ = std::io::stdout().write_all(self.to_text().as_bytes());
        }
        if let Some(path) = args.json.as_deref().filter(|_| !to_stdout) {
            save(path, &json())?;
        }
        args.html.as_deref().map_or(Ok(()), |path| save(path, &self.to_html()))
    }
}

impl SecondReport {
    fn of((second, of): (usize, &Second)) -> Self {
        let latencies = sorted(&of.latencies);
        let percentile = |share| distribution::percentile(&latencies, share).map(distribution::ms);
        let &Second { ok, errored, tiles, variants, .. } = of;
        Self {
            second,
            completed: ok,
            errored,
            tiles,
            variants,
            p50_ms: percentile(0.5),
            p99_ms: percentile(0.99),
        }
    }
}

fn save(path: &Path, text: &str) -> Result<(), LoadError> {
    std::fs::write(path, text).map_err(|source| LoadError::Report { path: path.to_owned(), source })
}
