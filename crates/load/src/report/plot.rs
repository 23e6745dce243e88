//! Plots as SVG text. Colours are classes that the page gives a light and a dark look.

use std::fmt::Write;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 250.0;
/// Room for the numbers beside and below the plot.
const LEFT: f64 = 62.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 40.0;

/// Values to places.
#[derive(Clone, Copy)]
struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    logarithmic: bool,
}

impl Scale {
    fn at(&self, value: f64) -> f64 {
        let bend = |value: f64| if self.logarithmic { value.ln() } else { value };
        let share = (bend(value) - bend(self.low)) / (bend(self.high) - bend(self.low));
        self.from + share.clamp(0.0, 1.0) * (self.to - self.from)
    }

    /// Round values, a handful of them.
    fn ticks(&self) -> Vec<f64> {
        if self.logarithmic {
            let decades = self.low.log10().floor() as i32..=self.high.log10().ceil() as i32;
            let digits: &[f64] = match self.high / self.low {
                ratio if ratio > 1_000.0 => &[1.0],
                ratio if ratio > 12.0 => &[1.0, 2.0, 5.0],
                _ => &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0],
            };
            let all = decades
                .flat_map(|decade| digits.iter().map(move |digit| digit * 10f64.powi(decade)));
            return all.filter(|tick| (self.low..=self.high).contains(tick)).collect();
        }
        let step = nice((self.high - self.low) / 5.0);
        let count = ((self.high - self.low) / step + 1e-9).floor() as usize;
        (0..=count).map(|n| self.low + n as f64 * step).collect()
    }
}

/// The next of 1, 2, 5 × 10^k.
fn nice(value: f64) -> f64 {
    let decade = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .map(|digit| digit * decade)
        .into_iter()
        .find(|&step| step >= value * (1.0 - 1e-9))
        .unwrap_or(10.0 * decade)
}

/// One plot. Bars and lines are laid over each other in the order in which they are drawn.
pub(super) struct Plot {
    svg: String,
    x: Scale,
    y: Scale,
}

/// From where to where a plot goes, and what is along its sides.
pub(super) struct Frame<'a> {
    /// What the plot shows, for those who cannot see it.
    pub title: &'a str,
    pub x: (f64, f64),
    pub x_label: &'a str,
    pub logarithmic: bool,
    pub y_high: f64,
    pub y_label: &'a str,
}

impl Plot {
    pub(super) fn new(frame: &Frame<'_>) -> Self {
        let (low, high) = frame.x;
        let x = Scale { low, high, from: LEFT, to: WIDTH - RIGHT, logarithmic: frame.logarithmic };
        let step = nice(frame.y_high.max(1e-3) / 5.0);
        let y_high = (frame.y_high.max(1e-3) / step - 1e-9).ceil() * step;
        let y =
            Scale { low: 0.0, high: y_high, from: HEIGHT - BOTTOM, to: TOP, logarithmic: false };
        let mut plot = Self { svg: String::new(), x, y };
        plot.put(format_args!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
            frame.title
        ));
        for tick in y.ticks() {
            let at = y.at(tick);
            plot.put(format_args!(
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>",
                WIDTH - RIGHT
            ));
            plot.text(LEFT - 8.0, at + 4.0, "end", &number(tick));
        }
        for tick in x.ticks() {
            plot.text(x.at(tick), HEIGHT - BOTTOM + 16.0, "middle", &number(tick));
        }
        plot.text((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 6.0, "middle", frame.x_label);
        let middle = (TOP + HEIGHT - BOTTOM) / 2.0;
        plot.put(format_args!("<text text-anchor=\"middle\" transform=\"translate(13 {middle}) rotate(-90)\">{}</text>", frame.y_label));
        plot
    }

