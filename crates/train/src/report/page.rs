//! The page around charts, pictures and tables.

use crate::report::chart::Chart;

const STYLE: &str = "\
:root { color-scheme: light dark; --c0: light-dark(#1f6fb4, #6db3f2); --c1: light-dark(#c2410c, #fb923c);\
 --c2: light-dark(#15803d, #4ade80); --c3: light-dark(#7e22ce, #c084fc); --c4: light-dark(#a16207, #facc15);\
 --c5: light-dark(#be123c, #fb7185); --c6: light-dark(#0e7490, #22d3ee); --c7: light-dark(#57534e, #a8a29e) }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;\
 color: light-dark(#1c1917, #e7e5e4); background: light-dark(#fff, #171717) }
h1 { font-size: 1.3rem } h2 { font-size: 1.05rem; margin-top: 2rem }
table { border-collapse: collapse } td, th { padding: .15rem .9rem .15rem 0; text-align: left; vertical-align: top;\
 border-bottom: 1px solid light-dark(#e7e5e4, #333); overflow-wrap: anywhere }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(24rem, 1fr)); gap: 1rem }
figure { margin: 0 } figcaption { font-size: .85rem }
svg text { font-size: 10px; fill: currentColor } .grid { stroke: currentColor; opacity: .15 }
polyline { fill: none; stroke-width: 1.5 }
td:first-child, th { white-space: nowrap }
.samples { image-rendering: pixelated; min-width: 24rem; max-width: 100% }
";

pub(super) struct Page {
    html: String,
}

impl Page {
    pub(super) fn new(title: &str) -> Self {
        let title = escape(title);
        let colours: String = (0..8)
            .map(|i| {
                format!(
                    "polyline.line{i} {{ stroke: var(--c{i}) }} circle.line{i} {{ fill: var(--c{i}) }} .key{i} {{ color: var(--c{i}) }}\n"
                )
            })
            .collect();
        let head = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">";
        Self {
            html: format!(
                "{head}\n<title>{title}</title>\n<style>\n{STYLE}{colours}</style>\n<h1>{title}</h1>\n"
            ),
        }
    }

    pub(super) fn heading(&mut self, text: &str) {
        self.html += &format!("<h2>{}</h2>\n", escape(text));
    }

    pub(super) fn text(&mut self, text: &str) {
        self.html += &format!("<p>{}</p>\n", escape(text));
    }

    /// A table with its heading; columns without names have no head.
    pub(super) fn table<const N: usize>(
        &mut self,
        heading: &str,
        columns: &[&str; N],
        rows: &[[String; N]],
    ) {
        self.heading(heading);
        let row = |cells: &[String], tag: &str| {
            let cells: String =
                cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect();
            format!("<tr>{cells}</tr>\n")
        };
        self.html += "<table>\n";
        if columns.iter().any(|name| !name.is_empty()) {
            self.html += &row(&columns.map(str::to_owned), "th");
        }
        self.html.extend(rows.iter().map(|cells| row(cells, "td")));
        self.html += "</table>\n";
    }

    pub(super) fn charts(&mut self, charts: &[Chart<'_>]) {
        self.html += "<div class=\"charts\">\n";
        for (chart, svg) in charts.iter().filter_map(|chart| Some((chart, chart.svg()?))) {
            let caption = format!("{} {}", escape(chart.title), chart.legend());
            self.html += &format!("<figure><figcaption>{caption}</figcaption>{svg}</figure>\n");
        }
        self.html += "</div>\n";
    }

    pub(super) fn picture(&mut self, name: &str, source: &str) {
        let name = escape(name);
        self.html += &format!(
            "<figure><figcaption>{name}</figcaption><img class=\"samples\" alt=\"{name}\" src=\"{source}\"></figure>\n"
        );
    }

    pub(super) fn finish(self) -> String {
        self.html
    }
}

pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
