//! The scalars and pictures of a run for TensorBoard: one event file in `STATE/tensorboard`.
//!
//! A record is a length, its checksum, an `Event` message, and its checksum (TensorFlow's
//! `tfrecord`, with masked CRC-32C). The crate tensorboard-rs depends on versions of `image` and
//! `protobuf` that are years old, and four messages of the format suffice.
//!
//! A resumed run truncates the file to the length that its checkpoint holds and continues it, so
//! that every step occurs once. The report reads its curves from this file.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use image::RgbImage;
use prost::Message;

/// TensorBoard looks for `tfevents` in the name. There is only one file, so that its name needs no
/// time or host.
const FOLDER_AND_FILE: &str = "tensorboard/events.out.tfevents.restain";
const FILE_VERSION: &str = "brain.Event:2";
/// Bytes before a message (length and checksum) and behind it (checksum).
const BEFORE: usize = 12;
const BEHIND: usize = 4;

/// The fields of tensorflow/core/util/event.proto that are used.
#[derive(Clone, PartialEq, Message)]
struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

/// The fields of tensorflow/core/framework/summary.proto that are used.
#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
    #[prost(message, optional, tag = "4")]
    image: Option<Image>,
}

#[derive(Clone, PartialEq, Message)]
struct Image {
    #[prost(int32, tag = "1")]
    height: i32,
    #[prost(int32, tag = "2")]
    width: i32,
    /// Channels.
    #[prost(int32, tag = "3")]
    colorspace: i32,
    /// PNG.
    #[prost(bytes = "vec", tag = "4")]
    encoded_image_string: Vec<u8>,
}

/// Curves by tag: (step, value) in the order in which they were written.
pub(crate) type Curves = BTreeMap<String, Vec<(u64, f32)>>;

/// The event file of a run, open at its end.
pub(crate) struct EventFile {
    file: File,
    path: PathBuf,
}

impl EventFile {
    /// Opens the file in folder `state` and truncates it to its first `keep` bytes, 0 for a new
    /// run.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(crate) fn open(state: &Path, keep: u64) -> Result<Self> {
        let path = state.join(FOLDER_AND_FILE);
        let open = || -> Result<File> {
            std::fs::create_dir_all(path.parent().expect("it lies in a folder"))?;
            let bytes = if path.exists() { std::fs::read(&path)? } else { Vec::new() };
            let kept = messages(&bytes)
                .map(|(end, _)| end as u64)
                .take_while(|end| *end <= keep)
                .last()
                .unwrap_or(0);
            let mut file =
                OpenOptions::new().create(true).write(true).truncate(false).open(&path)?;
            file.set_len(kept)?;
            file.seek(SeekFrom::Start(kept))?;
            Ok(file)
        };
        let file = open().with_context(|| format!("cannot write {}", path.display()))?;
        let mut events = Self { file, path };
        if events.file.stream_position()? == 0 {
            events.write(Event {
                wall_time: now(),
                file_version: Some(FILE_VERSION.to_owned()),
                ..Event::default()
            })?;
        }
        Ok(events)
    }

    pub(crate) fn scalars<'a>(
        &mut self,
        step: u64,
        values: impl IntoIterator<Item = (&'a str, f64)>,
    ) -> Result<()> {
        let value = |(tag, value): (&str, f64)| Value {
            tag: tag.to_owned(),
            simple_value: Some(value as f32),
            image: None,
        };
        self.summary(step, values.into_iter().map(value).collect())
    }

    pub(crate) fn picture(
        &mut self,
        step: u64,
        tag: &str,
        picture: &RgbImage,
        png: Vec<u8>,
    ) -> Result<()> {
        let (width, height) = (picture.width() as i32, picture.height() as i32);
        let image = Image { height, width, colorspace: 3, encoded_image_string: png };
        self.summary(
            step,
            vec![Value { tag: tag.to_owned(), simple_value: None, image: Some(image) }],
        )
    }

    /// Waits until all of it is on the disk; its length.
    pub(crate) fn sync(&mut self) -> Result<u64> {
        self.file.sync_data().with_context(|| format!("cannot write {}", self.path.display()))?;
        Ok(self.file.stream_position()?)
    }

    fn summary(&mut self, step: u64, value: Vec<Value>) -> Result<()> {
        self.write(Event {
            wall_time: now(),
            step: step as i64,
            summary: Some(Summary { value }),
            ..Event::default()
        })
    }

    fn write(&mut self, event: Event) -> Result<()> {
        let message = event.encode_to_vec();
        let length = (message.len() as u64).to_le_bytes();
        let record = [&length[..], &masked_crc(&length), &message, &masked_crc(&message)].concat();
        self.file
            .write_all(&record)
            .with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// Reads the curves in folder `state`; none if there is no file.
///
/// # Errors
/// If the file cannot be read or is damaged.
pub(crate) fn curves(state: &Path) -> Result<Curves> {
    let path = state.join(FOLDER_AND_FILE);
    let bytes = if path.exists() {
        std::fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))?
    } else {
        Vec::new()
    };
    let mut curves = Curves::new();
    for (_, message) in messages(&bytes) {
        let event =
            Event::decode(message).with_context(|| format!("{} is damaged", path.display()))?;
        for value in event.summary.into_iter().flat_map(|summary| summary.value) {
            let Some(number) = value.simple_value else { continue };
            curves.entry(value.tag).or_default().push((event.step as u64, number));
        }
    }
    Ok(curves)
}

