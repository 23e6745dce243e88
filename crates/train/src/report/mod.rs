//! `report.html` in a run's state: what was trained on what, its curves and its sample grids, in
//! one file that can be sent.
//!
//! Written when a run ends or is interrupted, from what lies in the state anyway. It loads nothing
//! from elsewhere and runs no script.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::run::checkpoint::{RunHeader, Score};
use crate::run::monitor::SAMPLES_FOLDER;
use crate::run::tensorboard::{Curves, curves};
use crate::run::validate::Parts;
use restain_bundle::atomic;
use restain_data::Dataset;
use restain_method::geometry::GeometrySpec;
use restain_report::{Axes, Axis, Cells, Page, Plot, Series};

pub(crate) const REPORT_FILE: &str = "report.html";
/// Sample grids in the page, evenly spaced and the last.
const GRIDS: usize = 5;

/// Images and tiles of every domain, counted while the data set is at hand.
pub(crate) struct Counts(Vec<[String; 4]>);

impl Counts {
    pub(crate) fn of(parts: &Parts, tile: usize) -> Self {
        // By name: the two parts need not have the same domains.
        let count = |dataset: &Dataset, domain: &str| -> (u64, u64) {
            let along = |side: u32| (u64::from(side) / tile as u64).max(1);
            let own =
                dataset.sources.iter().filter(|source| dataset.domains[source.domain] == domain);
            own.fold((0, 0), |(images, tiles), source| {
                (images + 1, tiles + along(source.width) * along(source.height))
            })
        };
        let names: BTreeSet<&String> =
            parts.training.domains.iter().chain(&parts.kept_out.domains).collect();
        let row = |name: &String| {
            let ((images, tiles), (kept, _)) =
                (count(&parts.training, name), count(&parts.kept_out, name));
            [name.clone(), images.to_string(), tiles.to_string(), kept.to_string()]
        };
        Self(names.into_iter().map(row).collect())
    }
}

/// Writes the page into the state's folder.
pub(crate) fn write(state: &Path, header: &RunHeader, counts: &Counts) -> Result<()> {
    let ended = if header.step == header.total_steps { "finished" } else { "stopped" };
    let mut page = Page::new(&format!(
        "Training run {}, {ended} at step {} of {}",
        state.display(),
        header.step,
        header.total_steps
    ));
    let (curves, grids) = (curves(state)?, grids(&state.join(SAMPLES_FOLDER))?);
    page.section("Result", |page| page.table(Cells::Text, &[], &result(header)));
    page.section("Curves", |page| page.charts(|page| charts(page, &curves)));
    page.section("Samples", |page| {
        page.text(
            "Each row is one tile: as it is, then in the style of each domain. In the style of its \
            own domain it is its reconstruction.",
        );
        page.pictures(grids.iter().map(|(name, png)| (name.clone(), png.as_slice())));
    });
    page.section("Data", |page| {
        let head = ["domain", "training images", "tiles in them", "held-out images"];
        page.table(Cells::Numbers, &head, &counts.0);
    });
    page.section("Options", |page| page.table(Cells::Text, &[], &options(header)));
    let path = state.join(REPORT_FILE);
    atomic::write_file(&path, page.finish().as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))
}

fn result(header: &RunHeader) -> Vec<[String; 2]> {
    let row = |name: &str, value: String| [name.to_owned(), value];
    let score = |s: &Score| {
        format!(
            "loss {:.4}, PSNR {:.2} dB, SSIM {:.3} at step {}",
            s.total, s.psnr_db, s.ssim, s.step
        )
    };
    let number = |name: &str| header.options["training"][name].as_u64().unwrap_or(1);
    let tiles = header.step * number("batch") * number("grad_accum_steps");
    let mut rows =
        vec![row("Updates", header.step.to_string()), row("Tiles seen", tiles.to_string())];
    rows.extend(header.validated.as_ref().map(|last| row("Validation, last", score(last))));
    rows.extend(header.best.as_ref().map(|best| row("Validation, best", score(best))));
    let seconds = header.seconds.max(1e-9);
    rows.push(row(
        "Time in the loop",
        format!("{seconds:.0} s, {:.1} tiles/s", tiles as f64 / seconds),
    ));
    rows.push(row(
        "Of it waiting for input",
        format!("{:.1} %", 100.0 * header.waited_seconds / seconds),
    ));
    rows.push(row("Computed on", header.device.clone()));
    rows
}

