//! What a record showed once it was replayed: the last turns, the sessions, what was counted. A
//! process that serves it tells of this in the place of itself.

use std::collections::{HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::time::SystemTime;

use super::ring::{Record, Ring, Waits, What};
use super::roster::Row;
use crate::metrics::{Beside, Metrics};

/// All of it, but for the records themselves: these are in the ring.
#[derive(Debug)]
pub struct Replayed {
    /// Which record it is, and what came of its replay: a line for a reader.
    pub about: String,
    /// What was counted in the end.
    pub books: Books,
    turns: Turns,
}

/// What was counted by a process, and between which moments.
#[derive(Debug)]
pub struct Books {
    /// By the loop and its services.
    pub metrics: Metrics,
    /// By what else has counts of its own.
    pub beside: Beside,
    /// When the process began to serve.
    pub started: SystemTime,
    /// The moment of its last turn.
    pub wall: SystemTime,
}

impl Replayed {
    /// The numbers of the turns that there are, of which the first is 1 in a whole record.
    pub fn numbers(&self) -> Range<u64> {
        let first = self.turns.first;
        first..self.turns.newest() + 1
    }

    /// Where in the ring the turns from this one on are: so many of them at most, and no more than
    /// have so many records together, but one.
    pub fn from(&self, turn: u64, turns_max: usize, records_max: usize) -> Range<usize> {
        let first = self.place(turn);
        let begin = self.turns.lengths.iter().take(first).sum();
        let lengths = self.turns.lengths.iter().skip(first);
        begin..begin + fitting(lengths, turns_max, records_max)
    }

    /// The same of those before it.
    pub fn before(&self, turn: u64, turns_max: usize, records_max: usize) -> Range<usize> {
        let end = self.place(turn);
        let until: usize = self.turns.lengths.iter().take(end).sum();
        let lengths = self.turns.lengths.iter().take(end).rev();
        until - fitting(lengths, turns_max, records_max)..until
    }

    /// The place of a turn among those that there are.
    fn place(&self, turn: u64) -> usize {
        let count = self.turns.lengths.len();
        let place = usize::try_from(turn.saturating_sub(self.turns.first));
        place.unwrap_or(count).min(count)
    }
}

/// Records of the first of these that fit.
fn fitting<'l>(
    lengths: impl Iterator<Item = &'l usize>,
    turns_max: usize,
    records_max: usize,
) -> usize {
    let mut records = 0;
    for (place, length) in lengths.take(turns_max).enumerate() {
        if place > 0 && records + length > records_max {
            break;
        }
        records += length;
    }
    records
}

/// The newest turns of a record, as many as there is room for, each whole.
#[derive(Debug)]
pub struct Turns {
    records: VecDeque<Record>,
    records_max: usize,
    /// The number of the first turn that is there.
    first: u64,
    /// How many records each has.
    lengths: VecDeque<usize>,
    /// How the sessions began of whose end no record has gone.
    began: HashMap<u32, Record>,
}

impl Turns {
    /// None yet; they take about so many bytes.
    pub fn new(bytes: usize) -> Self {
        Self {
            records: VecDeque::new(),
            records_max: bytes / size_of::<Record>(),
            first: 1,
            lengths: VecDeque::new(),
            began: HashMap::new(),
        }
    }

    /// One more, which was done then.
    pub fn push(&mut self, turn: Vec<Record>) {
        let began = turn
            .iter()
            .filter(|record| matches!(record.what, What::Began { .. }));
        self.began
            .extend(began.map(|record| (record.id.generation, *record)));
        self.lengths.push_back(turn.len());
        self.records.extend(turn);
        while self.records.len() > self.records_max && self.lengths.len() > 1 {
            // Invariant: there are two turns at least.
            let oldest = self.lengths.pop_front().unwrap_or_default();
            let gone = self.records.drain(..oldest);
            for record in gone.filter(is_end) {
                self.began.remove(&record.id.generation);
            }
            self.first += 1;
        }
    }

    /// The number of the newest turn, 0 before the first one.
    pub fn newest(&self) -> u64 {
        self.first + self.lengths.len() as u64 - 1
    }

    /// What is to be replayed: the ring with these records, by the names and texts of `told`; the
    /// sessions, those that had ended behind `living`; and the rest.
    pub fn show(
        mut self,
        told: Ring,
        living: Vec<Row>,
        books: Books,
        about: String,
    ) -> (Ring, Vec<Row>, Replayed) {
        let mut rows = living;
        let ended = self.records.iter().filter(|record| is_end(record));
        let began = ended.filter_map(|record| self.began.get(&record.id.generation));
        let mut ended: Vec<Row> = began.filter_map(ended_row).collect();
        ended.sort_by_key(|row| row.id.generation);
        rows.append(&mut ended);
        let ring = told.replayed(std::mem::take(&mut self.records));
        let replayed = Replayed {
            about,
            books,
            turns: self,
        };
        (ring, rows, replayed)
    }
}

