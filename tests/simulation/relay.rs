//! A relay: the first line names a host, everything after it goes there and what comes back goes to
//! the client. No service of the server's does so little with the upstream side, so it shows best
//! what the reactor does: names, connections that are refused, hang or break, two sockets in one
//! session, and half-closes that travel through.

use std::net::{Ipv4Addr, SocketAddr};
use std::task::Poll;
use std::time::{Duration, Instant};

use netlab_reactor::buffer::pour;
use netlab_reactor::config::ListenerConfig;
use netlab_reactor::ending::{Error, Phase};
use netlab_reactor::gate::GateOptions;
use netlab_reactor::reactor::{ListenerOptions, Reactor};
use netlab_reactor::service::{Io, Peer, Service};
use netlab_reactor::sys::Bind;
use netlab_reactor::sys::sim::actor::{Actor, Hands, Received};
use netlab_reactor::sys::sim::faults::Fault;
use netlab_reactor::sys::sim::talker::{Ending, Script, Talker};
use netlab_reactor::sys::sim::{End, Sim};

use crate::dns::{ALIVE, ALIVE_TOO};
use crate::driver::{Kernel, Scenario, Setting};

const PORT: u16 = 8000;
const IDLE: Duration = Duration::from_secs(120);
/// Names take 10 s at most, and so do connections.
const PROMPT: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(10);
const NO_NAME: &[u8] = b"no such host\n";
const NO_CONNECTION: &[u8] = b"no connection\n";

/// The protocol.
struct Relay;

enum Conn {
    Line {
        until: Instant,
    },
    Resolving {
        name: String,
        until: Instant,
    },
    Connecting {
        addresses: Vec<SocketAddr>,
        until: Instant,
    },
    Relaying {
        until: Instant,
    },
}

impl Service for Relay {
    type Conn = Conn;

    fn accept(&mut self, _peer: &Peer, now: Instant) -> Conn {
        Conn::Line { until: now + IDLE }
    }

    fn advance(&mut self, conn: &mut Conn, io: &mut Io<'_>) -> Result<(), Error> {
        loop {
            let now = io.cx.now;
            match conn {
                Conn::Line { until } => {
                    let line = io.down.rx.bytes().iter().position(|&byte| byte == b'\n');
                    let Some(end) = line else {
                        return match io.down.eof || now >= *until {
                            true => Err(Error::TimedOut(Phase::Head)),
                            false => Ok(()),
                        };
                    };
                    let name = String::from_utf8_lossy(&io.down.rx.bytes()[..end]).into_owned();
                    io.down.rx.consume(end + 1);
                    *conn = Conn::Resolving {
                        name,
                        until: now + 2 * IDLE,
                    };
                }
                Conn::Resolving { name, until } => match io.resolve(name) {
                    Poll::Ready(Ok(addresses)) => {
                        let port = |ip| SocketAddr::new(ip, PORT);
                        let addresses = addresses.iter().copied().map(port).collect();
                        *conn = Conn::Connecting {
                            addresses,
                            until: now + 2 * CONNECT,
                        };
                    }
                    Poll::Ready(Err(_)) => return refuse(NO_NAME, io),
                    Poll::Pending if now >= *until => return Err(Error::TimedOut(Phase::Upstream)),
                    Poll::Pending => return Ok(()),
                },
                Conn::Connecting { addresses, until } => match io.connect(addresses, CONNECT) {
                    Poll::Ready(Ok(())) => {
                        io.relay();
                        *conn = Conn::Relaying { until: now + IDLE };
                    }
                    Poll::Ready(Err(_)) => return refuse(NO_CONNECTION, io),
                    Poll::Pending if now >= *until => return Err(Error::TimedOut(Phase::Connect)),
                    Poll::Pending => return Ok(()),
                },
                Conn::Relaying { until } => {
                    let up = pour(&mut io.down.rx, &mut io.up.tx, usize::MAX, io.cx.pool);
                    let down = pour(&mut io.up.rx, &mut io.down.tx, usize::MAX, io.cx.pool);
                    if up + down > 0 || io.drained {
                        *until = now + IDLE;
                    }
                    if io.down.is_drained() {
                        io.up.finish();
                    }
                    if let netlab_reactor::service::LinkState::Failed(kind) = io.up.status {
                        return Err(Error::Reset(kind));
                    }
                    if io.up.is_drained() {
                        io.close();
                    } else if now >= *until {
                        return Err(Error::TimedOut(Phase::Upstream));
                    }
                    return Ok(());
                }
            }
        }
    }

    fn state(&self, _conn: &Self::Conn) -> &'static str {
        "Running"
    }

    fn deadline(&self, conn: &Conn) -> Instant {
        match conn {
            Conn::Line { until }
            | Conn::Resolving { until, .. }
            | Conn::Connecting { until, .. }
            | Conn::Relaying { until } => *until,
        }
    }
}

fn refuse(why: &[u8], io: &mut Io<'_>) -> Result<(), Error> {
    io.down.tx.put(why, io.cx.pool);
    io.close();
    Ok(())
}

