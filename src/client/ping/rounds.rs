//! The books of one host, without socket or clock.
//!
//! Rules:
//! - An answer is *late* when it comes after its time-out was reported; it was not lost then, and
//!   the loss does not count it.
//! - An answer whose bytes differ from the question is *corrupt*; where its number cannot be read
//!   any more, it is taken for the only outstanding one if there is just one.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::client::Failure;
use crate::client::statistics::{RoundTrips, Summary};
use crate::wire::ping;
use crate::wire::stamp::Stamp;

/// How many of the latest pings are remembered, to tell a late or doubled answer from a stray one.
const REMEMBERED_MAX: usize = 65_536;

/// What happened to a ping.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Event {
    Reply {
        sequence: u64,
        rtt: Duration,
        reordered: bool,
    },
    Late {
        sequence: u64,
        rtt: Duration,
    },
    Duplicate {
        sequence: u64,
        rtt: Duration,
    },
    Corrupt {
        sequence: Option<u64>,
    },
    TimedOut {
        sequence: u64,
    },
    Unreachable {
        sequence: u64,
        reason: String,
    },
    /// An answer to nothing that is remembered.
    Stray,
    /// The host's thread ended.
    End(Box<Result<Report, Failure>>),
}

/// How the pings of one host ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Report {
    pub(super) counts: Counts,
    pub(super) round_trips: Summary,
    pub(super) elapsed: Duration,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) late: u64,
    pub(super) duplicates: u64,
    pub(super) reordered: u64,
    pub(super) corrupt: u64,
    pub(super) unreachable: u64,
    pub(super) strays: u64,
}

impl Counts {
    /// Pings that no answer came to, not even a corrupt one.
    pub(super) fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.received + self.corrupt)
    }

    pub(super) fn loss_percent(&self) -> f64 {
        if self.sent == 0 {
            0.0
        } else {
            100.0 * self.lost() as f64 / self.sent as f64
        }
    }
}

/// The books of one host.
#[derive(Debug)]
pub(super) struct Rounds {
    pub(super) size: usize,
    pub(super) timeout: Duration,
    /// The number of the ping in front of `slots`.
    first: u64,
    slots: VecDeque<Slot>,
    /// Every ping before this one is answered or was reported.
    settled: u64,
    highest_answered: u64,
    pub(super) counts: Counts,
    pub(super) trips: RoundTrips,
}

/// What became of one ping.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    sent_at: Duration,
    pub(super) sent: Instant,
    fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Outstanding,
    TimedOut,
    Answered,
}

impl Rounds {
    pub(super) fn new(size: usize, timeout: Duration) -> Self {
        Self {
            size,
            timeout,
            first: 1,
            slots: VecDeque::new(),
            settled: 1,
            highest_answered: 0,
            counts: Counts::default(),
            trips: RoundTrips::new(),
        }
    }

    /// How many pings were sent.
    pub(super) fn sent(&self) -> u64 {
        self.counts.sent
    }

    /// Closes the books. Pings that were interrupted are neither lost nor answered: they do not
    /// count.
    pub(super) fn finish(mut self, elapsed: Duration) -> Report {
        let is_outstanding = |slot: &&Slot| slot.fate == Fate::Outstanding;
        self.counts.sent -= self.slots.iter().filter(is_outstanding).count() as u64;
        Report {
            counts: self.counts,
            round_trips: self.trips.summary(),
            elapsed,
        }
    }

    /// The datagram of the next ping, which is taken to be sent now.
    pub(super) fn send(&mut self, now: Instant, sent_at: Duration) -> Vec<u8> {
        if self.slots.len() == REMEMBERED_MAX {
            self.slots.pop_front();
            self.first += 1;
            self.settled = self.settled.max(self.first);
        }
        self.counts.sent += 1;
        self.slots.push_back(Slot {
            sent_at,
            sent: now,
            fate: Fate::Outstanding,
        });
        ping::build(
            &Stamp {
                sequence: self.counts.sent,
                sent_at,
            },
            self.size,
        )
    }

    /// Takes in an answer.
    pub(super) fn receive(&mut self, datagram: &[u8], now: Instant) -> Event {
        let intact = ping::parse(datagram)
            .map(|stamp| stamp.sequence)
            .filter(|sequence| self.is_answer_to(datagram, *sequence));
        let Some(sequence) = intact.or_else(|| self.nearest(datagram)) else {
            return self.unaccountable(datagram);
        };
        let highest = self.highest_answered;
        let Some(slot) = self.slot(sequence) else {
            return self.unaccountable(datagram);
        };
        let rtt = now.saturating_duration_since(slot.sent);
        if intact.is_none() {
            if slot.fate == Fate::Answered {
                return self.unaccountable(datagram);
            }
            slot.fate = Fate::Answered;
            self.counts.corrupt += 1;
            return Event::Corrupt {
                sequence: Some(sequence),
            };
        }
        let fate = std::mem::replace(&mut slot.fate, Fate::Answered);
        if fate == Fate::Answered {
            self.counts.duplicates += 1;
            return Event::Duplicate { sequence, rtt };
        }
        self.counts.received += 1;
        self.trips.record(rtt);
        self.highest_answered = highest.max(sequence);
        if fate == Fate::TimedOut {
            self.counts.late += 1;
            return Event::Late { sequence, rtt };
        }
        let reordered = sequence < highest;
        self.counts.reordered += u64::from(reordered);
        Event::Reply {
            sequence,
            rtt,
            reordered,
        }
    }