/// Iterates over the messages of complete records, each with the offset at which its record ends.
fn messages(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let length = bytes.get(at..at + 8)?;
        let from = at + BEFORE;
        let to =
            from.checked_add(u64::from_le_bytes(length.try_into().expect("eight bytes")) as usize)?;
        let message = bytes.get(from..to)?;
        if bytes.get(at + 8..from)? != masked_crc(length)
            || bytes.get(to..to + BEHIND)? != masked_crc(message)
        {
            return None;
        }
        at = to + BEHIND;
        Some((at, message))
    })
}

/// Computes the masked CRC-32C: rotated by 15 bits, plus a constant, because checksums of data with
/// checksums are weak.
fn masked_crc(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        // RFC 3720, B.4: 32 bytes of zeros have the CRC-32C 0x8a9136aa.
        let plain =
            u32::from_le_bytes(masked_crc(&[0; 32])).wrapping_sub(0xa282_ead8).rotate_left(15);
        assert_eq!(plain, 0x8a91_36aa);
    }

    #[test]
    fn a_resumed_file_is_truncated_to_its_checkpoint() {
        let dir = tempfile::tempdir().unwrap();
        let mut events = EventFile::open(dir.path(), 0).unwrap();
        events.scalars(1, [("loss", 4.0)]).unwrap();
        let saved = events.sync().unwrap();
        events.scalars(2, [("loss", 3.0)]).unwrap();
        drop(events);
        // Steps after the checkpoint are repeated, and an incomplete record is ignored.
        let mut file =
            OpenOptions::new().append(true).open(dir.path().join(FOLDER_AND_FILE)).unwrap();
        file.write_all(&[9, 0, 0]).unwrap();
        EventFile::open(dir.path(), saved).unwrap().scalars(2, [("loss", 2.0)]).unwrap();
        assert_eq!(curves(dir.path()).unwrap()["loss"], [(1, 4.0), (2, 2.0)]);
    }

    #[test]
    fn a_lost_file_begins_again() {
        let dir = tempfile::tempdir().unwrap();
        EventFile::open(dir.path(), 5000).unwrap().scalars(7, [("loss", 1.0)]).unwrap();
        assert_eq!(curves(dir.path()).unwrap()["loss"], [(7, 1.0)]);
    }
}
