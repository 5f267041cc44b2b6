//! Lines on their way to a log that may take only a part of them now: nobody reads the pipe, or the
//! disk is full.
//!
//! The rules:
//! 1. What the log does not take now waits, and goes on where it stopped.
//! 2. What it cannot take is dropped. Where that left the beginning of a line in the log, a line
//!    feed goes in front of the next line, which thus stands alone whatever happened before it.
//!
//! 3. Where writing takes its time, bytes are [handed out](Lines::hand_out), and lines go on being
//!    added until it is [told](Lines::told) what became of them.
//!
//! Deliberately not here: how much may wait, and who is told of what was dropped.

use std::io;
use std::sync::Arc;

/// Whole lines of text, and how much of them the log has.
#[derive(Debug, Default)]
pub struct Lines {
    text: String,
    /// Bytes of the first line that the log has already.
    written: usize,
    /// Bytes of the text that were there when a part of it was handed out.
    handed: usize,
    /// The log ends within a line whose rest was dropped.
    torn: bool,
}

/// Why not every line was written.
#[derive(Debug)]
pub struct Unwritten {
    /// What the log said; after [`io::ErrorKind::WouldBlock`] the lines wait.
    pub error: io::Error,
    /// Lines that were dropped, the one included of which the log has only the beginning.
    pub lines_lost: u64,
}

impl Lines {
    /// Nothing, for a log that is empty or ends with a whole line.
    pub const fn new() -> Self {
        Self {
            text: String::new(),
            written: 0,
            handed: 0,
            torn: false,
        }
    }

    /// Whether no line waits.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Bytes of the lines that wait, those that are handed out included.
    pub fn len(&self) -> usize {
        self.text.len()
    }

    /// Bytes of the lines that were added since some were handed out.
    pub fn waiting_bytes(&self) -> usize {
        self.text.len() - self.handed
    }

    /// Adds what `put` appends: whole lines. If more than `bytes_max` would wait then, it is not
    /// added, and the answer is false.
    pub fn add(&mut self, bytes_max: usize, put: impl FnOnce(&mut String)) -> bool {
        let before = self.text.len();
        put(&mut self.text);
        let has_room = self.text.len() <= bytes_max;
        if !has_room {
            self.text.truncate(before);
        }
        has_room
    }

    /// Writes what waits, by calls of `write`, each of which answers how many bytes the log took.
    ///
    /// # Errors
    /// See [`Unwritten`].
    pub fn flush(
        &mut self,
        mut write: impl FnMut(&[u8]) -> io::Result<usize>,
    ) -> Result<(), Unwritten> {
        while let Some(rest) = self.rest() {
            let result = write(rest);
            self.handed = self.text.len();
            self.told(result)?;
        }
        Ok(())
    }

    /// The bytes that are to be written next, to be written elsewhere; none while there are no
    /// lines. [`Lines::told`] must follow before any others.
    pub fn hand_out(&mut self) -> Option<Arc<[u8]>> {
        self.trim();
        let bytes = Arc::from(self.rest()?);
        self.handed = self.text.len();
        Some(bytes)
    }

    /// What the log said to the bytes that were handed out: how many it took.
    ///
    /// # Errors
    /// See [`Unwritten`].
    pub fn told(&mut self, result: io::Result<usize>) -> Result<(), Unwritten> {
        let handed = std::mem::take(&mut self.handed);
        match result {
            Ok(0) => return Err(self.stopped(io::ErrorKind::WriteZero.into(), handed)),
            Ok(_) if self.torn => self.torn = false,
            Ok(count) => self.written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(self.stopped(error, handed)),
        }
        if self.written == self.text.len() {
            self.written = 0;
            self.text.clear();
        }
        Ok(())
    }

    fn rest(&self) -> Option<&[u8]> {
        match (self.text.is_empty(), self.torn) {
            (true, _) => None,
            (false, true) => Some(b"\n"),
            (false, false) => Some(&self.text.as_bytes()[self.written..]),
        }
    }

