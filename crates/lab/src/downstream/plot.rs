//! The runs as one SVG: a chart for each test domain, a row for each method, a dot for each seed, a
//! stroke at the mean.

use restain_report::{Axes, Axis, Plot, Series, stacked};

use crate::downstream::options::DownstreamArgs;
use crate::downstream::record::Record;
use crate::downstream::statistics::Spread;

/// How far the dots of a row are spread, up and down, in heights of a row.
const SPREAD: f64 = 0.27;
const DOTS: Series = Series::of(2);
const MEAN: Series = Series::of(1);

/// Draws the accuracies of the runs, in per cent.
pub(super) fn svg(record: &Record, args: &DownstreamArgs) -> String {
    let domains = args.test_domains.iter().enumerate();
    let plots = domains
        .filter_map(|(d, domain)| Some((domain.as_str(), plot(domain, record, args, d)?)))
        .collect();
    stacked("Accuracy on unseen domains, by method and seed", plots)
}

/// The chart of one domain; `None` when no run has been recorded.
fn plot(title: &str, record: &Record, args: &DownstreamArgs, domain: usize) -> Option<Plot> {
    let methods = accuracies(record, args, domain);
    let names: Vec<&str> = methods.iter().map(|(name, _)| *name).collect();
    let all = methods.iter().flat_map(|(_, values)| values).copied();
    let x = Axis::covering("balanced accuracy, %", all)?;
    let mut plot = Plot::new(&Axes { title, x, y: Axis::names(&names) });
    for (row, (_, values)) in methods.iter().enumerate() {
        let middle = row as f64 + 0.5;
        for (n, &value) in values.iter().enumerate() {
            let share = 2.0 * (n as f64 + 0.5) / values.len() as f64 - 1.0;
            plot.dot(DOTS, value, middle + SPREAD * share);
        }
        let mean = Spread::of(values).mean;
        plot.mean(MEAN, mean, middle, &format!("{mean:.1}"));
    }
    Some(plot)
}

/// Accuracies of each method over the seeds, in per cent.
fn accuracies(
    record: &Record,
    args: &DownstreamArgs,
    domain: usize,
) -> Vec<(&'static str, Vec<f64>)> {
    let seeds = || args.seeds_from..args.seeds_from + args.seeds;
    let of = |&method: &_| {
        let runs = seeds().filter_map(|seed| record.find(seed, method));
        (method.name(), runs.map(|run| 100.0 * run.tests[domain].balanced_accuracy).collect())
    };
    args.methods.iter().map(of).collect()
}
