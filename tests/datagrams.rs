//! Datagrams over real sockets: what became of each is known, also when there are more than can be
//! served, and what came as a run is served like what came alone.

mod common;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use common::{PATIENCE, Program};
use netlab_reactor::config::{Config, Overrides};
use netlab_reactor::metrics::{Cause, DatagramMetrics, Impairment, ListenerMetrics};
use netlab_reactor::reactor::{Reactor, Turn};
use netlab_reactor::serve;
use netlab_reactor::sys::unix::{Bursts, Unix};
use netlab_reactor::sys::{Bind, DatagramTuning};

/// A server whose turns the test makes.
struct Bench {
    reactor: Reactor<Unix>,
    at: SocketAddr,
}

impl Bench {
    fn new(listener: &str) -> Self {
        let text = format!("[[listener]]\n{listener}");
        let config = Config::parse(&text, Path::new("x.toml"), &Overrides::default());
        let config = config.unwrap_or_else(|problems| panic!("{problems}"));
        let sys = Unix::new(false).expect("a poll");
        let (reactor, bound) = serve::open(sys, &config).expect("a listener");
        let Bind::Inet(at) = bound[0] else {
            panic!("datagrams go to addresses");
        };
        Self { reactor, at }
    }

    fn turn(&mut self) {
        assert_eq!(self.reactor.turn().expect("a turn"), Turn::Continue);
    }

    fn listener(&mut self) -> &ListenerMetrics {
        let mut all = self.reactor.metrics().listeners.iter();
        all.next().expect("a listener").1
    }

    fn counted(&mut self) -> &DatagramMetrics {
        self.listener().of.datagrams().expect("datagrams")
    }

    fn dropped(&mut self, cause: Cause) -> u64 {
        self.counted().dropped[cause as usize]
    }

    /// Makes turns until that is so.
    fn turn_until(&mut self, is_so: impl Fn(&mut Self) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < until, "it stays at {:?}", self.counted());
            self.turn();
        }
    }
}

fn client(ip: impl Into<IpAddr>, to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((ip.into(), 0)).expect("a socket");
    socket.connect(to).expect("an address");
    socket.set_nonblocking(true).expect("an option");
    socket
}

/// How many answers are there now.
fn answers(socket: &UdpSocket) -> u64 {
    let mut count = 0;
    loop {
        match socket.recv(&mut [0; 2048]) {
            Ok(_) => count += 1,
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                return count;
            }
        }
    }
}

/// The sums, for a server that sent its answers to clients that lost none.
#[track_caller]
fn check_books(bench: &mut Bench, sent: u64, answered: u64) {
    let counted = bench.counted().clone();
    assert_eq!(sent, counted.received + counted.kernel_drops, "{counted:?}");
    assert_eq!(answered, counted.sent, "{counted:?}");
    let ping = bench.listener().of.ping();
    let more = ping.map_or(0, |ping| ping.impaired[Impairment::Duplicated as usize]);
    let dropped: u64 = counted.dropped.iter().sum();
    let gone = counted.sent + dropped + counted.waiting;
    assert_eq!(counted.received + more, gone, "{counted:?}");
}

#[test]
fn at_overload_every_datagram_is_answered_lost_on_purpose_or_dropped_by_the_kernel() {
    let mut bench = Bench::new(
        "kind = 'udp-ping'\nbind = '127.0.0.1:0'\nseed = 7\nloss = '1/4'\nduplicate = 0.1\n\
         burst_start = 0.05\nrecv_buffer_bytes = '64KiB'",
    );
    let socket = client(Ipv4Addr::LOCALHOST, bench.at);
    let (mut sent, mut answered) = (0, 0);
    for round in 0..20 {
        // More than its buffer holds, before it gets to look at them; and less.
        let burst = if round % 3 == 0 { 2000 } else { 50 };
        for _ in 0..burst {
            socket
                .send(b"Ping 1 1700000000.5 abcdefgh")
                .expect("a socket");
            sent += 1;
        }
        bench.turn_until(|bench| bench.counted().received + bench.counted().kernel_drops >= sent);
        answered += answers(&socket);
    }
    check_books(&mut bench, sent, answered);
    assert!(bench.counted().kernel_drops > 1000);
    assert!(bench.dropped(Cause::Loss) > 0 && bench.dropped(Cause::Burst) > 0);
}

/// An address of this machine that is not loopback, if it has one.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // Nothing is sent: the kernel only looks for a way there.
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    let own = socket.local_addr().ok()?.ip();
    (!own.is_loopback() && !own.is_unspecified()).then_some(own)
}

#[test]
fn a_source_that_is_not_loopback_has_its_rate_datagram_by_datagram() {
    let Some(own) = own_address() else {
        return; // a machine without a network
    };
    for joins in [false, true] {
        let mut bench = Bench::new(&format!(
            "kind = 'udp-echo'\nbind = '{own}:0'\nsource_rate_max = 100"
        ));
        let socket = client(own, bench.at);
        let mut bursts = Bursts::new(&socket, &TUNING, joins);
        (0..640).for_each(|_| bursts.push(&[b'X'; 64]));
        assert_eq!(bursts.send(&socket).0, 640);
        bench.turn_until(|bench| bench.counted().received == 640);
        let mut answered = 0;
        while let Ok(1..) = bursts.receive(&socket, |_| answered += 1) {}
        check_books(&mut bench, 640, answered);
        // What it may at a stroke, and what came to it meanwhile.
        assert!((100..200).contains(&answered), "{answered}");
        assert_eq!(bench.dropped(Cause::Rate), 640 - answered);
    }
}

