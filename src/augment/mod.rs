//! `restain augment`: a data set in, the same data set in other stains out, without a server.
//!
//! The pipeline is the server's own, in this process (`serve::services`); what is added here is
//! where tiles come from and where variants go. `layout` lists what IN is; `files` and `webdataset`
//! move its tiles; `maker` asks the pipeline for each; `home` keeps OUT, so that a job which is
//! stopped or killed goes on when it is given again, and gives the same bytes as one that was not:
//! a variant depends on bundle, tile, seed and index alone.
//!
//! Not here: reading from or writing to anything but a file system, and cutting slides into tiles.

mod error;
mod files;
mod home;
mod layout;
mod maker;
mod options;
mod pattern;
mod progress;
mod shard;
mod tile;
mod webdataset;
mod wilds;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, Shared};

pub use error::AugmentError;
use error::{unreadable, unwritable};
use files::Writing;
use home::{Home, Terms};
use layout::{Input, Tar};
use maker::Maker;
pub use options::AugmentArgs;
use progress::{Extent, Progress};
use restain_bundle::atomic;
use tile::Tile;
use webdataset::Samples;
use wilds::{METADATA, Written};

/// Resolves when the job is asked to stop.
type Stop = Shared<BoxFuture<'static, ()>>;

/// How a job ended, other than in an error.
pub enum Ending {
    Done(Summary),
    /// Stopped on request; what is done is kept.
    Interrupted(Summary),
    /// What `--dry-run` prints.
    DryRun(String),
}

/// What a run did.
#[derive(Debug, Default)]
pub struct Summary {
    tiles: u64,
    variants: u64,
    before: u64,
    left_out: usize,
    took: Duration,
    encoders_busy: f64,
}

