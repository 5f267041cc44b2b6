//! The ring: what the loop did, in its own words, the newest so many records of it.
//!
//! Off, it costs a look at one flag; on, a record costs a look at the clock and 32 bytes. Readers
//! have a place in the sequence of all records, and are told how many they missed.
//!
//! Some readers want all, some what concerns one session ([`Ring::begin_reading_of`]): as long as
//! there are only such, nothing else is written; and of a session that does more than its reader
//! wants between two looks, no more than that, but for its end ([`Ring::go_on_reading_of`]).
//!
//! Who turns the loop by hand, in a replay, [watches](Ring::watch) it: sees all, changes nothing, and
//! no clock is asked for it.
//!
//! A long file, since most of it is the words for what is done.
//!
//! The records of a session between two sleeps of its own read like the picture of
//! `reactor::session`:
//!
//! ```text
//! Woken ─▶ Pumped ─▶ Called, Filled ─▶ Advanced ─▶ Called, Flushed ─▶ … ─▶ Parked, Again or Ended
//! ```

use std::collections::VecDeque;
use std::io;
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

impl Why {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Accepted,
        Self::Event,
        Self::Deadline,
        Self::Name,
        Self::Disk,
        Self::Work,
        Self::Budget,
        Self::Drain,
    ];

    /// In a few words.
    pub fn name(self) -> &'static str {
        match self {
            Why::Accepted => "accepted",
            Why::Event => "event",
            Why::Deadline => "deadline",
            Why::Name => "name resolved",
            Why::Disk => "disk answered",
            Why::Work => "work done",
            Why::Budget => "budget spent",
            Why::Drain => "drain",
        }
    }
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

impl Part {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Note,
        Self::Jobs,
        Self::Accept,
        Self::Datagrams,
        Self::Timers,
        Self::Run,
        Self::End,
        Self::Carry,
    ];

    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Part::Note => "note",
            Part::Jobs => "jobs",
            Part::Accept => "accept",
            Part::Datagrams => "datagrams",
            Part::Timers => "timers",
            Part::Run => "run",
            Part::End => "end",
            Part::Carry => "carry",
        }
    }
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

/// A system call for a session's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `epoll_ctl(2)`: from now on events are told.
    Register,
    /// `recv(2)`.
    Receive,
    /// `send(2)`.
    Send,
    /// `writev(2)`: several runs of bytes.
    SendMany,
    /// `sendfile(2)`.
    SendFile,
    /// `splice(2)` from a socket into a pipe.
    SpliceIn,
    /// `splice(2)` from a pipe into a socket.
    SpliceOut,
    /// `shutdown(2)`: no more follows.
    Shutdown,
}

impl Call {
    /// Whether what it comes to is a number of bytes.
    pub fn moves_bytes(self) -> bool {
        !matches!(self, Call::Register | Call::Shutdown)
    }

    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Register,
        Self::Receive,
        Self::Send,
        Self::SendMany,
        Self::SendFile,
        Self::SpliceIn,
        Self::SpliceOut,
        Self::Shutdown,
    ];

    /// As the kernel names it.
    pub fn name(self) -> &'static str {
        match self {
            Call::Register => "epoll_ctl",
            Call::Receive => "recv",
            Call::Send => "send",
            Call::SendMany => "writev",
            Call::SendFile => "sendfile",
            Call::SpliceIn | Call::SpliceOut => "splice",
            Call::Shutdown => "shutdown",
        }
    }
}

/// What a system call came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CameTo {
    /// Bytes, or what else it was to do.
    Done,
    /// There are none now, or no room: the next event tells.
    WouldBlock,
    /// It was interrupted, and is made again.
    Interrupted,
    /// It failed: the connection broke.
    Failed,
}

impl CameTo {
    /// What an error means.
    pub fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock => CameTo::WouldBlock,
            io::ErrorKind::Interrupted => CameTo::Interrupted,
            _ => CameTo::Failed,
        }
    }
}

