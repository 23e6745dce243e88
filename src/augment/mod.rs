//! `restain augment`: a data set in, the same data set in other stains out, without a server.
//!
//! The pipeline is the server's own, in this process (`serve::services`); what is added here is
//! where tiles come from and where variants go. `layout` lists what IN is, by the readers of
//! `restain_data`; `collisions` refuses files of one name; `files` and `webdataset` move tiles;
//! `maker` asks the pipeline for each; `home` keeps OUT, so that a job which is stopped or killed
//! goes on when it is given again, and gives the same bytes as one that was not: a variant depends
//! on bundle, tile, seed and index alone.
//!
//! IN and OUT may lie in an object store, where they are tars: `shelf` has what outlives a process,
//! wherever it lies. Not here: cutting slides into tiles.

mod collisions;
mod error;
mod files;
mod home;
mod layout;
mod maker;
mod microns;
mod options;
mod pattern;
mod progress;
mod shard;
mod shelf;
mod slides;
mod tile;
mod webdataset;
mod wilds;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, Shared};

pub use error::AugmentError;
use error::{BadKind, unreadable, unwritable};
use files::Writing;
use home::{Home, Terms};
use layout::{Input, Tar, Tiles};
use maker::Maker;
pub use options::AugmentArgs;
use progress::{Extent, Progress};
use restain_bundle::atomic;
use restain_bundle::codec::ImageFormat;
use restain_data::PassedOver;
use restain_store::Place;
use slides::Slides;
use tile::Tile;
use webdataset::{Names, Samples};
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
    left_out: BTreeMap<BadKind, usize>,
    passed_over: PassedOver,
    took: Duration,
    encoders_busy: f64,
    stated: microns::Counts,
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
    let listing = args.clone();
    let (input, samples, passed_over) =
        tokio::task::spawn_blocking(move || list(&listing)).await??;
    if args.job.dry_run {
        return Ok(Ending::DryRun(describe(&args, &input, samples, &passed_over)));
    }
    if let (Input::Tiles(_), Place::Remote(out)) = (&input, &args.out) {
        return Err(AugmentError::Use(format!(
            "OUT is {out}, where tars are written, and IN holds tiles as files: pack them into \
            tars, or name a folder"
        )));
    }
    let opened = (args.out.clone(), args.job.state.clone(), args.inputs.clone());
    let shard = args.job.shard;
    let open = move || Home::open(&opened.0, opened.1.as_deref(), &opened.2, shard);
    let home = Arc::new(tokio::task::spawn_blocking(open).await??);
    let mut maker = tokio::select! {
        maker = Maker::open(&args) => maker?,
        () = stop.clone() => return Ok(Ending::Interrupted(Summary::default())),
    };
    if !passed_over.is_empty() {
        tracing::info!("{passed_over}");
    }
    let mut terms = terms(&args, &input, &maker);
    let begun = tokio::task::block_in_place(|| home.settle(&mut terms))?;
    maker.ask.seed = terms.ask.seed;
    tracing::info!(seed = terms.ask.seed, part = %args.job.shard, layout = input.name(), "{}",
        if begun { "going on" } else { "beginning" });
    let maker = Arc::new(maker);
    let (progress, is_done) = work(&args, &input, &home, &maker, stop).await?;
    progress.end();
    if is_done {
        let whole = tokio::task::block_in_place(|| home.finish(&progress.done))?;
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
        left_out: progress.done.bad.iter().fold(BTreeMap::new(), |mut counts, bad| {
            *counts.entry(bad.kind).or_default() += 1;
            counts
        }),
        passed_over,
        took: progress.elapsed(),
        encoders_busy: maker.encoders_busy(progress.elapsed()),
        stated: maker.stated.counts(),
    };
    let maker = Arc::into_inner(maker).expect("what worked with it is over");
    maker.close().await?;
    Ok(if is_done { Ending::Done(summary) } else { Ending::Interrupted(summary) })
}

/// Lists IN, and checks all names that this part would write. Returns the number of samples in the
/// tars of the part, and what is passed over.
fn list(args: &AugmentArgs) -> Result<(Input, u64, PassedOver), AugmentError> {
    let input = Input::list(args)?;
    let mut passed_over = input.passed_over().clone();
    let mut samples = 0;
    if let Input::Tars { tars, .. } = &input {
        if args.job.slides {
            let said = "--slides takes the folder of a tile as its slide, and IN holds tars";
            return Err(AugmentError::Use(said.to_owned()));
        }
        let tars = of_part(args, tars);
        let (within, count) = webdataset::check(&tars, args)?;
        let is_whole = args.job.shard.all().count() == 1;
        let is_here = tars.iter().all(|tar| tar.object.is_none());
        if count == 0 && is_here && is_whole && tars.iter().all(|tar| tar.unselected.is_empty()) {
            let tar = tars[0].path.display();
            let said = format!("IN holds no sample: there is none in {tar}, nor in any other tar");
            return Err(AugmentError::Use(said));
        }
        passed_over.merge(within);
        samples = count;
    }
    Ok((input, samples, passed_over))
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
        Input::Tiles(Tiles { catalogue, tiles, .. }) => {
            let writing = Writing {
                home: Arc::clone(home),
                catalogue: Arc::clone(catalogue),
                variants,
                format: args.format().unwrap_or(ImageFormat::Png),
                originals: args.job.originals,
            };
            let (of_part, sorting) = (of_part(args, tiles), writing.clone());
            let left = tokio::task::spawn_blocking(move || sorting.left(of_part)).await?;
            let extent = Extent::Tiles(left.tiles.len() as u64 + left.done.tiles);
            let mut progress = Progress::new(extent, args.job.max_damaged, left.done, 0)?;
            let slides = args.job.slides.then(|| Slides::of(catalogue, tiles));
            let is_done =
                files::run(&writing, (maker, slides.as_ref()), left.tiles, &mut progress, stop)
                    .await?;
            Ok((progress, is_done))
        }
        Input::Tars { tars, .. } => {
            let tars: Vec<Tar> = of_part(args, tars);
            if tars.is_empty() {
                tracing::info!("part {} has no tar: a tar is never divided", args.job.shard);
            }
            let all = tars.iter().map(Tar::size).sum::<Result<u64, _>>()?;
            let (left, done) = tokio::task::block_in_place(|| webdataset::left(home, tars))?;
            let of_left = left.iter().map(Tar::size).sum::<Result<u64, _>>()?;
            let mut progress =
                Progress::new(Extent::Bytes(all), args.job.max_damaged, done, all - of_left)?;
            let samples = Samples {
                home: Arc::clone(home),
                variants,
                originals: args.job.originals,
                image_field: args.job.image_field.clone(),
                names: Names::of(args),
            };
            let is_done = webdataset::run(&samples, maker, left, &mut progress, stop).await?;
            Ok((progress, is_done))
        }
    }
}

