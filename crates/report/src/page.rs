//! The page around charts, pictures and tables. Everything that callers hand over as text is
//! escaped.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::escape;
use crate::plot::{Plot, Series};

/// What the cells of a table hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cells {
    /// Aligned left.
    Text,
    /// Aligned right, but for the first column.
    Numbers,
}

/// An HTML file in the making.
pub struct Page {
    html: String,
}

impl Page {
    /// Begins a page with its title as the heading.
    pub fn new(title: &str) -> Self {
        Self::begin("", title)
    }

    /// Begins a page whose source opens with a note to those who keep or publish the file.
    pub fn with_note(note: &str, title: &str) -> Self {
        // Two dashes would end the comment.
        Self::begin(&format!("<!-- NOTE: {} -->\n", escape(note).replace("--", "- -")), title)
    }

    fn begin(note: &str, title: &str) -> Self {
        let title = escape(title);
        Self {
            html: format!(
                "<!doctype html>\n{note}<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
                 <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
                 <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n\
                 <style>\n{}{}</style>\n<h1>{title}</h1>\n",
                include_str!("chart.css"),
                include_str!("page.css")
            ),
        }
    }

    /// Adds a paragraph.
    pub fn text(&mut self, text: &str) {
        self.html += &format!("<p>{}</p>\n", escape(text));
    }

    /// Adds a row of large figures: name, value, and whether the value is a bad one.
    pub fn figures(&mut self, figures: &[(&str, String, bool)]) {
        self.html += "<div class=\"figures\">\n";
        for (name, value, bad) in figures {
            let class = if *bad { " class=\"bad\"" } else { "" };
            let (name, value) = (escape(name), escape(value));
            self.html += &format!("<div{class}><strong>{value}</strong>{name}</div>\n");
        }
        self.html += "</div>\n";
    }

    /// Adds a section with a heading, or with none when it is empty.
    pub fn section(&mut self, heading: &str, fill: impl FnOnce(&mut Self)) {
        self.html += "<section>\n";
        if !heading.is_empty() {
            self.html += &format!("<h2>{}</h2>\n", escape(heading));
        }
        fill(self);
        self.html += "</section>\n";
    }

    /// Adds a section that is closed until the reader opens it.
    pub fn details(&mut self, summary: &str, fill: impl FnOnce(&mut Self)) {
        self.html += &format!("<section><details><summary>{}</summary>\n", escape(summary));
        fill(self);
        self.html += "</details></section>\n";
    }

    /// Adds what follows in two columns, where the window is wide enough.
    pub fn charts(&mut self, fill: impl FnOnce(&mut Self)) {
        self.html += "<div class=\"charts\">\n";
        fill(self);
        self.html += "</div>\n";
    }

    /// Adds a chart with its caption, and the names of its series with their colours.
    pub fn plot(&mut self, caption: &str, legend: &[(Series, &str)], plot: Plot) {
        let legend: String = legend
            .iter()
            .map(|(series, name)| format!("<i class=\"{series}\"></i>{}", escape(name)))
            .collect();
        self.html += &format!(
            "<figure>\n<figcaption>{} <span \
            class=\"legend\">{legend}</span></figcaption>\n{}</figure>\n",
            escape(caption),
            plot.finish()
        );
    }

    /// Adds a table. Without names of columns it has no head.
    pub fn table<R: AsRef<[String]>>(&mut self, cells: Cells, head: &[&str], rows: &[R]) {
        let row = |cells: &mut dyn Iterator<Item = &str>, tag: &str| {
            let cells: String =
                cells.map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect();
            format!("<tr>{cells}</tr>\n")
        };
        let class = if cells == Cells::Numbers { " class=\"numbers\"" } else { "" };
        self.html += &format!("<div class=\"wide\"><table{class}>\n");
        if !head.is_empty() {
            self.html += &format!("<thead>{}</thead>\n", row(&mut head.iter().copied(), "th"));
        }
        for cells in rows {
            self.html += &row(&mut cells.as_ref().iter().map(String::as_str), "td");
        }
        self.html += "</table></div>\n";
    }

    /// Adds PNG pictures side by side, each with its caption.
    pub fn pictures<'a>(&mut self, pictures: impl IntoIterator<Item = (String, &'a [u8])>) {
        self.html += "<div class=\"pictures\">\n";
        for (caption, png) in pictures {
            let caption = escape(&caption);
            self.html += &format!(
                "<figure><img alt=\"{caption}\" \
                src=\"data:image/png;base64,{}\"><figcaption>{caption}</figcaption></figure>\n",
                STANDARD.encode(png)
            );
        }
        self.html += "</div>\n";
    }

    /// Adds text as it is, line breaks and blanks included.
    pub fn preformatted(&mut self, text: &str) {
        self.html += &format!("<pre>{}</pre>\n", escape(text));
    }

    /// Returns the file.
    pub fn finish(self) -> String {
        self.html + "</html>\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_is_escaped_wherever_it_goes() {
        let hostile = "<script>\"&";
        let mut page = Page::with_note("-->", hostile);
        page.text(hostile);
        page.figures(&[(hostile, hostile.to_owned(), true)]);
        page.section(hostile, |page| page.preformatted(hostile));
        page.details(hostile, |page| {
            page.table(Cells::Text, &[hostile], &[[hostile.to_owned()]]);
        });
        page.pictures([(hostile.to_owned(), &b"png"[..])]);
        let html = page.finish();
        assert!(!html.contains("<script>") && !html.contains("NOTE: -->"), "{html}");
        assert_eq!(html.matches("&lt;script&gt;&quot;&amp;").count(), 12);
    }

    #[test]
    fn a_table_without_names_has_no_head() {
        let mut page = Page::new("");
        page.table(Cells::Numbers, &[], &[["a".to_owned(), "1".to_owned()]]);
        let html = page.finish();
        assert!(
            html.contains("<table class=\"numbers\">\n<tr><td>a</td><td>1</td></tr>"),
            "{html}"
        );
        assert!(!html.contains("thead>"));
    }
}
