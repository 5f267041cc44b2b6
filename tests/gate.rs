//! Who is let in: what those see who are not, and how they are counted.

mod common;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use common::{InThread, Program, connect, recv};
use netlab_reactor::config::{Config, Overrides};
use netlab_reactor::metrics::Bar;
use netlab_reactor::reactor::{Reactor, Turn};
use netlab_reactor::serve;
use netlab_reactor::sys::sim::Sim;
use netlab_reactor::sys::sim::talker::{Ending, Script, Talker};
use netlab_reactor::sys::{Bind, Signal};

#[test]
fn who_is_denied_sees_the_end_of_the_stream_and_is_counted() {
    let mut config = String::from("[[listener]]\nkind = \"admin\"\nbind = \"*:0\"\n");
    for kind in ["tcp-echo", "hello", "http"] {
        config += &format!("[[listener]]\nkind = {kind:?}\nbind = [\"127.0.0.1:0\", \"*:0\"]\n");
        config += "deny = [\"127.0.0.0/8\", \"::1\"]\n";
    }
    config += "[[listener]]\nkind = \"udp-echo\"\nbind = [\"127.0.0.1:0\", \"*:0\"]\n";
    config += "allow = [\"192.0.2.0/24\"]\n";
    let mut server = Program::start(&config);
    let at = |address: SocketAddr| SocketAddr::from(([127, 0, 0, 1], address.port()));
    for kind in ["tcp-echo", "hello", "http"] {
        for address in server.addresses(kind).into_iter().map(at) {
            for _ in 0..2 {
                let mut client = connect(address);
                let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
                client.write_all(request).expect("a connection");
                let mut answer = Vec::new();
                // Not a reset, though the request was there when the connection was closed.
                client.read_to_end(&mut answer).expect("the end");
                assert_eq!(answer, b"");
            }
        }
        for address in server.addresses(kind) {
            let told = server.wait_log(&format!(
                "{kind} at {address}: connections refused (deny): "
            ));
            assert!(told.contains(", the last from 127.0.0.1:"), "{told}");
        }
    }
    for address in server.addresses("udp-echo").into_iter().map(at) {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.send_to(b"abc", address).expect("a socket");
        let told = server.wait_log("datagrams refused");
        assert!(
            told.contains("(deny): 1, the last from 127.0.0.1:"),
            "{told}"
        );
    }
    let mut admin = connect(at(server.address("admin")));
    let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    admin.write_all(request).expect("a connection");
    let mut metrics = String::new();
    admin.read_to_string(&mut metrics).expect("an answer");
    let of = |start: &str, end: &str| {
        let is_it = |line: &&str| line.starts_with(start) && line.ends_with(end);
        metrics.lines().filter(is_it).count()
    };
    assert_eq!(
        of("netlab_connections_refused_total{", "cause=\"deny\"} 2"),
        6,
        "{metrics}"
    );
    assert_eq!(of("netlab_sessions_accepted_total{", "} 0"), 6, "{metrics}");
    assert_eq!(
        of("netlab_datagrams_dropped_total{", "cause=\"deny\"} 1"),
        2,
        "{metrics}"
    );
    assert_eq!(of("netlab_datagrams_sent_total{", "} 0"), 2, "{metrics}");
    server.stop();
}

/// An echo on the simulated kernel.
struct Bench {
    reactor: Reactor<Sim>,
    bound: Vec<Bind>,
}

impl Bench {
    fn new(config: &str) -> Self {
        let config = Config::parse(config, Path::new("x.toml"), &Overrides::default());
        let config = config.unwrap_or_else(|problems| panic!("{problems}"));
        let (mut reactor, bound) = serve::open(Sim::new(1), &config).expect("listeners");
        let sim = reactor.sys_mut();
        sim.shape_network(Duration::from_micros(10), 1 << 20);
        Self { reactor, bound }
    }

    /// Clients of an address that say something, and stay for a while.
    fn clients(&mut self, count: usize, ip: &str, after: Duration) {
        for to in self.bound.clone() {
            for _ in 0..count {
                let script = Script {
                    from: ip.parse::<IpAddr>().expect("an address"),
                    question: b"abc".to_vec(),
                    any_answer: true,
                    ending: Ending::WaitsForEnd(Duration::from_secs(60)),
                    ..Script::new(&to)
                };
                self.reactor.sys_mut().enter(Talker::new(script), after);
            }
        }
    }

