//! A data set that lies in an object store: it is copied to this machine first, since training
//! reads each tile many times and in no order.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use restain_store::{Place, Remote, copy_below, user_cache};

/// Time between two log lines without a terminal.
const LOG_EVERY: Duration = Duration::from_secs(15);

/// The folder of a data set: `data` itself; or, of a URL, the copy below `cache`, brought up to
/// date. What is there already is not fetched again.
///
/// # Errors
/// When the store cannot be read, or the copy cannot be written.
pub(crate) fn folder_of(data: &Path, cache: Option<&Path>) -> Result<PathBuf> {
    let place = data.to_str().map(str::parse::<Place>).transpose().context("--data")?;
    let location = match place {
        Some(Place::Remote(location)) => location,
        Some(Place::Here(path)) => return Ok(path),
        None => return Ok(data.to_owned()),
    };
    let cache = cache.map(Path::to_owned).or_else(|| user_cache("data"));
    let cache = cache.context("this user has no home: say with --data-cache where data goes")?;
    let dir = cache.join(location.folder_name());
    let mut progress = Progress::new(location.to_string());
    let copied = copy_below(&Remote::open(&location)?, &dir, |done, all| progress.seen(done, all))?;
    progress.end();
    if copied.fetched > 0 {
        let (fetched, bytes) = (copied.fetched, HumanBytes(copied.bytes));
        tracing::info!("{fetched} objects, {bytes}, were copied into {}", dir.display());
    }
    Ok(dir)
}

/// A bar with an estimate on a terminal, log lines elsewhere.
struct Progress {
    place: String,
    bar: Option<ProgressBar>,
    logged: Instant,
}

impl Progress {
    fn new(place: String) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = "{bar:30} {bytes}/{total_bytes} of {msg}, {eta} left";
            let style = ProgressStyle::with_template(style).expect("a valid template");
            ProgressBar::new(0).with_style(style).with_message(place.clone())
        });
        Self { place, bar, logged: Instant::now() }
    }

    fn seen(&mut self, done: u64, all: u64) {
        if let Some(bar) = &self.bar {
            bar.set_length(all);
            bar.set_position(done);
        } else if self.logged.elapsed() >= LOG_EVERY {
            self.logged = Instant::now();
            tracing::info!("copied {} of {} of {}", HumanBytes(done), HumanBytes(all), self.place);
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