/// What a text tells of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// What its client asked for: a request line, or the name of a file.
    Request,
    /// From which file it is answered, or into which one it goes.
    File,
    /// To which origin it leads.
    Destination,
}

impl Topic {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Request, Self::File, Self::Destination];

    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Topic::Request => "request",
            Topic::File => "file",
            Topic::Destination => "destination",
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
    /// A system call was made for it, which took so long.
    Called {
        call: Call,
        of_origin: bool,
        came_to: CameTo,
        bytes: u32,
        took_ns: u32,
    },
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
    /// What it is about; the text is told by [`Ring::text`].
    Told { topic: Topic, text: u32 },
    /// A job for the disk was begun for it; the name of its kind.
    JobBegun(StateName),
    /// One was done.
    JobDone { kind: StateName, is_failed: bool },
    /// A batch of datagrams came to the listener in this place of the metrics.
    Received {
        listener: u16,
        datagrams: u32,
        bytes: u32,
    },
    /// One of them: of so many bytes, from this port and IPv4 address, if it has such.
    Datagram {
        listener: u16,
        port: u16,
        ip: u32,
        bytes: u32,
    },
    /// It is not served: the name of why.
    Dropped(StateName),
    /// Answers left, and some did not.
    Replied {
        listener: u16,
        unsent: u16,
        datagrams: u32,
        bytes: u32,
    },
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

/// Stands for no session.
pub const LOOP: Id = Id {
    index: u32::MAX,
    generation: 0,
};

/// Names of states that a ring can tell apart.
const NAMES_MAX: usize = 255;
/// Texts that are kept: the newest.
const TEXTS_MAX: usize = 4096;
/// Bytes of one, and what is longer ends with this.
const TEXT_BYTES_MAX: usize = 256;
const CUT: &str = "…";

/// A capacity beyond which no memory is set aside at once.
const UNLIMITED: usize = usize::MAX / size_of::<Record>();

/// One who reads what concerns a session.
#[derive(Debug)]
struct Reading {
    session: u32,
    /// So many records more are written for this reader until it looks.
    left: usize,
}

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
    /// Those who read all of it now.
    readers: u32,
    /// The sessions of which somebody reads, one for each reader.
    read_of: Vec<Reading>,
    /// Somebody reads, or it is on always: what is in it may be seen by a client.
    is_kept: bool,
    is_on: bool,
    /// It has the records of another process, and gets no more.
    is_replayed: bool,
    /// For who watches, if anybody does: always on, and without a limit.
    watched: Option<Box<Ring>>,
    origin: Option<Instant>,
    /// When the newest record was, or the turn began.
    last_ns: u64,
    names: Vec<&'static str>,
    texts: VecDeque<Box<str>>,
    /// Texts that were told since the ring was made.
    texts_told: u32,
}

