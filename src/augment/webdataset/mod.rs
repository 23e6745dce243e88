//! WebDataset tars in and out. A sample is the files that stand beside each other in a tar under
//! one name, up to its first dot; one of its fields is the tile. For each variant the sample is
//! written again: KEY_v00 with the variant in the tile's place, the other fields as they were, and
//! the provenance as the field `restain.json`.
//!
//! One thread reads ahead, through all tars of the part; samples are made side by side and written
//! in their order. A tar grows in `.restain`, with a line in its journal for each sample, and is
//! moved to its place when it is whole: a job that was stopped goes on after the last line.
//!
//! Not here: compressed tars, which cannot be gone on with in the middle.

mod sample;
mod unfinished;

use std::collections::HashSet;
use std::fs::File;
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;

use futures_util::stream::{Stream, StreamExt};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::{Sender, channel};
use tokio_stream::wrappers::ReceiverStream;

use super::Stop;
use super::error::{AugmentError, Bad, unreadable};
use super::home::{Done, Home};
use super::layout::Tar;
use super::maker::{Maker, Unmade};
use super::progress::Progress;
use restain_bundle::codec::ImageFormat;
use sample::{Item, Sample};
pub(super) use unfinished::done;
use unfinished::{Line, Unfinished};

/// Samples that are read ahead.
const READ_AHEAD: usize = 32;

/// How samples are written.
#[derive(Clone)]
pub(super) struct Samples {
    pub home: Arc<Home>,
    pub format: ImageFormat,
    pub variants: usize,
    pub originals: bool,
    pub image_field: Option<String>,
}

/// What the reader comes across, tar by tar.
enum Event {
    Begin(Box<Unfinished>),
    Item {
        tar: Arc<Tar>,
        item: Item,
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
    for tar in tars {
        let whole = home.out.join(&tar.target).metadata().is_ok_and(|file| file.len() > 0);
        let path =
            if whole { home.kept(&tar.target) } else { unfinished::journal(home, &tar.target) };
        let of_tar = done(&path)?;
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
            Event::Item { item: Item::Sample(sample), .. } => {
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
        let file = match File::open(&tar.path).map_err(unreadable(&tar.path)) {
            Ok(file) => file,
            Err(error) => return failed(error),
        };
        let (mut keys, mut read) = (HashSet::new(), 0);
        let ended = sample::read(file, &mut |item, at| {
            if let Err(said) = self.check_key(&item, &mut keys) {
                return ControlFlow::Break(Some(AugmentError::Tar {
                    path: tar.path.clone(),
                    said,
                }));
            }
            if skip > 0 {
                skip -= 1;
                return ControlFlow::Continue(());
            }
            let bytes = at - std::mem::replace(&mut read, at);
            tell(Event::Item { tar: Arc::clone(tar), item, bytes })
        });
        match ended {
            Ok(ControlFlow::Continue(())) => tell(Event::End),
            Ok(stopped) => stopped,
            Err(said) => failed(AugmentError::Tar { path: tar.path.clone(), said }),
        }
    }

    /// Beside originals, none may have the name of another's variant.
    fn check_key(&self, item: &Item, keys: &mut HashSet<String>) -> Result<(), String> {
        let Item::Sample(Sample { key, .. }) = item else { return Ok(()) };
        if !self.originals {
            return Ok(());
        }
        let of_its_own = (0..self.variants)
            .map(|variant| sample::variant_key(key, variant))
            .find(|variant| keys.contains(variant));
        let of_another = (0..self.variants)
            .find_map(|variant| key.strip_suffix(&sample::variant_key("", variant)));
        if of_its_own.is_some() || of_another.is_some_and(|other| keys.contains(other)) {
            return Err(format!(
                "sample {key} and a variant of another would have one key: leave out --originals"
            ));
        }
        keys.insert(key.clone());
        Ok(())
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
        let Item::Sample(sample) = item else {
            item.append_to(&mut entries).map_err(untold)?;
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
            Err(sample::NoTile::None(reason)) => {
                return Ok(Step::LeaveOut { bad: Bad { name: within, reason }, bytes });
            }
            Err(sample::NoTile::Several(names)) => {
                let said = format!(
                    "sample {} has several pictures, {names}: say which is the tile with --image-field",
                    sample.key
                );
                return Err(AugmentError::Tar { path: tar.path.clone(), said });
            }
        };
        let tile = &sample.fields[field];
        let made = match maker.make(&format!("{within}.{}", tile.name), tile.bytes.clone()).await {
            Ok(made) => made,
            Err(Unmade::Bad(bad)) => return Ok(Step::LeaveOut { bad, bytes }),
            Err(Unmade::Failed(error)) => return Err(*error),
        };
        if self.originals {
            sample.append_to(&mut entries).map_err(untold)?;
        }
        for (number, variant) in made.variants.iter().enumerate() {
            sample
                .append_variant(&mut entries, number, field, self.format, variant)
                .map_err(untold)?;
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
