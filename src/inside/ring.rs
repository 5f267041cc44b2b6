//! The ring: what the loop did, in its own words, the newest so many records of it.
//!
//! Off, it costs a look at one flag; on, a record costs a look at the clock and 32 bytes. Readers
//! have a place in the sequence of all records, and are told how many they missed.
//!
//! Who turns the loop by hand, in a replay, [watches](Ring::watch) it: sees all, changes nothing, and
//! no clock is asked for it.
//!
//! The records of a session between two sleeps of its own read like the picture of
//! `reactor::session`:
//!
//! ```text
//! Woken ──▶ Pumped ──▶ Filled ──▶ Advanced ──▶ Flushed ──▶ … ──▶ Parked, Again or Ended
//! ```

use std::collections::VecDeque;
use std::time::Instant;

use crate::ending::Phase;
use crate::waiter::Id;

/// Why a session is to be pumped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its connection was accepted.
    Accepted,
    /// An event marked one of its sockets; whether a fact changed, the pump finds out.
    Event,
    /// Its deadline passed.
    Deadline,
    /// A name that it asked for has an answer.
    Name,
    /// A job for the disk that it asked for was done.
    Disk,
    /// A service has what it waited for.
    Work,
    /// Its budget of a turn was spent.
    Budget,
    /// The process is to end.
    Drain,
}

/// A part of a turn, as the picture of `reactor` has them; those in which nothing was to be done are
/// not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Events to marks, and signals.
    Note,
    /// Jobs that were done.
    Jobs,
    /// New connections.
    Accept,
    /// Datagrams.
    Datagrams,
    /// Deadlines that passed.
    Timers,
    /// Sessions, one after the other.
    Run,
    /// What services do at the end of a turn.
    End,
    /// What is carried out: compression, queries, new jobs, the log.
    Carry,
}

/// What a session waits for until its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waits {
    /// Whatever its protocol waits for.
    Protocol,
    /// The client to take what is queued for it.
    Write,
    /// The client's end.
    Linger,
    /// The next attempt to connect to the origin, or the end of all.
    Connect,
}

impl Waits {
    /// In a few words.
    pub fn name(self) -> &'static str {
        match self {
            Waits::Protocol => "protocol",
            Waits::Write => "client to take",
            Waits::Linger => "client's end",
            Waits::Connect => "origin to answer",
        }
    }
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// In good order.
    Done,
    /// A deadline passed.
    TimedOut(Phase),
    /// The peer broke the protocol, or may not do that.
    Refused,
    /// The connection broke.
    Reset,
    /// A file failed, or was changed.
    Disk,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the fields are told of in the lines above them
pub enum What {
    /// A turn began with so many events. Since the last one ended, the loop slept.
    Turn { events: u32 },
    /// A part of it began.
    Part(Part),
    /// It ended; so many sessions are runnable.
    TurnEnded { runnable: u32 },
    /// A session began on the listener in this place of the metrics, with the client's port and
    /// IPv4 address, if it has such.
    Began { listener: u16, port: u16, ip: u32 },
    /// It is to be pumped.
    Woken(Why),
    /// A pump began.
    Pumped,
    /// So many bytes came from the client, or from the origin.
    Filled { from_origin: bool, bytes: u32 },
    /// Its protocol went from one state to another, or stayed in one; so many bytes it consumed,
    /// and so many it queued, on both sides.
    Advanced {
        from: StateName,
        to: StateName,
        consumed: u32,
        queued: u32,
    },
    /// So many bytes left for the client, or for the origin.
    Flushed { to_origin: bool, bytes: u32 },
    /// Nothing more can be done before an event or the deadline, in so many milliseconds.
    Parked { waits: Waits, for_ms: u32 },
    /// It goes on in the next turn, behind the others.
    Again,
    /// It ended.
    Ended(End),
    /// A request was answered with this status; so many bytes of a body follow.
    Answered { status: u16, bytes: u64 },
}

/// The name of a state, as a number of the ring's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateName(u8);

/// One thing that was done.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// When, in nanoseconds since the ring was made.
    pub at_ns: u64,
    /// By or to which session; [`LOOP`] for what the loop did for all.
    pub id: Id,
    /// What.
    pub what: What,
}

