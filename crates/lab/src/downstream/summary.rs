//! The result of an experiment: the mean of each technique over the seeds, and paired comparisons
//! with those that `--against` names.

use serde::Serialize;

use crate::downstream::options::DownstreamArgs;
use crate::downstream::record::{Record, Run};
use crate::downstream::statistics::{Spread, holm, sign_flip_p};
use crate::downstream::technique::Technique;

#[derive(Clone, Debug, Serialize)]
pub(super) struct Summary {
    pub seeds: Vec<u64>,
    /// The test that `p` in every comparison comes from.
    pub test: &'static str,
    pub methods: Vec<Row>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub method: Technique,
    pub validation: Spread,
    pub domains: Vec<Column>,
    /// Each seed's mean balanced accuracy over the test domains.
    pub mean: Spread,
    /// Each seed's lowest balanced accuracy among the test domains.
    pub worst: Spread,
    /// Comparisons of `mean`, paired by seed.
    pub against: Vec<Comparison>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Column {
    pub domain: String,
    pub accuracy: Spread,
    pub balanced_accuracy: Spread,
    pub calibration_error: Spread,
    /// `null` if the domain has only one label.
    pub auroc: Option<Spread>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Comparison {
    pub baseline: Technique,
    pub difference: Spread,
    pub p: f64,
    /// `p`, corrected for the number of comparisons in the table (Holm).
    pub p_corrected: f64,
}

impl Run {
    /// Returns the mean balanced accuracy over the test domains.
    fn mean(&self) -> f64 {
        Spread::of(&self.balanced().collect::<Vec<_>>()).mean
    }

    /// Returns the lowest balanced accuracy among the test domains.
    fn worst(&self) -> f64 {
        self.balanced().fold(f64::INFINITY, f64::min)
    }

    fn balanced(&self) -> impl Iterator<Item = f64> {
        self.tests.iter().map(|test| test.balanced_accuracy)
    }
}

impl Summary {
    /// Summarises the seeds and techniques of `args`, all of which the record must hold.
    pub(super) fn of(record: &Record, args: &DownstreamArgs) -> Self {
        let seeds: Vec<u64> = (args.seeds_from..args.seeds_from + args.seeds).collect();
        let runs = |method: Technique| -> Vec<&Run> {
            seeds.iter().filter_map(|&seed| record.find(seed, method)).collect()
        };
        let methods = args.methods.iter().map(|&method| {
            let baselines = args.against().into_iter().filter(|&baseline| baseline != method);
            let against = baselines
                .map(|baseline| comparison(&runs(method), &runs(baseline), baseline))
                .collect();
            row(method, &runs(method), against)
        });
        let mut methods: Vec<Row> = methods.collect();
        let comparisons = || methods.iter().flat_map(|row| &row.against);
        let corrected = holm(&comparisons().map(|against| against.p).collect::<Vec<_>>());
        let comparisons = methods.iter_mut().flat_map(|row| &mut row.against);
        comparisons.zip(corrected).for_each(|(against, p)| against.p_corrected = p);
        Self {
            test: "two-sided paired sign-flip permutation test of the mean difference",
            methods,
            seeds,
        }
    }

    /// Renders the summary as a Markdown table, with accuracies in per cent.
    pub(super) fn table(&self, args: &DownstreamArgs) -> String {
        let mut compared = args.against();
        compared.retain(|_| args.methods.len() > 1);
        let several = args.test_domains.len() > 1;
        let mut header = vec!["method".to_owned(), "validation".to_owned()];
        header.extend(
            args.test_domains
                .iter()
                .flat_map(|domain| [domain.clone(), format!("{domain}, AUROC")]),
        );
        header
            .extend(several.then(|| ["mean".to_owned(), "worst".to_owned()]).into_iter().flatten());
        header.extend(compared.iter().map(|baseline| format!("− {} (p)", baseline.name())));
        let mut lines = vec![line(&header), line(&vec!["---".to_owned(); header.len()])];
        for row in &self.methods {
            let mut cells = vec![row.method.name().to_owned(), percent(&row.validation)];
            for column in &row.domains {
                cells.extend([
                    percent(&column.balanced_accuracy),
                    column
                        .auroc
                        .as_ref()
                        .map_or("–".to_owned(), |auroc| format!("{:.3}", auroc.mean)),
                ]);
            }
            cells.extend(
                several.then(|| [percent(&row.mean), percent(&row.worst)]).into_iter().flatten(),
            );
            cells.extend(compared.iter().map(|&baseline| {
                let against = row.against.iter().find(|against| against.baseline == baseline);
                against.map_or("–".to_owned(), |a| {
                    format!("{} ({})", signed(&a.difference), p_value(a.p_corrected))
                })
            }));
            lines.push(line(&cells));
        }
        let chosen = match &args.validation_domain {
            Some(domain) => format!("on {domain}"),
            None => "on a held-out tenth of the training tiles".to_owned(),
        };
        lines.push(String::new());
        lines.push(format!(
            "Balanced accuracy in per cent, mean ± standard deviation over {} seeds. Trained on \
            {}; best epoch chosen {chosen}; p: {}, corrected for {} comparisons (Holm).",
            self.seeds.len(),
            args.train_domains.join(", "),
            self.test,
            self.methods.iter().map(|row| row.against.len()).sum::<usize>()
        ));
        lines.join("\n")
    }
}

fn row(method: Technique, runs: &[&Run], against: Vec<Comparison>) -> Row {
    let spread =
        |of: &dyn Fn(&Run) -> f64| Spread::of(&runs.iter().map(|run| of(run)).collect::<Vec<_>>());
    let domains = (0..runs[0].tests.len()).map(|d| {
        let areas: Option<Vec<f64>> = runs.iter().map(|run| run.tests[d].auroc).collect();
        Column {
            domain: runs[0].tests[d].domain.clone(),
            accuracy: spread(&|run| run.tests[d].accuracy),
            balanced_accuracy: spread(&|run| run.tests[d].balanced_accuracy),
            calibration_error: spread(&|run| run.tests[d].calibration_error),
            auroc: areas.map(|areas| Spread::of(&areas)),
        }
    });
    Row {
        method,
        validation: spread(&|run| run.validation.accuracy),
        domains: domains.collect(),
        mean: spread(&Run::mean),
        worst: spread(&Run::worst),
        against,
    }
}

fn comparison(runs: &[&Run], baselines: &[&Run], baseline: Technique) -> Comparison {
    let differences: Vec<f64> =
        runs.iter().zip(baselines).map(|(run, other)| run.mean() - other.mean()).collect();
    let p = sign_flip_p(&differences);
    Comparison { baseline, difference: Spread::of(&differences), p, p_corrected: p }
}

fn line(cells: &[String]) -> String {
    format!("| {} |", cells.join(" | "))
}

fn percent(spread: &Spread) -> String {
    format!("{:.1} ± {:.1}", 100.0 * spread.mean, 100.0 * spread.deviation)
}

fn signed(spread: &Spread) -> String {
    format!("{:+.1} ± {:.1}", 100.0 * spread.mean, 100.0 * spread.deviation)
}

fn p_value(p: f64) -> String {
    if p < 0.001 {
        "< .001".to_owned()
    } else {
        format!("{p:.3}").trim_start_matches('0').to_owned()
    }
}
