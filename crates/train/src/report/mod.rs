//! `report.html` in a run's state: what was trained on what, its curves and its sample grids, in one file that can be sent.
//!
//! Written when a run ends or is interrupted, from what lies in the state anyway. It loads nothing from elsewhere and runs no
//! script.

mod chart;
mod page;

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::checkpoint::{RunHeader, Score, replace};
use crate::tensorboard::{Curves, curves};
use crate::validate::Parts;
use crate::watch::SAMPLES_FOLDER;
use chart::{Chart, Line};
use page::Page;
use restain_data::Dataset;
use restain_method::geometry::GeometrySpec;

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
    page.table("Result", &["", ""], &result(header));
    charts(&mut page, &curves(state)?);
    page.heading("Samples");
    page.text("Each row is one tile: as it is, then in the style of each domain. Where both are the same domain it is its reconstruction.");
    for (name, bytes) in grids(&state.join(SAMPLES_FOLDER))? {
        page.picture(&name, &format!("data:image/png;base64,{}", STANDARD.encode(bytes)));
    }
    page.table(
        "Data",
        &["domain", "images trained on", "tiles in them", "images kept out"],
        &counts.0,
    );
    page.table("Options", &["", ""], &options(header));
    replace(&state.join(REPORT_FILE), |fresh| Ok(std::fs::write(fresh, page.finish())?))
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

fn charts(page: &mut Page, curves: &Curves) {
    let lines = |prefix: &str, but: &[&str]| -> Vec<Line<'_>> {
        let own =
            curves.iter().filter_map(|(tag, points)| Some((tag.strip_prefix(prefix)?, points)));
        own.filter(|(name, _)| !but.contains(name))
            .map(|(name, points)| Line { name, points })
            .collect()
    };
    let one = |name: &'static str, tag: &str| curves.get(tag).map(|points| Line { name, points });
    page.heading("Curves");
    page.charts(&[
        Chart {
            title: "Loss",
            log: true,
            lines: one("training", "loss/total")
                .into_iter()
                .chain(one("validation", "validation/total"))
                .collect(),
        },
        Chart { title: "Terms in training", log: true, lines: lines("loss/", &["total"]) },
        Chart {
            title: "Terms in validation",
            log: true,
            lines: lines("validation/", &["total", "psnr_db", "ssim"]),
        },
        Chart {
            title: "Reconstruction of images kept out, PSNR in dB",
            log: false,
            lines: one("PSNR", "validation/psnr_db").into_iter().collect(),
        },
        Chart {
            title: "Reconstruction of images kept out, SSIM",
            log: false,
            lines: one("SSIM", "validation/ssim").into_iter().collect(),
        },
        Chart {
            title: "Learning rate",
            log: false,
            lines: one("learning rate", "learning_rate").into_iter().collect(),
        },
        Chart {
            title: "Tiles a second",
            log: false,
            lines: one("tiles/s", "input/tiles_per_second").into_iter().collect(),
        },
        Chart {
            title: "Share of time waiting for input",
            log: false,
            lines: one("share", "input/wait_share").into_iter().collect(),
        },
    ]);
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
    rows.extend(measured.map(|(name, values)| [name.to_owned(), format!("{values:?}")]));
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
