//! The README's example of a new protocol. The first part is what the README shows; the tests below
//! keep it true.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use netlab_reactor::config::{Config, Overrides};
use netlab_reactor::gate::GateOptions;
use netlab_reactor::reactor::ListenerOptions;
use netlab_reactor::serve;
use netlab_reactor::sys::Bind;
use netlab_reactor::sys::unix::Unix;

// README: begin
use std::time::{Duration, Instant};

use netlab_reactor::ending::{Error, Phase};
use netlab_reactor::service::{Io, Peer, Service, work};

/// Answers each line with its length.
struct Lengths {
    idle_timeout: Duration,
}

/// One connection: all there is to know about it is how long it may stay silent.
struct Conn {
    idle_until: Instant,
}

/// The longest answer: the digits of a length and a line feed.
const ANSWER_BYTES_MAX: usize = 21;

impl Service for Lengths {
    type Conn = Conn;

    fn accept(&mut self, _peer: &Peer, now: Instant) -> Conn {
        Conn {
            idle_until: now + self.idle_timeout,
        }
    }

    fn advance(&mut self, conn: &mut Conn, io: &mut Io<'_>) -> Result<(), Error> {
        if io.drained {
            conn.idle_until = io.cx.now + self.idle_timeout; // a slow reader was not silent until now
        }
        // As many lines as are there, whatever segments they came in. A line is consumed only if
        // its answer has room and there is time for it; if not, the reactor calls again once there
        // is.
        while let Some(length) = io.down.rx.bytes().iter().position(|&byte| byte == b'\n') {
            if !io.down.tx.has_room(ANSWER_BYTES_MAX) || io.cx.work.is_spent() {
                return Ok(());
            }
            io.cx.work.charge(work::REQUEST_NS);
            io.down.rx.consume(length + 1);
            io.down.tx.put(format!("{length}\n").as_bytes(), io.cx.pool);
            conn.idle_until = io.cx.now + self.idle_timeout;
        }
        // Nothing is left but the beginning of a line.
        if io.down.eof || io.cx.draining {
            io.close(); // what is queued is still sent
        } else if !io.down.rx.has_space() {
            return Err(Error::Protocol("a line longer than a page".into()));
        } else if io.cx.now >= conn.idle_until && io.down.tx.is_empty() {
            return Err(Error::TimedOut(Phase::Idle));
        }
        Ok(())
    }

    fn state(&self, _conn: &Self::Conn) -> &'static str {
        "Running"
    }

    fn deadline(&self, conn: &Conn) -> Instant {
        conn.idle_until
    }
}
// README: end

/// A reactor with nothing but this service, on a thread that ends with the process.
fn start(idle_timeout: Duration) -> SocketAddr {
    let (tell, address) = mpsc::channel();
    thread::spawn(move || {
        let mut config = Config::without_a_file(&Overrides::default()).expect("the defaults");
        config.listeners.clear();
        let sys = Unix::new(false).expect("a poll");
        let (mut reactor, _) = serve::open(sys, &config).expect("a reactor");
        let options = ListenerOptions {
            name: "lengths".into(),
            kind: "lengths",
            connections_max: 10,
            descriptors: 1,
            serves_while_draining: false,
            gate: GateOptions::default(),
            tls: None,
        };
        let bind = Bind::Inet((Ipv4Addr::LOCALHOST, 0).into());
        match reactor.listen(&bind, options, Lengths { idle_timeout }) {
            Ok(Bind::Inet(bound)) => tell.send(bound).expect("the test waits"),
            other => panic!("{other:?}"),
        }
        reactor.run().expect("a loop");
    });
    address.recv().expect("an address")
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).expect("a connection");
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a time-out");
    stream
}

fn rest(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    text
}

#[test]
fn lines_are_answered_however_they_are_cut() {
    let address = start(Duration::from_secs(60));
    for piece in [1, 3, 1000] {
        let mut stream = connect(address);
        stream.set_nodelay(true).expect("an option");
        for part in b"one\n\nthree four\nunfinished".chunks(piece) {
            stream.write_all(part).expect("a connection");
        }
        stream.shutdown(Shutdown::Write).expect("a connection");
        assert_eq!(rest(stream), "3\n0\n10\n", "in pieces of {piece}");
    }
}

#[test]
fn silence_and_endless_lines_end_the_connection() {
    assert_eq!(rest(connect(start(Duration::from_millis(50)))), "");
    let mut stream = connect(start(Duration::from_secs(60)));
    // The connection is dropped meanwhile, so the last of these may fail.
    let _ = stream.write_all(&[b'x'; 1 << 20]);
    let mut byte = [0];
    assert!(!matches!(stream.read(&mut byte), Ok(1..)));
}

#[test]
fn the_readme_shows_this_service() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let here = fs::read_to_string(folder.join(file!())).expect("this file");
    let shown = here
        .split_once("// README: begin\n")
        .and_then(|(_, rest)| rest.split_once("// README: end\n"))
        .expect("the marks")
        .0;
    let readme = fs::read_to_string(folder.join("README.md")).expect("the README");
    assert!(
        readme.contains(&format!("```rust\n{shown}```\n")),
        "README.md shows another version of the example than tests/new_service.rs"
    );
}
