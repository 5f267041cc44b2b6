//! A bad network, on purpose: what becomes of each datagram that is answered, repeatable by a seed.
//!
//! ```text
//! question ─▶ lost? ─▶ answer ─▶ damaged? ─▶ once or twice ─▶ the line: `rate`, a queue of bytes
//!                                                          ─▶ held back: `delay`, `jitter`, `reorder`
//! ```
//!
//! Everything that is left to chance is drawn by [`Impairments::draw`], from one generator, in the
//! order of arrival, and for each datagram in this order:
//! 1. whether a burst of losses begins, or, in one, whether it ends;
//! 2. whether it is lost: by `burst_loss` in a burst, else by `loss`; of a lost one nothing more is
//!    drawn;
//! 3. whether it is damaged, then which bit, of one that is not empty;
//! 4. how much jitter the answer has, then whether it is held back so that others overtake it;
//! 5. whether there is a second answer, then the two of 4 for that one.
//!
//! What never happens (a share or a jitter of 0) is not drawn, so a seed means the same losses
//! whatever else is switched off. With one seed and the same datagrams in the same order, so much
//! happens to the same ones in every run; the moments at which they leave depend on those at which
//! they came.
//!
//! Bursts are the model of Gilbert (1960) and Elliott (1963): two states, and of each datagram in
//! the bad one the share `burst_loss` is lost. In the long run the bad state has the share
//! `burst_start / (burst_start + burst_end)` of the datagrams, and lasts `1 / burst_end` of them.
//!
//! The line is one that takes `rate` bytes a second, IP and UDP headers included. What does not fit
//! into its queue is dropped. All that waits, for whatever reason, is bounded in memory.
//!
//! Not here: what an answer is, and the counting.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use crate::config::{Fraction, UdpPingConfig};
use crate::metrics::Cause;

/// Bytes of the headers of IPv4 and UDP, which the line carries too: so an empty datagram takes its
/// time and its place as well.
pub(super) const HEADER_BYTES: usize = 28;

/// What is left to chance for one datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is lost: [`Cause::Loss`], or [`Cause::Burst`] in a burst.
    Lost(Cause),
    /// It is answered.
    Answered {
        /// The bit of the answer that is flipped.
        flipped_bit: Option<usize>,
        /// The answer.
        first: Hold,
        /// A second one.
        second: Option<Hold>,
    },
}

/// How long one answer is held back behind the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Hold {
    /// `delay`, jitter, and `reorder_hold` if that is so.
    pub(super) time: Duration,
    /// It is held back so that others overtake it.
    pub(super) is_reordered: bool,
}

/// When an answer leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Departure {
    /// At once.
    Now,
    /// It waits; [`Impairments::next`] gives it back when its moment has come.
    Later,
    /// It does not: [`Cause::Queue`] for want of room in the queue of the line, [`Cause::Full`] in
    /// memory.
    Dropped(Cause),
}

/// A bad network.
pub(super) struct Impairments {
    config: Config,
    /// Nothing is impaired: nothing needs to be drawn.
    is_idle: bool,
    random: SplitMix,
    is_in_burst: bool,
    /// When the line has sent everything that waits for it.
    line_free_at: Option<Instant>,
    waiting: BinaryHeap<Reverse<Waiting>>,
    /// What they take in memory.
    waiting_bytes: usize,
    /// Counts them, so that those of one moment leave in order.
    order: u64,
}

/// What the network is like.
#[derive(Debug, Clone, Copy)]
struct Config {
    loss: Fraction,
    burst_start: Fraction,
    burst_end: Fraction,
    burst_loss: Fraction,
    duplicate: Fraction,
    reorder: Fraction,
    corrupt: Fraction,
    delay: Duration,
    jitter: Duration,
    reorder_hold: Duration,
    rate: Option<NonZeroU64>,
    rate_queue_bytes_max: usize,
    waiting_bytes_max: usize,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    at: Instant,
    order: u64,
    to: SocketAddr,
    bytes: Vec<u8>,
}

/// What an answer takes while it waits: an empty one is not for nothing.
pub(super) fn memory_bytes(payload: &[u8]) -> usize {
    size_of::<Waiting>() + payload.len()
}

