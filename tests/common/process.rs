//! A server for the tests: the binary itself, on free ports, in a folder of its own.
#![allow(
    dead_code,
    reason = "each test program uses what it needs of this file"
)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long anything may take before a test fails; generous, because it is reached only when something hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running server. Dropped, it is killed.
pub(crate) struct Server {
    /// Its folder: the configuration, its log, and what relative paths lead to.
    pub(crate) dir: tempfile::TempDir,
    /// The process.
    pub(crate) child: Child,
    listening: Vec<(String, String)>,
}

/// The binary with arguments, without the surrounding environment's settings.
pub(crate) fn binary(arguments: &[&str]) -> Command {
    clean(
        Command::new(env!("CARGO_BIN_EXE_netlab-reactor")),
        arguments,
    )
}

fn clean(mut command: Command, arguments: &[&str]) -> Command {
    for name in [
        "NETLAB_CONFIG",
        "NETLAB_BIND",
        "NETLAB_ROOT",
        "NETLAB_LOG",
        "NETLAB_SECRET",
        "NETLAB_PASSWORD",
        "RUST_LOG",
    ] {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs the binary with a configuration that is not expected to serve, to its end.
pub(crate) fn run(config: &str) -> Output {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("netlab.toml");
    fs::write(&file, config).expect("a file");
    binary(&["--config", file.to_str().expect("a name")])
        .output()
        .expect("the binary runs")
}

impl Server {
    /// Starts it with a configuration and waits until it is ready.
    pub(crate) fn start(config: &str) -> Self {
        Self::start_with(config, binary(&[]))
    }

    /// The same with at most so many descriptors.
    pub(crate) fn start_with_descriptors(config: &str, count: u32) -> Self {
        let script = format!("ulimit -n {count}; exec \"$0\" \"$@\"");
        let arguments = ["-c", &script, env!("CARGO_BIN_EXE_netlab-reactor")];
        Self::start_with(config, clean(Command::new("sh"), &arguments))
    }

    fn start_with(config: &str, mut command: Command) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("netlab.toml");
        fs::write(&file, config).expect("a file");
        let log = fs::File::create(dir.path().join("log")).expect("a file");
        let mut child = command
            .arg("--config")
            .arg(&file)
            .current_dir(dir.path())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the binary runs");
        let out = child.stdout.take().expect("a pipe");
        let mut server = Self {
            dir,
            child,
            listening: Vec::new(),
        };
        let (tell, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    break;
                }
            }
        });
        loop {
            let Ok(line) = lines.recv_timeout(PATIENCE) else {
                panic!("it does not become ready: {}", server.log());
            };
            if line == "ready" {
                return server;
            }
            let mut words = line.splitn(3, ' ');
            match (words.next(), words.next(), words.next()) {
                (Some("listening"), Some(kind), Some(address)) => {
                    server.listening.push((kind.into(), address.into()));
                }
                _ => panic!("an unexpected line on standard output: {line:?}"),
            }
        }
    }

    /// What it said it listens on: kind and address, in order.
    pub(crate) fn listening(&self) -> &[(String, String)] {
        &self.listening
    }

    /// The address of the first listener of a kind.
    pub(crate) fn address(&self, kind: &str) -> SocketAddr {
        let of_kind = self.listening.iter().find(|(name, _)| name == kind);
        let (_, address) = of_kind.unwrap_or_else(|| panic!("no {kind} among the listeners"));
        address.parse().expect("an address")
    }

    /// A connection to the first listener of a kind.
    pub(crate) fn connect(&self, kind: &str) -> TcpStream {
        let stream = TcpStream::connect(self.address(kind)).expect("a connection");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a time-out above zero");
        stream
            .set_write_timeout(Some(PATIENCE))
            .expect("a time-out above zero");
        stream
    }

    /// A datagram socket connected to the first listener of a kind.
    pub(crate) fn datagrams(&self, kind: &str) -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.connect(self.address(kind)).expect("an address");
        socket
            .set_read_timeout(Some(PATIENCE))
            .expect("a time-out above zero");
        socket
    }

    /// What it logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// A path in its folder.
    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a running process");
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            assert!(
                Instant::now() < until,
                "it does not end; its log: {}",
                self.log()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends it with SIGTERM; its exit code.
    pub(crate) fn stop(mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.wait().code()
    }

    /// How many descriptors it has open.
    pub(crate) fn descriptors(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.child.id());
        fs::read_dir(folder).expect("a running process").count()
    }

    /// Waits until it has no more descriptors than that.
    pub(crate) fn expect_descriptors(&self, count: usize) {
        expect_within(
            || self.descriptors() <= count,
            || {
                format!(
                    "{} descriptors are open, {count} were before",
                    self.descriptors()
                )
            },
        );
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until something is so.
pub(crate) fn expect_within(so: impl Fn() -> bool, otherwise: impl Fn() -> String) {
    let until = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < until, "{}", otherwise());
        thread::sleep(Duration::from_millis(5));
    }
}

/// Sends a text and reads one answer of the given length.
pub(crate) fn exchange(stream: &mut TcpStream, send: &[u8], answer: usize) -> Vec<u8> {
    stream.write_all(send).expect("a connection");
    let mut bytes = vec![0; answer];
    stream.read_exact(&mut bytes).expect("an answer");
    bytes
}

/// Reads to the end of the stream.
pub(crate) fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an answer");
    bytes
}

/// One GET on a connection of its own: the status and the whole answer.
pub(crate) fn get(server: &Server, kind: &str, path: &str) -> (u16, String) {
    let mut stream = server.connect(kind);
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("a connection");
    let answer = String::from_utf8_lossy(&rest(&mut stream)).into_owned();
    let status = answer
        .get(9..12)
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| panic!("no status in {answer:?}"));
    (status, answer)
}

/// Whether a file or socket is there.
pub(crate) fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// Numbers that look random and are the same in each run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// The next number (xorshift64*).
    pub(crate) fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below a bound.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.number() >> 11) as usize % bound
    }

    /// Bytes of any values.
    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| (self.number() >> 56) as u8).collect()
    }
}
