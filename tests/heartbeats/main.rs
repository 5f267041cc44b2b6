//! The monitor of heartbeats beside a model of it: over tables of loss, delay, clocks that are set
//! and restarts, on the simulated kernel and over real sockets. And what it shows of its senders.

mod model;
mod tape;

#[path = "../common/mod.rs"]
mod common;

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use common::{Program, connect};
use model::{Beat, History, Rules, Verdict};
use netlab_reactor::config::{Config, Overrides};
use netlab_reactor::reactor::{Reactor, Turn};
use netlab_reactor::serve;
use netlab_reactor::service::datagram::Sender;
use netlab_reactor::sys::sim::Sim;
use netlab_reactor::sys::sim::actor::{Actor, Hands};
use netlab_reactor::sys::unix::Unix;
use netlab_reactor::sys::{Bind, Signal, Sys};
use tape::Arrival;

const RULES: Rules = Rules {
    timeout: 700_000,
    grace: 500_000,
    missed_beats: None,
    timeout_min: 100_000,
    clock_step: 1_010_000, // no sum of intervals
};
const AT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7);

fn monitor<S: Sys>(sys: S, bind: SocketAddr, rules: Rules) -> (Reactor<S>, SocketAddr) {
    let text = format!(
        "[[listener]]\nkind = 'udp-heartbeat'\nbind = '{bind}'\ntimeout = '{}us'\ngrace = '{}us'\n\
         missed_beats = {}\nclock_step = '{}us'\nmax_logged_changes = 0\n",
        rules.timeout,
        rules.grace,
        rules.missed_beats.unwrap_or(0),
        rules.clock_step,
    );
    let config = Config::parse(&text, Path::new("x.toml"), &Overrides::default());
    let config = config.unwrap_or_else(|problems| panic!("{problems}"));
    let (reactor, bound) = serve::open(sys, &config).expect("a listener");
    let Bind::Inet(bound) = bound[0] else {
        panic!("datagrams go to addresses");
    };
    (reactor, bound)
}

fn verdict(sender: &Sender) -> Verdict {
    let counts = sender.counts;
    Verdict {
        lost: counts.lost,
        duplicates: counts.duplicates,
        reordered: counts.reordered,
        restarts: counts.restarts,
        clock_steps: counts.clock_steps,
        downs: counts.downs,
    }
}

/// The monitor's senders, by the number that the test gave them.
fn rows<S: Sys>(
    reactor: &Reactor<S>,
    number: impl Fn(SocketAddr) -> usize,
) -> HashMap<usize, Sender> {
    let tables = reactor.senders();
    let rows = tables.into_iter().flat_map(|table| table.senders.rows);
    rows.map(|row| (number(row.address), row)).collect()
}

/// What is expected of all senders.
#[derive(Default)]
struct Model {
    senders: HashMap<usize, History>,
}

impl Model {
    /// A heartbeat; a first one that says that it is the last makes nobody known.
    fn hear(&mut self, rules: Rules, arrival: &Arrival, came: i64) {
        let beat = Beat {
            number: arrival.number,
            time: arrival.time,
            is_down: arrival.is_down,
            came,
        };
        match self.senders.get_mut(&arrival.sender) {
            Some(history) => history.hear(beat),
            None if beat.is_down => {}
            None => drop(
                self.senders
                    .insert(arrival.sender, History::new(rules, beat)),
            ),
        }
    }
}

/// Sends a table of heartbeats, each sender's from a port of its own.
struct Player {
    tape: Vec<Arrival>,
    next: usize,
    sockets: HashMap<usize, usize>,
}

fn address(sender: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 5000 + sender as u16))
}

