//! UDP echo and ping: each question is answered at most once, with its own upper case, and where
//! nothing is lost each is.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::time::Duration;

use netlab_reactor::config::{Fraction, Kind, ListenerConfig, UdpEchoConfig, UdpPingConfig};
use netlab_reactor::sys::Bind;
use netlab_reactor::sys::sim::Sim;
use netlab_reactor::sys::sim::actor::{Actor, Hands};
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
            let asker = Asker {
                to,
                socket: None,
                asked: 0,
                answers: vec![0; questions],
                wrong: None,
                copies_max: twice
                    * match setting.faults.is_enabled(Fault::DatagramDuplicated) {
                        true => 4,
                        false => 1,
                    },
                // A burst of one client each fits into the socket's queue; those of several may
                // not.
                must_answer: !ping
                    && !unreliable
                        .iter()
                        .any(|&fault| setting.faults.is_enabled(fault)),
                until: None,
                excused: false,
                done: false,
            };
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

/// A client with numbered questions.
struct Asker {
    to: SocketAddr,
    socket: Option<usize>,
    asked: usize,
    /// How often each was answered.
    answers: Vec<u32>,
    wrong: Option<String>,
    copies_max: u32,
    must_answer: bool,
    until: Option<Duration>,
    excused: bool,
    done: bool,
}

impl Asker {
    fn hear(&mut self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let number = text
            .strip_prefix("PING ")
            .and_then(|rest| rest.strip_suffix(" NOW"));
        let number = number.and_then(|number| number.parse::<usize>().ok());
        match number.and_then(|number| self.answers.get_mut(number)) {
            Some(count) => *count += 1,
            None => self.wrong = Some(text),
        }
    }
}

impl Actor for Asker {
    fn act(&mut self, hands: &mut Hands<'_>) {
        self.excused |= hands.is_draining() && !self.done;
        let socket = *self.socket.get_or_insert_with(|| {
            hands
                .bind(SocketAddr::from(([127, 0, 0, 1], 0)))
                .expect("a free port")
        });
        while let Some((from, bytes)) = hands.receive_from(socket) {
            if from != self.to {
                self.wrong = Some(format!("an answer from {from}"));
            }
            self.hear(&bytes);
        }
        if self.asked < self.answers.len() {
            let burst = hands.rng().sized(40).min(self.answers.len() - self.asked);
            for _ in 0..burst {
                let question = format!("Ping {} now", self.asked);
                hands.send_to(socket, self.to, question.as_bytes());
                self.asked += 1;
            }
            let pause = hands.rng().span(Duration::from_millis(100));
            hands.wake_in(pause);
        } else if self.until.is_none() {
            self.until = Some(hands.now() + Duration::from_secs(5));
            hands.wake_in(Duration::from_secs(5));
        }
        self.done |= self.until.is_some_and(|until| hands.now() >= until);
    }

    fn is_done(&self) -> bool {
        self.done
    }

    fn verdict(&self) -> Result<(), String> {
        if let Some(wrong) = &self.wrong {
            return Err(format!("asker of {}: {wrong:?} is no answer", self.to));
        }
        if let Some(number) = self
            .answers
            .iter()
            .position(|&count| count > self.copies_max)
        {
            let count = self.answers[number];
            return Err(format!(
                "asker of {}: question {number} was answered {count} times",
                self.to
            ));
        }
        let missing = self.answers.iter().filter(|&&count| count == 0).count();
        if self.must_answer && !self.excused && missing > 0 {
            let asked = self.asked;
            return Err(format!(
                "asker of {}: {missing} of {asked} questions were not answered",
                self.to
            ));
        }
        Ok(())
    }
}