/// Does the part of the job that the options name, or what is left of it.
///
/// # Errors
/// What ended it before its end; what is done by then is kept.
pub async fn run(
    args: AugmentArgs,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<Ending, AugmentError> {
    let stop: Stop = stop.boxed().shared();
    let (inputs, layout) = (args.inputs.clone(), args.job.layout);
    let input = tokio::task::spawn_blocking(move || Input::list(&inputs, layout)).await??;
    if args.job.dry_run {
        return Ok(Ending::DryRun(describe(&args, &input)));
    }
    let home = Arc::new(Home::open(&args.out, &args.inputs, args.job.shard)?);
    let mut maker = tokio::select! {
        maker = Maker::open(&args) => maker?,
        () = stop.clone() => return Ok(Ending::Interrupted(Summary::default())),
    };
    let mut terms = terms(&args, &input, &maker);
    let begun = home.settle(&mut terms)?;
    maker.ask.seed = terms.ask.seed;
    tracing::info!(seed = terms.ask.seed, part = %args.job.shard, layout = input.name(), "{}", if begun { "going on" } else { "beginning" });
    let maker = Arc::new(maker);
    let (progress, is_done) = work(&args, &input, &home, &maker, stop).await?;
    progress.end();
    if is_done {
        let whole = home.finish(&progress.done)?;
        if whole {
            tokio::task::block_in_place(|| complete(&args, &input, &home))?;
        }
        tracing::info!(
            "part {} is done{}",
            args.job.shard,
            if whole { ", and with it the job" } else { "" }
        );
    }
    let summary = Summary {
        tiles: progress.tiles_of_this_run(),
        variants: progress.variants_of_this_run(),
        before: progress.done.tiles - progress.tiles_of_this_run(),
        left_out: progress.done.bad.len(),
        took: progress.elapsed(),
        encoders_busy: maker.encoders_busy(progress.elapsed()),
    };
    let maker = Arc::into_inner(maker).expect("what worked with it is over");
    maker.close().await?;
    Ok(if is_done { Ending::Done(summary) } else { Ending::Interrupted(summary) })
}

/// Makes what is left of the part, and says whether that is all.
async fn work(
    args: &AugmentArgs,
    input: &Input,
    home: &Arc<Home>,
    maker: &Arc<Maker>,
    stop: Stop,
) -> Result<(Progress, bool), AugmentError> {
    let variants = args.ask.variants as usize;
    match input {
        Input::Folder { root, tiles } | Input::Wilds { root, tiles, .. } => {
            let (root, ending) = (root.clone(), args.ask.format.extension());
            let writing = Writing {
                home: Arc::clone(home),
                root,
                variants,
                ending,
                originals: args.job.originals,
            };
            let (tiles, sorting) = (of_part(args, tiles), writing.clone());
            let left = tokio::task::spawn_blocking(move || sorting.left(tiles)).await?;
            let extent = Extent::Tiles(left.tiles.len() as u64 + left.done.tiles);
            let mut progress = Progress::new(extent, args.job.max_damaged, left.done, 0)?;
            let is_done = files::run(&writing, maker, left.tiles, &mut progress, stop).await?;
            Ok((progress, is_done))
        }
        Input::Tars(tars) => {
            let tars: Vec<Tar> = of_part(args, tars);
            if tars.is_empty() {
                tracing::info!("part {} has no tar: a tar is never divided", args.job.shard);
            }
            let size = |tar: &Tar| {
                tar.path.metadata().map(|file| file.len()).map_err(unreadable(&tar.path))
            };
            let all = tars.iter().map(size).sum::<Result<u64, _>>()?;
            let (left, done) = webdataset::left(home, tars)?;
            let of_left = left.iter().map(size).sum::<Result<u64, _>>()?;
            let mut progress =
                Progress::new(Extent::Bytes(all), args.job.max_damaged, done, all - of_left)?;
            let samples = Samples {
                home: Arc::clone(home),
                format: args.ask.format,
                variants,
                originals: args.job.originals,
                image_field: args.job.image_field.clone(),
            };
            let is_done = webdataset::run(&samples, maker, left, &mut progress, stop).await?;
            Ok((progress, is_done))
        }
    }
}

/// What only the whole of a data set has, once all of its parts are done. Of parts that end
/// together each may do it: the bytes are the same.
fn complete(args: &AugmentArgs, input: &Input, home: &Home) -> Result<(), AugmentError> {
    let Input::Wilds { root, table, .. } = input else { return Ok(()) };
    let path = home.out.join(METADATA);
    let file = home.scratch_file()?;
    let ending = args.ask.format.extension();
    let variants = args.ask.variants as usize;
    let written = Written { out: &home.out, variants, ending, originals: args.job.originals };
    let handle = file.as_file().try_clone().map_err(unwritable(&path))?;
    let rows = table.carry_along(written, handle, &path)?;
    atomic::move_file(&file.into_temp_path(), &path).map_err(unwritable(&path))?;
    // The file by which the usual loaders know the data set.
    for entry in std::fs::read_dir(root).map_err(unreadable(root))?.flatten() {
        if entry.file_name().to_string_lossy().starts_with("RELEASE") {
            let bytes = std::fs::read(entry.path()).map_err(unreadable(entry.path()))?;
            home.put(Path::new(&entry.file_name()), &bytes)?;
        }
    }
    tracing::info!(rows, "metadata.csv is written");
    Ok(())
}

fn of_part<T: Clone>(args: &AugmentArgs, all: &[T]) -> Vec<T> {
    all.iter()
        .enumerate()
        .filter(|(place, _)| args.job.shard.holds(*place))
        .map(|(_, one)| one.clone())
        .collect()
}

fn terms(args: &AugmentArgs, input: &Input, maker: &Maker) -> Terms {
    let model = maker.model();
    Terms {
        input: args.inputs.iter().map(|path| home::real(path)).collect(),
        layout: input.name(),
        originals: args.job.originals,
        image_field: args.job.image_field.clone(),
        bundle: model.bundle.digest.clone(),
        precision: model.precision.to_string(),
        provider: model.provider,
        references: maker.reference_keys(),
        ask: maker.ask.clone(),
    }
}

fn describe(args: &AugmentArgs, input: &Input) -> String {
    let (shard, variants) = (args.job.shard, args.ask.variants);
    match input {
        Input::Folder { tiles, .. } | Input::Wilds { tiles, .. } => {
            let of_part = of_part::<Tile>(args, tiles).len() as u64;
            let (layout, all) = (input.name(), tiles.len());
            format!(
                "{layout}: {all} tiles; part {shard} has {of_part} of them, which become {} variants",
                of_part * variants
            )
        }
        Input::Tars(tars) => {
            let of_part = of_part::<Tar>(args, tars);
            let bytes: u64 =
                of_part.iter().filter_map(|tar| Some(tar.path.metadata().ok()?.len())).sum();
            let (all, of_part) = (tars.len(), of_part.len());
            format!(
                "webdataset: {all} tars; part {shard} has {of_part} of them, {bytes} bytes; each sample becomes {variants}"
            )
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tiles, variants, before, left_out, took, encoders_busy } = self;
        let seconds = took.as_secs_f64();
        let rate = *tiles as f64 / seconds.max(f64::MIN_POSITIVE);
        write!(
            f,
            "{tiles} tiles, {variants} variants, {left_out} left out, {seconds:.1} s, {rate:.1} tiles/s"
        )?;
        write!(f, ", encoder at work {:.0} % of the time", 100.0 * encoders_busy)?;
        if *before > 0 {
            write!(f, "; {before} tiles were done before")?;
        }
        Ok(())
    }
}
