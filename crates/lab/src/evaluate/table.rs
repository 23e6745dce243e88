//! The report as tables: of Markdown on a terminal and in a model card, of HTML on the page. One place decides what a
//! column is called and how many digits it has.

use crate::evaluate::report::{Report, Scores};
use crate::evaluate::technique::Method;

pub(super) struct Table {
    pub head: Vec<String>,
    pub rows: Vec<Vec<String>>,
    /// What the columns mean.
    pub note: String,
}

impl Table {
    fn new(head: &[&str], note: impl Into<String>) -> Self {
        Self {
            head: head.iter().map(|&name| name.to_owned()).collect(),
            rows: Vec::new(),
            note: note.into(),
        }
    }

    fn markdown(&self) -> String {
        let line = |cells: &[String]| {
            format!(
                "| {} |",
                cells.iter().map(|cell| cell.replace('|', "\\|")).collect::<Vec<_>>().join(" | ")
            )
        };
        let mut lines = vec![line(&self.head), format!("|{}", "---|".repeat(self.head.len()))];
        lines.extend(self.rows.iter().map(|row| line(row)));
        if !self.note.is_empty() {
            lines.extend([String::new(), self.note.clone()]);
        }
        lines.join("\n")
    }
}

/// Reconstruction, then methods; with `pairs` every pair behind them.
pub(super) fn markdown(report: &Report, pairs: bool) -> String {
    let mut tables = vec![reconstruction(report)];
    tables.extend(methods(report));
    if pairs && !report.pairs.is_empty() {
        tables.push(self::pairs(report));
    }
    tables.iter().map(Table::markdown).collect::<Vec<_>>().join("\n\n")
}

pub(super) fn reconstruction(report: &Report) -> Table {
    let head = [
        "domain",
        "PSNR, dB",
        "SSIM",
        "ceiling, patch",
        "ceiling, tile",
        "ceiling, broadcast",
        "edges, real",
        "edges, reconstructed",
    ];
    let note = "Ceilings: the PSNR that the rank allows with a basis for each patch, for the whole tile, and from one patch of another \
                tile. Edges: mean step across borders of patches ÷ inside them.";
    let mut table = Table::new(&head, note);
    for (figures, edges) in report.reconstruction.iter().zip(&report.block_edges) {
        let ceiling = |db: Option<f64>| db.map_or("none".to_owned(), |db| format!("{db:.1}"));
        table.rows.push(vec![
            figures.domain.clone(),
            format!("{:.1}", figures.psnr_db),
            number(figures.ssim, 3),
            ceiling(figures.ceiling_psnr_db),
            ceiling(figures.ceiling_shared_psnr_db),
            ceiling(figures.ceiling_broadcast_psnr_db),
            number(edges.real, 2),
            number(edges.reconstruction, 2),
        ]);
    }
    table
}

const SCORES: [&str; 7] = ["left", "SSIM", "Dice", "drift", "Fréchet", "KID", "taken for target"];

/// Means over all pairs; none with one domain.
pub(super) fn methods(report: &Report) -> Option<Table> {
    let (mean, diversity) = (report.mean.as_ref()?, report.diversity.as_ref()?);
    let head =
        [&["method"][..], &SCORES, &["for source", "edges", "colours differ", "1 − SSIM differs"]]
            .concat();
    let mut table = Table::new(&head, notes(report, mean.distance_before));
    for (method, scores) in &mean.methods {
        let edges = report.block_edges.iter().map(|edges| edges.variants[method]).sum::<f64>()
            / report.block_edges.len() as f64;
        let mut row = vec![method.name()];
        row.extend(cells(scores));
        row.push(percent(scores.taken_for.map(|taken| taken.source)));
        row.extend([
            number(edges, 2),
            number(diversity[method].color_distance, 1),
            number(diversity[method].dissimilarity, 3),
        ]);
        table.rows.push(row);
    }
    Some(table)
}

pub(super) fn pairs(report: &Report) -> Table {
    let head = [&["from → to", "method", "distance before"][..], &SCORES].concat();
    let mut table = Table::new(&head, "");
    for pair in &report.pairs {
        for (method, scores) in &pair.methods {
            let mut row = vec![
                format!("{} → {}", pair.from, pair.to),
                method.name(),
                number(pair.distance_before, 1),
            ];
            row.extend(cells(scores));
            table.rows.push(row);
        }
    }
    table
}