fn is_end(record: &Record) -> bool {
    matches!(record.what, What::Ended(_))
}

/// A session that is over, by the record of its beginning.
fn ended_row(record: &Record) -> Option<Row> {
    let What::Began { listener, port, ip } = record.what else {
        return None;
    };
    let peer = match (ip, port) {
        (0, 0) => "not told".to_owned(),
        _ => SocketAddr::from((Ipv4Addr::from(ip), port)).to_string(),
    };
    Some(Row {
        id: record.id,
        listener: usize::from(listener),
        peer: peer.into(),
        state: "ended",
        waits: Waits::Protocol,
        deadline_ms: 0,
        received: 0,
        queued: 0,
        has_origin: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inside::ring::{End, LOOP, Part};
    use crate::waiter::Id;

    fn record(id: Id, what: What) -> Record {
        Record { at_ns: 0, id, what }
    }

    /// A turn of so many records.
    fn turn(records: usize) -> Vec<Record> {
        let mut all = vec![record(LOOP, What::Turn { events: 0 })];
        all.resize(records, record(LOOP, What::Part(Part::Run)));
        all
    }

    fn id(generation: u32) -> Id {
        Id {
            index: 0,
            generation,
        }
    }

    fn replayed(turns: Turns) -> (Ring, Vec<Row>, Replayed) {
        let books = Books {
            metrics: Metrics::default(),
            beside: Beside::default(),
            started: SystemTime::UNIX_EPOCH,
            wall: SystemTime::UNIX_EPOCH,
        };
        turns.show(Ring::default(), Vec::new(), books, String::new())
    }

    #[test]
    fn turns_are_found_by_their_numbers_in_both_directions() {
        let mut turns = Turns::new(1 << 20);
        for records in [3, 5, 2, 9] {
            turns.push(turn(records));
        }
        let (ring, _, replayed) = replayed(turns);
        assert_eq!(ring.since(0).1.count(), 19);
        assert_eq!(replayed.numbers(), 1..5);
        assert_eq!(replayed.from(1, 2, 100), 0..8);
        assert_eq!(replayed.from(2, 9, 7), 3..10, "no more records than that");
        assert_eq!(replayed.from(4, 9, 7), 10..19, "but one turn");
        assert_eq!(replayed.before(5, 2, 100), 8..19);
        assert_eq!(replayed.before(4, 9, 7), 3..10);
        assert_eq!(replayed.before(2, 9, 1), 0..3);
        assert_eq!(
            (replayed.before(1, 9, 9), replayed.before(0, 9, 9)),
            (0..0, 0..0)
        );
        assert_eq!(replayed.from(99, 9, 9), 19..19);
        assert_eq!(replayed.before(99, 1, 99), 10..19);
    }

    #[test]
    fn the_newest_stay_and_keep_their_numbers() {
        let mut turns = Turns::new(10 * size_of::<Record>());
        for records in [4, 4, 4, 30, 4] {
            turns.push(turn(records));
        }
        let (ring, _, replayed) = replayed(turns);
        assert_eq!(replayed.numbers(), 5..6);
        assert_eq!(replayed.from(1, 9, 99), 0..4);
        assert_eq!(ring.since(0).1.count(), 4);
    }

    #[test]
    fn sessions_that_ended_are_listed_as_long_as_there_is_a_record_of_them() {
        let began = |generation, ip| {
            let port = 7;
            let listener = 3;
            record(id(generation), What::Began { listener, port, ip })
        };
        let ended = |generation| record(id(generation), What::Ended(End::Done));
        let mut turns = Turns::new(8 * size_of::<Record>());
        turns.push(vec![began(1, 0x7f00_0001), ended(1)]);
        turns.push([turn(5), vec![began(2, 0x7f00_0001), began(4, 0)]].concat());
        turns.push(vec![ended(2)]);
        let (_, rows, _) = replayed(turns);
        let told: Vec<_> = rows
            .iter()
            .map(|row| (row.id.generation, &*row.peer))
            .collect();
        assert_eq!(told, [(2, "127.0.0.1:7")], "4 goes on, and 1 is forgotten");
        assert_eq!((rows[0].state, rows[0].listener), ("ended", 3));
    }
}
