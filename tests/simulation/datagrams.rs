//! UDP echo and ping: each question is answered at most once, with its own upper case, and where
//! nothing is lost each is.

use std::num::NonZeroU64;
use std::time::Duration;

use netlab_reactor::config::{Fraction, Kind, ListenerConfig, UdpEchoConfig, UdpPingConfig};
use netlab_reactor::sys::Bind;
use netlab_reactor::sys::sim::Sim;
use netlab_reactor::sys::sim::asker::Asker;
use netlab_reactor::sys::sim::faults::Fault;
use netlab_reactor::sys::sim::rng::Rng;

use crate::driver::{Scenario, Setting};

pub(crate) struct Datagrams;

impl Scenario for Datagrams {
    fn listeners(&mut self, setting: &mut Setting<'_>) -> Vec<ListenerConfig> {
        let ping = UdpPingConfig {
            loss: *setting
                .rng
                .pick(&[Fraction::ZERO, Fraction::ZERO, Fraction::ONE]),
            delay: Duration::from_millis(setting.rng.below(200) as u64),
            jitter: Duration::from_millis(setting.rng.below(50) as u64),
            ..bad_network(&mut setting.later)
        };
        vec![
            setting.listener("echo", 12002, Kind::UdpEcho(UdpEchoConfig::default())),
            setting.listener("ping", 12000, Kind::UdpPing(ping)),
        ]
    }

    fn cast(&mut self, sim: &mut Sim, setting: &mut Setting<'_>, bound: &[Bind]) {
        for _ in 0..setting.rng.sized(4) {
            let ping = setting.rng.coin();
            let Bind::Inet(to) = bound[usize::from(ping)] else {
                panic!("datagrams go to addresses");
            };
            let questions = setting.rng.sized(200);
            let after = setting.rng.span(Duration::from_secs(2));
            let unreliable = [
                Fault::DatagramLost,
                Fault::DatagramSendBlocked,
                Fault::DatagramSocketKilled,
                Fault::DatagramSocketBreaks,
            ];
            let Kind::UdpPing(network) = setting.config_of("ping") else {
                panic!("it pings");
            };
            let twice = if network.duplicate.is_zero() { 1 } else { 2 };
            let mut asker = Asker::new(to, questions);
            asker.copies_max = twice
                * match setting.faults.is_enabled(Fault::DatagramDuplicated) {
                    true => 4,
                    false => 1,
                };
            // A burst of one client each fits into the socket's queue; those of several may not.
            asker.must_answer = !ping
                && !unreliable
                    .iter()
                    .any(|&fault| setting.faults.is_enabled(fault));
            sim.enter(asker, after);
        }
    }
}

/// What else may befall the answers.
fn bad_network(rng: &mut Rng) -> UdpPingConfig {
    let mut share = |permille: u32| match rng.chance(permille) {
        true => Fraction::new(rng.between(1, 50) as u64, 100).expect("a share"),
        false => Fraction::ZERO,
    };
    UdpPingConfig {
        duplicate: share(300),
        reorder: share(300),
        burst_start: share(300),
        rate: NonZeroU64::new(if rng.chance(300) { 5000 } else { 0 }),
        rate_queue_bytes_max: rng.between(0, 2000),
        delayed_bytes_max: if rng.chance(300) { 2000 } else { 1 << 20 },
        ..UdpPingConfig::default()
    }
}