impl Actor for Player {
    fn act(&mut self, hands: &mut Hands<'_>) {
        while let Some(arrival) = self.tape.get(self.next) {
            let at = Duration::from_micros(arrival.at as u64);
            if at > hands.now() {
                hands.wake_in(at - hands.now());
                return;
            }
            let sender = arrival.sender;
            let bind = |hands: &mut Hands<'_>| hands.bind(address(sender)).expect("a free port");
            let socket = *self.sockets.entry(sender).or_insert_with(|| bind(hands));
            hands.send_to(socket, AT, &arrival.datagram());
            self.next += 1;
        }
    }

    fn is_done(&self) -> bool {
        self.next == self.tape.len()
    }

    fn verdict(&self) -> Result<(), String> {
        Ok(())
    }
}

fn turn_until(reactor: &mut Reactor<Sim>, moment: i64) {
    let moment = Duration::from_micros(moment as u64);
    let sim = reactor.sys_mut();
    let elapsed = sim.world().clock.elapsed();
    sim.send_signal(Signal::Reopen, moment.saturating_sub(elapsed)); // so that it waits no longer
    while reactor.sys_mut().world().clock.elapsed() < moment {
        assert_eq!(reactor.turn().expect("a turn"), Turn::Continue);
    }
}

fn agrees_in_the_simulator(seed: u64, rules: Rules) -> Verdict {
    const SENDERS: usize = 6;
    let tape = tape::record(seed, SENDERS, 150);
    let mut sim = Sim::new(seed);
    sim.shape_network(Duration::from_nanos(1), 1 << 20);
    sim.enter(
        Player {
            tape: tape.clone(),
            next: 0,
            sockets: HashMap::new(),
        },
        Duration::ZERO,
    );
    let (mut reactor, _) = monitor(sim, AT, rules);
    let (mut model, mut heard) = (Model::default(), 0);
    let end = tape.last().expect("some").at + 3_000_000;
    let mut now = 0;
    while now < end {
        now += 100_000;
        turn_until(&mut reactor, now);
        while let Some(arrival) = tape.get(heard).filter(|arrival| arrival.at < now - 1000) {
            model.hear(rules, arrival, arrival.at);
            heard += 1;
        }
        // What came just now may have been heard or not.
        if tape.get(heard).is_some_and(|arrival| arrival.at <= now) {
            continue;
        }
        let rows = rows(&reactor, |address| usize::from(address.port()) - 5000);
        assert_eq!(rows.len(), model.senders.len(), "seed {seed} at {now}");
        for (sender, history) in &model.senders {
            let row = &rows[sender];
            if history.margin(now) > 1000 {
                let expected = history.state(now);
                assert_eq!(
                    row.state.name(),
                    expected,
                    "seed {seed}, sender {sender} at {now}"
                );
            }
            assert_eq!(
                verdict(row),
                history.verdict(),
                "seed {seed}, sender {sender} at {now}"
            );
            let jitter = history.jitter();
            assert!(
                (row.jitter_s - jitter).abs() < 1e-4,
                "seed {seed}, sender {sender} at {now}: {} is not {jitter}",
                row.jitter_s
            );
        }
    }
    let mut changes = [0; 3];
    let mut all = Verdict::default();
    for history in model.senders.values() {
        let of = history.changes(now);
        (0..3).for_each(|i| changes[i] += of[i]);
        let of = history.verdict();
        all = Verdict {
            lost: all.lost + of.lost,
            duplicates: all.duplicates + of.duplicates,
            reordered: all.reordered + of.reordered,
            restarts: all.restarts + of.restarts,
            clock_steps: all.clock_steps + of.clock_steps,
            downs: all.downs + of.downs,
        };
    }
    let metrics = reactor.metrics();
    let listener = metrics.listeners.iter().next().expect("a listener").1;
    let counted = listener.of.heartbeat().expect("heartbeats");
    assert_eq!(counted.changes[1..], changes, "seed {seed}");
    assert_eq!(counted.changes[0], model.senders.len() as u64);
    assert_eq!(counted.accepted, tape.len() as u64);
    all
}

