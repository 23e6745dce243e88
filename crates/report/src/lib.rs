//! Reports that open in a browser: one HTML file with charts, tables and pictures inside, in light
//! and dark.
//!
//! The load generator, the trainer and the evaluation write their reports with it, so that there is
//! one page frame, one set of charts and one [`escape`]. A report loads nothing from elsewhere and
//! runs no script. What a report says is for its caller.
//!
//! ```
//! use restain_report::{Axes, Axis, Page, Plot, Series};
//!
//! let losses = [(1.0, 0.9), (2.0, 0.5), (3.0, 0.4)];
//! let y = Axis::covering("loss", losses.map(|(_, loss)| loss)).unwrap();
//! let mut plot = Plot::new(&Axes { title: "Loss", x: Axis::new("step", 0.0, 3.0), y });
//! plot.line(Series::of(0), losses.map(|(step, loss)| (step, Some(loss))));
//!
//! let mut page = Page::new("A run of <three> steps");
//! page.section("Curves", |page| page.plot("Loss", &[], plot));
//! let html = page.finish();
//! assert!(html.contains("A run of &lt;three&gt; steps") && html.contains("<svg"));
//! ```

#![warn(missing_docs)]

mod axis;
mod page;
mod plot;

pub use axis::{Axes, Axis, number};
pub use page::{Cells, Page};
pub use plot::{Plot, Series, stacked};

/// Replaces the characters that HTML and SVG give a meaning: `&`, `<`, `>` and `"`.
///
/// ```
/// assert_eq!(restain_report::escape("a < \"b\" & c"), "a &lt; &quot;b&quot; &amp; c");
/// ```
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
