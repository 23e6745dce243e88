//! Decompresses a body or message while it comes, within bounds.
//!
//! A few bytes of gzip unpack to a thousand times as many. So memory is accounted for before it is
//! taken, step by step, as for a body that comes as it is, and what exceeds the limit of a body
//! ends the request there. Nothing is known here of where the bytes come from.

use std::io::{self, Write};

use bytes::{BufMut, BytesMut};
use flate2::write::MultiGzDecoder;
use flate2::{Decompress, FlushDecompress, Status};

use crate::serve::error::{Error, ErrorKind};

/// How the bytes are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Identity,
    Gzip,
    /// zlib's format, as HTTP and gRPC define `deflate`.
    Deflate,
}

impl Encoding {
    /// What is read beside bytes as they are.
    pub(crate) const READ: &str = "gzip, deflate";

    /// Reads the values of a header, `name`, each a list.
    ///
    /// # Errors
    /// `unsupported_encoding`, for one that is not read and for more than one.
    pub(crate) fn of<'a>(
        name: &str,
        values: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Self, Error> {
        let given = values.map(String::from_utf8_lossy).collect::<Vec<_>>().join(", ");
        let mut found = Self::Identity;
        for coding in given.split(',').map(|coding| coding.trim().to_ascii_lowercase()) {
            found = match (coding.as_str(), found) {
                ("" | "identity", found) => found,
                ("gzip" | "x-gzip", Self::Identity) => Self::Gzip,
                ("deflate", Self::Identity) => Self::Deflate,
                _ => {
                    let read = Self::READ.replace(", ", " or ");
                    return Err(Error::new(
                        ErrorKind::UnsupportedEncoding,
                        format!("{name} is `{given}`, and must be {read}, or be left out"),
                    ));
                }
            };
        }
        Ok(found)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }
}

/// Grants memory for as many bytes in all, before they are taken.
pub(crate) type Account = Box<dyn FnMut(usize) -> Result<(), Error> + Send>;

/// Bytes that are decompressed, as far as they have come.
pub(crate) struct Inflater {
    encoding: Encoding,
    format: Format,
}

enum Format {
    Gzip(Box<MultiGzDecoder<Sink>>),
    Zlib { inflate: Box<Decompress>, sink: Sink, ended: bool },
}

impl Inflater {
    /// Decompresses at most `limit` bytes to behind a `head`.
    pub(crate) fn new(encoding: Encoding, head: &[u8], limit: usize, account: Account) -> Self {
        let bytes = BytesMut::from(head);
        let sink = Sink { bytes, head: head.len(), limit, account };
        let format = match encoding {
            Encoding::Deflate => {
                Format::Zlib { inflate: Box::new(Decompress::new(true)), sink, ended: false }
            }
            Encoding::Gzip | Encoding::Identity => {
                Format::Gzip(Box::new(MultiGzDecoder::new(sink)))
            }
        };
        Self { encoding, format }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// `body_too_large`, those of the account, and `malformed_request` where the bytes are damaged.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let fed = match &mut self.format {
            Format::Gzip(decoder) => decoder.write_all(bytes),
            Format::Zlib { inflate, sink, ended } => feed_zlib(inflate, sink, ended, bytes),
        };
        fed.map_err(|error| self.error(error))
    }

    /// Returns the head and all that was decompressed.
    ///
    /// # Errors
    /// `malformed_request` where the bytes ended early, or their checksum is another.
    pub(crate) fn finish(mut self) -> Result<BytesMut, Error> {
        let finished = match &mut self.format {
            Format::Gzip(decoder) => decoder.try_finish(),
            Format::Zlib { ended: true, .. } => Ok(()),
            Format::Zlib { .. } => Err(io::ErrorKind::UnexpectedEof.into()),
        };
        finished.map_err(|error| self.error(error))?;
        Ok(match &mut self.format {
            Format::Gzip(decoder) => std::mem::take(&mut decoder.get_mut().bytes),
            Format::Zlib { sink, .. } => std::mem::take(&mut sink.bytes),
        })
    }

    fn error(&self, error: io::Error) -> Error {
        let own = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        own.cloned().unwrap_or_else(|| {
            let name = self.encoding.name();
            let detail = match error.kind() {
                io::ErrorKind::UnexpectedEof => format!("the {name} of the body ends early"),
                _ => format!("the {name} of the body is damaged: {error}"),
            };
            Error::new(ErrorKind::MalformedRequest, detail)
        })
    }
}

/// The library's own writer takes a stream that ends early for a whole one.
fn feed_zlib(
    inflate: &mut Decompress,
    sink: &mut Sink,
    ended: &mut bool,
    mut bytes: &[u8],
) -> io::Result<()> {
    let mut piece = [0; 16 << 10];
    loop {
        if *ended {
            return match bytes {
                [] => Ok(()),
                _ => Err(io::Error::other("there are bytes behind its end")),
            };
        }
        let (taken, given) = (inflate.total_in(), inflate.total_out());
        let status = inflate.decompress(bytes, &mut piece, FlushDecompress::None)?;
        let taken = (inflate.total_in() - taken) as usize;
        let given = (inflate.total_out() - given) as usize;
        sink.write_all(&piece[..given])?;
        bytes = &bytes[taken..];
        *ended = status == Status::StreamEnd;
        if !*ended && taken == 0 && given == 0 {
            return Ok(());
        }
    }
}

