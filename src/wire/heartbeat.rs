//! UDP heartbeats: `Heartbeat SEQ TIME` and no answer; and what a receiver concludes about one
//! sender.
//!
//! Behind TIME a sender may put words of its own; receivers ignore those that they do not know.
//! Ours are `id=NAME`, and `hmac=HEX` as the last word: HMAC-SHA-256 of everything before the space
//! in front of it.
//!
//! ```text
//!             silence of late_after      silence of dead_after
//!        Up ─────────────────────▶ Late ──────────────────────▶ Dead
//!   new ▶ ▲ ◀─────────── back ──────┘                            │
//!         └──────────────────────── back ────────────────────────┘
//! ```
//!
//! Rules:
//! - [`Tracker`] has no clock: it is driven by the `now` that is handed in, and
//!   [`Tracker::deadline`] says when it next changes by itself. [`Tracker::advance`] is harmless at
//!   any other time.
//! - Loss is counted by gaps in the sequence; a number from a gap that comes after all was
//!   reordered, not lost.
//! - A number that is not above the highest, with a TIME later than the highest one's, is a sender
//!   that began again; so is one more than [`GAP_MAX`] above it. Any sender can claim any number:
//!   what one of them can add to a sum over all is bounded by [`LOST_MAX`], so that the losses of
//!   the others still show in it.
//!
//! Not here: how many senders are tracked and which one goes when there are too many; logging and
//! metrics.

use std::fmt;
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::challenge::Secret;
use super::hex;
use super::stamp::Stamp;

/// One heartbeat, read from a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat<'a> {
    /// Sequence number and time of sending.
    pub stamp: Stamp,
    /// The sender's name for itself, where it gave one.
    pub identity: Option<&'a str>,
}

/// The datagram of one heartbeat. `identity` must not hold white space, or what follows it is taken
/// for other words.
pub fn build(stamp: &Stamp, identity: Option<&str>, secret: Option<&Secret>) -> Vec<u8> {
    let mut line = stamp.write("Heartbeat");
    if let Some(identity) = identity {
        line.push_str(" id=");
        line.push_str(identity);
    }
    if let Some(secret) = secret {
        let mac = mac(secret, line.as_bytes()).finalize().into_bytes();
        line.push_str(" hmac=");
        line.push_str(&hex::encode(&mac));
    }
    line.into_bytes()
}

/// Reads a heartbeat; `None` when the bytes are none.
pub fn parse(datagram: &[u8]) -> Option<Heartbeat<'_>> {
    let (stamp, rest) = Stamp::parse("Heartbeat", datagram)?;
    let identity = rest
        .split_ascii_whitespace()
        .find_map(|word| word.strip_prefix("id="));
    Some(Heartbeat { stamp, identity })
}

/// Whether the datagram ends with the right `hmac=` word under this secret, compared in constant
/// time.
pub fn is_authentic(datagram: &[u8], secret: &Secret) -> bool {
    let datagram = datagram.trim_ascii_end();
    let Some((line, word)) = datagram.split_last_chunk::<70>() else {
        return false;
    };
    let Some(digits) = word.strip_prefix(b" hmac=") else {
        return false;
    };
    let Some(claimed) = hex::decode::<32>(digits) else {
        return false;
    };
    mac(secret, line).verify_slice(&claimed).is_ok()
}

fn mac(secret: &Secret, line: &[u8]) -> Hmac<Sha256> {
    // Invariant: HMAC takes a key of any length (RFC 2104, section 2).
    let mac = Hmac::<Sha256>::new_from_slice(secret.expose()).expect("HMAC takes any key length");
    mac.chain_update(line)
}

/// How many sequence numbers below the highest are remembered, to tell a duplicate from a late
/// arrival.
pub const WINDOW: u64 = 128;

/// The widest step between two numbers that is taken for a loss: at a hundred a second, three hours
/// of it.
pub const GAP_MAX: u64 = 1 << 20;

/// [`Counts::lost`] counts no further. The sum over two million senders is still exact in the
/// floating point numbers that metrics are read as.
pub const LOST_MAX: u64 = u32::MAX as u64;

/// How long a sender may be silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Silence after which a sender is late; at most `dead_after`. Where they are equal, nobody is
    /// ever just late.
    pub late_after: Duration,
    /// Silence after which a sender is dead.
    pub dead_after: Duration,
}

/// What a sender is taken to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Heard of within `late_after`.
    Up,
    /// Silent for `late_after`.
    Late,
    /// Silent for `dead_after`.
    Dead,
}

