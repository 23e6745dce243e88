//! WebDataset tars in and out. A sample is the files that stand beside each other in a tar under
//! one name, up to its first dot; one of its fields is the tile. For each variant the sample is
//! written again: KEY_v00 with the variant in the tile's place, the other fields as they were, and
//! the provenance as the field `restain.json`.
//!
//! One thread reads ahead, through all tars of the part; samples are made side by side and written
//! in their order. A tar grows in the folder of the job's state, with a line in its journal for
//! each sample, and is moved to its place when it is whole: a job that was stopped goes on after
//! the last line.
//!
//! Not here: compressed tars, which cannot be gone on with in the middle.

mod names;
mod sample;
mod unfinished;

use std::io::BufReader;
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;

use futures_util::stream::{Stream, StreamExt};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::{Sender, channel};
use tokio_stream::wrappers::ReceiverStream;

use super::Stop;
use super::error::{AugmentError, Bad, BadKind};
use super::home::{Done, Home};
use super::layout::Tar;
use super::maker::{Maker, Unmade};
use super::options::AugmentArgs;
use super::progress::Progress;
use super::shelf::note_of_tar;
pub(super) use names::Names;
use names::asked;
use rayon::prelude::*;
use restain_data::{Content, NoTile, PassedOver, Sample, TarItem, read_samples, read_samples_from};
use sample::has_name_of;
use unfinished::{Line, Unfinished};

/// Samples that are read ahead.
const READ_AHEAD: usize = 32;
/// Bytes that are taken from a store's answer at once.
const READER_BYTES: usize = 1 << 20;

/// How samples are written.
#[derive(Clone)]
pub(super) struct Samples {
    pub home: Arc<Home>,
    pub variants: usize,
    pub originals: bool,
    pub image_field: Option<String>,
    pub names: Names,
}

/// What the reader comes across, tar by tar.
enum Event {
    Begin(Box<Unfinished>),
    Item {
        tar: Arc<Tar>,
        item: TarItem,
        /// Bytes of the tar since the last one.
        bytes: u64,
    },
    End,
    Failed(AugmentError),
}

/// What becomes of it.
enum Step {
    Begin(Box<Unfinished>),
    /// Entries to append, and how many variants they are.
    Append {
        entries: Vec<u8>,
        variants: u64,
        tiles: u64,
        bytes: u64,
        room: OwnedSemaphorePermit,
    },
    LeaveOut {
        bad: Bad,
        bytes: u64,
    },
    End,
}

/// Tars of a part that are not done, and what the others hold.
pub(super) fn left(home: &Home, tars: Vec<Tar>) -> Result<(Vec<Tar>, Done), AugmentError> {
    let (mut left, mut sum) = (Vec::new(), Done::default());
    let present = home.shelf.present()?;
    for tar in tars {
        let whole = present.has(&tar.target);
        let journal = if whole {
            home.shelf.note(&note_of_tar(&tar.target))?.unwrap_or_default()
        } else {
            unfinished::read_journal(home, &tar.target)?
        };
        let of_tar = unfinished::done(&journal);
        sum.tiles += of_tar.tiles;
        sum.variants += of_tar.variants;
        sum.bad.extend(of_tar.bad);
        if !whole {
            left.push(tar);
        }
    }
    Ok((left, sum))
}

/// Makes the tars that are left, until they are done or `stop` says so. Says whether they are.
///
/// # Errors
/// The first thing that ends the job.
pub(super) async fn run(
    samples: &Samples,
    maker: &Arc<Maker>,
    tars: Vec<Tar>,
    progress: &mut Progress,
    stop: Stop,
) -> Result<bool, AugmentError> {
    let all = tars.len();
    let (send, events) = channel(READ_AHEAD);
    let reading = samples.clone();
    let reader = tokio::task::spawn_blocking(move || reading.read_all(tars, &send));
    let done =
        write_all(samples, maker, ReceiverStream::new(events).take_until(stop), progress).await?;
    // It has ended by now: nothing listens to it any more.
    reader.await?;
    Ok(done == all)
}