/// An origin server that gives back what it gets, and its end after the client's.
#[derive(Default)]
struct Origin {
    listens: bool,
    address: Option<SocketAddr>,
    conns: Vec<(End, Vec<u8>, bool)>,
}

impl Origin {
    fn at(ip: Ipv4Addr) -> Self {
        Self {
            address: Some(SocketAddr::from((ip, PORT))),
            ..Self::default()
        }
    }
}

impl Actor for Origin {
    fn act(&mut self, hands: &mut Hands<'_>) {
        if !self.listens
            && let Some(address) = self.address
        {
            self.listens = true;
            hands.listen(address);
        }
        while let Some(end) = hands.accept() {
            self.conns.push((end, Vec::new(), false));
        }
        self.conns.retain_mut(|(end, unsent, ended)| {
            loop {
                let sent = hands.send(*end, unsent);
                unsent.drain(..sent);
                if unsent.len() > 10_000 {
                    return true;
                }
                let max = hands.rng().sized(20_000);
                match hands.receive(*end, max) {
                    Received::Bytes(bytes) => unsent.extend_from_slice(&bytes),
                    Received::Nothing => return true,
                    Received::End if unsent.is_empty() => {
                        *ended = true;
                        hands.close(*end);
                        return false;
                    }
                    Received::End => return true,
                    Received::Broken => {
                        hands.close(*end);
                        return false;
                    }
                }
            }
        });
    }

    fn is_done(&self) -> bool {
        true
    }

    fn verdict(&self) -> Result<(), String> {
        Ok(())
    }
}

#[derive(Default)]
pub(crate) struct RelayScenario {
    bound: Option<Bind>,
}

impl Scenario for RelayScenario {
    fn listeners(&mut self, _setting: &mut Setting<'_>) -> Vec<ListenerConfig> {
        Vec::new()
    }

    fn listen(&mut self, reactor: &mut Reactor<Kernel>) {
        let options = ListenerOptions {
            name: "relay".to_owned(),
            kind: "relay",
            connections_max: 1000,
            descriptors: 2,
            serves_while_draining: false,
            gate: GateOptions::default(),
            tls: None,
        };
        let bind = Bind::Inet(SocketAddr::from(([127, 0, 0, 1], 7000)));
        self.bound = Some(
            reactor
                .listen(&bind, options, Relay)
                .expect("a free address"),
        );
    }

    fn cast(&mut self, sim: &mut Sim, setting: &mut Setting<'_>, _bound: &[Bind]) {
        let to = self.bound.clone().expect("it listens");
        sim.enter(Origin::at(ALIVE), Duration::ZERO);
        sim.enter(Origin::at(ALIVE_TOO), Duration::ZERO);
        let may = |faults: &[Fault]| faults.iter().any(|&fault| setting.faults.is_enabled(fault));
        let no_name = may(&[
            Fault::DatagramLost,
            Fault::DatagramSendBlocked,
            Fault::DatagramRefused,
            Fault::DnsLies,
            Fault::DnsSlow,
            Fault::DatagramReordered,
        ]);
        let no_connection = may(&[
            Fault::ConnectFails,
            Fault::ConnectRefused,
            Fault::ConnectHangs,
            Fault::ConnectSlow,
            Fault::Reset, // just when it was made
        ]);
        // Over TCP it takes longer: too long through a window of a few bytes.
        let is_narrow = setting.payload_max < 5_000;
        let no_name = no_name || (may(&[Fault::DnsTruncates]) && (no_connection || is_narrow));
        let cut = may(&[Fault::Reset]);
        for _ in 0..setting.rng.between(1, 5) {
            let name = *setting.rng.pick(&[
                "one.example",
                "two.example",
                "both.example",
                "192.0.2.81",
                "dead.example",
                "nobody.example",
            ]);
            let len = setting.rng.sized(setting.payload_max) - 1;
            let payload = setting.rng.bytes(len);
            let answer = match name {
                "nobody.example" => NO_NAME.to_vec(),
                "dead.example" => NO_CONNECTION.to_vec(),
                _ => payload.clone(),
            };
            let mut others = Vec::new();
            if no_name {
                others.push(NO_NAME.to_vec());
            }
            if no_connection {
                others.push(NO_CONNECTION.to_vec());
            }
            let refused = matches!(name, "nobody.example" | "dead.example");
            let script = Script {
                question: [name.as_bytes(), b"\n", if refused { b"" } else { &payload }].concat(),
                answer,
                others,
                prompt: setting.late(PROMPT),
                may_be_cut: cut,
                ending: Ending::HalfCloses,
                send_bytes_max: setting.piece_max(),
                receive_bytes_max: setting.piece_max(),
                pause_max: Duration::from_micros(setting.rng.sized(10_000) as u64),
                ..Script::new(&to)
            };
            let after = setting.rng.span(Duration::from_secs(2));
            sim.enter(Talker::new(script), after);
        }
    }
}