impl State {
    /// All of them, in the order of their numbers.
    pub const ALL: [State; 3] = [State::Up, State::Late, State::Dead];

    /// The word for the counters.
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Late => "late",
            Self::Dead => "dead",
        }
    }
}

/// A change that is worth a line in the log; displayed as `new`, `late`, `dead` or `back`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Change {
    /// The first heartbeat of this sender.
    New,
    /// It is late.
    Late,
    /// It is dead.
    Dead,
    /// It was late or dead, and a heartbeat came.
    Back,
}

impl Change {
    /// All of them, in the order of their numbers.
    pub const ALL: [Change; 4] = [Change::New, Change::Late, Change::Dead, Change::Back];

    /// The word for the log and for the counters.
    pub fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Late => "late",
            Self::Dead => "dead",
            Self::Back => "back",
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What was counted for one sender since it was first heard of.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Counts {
    /// Heartbeats received, duplicates included.
    pub received: u64,
    /// Sequence numbers that were skipped and did not come since, up to [`LOST_MAX`].
    pub lost: u64,
    /// Heartbeats that came a second time.
    pub duplicates: u64,
    /// Heartbeats that came after a later one.
    pub reordered: u64,
    /// How often the sender began again, with a lower number or a far higher one.
    pub restarts: u64,
}

/// One-way time differences: this machine's time of arrival less the sender's TIME, in seconds.
/// Both clocks' errors are in it, so it may be negative; its changes mean more than its size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Differences {
    /// The smallest.
    pub min: f64,
    /// The mean.
    pub mean: f64,
    /// The latest.
    pub last: f64,
}

/// What is known about one sender.
#[derive(Debug, Clone, PartialEq)]
pub struct Tracker {
    patience: Patience,
    state: State,
    heard_at: Instant,
    highest: Stamp,
    /// Bit N: the number `highest - N` came.
    window: u128,
    counts: Counts,
    differences: Differences,
}

impl Tracker {
    /// Begins with the first heartbeat of a sender, which is [`Change::New`]. `now` and `wall` are
    /// the same moment: the latter since the epoch, to be compared with TIME.
    pub fn new(patience: Patience, first: Stamp, now: Instant, wall: Duration) -> Self {
        let difference = difference_secs(first, wall);
        Self {
            patience,
            state: State::Up,
            heard_at: now,
            highest: first,
            window: 1,
            counts: Counts {
                received: 1,
                ..Counts::default()
            },
            differences: Differences {
                min: difference,
                mean: difference,
                last: difference,
            },
        }
    }

    /// Takes in one more heartbeat. Call [`Tracker::advance`] with the same `now` first, or a
    /// silence that just ended may go unreported.
    pub fn heard(&mut self, stamp: Stamp, now: Instant, wall: Duration) -> Option<Change> {
        self.counts.received += 1;
        self.count(stamp);
        let last = difference_secs(stamp, wall);
        let mean = self.differences.mean;
        self.differences = Differences {
            min: self.differences.min.min(last),
            mean: mean + (last - mean) / self.counts.received as f64,
            last,
        };
        self.heard_at = now;
        let before = std::mem::replace(&mut self.state, State::Up);
        (before != State::Up).then_some(Change::Back)
    }

    /// Enters a sequence number into the window and the counts.
    fn count(&mut self, stamp: Stamp) {
        let step = stamp.sequence.checked_sub(self.highest.sequence);
        match step {
            Some(step @ 1..=GAP_MAX) => {
                self.counts.lost = (self.counts.lost + step - 1).min(LOST_MAX);
                self.window = if step < WINDOW {
                    self.window << step | 1
                } else {
                    1
                };
                self.highest = stamp;
                return;
            }
            Some(1..) => return self.restart(stamp),
            _ if stamp.sent_at > self.highest.sent_at => return self.restart(stamp),
            _ => {}
        }
        let age = self.highest.sequence - stamp.sequence;
        let bit = if age < WINDOW { 1 << age } else { 0 };
        if self.window & bit != 0 {
            self.counts.duplicates += 1;
        } else {
            self.window |= bit;
            self.counts.reordered += 1;
            self.counts.lost = self.counts.lost.saturating_sub(1);
        }
    }

    /// Forgets which numbers came: the sender counts from another one now.
    fn restart(&mut self, stamp: Stamp) {
        self.counts.restarts += 1;
        self.window = 1;
        self.highest = stamp;
    }