/// Makes and writes what the reader reads, and says how many tars are done.
async fn write_all(
    samples: &Samples,
    maker: &Arc<Maker>,
    events: impl Stream<Item = Event>,
    progress: &mut Progress,
) -> Result<usize, AugmentError> {
    let mut done = 0;
    let lend = |event: Event| async {
        let room = match &event {
            Event::Item { item: TarItem::Sample(sample), .. } => {
                let (tile, others) = samples.weigh(sample);
                maker.room(tile, others).await
            }
            _ => maker.room(&[], 0).await,
        };
        (event, room)
    };
    let mut steps = pin!(
        events
            .then(lend)
            .map(|(event, room)| samples.step(maker, event, room))
            .buffered(maker.in_flight)
    );
    let mut growing: Option<Box<Unfinished>> = None;
    while let Some(step) = steps.next().await {
        let tar = growing.as_mut();
        match step? {
            Step::Begin(tar) => growing = Some(tar),
            Step::Append { entries, variants, tiles, bytes, room } => {
                let tar = tar.expect("a sample comes after the beginning of its tar");
                tokio::task::block_in_place(|| {
                    tar.append(&entries, Line { end: 0, tiles, variants, bad: None })
                })?;
                drop(room);
                progress.read(bytes);
                if tiles > 0 {
                    progress.tile(variants);
                }
            }
            Step::LeaveOut { bad, bytes } => {
                let tar = tar.expect("a sample comes after the beginning of its tar");
                progress.read(bytes);
                progress.bad(bad.clone())?;
                tar.append(&[], Line::bad(&bad))?;
            }
            Step::End => {
                let tar = growing.take().expect("a tar ends after its beginning");
                tokio::task::block_in_place(|| tar.finish(&samples.home))?;
                done += 1;
            }
        }
    }
    Ok(done)
}

/// Reads the names in tars of this machine, and none of their pictures: all that can be wrong with
/// their names is found before anything is written. Of a tar in a store it is found while it is
/// read, before its variants take their place. Returns what belongs to no sample, and the number of
/// samples.
///
/// # Errors
/// When a tar is damaged, it must be said which field is the tile, or two samples or fields would
/// have one name.
pub(super) fn check(tars: &[Tar], args: &AugmentArgs) -> Result<(PassedOver, u64), AugmentError> {
    let names = Names::of(args);
    let check = |tar: &Tar| {
        let (mut passed_over, mut checked) = (PassedOver::default(), names.begin(tar));
        let fields = Content::Fields(&[]);
        let ended = read_samples(&tar.path, fields, &mut passed_over, &mut |item, _| {
            checked.see(&item).map_or_else(ControlFlow::Break, ControlFlow::Continue)
        });
        let wrong = |said| AugmentError::Tar { path: tar.path.clone(), said };
        if let ControlFlow::Break(error) = ended.map_err(wrong)? {
            return Err(error);
        }
        Ok((passed_over, checked.end()?))
    };
    let here = tars.par_iter().filter(|tar| tar.object.is_none());
    let (mut all, mut samples) = (PassedOver::default(), 0);
    for (passed_over, of_tar) in here.map(check).collect::<Result<Vec<_>, _>>()? {
        all.merge(passed_over);
        samples += of_tar;
    }
    Ok((all, samples))
}

impl Samples {
    /// The reader's thread; it ends when no one receives from it.
    fn read_all(&self, tars: Vec<Tar>, send: &Sender<Event>) {
        for tar in tars {
            let ending = self.read(&Arc::new(tar), send);
            if let ControlFlow::Break(failed) = ending {
                if let Some(error) = failed {
                    _ = send.blocking_send(Event::Failed(error));
                }
                return;
            }
        }
    }

