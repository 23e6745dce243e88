//! Memory for the pixels of answers, used again and again. Fresh memory of that size is mapped,
//! zeroed and faulted in page by page, which costs about as much as filling it with variants does.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex};

/// Below this the allocator keeps memory at hand by itself.
const LEAST_BYTES: usize = 128 << 10;

/// Unused buffers, up to a number of bytes.
pub struct Buffers {
    most_bytes: usize,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

/// Uninitialised bytes: the caller overwrites all of them. Returned to the pool when dropped.
pub struct Buffer {
    memory: Vec<u8>,
    len: usize,
    home: Arc<Buffers>,
}

impl Buffers {
    /// Keeps at most `most_bytes` at hand.
    pub fn new(most_bytes: usize) -> Arc<Self> {
        Arc::new(Self { most_bytes, idle: Mutex::default() })
    }

    /// `len` bytes of any content.
    pub fn take(self: &Arc<Self>, len: usize) -> Buffer {
        let memory = self.find(len).unwrap_or_else(|| vec![0; len]);
        Buffer { memory, len, home: Arc::clone(self) }
    }

    /// The smallest that is large enough, and not so large that most of it would be wasted.
    fn find(&self, len: usize) -> Option<Vec<u8>> {
        if len < LEAST_BYTES {
            return None;
        }
        let mut idle = self.idle.lock().expect("no code panics while it holds this lock");
        let fits = |buffer: &Vec<u8>| (len..=2 * len).contains(&buffer.len());
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

    fn give_back(&self, memory: Vec<u8>) {
        let mut idle = self.idle.lock().expect("no code panics while it holds this lock");
        if memory.len() >= LEAST_BYTES && idle.bytes + memory.len() <= self.most_bytes {
            idle.bytes += memory.len();
            idle.buffers.push(memory);
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.home.give_back(std::mem::take(&mut self.memory));
    }
}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.memory[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[..self.len]
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_where_it_fits() {
        let buffers = Buffers::new(10 * LEAST_BYTES);
        let mut first = buffers.take(2 * LEAST_BYTES);
        first.fill(7);
        drop(first);
        let again = buffers.take(2 * LEAST_BYTES - 1);
        assert!(
            again.len() == 2 * LEAST_BYTES - 1 && again.iter().all(|byte| *byte == 7),
            "the same memory"
        );
        assert!(
            buffers.take(2 * LEAST_BYTES).iter().all(|byte| *byte == 0),
            "which only one has at a time"
        );
        drop(again);
        assert!(
            buffers.take(LEAST_BYTES - 1).iter().all(|byte| *byte == 0),
            "and not for something much smaller"
        );
    }

    #[test]
    fn no_more_is_kept_than_was_said() {
        let buffers = Buffers::new(3 * LEAST_BYTES);
        drop([1, 1, 1, 1, 1].map(|times| buffers.take(times * LEAST_BYTES)));
        assert_eq!(buffers.idle.lock().unwrap().buffers.len(), 3);
    }
}
