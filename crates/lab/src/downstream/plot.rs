//! The runs as one SVG: a panel for each test domain, a line for each method, a dot for each seed, a bar at the mean.

use std::fmt::Write;

use crate::downstream::options::DownstreamArgs;
use crate::downstream::record::Record;
use crate::downstream::statistics::Spread;

const WIDTH: f64 = 640.0;
/// Room for the methods' names, and at the right.
const LEFT: f64 = 110.0;
const RIGHT: f64 = 70.0;
const LINE: f64 = 34.0;
/// Above a panel, for its name; below it, for its numbers.
const TITLE: f64 = 30.0;
const AXIS: f64 = 40.0;
/// How far dots are shaken apart, up and down.
const SPREAD: f64 = 9.0;

/// Dark on light or light on dark, as the reader's screen is.
const STYLE: &str = "<style>svg{font:13px system-ui,sans-serif;background:#fff;color:#222}\
    text{fill:currentColor}.grid{stroke:currentColor;opacity:.18}.dot{fill:#1f6fb4;opacity:.6}.mean{stroke:#c8501e;stroke-width:3}\
    @media (prefers-color-scheme:dark){svg{background:#16181c;color:#ddd}.dot{fill:#6db3ee}.mean{stroke:#ff9d6c}}</style>";

pub(super) fn svg(record: &Record, args: &DownstreamArgs) -> String {
    let panel = TITLE + LINE * args.methods.len() as f64 + AXIS;
    let height = panel * args.test_domains.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-label=\"Accuracy on unseen domains, by method and seed\">{STYLE}\n"
    );
    for (d, domain) in args.test_domains.iter().enumerate() {
        draw(&mut svg, panel * d as f64, domain, &accuracies(record, args, d));
    }
    svg + "</svg>\n"
}

/// Of each method, over the seeds; per cent.
fn accuracies(
    record: &Record,
    args: &DownstreamArgs,
    domain: usize,
) -> Vec<(&'static str, Vec<f64>)> {
    let seeds = || args.seeds_from..args.seeds_from + args.seeds;
    let of = |&method: &_| {
        let runs = seeds().filter_map(|seed| record.find(seed, method));
        (method.name(), runs.map(|run| 100.0 * run.tests[domain].accuracy).collect())
    };
    args.methods.iter().map(of).collect()
}

fn draw(svg: &mut String, top: f64, domain: &str, methods: &[(&'static str, Vec<f64>)]) {
    let mut put =
        |what: std::fmt::Arguments| svg.write_fmt(what).expect("a string takes everything");
    let all = || methods.iter().flat_map(|(_, values)| values).copied();
    let step = step(all().fold(f64::INFINITY, f64::min), all().fold(f64::NEG_INFINITY, f64::max));
    let low = (all().fold(f64::INFINITY, f64::min) / step - 0.1).floor() * step;
    let high =
        ((all().fold(f64::NEG_INFINITY, f64::max) / step + 0.1).ceil() * step).max(low + step);
    let x = |value: f64| LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT);
    let bottom = top + TITLE + LINE * methods.len() as f64;
    put(format_args!(
        "<text x=\"{LEFT}\" y=\"{}\" font-weight=\"600\">{}, accuracy in per cent</text>\n",
        top + 20.0,
        escaped(domain)
    ));
    for tick in 0..=((high - low) / step).round() as usize {
        let value = low + tick as f64 * step;
        let (from, at, below) = (top + TITLE, x(value), bottom + 18.0);
        put(format_args!(
            "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{from}\" y2=\"{bottom}\"/>"
        ));
        put(format_args!(
            "<text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"middle\">{value}</text>\n"
        ));
    }
    for (row, (method, values)) in methods.iter().enumerate() {
        let y = top + TITLE + LINE * (row as f64 + 0.5);
        put(format_args!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{method}</text>",
            LEFT - 10.0,
            y + 4.0
        ));
        for (i, &value) in values.iter().enumerate() {
            let shaken = y + SPREAD * (2.0 * (i as f64 + 0.5) / values.len() as f64 - 1.0);
            put(format_args!(
                "<circle class=\"dot\" cx=\"{:.1}\" cy=\"{shaken:.1}\" r=\"3.5\"/>",
                x(value)
            ));
        }
        let mean = Spread::of(values).mean;
        let (at, from, to, beside) = (x(mean), y - 12.0, y + 12.0, WIDTH - RIGHT + 12.0);
        put(format_args!(
            "<line class=\"mean\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{from}\" y2=\"{to}\"/>"
        ));
        put(format_args!("<text x=\"{beside}\" y=\"{}\">{mean:.1}</text>\n", y + 4.0));
    }
}

/// Between two ticks.
fn step(low: f64, high: f64) -> f64 {
    [0.5, 1.0, 2.0, 5.0, 10.0].into_iter().find(|step| (high - low) / step <= 8.0).unwrap_or(20.0)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
