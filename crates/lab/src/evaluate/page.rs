//! `--html`: the report as one file with its pictures inside, light or dark as the reader's system is.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::evaluate::pictures::Pictures;
use crate::evaluate::report::Report;
use crate::evaluate::table::{self, Table};
use crate::evaluate::technique::Technique;
use restain_bundle::Manifest;

/// Everything but the data. `{{title}}` and `{{body}}` are put in.
const FRAME: &str = include_str!("page.html");

pub(super) fn render(manifest: &Manifest, report: &Report, pictures: &Pictures) -> String {
    let title = format!("{} {}", manifest.name, manifest.version);
    let mut body = vec![section("Reconstruction", &[html(&table::reconstruction(report))])];
    if let Some(methods) = table::methods(report) {
        body.push(section("Methods", &[html(&methods)]));
    }
    let matrices: Vec<String> = pictures
        .matrices
        .iter()
        .map(|(method, png)| figure(&title_of(*method), png, report))
        .collect();
    body.push(section("Every domain in every stain", &matrices));
    if !pictures.strips.is_empty() {
        let methods: Vec<String> =
            pictures.matrices.iter().map(|(method, _)| method.name()).collect();
        let columns =
            format!("<p>From left to right: the tile as it came, {}.</p>", methods.join(", "));
        let strips = pictures.strips.iter().map(|(kind, png)| picture(kind.name(), png));
        let parts: Vec<String> = std::iter::once(columns)
            .chain(strips)
            .chain([html(&table::failures(report))])
            .collect();
        body.push(section("White, ink, blur", &parts));
    }
    if let Some(confusion) = table::confusion(report) {
        body.push(section(
            "What the classifier of domains takes real tiles for",
            &[html(&confusion)],
        ));
    }
    if !report.pairs.is_empty() {
        body.push(format!(
            "<section><details><summary>Every pair of domains</summary>{}</details></section>",
            html(&table::pairs(report))
        ));
    }
    FRAME.replace("{{title}}", &escape(&title)).replace("{{body}}", &body.join("\n"))
}

fn title_of(method: Technique) -> String {
    format!("{}: {}", method.name(), table::describe(method))
}

fn figure(title: &str, png: &[u8], report: &Report) -> String {
    let domains: Vec<&str> =
        report.reconstruction.iter().map(|figures| figures.domain.as_str()).collect();
    let order =
        format!("{title}. Rows: tissue of {0}; columns: the stain of the same", domains.join(", "));
    picture(&order, png)
}

fn picture(caption: &str, png: &[u8]) -> String {
    let caption = escape(caption);
    format!(
        "<figure><img alt=\"{caption}\" src=\"data:image/png;base64,{}\"><figcaption>{caption}</figcaption></figure>",
        STANDARD.encode(png)
    )
}

fn section(title: &str, parts: &[String]) -> String {
    format!("<section><h2>{}</h2>\n{}\n</section>", escape(title), parts.join("\n"))
}

fn html(table: &Table) -> String {
    let row = |cells: &[String], tag: &str| {
        let cells: String =
            cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect();
        format!("<tr>{cells}</tr>")
    };
    let rows: String = table.rows.iter().map(|cells| row(cells, "td")).collect();
    let note = if table.note.is_empty() {
        String::new()
    } else {
        format!("<p>{}</p>", escape(&table.note))
    };
    format!(
        "<div class=\"wide\"><table><thead>{}</thead><tbody>{rows}</tbody></table></div>{note}",
        row(&table.head, "th")
    )
}

/// Names of domains come from folders.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