#[test]
fn the_monitor_agrees_with_the_model_in_the_simulator() {
    let mut seen = Verdict::default();
    for seed in 0..40 {
        let rules = match seed % 4 {
            0 => Rules { grace: 0, ..RULES },
            1 => Rules {
                missed_beats: Some(3),
                ..RULES
            },
            _ => RULES,
        };
        let of = agrees_in_the_simulator(seed, rules);
        seen.lost += of.lost;
        seen.duplicates += of.duplicates;
        seen.reordered += of.reordered;
        seen.restarts += of.restarts;
        seen.clock_steps += of.clock_steps;
        seen.downs += of.downs;
    }
    let Verdict {
        lost,
        duplicates,
        reordered,
        restarts,
        clock_steps,
        downs,
    } = seen;
    let all = [lost, duplicates, reordered, restarts, clock_steps, downs];
    assert!(all.iter().all(|count| *count > 100), "{seen:?}");
}

/// Moments that a busy machine may miss by so much are not looked at, in microseconds.
const MARGIN: i64 = 40_000;

#[test]
fn the_monitor_agrees_with_the_model_over_real_sockets() {
    const SENDERS: usize = 8;
    let tape = tape::record(4711, SENDERS, 30);
    let sys = Unix::new(false).expect("a poll");
    let (mut reactor, at) = monitor(sys, (Ipv4Addr::LOCALHOST, 0).into(), RULES);
    let sockets: Vec<UdpSocket> = (0..SENDERS)
        .map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket"))
        .collect();
    let address = |socket: &UdpSocket| socket.local_addr().expect("an address");
    let addresses: Vec<SocketAddr> = sockets.iter().map(address).collect();
    let number = |from: SocketAddr| addresses.iter().position(|a| *a == from).expect("a sender");
    let start = Instant::now();
    let elapsed = || start.elapsed().as_micros() as i64;
    let mut model = Model::default();
    let (mut compared, mut skipped) = (0, 0);
    for (i, arrival) in tape.iter().enumerate() {
        let wait = arrival.at - elapsed();
        std::thread::sleep(Duration::from_micros(wait.max(0) as u64));
        sockets[arrival.sender]
            .send_to(&arrival.datagram(), at)
            .expect("a socket");
        model.hear(RULES, arrival, elapsed());
        let accepted = |reactor: &mut Reactor<Unix>| {
            let metrics = reactor.metrics();
            let listener = metrics.listeners.iter().next().expect("a listener").1;
            listener.of.heartbeat().expect("heartbeats").accepted
        };
        while accepted(&mut reactor) <= i as u64 {
            assert_eq!(reactor.turn().expect("a turn"), Turn::Continue);
        }
        let (now, rows) = (elapsed(), rows(&reactor, number));
        for (sender, history) in &model.senders {
            assert_eq!(
                verdict(&rows[sender]),
                history.verdict(),
                "sender {sender} at {now}"
            );
            if history.margin(now) < MARGIN {
                skipped += 1;
                continue;
            }
            compared += 1;
            let (state, expected) = (rows[sender].state.name(), history.state(now));
            assert_eq!(state, expected, "sender {sender} at {now}");
        }
    }
    assert!(
        compared > 5 * skipped,
        "{compared} compared, {skipped} skipped"
    );
    let seen: Vec<Verdict> = model.senders.values().map(History::verdict).collect();
    assert!(
        seen.iter().any(|v| v.restarts > 0) && seen.iter().any(|v| v.clock_steps > 0),
        "{seen:?}"
    );
    assert!(
        seen.iter().any(|v| v.lost > 0 && v.reordered > 0),
        "{seen:?}"
    );
}

fn get(server: &Program, path: &str) -> String {
    let mut admin = connect(server.address("admin"));
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    admin.write_all(request.as_bytes()).expect("a connection");
    let mut answer = String::new();
    admin.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    body.to_owned()
}

