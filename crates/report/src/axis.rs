//! Axes of a chart: from values to places, and the round values that are written beside them.

/// The two axes of a chart, and what the chart shows.
pub struct Axes<'a> {
    /// The text alternative of the chart, for screen readers.
    pub title: &'a str,
    /// From left to right.
    pub x: Axis<'a>,
    /// From bottom to top; names run from top to bottom.
    pub y: Axis<'a>,
}

/// One axis: a label and the values, or the names, along it.
pub struct Axis<'a> {
    pub(crate) label: &'a str,
    pub(crate) along: Along,
}

#[derive(Clone)]
pub(crate) enum Along {
    Values { low: f64, high: f64, logarithmic: bool },
    Names(Vec<String>),
}

impl<'a> Axis<'a> {
    /// Makes a linear axis from `low` to `high`.
    pub fn new(label: &'a str, low: f64, high: f64) -> Self {
        Self { label, along: Along::Values { low, high, logarithmic: false } }
    }

    /// Makes a logarithmic axis from `low` to `high`, both above 0.
    pub fn logarithmic(label: &'a str, low: f64, high: f64) -> Self {
        Self { label, along: Along::Values { low, high, logarithmic: true } }
    }

    /// Makes an axis with a place for each name; the place of the n-th, counted from 0, is n + 0.5.
    pub fn names(names: &[&str]) -> Self {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        Self { label: "", along: Along::Names(names) }
    }

    /// Makes a linear axis that holds all finite values and ends at round ones; `None` when there
    /// is none.
    pub fn covering(label: &'a str, values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let (mut low, mut high) = bounds(values, f64::is_finite)?;
        if high - low < 1e-9 * high.abs().max(1e-6) {
            let room = if high == 0.0 { 1.0 } else { high.abs() / 2.0 };
            (low, high) = (low - room, high + room);
        }
        let step = round_step((high - low) / 5.0);
        let low = (low / step + 1e-9).floor() * step;
        Some(Self::new(label, low, (high / step - 1e-9).ceil() * step))
    }

    /// Makes a logarithmic axis that holds all finite values above 0; `None` when there is none.
    pub fn covering_logarithmic(
        label: &'a str,
        values: impl IntoIterator<Item = f64>,
    ) -> Option<Self> {
        let (low, high) = bounds(values, |value| value.is_finite() && value > 0.0)?;
        Some(if high > low * (1.0 + 1e-9) {
            Self::logarithmic(label, low, high)
        } else {
            Self::logarithmic(label, low / 2.0, high * 2.0)
        })
    }

    /// The number of names; 0 on an axis of values.
    pub(crate) fn rows(&self) -> usize {
        if let Along::Names(names) = &self.along { names.len() } else { 0 }
    }
}

fn bounds(
    values: impl IntoIterator<Item = f64>,
    shown: impl Fn(f64) -> bool,
) -> Option<(f64, f64)> {
    values.into_iter().filter(|&value| shown(value)).fold(None, |bounds, value| {
        let (low, high) = bounds.unwrap_or((value, value));
        Some((low.min(value), high.max(value)))
    })
}

/// An axis laid out in pixels.
pub(crate) struct Scale {
    along: Along,
    from: f64,
    to: f64,
}

impl Scale {
    pub(crate) fn new(axis: &Axis<'_>, from: f64, to: f64) -> Self {
        Self { along: axis.along.clone(), from, to }
    }

    /// The pixel of a value, kept inside the axis; `None` for what the axis cannot show.
    pub(crate) fn place(&self, value: f64) -> Option<f64> {
        let share = match &self.along {
            Along::Names(names) => value / names.len().max(1) as f64,
            &Along::Values { low, high, logarithmic: false } => (value - low) / (high - low),
            &Along::Values { low, high, logarithmic: true } => {
                (value.ln() - low.ln()) / (high.ln() - low.ln())
            }
        };
        share.is_finite().then(|| self.from + share.clamp(0.0, 1.0) * (self.to - self.from))
    }

