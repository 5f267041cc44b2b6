//! What is due, what is under way and what came back, without sockets.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{NAP, NUMBER_BYTES, Plan};
use crate::client::statistics::RoundTrips;

/// The books of one connection, or of all.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) lost: u64,
    pub(super) late: u64,
    pub(super) duplicates: u64,
    pub(super) reordered: u64,
    pub(super) corrupt: u64,
    pub(super) refused: u64,
    pub(super) trips: RoundTrips,
}

impl Tally {
    pub(super) fn merge(&mut self, other: &Self) {
        self.sent += other.sent;
        self.received += other.received;
        self.lost += other.lost;
        self.late += other.late;
        self.duplicates += other.duplicates;
        self.reordered += other.reordered;
        self.corrupt += other.corrupt;
        self.refused += other.refused;
        self.trips.merge(&other.trips);
    }
}

/// Decides when the next message is due.
pub(super) struct Pace {
    pub(super) started: Instant,
    pub(super) plan: Plan,
}

impl Pace {
    /// The moment from which message `number` counts, if it is due by `now` with `outstanding` ones
    /// under way.
    pub(super) fn due(&self, number: u64, outstanding: u64, now: Instant) -> Option<Instant> {
        if !self.goes_on(number, now) {
            return None;
        }
        match self.moment(number) {
            Some(due) => (due <= now).then_some(due),
            None => (outstanding < self.plan.window).then_some(now),
        }
    }

    /// Whether message `number` will be sent yet. What was due in time is sent even when it became
    /// late on the way: to leave it out would hide the stall.
    pub(super) fn goes_on(&self, number: u64, now: Instant) -> bool {
        let end = self.started + self.plan.duration;
        let is_in_time = match self.moment(number) {
            Some(due) => due < end && now < end + self.plan.lost_after,
            None => now < end,
        };
        is_in_time && number < self.plan.count && !self.plan.stop.load(Ordering::Relaxed)
    }

    /// When message `number` is due in the open loop.
    pub(super) fn moment(&self, number: u64) -> Option<Instant> {
        self.plan
            .interval
            .map(|interval| self.started + interval.mul_f64(number as f64))
    }

    /// How long to sleep at most when nothing can be done now.
    pub(super) fn nap(&self, number: u64, now: Instant) -> Duration {
        match self.moment(number) {
            Some(due) if self.goes_on(number, now) => due.saturating_duration_since(now).min(NAP),
            _ => NAP,
        }
    }
}

/// The bytes of message `number`: a number, then letters without lower case, then a line ending.
pub(super) fn write_number(message: &mut [u8], number: u64) {
    let mut rest = number;
    for digit in message[..NUMBER_BYTES].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

pub(super) fn blank(message_bytes: usize) -> Vec<u8> {
    let mut message = vec![b'X'; message_bytes];
    message[message_bytes - 1] = b'\n';
    message[..NUMBER_BYTES].fill(b'0');
    message
}

pub(super) fn read_number(message: &[u8]) -> Option<u64> {
    let digits = message.get(..NUMBER_BYTES)?;
    digits.iter().try_fold(0_u64, |number, digit| {
        digit.is_ascii_digit().then(|| {
            number
                .wrapping_mul(10)
                .wrapping_add(u64::from(digit - b'0'))
        })
    })
}

/// What became of a datagram that was sent.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Outstanding(Instant),
    Answered,
    Lost(Instant),
}

/// The latest datagrams by number, and the books they end in. The ring forgets what is older than
/// itself.
pub(super) struct Ring {
    slots: Vec<(u64, Fate)>,
    pub(super) next: u64,
    oldest: u64,
    pub(super) outstanding: u64,
    highest: u64,
    pub(super) tally: Tally,
}

impl Ring {
    pub(super) fn new(window: u64, is_open_loop: bool) -> Self {
        let slots = if is_open_loop {
            1 << 20
        } else {
            (window * 4).next_power_of_two().max(1 << 12)
        };
        let slots = vec![(u64::MAX, Fate::Answered); usize::try_from(slots).unwrap_or(1 << 20)];
        Self {
            slots,
            next: 0,
            oldest: 0,
            outstanding: 0,
            highest: 0,
            tally: Tally::default(),
        }
    }