impl Ring {
    /// It takes so many bytes when it is on, and is on always or while somebody reads it.
    pub fn set(&mut self, bytes: usize, is_always_on: bool) {
        if self.is_replayed {
            return;
        }
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

    /// Whether those of a session are, or of [`LOOP`].
    #[inline]
    pub fn wants(&self, id: Id) -> bool {
        self.is_on && (self.watched.is_some() || self.is_read(id))
    }

    /// The same for those who read, without who watches.
    #[inline]
    pub fn is_read(&self, id: Id) -> bool {
        self.is_kept && (self.is_whole() || self.is_wanted_of(id))
    }

    /// Whether somebody reads of a session and wants more before the next look.
    fn is_wanted_of(&self, id: Id) -> bool {
        let is_it = |reading: &Reading| reading.session == id.generation && reading.left > 0;
        self.read_of.iter().any(is_it)
    }

    /// Whether the end of a session is written, however much was.
    pub fn wants_end_of(&self, id: Id) -> bool {
        self.wants(id) || self.is_read_of(id)
    }

    /// Whether somebody reads of a session, who may have had enough for now.
    fn is_read_of(&self, id: Id) -> bool {
        self.is_kept && self.place_of(id.generation).is_some()
    }

    /// Whether records of any are kept for those who read.
    #[inline]
    pub fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// Whether all are, if any.
    fn is_whole(&self) -> bool {
        self.is_always_on || self.readers > 0
    }

    /// Whether it may be on: it was given memory.
    pub fn can_be_on(&self) -> bool {
        self.capacity > 0
    }

    /// Those who read it now.
    pub fn readers(&self) -> usize {
        self.readers as usize + self.read_of.len()
    }

    /// One more reads it, from now on: where it begins.
    pub fn begin_reading(&mut self) -> u64 {
        self.readers += 1;
        self.switch();
        match self.is_replayed {
            true => 0,
            false => self.written,
        }
    }

    /// Whether it has the records of another process: all of them are there at once, and no others
    /// come.
    pub fn is_replayed(&self) -> bool {
        self.is_replayed
    }

    /// One who read it does not any more.
    pub fn end_reading(&mut self) {
        self.readers = self.readers.saturating_sub(1);
        self.switch();
    }

    /// One more reads what concerns a session, at most `most` records until it looks again: where
    /// the oldest that is there stands.
    pub fn begin_reading_of(&mut self, session: u32, most: usize) -> u64 {
        self.read_of.push(Reading {
            session,
            left: most,
        });
        self.switch();
        self.written - self.records.len() as u64
    }

    /// One who read of a session does not any more.
    pub fn end_reading_of(&mut self, session: u32) {
        if let Some(place) = self.place_of(session) {
            self.read_of.swap_remove(place);
        }
        self.switch();
    }

    fn place_of(&self, session: u32) -> Option<usize> {
        let is_it = |reading: &Reading| reading.session == session;
        self.read_of.iter().position(is_it)
    }

    /// One who reads of a session has looked, and takes `most` more. Whether as many were written
    /// as it took: what was done since was not.
    pub fn go_on_reading_of(&mut self, session: u32, most: usize) -> bool {
        let reading = self.place_of(session).map(|place| &mut self.read_of[place]);
        reading.is_some_and(|reading| std::mem::replace(&mut reading.left, most) == 0)
    }

    /// A record of a session was written.
    fn count_of(&mut self, id: Id) {
        for reading in &mut self.read_of {
            if reading.session == id.generation {
                reading.left = reading.left.saturating_sub(1);
            }
        }
    }

    fn switch(&mut self) {
        if self.is_replayed {
            return;
        }
        let was_kept = self.is_kept;
        self.is_kept = self.capacity > 0 && self.readers() + usize::from(self.is_always_on) > 0;
        self.is_on = self.is_kept || self.watched.is_some();
        if !self.is_kept {
            // The texts stay: whoever took records may tell of them later.
            self.records = VecDeque::new();
        } else if !was_kept {
            self.texts = VecDeque::new();
        }
    }

    /// The ring of who watched, with these records in the place of its own, for those who read it; it
    /// is never on again.
    pub fn replayed(self, records: VecDeque<Record>) -> Self {
        let told = self.watched.map_or_else(Self::default, |watched| *watched);
        Self {
            capacity: records.len().max(1),
            written: records.len() as u64,
            records,
            is_replayed: true,
            names: told.names,
            texts: told.texts,
            texts_told: told.texts_told,
            ..Self::default()
        }
    }

    /// From now on all records are kept until they are [taken](Ring::take_watched).
    pub fn watch(&mut self) {
        let watched = self.watched.get_or_insert_default();
        watched.set(usize::MAX, true);
        self.switch();
    }

    /// The records since this was asked for last, by who watches, and what tells their names and
    /// texts.
    pub fn take_watched(&mut self) -> (Vec<Record>, &Ring) {
        if self.watched.is_none() {
            return (Vec::new(), self);
        }
        // Invariant: it was looked at just now.
        let watched = self.watched.as_mut().expect("who watches");
        let records = std::mem::take(&mut watched.records).into();
        (records, watched)
    }

    /// A turn began.
    pub fn turn(&mut self, now: Instant) {
        if let Some(watched) = &mut self.watched {
            watched.turn(now);
        }
        if self.is_kept {
            self.last_ns = self.since_origin(now);
        }
    }

    fn since_origin(&mut self, now: Instant) -> u64 {
        let origin = *self.origin.get_or_insert(now);
        let since = now.saturating_duration_since(origin);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Enters a record.
    pub fn push(&mut self, now: Instant, id: Id, what: What) {
        self.push_watched(now, id, what);
        let is_end = matches!(what, What::Ended(_));
        if self.is_read(id) || (is_end && self.is_read_of(id)) {
            let at_ns = self.since_origin(now);
            self.enter(at_ns, id, what);
        }
    }

    /// The same, but only for who watches.
    pub fn push_watched(&mut self, now: Instant, id: Id, what: What) {
        if let Some(watched) = &mut self.watched {
            watched.push(now, id, what);
        }
    }

    /// The same by one who has no clock: it was done right after the last record.
    #[inline]
    pub fn push_after(&mut self, id: Id, what: What) {
        if self.is_on {
            self.push_last(id, what);
        }
    }

    #[cold]
    fn push_last(&mut self, id: Id, what: What) {
        if let Some(watched) = &mut self.watched {
            watched.push_after(id, what);
        }
        if self.is_read(id) {
            self.enter(self.last_ns, id, what);
        }
    }

    /// Tells what a session is about, if anybody looks.
    #[inline]
    pub fn tell(&mut self, id: Id, topic: Topic, text: impl FnOnce() -> String) {
        if self.wants(id) {
            self.enter_text(id, topic, &text());
        }
    }

    #[cold]
    fn enter_text(&mut self, id: Id, topic: Topic, text: &str) {
        if let Some(watched) = &mut self.watched {
            watched.enter_text(id, topic, text);
        }
        if !self.is_read(id) {
            return;
        }
        let mut text = text.to_owned();
        if text.len() > TEXT_BYTES_MAX {
            text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX - CUT.len()));
            text.push_str(CUT);
        }
        if self.texts.len() == TEXTS_MAX {
            self.texts.pop_front();
        }
        self.texts.push_back(text.into());
        self.texts_told = self.texts_told.wrapping_add(1);
        let text = self.texts_told;
        self.enter(self.last_ns, id, What::Told { topic, text });
    }

