//! `restain-train phantom`: its options.

use std::path::PathBuf;

use super::PhantomSpec;
use super::write::{FileFormat, Layout, WriteSpec, write};
use crate::phase::Phase;

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
    let total = args.tiles_per_domain.saturating_mul(args.hospitals as u64);
    let phase = Phase::start("tiles written", total as usize);
    let tiles = write(&spec, &|| phase.advance(1))?;
    drop(phase);
    tracing::info!("{} written: {tiles} tiles of {} hospitals", args.out.display(), args.hospitals);
    Ok(())
}