/// What was not taken yet by who watches.
#[derive(Debug, Default)]
struct Watched {
    records: Vec<Record>,
    origin: Option<Instant>,
    /// When the last one was.
    last_ns: u64,
}

impl Watched {
    fn push(&mut self, at_ns: u64, id: Id, what: What) {
        self.last_ns = at_ns;
        self.records.push(Record { at_ns, id, what });
    }
}

/// Nanoseconds since the first moment that was asked for.
fn since(origin: &mut Option<Instant>, now: Instant) -> u64 {
    let since = now.saturating_duration_since(*origin.get_or_insert(now));
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Stands for no session.
pub const LOOP: Id = Id {
    index: u32::MAX,
    generation: 0,
};

/// Names of states that a ring can tell apart.
const NAMES_MAX: usize = 255;

/// The newest records.
#[derive(Debug, Default)]
pub struct Ring {
    records: VecDeque<Record>,
    /// Records at most.
    capacity: usize,
    /// Records that were written since the ring was made.
    written: u64,
    /// It is on in any case.
    is_always_on: bool,
    /// Those who read it now.
    readers: u32,
    is_on: bool,
    /// For who watches, if anybody does.
    watched: Option<Watched>,
    origin: Option<Instant>,
    names: Vec<&'static str>,
}

impl Ring {
    /// It takes so many bytes when it is on, and is on always or while somebody reads it.
    pub fn set(&mut self, bytes: usize, is_always_on: bool) {
        let capacity = bytes / size_of::<Record>();
        if capacity != self.capacity {
            self.capacity = capacity;
            self.records = VecDeque::new();
        }
        self.is_always_on = is_always_on;
        self.switch();
    }

    /// Whether records are written.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// Whether it may be on: it was given memory.
    pub fn can_be_on(&self) -> bool {
        self.capacity > 0
    }

    /// Those who read it now.
    pub fn readers(&self) -> u32 {
        self.readers
    }

    /// One more reads it, from now on: where it begins.
    pub fn begin_reading(&mut self) -> u64 {
        self.readers += 1;
        self.switch();
        self.written
    }

    /// One who read it does not any more.
    pub fn end_reading(&mut self) {
        self.readers = self.readers.saturating_sub(1);
        self.switch();
    }

    /// Whether somebody reads it, or it is on always: what is in it may be seen by a client.
    pub fn is_read(&self) -> bool {
        self.capacity > 0 && (self.is_always_on || self.readers > 0)
    }

    fn switch(&mut self) {
        self.is_on = self.is_read() || self.watched.is_some();
        if !self.is_read() {
            self.records = VecDeque::new();
        }
    }

    /// From now on all records are kept until they are [taken](Ring::take_watched).
    pub fn watch(&mut self) {
        self.watched.get_or_insert_default();
        self.switch();
    }

    /// The records since this was asked for last, by who watches.
    pub fn take_watched(&mut self) -> Vec<Record> {
        let watched = self.watched.as_mut();
        watched.map_or_else(Vec::new, |watched| std::mem::take(&mut watched.records))
    }

    /// Enters a record.
    pub fn push(&mut self, now: Instant, id: Id, what: What) {
        self.push_watched(now, id, what);
        if self.is_read() {
            let at_ns = since(&mut self.origin, now);
            self.enter(at_ns, id, what);
        }
    }

    /// The same, but only for who watches.
    pub fn push_watched(&mut self, now: Instant, id: Id, what: What) {
        if let Some(watched) = &mut self.watched {
            let at_ns = since(&mut watched.origin, now);
            watched.push(at_ns, id, what);
        }
    }

    /// The same by one who has no clock: it was done right after the last record.
    #[inline]
    pub fn push_after(&mut self, id: Id, what: What) {
        if let Some(watched) = &mut self.watched {
            watched.push(watched.last_ns, id, what);
        }
        if let Some(last) = self.records.back() {
            self.enter(last.at_ns, id, what);
        }
    }

    fn enter(&mut self, at_ns: u64, id: Id, what: What) {
        if self.records.is_empty() {
            // All at once: growing would copy them, again and again.
            self.records.reserve_exact(self.capacity);
        } else if self.records.len() == self.capacity {
            self.records.pop_front();
        }
        self.records.push_back(Record { at_ns, id, what });
        self.written += 1;
    }

    /// The records from a place in the sequence on, the oldest first, and how many are missing
    /// before them.
    pub fn since(&self, sequence: u64) -> (u64, impl Iterator<Item = &Record>) {
        let oldest = self.written - self.records.len() as u64;
        let skipped = usize::try_from(sequence.saturating_sub(oldest)).unwrap_or(usize::MAX);
        let missing = oldest.saturating_sub(sequence);
        let first = skipped.min(self.records.len());
        (missing, self.records.range(first..))
    }

    /// The place of the next record in the sequence of all.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// The number of a state's name.
    pub fn number(&mut self, name: &'static str) -> StateName {
        let is_it = |known: &&'static str| std::ptr::eq(*known, name) || **known == *name;
        let place = self.names.iter().position(is_it);
        let place = place.unwrap_or_else(|| {
            if self.names.len() < NAMES_MAX {
                self.names.push(name);
            }
            self.names.len() - 1
        });
        StateName(place as u8)
    }

    /// The name of a state.
    pub fn name(&self, number: StateName) -> &'static str {
        self.names.get(usize::from(number.0)).copied().unwrap_or("")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: u32) -> Id {
        Id {
            index,
            generation: 1,
        }
    }

    fn turns(records: &mut dyn Iterator<Item = &Record>) -> Vec<u32> {
        let events = |record: &Record| match record.what {
            What::Turn { events } => events,
            _ => panic!("no turn"),
        };
        records.map(events).collect()
    }

    #[test]
    fn a_record_is_small() {
        assert_eq!(size_of::<Record>(), 32);
    }

    #[test]
    fn it_keeps_the_newest_and_tells_how_many_are_missing() {
        let (mut ring, now) = (Ring::default(), Instant::now());
        ring.set(4 * size_of::<Record>(), false);
        let turn = |events| What::Turn { events };
        ring.push(now, LOOP, turn(99));
        assert_eq!(ring.written(), 0, "nobody reads");
        let begin = ring.begin_reading();
        for events in 0..3 {
            ring.push(now, LOOP, turn(events));
        }
        let (missing, mut records) = ring.since(begin);
        assert_eq!((missing, turns(&mut records)), (0, vec![0, 1, 2]));
        drop(records);
        for events in 3..10 {
            ring.push(now, id(events), turn(events));
        }
        for (from, expected) in [
            (begin, (6, vec![6, 7, 8, 9])),
            (begin + 7, (0, vec![7, 8, 9])),
            (begin + 10, (0, vec![])),
        ] {
            let (missing, mut records) = ring.since(from);
            assert_eq!((missing, turns(&mut records)), expected, "{from}");
        }
        ring.end_reading();
        assert!(!ring.is_on());
        let begin = ring.begin_reading();
        ring.push(now, LOOP, turn(11));
        let (missing, mut records) = ring.since(begin);
        assert_eq!((missing, turns(&mut records)), (0, vec![11]));
    }

    #[test]
    fn who_watches_sees_all_and_readers_notice_nothing() {
        let (mut ring, now) = (Ring::default(), Instant::now());
        ring.set(2 * size_of::<Record>(), false);
        ring.watch();
        let turn = |events| What::Turn { events };
        let watched = |ring: &mut Ring| turns(&mut ring.take_watched().iter());
        for events in 0..3 {
            ring.push(now, LOOP, turn(events));
        }
        assert!(ring.is_on() && !ring.is_read());
        assert_eq!(watched(&mut ring), [0, 1, 2]);
        let begin = ring.begin_reading();
        assert_eq!(begin, 0, "as if nobody had watched");
        ring.push(now, LOOP, turn(3));
        ring.push_after(LOOP, turn(4));
        assert_eq!(watched(&mut ring), [3, 4]);
        let (missing, mut records) = ring.since(begin);
        assert_eq!((missing, turns(&mut records)), (0, vec![3, 4]));
    }

    #[test]
    fn names_have_one_number_each() {
        let mut ring = Ring::default();
        let numbers = ["Idle", "Head", "Idle"].map(|name| ring.number(name));
        assert!(numbers[0] == numbers[2] && numbers[0] != numbers[1]);
        assert_eq!(
            numbers.map(|number| ring.name(number)),
            ["Idle", "Head", "Idle"]
        );
    }
}
