//! Listeners whose socket fails for good, on the simulated kernel: what it costs, who is told, and
//! that they come back.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use netlab_reactor::config::{Config, Overrides};
use netlab_reactor::reactor::{Reactor, Turn};
use netlab_reactor::serve;
use netlab_reactor::sys::sim::actor::{Actor, Hands, Received};
use netlab_reactor::sys::sim::faults::Fault;
use netlab_reactor::sys::sim::{ActorId, End, Sim};
use netlab_reactor::sys::{Bind, Signal};

const AT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7);

/// Asks every 10 ms, over connections and with datagrams, and counts what comes back.
#[derive(Default)]
struct Asker {
    connections: Vec<End>,
    socket: Option<usize>,
    greetings: u64,
    answers: u64,
    next_at: Duration,
}

impl Actor for Asker {
    fn act(&mut self, hands: &mut Hands<'_>) {
        let own = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let bind = |hands: &mut Hands<'_>| hands.bind(own).expect("a free port");
        let socket = *self.socket.get_or_insert_with(|| bind(hands));
        while hands.receive_from(socket).is_some() {
            self.answers += 1;
        }
        let greetings = &mut self.greetings;
        self.connections.retain(|end| {
            let greeted = matches!(hands.receive(*end, 100), Received::Bytes(_));
            if greeted {
                hands.close(*end);
            }
            *greetings += u64::from(greeted);
            !greeted
        });
        if hands.now() < self.next_at {
            return;
        }
        self.next_at = hands.now() + Duration::from_millis(10);
        self.connections.push(hands.connect(&Bind::Inet(AT)));
        hands.send_to(socket, AT, b"abc");
        hands.wake_in(Duration::from_millis(10));
    }

    fn is_done(&self) -> bool {
        false
    }

    fn verdict(&self) -> Result<(), String> {
        Ok(())
    }
}

struct Bench {
    reactor: Reactor<Sim>,
    asker: ActorId,
}

impl Bench {
    /// A greeter and an echo at one address, TCP and UDP, with an asker.
    fn new() -> Self {
        let text = "[limits]\nmax_reopen_pause = '1s'\n\
                    [[listener]]\nkind = 'hello'\nbind = '127.0.0.1:7'\n\
                    [[listener]]\nkind = 'udp-echo'\nbind = '127.0.0.1:7'\n";
        let config = Config::parse(text, Path::new("x.toml"), &Overrides::default());
        let mut sim = Sim::new(1);
        sim.shape_network(Duration::from_micros(10), 1 << 20);
        let asker = sim.enter(Asker::default(), Duration::ZERO);
        let (reactor, _) = serve::open(sim, &config.expect("it is right")).expect("listeners");
        Self { reactor, asker }
    }

    fn enable(&mut self, fault: Fault, permille: u32) {
        let world = self.reactor.sys_mut().world();
        world.faults.enable(fault, permille);
    }

    fn hits(&mut self, fault: Fault) -> u64 {
        self.reactor.sys_mut().world().faults.hits(fault)
    }

    fn elapsed(&mut self) -> Duration {
        self.reactor.sys_mut().world().clock.elapsed()
    }

    /// What came back to the asker: greetings and answers.
    fn asked(&mut self) -> (u64, u64) {
        let sim = self.reactor.sys_mut();
        let asker = sim.actor::<Asker>(self.asker).expect("it is there");
        (asker.greetings, asker.answers)
    }

    /// Whether each listener is down, and how often it went.
    fn down(&mut self) -> Vec<(bool, u64)> {
        let listeners = self.reactor.metrics().listeners.iter();
        listeners.map(|(_, l)| (l.is_down, l.failures)).collect()
    }

    /// Turns until something is so; how many turns, and how long it took.
    fn turn_until(&mut self, so: impl Fn(&mut Self) -> bool) -> (u64, Duration) {
        let start = self.elapsed();
        let mut turns = 0;
        while !so(self) {
            assert_eq!(self.reactor.turn().expect("a turn"), Turn::Continue);
            turns += 1;
            assert!(turns < 10_000, "it does not come to pass");
        }
        (turns, self.elapsed() - start)
    }

    /// Lets a socket fail, from its next call on.
    fn break_one(&mut self, fault: Fault) {
        let before = self.hits(fault);
        self.enable(fault, 1000);
        self.turn_until(|bench| bench.hits(fault) > before);
        self.enable(fault, 0);
    }
}

