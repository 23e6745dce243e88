//! `--html`: the report as one file with its pictures inside.

use restain_bundle::Manifest;
use restain_report::{Cells, Page};

use crate::evaluate::pictures::Pictures;
use crate::evaluate::report::Report;
use crate::evaluate::table::{self, Table};
use crate::evaluate::technique::Technique;

pub(super) fn render(manifest: &Manifest, report: &Report, pictures: &Pictures) -> String {
    let mut page = Page::with_note(
        "this page embeds tiles of the evaluated data set. Publish it only where that data set may \
        be published.",
        &format!("{} {} on images that it was not trained on", manifest.name, manifest.version),
    );
    page.text(
        "This page embeds tiles of the evaluated data set: publish it only where that data set may \
        be published.",
    );
    page.section("Reconstruction", |page| add(page, &table::reconstruction(report)));
    if let Some(stains) = table::stains(report) {
        page.section("Variants beside exact targets", |page| add(page, &stains));
    }
    if let Some(sizes) = table::sizes(report) {
        page.section("Tiles of several sizes", |page| add(page, &sizes));
    }
    if let Some(methods) = table::methods(report) {
        page.section("Methods", |page| add(page, &methods));
    }
    page.section("Every domain in every stain", |page| {
        let matrices = pictures.matrices.iter();
        page.pictures(matrices.map(|(method, png)| (caption(*method, report), png.as_slice())));
    });
    if !pictures.strips.is_empty() {
        page.section("White, ink, blur", |page| {
            let methods: Vec<String> =
                pictures.matrices.iter().map(|(method, _)| method.name()).collect();
            page.text(&format!("From left to right: the tile as it came, {}.", methods.join(", ")));
            let strips = pictures.strips.iter();
            page.pictures(strips.map(|(kind, png)| (kind.name().to_owned(), png.as_slice())));
            add(page, &table::failures(report));
        });
    }
    if let Some(confusion) = table::confusion(report) {
        page.section("What the domain classifier predicts for real tiles", |page| {
            add(page, &confusion);
        });
    }
    if !report.pairs.is_empty() {
        page.details("Every pair of domains", |page| add(page, &table::pairs(report)));
    }
    page.finish()
}

fn caption(method: Technique, report: &Report) -> String {
    let domains: Vec<&str> =
        report.reconstruction.iter().map(|figures| figures.domain.as_str()).collect();
    format!(
        "{}: {}. Rows: tissue of {}; columns: the stain of the same",
        method.name(),
        table::describe(method),
        domains.join(", ")
    )
}

fn add(page: &mut Page, table: &Table) {
    let head: Vec<&str> = table.head.iter().map(String::as_str).collect();
    page.table(Cells::Numbers, &head, &table.rows);
    if !table.note.is_empty() {
        page.text(&table.note);
    }
}
