//! `restain-train phantom`: its options, and their way to [`write`].

use super::{FileFormat, Layout, PhantomSpec, WriteSpec, write};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::path::PathBuf;

/// Write procedural H&E tiles with labels, from hospitals that look unlike each other.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// New folder to write to.
    #[arg(long, env = "RESTAIN_OUT", value_name = "DIR")]
    pub out: PathBuf,
    /// Tiles of each hospital, half of them tumour.
    #[arg(long, env = "RESTAIN_TILES_PER_DOMAIN", value_name = "N", default_value_t = 400)]
    pub tiles_per_domain: u64,
    /// Side of a tile in pixels, of about half a micrometre each.
    #[arg(long, env = "RESTAIN_SIZE", value_name = "PX", default_value_t = 96)]
    pub size: usize,
    /// Hospitals, which are the domains.
    #[arg(long, env = "RESTAIN_HOSPITALS", value_name = "N", default_value_t = 5)]
    pub hospitals: usize,
    /// The same seed gives the same tiles.
    #[arg(long, env = "RESTAIN_SEED", value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Names of the files.
    #[arg(long, env = "RESTAIN_LAYOUT", value_enum, default_value_t = Layout::Folders)]
    pub layout: Layout,
    /// Kind of the files.
    #[arg(long, env = "RESTAIN_FORMAT", value_enum, default_value_t = FileFormat::Png)]
    pub format: FileFormat,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let spec = WriteSpec {
        out: args.out.clone(),
        phantom: PhantomSpec { seed: args.seed, side: args.size },
        hospitals: args.hospitals,
        tiles_per_domain: args.tiles_per_domain,
        layout: args.layout,
        format: args.format,
    };
    let bar = progress(args.tiles_per_domain.saturating_mul(args.hospitals as u64));
    let tiles = write(&spec, &|| bar.inc(1))?;
    bar.finish_and_clear();
    tracing::info!(tiles, hospitals = args.hospitals, out = %args.out.display(), "phantom written");
    Ok(())
}

/// A bar on a terminal, nothing elsewhere.
fn progress(tiles: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} tiles, {eta} left").expect("a fixed template");
    ProgressBar::new(tiles).with_style(style)
}