/// Scalars over steps, as one chart.
struct Chart<'a> {
    title: &'a str,
    logarithmic: bool,
    lines: Vec<(&'a str, &'a [(u64, f32)])>,
}

impl Chart<'_> {
    /// Draws the lines; `None` when there is no value that the axis can show.
    fn plot(&self) -> Option<Plot> {
        let points = || self.lines.iter().flat_map(|(_, points)| points.iter());
        let last = points().map(|&(step, _)| step).max()?;
        let values = points().map(|&(_, value)| f64::from(value));
        let y = if self.logarithmic {
            Axis::covering_logarithmic("", values)?
        } else {
            Axis::covering("", values)?
        };
        let x = Axis::new("step", 0.0, last.max(1) as f64);
        let mut plot = Plot::half(&Axes { title: self.title, x, y });
        for (n, (_, points)) in self.lines.iter().enumerate() {
            let points = points.iter().map(|&(step, value)| (step as f64, Some(value.into())));
            plot.line(Series::of(n), points);
        }
        Some(plot)
    }

    fn add_to(&self, page: &mut Page) {
        let Some(plot) = self.plot() else { return };
        let names = self.lines.iter().enumerate().map(|(n, (name, _))| (Series::of(n), *name));
        let legend: Vec<_> = names.filter(|_| self.lines.len() > 1).collect();
        page.plot(self.title, &legend, plot);
    }
}

fn charts(page: &mut Page, curves: &Curves) {
    let lines = |prefix: &str, but: &[&str]| {
        let own =
            curves.iter().filter_map(|(tag, points)| Some((tag.strip_prefix(prefix)?, points)));
        own.filter(|(name, _)| !but.contains(name))
            .map(|(name, points)| (name, points.as_slice()))
            .collect::<Vec<_>>()
    };
    let one = |name: &'static str, tag: &str| {
        curves.get(tag).map(|points| (name, points.as_slice())).into_iter()
    };
    let log = |title, lines| Chart { title, logarithmic: true, lines };
    let linear = |title, lines| Chart { title, logarithmic: false, lines };
    let losses = one("training", "loss/total").chain(one("validation", "validation/total"));
    for chart in [
        log("Loss", losses.collect()),
        log("Terms in training", lines("loss/", &["total"])),
        log("Terms in validation", lines("validation/", &["total", "psnr_db", "ssim"])),
        linear(
            "Reconstruction of held-out images, PSNR in dB",
            one("PSNR", "validation/psnr_db").collect(),
        ),
        linear("Reconstruction of held-out images, SSIM", one("SSIM", "validation/ssim").collect()),
        linear("Learning rate", one("learning rate", "learning_rate").collect()),
        linear("Tiles per second", one("tiles/s", "input/tiles_per_second").collect()),
        linear("Share of time waiting for input", one("share", "input/wait_share").collect()),
    ] {
        chart.add_to(page);
    }
}

/// Some of the sample grids: the last, and others evenly spaced before it.
fn grids(folder: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let names = std::fs::read_dir(folder)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names: Vec<String> = names.collect::<Result<_>>()?;
    names.retain(|name| name.ends_with(".png"));
    names.sort();
    let every = names.len().div_ceil(GRIDS).max(1);
    let some = names.iter().rev().step_by(every).map(|name| {
        Ok((name.trim_end_matches(".png").to_owned(), std::fs::read(folder.join(name))?))
    });
    some.collect()
}

/// Every size and option by its name.
fn options(header: &RunHeader) -> Vec<[String; 2]> {
    let mut rows = Vec::new();
    flatten("", &json!(GeometrySpec::from(header.geometry)), &mut rows);
    let measured = [("mean", header.normalisation.mean), ("std", header.normalisation.std)];
    rows.extend(
        measured.map(|(name, values)| {
            [name.to_owned(), values.map(|value| value.to_string()).join(", ")]
        }),
    );
    rows.push(["pixel_order".to_owned(), header.pixel_order.to_string()]);
    flatten("", &header.options, &mut rows);
    let mut seen = BTreeSet::new();
    rows.retain(|[name, _]| seen.insert(name.clone()));
    rows
}

fn flatten(name: &str, value: &Value, rows: &mut Vec<[String; 2]>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| flatten(key, value, rows)),
        Value::Null => {}
        Value::Array(items) if items.is_empty() => {}
        Value::String(text) => rows.push([name.to_owned(), text.clone()]),
        other => rows.push([name.to_owned(), other.to_string()]),
    }
}