fn senders(server: &Program) -> Vec<serde_json::Value> {
    let page: serde_json::Value = serde_json::from_str(&get(server, "/heartbeats")).expect("JSON");
    assert_eq!(page["omitted"], 0);
    page["senders"].as_array().expect("an array").clone()
}

#[test]
fn the_table_is_a_page_of_the_admin_listener_and_in_the_log_at_sigusr1() {
    let mut server = Program::start(
        "[[listener]]\nkind = 'udp-heartbeat'\nbind = '127.0.0.1:0'\n\
         [[listener]]\nkind = 'udp-heartbeat'\nname = 'signed'\nbind = '127.0.0.1:0'\nsecret = 'key'\n\
         [[listener]]\nkind = 'admin'\nbind = '127.0.0.1:0'\n",
    );
    assert_eq!(senders(&server), Vec::<serde_json::Value>::new());
    let [plain, signed] = [0, 1].map(|i| server.addresses("udp-heartbeat")[i]);
    let beat = |to: SocketAddr, secret: Option<&str>, more: &[&str]| {
        let (host, port) = (to.ip().to_string(), to.port().to_string());
        let mut arguments = vec!["heartbeat", &host, &port, "-c", "3", "-i", "20ms"];
        arguments.extend(more);
        let mut command = common::command(&arguments);
        if let Some(secret) = secret {
            command.env("NETLAB_SECRET", secret);
        }
        assert!(command.status().expect("the program runs").success());
    };
    beat(plain, None, &["--id", "roof", "--tell-interval", "--down"]);
    beat(plain, None, &["--id", "cellar"]);
    beat(signed, None, &[]);
    beat(signed, Some("other"), &[]);
    beat(signed, Some("key"), &["--id", "safe"]);
    let rows = senders(&server);
    let row = |id: &str| rows.iter().find(|row| row["id"] == id).expect("a sender");
    assert_eq!(rows.len(), 3, "{rows:?}");
    let roof = row("roof");
    assert_eq!(
        (&roof["state"], &roof["down"]),
        (&"dead".into(), &true.into())
    );
    assert_eq!(
        (&roof["received"], &roof["sequence"]),
        (&4.into(), &4.into())
    );
    assert_eq!(roof["interval"], 0.02);
    assert_eq!(
        (&row("cellar")["state"], &row("cellar")["down"]),
        (&"up".into(), &false.into())
    );
    assert_eq!(row("safe")["listener"], "signed");
    let metrics = get(&server, "/metrics");
    let dropped = metrics
        .lines()
        .find(|line| line.contains("cause=\"unsigned\"} 6"));
    assert!(dropped.is_some(), "{metrics}");
    server.signal(rustix::process::Signal::USR1);
    let line = server.wait_log("heartbeat sender ");
    assert!(
        line.contains(" dead \"roof\" (down), silent for "),
        "{line}"
    );
    server.stop();
}

#[test]
fn who_is_stopped_says_so_and_who_is_told_not_to_does_not() {
    let mut server = Program::start(
        "[[listener]]\nkind = 'udp-heartbeat'\nbind = '127.0.0.1:0'\ntimeout = '1h'\n\
         [[listener]]\nkind = 'admin'\nbind = '127.0.0.1:0'\n",
    );
    let to = server.address("udp-heartbeat");
    let (host, port) = (to.ip().to_string(), to.port().to_string());
    for (id, more) in [("stopped", None), ("silent", Some("--no-down"))] {
        let mut arguments = vec!["heartbeat", &host, &port, "--id", id, "-i", "50ms"];
        arguments.extend(more);
        let mut client = common::command(&arguments)
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("the program runs");
        server.wait_log(" new");
        let pid = rustix::process::Pid::from_child(&client);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("a child");
        assert!(client.wait().expect("a child").success());
        if more.is_none() {
            server.wait_log(" dead");
        }
        let rows = senders(&server);
        let row = rows.iter().find(|row| row["id"] == id).expect("a sender");
        assert_eq!(row["down"], more.is_none());
    }
    server.stop();
}