    /// Lets time pass until `now`. One call makes one step at most: call it until it answers
    /// `None`, and a sender that went from up to dead unobserved is reported late, then dead.
    pub fn advance(&mut self, now: Instant) -> Option<Change> {
        let silence = now.saturating_duration_since(self.heard_at);
        let Patience {
            late_after,
            dead_after,
        } = self.patience;
        let (state, change) = match self.state {
            State::Up if silence >= late_after && late_after < dead_after => {
                (State::Late, Change::Late)
            }
            State::Up | State::Late if silence >= dead_after => (State::Dead, Change::Dead),
            _ => return None,
        };
        self.state = state;
        Some(change)
    }

    /// When [`Tracker::advance`] next has something to say; `None` for a dead sender, which only a
    /// heartbeat changes.
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Up => {
                Some(self.heard_at + self.patience.late_after.min(self.patience.dead_after))
            }
            State::Late => Some(self.heard_at + self.patience.dead_after),
            State::Dead => None,
        }
    }

    /// What the sender is taken to be now.
    pub fn state(&self) -> State {
        self.state
    }

    /// When it was last heard of.
    pub fn heard_at(&self) -> Instant {
        self.heard_at
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The one-way time differences so far.
    pub fn differences(&self) -> Differences {
        self.differences
    }
}