    fn turn_until(&mut self, moment: Duration) {
        let sim = self.reactor.sys_mut();
        let after = moment - sim.world().clock.elapsed();
        sim.send_signal(Signal::Reopen, after); // so that it waits no longer
        while self.reactor.sys_mut().world().clock.elapsed() < moment {
            assert_eq!(self.reactor.turn().expect("a turn"), Turn::Continue);
        }
    }

    /// Open sessions, and those that were barred by each cause, of all listeners.
    fn counted(&mut self) -> (u64, [u64; Bar::ALL.len()]) {
        let listeners = self.reactor.metrics().listeners.iter();
        let (mut active, mut barred) = (0, [0; Bar::ALL.len()]);
        for (_, listener) in listeners {
            let streams = listener.of.streams().expect("they are over streams");
            active += streams.active;
            for (sum, count) in barred.iter_mut().zip(streams.barred) {
                *sum += count;
            }
        }
        (active, barred)
    }
}

const ECHO: &str = "[[listener]]\nkind = 'tcp-echo'\nidle_timeout = '5s'\n\
                    bind = ['127.0.0.1:1', '127.0.0.1:2']\n";

#[test]
fn an_address_has_its_connections_at_a_listener_wherever_it_reaches_it() {
    let mut bench = Bench::new(&format!("{ECHO}max_connections_per_address = 3\n"));
    let second = Duration::from_secs(1);
    bench.clients(2, "192.0.2.1", Duration::ZERO);
    bench.clients(1, "192.0.2.2", Duration::ZERO);
    bench.turn_until(second);
    assert_eq!(bench.counted(), (3 + 2, [0, 1, 0, 0]));
    // Those that have ended make room.
    bench.clients(2, "192.0.2.1", 8 * second);
    bench.turn_until(10 * second);
    assert_eq!(bench.counted(), (3, [0, 2, 0, 0]));
}

#[test]
fn an_address_has_its_connections_at_all_listeners_together() {
    let other = "[[listener]]\nkind = 'hello'\nbind = '127.0.0.1:3'\n";
    let limits = "[limits]\nmax_connections_per_address = 4\n";
    let mut bench = Bench::new(&[limits, ECHO, other].concat());
    let second = Duration::from_secs(1);
    bench.clients(2, "192.0.2.1", Duration::ZERO);
    bench.clients(1, "2001:db8::1", Duration::ZERO);
    bench.clients(1, "2001:db8::2", Duration::ZERO);
    bench.clients(1, "2001:db8:0:1::2", Duration::ZERO);
    bench.clients(3, "127.0.0.1", Duration::ZERO);
    bench.turn_until(second);
    assert_eq!(bench.counted(), (4 + 4 + 3 + 9, [0, 0, 2 + 2, 0]));
}

#[test]
fn an_address_has_its_connections_a_second_and_loopback_has_no_rate() {
    let rate = "max_accept_rate = 2\nmax_accept_burst = 3\n";
    let mut bench = Bench::new(&[ECHO, rate].concat());
    let ms = Duration::from_millis;
    bench.clients(4, "192.0.2.1", Duration::ZERO);
    bench.clients(1, "192.0.2.2", Duration::ZERO);
    bench.clients(3, "127.0.0.1", Duration::ZERO);
    bench.turn_until(ms(400));
    assert_eq!(bench.counted(), (3 + 2 + 6, [0, 0, 0, 5]));
    bench.clients(2, "192.0.2.1", ms(700));
    bench.turn_until(ms(1_200));
    assert_eq!(bench.counted(), (3 + 2 + 6 + 2, [0, 0, 0, 5 + 2]));
}

#[test]
fn the_clients_of_one_listener_leave_places_for_those_of_another() {
    let echo = "[[listener]]\nkind = 'tcp-echo'\nbind = '127.0.0.1:0'\n";
    let server = InThread::start(&format!("[limits]\nmax_sessions = 64\n{echo}{echo}"));
    let crowd: Vec<_> = (0..64).map(|_| connect(server.address(0))).collect();
    server.wait(|seen| seen.active == 56);
    for _ in 0..8 {
        let mut stream = connect(server.address(1));
        stream.write_all(b"a\n").expect("room");
        assert_eq!(recv(&mut stream), b"A\n");
    }
    drop(crowd);
    server.wait(|seen| seen.accepted == 64 + 8 && seen.active == 0);
    server.stop();
}
