//! What some senders do in a run: a table of heartbeats, drawn by a seed, with loss, delay,
//! duplicates, clocks that are set, restarts and ends.

use netlab_reactor::sys::sim::rng::Rng;

/// The time between two heartbeats of every sender, in microseconds.
const INTERVAL: i64 = 200_000;
/// What TIME counts from: some moment in 2026.
const EPOCH: i64 = 1_792_000_000_000_000;

/// A heartbeat that arrives.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) sender: usize,
    pub(crate) at: i64,
    pub(crate) number: u64,
    pub(crate) time: i64,
    pub(crate) is_down: bool,
}

impl Arrival {
    pub(crate) fn datagram(&self) -> Vec<u8> {
        let (seconds, micros) = (self.time / 1_000_000, self.time % 1_000_000);
        let down = if self.is_down { " down" } else { "" };
        format!("Heartbeat {} {seconds}.{micros:06}{down}", self.number).into_bytes()
    }
}

/// What arrives of so many senders in so many intervals, in order.
pub(crate) fn record(seed: u64, senders: usize, intervals: i64) -> Vec<Arrival> {
    let mut rng = Rng::new(seed);
    let mut all = Vec::new();
    for sender in 0..senders {
        let mut tape = Tape {
            sender,
            number: rng.below(1000) as u64,
            clock: EPOCH,
            rests: 0,
            held: 0,
        };
        let phase = rng.below(INTERVAL as usize) as i64;
        for interval in 0..intervals {
            tape.step(phase + interval * INTERVAL, &mut rng, &mut all);
        }
    }
    all.sort_by_key(|arrival| arrival.at);
    all
}

struct Tape {
    sender: usize,
    number: u64,
    /// What its clock is ahead of ours.
    clock: i64,
    /// Intervals for which it says nothing.
    rests: usize,
    /// Until when the network holds everything back.
    held: i64,
}

impl Tape {
    fn step(&mut self, at: i64, rng: &mut Rng, all: &mut Vec<Arrival>) {
        if self.rests > 0 {
            self.rests -= 1;
            return;
        }
        self.number += 1;
        match rng.below(1000) {
            0..20 => self.clock += rng.between(5, 100) as i64 * 1_000_000,
            20..40 => self.clock -= rng.between(5, 1000) as i64 * 1_000_000,
            40..60 => self.number = 1,
            60..70 => (self.number, self.clock) = (1, at % 7), // without a clock of its own
            70..90 => self.rests = rng.between(2, 12),
            90..100 => self.held = at + [1_500_000, 2_100_000][rng.below(2)],
            100..110 => self.number += rng.between(2, 300) as u64,
            110..113 => self.number += 1 << 21,
            _ => {}
        }
        let is_down = rng.chance(20);
        if is_down {
            self.rests = rng.between(0, 8);
        }
        if rng.chance(80) {
            return; // lost
        }
        let delay = match rng.below(100) {
            0..6 => 450_000,
            _ => rng.below(40_000) as i64,
        };
        let arrival = Arrival {
            sender: self.sender,
            at: (at + delay).max(self.held),
            number: self.number,
            time: (self.clock + at).max(0),
            is_down,
        };
        all.push(arrival.clone());
        if rng.chance(50) {
            let again = arrival.at + rng.between(1_000, 300_000) as i64;
            all.push(Arrival {
                at: again,
                ..arrival
            });
        }
    }
}
