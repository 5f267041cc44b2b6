//! What of a stream of bytes nobody looks at: those who pass it on or drop it say so
//! ([`RecvBuf::pass_unread`](crate::buffer::RecvBuf::pass_unread)), and a record leaves it out.

use std::ops::Range;

/// What of all that arrived nobody looks at.
#[derive(Debug)]
pub struct Unread {
    /// Bytes that arrived.
    came: u64,
    /// Their places among those, and among what is still to arrive.
    ranges: Vec<Range<u64>>,
}

impl Unread {
    /// Of a stream of which so many bytes wait.
    pub fn new(waits: usize) -> Self {
        Self {
            came: waits as u64,
            ranges: Vec::new(),
        }
    }

    /// So many bytes more arrived.
    pub fn came(&mut self, count: usize) {
        self.came += count as u64;
    }

    /// Of all from the first of the last `waits` bytes that arrived, nobody looks at `count`.
    pub fn add(&mut self, waits: usize, count: u64) {
        let start = self.came - waits as u64;
        let range = start..start.saturating_add(count);
        match self.ranges.last_mut() {
            Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
            _ if count > 0 => self.ranges.push(range),
            _ => {}
        }
    }

    /// All was told.
    pub fn clear(&mut self) {
        self.ranges.clear();
    }

    /// Each range: how many bytes before the end of what arrived it begins, and how long it is.
    pub fn from_end(&self) -> impl Iterator<Item = (u64, u64)> {
        let ranges = self.ranges.iter();
        ranges.map(|range| (self.came - range.start, range.end - range.start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_twice_is_one_range_and_what_lies_apart_are_two() {
        let mut unread = Unread::new(10);
        unread.add(10, 3);
        unread.add(8, 4); // two were taken, and one more is known of
        unread.add(2, u64::MAX);
        unread.came(5);
        let told: Vec<_> = unread.from_end().collect();
        assert_eq!(told, [(15, 6), (7, u64::MAX - 8)]);
        unread.clear();
        unread.add(1, 0);
        assert_eq!(unread.from_end().count(), 0);
    }
}
