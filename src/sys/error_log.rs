//! The log on standard error, which must never hold up the loop: somebody may have stopped reading it.
//!
//! A line is written if that needs no waiting. If it does, lines wait within [`WAITING_BYTES_MAX`] and leave with a later
//! line or at the end of a turn; beyond, lines are dropped and counted. The log is one for the process, as the `log` crate's is.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes of lines that wait for a reader: as much again as a pipe holds.
const WAITING_BYTES_MAX: usize = 64 * 1024;

static LINES: Mutex<Lines> = Mutex::new(Lines {
    waiting: Vec::new(),
    untold: 0,
});
/// Lines wait; to know it must cost nothing.
static ARE_WAITING: AtomicBool = AtomicBool::new(false);
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Takes one line at a time, and never waits.
#[derive(Debug)]
pub struct ErrorLog;

impl Write for ErrorLog {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut lines = lines();
        lines.add(line, write_some);
        ARE_WAITING.store(!lines.waiting.is_empty(), Ordering::Relaxed);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes what waits, as far as it can be written now.
#[inline]
pub(super) fn flush() {
    if ARE_WAITING.load(Ordering::Relaxed) {
        let mut lines = lines();
        lines.flush(write_some);
        ARE_WAITING.store(!lines.waiting.is_empty(), Ordering::Relaxed);
    }
}

/// Lines that were dropped so far.
pub(super) fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

fn lines() -> MutexGuard<'static, Lines> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write_some(bytes: &[u8]) -> io::Result<usize> {
    super::append::append(&io::stderr(), bytes)
}

struct Lines {
    waiting: Vec<u8>,
    /// Lines that were dropped and of which the log does not tell yet.
    untold: u64,
}

impl Lines {
    fn add(&mut self, line: &[u8], write: impl Fn(&[u8]) -> io::Result<usize>) {
        if !self.waiting.is_empty() {
            self.flush(&write);
        }
        if self.waiting.len() + line.len() > WAITING_BYTES_MAX {
            self.dropped(1);
            return;
        }
        if self.untold > 0 {
            let lines = std::mem::take(&mut self.untold);
            let told = format!("[{lines} lines of the log were dropped: nobody read them]\n");
            self.waiting.extend_from_slice(told.as_bytes());
        }
        self.waiting.extend_from_slice(line);
        self.flush(&write);
    }

    fn flush(&mut self, write: impl Fn(&[u8]) -> io::Result<usize>) {
        let mut written = 0;
        while written < self.waiting.len() {
            match write(&self.waiting[written..]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // The reader is gone, or the disk is full.
                Err(_) => {
                    let lost = self.waiting[written..].iter().filter(|b| **b == b'\n');
                    self.dropped(lost.count() as u64);
                    written = self.waiting.len();
                }
            }
        }
        self.waiting.drain(..written);
    }

    fn dropped(&mut self, lines: u64) {
        self.untold += lines;
        DROPPED.fetch_add(lines, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};

    #[test]
    fn what_nobody_reads_waits_within_a_bound_and_is_told_of_later() {
        let (read, room) = (RefCell::new(Vec::new()), Cell::new(0));
        let write = |bytes: &[u8]| {
            let count = bytes.len().min(room.get());
            room.set(room.get() - count);
            read.borrow_mut().extend_from_slice(&bytes[..count]);
            match count {
                0 => Err(io::ErrorKind::WouldBlock.into()),
                count => Ok(count),
            }
        };
        let mut lines = Lines {
            waiting: Vec::new(),
            untold: 0,
        };
        let line = [b"x".repeat(999), b"\n".to_vec()].concat();
        for _ in 0..100 {
            lines.add(&line, write);
            assert!(lines.waiting.len() <= WAITING_BYTES_MAX);
        }
        room.set(usize::MAX);
        lines.add(b"after\n", write);
        assert!(lines.waiting.is_empty());
        let read = String::from_utf8(read.into_inner()).expect("text");
        assert_eq!(read.matches('x').count(), 65 * 999);
        assert!(
            read.ends_with("[35 lines of the log were dropped: nobody read them]\nafter\n"),
            "{}",
            &read[read.len() - 100..]
        );
    }
}
