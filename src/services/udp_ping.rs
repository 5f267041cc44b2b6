//! The UDP pinger's server: each datagram comes back in ASCII upper case, over a simulated bad
//! network, which is [`Impairments`]' business. The answer is never longer than the question.

use std::time::Instant;

use super::impair::{Departure, Fate, Hold, Impairments};
use crate::config::UdpPingConfig;
use crate::metrics::{Impairment, ListenerMetrics, Of, PingMetrics};
use crate::service::datagram::{DatagramIo, DatagramService, Outbox};
use crate::service::work::{self, Work};
use crate::wire::ping;

/// The ping service.
pub struct UdpPing {
    network: Impairments,
}

impl UdpPing {
    /// A service as configured. `seed` is used where the configuration has none.
    pub fn new(config: &UdpPingConfig, seed: u64) -> Self {
        Self {
            network: Impairments::new(config, seed),
        }
    }

    #[inline]
    fn answer(&mut self, hold: Hold, io: &mut DatagramIo<'_>) {
        if hold.is_reordered {
            io.metrics.impaired(Impairment::Reordered);
        }
        match self.network.depart(hold, io.from, io.payload, io.now) {
            Departure::Now => io.echo(),
            Departure::Later => io.metrics.impaired(Impairment::Delayed),
            Departure::Dropped(cause) => io.metrics.dropped(cause, 1),
        }
    }
}

impl DatagramService for UdpPing {
    fn counts() -> Of {
        Of::Ping(PingMetrics::default())
    }

    fn waiting(&self) -> usize {
        self.network.waiting()
    }

    fn receive(&mut self, io: &mut DatagramIo<'_>) {
        let (flipped_bit, first, second) = match self.network.draw(io.payload.len()) {
            Fate::Lost(cause) => return io.metrics.dropped(cause, 1),
            Fate::Answered {
                flipped_bit,
                first,
                second,
            } => (flipped_bit, first, second),
        };
        ping::answer_in_place(io.payload);
        if let Some(bit) = flipped_bit {
            io.payload[bit / 8] ^= 1 << (bit % 8);
            io.metrics.impaired(Impairment::Corrupted);
        }
        self.answer(first, io);
        if let Some(second) = second {
            io.metrics.impaired(Impairment::Duplicated);
            self.answer(second, io);
        }
    }

    fn advance(
        &mut self,
        out: &mut Outbox,
        now: Instant,
        _metrics: &mut ListenerMetrics,
        work: &mut Work,
    ) {
        while !work.is_spent()
            && let Some((to, bytes)) = self.network.next(now)
        {
            work.charge(work::DATAGRAM_NS);
            out.send(to, &bytes);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.network.deadline()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Fraction;
    use crate::metrics::Cause;
    use crate::services::impair::memory_bytes;
    use std::time::Duration;

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
            offset: 0,
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
                assert_eq!(answers.sum().0, answered);
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
