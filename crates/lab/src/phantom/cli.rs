//! `restain-train phantom`: its options and its progress bar.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use indicatif::{ProgressBar, ProgressStyle};

use super::PhantomSpec;
use super::write::{FileFormat, Layout, WriteSpec, write};

/// Write procedural H&E tiles of several hospitals, with labels
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Phantom")]
pub struct Args {
    /// Write to this new folder
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Write this many tiles of each hospital, half of them tumour
    #[arg(long, value_name = "TILES", default_value_t = 400)]
    pub tiles_per_domain: u64,
    /// Draw tiles with this side, in pixels of about half a micrometre
    #[arg(long, value_name = "PIXELS", default_value_t = 96)]
    pub size: usize,
    /// Draw this many hospitals, which are the domains
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub hospitals: usize,
    /// Draw from this seed: the same seed gives the same tiles
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Lay the files out like this
    #[arg(long, value_enum, default_value_t = Layout::Folders)]
    pub layout: Layout,
    /// Write files of this format
    #[arg(long, value_enum, default_value_t = FileFormat::Png)]
    pub format: FileFormat,
}

/// Runs `phantom`: writes the tiles into a new folder.
///
/// # Errors
/// If a number is out of range, the folder is not empty, or a file cannot be written.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let spec = WriteSpec {
        out: args.out.clone(),
        phantom: PhantomSpec { seed: args.seed, side: args.size },
        hospitals: args.hospitals,
        tiles_per_domain: args.tiles_per_domain,
        layout: args.layout,
        format: args.format,
    };
    let progress = Progress::new(args.tiles_per_domain.saturating_mul(args.hospitals as u64));
    let tiles = write(&spec, &|| progress.tile())?;
    if let Some(bar) = &progress.bar {
        bar.finish_and_clear();
    }
    tracing::info!("{} written: {tiles} tiles of {} hospitals", args.out.display(), args.hospitals);
    Ok(())
}

/// A progress bar on a terminal, else a log line after every tenth of the tiles.
struct Progress {
    bar: Option<ProgressBar>,
    total: u64,
    written: AtomicU64,
}

impl Progress {
    fn new(total: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} tiles, {eta} left")
                .expect("a valid template");
            ProgressBar::new(total).with_style(style)
        });
        Self { bar, total, written: AtomicU64::new(0) }
    }

    fn tile(&self) {
        let written = self.written.fetch_add(1, Ordering::Relaxed) + 1;
        match &self.bar {
            Some(bar) => bar.inc(1),
            None if written < self.total && written.is_multiple_of((self.total / 10).max(100)) => {
                tracing::info!("{written} of {} tiles written", self.total);
            }
            None => {}
        }
    }
}