#[test]
fn a_listener_that_fails_for_good_is_opened_again_after_pauses_that_grow() {
    let mut bench = Bench::new();
    bench.turn_until(|bench| bench.asked().0 >= 3);
    bench.enable(Fault::ReopenFails, 1000);
    bench.break_one(Fault::ListenerBreaks);
    bench.turn_until(|bench| bench.down()[0].0);
    // The datagrams of the same address are served meanwhile, which takes a turn each; the rest
    // costs none.
    let (greetings, answers) = bench.asked();
    let (turns, took) = bench.turn_until(|bench| bench.hits(Fault::ReopenFails) == 5);
    assert_eq!(took.as_millis(), 100 + 200 + 400 + 800 + 1000);
    assert!(turns < took.as_millis() as u64 / 10 + 10, "{turns} turns");
    let (greetings_now, answers_now) = bench.asked();
    assert_eq!(greetings_now, greetings);
    assert!(answers_now > answers + 200);
    assert_eq!(bench.down(), [(true, 1), (false, 0)]);
    bench.enable(Fault::ReopenFails, 0);
    bench.turn_until(|bench| bench.asked().0 > greetings + 3);
    assert_eq!(bench.down(), [(false, 1), (false, 0)]);
}

#[test]
fn a_datagram_socket_that_fails_for_good_is_opened_again() {
    datagram_socket_comes_back_after(Fault::DatagramSocketBreaks);
}

/// It is told once that it was closed by an administrator, and nothing comes from then on.
#[test]
fn a_datagram_socket_that_was_killed_is_opened_again() {
    datagram_socket_comes_back_after(Fault::DatagramSocketKilled);
}

fn datagram_socket_comes_back_after(fault: Fault) {
    let mut bench = Bench::new();
    bench.turn_until(|bench| bench.asked().1 >= 3);
    bench.enable(Fault::ReopenFails, 1000);
    bench.break_one(fault);
    bench.turn_until(|bench| bench.down()[1].0);
    let (_, answers) = bench.asked();
    bench.turn_until(|bench| bench.hits(Fault::ReopenFails) == 5);
    assert_eq!(bench.down(), [(false, 0), (true, 1)]);
    assert!(bench.asked().1 <= answers + 1, "one was on its way");
    bench.enable(Fault::ReopenFails, 0);
    bench.turn_until(|bench| bench.asked().1 > answers + 3);
    assert_eq!(bench.down(), [(false, 0), (false, 1)]);
}

#[test]
fn one_that_fails_as_soon_as_it_is_open_is_paused_ever_longer() {
    let mut bench = Bench::new();
    let mut pauses = Vec::new();
    for failures in 1..=6 {
        bench.break_one(Fault::ListenerBreaks);
        bench.turn_until(|bench| bench.down()[0] == (true, failures));
        let (_, pause) = bench.turn_until(|bench| !bench.down()[0].0);
        pauses.push(pause.as_millis());
    }
    assert_eq!(pauses, [100, 200, 400, 800, 1000, 1000]);
    // Open for as long as the longest pause, it begins again.
    let start = bench.elapsed();
    bench.turn_until(|bench| bench.elapsed() > start + Duration::from_secs(1));
    bench.break_one(Fault::ListenerBreaks);
    bench.turn_until(|bench| bench.down()[0].0);
    let (_, pause) = bench.turn_until(|bench| !bench.down()[0].0);
    assert_eq!(pause.as_millis(), 100);
}

#[test]
fn one_that_is_down_is_closed_and_changed_like_any_other() {
    let mut bench = Bench::new();
    for fault in [Fault::ListenerBreaks, Fault::DatagramSocketBreaks] {
        bench.break_one(fault);
    }
    bench.turn_until(|bench| bench.down() == [(true, 1), (true, 1)]);
    bench.reactor.unlisten(&Bind::Inet(AT));
    bench.reactor.unbind_datagram(AT);
    assert_eq!(bench.down(), []);
    let start = bench.elapsed();
    let sim = bench.reactor.sys_mut();
    sim.send_signal(Signal::Terminate, Duration::from_secs(1));
    while bench.reactor.turn().expect("a turn") != Turn::Stop {}
    assert!(bench.elapsed() >= start + Duration::from_secs(1));
    assert_eq!(bench.reactor.sys_mut().left_open(), [""; 0]);
}

#[test]
fn one_that_is_down_when_the_process_ends_does_not_come_back() {
    let mut bench = Bench::new();
    bench.break_one(Fault::ListenerBreaks);
    bench.turn_until(|bench| bench.down()[0].0);
    bench.reactor.drain();
    while bench.reactor.turn().expect("a turn") != Turn::Stop {
        assert_eq!(bench.reactor.sys_mut().open_listeners(), 0);
    }
    assert_eq!(bench.reactor.sys_mut().left_open(), [""; 0]);
}
