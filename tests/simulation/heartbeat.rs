//! Heartbeats: nobody gets an answer, and whoever is silent for long enough is dead.

use std::net::SocketAddr;
use std::time::Duration;

use netlab_reactor::config::{Kind, ListenerConfig, UdpHeartbeatConfig};
use netlab_reactor::sys::Bind;
use netlab_reactor::sys::sim::Sim;
use netlab_reactor::sys::sim::actor::{Actor, Hands};

use netlab_reactor::hooks::Hook;

use crate::driver::{ProcessEnd, Scenario, Setting};

#[derive(Default)]
pub(crate) struct Heartbeats;

impl Scenario for Heartbeats {
    fn listeners(&mut self, setting: &mut Setting<'_>) -> Vec<ListenerConfig> {
        let config = UdpHeartbeatConfig {
            timeout: Duration::from_millis(setting.rng.between(100, 3000) as u64),
            senders_max: setting.rng.sized(10),
            on_change: setting.later.coin().then(|| Hook {
                event: "on_change",
                command: ["/bin/tell".to_owned()].into(),
            }),
            ..UdpHeartbeatConfig::default()
        };
        vec![setting.listener("heartbeat", 12001, Kind::UdpHeartbeat(config))]
    }

    fn cast(&mut self, sim: &mut Sim, setting: &mut Setting<'_>, bound: &[Bind]) {
        let Bind::Inet(to) = bound[0] else {
            panic!("datagrams go to addresses")
        };
        for _ in 0..setting.rng.sized(8) {
            let beats = setting.rng.sized(50);
            let after = setting.rng.span(Duration::from_secs(2));
            sim.enter(
                Heart {
                    to,
                    socket: None,
                    left: beats,
                    seq: 0,
                    next_at: Duration::ZERO,
                    answered: false,
                },
                after,
            );
        }
    }

    fn check(&self, sim: &mut Sim, _ended: ProcessEnd) -> Result<(), String> {
        for program in &sim.programs().begun {
            let of = |name: &str| {
                let mut all = program.environment.iter();
                let (_, value) = all.find(|(variable, _)| *variable == name)?;
                value.to_str()
            };
            let is_change = |change| ["new", "late", "dead", "back"].contains(&change);
            let is_sender = |sender: &str| sender.parse::<SocketAddr>().is_ok();
            if !of("NETLAB_CHANGE").is_some_and(is_change)
                || !of("NETLAB_SENDER").is_some_and(is_sender)
                || of("NETLAB_LISTENER") != Some("heartbeat")
                || of("NETLAB_EVENT") != Some("on_change")
            {
                return Err(format!("a command was told nonsense: {program:?}"));
            }
        }
        Ok(())
    }
}

struct Heart {
    to: SocketAddr,
    socket: Option<usize>,
    left: usize,
    seq: u64,
    next_at: Duration,
    answered: bool,
}

impl Actor for Heart {
    fn act(&mut self, hands: &mut Hands<'_>) {
        let socket = *self.socket.get_or_insert_with(|| {
            hands
                .bind(SocketAddr::from(([127, 0, 0, 1], 0)))
                .expect("a free port")
        });
        self.answered |= hands.receive_from(socket).is_some();
        if self.left == 0 || hands.now() < self.next_at {
            return;
        }
        self.left -= 1;
        self.seq += 1 + hands.rng().below(3) as u64 / 2;
        let beat = format!("Heartbeat {} {}", self.seq, hands.wall().as_secs_f64());
        let beat = if hands.rng().chance(50) {
            hands.rng().bytes(40)
        } else {
            beat.into_bytes()
        };
        hands.send_to(socket, self.to, &beat);
        let pause = hands.rng().span(Duration::from_secs(4));
        self.next_at = hands.now() + pause;
        hands.wake_in(pause);
    }

    fn is_done(&self) -> bool {
        self.left == 0
    }

    fn verdict(&self) -> Result<(), String> {
        match self.answered {
            true => Err("a heartbeat was answered".to_owned()),
            false => Ok(()),
        }
    }
}