    fn read(&self, tar: &Arc<Tar>, send: &Sender<Event>) -> ControlFlow<Option<AugmentError>> {
        let tell = |event| {
            send.blocking_send(event)
                .map_or(ControlFlow::Break(None), |()| ControlFlow::Continue(()))
        };
        let failed = |error: AugmentError| ControlFlow::Break(Some(error));
        let unfinished = match Unfinished::open(&self.home, &tar.target) {
            Ok(unfinished) => Box::new(unfinished),
            Err(error) => return failed(error),
        };
        let mut skip = unfinished.items;
        tell(Event::Begin(unfinished))?;
        let mut read = 0;
        let mut checked = self.names.begin(tar);
        let mut take = |item: TarItem, at: u64| {
            if tar.object.is_some()
                && let Err(error) = checked.see(&item)
            {
                return failed(error);
            }
            if let TarItem::Sample(sample) = &item
                && tar.unselected.contains(&sample.key)
            {
                return ControlFlow::Continue(());
            }
            if skip > 0 {
                skip -= 1;
                return ControlFlow::Continue(());
            }
            let bytes = at - std::mem::replace(&mut read, at);
            tell(Event::Item { tar: Arc::clone(tar), item, bytes })
        };
        let mut passed_over = PassedOver::default();
        let ended = match &tar.object {
            Some((remote, object)) => {
                let reader = BufReader::with_capacity(READER_BYTES, remote.read(object));
                read_samples_from(reader, object.size, &mut passed_over, &mut take)
            }
            // What it passes over was counted when it was checked.
            None => read_samples(&tar.path, Content::All, &mut passed_over, &mut take),
        };
        match ended {
            Ok(ControlFlow::Continue(())) if tar.object.is_some() => {
                if !passed_over.is_empty() {
                    tracing::info!(tar = %tar.path.display(), "{passed_over}");
                }
                match checked.end() {
                    Ok(_) => tell(Event::End),
                    Err(error) => failed(error),
                }
            }
            Ok(ControlFlow::Continue(())) => tell(Event::End),
            Ok(stopped) => stopped,
            Err(said) => failed(AugmentError::Tar { path: tar.path.clone(), said }),
        }
    }

    /// The tile of a sample, and how many bytes its other fields will take.
    fn weigh<'a>(&self, sample: &'a Sample) -> (&'a [u8], usize) {
        let tile = sample
            .tile(self.image_field.as_deref())
            .map_or(&[][..], |field| &sample.fields[field].bytes[..]);
        let all: usize = sample.fields.iter().map(|field| field.bytes.len()).sum();
        (tile, (all - tile.len()) * (1 + self.variants))
    }

    async fn step(
        &self,
        maker: &Maker,
        event: Event,
        room: OwnedSemaphorePermit,
    ) -> Result<Step, AugmentError> {
        let (tar, item, bytes) = match event {
            Event::Begin(unfinished) => return Ok(Step::Begin(unfinished)),
            Event::End => return Ok(Step::End),
            Event::Failed(error) => return Err(error),
            Event::Item { tar, item, bytes } => (tar, item, bytes),
        };
        let mut entries = sample::Entries::default();
        let untold = |error: std::io::Error| AugmentError::Tar {
            path: tar.path.clone(),
            said: error.to_string(),
        };
        let sample = match item {
            TarItem::Sample(sample) => Some(sample),
            TarItem::Loose { path, bytes } => {
                entries.append(&path, &bytes).map_err(untold)?;
                None
            }
        };
        let Some(sample) = sample else {
            return Ok(Step::Append {
                entries: entries.into_bytes(),
                variants: 0,
                tiles: 0,
                bytes,
                room,
            });
        };
        let within = format!("{}/{}", tar.target.display(), sample.key);
        let field = match sample.tile(self.image_field.as_deref()) {
            Ok(field) => field,
            Err(NoTile::None(reason)) => {
                let bad = Bad { kind: BadKind::NoPicture, name: within, reason };
                return Ok(Step::LeaveOut { bad, bytes });
            }
            Err(several) => return Err(asked(&tar, &sample, &several)),
        };
        let tile = &sample.fields[field];
        let (format, name) = (self.names.format(&tile.name), format!("{within}.{}", tile.name));
        let made = match maker.make(&name, tile.bytes.clone(), None, format).await {
            Ok(made) => made,
            Err(Unmade::Bad(bad)) => return Ok(Step::LeaveOut { bad, bytes }),
            Err(Unmade::Failed(error)) => return Err(*error),
        };
        if let Some(first) = made.variants.first().filter(|_| self.originals) {
            let picture = match has_name_of(&tile.name, format) {
                true => None,
                false => {
                    Some((field, format, maker.rewrite(&name, tile.bytes.clone(), format).await?))
                }
            };
            entries.append_original(&sample, picture, first).map_err(untold)?;
        }
        for (number, variant) in made.variants.iter().enumerate() {
            entries.append_variant(&sample, number, field, format, variant).map_err(untold)?;
        }
        Ok(Step::Append {
            entries: entries.into_bytes(),
            variants: made.variants.len() as u64,
            tiles: 1,
            bytes,
            room,
        })
    }
}
