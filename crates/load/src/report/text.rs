//! The report as plain text, for a terminal.

use std::fmt::Write;

use super::Report;
use super::distribution::Percentiles;
use crate::choices::Payload;

impl Report {
    pub(super) fn to_text(&self) -> String {
        self.write_text().expect("a string takes what is written to it")
    }

    fn write_text(&self) -> Result<String, std::fmt::Error> {
        let mut out = String::new();
        let Self { model, requests, throughput: rate, .. } = self;
        let ended = if self.interrupted { ", interrupted" } else { "" };
        writeln!(
            out,
            "{}/{} at {}: {:.1} s{ended}, {}",
            model.name,
            model.version,
            self.options.url,
            self.window_s,
            self.pace()
        )?;
        writeln!(out, "{}", self.asked())?;
        writeln!(out)?;
        writeln!(
            out,
            "  requests/s {:>12.1}   ({} begun, {} ok, {} errors)",
            rate.requests_per_s, requests.begun, requests.ok, requests.errored
        )?;
        writeln!(
            out,
            "  goodput/s  {:>12.1}   ({} in time)",
            rate.goodput_per_s, requests.in_time
        )?;
        writeln!(out, "  tiles/s    {:>12.1}", rate.tiles_per_s)?;
        writeln!(out, "  variants/s {:>12.1}", rate.variants_per_s)?;
        writeln!(
            out,
            "  MiB/s      {:>12.1} out {:>10.1} in",
            mib(rate.bytes_out_per_s),
            mib(rate.bytes_in_per_s)
        )?;
        writeln!(out)?;
        writeln!(out, "{}", line("latency ms", &self.latency_ms))?;
        if self.options.pace.rate.is_some() {
            writeln!(out, "{}", line("lateness ms", &self.lateness_ms))?;
        }
        if let Some(means) = &self.server_timing_ms {
            let (queue, encode) = (means.queue, means.encode);
            writeln!(
                out,
                "  server ms    mean queue {queue:.2}  encode {encode:.2}  synthesise {:.2}  total \
                {:.2}",
                means.synthesise, means.total
            )?;
        }
        for (kind, errors) in &self.errors {
            writeln!(
                out,
                "  error        {kind} × {}: {}",
                errors.count,
                first_line(&errors.first)
            )?;
        }
        Ok(out)
    }

    /// Describes how requests start.
    pub(super) fn pace(&self) -> String {
        let pace = &self.options.pace;
        match pace.rate {
            Some(rate) => format!("open loop, {rate} requests/s"),
            None => format!("closed loop, {} under way", pace.concurrency),
        }
    }

    /// Describes what requests contain.
    pub(super) fn asked(&self) -> String {
        let (ask, tiles) = (&self.options.ask, &self.options.tiles);
        let list = |numbers: &[usize]| {
            numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(" or ")
        };
        let named = match tiles.send {
            Payload::Key => "key",
            Payload::Tile if tiles.unique => "new tile",
            Payload::Tile => "tile",
        };
        let counted = |numbers: &[usize], name: &str| {
            format!("{} {name}{}", list(numbers), if numbers == [1] { "" } else { "s" })
        };
        let (count, variants) =
            (counted(&ask.tiles_per_request, named), counted(&ask.variants, "variant"));
        let (form, accept, method) = (typed(&ask.body_format), typed(&ask.accept), &ask.method);
        format!(
            "{count} × {variants}, {method}, {form} in, {accept} out, seed {}",
            self.options.seed()
        )
    }
}

/// Returns a choice as the user types it.
fn typed(choice: &impl clap::ValueEnum) -> String {
    choice.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

fn line(name: &str, of: &Percentiles) -> String {
    let ms = |value: Option<f64>| value.map_or("–".to_owned(), |ms| format!("{ms:.2}"));
    format!(
        "  {name:<12} p50 {}  p90 {}  p95 {}  p99 {}  p99.9 {}  max {}",
        ms(of.p50),
        ms(of.p90),
        ms(of.p95),
        ms(of.p99),
        ms(of.p999),
        ms(of.max)
    )
}

fn mib(bytes: f64) -> f64 {
    bytes / f64::from(1 << 20)
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