    /// A bar from `from` to `to` of the x axis, standing on `base`; `said` appears on hovering.
    pub(super) fn bar(
        &mut self,
        class: &str,
        (from, to): (f64, f64),
        (base, height): (f64, f64),
        said: &str,
    ) {
        let (left, right) = (self.x.at(from), self.x.at(to));
        let (bottom, top) = (self.y.at(base), self.y.at(base + height));
        if bottom - top <= 0.0 {
            return;
        }
        // A gap between bars, as long as they are wide enough to bear one.
        let gap = if right - left > 4.0 { 1.0 } else { 0.0 };
        self.put(format_args!(
            "<rect class=\"{class}\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{:.2}\" height=\"{:.1}\"><title>{said}</title></rect>",
            (right - left - gap).max(0.5),
            bottom - top
        ));
    }

    /// A line through the points, broken where there is none. A point alone is a dot.
    pub(super) fn line(&mut self, class: &str, points: impl Iterator<Item = (f64, Option<f64>)>) {
        let mut path = String::new();
        let mut run = 0;
        let mut last = (0.0, 0.0);
        let dot = |run: usize, (x, y): (f64, f64)| {
            if run == 1 { format!("M{:.1} {y:.1}h4", x - 2.0) } else { String::new() }
        };
        for (x, y) in points {
            let Some(y) = y else {
                path += &dot(run, last);
                run = 0;
                continue;
            };
            last = (self.x.at(x), self.y.at(y));
            path += &format!("{}{:.1} {:.1}", if run == 0 { "M" } else { "L" }, last.0, last.1);
            run += 1;
        }
        path += &dot(run, last);
        self.put(format_args!("<path class=\"{class}\" d=\"{path}\"/>"));
    }

    /// An upright line with a name.
    pub(super) fn mark(&mut self, x: f64, name: &str) {
        let at = self.x.at(x);
        self.put(format_args!(
            "<line class=\"mark\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{}\"/>",
            HEIGHT - BOTTOM
        ));
        let (x, anchor) = if at > WIDTH * 0.8 { (at - 4.0, "end") } else { (at + 4.0, "start") };
        self.text(x, TOP + 9.0, anchor, name);
    }

    pub(super) fn end(mut self) -> String {
        self.svg.push_str("</svg>\n");
        self.svg
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, text: &str) {
        self.put(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
        ));
    }

    fn put(&mut self, what: std::fmt::Arguments<'_>) {
        self.svg.write_fmt(what).expect("a string takes what is written to it");
        self.svg.push('\n');
    }
}

/// With as few digits as tell it apart from its neighbours.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 10_000.0 => format!("{}k", trimmed(value / 1e3, 1)),
        size if size >= 100.0 => trimmed(value, 0),
        size if size >= 1.0 => trimmed(value, 2),
        _ => trimmed(value, 4),
    }
}

fn trimmed(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        let scale = |low, high, logarithmic| Scale { low, high, from: 0.0, to: 1.0, logarithmic };
        assert_eq!(scale(0.0, 30.0, false).ticks(), [0.0, 10.0, 20.0, 30.0]);
        assert_eq!(scale(0.8, 30.0, true).ticks(), [1.0, 2.0, 5.0, 10.0, 20.0]);
        assert_eq!(scale(0.8, 3_000.0, true).ticks(), [1.0, 10.0, 100.0, 1_000.0]);
        assert_eq!(
            (number(0.05), number(12.0), number(250.0), number(12_500.0)),
            ("0.05".into(), "12".into(), "250".into(), "12.5k".into())
        );
    }

    #[test]
    fn a_line_is_broken_where_nothing_was_measured() {
        let mut plot = Plot::new(&Frame {
            title: "",
            x: (0.0, 4.0),
            x_label: "",
            logarithmic: false,
            y_high: 1.0,
            y_label: "",
        });
        plot.line(
            "p50",
            [(0.0, Some(1.0)), (1.0, Some(0.5)), (2.0, None), (3.0, Some(1.0))].into_iter(),
        );
        let svg = plot.end();
        let path = svg.split(" d=\"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!(
            (path.matches('M').count(), path.matches('L').count(), path.matches('h').count()),
            (3, 1, 1),
            "{path}"
        );
    }
}
