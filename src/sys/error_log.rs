//! The log on standard error, which must never hold up the loop: somebody may have stopped reading
//! it.
//!
//! A line is written if that needs no waiting. If it does, lines wait within [`WAITING_BYTES_MAX`]
//! and leave with a later line or at the end of a turn; beyond, lines are dropped and counted. The
//! log is one for the process, as the `log` crate's is.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::lines::Lines;
use crate::logging;

/// Bytes of lines that wait for a reader: as much again as a pipe holds.
const WAITING_BYTES_MAX: usize = 64 * 1024;

static LOG: Mutex<Log> = Mutex::new(Log {
    waiting: Lines::new(),
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
        let mut log = log();
        log.add(line, write_some);
        ARE_WAITING.store(!log.waiting.is_empty(), Ordering::Relaxed);
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
        let mut log = log();
        log.flush(write_some);
        ARE_WAITING.store(!log.waiting.is_empty(), Ordering::Relaxed);
    }
}

/// Lines that were dropped so far.
pub(super) fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

fn log() -> MutexGuard<'static, Log> {
    LOG.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write_some(bytes: &[u8]) -> io::Result<usize> {
    super::append::append(&io::stderr(), bytes)
}

struct Log {
    waiting: Lines,
    /// Lines that were dropped and of which the log does not tell yet.
    untold: u64,
}

impl Log {
    fn add(&mut self, line: &[u8], write: impl Fn(&[u8]) -> io::Result<usize>) {
        self.flush(&write);
        let untold = self.untold;
        let has_room = self.waiting.add(WAITING_BYTES_MAX, |text| {
            if untold > 0 {
                text.push_str(&logging::dropped(logging::format(), untold));
            }
            text.push_str(&String::from_utf8_lossy(line));
        });
        if has_room {
            self.untold = 0;
            self.flush(&write);
        } else {
            self.dropped(1);
        }
    }

    fn flush(&mut self, write: impl Fn(&[u8]) -> io::Result<usize>) {
        // The reader is slow, or gone, or the disk is full.
        if let Err(unwritten) = self.waiting.flush(write) {
            self.dropped(unwritten.lines_lost);
        }
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
        let mut log = Log {
            waiting: Lines::new(),
            untold: 0,
        };
        let line = [b"x".repeat(999), b"\n".to_vec()].concat();
        for _ in 0..100 {
            log.add(&line, write);
            assert!(log.waiting.len() <= WAITING_BYTES_MAX);
        }
        room.set(usize::MAX);
        log.add(b"after\n", write);
        assert!(log.waiting.is_empty());
        let read = String::from_utf8(read.into_inner()).expect("text");
        assert_eq!(read.matches('x').count(), 65 * 999);
        assert!(
            read.ends_with("[35 lines of the log were dropped: nobody read them]\nafter\n"),
            "{}",
            &read[read.len() - 100..]
        );
    }
}