const TUNING: DatagramTuning = DatagramTuning {
    recv_buffer_bytes: 1 << 20,
    send_buffer_bytes: 1 << 20,
    receive_runs: true,
};

#[test]
fn what_comes_as_a_run_is_answered_like_what_comes_alone() {
    let words: Vec<Vec<u8>> = (0..500)
        .map(|i| match i % 50 {
            0 => Vec::new(),
            1 => "stra\u{df}e".into(), // a character longer, so that it leaves its run
            2..=30 => format!("{i:04} abcdefgh").into_bytes(),
            _ => format!("{i:04} ab").into_bytes(),
        })
        .collect();
    let mut expected: Vec<Vec<u8>> = words
        .iter()
        .map(|word| {
            String::from_utf8(word.clone())
                .expect("text")
                .to_uppercase()
                .into()
        })
        .collect();
    expected.sort();
    for receive_runs in [true, false] {
        for joins in [true, false] {
            let mut bench = Bench::new(&format!(
                "kind = 'udp-echo'\nbind = '127.0.0.1:0'\nreceive_runs = {receive_runs}"
            ));
            let socket = client(Ipv4Addr::LOCALHOST, bench.at);
            let mut bursts = Bursts::new(&socket, &TUNING, joins);
            words.iter().for_each(|word| bursts.push(word));
            assert_eq!(bursts.send(&socket).0, words.len());
            let count = words.len() as u64;
            bench.turn_until(|bench| bench.counted().received == count);
            let mut came = Vec::new();
            while let Ok(1..) = bursts.receive(&socket, |answer| came.push(answer.to_vec())) {}
            check_books(&mut bench, count, came.len() as u64);
            came.sort();
            assert!(came == expected, "{receive_runs} {joins}");
        }
    }
}

/// The listener of a kind that loses is served beside one that is flooded.
#[test]
fn a_flood_of_datagrams_leaves_the_other_listeners_their_turns() {
    let server = Program::start(
        "[[listener]]\nkind = 'udp-ping'\nbind = '127.0.0.1:0'\nloss = 0\n\
         [[listener]]\nkind = 'udp-echo'\nbind = '127.0.0.1:0'\n",
    );
    let ping = server.address("udp-ping").to_string();
    let (host, port) = ping.split_once(':').expect("an address");
    let flood = [
        "flood",
        "udp",
        host,
        port,
        "--duration",
        "1s",
        "--window",
        "4096",
        "--json",
    ];
    let mut flood = common::command(&flood)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("the program runs");
    let echo = client(Ipv4Addr::LOCALHOST, server.address("udp-echo"));
    echo.set_nonblocking(false).expect("an option");
    echo.set_read_timeout(Some(Duration::from_secs(5)))
        .expect("a time-out");
    let mut trips = 0;
    while flood.try_wait().expect("a child").is_none() {
        echo.send(b"hello").expect("a socket");
        let mut answer = [0; 8];
        let bytes = echo
            .recv(&mut answer)
            .expect("an answer within five seconds");
        assert_eq!(&answer[..bytes], b"HELLO");
        trips += 1;
    }
    assert!(trips > 10, "{trips}");
    let told = flood.wait_with_output().expect("its output").stdout;
    let told: serde_json::Value = serde_json::from_slice(&told).expect("JSON");
    let number = |key: &str| told[key].as_u64().expect("a number");
    assert!(number("received") > 1000, "{told}");
    assert_eq!(
        number("sent"),
        number("received") + number("lost"),
        "{told}"
    );
    assert_eq!((number("corrupt"), number("duplicates")), (0, 0), "{told}");
    server.stop();
}

/// Without CAP_NET_ADMIN the kernel gives no more than its limit.
#[test]
fn the_log_says_where_the_kernel_gives_smaller_buffers() {
    let limit = std::fs::read_to_string("/proc/sys/net/core/rmem_max").expect("a limit");
    let limit: u64 = limit.trim().parse().expect("a number");
    let has_setpriv = std::process::Command::new("setpriv")
        .arg("--version")
        .output()
        .is_ok();
    if limit >= 512 << 20 || !has_setpriv {
        return;
    }
    let config = "[[listener]]\nkind = 'udp-echo'\nbind = '127.0.0.1:0'\n\
                  recv_buffer_bytes = '512MiB'\n";
    let script = "exec setpriv --bounding-set=-net_admin --inh-caps=-net_admin \"$0\" \"$@\"";
    let mut server = Program::start_by(config, script);
    let told = server.wait_log("recv_buffer_bytes is 536870912, and the kernel gives ");
    assert!(told.contains(&limit.to_string()), "{told}");
    server.stop();
}