    /// Forgets the lines that were written whole; how many bytes that were.
    fn trim(&mut self) -> usize {
        let written = &self.text.as_bytes()[..self.written];
        let whole = written.iter().rposition(is_feed).map_or(0, |feed| feed + 1);
        self.text.drain(..whole);
        self.written -= whole;
        whole
    }

    /// Keeps what waits, or drops those of the first `handed` bytes that cannot be written.
    fn stopped(&mut self, error: io::Error, handed: usize) -> Unwritten {
        let handed = handed - self.trim();
        let mut lines_lost = 0;
        if error.kind() != io::ErrorKind::WouldBlock {
            let lost = &self.text.as_bytes()[..handed];
            lines_lost = lost.iter().filter(|byte| is_feed(byte)).count() as u64;
            self.torn |= self.written > 0;
            self.text.drain(..handed);
            self.written = 0;
        }
        Unwritten { error, lines_lost }
    }

    /// Another file is the log from now on; whether it ends within a line, if that is known. The
    /// line that was under way is written to it from its beginning.
    pub fn reopened(&mut self, ends_within_a_line: Option<bool>) {
        self.trim();
        let may_have_it = self.torn || self.written > 0;
        self.torn = ends_within_a_line.unwrap_or(may_have_it);
        self.written = 0;
    }
}