    /// What was told; empty once too much was told since.
    pub fn text(&self, number: u32) -> &str {
        let age = self.texts_told.wrapping_sub(number) as usize;
        let place = self.texts.len().checked_sub(age + 1);
        place.map_or("", |place| &self.texts[place])
    }

    fn enter(&mut self, at_ns: u64, id: Id, what: What) {
        self.last_ns = at_ns;
        if self.records.is_empty() && self.capacity < UNLIMITED {
            // All at once: growing would copy them, again and again.
            self.records.reserve_exact(self.capacity);
        } else if self.records.len() == self.capacity {
            self.records.pop_front();
        }
        self.records.push_back(Record { at_ns, id, what });
        self.written += 1;
        if !self.read_of.is_empty() {
            self.count_of(id);
        }
    }

    /// The records from a place in the sequence on, the oldest first, and how many are missing
    /// before them.
    pub fn since(&self, sequence: u64) -> (u64, impl DoubleEndedIterator<Item = &Record>) {
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
        if let Some(watched) = &mut self.watched {
            watched.number(name);
        }
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
    fn who_reads_of_one_session_has_nothing_else_written() {
        let (mut ring, now) = (Ring::default(), Instant::now());
        ring.set(4096, false);
        let of = |generation| Id {
            index: 0,
            generation,
        };
        let from = ring.begin_reading_of(7, 100);
        let all = [(LOOP, 1), (of(7), 2), (of(8), 3)];
        let write = |ring: &mut Ring| {
            for (id, events) in all {
                ring.push(now, id, What::Turn { events });
            }
        };
        write(&mut ring);
        let seen = |ring: &Ring| turns(&mut ring.since(from).1);
        assert_eq!(seen(&ring), [2]);
        ring.begin_reading();
        write(&mut ring);
        assert_eq!(seen(&ring), [2, 1, 2, 3], "somebody wants all");
        ring.end_reading();
        write(&mut ring);
        assert_eq!((seen(&ring).len(), ring.readers()), (5, 1));
        ring.end_reading_of(7);
        assert!(!ring.is_on() && seen(&ring).is_empty());
    }

    #[test]
    fn of_a_session_that_does_much_no_more_is_written_than_its_reader_takes_but_its_end() {
        let (mut ring, now) = (Ring::default(), Instant::now());
        ring.set(4096, false);
        let id = id(0);
        let from = ring.begin_reading_of(id.generation, 2);
        let push = |ring: &mut Ring, count: u32| {
            for events in 0..count {
                ring.push(now, id, What::Turn { events });
            }
        };
        push(&mut ring, 2);
        assert!(!ring.is_read(id) && ring.wants_end_of(id));
        assert!(ring.go_on_reading_of(id.generation, 2));
        push(&mut ring, 1);
        assert!(!ring.go_on_reading_of(id.generation, 2), "all was written");
        push(&mut ring, 5);
        assert_eq!(ring.since(from).1.count(), 5);
        ring.push(now, id, What::Ended(End::Done));
        let last = ring.since(from).1.last().map(|record| record.what);
        assert_eq!(last, Some(What::Ended(End::Done)));
        // Who reads all pays for all.
        ring.begin_reading();
        push(&mut ring, 3);
        assert_eq!(ring.since(from).1.count(), 9);
    }

    #[test]
    fn who_watches_sees_all_and_readers_notice_nothing() {
        let (mut ring, now) = (Ring::default(), Instant::now());
        ring.set(2 * size_of::<Record>(), false);
        ring.watch();
        let turn = |events| What::Turn { events };
        let watched = |ring: &mut Ring| turns(&mut ring.take_watched().0.iter());
        for events in 0..3 {
            ring.push(now, LOOP, turn(events));
        }
        assert!(ring.is_on() && ring.wants(id(1)) && !ring.is_read(id(1)));
        assert_eq!(watched(&mut ring), [0, 1, 2]);
        let begin = ring.begin_reading();
        assert_eq!(begin, 0, "as if nobody had watched");
        ring.push(now, LOOP, turn(3));
        ring.push_after(LOOP, turn(4));
        assert_eq!(watched(&mut ring), [3, 4]);
        let (missing, mut records) = ring.since(begin);
        assert_eq!((missing, turns(&mut records)), (0, vec![3, 4]));
        drop(records);
        ring.end_reading();
        ring.tell(id(1), Topic::Request, || "GET /".to_owned());
        let (records, names) = ring.take_watched();
        let What::Told { text, .. } = records[0].what else {
            panic!("no text");
        };
        assert_eq!(names.text(text), "GET /");
    }

    #[test]
    fn texts_are_kept_for_a_while_and_cut_where_a_character_ends() {
        let mut ring = Ring::default();
        ring.set(4096, true);
        let text = |ring: &Ring| match ring.since(0).1.last().expect("one").what {
            What::Told { text, .. } => ring.text(text).to_owned(),
            _ => panic!("no text"),
        };
        ring.tell(id(1), Topic::Request, || "GET /".to_owned());
        assert_eq!(text(&ring), "GET /");
        let first = 1;
        ring.tell(id(1), Topic::File, || "ä".repeat(1000));
        let cut = text(&ring);
        assert!(cut.len() <= TEXT_BYTES_MAX && cut.ends_with("ä…"), "{cut}");
        for number in 0..TEXTS_MAX {
            ring.tell(id(1), Topic::File, || number.to_string());
        }
        assert_eq!(text(&ring), (TEXTS_MAX - 1).to_string());
        assert_eq!(ring.text(first), "");
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
