//! Who may come and who may not: peers of several addresses, over connections and with datagrams.
//! One that is denied is never served, whatever it says and whenever; one that is beyond a limit
//! may be, or is closed.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use netlab_reactor::config::{
    AccessConfig, DatagramConfig, Kind, ListenerConfig, StreamConfig, TcpEchoConfig, UdpEchoConfig,
};
use netlab_reactor::sys::Bind;
use netlab_reactor::sys::sim::Sim;
use netlab_reactor::sys::sim::actor::{Actor, Hands};
use netlab_reactor::sys::sim::talker::{Ending, Script, Talker};

use crate::driver::{Scenario, Setting};
use crate::echo;

#[derive(Default)]
pub(crate) struct Gated {
    access: AccessConfig,
    /// Some of those who may come are beyond a limit.
    limited: bool,
}

const PORT: u16 = 12007;

/// Those who may come, whatever the lists are, and those who may not.
const WELCOME: [[u8; 4]; 3] = [[192, 0, 2, 1], [192, 0, 2, 2], [127, 0, 0, 1]];
const DENIED: [[u8; 4]; 3] = [[10, 0, 0, 1], [10, 255, 3, 4], [192, 0, 2, 66]];

impl Scenario for Gated {
    fn listeners(&mut self, setting: &mut Setting<'_>) -> Vec<ListenerConfig> {
        let ranges = |texts: &[&str]| -> Vec<_> {
            let ranges = texts.iter().map(|text| text.parse().expect("a range"));
            ranges.collect()
        };
        self.access = match setting.rng.coin() {
            true => AccessConfig {
                allow: None,
                deny: ranges(&["10.0.0.0/8", "192.0.2.66/32"]),
            },
            false => AccessConfig {
                allow: Some(ranges(&["192.0.2.0/24", "127.0.0.0/8"])),
                deny: ranges(&["192.0.2.64/26"]),
            },
        };
        self.limited = setting.rng.coin();
        let few = |rng: &mut netlab_reactor::sys::sim::rng::Rng| {
            NonZeroU32::new(rng.between(1, 3) as u32)
        };
        let mut stream = StreamConfig {
            access: self.access.clone(),
            ..StreamConfig::default()
        };
        if self.limited {
            stream.connections_per_address_max = few(setting.rng);
            stream.accept_rate_max = few(setting.rng);
        }
        let streams = Kind::TcpEcho(TcpEchoConfig {
            stream,
            ..TcpEchoConfig::default()
        });
        let datagrams = Kind::UdpEcho(UdpEchoConfig {
            datagram: DatagramConfig {
                access: self.access.clone(),
                ..DatagramConfig::default()
            },
            ..UdpEchoConfig::default()
        });
        vec![
            setting.listener("gated", PORT, streams),
            setting.listener("gated datagrams", PORT, datagrams),
        ]
    }

    fn cast(&mut self, sim: &mut Sim, setting: &mut Setting<'_>, bound: &[Bind]) {
        for _ in 0..setting.rng.between(2, 8) {
            let is_welcome = setting.rng.coin();
            let ip = IpAddr::from(
                *setting
                    .rng
                    .pick(if is_welcome { &WELCOME } else { &DENIED }),
            );
            let after = setting.rng.span(Duration::from_secs(2));
            let script = self.script(&bound[0], ip, is_welcome, setting);
            sim.enter(Talker::new(script), after);
        }
        for ip in DENIED {
            let after = setting.rng.span(Duration::from_secs(1));
            sim.enter(Outcast::new(ip.into()), after);
        }
    }
}

impl Gated {
    fn script(
        &self,
        to: &Bind,
        from: IpAddr,
        is_welcome: bool,
        setting: &mut Setting<'_>,
    ) -> Script {
        let len = 1 + setting.rng.sized(setting.payload_max);
        let (question, upper) = echo::text(setting.rng, len);
        let is_bounded = self.limited && is_welcome;
        Script {
            from,
            question,
            answer: if is_welcome { upper } else { Vec::new() },
            // Who is turned away may say so much that it is reset.
            may_be_cut: is_bounded || !is_welcome,
            ending: Ending::HalfCloses,
            send_bytes_max: setting.piece_max(),
            receive_bytes_max: setting.piece_max(),
            prompt: setting.late(Duration::from_secs(20)),
            ..Script::new(to)
        }
    }
}

/// Sends datagrams and must not be answered.
struct Outcast {
    ip: IpAddr,
    socket: Option<usize>,
    to_send: usize,
    answers: usize,
}

impl Outcast {
    fn new(ip: IpAddr) -> Self {
        Self {
            ip,
            socket: None,
            to_send: 5,
            answers: 0,
        }
    }
}

impl Actor for Outcast {
    fn act(&mut self, hands: &mut Hands<'_>) {
        let own = SocketAddr::new(self.ip, 0);
        let socket = match self.socket {
            Some(socket) => socket,
            None => hands.bind(own).expect("a free port"),
        };
        self.socket = Some(socket);
        while hands.receive_from(socket).is_some() {
            self.answers += 1;
        }
        if self.to_send > 0 {
            self.to_send -= 1;
            let to = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
            hands.send_to(socket, to, b"let me in");
            hands.wake_in(Duration::from_millis(200));
        }
    }

    fn is_done(&self) -> bool {
        self.to_send == 0
    }

    fn verdict(&self) -> Result<(), String> {
        match self.answers {
            0 => Ok(()),
            answers => Err(format!("{} was answered {answers} times", self.ip)),
        }
    }
}
