//! The UDP pinger's server: each datagram comes back in ASCII upper case, over a simulated bad
//! network.
//!
//! A share of the datagrams is lost, answered twice, held back so that later ones overtake them, or
//! damaged in one bit; the rest may be delayed. What befalls a datagram is drawn from a generator
//! that can be seeded, one draw for each question in the order of arrival, so that a test run can
//! be repeated. The answer is never longer than the question.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::config::{Fraction, UdpPingConfig};
use crate::metrics::{Cause, ListenerMetrics};
use crate::service::datagram::{DatagramIo, DatagramService, Outbox};
use crate::service::work::{self, Work};
use crate::wire::ping;

/// The ping service.
pub struct UdpPing {
    loss: Fraction,
    duplicate: Fraction,
    reorder: Fraction,
    corrupt: Fraction,
    delay: Duration,
    jitter: Duration,
    /// How much longer than its fellows a reordered answer is held back.
    reorder_hold: Duration,
    random: SplitMix,
    delayed: BinaryHeap<Reverse<Delayed>>,
    /// What they take in memory.
    delayed_bytes: usize,
    delayed_bytes_max: usize,
    /// Counts the delayed answers, so that those of one moment leave in order.
    order: u64,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Delayed {
    at: Instant,
    order: u64,
    to: SocketAddr,
    bytes: Vec<u8>,
}

/// What an answer takes while it waits: an empty one is not for nothing.
fn memory_bytes(payload: &[u8]) -> usize {
    size_of::<Delayed>() + payload.len()
}

impl UdpPing {
    /// A service as configured. `seed` is used where the configuration has none.
    pub fn new(config: &UdpPingConfig, seed: u64) -> Self {
        Self {
            loss: config.loss,
            duplicate: config.duplicate,
            reorder: config.reorder,
            corrupt: config.corrupt,
            delay: config.delay,
            jitter: config.jitter,
            reorder_hold: config.reorder_hold,
            random: SplitMix(config.seed.unwrap_or(seed)),
            delayed: BinaryHeap::new(),
            delayed_bytes: 0,
            delayed_bytes_max: config.delayed_bytes_max,
            order: 0,
        }
    }

    /// Whether what happens to this share of the datagrams happens to this one. No draw for what
    /// never happens, so that a seed means the same loss whatever else is off.
    fn draw(&mut self, share: Fraction) -> bool {
        !share.is_zero() && share.hits(self.random.next())
    }

    fn damage(&mut self, payload: &mut [u8]) {
        if !payload.is_empty() {
            let bit = self.random.next() as usize % (payload.len() * 8);
            payload[bit / 8] ^= 1 << (bit % 8);
        }
    }

    /// How long this answer is held back.
    fn hold(&mut self) -> Duration {
        let mut hold = self.delay;
        if !self.jitter.is_zero() {
            let nanos = u64::try_from(self.jitter.as_nanos()).unwrap_or(u64::MAX);
            hold += Duration::from_nanos(self.random.next() % nanos);
        }
        if self.draw(self.reorder) {
            hold + self.reorder_hold
        } else {
            hold
        }
    }

    fn answer(&mut self, io: &mut DatagramIo<'_>) {
        let hold = self.hold();
        if hold.is_zero() {
            io.echo();
        } else if self.delayed_bytes + memory_bytes(io.payload) > self.delayed_bytes_max {
            io.metrics.dropped(Cause::Full, 1);
        } else {
            self.order += 1;
            self.delayed_bytes += memory_bytes(io.payload);
            let delayed = Delayed {
                at: io.now + hold,
                order: self.order,
                to: io.from,
                bytes: io.payload.to_vec(),
            };
            self.delayed.push(Reverse(delayed));
        }
    }
}

impl DatagramService for UdpPing {
    fn receive(&mut self, io: &mut DatagramIo<'_>) {
        if self.draw(self.loss) {
            io.metrics.dropped(Cause::Loss, 1);
            return;
        }
        ping::answer_in_place(io.payload);
        if self.draw(self.corrupt) {
            self.damage(io.payload);
        }
        self.answer(io);
        if self.draw(self.duplicate) {
            self.answer(io);
        }
    }

    fn advance(
        &mut self,
        out: &mut Outbox,
        now: Instant,
        _metrics: &mut ListenerMetrics,
        work: &mut Work,
    ) {
        while let Some(Reverse(first)) = self.delayed.peek()
            && first.at <= now
            && !work.is_spent()
        {
            work.charge(work::DATAGRAM_NS);
            out.send(first.to, &first.bytes);
            self.delayed_bytes -= memory_bytes(&first.bytes);
            self.delayed.pop();
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.delayed.peek().map(|Reverse(first)| first.at)
    }
}

/// The generator of Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014):
/// small, seedable, and good enough to lose datagrams. Not for secrets.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics() -> ListenerMetrics {
        ListenerMetrics::new("ping", "udp-ping", String::new(), UdpPing::counts())
    }

    fn receive(
        ping: &mut UdpPing,
        payload: &[u8],
        now: Instant,
        out: &mut Outbox,
        metrics: &mut ListenerMetrics,
    ) {
        ping.receive(&mut DatagramIo {
            work: &mut Work::new(Duration::MAX),
            now,
            wall: std::time::SystemTime::UNIX_EPOCH,
            from: ([192, 0, 2, 1], 40_000).into(),
            payload: &mut payload.to_vec(),
            out,
            metrics,
            slot: 0,
        });
    }

    #[test]
    fn answers_that_wait_have_a_limit_in_memory_that_empty_ones_reach_too() {
        for payload in [&[][..], &[b'x'; 1000]] {
            const ANSWERS_MAX: usize = 100;
            let config = UdpPingConfig {
                loss: Fraction::ZERO,
                delay: Duration::from_secs(60),
                delayed_bytes_max: ANSWERS_MAX * memory_bytes(payload),
                ..UdpPingConfig::default()
            };
            let mut ping = UdpPing::new(&config, 1);
            let (mut out, mut metrics) = (Outbox::default(), metrics());
            let now = Instant::now();
            let mut send = |ping: &mut UdpPing, count| {
                for _ in 0..count {
                    receive(ping, payload, now, &mut out, &mut metrics);
                }
                let datagrams = metrics.of.datagrams().expect("it has datagrams");
                datagrams.dropped[Cause::Full as usize]
            };
            assert_eq!(send(&mut ping, ANSWERS_MAX + 7), 7);
            let mut answers = Outbox::default();
            // No more at once than a share of work allows.
            for (share, answered) in [(Duration::from_nanos(1), 1), (Duration::MAX, ANSWERS_MAX)] {
                let (due, mut work) = (now + config.delay, Work::new(share));
                ping.advance(&mut answers, due, &mut self::metrics(), &mut work);
                assert_eq!(answers.replies.len(), answered);
            }
            // Those that left made room.
            assert_eq!(send(&mut ping, ANSWERS_MAX), 7);
        }
    }

    #[test]
    fn a_reordered_answer_is_held_back_as_long_as_configured() {
        let config = UdpPingConfig {
            loss: Fraction::ZERO,
            reorder: Fraction::ONE,
            delay: Duration::from_secs(1),
            reorder_hold: Duration::from_millis(5),
            ..UdpPingConfig::default()
        };
        let mut ping = UdpPing::new(&config, 1);
        let (mut out, mut metrics) = (Outbox::default(), metrics());
        let now = Instant::now();
        receive(&mut ping, b"x", now, &mut out, &mut metrics);
        assert_eq!(ping.deadline(), Some(now + Duration::from_millis(1005)));
    }
}