    /// An answer that belongs to no ping, or to one that has its answer already and comes back
    /// bent.
    fn unaccountable(&mut self, datagram: &[u8]) -> Event {
        self.counts.strays += 1;
        match datagram.len() < 8 {
            true => Event::Stray,
            false => Event::Corrupt { sequence: None },
        }
    }

    /// Whether these are the bytes of that ping, in whatever case.
    fn is_answer_to(&mut self, datagram: &[u8], sequence: u64) -> bool {
        let size = self.size;
        let Some(slot) = self.slot(sequence) else {
            return false;
        };
        let sent_at = slot.sent_at;
        let question = ping::build(&Stamp { sequence, sent_at }, size);
        datagram == question || datagram == question.to_ascii_uppercase()
    }

    /// The ping that a bent answer belongs to: of the latest ones that are as long, the one whose
    /// beginning it differs from in the fewest bytes, and in less than a quarter of them; otherwise
    /// the only one that waits for an answer.
    ///
    /// A bent number is no guide: it names another ping, whose own answer would then look like a
    /// duplicate.
    fn nearest(&mut self, datagram: &[u8]) -> Option<u64> {
        const LATEST: usize = 128;
        const BEGINNING: usize = 64;
        let skipped = self.slots.len().saturating_sub(LATEST);
        let candidates = self.slots.iter().enumerate().skip(skipped);
        let distances = candidates.filter_map(|(index, slot)| {
            let sequence = self.first + index as u64;
            let stamp = Stamp {
                sequence,
                sent_at: slot.sent_at,
            };
            let mut answer = ping::build(&stamp, self.size.min(BEGINNING));
            ping::answer_in_place(&mut answer);
            if datagram.len() != answer.len().max(self.size) {
                return None;
            }
            let pairs = answer.iter().zip(datagram);
            let distance = pairs.filter(|(a, b)| !a.eq_ignore_ascii_case(b)).count();
            (distance * 4 < answer.len()).then_some((distance, sequence))
        });
        let nearest = distances.min().map(|(_, sequence)| sequence);
        nearest.or_else(|| self.only_outstanding())
    }

    /// The network says that the oldest outstanding ping met nobody.
    pub(super) fn refuse(&mut self, reason: String) -> Option<Event> {
        let sequence = self.oldest_outstanding()?;
        self.slot(sequence)?.fate = Fate::TimedOut;
        self.counts.unreachable += 1;
        Some(Event::Unreachable { sequence, reason })
    }

    /// The oldest ping whose time is over by `now`, if any; ask until there is none.
    pub(super) fn expire(&mut self, now: Instant) -> Option<Event> {
        let deadline = self.deadline()?;
        let sequence = self.oldest_outstanding()?;
        if now < deadline {
            return None;
        }
        self.slot(sequence)?.fate = Fate::TimedOut;
        Some(Event::TimedOut { sequence })
    }

    /// When the oldest outstanding ping times out.
    pub(super) fn deadline(&mut self) -> Option<Instant> {
        let sequence = self.oldest_outstanding()?;
        let timeout = self.timeout;
        self.slot(sequence).map(|slot| slot.sent + timeout)
    }

    fn oldest_outstanding(&mut self) -> Option<u64> {
        while self.settled <= self.counts.sent {
            let settled = self.settled;
            if self
                .slot(settled)
                .is_some_and(|slot| slot.fate == Fate::Outstanding)
            {
                return Some(settled);
            }
            self.settled += 1;
        }
        None
    }

    fn only_outstanding(&mut self) -> Option<u64> {
        let oldest = self.oldest_outstanding()?;
        let from = usize::try_from(oldest - self.first).ok()?;
        let outstanding = self
            .slots
            .iter()
            .skip(from)
            .filter(|slot| slot.fate == Fate::Outstanding)
            .count();
        (outstanding == 1).then_some(oldest)
    }