    fn slot(&mut self, number: u64) -> &mut (u64, Fate) {
        let index = number as usize & (self.slots.len() - 1);
        &mut self.slots[index]
    }

    pub(super) fn sent(&mut self, due: Instant) {
        let number = self.next;
        if let (_, Fate::Outstanding(_)) = *self.slot(number) {
            self.outstanding -= 1;
            self.tally.lost += 1;
        }
        *self.slot(number) = (number, Fate::Outstanding(due));
        self.next += 1;
        self.outstanding += 1;
        self.tally.sent += 1;
    }

    pub(super) fn answered(&mut self, number: u64, now: Instant) {
        let slot = self.slot(number);
        if slot.0 != number {
            self.tally.corrupt += 1;
            return;
        }
        let fate = std::mem::replace(&mut slot.1, Fate::Answered);
        let due = match fate {
            Fate::Answered => {
                self.tally.duplicates += 1;
                return;
            }
            Fate::Outstanding(due) => {
                self.outstanding -= 1;
                due
            }
            Fate::Lost(due) => {
                self.tally.lost -= 1;
                self.tally.late += 1;
                due
            }
        };
        self.tally.received += 1;
        self.tally.reordered += u64::from(number < self.highest);
        self.highest = self.highest.max(number);
        self.tally.trips.record(now.saturating_duration_since(due));
    }

    /// Gives up what is outstanding since `lost_after` and longer.
    pub(super) fn expire(&mut self, now: Instant, lost_after: Duration) {
        while self.oldest < self.next {
            let oldest = self.oldest;
            let slot = self.slot(oldest);
            match slot.1 {
                Fate::Outstanding(due) if slot.0 == oldest => {
                    if now.saturating_duration_since(due) < lost_after {
                        return;
                    }
                    slot.1 = Fate::Lost(due);
                    self.outstanding -= 1;
                    self.tally.lost += 1;
                }
                _ => {}
            }
            self.oldest += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn numbers_survive_upper_casing() {
        let mut message = blank(20);
        write_number(&mut message, 9_007_199_254_740_991);
        assert_eq!(message, b"9007199254740991XXX\n");
        assert_eq!(message.to_ascii_uppercase(), message);
        assert_eq!(read_number(&message), Some(9_007_199_254_740_991));
        assert_eq!(read_number(b"12"), None);
        assert_eq!(read_number(b"00000000000000x0"), None);
    }

    #[test]
    fn the_books_balance() {
        let start = Instant::now();
        let lost_after = Duration::from_secs(1);
        let mut ring = Ring::new(4, false);
        for _ in 0..5 {
            ring.sent(start);
        }
        let soon = start + Duration::from_millis(10);
        for number in [0, 2, 1, 2] {
            ring.answered(number, soon);
        }
        ring.expire(start + lost_after, lost_after);
        ring.answered(4, start + lost_after);
        let tally = &ring.tally;
        assert_eq!(
            (tally.sent, tally.received, tally.lost, tally.late),
            (5, 4, 1, 1)
        );
        assert_eq!(
            (tally.duplicates, tally.reordered, ring.outstanding),
            (1, 1, 0)
        );
    }

    #[test]
    fn the_open_loop_is_due_by_the_clock_alone() {
        let plan = Plan {
            message_bytes: 64,
            window: 1,
            interval: Some(Duration::from_millis(10)),
            duration: Duration::from_secs(1),
            count: 99,
            lost_after: Duration::from_secs(1),
            separate: false,
            stop: Arc::default(),
        };
        let started = Instant::now();
        let pace = Pace { started, plan };
        let now = started + Duration::from_millis(25);
        assert_eq!(
            pace.due(2, 1000, now),
            Some(started + Duration::from_millis(20))
        );
        assert_eq!(pace.due(3, 0, now), None);
        assert_eq!(pace.due(99, 0, now), None);
    }
}