/// What only the whole of a data set has, once all of its parts are done. Of parts that end
/// together each may do it: the bytes are the same.
fn complete(args: &AugmentArgs, input: &Input, home: &Home) -> Result<(), AugmentError> {
    let Input::Tiles(Tiles { catalogue, table: Some((table, rows)), .. }) = input else {
        return Ok(());
    };
    let root = &catalogue.root.join(&table.below);
    let path = home.folder().join(METADATA);
    let file = home.scratch_file()?;
    let ending = args.format().unwrap_or(ImageFormat::Png).extension();
    let variants = args.ask.variants as usize;
    let written = Written { out: home.folder(), variants, ending, originals: args.job.originals };
    let handle = file.as_file().try_clone().map_err(unwritable(&path))?;
    let rows = wilds::carry_along(table, rows, written, handle, &path)?;
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
        slides: args.job.slides,
        image_field: args.job.image_field.clone(),
        selection: selected(args),
        bundle: model.bundle.digest.clone(),
        precision: model.precision.to_string(),
        provider: model.provider,
        references: maker.reference_keys(),
        ask: maker.ask.clone(),
    }
}

/// Which tiles are left out on request; nothing if none are.
fn selected(args: &AugmentArgs) -> Option<serde_json::Value> {
    let job = &args.job;
    (!job.selection().is_all()).then(|| {
        serde_json::json!({
            "split": job.splits,
            "tile-domains": job.tile_domains,
            "exclude-tile-domains": job.exclude_tile_domains,
            "only": job.only,
            "exclude": job.exclude,
        })
    })
}

fn describe(args: &AugmentArgs, input: &Input, samples: u64, passed_over: &PassedOver) -> String {
    let (shard, variants) = (args.job.shard, args.ask.variants);
    let said = match input {
        Input::Tiles(Tiles { tiles, .. }) => {
            let of_part = of_part::<Tile>(args, tiles).len() as u64;
            let (layout, all) = (input.name(), tiles.len());
            format!(
                "{layout}: {all} tiles; part {shard} has {of_part} of them, which become {} \
                variants",
                of_part * variants
            )
        }
        Input::Tars { tars, .. } => {
            let of_part = of_part::<Tar>(args, tars);
            let bytes: u64 = of_part.iter().filter_map(|tar| tar.size().ok()).sum();
            let (all, of_part) = (tars.len(), of_part.len());
            // Those of stores are not read before their time.
            let samples = match tars.iter().any(|tar| tar.object.is_some()) {
                true => String::new(),
                false => format!(", with {samples} samples"),
            };
            format!(
                "webdataset: {all} tars; part {shard} has {of_part} of them, {bytes} \
                bytes{samples}; each becomes {variants}"
            )
        }
    };
    if passed_over.is_empty() { said } else { format!("{said}\n{passed_over}") }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tiles, variants, before, left_out, passed_over, took, encoders_busy, stated } =
            self;
        let kinds = left_out.iter().map(|(kind, count)| format!("{count} {kind}"));
        let (bad, kinds) = (left_out.values().sum::<usize>(), kinds.collect::<Vec<_>>().join(", "));
        let kinds = if bad == 0 { kinds } else { format!(" ({kinds})") };
        let seconds = took.as_secs_f64();
        let rate = *tiles as f64 / seconds.max(f64::MIN_POSITIVE);
        write!(
            f,
            "{tiles} tiles, {variants} variants, {bad} left out{kinds}, {seconds:.1} s, {rate:.1} \
            tiles/s"
        )?;
        write!(f, ", encoder at work {:.0} % of the time", 100.0 * encoders_busy)?;
        if *before > 0 {
            write!(f, "; {before} tiles were done before")?;
        }
        if !stated.is_empty() {
            write!(f, "\nsize of a pixel as the files state it: {stated}")?;
        }
        if !passed_over.is_empty() {
            write!(f, "\n{passed_over}")?;
        }
        Ok(())
    }
}
