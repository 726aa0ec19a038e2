//! Standard error, with the lines of the access log gathered.
//!
//! A write for each line would cost a small stream as much as sending it. So these lines gather in memory, and a thread writes all of
//! them at once, [`PAUSE`] after the first. Any other line is written at once, after those gathered before it: lines stay in order.
//!
//! **Bound.** [`MOST`] bytes. While standard error takes nothing, further lines of the access log are dropped, and counted.
//!
//! **A kill loses** the lines of the last [`PAUSE`]. The end of a command does not ([`flush`]).

use std::{
    io::{self, Write},
    mem,
    sync::{
        Condvar, LazyLock, Mutex, MutexGuard, Once, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use prometheus::IntCounter;
use tracing_subscriber::fmt::MakeWriter;

/// Long enough that a busy node writes some hundred lines at once, and short enough for the eyes of an operator.
const PAUSE: Duration = Duration::from_millis(20);

/// Some 10,000 lines: a tenth of a second of the most that a node serves.
const MOST: usize = 4 << 20;

static STDERR: LazyLock<Gathered<io::Stderr>> = LazyLock::new(|| Gathered::new(io::stderr()));

static DROPPED: LazyLock<IntCounter> = LazyLock::new(|| {
    IntCounter::new(
        "penstock_log_lines_dropped_total",
        "Lines of the access log that were dropped, since standard error took no more.",
    )
    .unwrap_or_else(|error| unreachable!("the name is valid: {error}"))
});

/// Lines of the access log that this process has dropped.
pub(in crate::telemetry) fn dropped_lines() -> IntCounter {
    DROPPED.clone()
}

/// Starts to write lines to standard error.
pub(super) fn stderr() -> &'static Gathered<io::Stderr> {
    static THREAD: Once = Once::new();
    THREAD.call_once(|| {
        let writing = thread::Builder::new().name("penstock-log".to_owned()).spawn(|| STDERR.write_on());
        // Without the thread, each line is written at once.
        STDERR.has_thread.store(writing.is_ok(), Relaxed);
    });
    &STDERR
}

/// Takes a line of the access log.
pub(super) fn line(line: &[u8]) {
    STDERR.take(line);
}

/// Writes what is gathered. For the end of the process.
pub fn flush() {
    STDERR.write_out(&[]);
}

struct Lines {
    bytes: Vec<u8>,
    most: usize,
}

/// An output whose lines of the access log gather.
pub(super) struct Gathered<W> {
    lines: Mutex<Lines>,
    has_lines: Condvar,
    has_thread: AtomicBool,
    /// Locked before `lines`. With a buffer for the lines that are being written.
    output: Mutex<(W, Vec<u8>)>,
}

impl<W: Write> Gathered<W> {
    fn new(output: W) -> Self {
        let lines = Mutex::new(Lines { bytes: Vec::new(), most: MOST });
        Self {
            lines,
            has_lines: Condvar::new(),
            has_thread: AtomicBool::new(false),
            output: Mutex::new((output, Vec::new())),
        }
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a line for later; false when there is no room for it.
    fn gather(&self, line: &[u8]) -> bool {
        let mut lines = self.lines();
        if lines.bytes.len() + line.len() > lines.most {
            return false;
        }
        let is_first = lines.bytes.is_empty();
        lines.bytes.extend_from_slice(line);
        drop(lines);
        if is_first {
            self.has_lines.notify_one();
        }
        true
    }

    /// Keeps a line of the access log, or drops it when there is no room.
    fn take(&self, line: &[u8]) {
        if !self.has_thread.load(Relaxed) {
            self.write_out(line);
        } else if !self.gather(line) {
            DROPPED.inc();
        }
    }

    /// Writes what is gathered, and then this line. What cannot be written is lost: there is no other place to report that.
    fn write_out(&self, line: &[u8]) {
        let mut guard = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        let (output, bytes) = &mut *guard;
        mem::swap(&mut self.lines().bytes, bytes);
        bytes.extend_from_slice(line);
        let _ = output.write_all(bytes);
        bytes.clear();
    }

    /// Writes lines for as long as the process lives.
    fn write_on(&self) {
        loop {
            let gathered = self.has_lines.wait_while(self.lines(), |lines| lines.bytes.is_empty());
            drop(gathered.unwrap_or_else(PoisonError::into_inner));
            thread::sleep(PAUSE);
            self.write_out(&[]);
        }
    }
}

/// The output for a line that does not wait.
pub(super) struct Line<'a, W>(&'a Gathered<W>);

impl<W: Write> Write for Line<'_, W> {
    /// The caller gives a whole line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write_out(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a, W: Write + 'static> MakeWriter<'a> for &'static Gathered<W> {
    type Writer = Line<'a, W>;

    fn make_writer(&'a self) -> Self::Writer {
        Line(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stay_in_order_and_are_written_together() {
        let output = Gathered::new(Vec::new());
        assert!(output.gather(b"a\n") && output.gather(b"b\n"));
        assert!(output.output.lock().expect("no panic").0.is_empty());
        output.write_out(b"warning\n");
        assert!(output.gather(b"c\n"));
        output.write_out(&[]);
        assert_eq!(output.output.lock().expect("no panic").0, b"a\nb\nwarning\nc\n");
    }

    #[test]
    fn lines_beyond_the_bound_are_dropped_and_counted() {
        let output = Gathered::new(Vec::new());
        output.has_thread.store(true, Relaxed);
        output.lines().most = 5;
        let before = DROPPED.get();
        for line in ["one\n", "two\n", "\n"] {
            output.take(line.as_bytes());
        }
        assert_eq!(DROPPED.get(), before + 1);
        output.write_out(&[]);
        assert_eq!(output.output.lock().expect("no panic").0, b"one\n\n");
    }
}
