//! The log's lines on their way to standard error: a thread of their own writes them, so that a
//! reader who stops reading stops that thread and no request. What does not fit into its queue is
//! dropped and counted.

use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use prometheus::{IntCounter, IntGauge};
use tracing_subscriber::fmt::MakeWriter;

/// Lines that wait to be written.
const QUEUED: usize = 4096;
/// Longest line kept; what is longer is cut.
const LONGEST: usize = 16 << 10;
/// How long the end of the program waits for lines to be written.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Of the whole process.
pub static DROPPED: LazyLock<IntCounter> = LazyLock::new(|| {
    let help = "Lines of the log that were dropped because standard error was not read in time.";
    IntCounter::new("log_lines_dropped_total", help).expect("a name of letters, and a help")
});

/// Of the whole process.
pub static WAITING: LazyLock<IntGauge> = LazyLock::new(|| {
    let help = "Lines of the log that wait to be written.";
    IntGauge::new("log_lines_waiting", help).expect("a name of letters, and a help")
});

/// Where the log writes to.
#[derive(Clone)]
pub struct LogLines(Arc<Mutex<Option<SyncSender<Vec<u8>>>>>);

/// The thread that writes. Dropping it waits a moment for the last lines.
pub struct LogThread {
    lines: LogLines,
    /// Closed when the thread has written everything.
    done: Receiver<()>,
}

/// Lines for `sink`, and the thread that writes them.
pub fn start(sink: impl Write + Send + 'static) -> (LogLines, LogThread) {
    let (sender, receiver) = mpsc::sync_channel(QUEUED);
    let (working, done) = mpsc::channel::<()>();
    let lines = LogLines(Arc::new(Mutex::new(Some(sender))));
    let write = move || {
        let _working = working;
        write_all(&receiver, sink);
    };
    let started = std::thread::Builder::new().name("log".to_owned()).spawn(write);
    if let Err(error) = started {
        // Without the thread every line is dropped, and counted.
        eprintln!("the log cannot be written: {error}");
    }
    (lines.clone(), LogThread { lines, done })
}

fn write_all(lines: &Receiver<Vec<u8>>, mut sink: impl Write) {
    for line in lines {
        // Standard error was closed: lines are dropped, and the server goes on.
        let _ = sink.write_all(&line);
        WAITING.dec();
    }
    let _ = sink.flush();
}

impl LogLines {
    fn send(&self, line: Vec<u8>) {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(sender) = sender.as_ref() else { return };
        WAITING.inc();
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = sender.try_send(line) {
            WAITING.dec();
            DROPPED.inc();
        }
    }
}

impl Drop for LogThread {
    fn drop(&mut self) {
        drop(self.lines.0.lock().unwrap_or_else(PoisonError::into_inner).take());
        if self.done.recv_timeout(LAST_LINES) == Err(RecvTimeoutError::Timeout) {
            // It is stuck in a write; the end of the process ends it.
            DROPPED.inc();
        }
    }
}

impl<'a> MakeWriter<'a> for LogLines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { lines: self.clone(), bytes: Vec::new() }
    }
}

/// One line, sent when it is complete.
pub struct Line {
    lines: LogLines,
    bytes: Vec<u8>,
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = LONGEST.saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        if bytes.is_empty() {
            return;
        }
        if bytes.last() != Some(&b'\n') {
            bytes.push(b'\n');
        }
        self.lines.send(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_are_written_in_their_order_before_the_end() {
        let sink = Sink::default();
        let (lines, thread) = start(sink.clone());
        for line in ["a\n", "b\n"] {
            lines.make_writer().write_all(line.as_bytes()).unwrap();
        }
        lines.make_writer().write_all(&vec![b'c'; 2 * LONGEST]).unwrap();
        drop(thread);
        let written = sink.0.lock().unwrap();
        assert!(written.starts_with(b"a\nb\nccc") && written.ends_with(b"c\n"));
        assert_eq!(written.len(), 4 + LONGEST + 1);
    }

    #[test]
    fn who_does_not_read_loses_lines_and_holds_nobody_up() {
        let sink = Sink::default();
        let reading = sink.0.lock().unwrap();
        let (lines, _thread) = start(sink.clone());
        let before = DROPPED.get();
        for _ in 0..QUEUED + 3 {
            lines.make_writer().write_all(b"line\n").unwrap();
        }
        assert!((2..=3).contains(&(DROPPED.get() - before)), "one may be in the writer's hands");
        drop(reading);
    }
}