/// Every method on every kind of spoiled tile.
pub(super) fn failures(report: &Report) -> Table {
    let head = [
        "tile",
        "method",
        "clipped before",
        "clipped",
        "SSIM",
        "level change",
        "ink in place",
        "ink change",
    ];
    let note = "Means over domains, each domain's tile in the style of the next. Clipped: values of 0 or 255. Level change: mean of 255 levels \
                after, less before. Ink in place: of what the ink changed in the variant, the share under the stroke. Ink change: mean change \
                of the ink's own values, levels.";
    let mut table = Table::new(&head, note);
    for failure in &report.failures {
        table.rows.push(vec![
            failure.kind.clone(),
            failure.method.name(),
            percent(Some(failure.clipped_before)),
            percent(Some(failure.clipped)),
            number(failure.ssim, 3),
            format!("{:+.1}", failure.level_change),
            percent(failure.ink_in_place),
            failure.ink_change.map_or(String::new(), |change| number(change, 1)),
        ]);
    }
    table
}

/// Real tiles that the judge has not learnt from: row the domain, column what it was taken for.
pub(super) fn confusion(report: &Report) -> Option<Table> {
    let judge = report.judge.as_ref()?;
    let names: Vec<&str> =
        report.reconstruction.iter().map(|figures| figures.domain.as_str()).collect();
    let mut table = Table::new(&[&["real tiles of"][..], &names].concat(), "");
    for (name, row) in names.iter().zip(&judge.confusion) {
        table.rows.push(
            std::iter::once((*name).to_owned()).chain(row.iter().map(usize::to_string)).collect(),
        );
    }
    Some(table)
}

fn notes(report: &Report, distance_before: f64) -> String {
    let judge = match (&report.judge, &report.no_judge) {
        (Some(judge), _) => format!(
            "The classifier of domains learnt from {} tiles ({}) and is right on {:.1} % of {} other real tiles; Fréchet distance and KID are \
             those of its features, on {} tiles a pair or fewer, and compare within this table only.",
            judge.training_tiles,
            judge.trained_on,
            100.0 * judge.accuracy,
            judge.held_out_tiles,
            judge.judged_tiles.iter().max().unwrap_or(&0),
        ),
        (None, reason) => format!(
            "No classifier of domains: {}.",
            reason.as_deref().unwrap_or("none was trained")
        ),
    };
    let plural = |count: usize, name: &str| {
        if count == 1 { format!("one {name}") } else { format!("the mean of {count} {name}s") }
    };
    format!(
        "Means over {} pairs of domains, {distance_before:.1} levels of 255 apart. Left: share of the colour distance to the target that remains. \
         SSIM, Dice of haematoxylin: tile and variant. Drift: change of anatomy ÷ difference of two tiles. Differ: {}. A style is {} of {}. {judge}",
        report.pairs.len(),
        "variants of one tile, in levels and in SSIM",
        plural(report.style_tokens, "token"),
        plural(report.style_tiles, "tile"),
    )
}

fn cells(scores: &Scores) -> [String; 7] {
    let some =
        |value: Option<f64>, digits| value.map_or("–".to_owned(), |value| number(value, digits));
    [
        number(scores.left, 2),
        number(scores.ssim, 3),
        number(scores.dice, 3),
        number(scores.anatomy_drift, 3),
        some(scores.frechet, 2),
        some(scores.kid, 3),
        percent(scores.taken_for.map(|taken| taken.target)),
    ]
}

fn number(value: f64, digits: usize) -> String {
    if value.is_finite() { format!("{value:.digits$}") } else { "–".to_owned() }
}

fn percent(share: Option<f64>) -> String {
    share
        .filter(|share| share.is_finite())
        .map_or(String::new(), |share| format!("{:.1} %", 100.0 * share))
}

/// Of a method, in the words of the tables.
pub(super) fn describe(method: Method) -> &'static str {
    match method {
        Method::Vit => "the model; on the diagonal its reconstruction",
        Method::ColorMatch => "mean and deviation of each RGB channel",
        Method::Tone => "quantiles of each RGB channel where the picture is coarse",
        Method::Reinhard => "mean and deviation in Lαβ (Reinhard et al. 2001)",
        Method::Macenko => "stain matrix and 99th-percentile concentrations (Macenko et al. 2009)",
        Method::HedJitter => "random stain densities, no target (Tellez et al. 2018)",
        Method::Identity => "the tiles as they are",
    }
}