fn is_feed(byte: &u8) -> bool {
    *byte == b'\n'
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A log that takes so many bytes, then answers with that error.
    #[derive(Default)]
    struct Log {
        text: Vec<u8>,
        room: usize,
        error: Option<io::ErrorKind>,
    }

    impl Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.room);
            match self.error {
                Some(error) if count == 0 => Err(error.into()),
                _ => {
                    self.room -= count;
                    self.text.extend_from_slice(&bytes[..count]);
                    Ok(count)
                }
            }
        }

        /// Takes so many bytes of what waits; how many lines were lost.
        fn take(&mut self, lines: &mut Lines, room: usize, error: io::ErrorKind) -> u64 {
            (self.room, self.error) = (room, Some(error));
            let result = lines.flush(|bytes| self.write(bytes));
            result.map_or_else(|unwritten| unwritten.lines_lost, |()| 0)
        }

        fn text(&self) -> &str {
            std::str::from_utf8(&self.text).expect("UTF-8")
        }
    }

    fn add(lines: &mut Lines, text: &str) {
        assert!(lines.add(1000, |out| out.push_str(text)));
    }

    #[test]
    fn what_waits_goes_on_where_it_stopped_even_within_a_character() {
        for room in 0..12 {
            let (mut lines, mut log) = (Lines::new(), Log::default());
            add(&mut lines, "é1\né2\n");
            assert_eq!(log.take(&mut lines, room, io::ErrorKind::WouldBlock), 0);
            add(&mut lines, "é3\n");
            log.take(&mut lines, 100, io::ErrorKind::WouldBlock);
            assert_eq!(log.text(), "é1\né2\né3\n", "{room}");
        }
    }

    #[test]
    fn after_a_full_disk_a_line_stands_alone() {
        let full = io::ErrorKind::StorageFull;
        for (room, lost, expected) in [
            (0, 2, "next\n"),
            (1, 2, "a\nnext\n"),
            (3, 2, "aaa\nnext\n"),
            (4, 1, "aaa\nnext\n"),
            (5, 1, "aaa\nb\nnext\n"),
        ] {
            let (mut lines, mut log) = (Lines::new(), Log::default());
            add(&mut lines, "aaa\nbbb\n");
            assert_eq!(log.take(&mut lines, room, full), lost, "{room}");
            assert!(lines.is_empty());
            // As long as it stays full, nothing changes.
            add(&mut lines, "lost\n");
            assert_eq!(log.take(&mut lines, 0, full), 1);
            add(&mut lines, "next\n");
            log.take(&mut lines, 100, full);
            assert_eq!(log.text(), expected, "{room}");
        }
    }

    #[test]
    fn a_log_that_is_opened_anew_gets_whole_lines() {
        let stop = |error| {
            let (mut lines, mut log) = (Lines::new(), Log::default());
            add(&mut lines, "aaa\nbbb\n");
            log.take(&mut lines, 5, error);
            lines
        };
        for (error, ends_within_a_line, expected) in [
            (io::ErrorKind::WouldBlock, Some(false), "bbb\nnext\n"),
            (io::ErrorKind::WouldBlock, Some(true), "\nbbb\nnext\n"),
            (io::ErrorKind::WouldBlock, None, "\nbbb\nnext\n"),
            (io::ErrorKind::StorageFull, Some(false), "next\n"),
            (io::ErrorKind::StorageFull, Some(true), "\nnext\n"),
            (io::ErrorKind::StorageFull, None, "\nnext\n"),
        ] {
            let mut lines = stop(error);
            lines.reopened(ends_within_a_line);
            let mut log = Log::default();
            add(&mut lines, "next\n");
            log.take(&mut lines, 100, error);
            assert_eq!(log.text(), expected, "{error:?} {ends_within_a_line:?}");
        }
        // A log that was there before.
        let (mut lines, mut log) = (Lines::new(), Log::default());
        lines.reopened(Some(true));
        add(&mut lines, "next\n");
        log.take(&mut lines, 100, io::ErrorKind::WouldBlock);
        assert_eq!(log.text(), "\nnext\n");
    }

    #[test]
    fn lines_beyond_the_bound_are_not_added() {
        let mut lines = Lines::new();
        assert!(lines.add(4, |out| out.push_str("abc\n")));
        assert!(!lines.add(4, |out| out.push('\n')));
        assert_eq!(lines.len(), 4);
    }

    #[test]
    fn lines_that_are_added_while_others_are_written_are_not_lost_with_them() {
        let mut lines = Lines::new();
        add(&mut lines, "aaa\nbbb\n");
        assert_eq!(lines.hand_out().as_deref(), Some(&b"aaa\nbbb\n"[..]));
        add(&mut lines, "ccc\n");
        assert_eq!(lines.waiting_bytes(), 4);
        lines.told(Ok(5)).expect("a part of it");
        assert_eq!(lines.hand_out().as_deref(), Some(&b"bb\nccc\n"[..]));
        add(&mut lines, "ddd\n");
        let full = io::ErrorKind::StorageFull;
        let lost = lines.told(Err(full.into())).expect_err("a full disk");
        assert_eq!(lost.lines_lost, 2);
        // The log ends with "b".
        assert_eq!(lines.hand_out().as_deref(), Some(&b"\n"[..]));
        add(&mut lines, "eee\n");
        lines.told(Ok(1)).expect("a line feed");
        assert_eq!(lines.hand_out().as_deref(), Some(&b"ddd\neee\n"[..]));
        lines.told(Ok(8)).expect("all of it");
        assert!(lines.is_empty() && lines.hand_out().is_none());
    }

    proptest! {
        /// Whatever befalls the log, each of its lines is one that was added, or the beginning of
        /// one that was lost.
        #[test]
        fn no_two_lines_share_one(steps in proptest::collection::vec((0_usize..20, any::<bool>()), 0..30)) {
            let (mut lines, mut log, mut lost) = (Lines::new(), Log::default(), 0);
            let count = steps.len();
            for (number, (room, fails)) in steps.into_iter().enumerate() {
                add(&mut lines, &format!("<{number:04}>\n"));
                let error = match fails {
                    true => io::ErrorKind::StorageFull,
                    false => io::ErrorKind::WouldBlock,
                };
                lost += log.take(&mut lines, room, error);
            }
            log.take(&mut lines, usize::MAX, io::ErrorKind::WouldBlock);
            let is_whole = |line: &&str| line.len() == 6 && line.ends_with('>');
            let whole = log.text().lines().filter(is_whole).count() as u64;
            // One of which only the line feed was missing counts as lost, and is whole in the end.
            prop_assert!(whole <= count as u64 && whole + lost >= count as u64);
            prop_assert!(log.text().lines().all(|line| line.matches('<').count() <= 1));
        }
    }
}