    /// Places and what is written at each: names, or a handful of round values.
    pub(crate) fn ticks(&self) -> Vec<(f64, String)> {
        let labelled = |value: f64, text: String| Some((self.place(value)?, text));
        match &self.along {
            Along::Names(names) => names
                .iter()
                .enumerate()
                .filter_map(|(n, name)| labelled(n as f64 + 0.5, name.clone()))
                .collect(),
            &Along::Values { low, high, logarithmic } => round_values(low, high, logarithmic)
                .into_iter()
                .filter_map(|value| labelled(value, number(value)))
                .collect(),
        }
    }
}

fn round_values(low: f64, high: f64, logarithmic: bool) -> Vec<f64> {
    if logarithmic {
        let digits: &[f64] = match high / low {
            ratio if ratio > 1_000.0 => &[1.0],
            ratio if ratio > 12.0 => &[1.0, 2.0, 5.0],
            _ => &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0],
        };
        let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
        let values: Vec<f64> = decades
            .flat_map(|decade| digits.iter().map(move |digit| digit * 10f64.powi(decade)))
            .filter(|value| (low..=high).contains(value))
            .collect();
        if values.len() > 1 {
            return values;
        }
    }
    let step = round_step((high - low) / 5.0);
    let first = (low / step - 1e-9).ceil();
    let count = (high / step - first + 1e-9).floor() as usize;
    (0..=count).map(|n| (first + n as f64) * step).collect()
}

/// The next of 1, 2, 5 × 10^k.
fn round_step(value: f64) -> f64 {
    let decade = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .map(|digit| digit * decade)
        .into_iter()
        .find(|&step| step >= value * (1.0 - 1e-9))
        .unwrap_or(10.0 * decade)
}

/// Formats a value with as many digits as a reader can use.
///
/// ```
/// let text = [0.0, 0.05, 12.345, 250.4, 12_500.0, 1e-5].map(restain_report::number);
/// assert_eq!(text, ["0", "0.05", "12.35", "250", "12.5k", "1.0e-5"]);
/// ```
pub fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 1e9 => format!("{value:.1e}"),
        size if size >= 1e6 => format!("{}M", trimmed(value / 1e6, 2)),
        size if size >= 1e4 => format!("{}k", trimmed(value / 1e3, 1)),
        size if size >= 100.0 => trimmed(value, 0),
        size if size >= 1.0 => trimmed(value, 2),
        size if size >= 1e-3 => trimmed(value, 4),
        _ => format!("{value:.1e}"),
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
        assert_eq!(round_values(0.0, 30.0, false), [0.0, 10.0, 20.0, 30.0]);
        assert_eq!(round_values(87.0, 92.0, false), [87.0, 88.0, 89.0, 90.0, 91.0, 92.0]);
        assert_eq!(round_values(0.8, 30.0, true), [1.0, 2.0, 5.0, 10.0, 20.0]);
        assert_eq!(round_values(0.8, 3_000.0, true), [1.0, 10.0, 100.0, 1_000.0]);
        // Too narrow for a decade's digits.
        assert_eq!(round_values(11.0, 14.0, true), [11.0, 12.0, 13.0, 14.0]);
    }

    #[test]
    fn an_axis_covers_its_values_and_ends_at_round_ones() {
        let ends = |values: &[f64]| {
            let axis = Axis::covering("", values.iter().copied())?;
            let Along::Values { low, high, .. } = axis.along else { unreachable!() };
            Some((low, high))
        };
        assert_eq!(ends(&[0.0, 23.0]), Some((0.0, 25.0)));
        assert_eq!(ends(&[87.3, 91.9, f64::NAN]), Some((87.0, 92.0)));
        assert_eq!(ends(&[f64::NAN, f64::INFINITY]), None);
        let (low, high) = ends(&[5.0]).unwrap();
        assert!(low < 5.0 && high > 5.0);
        assert!(Axis::covering_logarithmic("", [0.0, -1.0]).is_none());
    }
}