impl Impairments {
    /// A network as configured. `seed` is used where the configuration has none.
    pub(super) fn new(config: &UdpPingConfig, seed: u64) -> Self {
        let shares = [
            config.loss,
            config.burst_start,
            config.duplicate,
            config.reorder,
            config.corrupt,
        ];
        let is_late = !config.delay.is_zero() || !config.jitter.is_zero();
        Self {
            config: Config {
                loss: config.loss,
                burst_start: config.burst_start,
                burst_end: config.burst_end,
                burst_loss: config.burst_loss,
                duplicate: config.duplicate,
                reorder: config.reorder,
                corrupt: config.corrupt,
                delay: config.delay,
                jitter: config.jitter,
                reorder_hold: config.reorder_hold,
                rate: config.rate,
                rate_queue_bytes_max: config.rate_queue_bytes_max,
                waiting_bytes_max: config.delayed_bytes_max,
            },
            is_idle: shares.iter().all(|share| share.is_zero())
                && !is_late
                && config.rate.is_none(),
            random: SplitMix(config.seed.unwrap_or(seed)),
            is_in_burst: false,
            line_free_at: None,
            waiting: BinaryHeap::new(),
            waiting_bytes: 0,
            order: 0,
        }
    }

    /// What becomes of the next datagram, whose answer has so many bytes.
    #[inline]
    pub(super) fn draw(&mut self, bytes: usize) -> Fate {
        if self.is_idle {
            return Fate::Answered {
                flipped_bit: None,
                first: Hold::default(),
                second: None,
            };
        }
        self.draw_all(bytes)
    }

    fn draw_all(&mut self, bytes: usize) -> Fate {
        let config = self.config;
        self.is_in_burst = match self.is_in_burst {
            true => !self.hits(config.burst_end),
            false => self.hits(config.burst_start),
        };
        let (loss, cause) = match self.is_in_burst {
            true => (config.burst_loss, Cause::Burst),
            false => (config.loss, Cause::Loss),
        };
        if self.hits(loss) {
            return Fate::Lost(cause);
        }
        let is_damaged = self.hits(config.corrupt) && bytes > 0;
        let flipped_bit = is_damaged.then(|| self.random.next() as usize % (bytes * 8));
        let first = self.hold();
        let second = self.hits(config.duplicate).then(|| self.hold());
        Fate::Answered {
            flipped_bit,
            first,
            second,
        }
    }

    /// Whether what happens to this share of the datagrams happens to this one.
    fn hits(&mut self, share: Fraction) -> bool {
        !share.is_zero() && share.hits(self.random.next())
    }

    fn hold(&mut self) -> Hold {
        let mut time = self.config.delay;
        if !self.config.jitter.is_zero() {
            let nanos = u64::try_from(self.config.jitter.as_nanos()).unwrap_or(u64::MAX);
            time += Duration::from_nanos(self.random.next() % nanos);
        }
        let is_reordered = self.hits(self.config.reorder);
        if is_reordered {
            time += self.config.reorder_hold;
        }
        Hold { time, is_reordered }
    }

    /// Puts an answer on the line. What leaves at once is the caller's to send.
    #[inline]
    pub(super) fn depart(
        &mut self,
        hold: Hold,
        to: SocketAddr,
        bytes: &[u8],
        now: Instant,
    ) -> Departure {
        if self.is_idle {
            return Departure::Now;
        }
        let Some(carried_at) = self.carried_at(bytes.len(), now) else {
            return Departure::Dropped(Cause::Queue);
        };
        let at = carried_at + hold.time;
        if at <= now {
            return Departure::Now;
        }
        if self.waiting_bytes + memory_bytes(bytes) > self.config.waiting_bytes_max {
            return Departure::Dropped(Cause::Full);
        }
        if self.config.rate.is_some() {
            self.line_free_at = Some(carried_at);
        }
        self.order += 1;
        self.waiting_bytes += memory_bytes(bytes);
        self.waiting.push(Reverse(Waiting {
            at,
            order: self.order,
            to,
            bytes: bytes.to_vec(),
        }));
        Departure::Later
    }

