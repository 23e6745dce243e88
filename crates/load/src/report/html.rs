//! The report as one HTML file: figures, three charts, tables and the options of the run.

use restain_report::{Axes, Axis, Cells, Page, Plot, Series, number};

use super::Report;
use super::distribution::Percentiles;

/// Answered requests, and the median.
const OK: Series = Series::of(0);
const P99: Series = Series::of(1);

impl Report {
    pub(super) fn to_html(&self) -> String {
        let (model, url) = (&self.model, &self.options.url);
        let mut page =
            Page::new(&format!("restain load: {}/{} at {url}", model.name, model.version));
        let ended = if self.interrupted { ", interrupted" } else { "" };
        page.text(&format!("{:.1} s{ended}, {}; {}", self.window_s, self.pace(), self.asked()));
        self.figures(&mut page);
        page.section("Throughput", |page| {
            let legend = [(OK, "answered"), (Series::BAD, "errors")];
            page.plot("Requests that ended in each second", &legend, self.throughput_plot());
        });
        page.section("Latency", |page| {
            let legend = [(OK, "p50"), (P99, "p99")];
            page.plot("Of the requests that ended in each second", &legend, self.latency_plot());
        });
        page.section("Distribution of latencies", |page| match self.distribution_plot() {
            Some(plot) => page.plot("Requests by latency", &[], plot),
            None => page.text("No request was answered."),
        });
        page.section("", |page| self.tables(page));
        page.details("Options of the run", |page| {
            let options = serde_json::to_string_pretty(&self.options);
            page.preformatted(&options.expect("options are numbers and strings"));
        });
        page.finish()
    }

    fn figures(&self, page: &mut Page) {
        let rate = &self.throughput;
        let ms = |value: Option<f64>| value.map_or("–".to_owned(), number);
        let errors = self.requests.errored;
        page.figures(&[
            ("requests/s", number(rate.requests_per_s), false),
            ("tiles/s", number(rate.tiles_per_s), false),
            ("variants/s", number(rate.variants_per_s), false),
            ("goodput/s", number(rate.goodput_per_s), false),
            ("ms, p50", ms(self.latency_ms.p50), false),
            ("ms, p99", ms(self.latency_ms.p99), false),
            ("errors", errors.to_string(), errors > 0),
        ]);
    }

    /// A chart by seconds, up to `most` of what `y` names, with the end of the window where the
    /// seconds go on after it.
    fn by_seconds(&self, title: &str, y: &str, most: f64) -> Plot {
        let last = self.window_s.max(self.seconds.len() as f64).max(1.0);
        let mut plot = Plot::new(&Axes {
            title,
            x: Axis::new("seconds", 0.0, last),
            y: Axis::covering(y, [0.0, most.max(1e-3)]).expect("both are finite"),
        });
        if self.seconds.len() as f64 > self.window_s.ceil() {
            plot.mark(self.window_s, "end of the window");
        }
        plot
    }

    fn throughput_plot(&self) -> Plot {
        let most = self.seconds.iter().map(|second| second.completed + second.errored).max();
        let title = "Requests that ended in each second";
        let mut plot = self.by_seconds(title, "requests/s", most.unwrap_or(0) as f64);
        for second in &self.seconds {
            let span = (second.second as f64, second.second as f64 + 1.0);
            let said = format!(
                "second {}: {} completed, {} errored, {} variants",
                second.second, second.completed, second.errored, second.variants
            );
            plot.bar(OK, span, (0.0, second.completed as f64), &said);
            plot.bar(Series::BAD, span, (second.completed as f64, second.errored as f64), &said);
        }
        plot
    }

    fn latency_plot(&self) -> Plot {
        let most = self.seconds.iter().filter_map(|second| second.p99_ms).fold(0.0, f64::max);
        let title = "Latency of the requests that ended in each second";
        let mut plot = self.by_seconds(title, "ms", most);
        // Over the middle of each second.
        let middle = |second: usize| second as f64 + 0.5;
        plot.line(P99, self.seconds.iter().map(|of| (middle(of.second), of.p99_ms)));
        plot.line(OK, self.seconds.iter().map(|of| (middle(of.second), of.p50_ms)));
        plot
    }

    fn distribution_plot(&self) -> Option<Plot> {
        let (first, last) = (self.distribution.first()?, self.distribution.last()?);
        let most = self.distribution.iter().map(|bin| bin.count).max()?;
        let mut plot = Plot::new(&Axes {
            title: "Requests by latency",
            x: Axis::logarithmic("ms, logarithmic", first.from_ms, last.to_ms),
            y: Axis::covering("requests", [0.0, most as f64])?,
        });
        for bin in &self.distribution {
            let said =
                format!("{} to {} ms: {}", number(bin.from_ms), number(bin.to_ms), bin.count);
            plot.bar(OK, (bin.from_ms, bin.to_ms), (0.0, bin.count as f64), &said);
        }
        // One mark where both would lie on each other.
        let marks = [(self.latency_ms.p50, "p50"), (self.latency_ms.p99, "p99")];
        let apart =
            self.latency_ms.p50.zip(self.latency_ms.p99).is_some_and(|(p50, p99)| p99 > p50 * 1.2);
        for (at, name) in marks.into_iter().take(if apart { 2 } else { 1 }) {
            plot.mark(at.unwrap_or_default(), name);
        }
        Some(plot)
    }

    fn tables(&self, page: &mut Page) {
        let row = |name: &str, of: &Percentiles| {
            let Percentiles { mean, p50, p90, p95, p99, p999, max, .. } = *of;
            let cells = [mean, p50, p90, p95, p99, p999, max]
                .map(|value| value.map_or("–".to_owned(), |ms| format!("{ms:.2}")));
            std::iter::once(name.to_owned()).chain(cells).collect::<Vec<_>>()
        };
        page.table(
            Cells::Numbers,
            &["ms", "mean", "p50", "p90", "p95", "p99", "p99.9", "max"],
            &[
                row("latency", &self.latency_ms),
                row("lateness of the generator", &self.lateness_ms),
            ],
        );
        if let Some(means) = &self.server_timing_ms {
            let cells = [means.queue, means.encode, means.synthesise, means.total];
            let cells = cells.map(|ms| format!("{ms:.2}"));
            let row: Vec<String> = std::iter::once(String::new()).chain(cells).collect();
            let head = ["the server's own, mean ms", "queue", "encode", "synthesise", "total"];
            page.table(Cells::Numbers, &head, &[row]);
        }
        if !self.errors.is_empty() {
            let rows = self.errors.iter().map(|(kind, errors)| {
                [kind.clone(), errors.count.to_string(), errors.first.clone()]
            });
            let rows: Vec<_> = rows.collect();
            page.table(Cells::Text, &["error", "requests", "first message"], &rows);
        }
    }
}
