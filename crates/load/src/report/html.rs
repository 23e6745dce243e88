//! The report as one page that asks nobody for anything: figures, three plots, and how it was measured.

use std::fmt::Write;

use super::Report;
use super::distribution::Percentiles;
use super::plot::{Frame, Plot, number};

impl Report {
    pub(super) fn to_html(&self) -> String {
        let page = include_str!("page.html");
        let title = format!(
            "restain load: {}/{} at {}",
            self.model.name, self.model.version, self.options.url
        );
        let ended = if self.interrupted { ", interrupted" } else { "" };
        let subtitle = format!("{:.1} s{ended}, {}; {}", self.window_s, self.pace(), self.asked());
        let options =
            serde_json::to_string_pretty(&self.options).expect("options are numbers and strings");
        let parts = [
            ("title", escape(&title)),
            ("subtitle", escape(&subtitle)),
            ("figures", self.figures()),
            ("throughput", self.throughput_plot()),
            ("latency", self.latency_plot()),
            ("distribution", self.distribution_plot()),
            ("tables", self.tables()),
            ("options", escape(&options)),
        ];
        // In one pass, so that nothing of what is filled in is taken for a place to fill.
        let mut out = String::new();
        for (n, piece) in page.split("{{").enumerate() {
            let (name, rest) =
                if n == 0 { ("", piece) } else { piece.split_once("}}").unwrap_or(("", piece)) };
            out += parts.iter().find(|(part, _)| *part == name).map_or("", |(_, text)| text);
            out += rest;
        }
        out
    }

    fn figures(&self) -> String {
        let rate = &self.throughput;
        let ms = |value: Option<f64>| value.map_or("–".to_owned(), number);
        let errors = self.requests.errored;
        let figures = [
            ("requests/s", number(rate.requests_per_s), ""),
            ("tiles/s", number(rate.tiles_per_s), ""),
            ("variants/s", number(rate.variants_per_s), ""),
            ("goodput/s", number(rate.goodput_per_s), ""),
            ("ms, p50", ms(self.latency_ms.p50), ""),
            ("ms, p99", ms(self.latency_ms.p99), ""),
            ("errors", errors.to_string(), if errors > 0 { " bad" } else { "" }),
        ];
        figures.iter().fold(String::new(), |out, (name, value, class)| {
            out + &format!("<div class=\"figure{class}\"><b>{value}</b>{name}</div>\n")
        })
    }

    /// The end of the time axis of a plot by seconds.
    fn last_second(&self) -> f64 {
        self.window_s.max(self.seconds.len() as f64).max(1.0)
    }

    /// Says where the window ends, when the plot goes on.
    fn mark_end(&self, plot: &mut Plot) {
        if self.seconds.len() as f64 > self.window_s.ceil() {
            plot.mark(self.window_s, "end of the window");
        }
    }

    fn throughput_plot(&self) -> String {
        let most =
            self.seconds.iter().map(|second| second.completed + second.errored).max().unwrap_or(0);
        let mut plot = Plot::new(&Frame {
            title: "Requests that ended in each second",
            x: (0.0, self.last_second()),
            x_label: "seconds",
            logarithmic: false,
            y_high: most as f64,
            y_label: "requests/s",
        });
        for second in &self.seconds {
            let span = (second.second as f64, second.second as f64 + 1.0);
            let said = format!(
                "second {}: {} completed, {} errored, {} variants",
                second.second, second.completed, second.errored, second.variants
            );
            plot.bar("ok", span, (0.0, second.completed as f64), &said);
            plot.bar("bad", span, (second.completed as f64, second.errored as f64), &said);
        }
        self.mark_end(&mut plot);
        plot.end()
    }