/// `wall` less the stamp's TIME, in seconds.
fn difference_secs(stamp: Stamp, wall: Duration) -> f64 {
    match wall.checked_sub(stamp.sent_at) {
        Some(positive) => positive.as_secs_f64(),
        None => -(stamp.sent_at - wall).as_secs_f64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PATIENCE: Patience = Patience {
        late_after: Duration::from_secs(2),
        dead_after: Duration::from_secs(3),
    };

    fn stamp(sequence: u64, sent_s: u64) -> Stamp {
        Stamp {
            sequence,
            sent_at: Duration::from_secs(sent_s),
        }
    }

    /// Feeds (sequence, TIME in seconds), each heard when sent, and answers what was counted.
    fn counted(beats: &[(u64, u64)]) -> Counts {
        let start = Instant::now();
        let mut beats = beats
            .iter()
            .map(|&(sequence, sent_s)| stamp(sequence, sent_s));
        let first = beats.next().unwrap();
        let mut tracker = Tracker::new(PATIENCE, first, start, first.sent_at);
        for beat in beats {
            tracker.heard(beat, start, beat.sent_at);
        }
        tracker.counts()
    }

    #[test]
    fn datagrams_are_built_and_read() {
        let secret = Secret::from("key");
        let plain = build(&stamp(4, 5), None, None);
        assert_eq!(plain, b"Heartbeat 4 5.000000");
        assert_eq!(
            parse(&plain),
            Some(Heartbeat {
                stamp: stamp(4, 5),
                identity: None
            })
        );
        let signed = build(&stamp(4, 5), Some("roof"), Some(&secret));
        assert_eq!(parse(&signed).unwrap().identity, Some("roof"));
        assert!(is_authentic(&signed, &secret));
        assert!(!is_authentic(&signed, &Secret::from("other")));
        assert!(!is_authentic(&plain, &secret));
        let forged = String::from_utf8(signed).unwrap().replace("roof", "root");
        assert!(!is_authentic(forged.as_bytes(), &secret));
        assert_eq!(parse(b"Ping 1 1"), None);
    }

    #[test]
    fn silence_makes_late_then_dead_and_a_heartbeat_brings_it_back() {
        let start = Instant::now();
        let after = |seconds: u64| start + Duration::from_secs(seconds);
        let mut tracker = Tracker::new(PATIENCE, stamp(1, 0), start, Duration::ZERO);
        assert_eq!(tracker.advance(after(1)), None);
        assert_eq!(tracker.deadline(), Some(after(2)));
        assert_eq!(tracker.advance(after(2)), Some(Change::Late));
        assert_eq!(tracker.advance(after(2)), None);
        assert_eq!(tracker.deadline(), Some(after(3)));
        assert_eq!(tracker.advance(after(9)), Some(Change::Dead));
        assert_eq!(
            (tracker.deadline(), tracker.advance(after(99))),
            (None, None)
        );
        assert_eq!(
            tracker.heard(stamp(2, 9), after(100), Duration::ZERO),
            Some(Change::Back)
        );
        assert_eq!(tracker.heard(stamp(3, 9), after(101), Duration::ZERO), None);
        assert_eq!(tracker.advance(after(200)), Some(Change::Late));
        assert_eq!(tracker.advance(after(200)), Some(Change::Dead));
    }

    #[test]
    fn without_room_between_them_nobody_is_late() {
        let start = Instant::now();
        let patience = Patience {
            late_after: Duration::from_secs(3),
            dead_after: Duration::from_secs(3),
        };
        let mut tracker = Tracker::new(patience, stamp(1, 0), start, Duration::ZERO);
        assert_eq!(
            tracker.advance(start + Duration::from_secs(3)),
            Some(Change::Dead)
        );
    }

    #[test]
    fn gaps_duplicates_reordering_and_restarts() {
        let none = Counts {
            received: 3,
            ..Counts::default()
        };
        assert_eq!(counted(&[(1, 1), (2, 2), (3, 3)]), none);
        assert_eq!(
            counted(&[(1, 1), (4, 4), (5, 5)]),
            Counts { lost: 2, ..none }
        );
        assert_eq!(
            counted(&[(1, 1), (3, 3), (2, 2)]),
            Counts {
                reordered: 1,
                ..none
            }
        );
        assert_eq!(
            counted(&[(1, 1), (2, 2), (1, 1)]),
            Counts {
                duplicates: 1,
                ..none
            }
        );
        assert_eq!(
            counted(&[(1, 1), (2, 2), (2, 2)]),
            Counts {
                duplicates: 1,
                ..none
            }
        );
        assert_eq!(
            counted(&[(7, 1), (8, 2), (1, 3)]),
            Counts {
                restarts: 1,
                ..none
            }
        );
        assert_eq!(
            counted(&[(1, 1), (500, 500), (2, 2)]),
            Counts {
                reordered: 1,
                lost: 497,
                ..none
            }
        );
    }

    #[test]
    fn a_wide_jump_is_a_restart_and_losses_stop_at_a_bound() {
        let counts = |received, lost, restarts| Counts {
            received,
            lost,
            restarts,
            ..Counts::default()
        };
        assert_eq!(
            counted(&[(1, 1), (1 + GAP_MAX, 2)]),
            counts(2, GAP_MAX - 1, 0)
        );
        for far in [2 + GAP_MAX, 1 << 32, 1 << 63, u64::MAX] {
            // What comes next is counted from there, or from where the sender goes back to.
            let beats = [(1, 1), (far, 0), (far.saturating_add(2), 0), (2, 3), (4, 4)];
            let lost = 1 + u64::from(far < u64::MAX);
            let duplicates = u64::from(far == u64::MAX);
            let expected = Counts {
                duplicates,
                ..counts(5, lost, 2)
            };
            assert_eq!(counted(&beats), expected, "{far}");
        }
        let wide: Vec<_> = (0..5000).map(|i| (i * GAP_MAX, i)).collect();
        assert_eq!(counted(&wide), counts(5000, LOST_MAX, 0));
    }

    #[test]
    fn time_differences() {
        let start = Instant::now();
        let mut tracker = Tracker::new(PATIENCE, stamp(1, 10), start, Duration::from_secs(12));
        tracker.heard(stamp(2, 20), start, Duration::from_secs(16));
        assert_eq!(
            tracker.differences(),
            Differences {
                min: -4.0,
                mean: -1.0,
                last: -4.0
            }
        );
    }

    proptest! {
        /// Numbers 0..n with some dropped, in an order with swaps, some doubled: the books balance.
        #[test]
        fn every_number_is_accounted_for(kept in proptest::collection::vec(0_u8..4, 2..100)) {
            let mut beats = Vec::new();
            let mut dropped = 0;
            for (sequence, fate) in kept.iter().enumerate() {
                let beat = (sequence as u64, sequence as u64);
                match fate {
                    0 if sequence > 0 && sequence + 1 < kept.len() => dropped += 1,
                    1 => beats.extend([beat, beat]),
                    _ => beats.push(beat),
                }
            }
            let inner = beats.len() - 1;
            for index in (2..inner).step_by(3) {
                beats.swap(index - 1, index);
            }
            let counts = counted(&beats);
            prop_assert_eq!(counts.lost, dropped);
            prop_assert_eq!(counts.received, beats.len() as u64);
            prop_assert_eq!(counts.restarts, 0);
            prop_assert_eq!(counts.received - counts.duplicates + counts.lost, kept.len() as u64);
        }
    }
}
