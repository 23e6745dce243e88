//! Memory for the pixels of answers, used again and again. Fresh memory of that size is mapped,
//! zeroed and faulted in page by page, which costs about as much as filling it with variants does.
//!
//! Its size is a caller's choice, so that it cannot be had is an error and not the end of the
//! process.

use std::collections::TryReserveError;
use std::hint::black_box;
use std::sync::{Arc, Mutex};

use bytes::BytesMut;

/// Below this the allocator keeps memory at hand by itself.
const LEAST_BYTES: usize = 128 << 10;

/// Unused buffers, up to a number of bytes.
pub struct Buffers {
    most_bytes: usize,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    buffers: Vec<BytesMut>,
    bytes: usize,
}

/// Uninitialised bytes: the caller overwrites all of them. Returned to the pool when dropped.
pub struct Buffer {
    memory: BytesMut,
    len: usize,
    home: Arc<Buffers>,
}

/// What is left of a [`Buffer`] that was cut into pieces, to put it together again.
pub struct Cut {
    rest: BytesMut,
    len: usize,
    home: Arc<Buffers>,
}

/// Asks the operating system for so much memory, and gives it back: most allocations, of zeroed
/// memory among them, end the process where they fail.
///
/// # Errors
/// When there is no such memory.
pub fn ask_for(len: usize) -> Result<(), TryReserveError> {
    let mut asked = Vec::<u8>::new();
    asked.try_reserve_exact(len)?;
    // Memory that is never looked at the compiler may leave out, and call it there.
    drop(black_box(asked));
    Ok(())
}

impl Buffers {
    /// Keeps at most `most_bytes` at hand.
    pub fn new(most_bytes: usize) -> Arc<Self> {
        Arc::new(Self { most_bytes, idle: Mutex::default() })
    }

    /// `len` bytes of any content.
    ///
    /// # Errors
    /// When there is no such memory.
    pub fn take(self: &Arc<Self>, len: usize) -> Result<Buffer, TryReserveError> {
        let memory = match self.find(len) {
            Some(memory) => memory,
            None => {
                ask_for(len)?;
                BytesMut::zeroed(len)
            }
        };
        Ok(Buffer { memory, len, home: Arc::clone(self) })
    }

    /// The smallest that is large enough, and not so large that most of it would be wasted.
    fn find(&self, len: usize) -> Option<BytesMut> {
        if len < LEAST_BYTES {
            return None;
        }
        let mut idle = self.idle.lock().expect("no code panics while it holds this lock");
        let fits = |buffer: &BytesMut| (len..=2 * len).contains(&buffer.len());
        let (place, _) = idle
            .buffers
            .iter()
            .enumerate()
            .filter(|(_, buffer)| fits(buffer))
            .min_by_key(|(_, buffer)| buffer.len())?;
        let found = idle.buffers.swap_remove(place);
        idle.bytes -= found.len();
        Some(found)
    }

    fn give_back(&self, memory: BytesMut) {
        let mut idle = self.idle.lock().expect("no code panics while it holds this lock");
        if memory.len() >= LEAST_BYTES && idle.bytes + memory.len() <= self.most_bytes {
            idle.bytes += memory.len();
            idle.buffers.push(memory);
        }
    }
}

impl Buffer {
    /// Cuts the buffer into pieces of these sizes, one after the other, for several threads to
    /// fill.
    ///
    /// # Panics
    /// When they are more than the buffer is.
    pub fn cut(mut self, sizes: impl IntoIterator<Item = usize>) -> (Vec<BytesMut>, Cut) {
        let mut rest = std::mem::take(&mut self.memory);
        let pieces = sizes.into_iter().map(|size| rest.split_to(size)).collect();
        (pieces, Cut { rest, len: self.len, home: Arc::clone(&self.home) })
    }
}

impl Cut {
    /// The buffer, of all its pieces in their order.
    pub fn join(self, pieces: impl IntoIterator<Item = BytesMut>) -> Buffer {
        let Self { rest, len, home } = self;
        let mut memory = BytesMut::new();
        for piece in pieces.into_iter().chain([rest]) {
            // Pieces of one memory that lie side by side are joined without a copy.
            memory.unsplit(piece);
        }
        Buffer { memory, len, home }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.home.give_back(std::mem::take(&mut self.memory));
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.memory[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A buffer, all of it `value`, filled in `pieces`.
    fn filled(buffer: Buffer, pieces: usize, value: u8) -> Buffer {
        let size = buffer.len / pieces;
        let (mut pieces, cut) = buffer.cut(vec![size; pieces]);
        for piece in &mut pieces {
            piece.fill(value);
        }
        cut.join(pieces)
    }

    #[test]
    fn memory_is_used_again_where_it_fits() {
        let buffers = Buffers::new(10 * LEAST_BYTES);
        let first = filled(buffers.take(2 * LEAST_BYTES).unwrap(), 4, 7);
        let place = first.as_ref().as_ptr();
        drop(first);
        let again = buffers.take(2 * LEAST_BYTES - 1).unwrap();
        assert_eq!(
            (again.as_ref().len(), again.as_ref().as_ptr()),
            (2 * LEAST_BYTES - 1, place),
            "the same memory"
        );
        assert!(again.as_ref().iter().all(|byte| *byte == 7));
        let zeroed = |len| buffers.take(len).unwrap().as_ref().iter().all(|byte| *byte == 0);
        assert!(zeroed(2 * LEAST_BYTES), "which only one has at a time");
        drop(again);
        assert!(zeroed(LEAST_BYTES - 1), "and not for something much smaller");
    }

    #[test]
    fn no_more_is_kept_than_was_said() {
        let buffers = Buffers::new(3 * LEAST_BYTES);
        drop([1, 1, 1, 1, 1].map(|times| buffers.take(times * LEAST_BYTES)));
        assert_eq!(buffers.idle.lock().unwrap().buffers.len(), 3);
    }

    #[test]
    fn memory_that_cannot_be_had_is_an_error() {
        assert!(Buffers::new(0).take(1 << 60).is_err());
    }
}