/// Where decompressed bytes are gathered.
struct Sink {
    bytes: BytesMut,
    /// Bytes that stood there before.
    head: usize,
    limit: usize,
    account: Account,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let whole = self.bytes.len() - self.head + bytes.len();
        if whole > self.limit {
            return Err(io::Error::other(too_large(self.limit)));
        }
        (self.account)(whole).map_err(io::Error::other)?;
        self.bytes.put_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn too_large(limit: usize) -> Error {
    Error::new(
        ErrorKind::BodyTooLarge,
        format!(
            "the body is larger than the limit of {limit} bytes once it is decompressed: send \
            fewer tiles at once"
        ),
    )
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};

    use super::*;

    fn compressed(encoding: Encoding, bytes: &[u8]) -> Vec<u8> {
        if encoding == Encoding::Deflate {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(bytes).unwrap();
            return encoder.finish().unwrap();
        }
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn inflate(encoding: Encoding, bytes: &[u8], limit: usize) -> Result<Bytes, Error> {
        let mut inflater = Inflater::new(encoding, b"", limit, Box::new(|_| Ok(())));
        bytes.chunks(7).try_for_each(|piece| inflater.feed(piece))?;
        inflater.finish().map(BytesMut::freeze)
    }

    const BOTH: [Encoding; 2] = [Encoding::Gzip, Encoding::Deflate];

    #[test]
    fn what_was_compressed_comes_back_behind_its_head() {
        let bytes: Vec<u8> =
            (0..100_000_u32).flat_map(|i| i.wrapping_mul(i).to_le_bytes()).collect();
        for encoding in BOTH {
            let small = compressed(encoding, &bytes);
            assert_eq!(inflate(encoding, &small, bytes.len()).unwrap(), bytes);
            let mut inflater = Inflater::new(encoding, b"head", bytes.len(), Box::new(|_| Ok(())));
            inflater.feed(&small).unwrap();
            assert_eq!(inflater.finish().unwrap(), [b"head", &bytes[..]].concat());
            assert!(inflate(encoding, &compressed(encoding, b""), 0).unwrap().is_empty());
        }
        let two = [compressed(Encoding::Gzip, b"one,"), compressed(Encoding::Gzip, b"two")];
        assert_eq!(inflate(Encoding::Gzip, &two.concat(), 7).unwrap(), "one,two");
    }

    #[test]
    fn every_cut_and_every_damage_is_refused() {
        for encoding in BOTH {
            let whole = compressed(encoding, b"a body of a few words and a few words more");
            for cut in 0..whole.len() {
                let error = inflate(encoding, &whole[..cut], 1000).unwrap_err();
                assert_eq!(error.kind, ErrorKind::MalformedRequest, "{encoding:?} {cut}: {error}");
            }
            let mut damaged = whole.clone();
            *damaged.last_mut().unwrap() ^= 1;
            assert!(inflate(encoding, &damaged, 1000).is_err());
            assert!(inflate(encoding, &[&whole[..], b"more"].concat(), 1000).is_err());
            assert!(inflate(encoding, b"nothing of the kind", 1000).is_err());
        }
    }

    #[test]
    fn a_bomb_ends_at_the_limit_and_takes_no_more_than_was_accounted() {
        for encoding in BOTH {
            let bomb = compressed(encoding, &vec![0; 10 << 20]);
            let (limit, most) = (1 << 20, std::sync::Arc::new(std::sync::Mutex::new(0)));
            let seen = std::sync::Arc::clone(&most);
            let account = Box::new(move |whole: usize| {
                *seen.lock().unwrap() = whole;
                Ok(())
            });
            let mut inflater = Inflater::new(encoding, b"", limit, account);
            assert_eq!(inflater.feed(&bomb).unwrap_err().kind, ErrorKind::BodyTooLarge);
            assert!(*most.lock().unwrap() <= limit);
        }
    }

    #[test]
    fn memory_that_is_not_granted_ends_it_with_the_accounts_error() {
        for encoding in BOTH {
            let full = || Error::new(ErrorKind::Overloaded, "full");
            let account = Box::new(move |whole| if whole > 1000 { Err(full()) } else { Ok(()) });
            let mut inflater = Inflater::new(encoding, b"", 1 << 20, account);
            let error = inflater.feed(&compressed(encoding, &vec![0; 100_000])).unwrap_err();
            assert_eq!((error.kind, error.detail.as_str()), (ErrorKind::Overloaded, "full"));
        }
    }

    #[test]
    fn encodings_are_those_of_http_and_others_are_named() {
        let of =
            |values: &[&str]| Encoding::of("Content-Encoding", values.iter().map(|v| v.as_bytes()));
        assert_eq!(of(&[]).unwrap(), Encoding::Identity);
        assert_eq!(of(&["", "identity"]).unwrap(), Encoding::Identity);
        assert_eq!(of(&["GZIP"]).unwrap(), Encoding::Gzip);
        assert_eq!(of(&["identity, x-gzip"]).unwrap(), Encoding::Gzip);
        assert_eq!(of(&["deflate"]).unwrap(), Encoding::Deflate);
        for given in [&["br"][..], &["gzip, gzip"], &["gzip", "deflate"], &["zstd"]] {
            let error = of(given).unwrap_err();
            assert_eq!(error.kind, ErrorKind::UnsupportedEncoding);
            assert!(error.detail.contains(&given.join(", ")), "{error}");
        }
    }
}