    fn latency_plot(&self) -> String {
        let most = self.seconds.iter().filter_map(|second| second.p99_ms).fold(0.0, f64::max);
        let mut plot = Plot::new(&Frame {
            title: "Latency of the requests that ended in each second",
            x: (0.0, self.last_second()),
            x_label: "seconds",
            logarithmic: false,
            y_high: most,
            y_label: "ms",
        });
        // Over the middle of the second that they are of.
        plot.line(
            "p99",
            self.seconds.iter().map(|second| (second.second as f64 + 0.5, second.p99_ms)),
        );
        plot.line(
            "p50",
            self.seconds.iter().map(|second| (second.second as f64 + 0.5, second.p50_ms)),
        );
        self.mark_end(&mut plot);
        plot.end()
    }

    fn distribution_plot(&self) -> String {
        let (Some(first), Some(last)) = (self.distribution.first(), self.distribution.last())
        else {
            return "<p>No request was answered.</p>\n".to_owned();
        };
        let most = self.distribution.iter().map(|bin| bin.count).max().unwrap_or(0);
        let mut plot = Plot::new(&Frame {
            title: "How many requests had which latency",
            x: (first.from_ms, last.to_ms),
            x_label: "ms, logarithmic",
            logarithmic: true,
            y_high: most as f64,
            y_label: "requests",
        });
        for bin in &self.distribution {
            let said =
                format!("{} to {} ms: {}", number(bin.from_ms), number(bin.to_ms), bin.count);
            plot.bar("ok", (bin.from_ms, bin.to_ms), (0.0, bin.count as f64), &said);
        }
        // One mark where both would lie on each other.
        let marks = [(self.latency_ms.p50, "p50"), (self.latency_ms.p99, "p99")];
        let apart =
            self.latency_ms.p50.zip(self.latency_ms.p99).is_some_and(|(p50, p99)| p99 > p50 * 1.2);
        for (at, name) in marks.into_iter().take(if apart { 2 } else { 1 }) {
            plot.mark(at.unwrap_or_default(), name);
        }
        plot.end()
    }

    fn tables(&self) -> String {
        self.write_tables().expect("a string takes what is written to it")
    }

    fn write_tables(&self) -> Result<String, std::fmt::Error> {
        let mut out = String::from(
            "<table><tr><th>ms</th><th>mean</th><th>p50</th><th>p90</th><th>p95</th><th>p99</th><th>p99.9</th><th>max</th></tr>\n",
        );
        for (name, of) in
            [("latency", &self.latency_ms), ("lateness of the generator", &self.lateness_ms)]
        {
            let Percentiles { mean, p50, p90, p95, p99, p999, max, .. } = *of;
            let cell = |value: Option<f64>| {
                format!("<td>{}</td>", value.map_or("–".to_owned(), |ms| format!("{ms:.2}")))
            };
            writeln!(
                out,
                "<tr><th>{name}</th>{}</tr>",
                [mean, p50, p90, p95, p99, p999, max].map(cell).concat()
            )?;
        }
        out += "</table>\n";
        if let Some(means) = &self.server_timing_ms {
            let (queue, encode, synthesise, total) =
                (means.queue, means.encode, means.synthesise, means.total);
            writeln!(
                out,
                "<table><tr><th>the server's own, mean ms</th><th>queue</th><th>encode</th><th>synthesise</th><th>total</th></tr>"
            )?;
            writeln!(
                out,
                "<tr><th></th><td>{queue:.2}</td><td>{encode:.2}</td><td>{synthesise:.2}</td><td>{total:.2}</td></tr></table>"
            )?;
        }
        if !self.errors.is_empty() {
            writeln!(
                out,
                "<table class=\"errors\"><tr><th>error</th><th>requests</th><th>the first said</th></tr>"
            )?;
            for (kind, errors) in &self.errors {
                writeln!(
                    out,
                    "<tr><th>{}</th><td>{}</td><td class=\"said\">{}</td></tr>",
                    escape(kind),
                    errors.count,
                    escape(&errors.first)
                )?;
            }
            out += "</table>\n";
        }
        Ok(out)
    }
}

/// Text that a page shows as it is, whoever wrote it.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
