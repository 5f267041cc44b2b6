//! Turns of the reactor on the simulated kernel without faults: what the loop, the sessions and a
//! small service cost together, with the cost of the simulation itself in it. Good for comparing
//! one version with the next.

use std::net::Ipv4Addr;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use netlab_reactor::config::{Config, Overrides};
use netlab_reactor::reactor::Reactor;
use netlab_reactor::serve;
use netlab_reactor::sys::Bind;
use netlab_reactor::sys::sim::ActorId;
use netlab_reactor::sys::sim::actor::{Actor, Hands, Received};
use netlab_reactor::sys::sim::{End, Sim};

/// Clients of an echo: each has one message under way, and sends the next when its answer is
/// complete.
struct Clients {
    to: Bind,
    message: Vec<u8>,
    /// Connections that are open at the start; the idle ones send nothing.
    active: usize,
    idle: usize,
    /// Each active connection, and how much of its answer is missing.
    connections: Vec<(End, usize)>,
    answered: u64,
}

impl Actor for Clients {
    fn act(&mut self, hands: &mut Hands<'_>) {
        if self.connections.is_empty() {
            for _ in 0..self.idle {
                hands.connect(&self.to);
            }
            for _ in 0..self.active {
                let end = hands.connect(&self.to);
                self.connections.push((end, 0));
            }
        }
        for (end, missing) in &mut self.connections {
            while let Received::Bytes(bytes) = hands.receive(*end, usize::MAX) {
                *missing -= bytes.len();
                self.answered += u64::from(*missing == 0);
            }
            if *missing == 0 {
                *missing = hands.send(*end, &self.message);
            }
        }
    }

    fn is_done(&self) -> bool {
        false
    }

    fn verdict(&self) -> Result<(), String> {
        Ok(())
    }
}

/// A reactor that serves echo to such clients.
fn serving(active: usize, idle: usize, message_bytes: usize) -> (Reactor<Sim>, ActorId) {
    let mut config = Config::without_a_file(&Overrides::default()).expect("the defaults");
    config.listeners.retain(|l| l.kind.name() == "tcp-echo");
    let mut sim = Sim::new(1);
    sim.shape_network(Duration::from_micros(10), 1 << 20);
    let clients = sim.enter(
        Clients {
            to: Bind::Inet((Ipv4Addr::LOCALHOST, 12000).into()),
            message: vec![b'm'; message_bytes],
            active,
            idle,
            connections: Vec::new(),
            answered: 0,
        },
        Duration::ZERO,
    );
    let (reactor, _) = serve::open(sim, &config).expect("the listener opens");
    (reactor, clients)
}

/// Turns until so many messages more were answered.
fn answer(reactor: &mut Reactor<Sim>, clients: ActorId, count: u64) {
    let answered = |reactor: &mut Reactor<Sim>| {
        let clients = reactor.sys_mut().actor::<Clients>(clients);
        clients.expect("the clients").answered
    };
    let until = answered(reactor) + count;
    while answered(reactor) < until {
        reactor.turn().expect("a turn");
    }
}

fn turns(c: &mut Criterion) {
    let mut group = c.benchmark_group("turn");
    group.throughput(Throughput::Elements(64));
    for (name, active, idle, message_bytes) in [
        ("64 echoes of 64 B, 1 connection", 1, 0, 64),
        ("64 echoes of 64 B, 64 connections", 64, 0, 64),
        (
            "64 echoes of 64 B, 64 connections beside 10000 idle",
            64,
            10_000,
            64,
        ),
        ("64 echoes of 16 KiB, 64 connections", 64, 0, 16 * 1024),
    ] {
        let (mut reactor, clients) = serving(active, idle, message_bytes);
        answer(&mut reactor, clients, 1000); // all are connected, and buffers have grown
        group.bench_function(name, |b| b.iter(|| answer(&mut reactor, clients, 64)));
    }
    group.finish();
}

criterion_group!(benches, turns);
criterion_main!(benches);
