//! One chart as inline SVG: lines over steps. Colours are the page's, so that it follows light and dark.

use crate::report::page::escape;

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 52.0;
const BOTTOM: f64 = 24.0;
const TOP: f64 = 8.0;
/// Points that are drawn of a line; each is the mean of its share of the steps.
const POINTS: usize = 200;
/// Grid lines of the value axis.
const TICKS: usize = 4;

pub(super) struct Line<'a> {
    pub name: &'a str,
    pub points: &'a [(u64, f32)],
}

pub(super) struct Chart<'a> {
    pub title: &'a str,
    /// Whether values are drawn on a logarithmic axis.
    pub log: bool,
    pub lines: Vec<Line<'a>>,
}

impl Chart<'_> {
    /// Nothing where there is nothing to draw.
    pub(super) fn svg(&self) -> Option<String> {
        let lines: Vec<(&str, Vec<(f64, f64)>)> =
            self.lines.iter().map(|line| (line.name, self.thinned(line.points))).collect();
        let all = || lines.iter().flat_map(|(_, points)| points);
        let last = all().map(|point| point.0).reduce(f64::max)?;
        let (mut low, mut high) = all()
            .fold((f64::MAX, f64::MIN), |(low, high), point| (low.min(point.1), high.max(point.1)));
        if high - low < 1e-9 {
            (low, high) = (low - 0.5, high + 0.5);
        }
        let x = |step: f64| LEFT + (WIDTH - LEFT - 8.0) * step / last.max(1.0);
        let y = |value: f64| TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low);
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
            escape(self.title)
        );
        for tick in 0..=TICKS {
            let value = low + (high - low) * tick as f64 / TICKS as f64;
            let (at, label) = (y(value), number(if self.log { 10f64.powf(value) } else { value }));
            svg += &format!(
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>"
            );
            svg += &format!(
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
                LEFT - 6.0,
                at + 4.0
            );
        }
        svg += &format!(
            "<text x=\"{LEFT}\" y=\"{0}\">0</text><text x=\"{WIDTH}\" y=\"{0}\" text-anchor=\"end\">step {last}</text>",
            HEIGHT - 6.0
        );
        for (index, (_, points)) in lines.iter().enumerate() {
            let path: Vec<String> = points
                .iter()
                .map(|&(step, value)| format!("{:.1},{:.1}", x(step), y(value)))
                .collect();
            svg += &match &path[..] {
                [] => String::new(),
                [single] => format!(
                    "<circle class=\"line{index}\" cx=\"{}\" cy=\"{}\" r=\"3\"/>",
                    split(single).0,
                    split(single).1
                ),
                _ => format!("<polyline class=\"line{index}\" points=\"{}\"/>", path.join(" ")),
            };
        }
        Some(svg + "</svg>")
    }

    /// Names of the lines with their colours, where there is more than one.
    pub(super) fn legend(&self) -> String {
        let named = self.lines.iter().enumerate().filter(|_| self.lines.len() > 1);
        named
            .map(|(index, line)| format!("<span class=\"key{index}\">{}</span>", escape(line.name)))
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// Step and value as drawn, no more than `POINTS`; what no axis can show is left out.
    fn thinned(&self, points: &[(u64, f32)]) -> Vec<(f64, f64)> {
        let scaled =
            |value: f32| if self.log { f64::from(value).log10() } else { f64::from(value) };
        let shown: Vec<(f64, f64)> = points
            .iter()
            .map(|&(step, value)| (step as f64, scaled(value)))
            .filter(|(_, value)| value.is_finite())
            .collect();
        let mean = |part: &[(f64, f64)]| {
            let sum = part.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
            (sum.0 / part.len() as f64, sum.1 / part.len() as f64)
        };
        match shown.len().div_ceil(POINTS) {
            0 | 1 => shown,
            each => shown.chunks(each).map(mean).collect(),
        }
    }
}

fn split(point: &str) -> (&str, &str) {
    point.split_once(',').expect("written as x,y")
}

/// Three significant digits.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if !(1e-3..1e5).contains(&size) => format!("{value:.1e}"),
        size => format!("{value:.*}", (2 - size.log10().floor() as i32).clamp(0, 5) as usize),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_lies_within_its_frame_and_large_values_are_above_small_ones() {
        let points: Vec<(u64, f32)> = (1..=1000).map(|step| (step, 1000.0 / step as f32)).collect();
        let svg = Chart {
            title: "a < b",
            log: true,
            lines: vec![Line { name: "loss", points: &points }],
        }
        .svg()
        .unwrap();
        assert!(svg.contains("a &lt; b") && svg.contains("step 998"), "{svg}");
        let drawn = svg.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
        let drawn: Vec<(f64, f64)> = drawn
            .split(' ')
            .map(split)
            .map(|(x, y)| (x.parse::<f64>().unwrap(), y.parse::<f64>().unwrap()))
            .collect();
        assert_eq!(drawn.len(), POINTS);
        assert!(drawn.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1));
        assert!(
            drawn
                .iter()
                .all(|(x, y)| (LEFT..=WIDTH).contains(x) && (TOP..=HEIGHT - BOTTOM).contains(y))
        );
    }

    #[test]
    fn one_point_is_a_dot_and_none_is_no_chart() {
        let chart = |points| {
            Chart { title: "t", log: false, lines: vec![Line { name: "l", points }] }.svg()
        };
        assert!(chart(&[(3, 0.5)]).unwrap().contains("<circle"));
        assert!(chart(&[]).is_none() && chart(&[(1, f32::NAN)]).is_none());
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [0.0, 12.345, 0.01234, 1e-5, 123456.0].map(number),
            ["0", "12.3", "0.0123", "1.0e-5", "1.2e5"]
        );
    }
}