    fn slot(&mut self, sequence: u64) -> Option<&mut Slot> {
        let index = sequence.checked_sub(self.first)?;
        self.slots.get_mut(usize::try_from(index).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(1);

    fn after(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    /// Sends `count` pings at `start` and answers the books with the right answers to each.
    fn sent(count: usize, start: Instant) -> (Rounds, Vec<Vec<u8>>) {
        let mut rounds = Rounds::new(40, TIMEOUT);
        let answers = (0..count)
            .map(|_| {
                rounds
                    .send(start, Duration::from_secs(1_700_000_000))
                    .to_ascii_uppercase()
            })
            .collect();
        (rounds, answers)
    }

    #[test]
    fn replies_in_and_out_of_order_and_twice() {
        let start = Instant::now();
        let (mut rounds, answers) = sent(3, start);
        let rtt = Duration::from_millis(5);
        let now = after(start, 5);
        assert_eq!(
            rounds.receive(&answers[1], now),
            Event::Reply {
                sequence: 2,
                rtt,
                reordered: false
            }
        );
        assert_eq!(
            rounds.receive(&answers[0], now),
            Event::Reply {
                sequence: 1,
                rtt,
                reordered: true
            }
        );
        assert_eq!(
            rounds.receive(&answers[1], now),
            Event::Duplicate { sequence: 2, rtt }
        );
        assert_eq!(
            rounds.counts,
            Counts {
                sent: 3,
                received: 2,
                reordered: 1,
                duplicates: 1,
                ..Counts::default()
            }
        );
        assert_eq!(rounds.counts.lost(), 1);
    }

    #[test]
    fn late_is_not_lost() {
        let start = Instant::now();
        let (mut rounds, answers) = sent(2, start);
        assert_eq!(rounds.expire(after(start, 999)), None);
        assert_eq!(
            rounds.expire(after(start, 1000)),
            Some(Event::TimedOut { sequence: 1 })
        );
        assert_eq!(
            rounds.expire(after(start, 1000)),
            Some(Event::TimedOut { sequence: 2 })
        );
        assert_eq!(rounds.expire(after(start, 1000)), None);
        let late = rounds.receive(&answers[1], after(start, 1500));
        assert_eq!(
            late,
            Event::Late {
                sequence: 2,
                rtt: Duration::from_millis(1500)
            }
        );
        assert_eq!((rounds.counts.late, rounds.counts.lost()), (1, 1));
        assert_eq!(rounds.counts.loss_percent(), 50.0);
    }

    #[test]
    fn corrupt_answers_are_told_from_lost_ones() {
        let start = Instant::now();
        let (mut rounds, answers) = sent(2, start);
        let mut bent = answers[0].clone();
        *bent.last_mut().unwrap() ^= 1;
        assert_eq!(
            rounds.receive(&bent, start),
            Event::Corrupt { sequence: Some(1) }
        );
        // One is left, so an answer that cannot be read must be its.
        let mut unreadable = answers[1].clone();
        unreadable[0] ^= 1;
        assert_eq!(
            rounds.receive(&unreadable, start),
            Event::Corrupt { sequence: Some(2) }
        );
        assert_eq!(
            rounds.receive(&unreadable, start),
            Event::Corrupt { sequence: None }
        );
        assert_eq!(rounds.receive(b"x", start), Event::Stray);
        assert_eq!((rounds.counts.corrupt, rounds.counts.lost()), (2, 0));
        assert_eq!(rounds.deadline(), None);
    }

    #[test]
    fn a_bent_number_is_not_taken_for_another_ping() {
        let start = Instant::now();
        let mut rounds = Rounds::new(0, TIMEOUT);
        let answers: Vec<Vec<u8>> = (0..3)
            .map(|number| {
                let time = Duration::from_micros(1_700_000_000_000_000 + 2111 * number);
                rounds.send(start, time).to_ascii_uppercase()
            })
            .collect();
        assert!(matches!(
            rounds.receive(&answers[0], start),
            Event::Reply { sequence: 1, .. }
        ));
        // The answers to the second and the third, with the numbers of the first and the second.
        for (index, number) in [(1, b'1'), (2, b'2')] {
            let mut bent = answers[index].clone();
            bent[5] = number;
            let sequence = Some(index as u64 + 1);
            assert_eq!(rounds.receive(&bent, start), Event::Corrupt { sequence });
        }
        let Counts {
            corrupt,
            duplicates,
            strays,
            ..
        } = rounds.counts;
        assert_eq!((corrupt, duplicates, strays), (2, 0, 0));
        assert_eq!(rounds.counts.lost(), 0);
    }

    #[test]
    fn interrupted_pings_do_not_count() {
        let start = Instant::now();
        let (mut rounds, answers) = sent(5, start);
        rounds.receive(&answers[1], start);
        let counts = rounds.finish(TIMEOUT).counts;
        assert_eq!((counts.sent, counts.received, counts.lost()), (1, 1, 0));
    }

    #[test]
    fn a_refusal_meets_the_oldest() {
        let start = Instant::now();
        let (mut rounds, _) = sent(1, start);
        let event = rounds.refuse("nobody".into());
        assert_eq!(
            event,
            Some(Event::Unreachable {
                sequence: 1,
                reason: "nobody".into()
            })
        );
        assert_eq!(rounds.refuse("nobody".into()), None);
    }

    #[test]
    fn memory_is_bounded() {
        let start = Instant::now();
        let (mut rounds, answers) = sent(REMEMBERED_MAX + 10, start);
        assert_eq!(rounds.slots.len(), REMEMBERED_MAX);
        assert!(matches!(
            rounds.receive(&answers[10], start),
            Event::Reply { sequence: 11, .. }
        ));
        assert_eq!(
            rounds.expire(after(start, 2000)),
            Some(Event::TimedOut { sequence: 12 })
        );
    }
}
