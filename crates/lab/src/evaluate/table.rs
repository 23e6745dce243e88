//! The report as tables, which the terminal and the model card show as Markdown and the page as
//! HTML. The names of columns and their digits are decided here only.

use crate::evaluate::report::{Report, Scores, SizeFigures};
use crate::evaluate::technique::Technique;

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

/// Renders the tables of reconstruction and of techniques as Markdown; with `pairs` also that of
/// every pair.
pub(super) fn markdown(report: &Report, pairs: bool) -> String {
    let mut tables = vec![reconstruction(report)];
    tables.extend(stains(report));
    tables.extend(sizes(report));
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
    let note = "Ceilings: the highest PSNR that the rank allows with a basis for each patch, for \
        the whole tile, and from one patch of another tile. Edges: mean difference of neighbouring \
        pixels across patch boundaries ÷ inside patches.";
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

/// The figures beside exact targets; `None` without any.
pub(super) fn stains(report: &Report) -> Option<Table> {
    let head = [
        "method",
        "stain measured on",
        "size",
        "ΔE",
        "PSNR, dB",
        "strength",
        "ΔE, ≥ 40 % glass",
        "glass",
        "blank",
        "beside glass",
        "overlap",
        "order",
    ];
    let before = report.stains.first()?.order_before;
    let note = format!(
        "Tiles of held-out fields through changes of stain and scanner that training does not \
        draw; a slide is 16 tiles. ΔE*ab and PSNR: variant and truth. Strength: how far variants \
        go from tile to truth. Glass: its mean difference to the truth. Blank: largest change of a \
        tile of 243. Beside glass: mean change of tissue when half of its tile becomes glass. \
        Overlap: mean difference of what two overlapping tiles share. Order: AUROC of one \
        threshold of darkness for nuclei over a slide ({} in the tiles). Levels of 255.",
        before.map_or("–".to_owned(), |before| number(before, 3))
    );
    let mut table = Table::new(&head, note);
    let some = |value: Option<f64>, digits| value.map_or("–".to_owned(), |v| number(v, digits));
    for figures in &report.stains {
        table.rows.push(vec![
            figures.method.name(),
            figures.way.name().to_owned(),
            format!("1/{}", figures.shrink),
            some(figures.delta_e, 1),
            some(figures.psnr_db, 1),
            some(figures.strength, 2),
            some(figures.glassy_delta_e, 1),
            some(figures.glass, 1),
            some(figures.blank, 0),
            some(figures.beside_glass, 1),
            some(figures.overlap, 1),
            some(figures.order, 3),
        ]);
    }
    Some(table)
}

/// The figures of tiles of several sizes, a column for each technique; `None` without any.
pub(super) fn sizes(report: &Report) -> Option<Table> {
    let figures = &report.sizes;
    let first = figures.first()?;
    let of = |row: &SizeFigures| (row.method, row.mpp_stated);
    let same_tiles = |row: &&SizeFigures| (row.side, row.shrink) == (first.side, first.shrink);
    let names: Vec<String> = figures
        .iter()
        .filter(same_tiles)
        .map(|row| row.method.name() + if row.mpp_stated { " with mpp" } else { "" })
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let magnification = if first.microns.is_some() { "µm a pixel" } else { "images" };
    let note = "ΔE*ab, PSNR in dB, sharpness and grid of variants at the tile's own size, beside \
        the same tile through a change of stain and scanner that training does not draw; the stain \
        is measured on 16 tiles of the changed image. Sharpness: mean difference of neighbouring \
        pixels ÷ that of the truth. Grid: the same across the borders of the model's patches ÷ \
        inside, ÷ that of the truth. \
        With mpp: the request states the size of the tile's pixels.";
    let mut table = Table::new(&[&["tile, px", magnification, "tiles"][..], &names].concat(), note);
    for row in figures.iter().filter(|row| of(row) == of(first)) {
        let magnification =
            row.microns.map_or(format!("1/{}", row.shrink), |size| size.to_string());
        let mut cells = vec![row.side.to_string(), magnification, row.tiles.to_string()];
        let beside = |other: &&SizeFigures| (other.side, other.shrink) == (row.side, row.shrink);
        for figures in figures.iter().filter(beside) {
            let SizeFigures { delta_e, psnr_db, .. } = figures;
            let [sharpness, grid] = [figures.sharpness, figures.grid]
                .map(|ratio| ratio.map_or("–".to_owned(), |ratio| number(ratio, 2)));
            cells.push(format!("{delta_e:.1}, {psnr_db:.1}, {sharpness}, {grid}"));
        }
        table.rows.push(cells);
    }
    Some(table)
}

const SCORES: [&str; 7] = ["left", "SSIM", "Dice", "drift", "Fréchet", "KID", "taken for target"];

/// The means over all pairs; `None` with one domain.
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

/// The result of every technique for every kind of spoiled tile.
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
    let note = "Means over domains, each domain's tile in the style of the next. Clipped: values \
        of 0 or 255. Level change: mean level of 255 after minus before. Ink in place: the share \
        of the change due to the ink that lies under the stroke. Ink change: mean change of the \
        ink's pixels, in levels.";
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

/// The judge's confusion matrix on real tiles: rows are domains, columns predictions.
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
            "The classifier of domains was trained on {} tiles ({}); its accuracy is {:.1} % on {} \
            other real tiles. Fréchet distance and KID use its features, on at most {} tiles per \
            pair, and cannot be compared with other tables.",
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
        "Means over {} pairs of domains, {distance_before:.1} levels of 255 apart. Left: share of \
        the colour distance to the target that remains. SSIM, Dice of haematoxylin: tile and \
        variant. Drift: change of anatomy ÷ difference of two tiles. Differ: {}. A style is {} of \
        {}. {judge}",
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

/// Describes a technique for a caption.
pub(super) fn describe(method: Technique) -> &'static str {
    match method {
        Technique::Vit => "the tile and what the model changes; on the diagonal its reconstruction",
        Technique::VitModel => "the model alone",
        Technique::ColorMatch => "mean and standard deviation of each RGB channel",
        Technique::Tone => "quantiles of each RGB channel, in coarse structure only",
        Technique::Reinhard => "mean and standard deviation in Lαβ (Reinhard et al. 2001)",
        Technique::Macenko => {
            "stain matrix and 99th-percentile concentrations (Macenko et al. 2009)"
        }
        Technique::HedJitter => "random stain densities, no target (Tellez et al. 2018)",
        Technique::Identity => "the tiles as they are",
    }
}
