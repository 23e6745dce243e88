//! Charts as SVG text. Colours are classes, which `chart.css` gives a light and a dark look.

use std::fmt::Write;

use crate::axis::{Axes, Scale};
use crate::escape;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 250.0;
/// The size of a chart that shares its line with another.
const HALF_WIDTH: f64 = 470.0;
const HALF_HEIGHT: f64 = 220.0;
/// Room for what is written beside and below the plot.
const LEFT: f64 = 62.0;
const LEFT_OF_NAMES: f64 = 120.0;
const RIGHT: f64 = 20.0;
const RIGHT_OF_NAMES: f64 = 60.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 40.0;
/// The height of a name's row.
const ROW: f64 = 34.0;
/// Above a stacked plot, for its heading.
const HEADING: f64 = 26.0;
/// Points that are drawn of a line at most; each is the mean of its share.
const POINTS: usize = 360;

/// What a line, bar or dot belongs to: it decides the colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Series(Class);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Bad,
    Number(usize),
}

impl Series {
    /// The colour of errors.
    pub const BAD: Self = Self(Class::Bad);

    /// Returns the series of a number; after eight the colours begin again.
    pub const fn of(number: usize) -> Self {
        Self(Class::Number(number % 8))
    }
}

impl std::fmt::Display for Series {
    /// Writes the class that `chart.css` knows it by.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Class::Bad => f.write_str("bad"),
            Class::Number(number) => write!(f, "series{number}"),
        }
    }
}

/// One chart. What is drawn later lies above what was drawn before. A value outside the axes is
/// drawn at their end.
pub struct Plot {
    body: String,
    title: String,
    width: f64,
    height: f64,
    bottom: f64,
    right: f64,
    x: Scale,
    y: Scale,
}

impl Plot {
    /// Draws the frame: grid lines, the values or names along both axes, and their labels.
    pub fn new(axes: &Axes<'_>) -> Self {
        Self::sized(axes, WIDTH, HEIGHT)
    }

    /// As [`Plot::new`], for [`Page::charts`](crate::Page::charts): smaller, so that its text is as
    /// large as elsewhere.
    pub fn half(axes: &Axes<'_>) -> Self {
        Self::sized(axes, HALF_WIDTH, HALF_HEIGHT)
    }

    fn sized(axes: &Axes<'_>, width: f64, height: f64) -> Self {
        let rows = axes.y.rows() as f64;
        let (left, right, height) = if rows > 0.0 {
            (LEFT_OF_NAMES, width - RIGHT_OF_NAMES, TOP + ROW * rows + BOTTOM)
        } else {
            (LEFT, width - RIGHT, height)
        };
        let bottom = height - BOTTOM;
        let x = Scale::new(&axes.x, left, right);
        let (from, to) = if rows > 0.0 { (TOP, bottom) } else { (bottom, TOP) };
        let y = Scale::new(&axes.y, from, to);
        let mut plot = Self {
            body: String::new(),
            title: escape(axes.title),
            width,
            height,
            bottom,
            right,
            x,
            y,
        };
        for (at, text) in plot.y.ticks() {
            plot.grid([left, right], [at, at]);
            plot.text(left - 8.0, at + 4.0, "end", &text);
        }
        for (at, text) in plot.x.ticks() {
            if rows > 0.0 {
                plot.grid([at, at], [TOP, bottom]);
            }
            plot.text(at, bottom + 16.0, "middle", &text);
        }
        plot.text((left + right) / 2.0, height - 6.0, "middle", axes.x.label);
        plot.put(format_args!(
            "<text text-anchor=\"middle\" transform=\"translate(13 {}) rotate(-90)\">{}</text>",
            (TOP + bottom) / 2.0,
            escape(axes.y.label)
        ));
        plot
    }

    /// Draws a bar from `from` to `to` of the x axis that stands on `base`; `said` appears on
    /// hovering.
    pub fn bar(
        &mut self,
        series: Series,
        (from, to): (f64, f64),
        (base, height): (f64, f64),
        said: &str,
    ) {
        let places = [self.x.place(from), self.x.place(to)];
        let [Some(left), Some(right)] = places else { return };
        let places = [self.y.place(base), self.y.place(base + height)];
        let [Some(bottom), Some(top)] = places else { return };
        if bottom - top <= 0.0 {
            return;
        }
        // A gap between bars that are wide enough for one.
        let gap = if right - left > 4.0 { 1.0 } else { 0.0 };
        self.put(format_args!(
            "<rect class=\"{series}\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{:.2}\" \
            height=\"{:.1}\"><title>{}</title></rect>",
            (right - left - gap).max(0.5),
            bottom - top,
            escape(said)
        ));
    }

    /// Draws a line through the points. It is broken where a value is absent or the axes cannot
    /// show it; a point alone is a short dash. A long line is drawn through means.
    pub fn line(&mut self, series: Series, points: impl IntoIterator<Item = (f64, Option<f64>)>) {
        let places: Vec<Option<(f64, f64)>> =
            points.into_iter().map(|(x, y)| Some((self.x.place(x)?, self.y.place(y?)?))).collect();
        let each = places.len().div_ceil(POINTS).max(1);
        let mut path = String::new();
        for run in places.split(Option::is_none).filter(|run| !run.is_empty()) {
            let run: Vec<(f64, f64)> = run.chunks(each).map(mean).collect();
            for (n, (x, y)) in run.iter().enumerate() {
                path += &format!("{}{x:.1} {y:.1}", if n == 0 { "M" } else { "L" });
            }
            if let [(x, y)] = run[..] {
                path += &format!("M{:.1} {y:.1}h4", x - 2.0);
            }
        }
        self.put(format_args!("<path class=\"{series}\" d=\"{path}\"/>"));
    }