    /// When the line would have carried an answer of so many bytes; `None` if there is no room for
    /// it in its queue. One that finds the line free needs no room.
    fn carried_at(&self, bytes: usize, now: Instant) -> Option<Instant> {
        const SECOND_NS: u128 = 1_000_000_000;
        let Some(rate) = self.config.rate else {
            return Some(now);
        };
        let (rate, bytes) = (u128::from(rate.get()), (bytes + HEADER_BYTES) as u128);
        let begins = self.line_free_at.map_or(now, |at| at.max(now));
        let queued = (begins - now).as_nanos() * rate / SECOND_NS;
        if queued > 0 && queued + bytes > self.config.rate_queue_bytes_max as u128 {
            return None;
        }
        let takes = (bytes * SECOND_NS).div_ceil(rate);
        Some(begins + Duration::from_nanos(u64::try_from(takes).unwrap_or(u64::MAX)))
    }

    /// When the next answer leaves that waits.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.waiting.peek().map(|Reverse(first)| first.at)
    }

    /// The next answer whose moment has come.
    pub(super) fn next(&mut self, now: Instant) -> Option<(SocketAddr, Vec<u8>)> {
        self.deadline().filter(|at| *at <= now)?;
        let Reverse(first) = self.waiting.pop()?;
        self.waiting_bytes -= memory_bytes(&first.bytes);
        Some((first.to, first.bytes))
    }

    /// How many answers wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
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
    use proptest::prelude::*;

    const PEER: SocketAddr = SocketAddr::new(
        std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)),
        40_000,
    );

    fn share(times: u64, of: u64) -> Fraction {
        Fraction::new(times, of).expect("a share")
    }

    /// A network in which nothing goes wrong but what `change` says.
    fn network(change: impl FnOnce(&mut UdpPingConfig)) -> Impairments {
        let mut config = UdpPingConfig {
            loss: Fraction::ZERO,
            seed: Some(1),
            ..UdpPingConfig::default()
        };
        change(&mut config);
        Impairments::new(&config, 0)
    }

    /// The share of a hundred thousand datagrams with which that happens.
    fn share_of(network: &mut Impairments, mut happens: impl FnMut(&Fate) -> bool) -> f64 {
        const DRAWS: usize = 100_000;
        let hits = (0..DRAWS).filter(|_| happens(&network.draw(100)));
        hits.count() as f64 / DRAWS as f64
    }

    #[track_caller]
    fn is_near(share: f64, expected: f64) {
        assert!((share - expected).abs() < 0.006, "{share}, not {expected}");
    }

    #[test]
    fn shares_are_as_configured() {
        let is_lost = |fate: &Fate| matches!(fate, Fate::Lost(Cause::Loss));
        let mut lossy = network(|c| c.loss = share(4, 11));
        is_near(share_of(&mut lossy, is_lost), 4.0 / 11.0);
        let mut twice = network(|c| c.duplicate = share(1, 5));
        let is_twice = |fate: &Fate| {
            matches!(
                fate,
                Fate::Answered {
                    second: Some(_),
                    ..
                }
            )
        };
        is_near(share_of(&mut twice, is_twice), 0.2);
        let mut damaging = network(|c| c.corrupt = share(1, 3));
        let mut bits = [0; 8];
        let is_damaged = |fate: &Fate| match fate {
            Fate::Answered {
                flipped_bit: Some(bit),
                ..
            } => {
                assert!(*bit < 800);
                bits[bit % 8] += 1;
                true
            }
            _ => false,
        };
        is_near(share_of(&mut damaging, is_damaged), 1.0 / 3.0);
        assert!(
            bits.iter().all(|count| (3700..4600).contains(count)),
            "{bits:?}"
        );
        let mut reordering = network(|c| c.reorder = share(1, 10));
        let is_reordered =
            |fate: &Fate| matches!(fate, Fate::Answered { first, .. } if first.is_reordered);
        is_near(share_of(&mut reordering, is_reordered), 0.1);
    }

    #[test]
    fn jitter_is_uniform() {
        let mut network = network(|c| {
            c.delay = Duration::from_millis(10);
            c.jitter = Duration::from_millis(4);
        });
        let mut quarters = [0; 4];
        let mut look = |fate: &Fate| {
            let Fate::Answered { first, .. } = fate else {
                return false;
            };
            let over = first.time.as_nanos() - 10_000_000;
            quarters[over as usize / 1_000_000] += 1;
            true
        };
        is_near(share_of(&mut network, &mut look), 1.0);
        assert!(
            quarters
                .iter()
                .all(|count| (24_500..25_500).contains(count)),
            "{quarters:?}"
        );
    }

    #[test]
    fn bursts_are_as_many_and_as_long_as_configured() {
        let mut network = network(|c| {
            (c.burst_start, c.burst_end, c.burst_loss) = (share(1, 50), share(1, 5), share(9, 10));
            c.loss = share(1, 100);
        });
        let (mut lost_in_burst, mut lost_else) = (0_u32, 0_u32);
        let (mut bursts, mut bad) = (0_u32, 0_u32);
        for _ in 0..200_000 {
            let before = network.is_in_burst;
            match network.draw(64) {
                Fate::Lost(Cause::Burst) => lost_in_burst += 1,
                Fate::Lost(_) => lost_else += 1,
                Fate::Answered { .. } => {}
            }
            bursts += u32::from(!before && network.is_in_burst);
            bad += u32::from(network.is_in_burst);
        }
        let of = |count: u32, all: u32| f64::from(count) / f64::from(all);
        is_near(of(bad, 200_000), 0.02 / (0.02 + 0.2));
        assert!((of(bad, bursts) - 5.0).abs() < 0.2, "{}", of(bad, bursts));
        is_near(of(lost_in_burst, bad), 0.9);
        is_near(of(lost_else, 200_000 - bad), 0.01);
    }

    /// The order of the draws is a promise: here it is once more, by hand.
    #[test]
    fn what_is_drawn_is_drawn_in_the_documented_order() {
        let config = |c: &mut UdpPingConfig| {
            (c.burst_start, c.burst_end, c.burst_loss) = (share(1, 10), share(1, 2), share(1, 2));
            (c.loss, c.corrupt) = (share(1, 8), share(1, 4));
            (c.duplicate, c.reorder) = (share(1, 3), share(1, 5));
            c.jitter = Duration::from_nanos(1000);
            c.reorder_hold = Duration::from_secs(1);
        };
        let (mut network, mut random, mut bad) = (network(config), SplitMix(1), false);
        for _ in 0..10_000 {
            let fate = network.draw(10);
            let bad_before = bad;
            bad = match bad_before {
                false => share(1, 10).hits(random.next()),
                true => !share(1, 2).hits(random.next()),
            };
            let loss = if bad { share(1, 2) } else { share(1, 8) };
            if loss.hits(random.next()) {
                let cause = if bad { Cause::Burst } else { Cause::Loss };
                assert_eq!(fate, Fate::Lost(cause));
                continue;
            }
            let is_damaged = share(1, 4).hits(random.next());
            let flipped_bit = is_damaged.then(|| random.next() as usize % 80);
            let mut hold = || {
                let jitter = Duration::from_nanos(random.next() % 1000);
                let is_reordered = share(1, 5).hits(random.next());
                let time = jitter + Duration::from_secs(is_reordered.into());
                Hold { time, is_reordered }
            };
            let first = hold();
            let second = share(1, 3).hits(random.next()).then(|| Hold {
                time: Duration::from_nanos(random.next() % 1000),
                is_reordered: share(1, 5).hits(random.next()),
            });
            let second = second.map(|hold| Hold {
                time: hold.time + Duration::from_secs(hold.is_reordered.into()),
                ..hold
            });
            assert_eq!(
                fate,
                Fate::Answered {
                    flipped_bit,
                    first,
                    second
                }
            );
        }
    }

    #[test]
    fn what_is_off_changes_nothing_about_the_rest() {
        let lossy = |c: &mut UdpPingConfig| c.loss = share(1, 3);
        let mut alone = network(lossy);
        let mut beside = network(|c| {
            lossy(c);
            c.delay = Duration::from_secs(1);
            c.rate = NonZeroU64::new(1000);
        });
        for _ in 0..1000 {
            let is_lost = |fate| matches!(fate, Fate::Lost(_));
            assert_eq!(is_lost(alone.draw(9)), is_lost(beside.draw(9)));
        }
    }

    #[test]
    fn a_line_takes_its_rate_and_drops_what_its_queue_does_not_hold() {
        let mut network = network(|c| {
            c.rate = NonZeroU64::new(1000);
            c.rate_queue_bytes_max = 300;
        });
        let start = Instant::now();
        let bytes = [0; 100 - HEADER_BYTES];
        let mut send = |now| network.depart(Hold::default(), PEER, &bytes, now);
        // One on the line and two behind it are 300 bytes.
        let departures = [(); 5].map(|()| send(start));
        let [later, dropped] = [Departure::Later, Departure::Dropped(Cause::Queue)];
        assert_eq!(departures, [later, later, later, dropped, dropped]);
        // A tenth of a second later one has left, and there is room for another.
        let later_on = start + Duration::from_millis(100);
        assert_eq!([send(later_on), send(later_on)], [later, dropped]);
        for tenths in 1..=4 {
            let at = start + Duration::from_millis(100 * tenths);
            assert_eq!(network.deadline(), Some(at));
            assert!(network.next(at - Duration::from_nanos(1)).is_none());
            assert!(network.next(at).is_some());
        }
        assert_eq!((network.waiting(), network.waiting_bytes), (0, 0));
        // What is longer than the whole queue passes a free line.
        let long = [0; 1000];
        let much_later = start + Duration::from_secs(60);
        assert_eq!(
            network.depart(Hold::default(), PEER, &long, much_later),
            later
        );
    }

    proptest! {
        /// Whatever the network is like and whenever datagrams come: each copy leaves once, is
        /// dropped, or waits; what waits is bounded; what left waited as long as it was to; and the
        /// line carried no more than its rate.
        #[test]
        fn every_answer_is_accounted_for_within_the_bounds(
            seed in any::<u64>(),
            shares in proptest::array::uniform5(0_u64..=10),
            delays_us in proptest::array::uniform2(0_u64..5_000),
            rate in proptest::option::of(1_u64..2_000_000),
            memory in 0_usize..20_000,
            datagrams in proptest::collection::vec((0_u64..3_000, 0_usize..1500), 1..200),
        ) {
            let mut network = network(|c| {
                c.seed = Some(seed);
                [c.loss, c.duplicate, c.reorder, c.corrupt, c.burst_start] = shares.map(|n| share(n, 10));
                [c.delay, c.jitter] = delays_us.map(Duration::from_micros);
                c.rate = rate.and_then(NonZeroU64::new);
                c.rate_queue_bytes_max = 4000;
                c.delayed_bytes_max = memory;
            });
            let start = Instant::now();
            let (mut now, mut copies, mut gone, mut carried) = (start, 0, 0, 0);
            for (pause_us, len) in datagrams {
                now += Duration::from_micros(pause_us);
                while let Some((_, bytes)) = network.next(now) {
                    gone += 1;
                    carried += bytes.len() + HEADER_BYTES;
                }
                prop_assert!(network.deadline().is_none_or(|at| at > now));
                let Fate::Answered { first, second, .. } = network.draw(len) else { continue };
                for hold in [Some(first), second].into_iter().flatten() {
                    copies += 1;
                    match network.depart(hold, PEER, &vec![0; len], now) {
                        Departure::Later => prop_assert!(rate.is_some() || !hold.time.is_zero()),
                        Departure::Now => {
                            prop_assert!(rate.is_none() && hold.time.is_zero());
                            gone += 1;
                        }
                        Departure::Dropped(cause) => {
                            prop_assert!(matches!(cause, Cause::Queue | Cause::Full));
                            gone += 1;
                        }
                    }
                    prop_assert!(network.waiting_bytes <= memory);
                }
                if let Some(rate) = rate {
                    let span = (now - start).as_secs_f64();
                    prop_assert!(carried as f64 <= span * rate as f64 + 1.0);
                }
            }
            prop_assert_eq!(copies, gone + network.waiting());
        }
    }
}