    /// Draws a dot.
    pub fn dot(&mut self, series: Series, x: f64, y: f64) {
        let (Some(x), Some(y)) = (self.x.place(x), self.y.place(y)) else { return };
        self.put(format_args!(
            "<circle class=\"{series}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"/>"
        ));
    }

    /// Draws a short upright stroke at `x` in the row at `y`, and writes `text` at the right of the
    /// row.
    pub fn mean(&mut self, series: Series, x: f64, y: f64, text: &str) {
        let (Some(x), Some(y)) = (self.x.place(x), self.y.place(y)) else { return };
        self.put(format_args!(
            "<path class=\"mean {series}\" d=\"M{x:.1} {:.1}V{:.1}\"/>",
            y - 12.0,
            y + 12.0
        ));
        self.text(self.right + 10.0, y + 4.0, "start", text);
    }

    /// Draws an upright line over the whole height, with a name.
    pub fn mark(&mut self, x: f64, name: &str) {
        let Some(at) = self.x.place(x) else { return };
        let bottom = self.bottom;
        self.put(format_args!(
            "<line class=\"mark\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>"
        ));
        let (x, anchor) =
            if at > self.width * 0.8 { (at - 4.0, "end") } else { (at + 4.0, "start") };
        self.text(x, TOP + 9.0, anchor, name);
    }

    /// Returns the chart as an `<svg>` element for a page with `chart.css`.
    pub(crate) fn finish(self) -> String {
        let Self { body, title, width, height, .. } = self;
        format!(
            "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" \
            aria-label=\"{title}\">\n{body}</svg>\n"
        )
    }

    fn grid(&mut self, x: [f64; 2], y: [f64; 2]) {
        self.put(format_args!(
            "<line class=\"grid\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>",
            x[0], x[1], y[0], y[1]
        ));
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, text: &str) {
        self.put(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>",
            escape(text)
        ));
    }

    fn put(&mut self, what: std::fmt::Arguments<'_>) {
        self.body.write_fmt(what).expect("writing to a string does not fail");
        self.body.push('\n');
    }
}

/// The mean of places, none of which is absent.
fn mean(places: &[Option<(f64, f64)>]) -> (f64, f64) {
    let sum = places.iter().flatten().fold((0.0, 0.0), |sum, at| (sum.0 + at.0, sum.1 + at.1));
    (sum.0 / places.len() as f64, sum.1 / places.len() as f64)
}

/// Returns an SVG file with each chart under its heading.
pub fn stacked(title: &str, plots: Vec<(&str, Plot)>) -> String {
    let height: f64 = plots.iter().map(|(_, plot)| HEADING + plot.height).sum();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"file\" viewBox=\"0 0 {WIDTH} {height}\" \
        role=\"img\" aria-label=\"{}\">\n<style>{}</style>\n",
        escape(title),
        include_str!("chart.css")
    );
    let mut top = 0.0;
    for (heading, plot) in plots {
        svg += &format!(
            "<text class=\"heading\" x=\"14\" y=\"{}\">{}</text>\n<g transform=\"translate(0 \
            {})\">\n{}</g>\n",
            top + 19.0,
            escape(heading),
            top + HEADING,
            plot.body
        );
        top += HEADING + plot.height;
    }
    svg + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Axis;

    fn plot(x: f64, y: f64) -> Plot {
        let axes = Axes { title: "a < b", x: Axis::new("", 0.0, x), y: Axis::new("", 0.0, y) };
        Plot::new(&axes)
    }

    fn path(svg: &str) -> &str {
        svg.split(" d=\"").nth(1).unwrap().split('"').next().unwrap()
    }

    #[test]
    fn a_line_is_broken_where_nothing_was_measured() {
        let mut plot = plot(4.0, 1.0);
        let points = [(0.0, Some(1.0)), (1.0, Some(0.5)), (2.0, None), (3.0, Some(1.0))];
        plot.line(Series::of(0), points);
        let svg = plot.finish();
        let count = |letter: char| path(&svg).matches(letter).count();
        assert_eq!((count('M'), count('L'), count('h')), (3, 1, 1), "{svg}");
    }

    #[test]
    fn a_long_line_is_drawn_through_means_inside_its_frame() {
        let axes = Axes {
            title: "",
            x: Axis::new("", 0.0, 1000.0),
            y: Axis::logarithmic("", 1.0, 1000.0),
        };
        let mut plot = Plot::new(&axes);
        plot.line(Series::of(0), (1..=1000).map(|n| (f64::from(n), Some(1000.0 / f64::from(n)))));
        let svg = plot.finish();
        let places: Vec<(f64, f64)> = path(&svg)[1..]
            .split('L')
            .map(|place| place.split_once(' ').unwrap())
            .map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap()))
            .collect();
        assert_eq!(places.len(), 334);
        assert!(places.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1));
        let inside = |&(x, y): &(f64, f64)| {
            (LEFT..=WIDTH - RIGHT).contains(&x) && (TOP..=HEIGHT - BOTTOM).contains(&y)
        };
        assert!(places.iter().all(inside));
    }

    #[test]
    fn text_from_outside_is_escaped() {
        let mut plot = plot(1.0, 1.0);
        plot.mark(0.5, "<script>");
        plot.bar(Series::BAD, (0.0, 1.0), (0.0, 1.0), "\"&");
        let svg = stacked("<t>", vec![("<h>", plot)]);
        assert!(svg.contains("&lt;script&gt;") && svg.contains("&quot;&amp;"), "{svg}");
        assert!(svg.contains("&lt;t&gt;") && svg.contains("&lt;h&gt;") && !svg.contains("<script"));
    }
}
