//! What the tests with real sockets share: a server in a thread of the test, or the program itself,
//! both with a configuration as text and a folder of their own, and both waited for by what they
//! do, never by time alone.
#![allow(
    dead_code,
    reason = "each test program uses the part of it that it needs"
)]

use std::io::{self, BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use netlab_reactor::config::{Config, Overrides};
use netlab_reactor::ending::Phase;
use netlab_reactor::metrics::{Gauges, StreamMetrics};
use netlab_reactor::reactor::Turn;
use netlab_reactor::serve;
use netlab_reactor::sys::unix::Unix;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Whatever is waited for takes milliseconds; after this it will not come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A new folder that goes away with the test.
pub(crate) fn temp_dir() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// A blocking client's connection, which gives up rather than hang a test.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream
        .set_write_timeout(Some(PATIENCE))
        .expect("a time-out");
    stream
}

/// What one `recv(1024)` brings; empty at the end of the stream.
pub(crate) fn recv(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = [0; 1024];
    let count = stream.read(&mut bytes).expect("bytes or the end");
    bytes[..count].to_vec()
}

/// The server closed: the end of the stream, or a reset if it had not read everything.
pub(crate) fn expect_closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => assert_eq!(rest, b"", "the server sent more"),
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
    }
}

/// What a server in a thread tells after each turn.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) files_stored: u64,
    /// Sessions of all listeners.
    pub(crate) accepted: u64,
    pub(crate) active: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    /// Sessions that were told that they were refused.
    pub(crate) refused: u64,
    /// Sessions that a time-out ended, by phase.
    pub(crate) timed_out: [u64; Phase::ALL.len()],
    pub(crate) gauges: Gauges,
    /// The most that pages held at the end of a turn.
    pub(crate) page_bytes_peak: usize,
}

/// A server in a thread of the test, on the real kernel.
pub(crate) struct InThread {
    pub(crate) dir: TempDir,
    addresses: Vec<SocketAddr>,
    seen: Arc<(Mutex<Seen>, Condvar)>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl InThread {
    /// Serves a configuration; its relative paths lead from a new folder.
    pub(crate) fn start(config: &str) -> Self {
        let dir = temp_dir();
        let file = dir.path().join("netlab.toml");
        let config = Config::parse(config, &file, &Overrides::default())
            .unwrap_or_else(|problems| panic!("{problems}"));
        let seen = Arc::new((Mutex::new(Seen::default()), Condvar::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (bound, addresses) = mpsc::channel();
        let thread = thread::spawn({
            let (seen, stop) = (Arc::clone(&seen), Arc::clone(&stop));
            move || turn_until_stopped(&config, &bound, &seen, &stop)
        });
        Self {
            dir,
            addresses: addresses.recv().expect("the listeners' addresses"),
            seen,
            stop,
            thread: Some(thread),
        }
    }

    /// Where the listener of this number in the configuration listens.
    pub(crate) fn address(&self, index: usize) -> SocketAddr {
        self.addresses[index]
    }

    /// Waits until what the server tells is so.
    pub(crate) fn wait(&self, is_so: impl Fn(&Seen) -> bool) -> Seen {
        let (seen, turned) = &*self.seen;
        let guard = seen.lock().expect("the server thread lives");
        let (guard, timeout) = turned
            .wait_timeout_while(guard, PATIENCE, |seen| !is_so(seen))
            .expect("the server thread lives");
        assert!(!timeout.timed_out(), "it stays at {:?}", *guard);
        *guard
    }

    /// Drains the server, and waits for its end.
    pub(crate) fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        self.stop.store(true, Ordering::SeqCst);
        // Any event ends the wait of its poll.
        drop(TcpStream::connect(self.addresses[0]));
        let result = thread.join();
        if !thread::panicking() {
            result.expect("the server did not panic");
        }
    }
}

impl Drop for InThread {
    fn drop(&mut self) {
        self.end();
    }
}

fn turn_until_stopped(
    config: &Config,
    bound: &mpsc::Sender<Vec<SocketAddr>>,
    seen: &(Mutex<Seen>, Condvar),
    stop: &AtomicBool,
) {
    let sys = Unix::new(false).expect("a poll");
    let (mut reactor, binds) = serve::open(sys, config).expect("the listeners open");
    let address = |bind: &netlab_reactor::sys::Bind| match bind {
        netlab_reactor::sys::Bind::Inet(address) => *address,
        netlab_reactor::sys::Bind::Unix(path) => panic!("{} is no address", path.display()),
    };
    bound
        .send(binds.iter().map(address).collect())
        .expect("the test waits");
    let (mut draining, mut page_bytes_peak) = (false, 0);
    while reactor.turn().expect("a turn") == Turn::Continue {
        let metrics = reactor.metrics();
        let listeners = || metrics.listeners.iter().map(|(_, listener)| listener);
        let streams = || listeners().filter_map(|l| l.of.streams());
        page_bytes_peak = page_bytes_peak.max(metrics.gauges.page_bytes_held);
        *seen.0.lock().expect("the test lives") = Seen {
            files_stored: listeners()
                .filter_map(|l| Some(l.of.upload()?.files_stored))
                .sum(),
            accepted: streams().map(|s| s.accepted).sum(),
            active: streams().map(|s| s.active).sum(),
            bytes_in: listeners().map(|l| l.bytes_in).sum(),
            bytes_out: listeners().map(|l| l.bytes_out).sum(),
            refused: streams().map(|s| s.ended_refused).sum(),
            timed_out: Phase::ALL.map(|phase| {
                let count = |s: &StreamMetrics| s.timed_out[phase as usize];
                streams().map(count).sum()
            }),
            gauges: metrics.gauges,
            page_bytes_peak,
        };
        seen.1.notify_all();
        if !draining && stop.load(Ordering::SeqCst) {
            draining = true;
            reactor.drain();
        }
    }
}

/// The program, started with a configuration file in a folder of its own.
pub(crate) struct Program {
    pub(crate) dir: TempDir,
    pub(crate) child: Child,
    listening: Vec<(String, String)>,
    log: Receiver<String>,
    seen: Vec<String>,
}

/// The program with arguments, without the settings of the surrounding environment.
pub(crate) fn command(arguments: &[&str]) -> Command {
    without_settings(
        Command::new(env!("CARGO_BIN_EXE_netlab-reactor")),
        arguments,
    )
}

fn without_settings(mut command: Command, arguments: &[&str]) -> Command {
    for name in [
        "NETLAB_CONFIG",
        "NETLAB_BIND",
        "NETLAB_ROOT",
        "NETLAB_LOG",
        "NETLAB_LOG_FORMAT",
        "NETLAB_SECRET",
        "NETLAB_PASSWORD",
        "RUST_LOG",
    ] {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs the program with a configuration with which it is not expected to serve, to its end.
pub(crate) fn run(config: &str) -> Output {
    let dir = temp_dir();
    let file = dir.path().join("netlab.toml");
    std::fs::write(&file, config).expect("a file");
    let mut command = command(&["--config"]);
    command.arg(file).output().expect("the program runs")
}

impl Program {
    /// Starts it, and waits for its `ready`.
    pub(crate) fn start(config: &str) -> Self {
        Self::start_with(config, &[], command(&[]))
    }

    /// The same with files beside the configuration.
    pub(crate) fn start_beside(config: &str, files: &[(&str, &[u8])]) -> Self {
        Self::start_with(config, files, command(&[]))
    }

    /// The same while it is recorded, to `run.rec` beside the configuration.
    pub(crate) fn start_recorded(config: &str, files: &[(&str, &[u8])], flags: &[&str]) -> Self {
        let arguments = [&["serve", "--record", "run.rec"], flags].concat();
        Self::start_with(config, files, command(&arguments))
    }

    /// The same with at most so many descriptors.
    pub(crate) fn start_with_descriptors(config: &str, count: u32) -> Self {
        Self::start_by(config, &format!("ulimit -n {count}; exec \"$0\" \"$@\""))
    }

    /// The same with a log of everything, in a pipe that nobody reads.
    pub(crate) fn start_unread(config: &str) -> Self {
        Self::start_by(config, "mkfifo log; exec \"$0\" -vv \"$@\" 2<>log")
    }

    /// By a script of the shell; `"$0" "$@"` is the program with its arguments.
    pub(crate) fn start_by(config: &str, script: &str) -> Self {
        let arguments = ["-c", script, env!("CARGO_BIN_EXE_netlab-reactor")];
        Self::start_with(
            config,
            &[],
            without_settings(Command::new("sh"), &arguments),
        )
    }

    fn start_with(config: &str, files: &[(&str, &[u8])], mut command: Command) -> Self {
        let dir = temp_dir();
        let file = dir.path().join("netlab.toml");
        std::fs::write(&file, config).expect("a file");
        for (name, bytes) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, bytes).expect("a file");
        }
        command.arg("--config").arg(&file);
        Self::start_command(command, dir)
    }

    /// A command that serves, in a folder of its own.
    pub(crate) fn start_command(mut command: Command, dir: TempDir) -> Self {
        let mut child = command
            .current_dir(dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let stderr = child.stderr.take().expect("a pipe");
        let (sender, log) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut listening = Vec::new();
        let mut ready = false;
        for line in stdout.lines() {
            let line = line.expect("UTF-8");
            if line == "ready" {
                ready = true;
                break;
            }
            let words: Vec<&str> = line.splitn(3, ' ').collect();
            let ["listening", kind, address] = words[..] else {
                panic!("an unexpected line: {line}");
            };
            listening.push((kind.to_owned(), address.to_owned()));
        }
        let mut program = Self {
            dir,
            child,
            listening,
            log,
            seen: Vec::new(),
        };
        if !ready {
            while let Ok(line) = program.log.recv_timeout(PATIENCE) {
                program.seen.push(line);
            }
            panic!("the program is not ready: {:#?}", program.seen);
        }
        program
    }

    /// What it said it listens on: kind and address, in order.
    pub(crate) fn listening(&self) -> &[(String, String)] {
        &self.listening
    }

    /// Where the first listener of this kind listens.
    pub(crate) fn address(&self, kind: &str) -> SocketAddr {
        self.addresses(kind)[0]
    }

    /// A connection to the first listener of this kind.
    pub(crate) fn connect(&self, kind: &str) -> TcpStream {
        connect(self.address(kind))
    }

    /// A datagram socket connected to the first listener of this kind.
    pub(crate) fn datagrams(&self, kind: &str) -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.connect(self.address(kind)).expect("an address");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        socket
    }

    /// Where the listeners of this kind listen.
    pub(crate) fn addresses(&self, kind: &str) -> Vec<SocketAddr> {
        self.listening
            .iter()
            .filter(|(name, _)| name == kind)
            .map(|(_, address)| address.parse().expect("an address"))
            .collect()
    }

    /// A path in its folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Waits for a line of its log that contains this; each line is looked at once.
    pub(crate) fn wait_log(&mut self, text: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.log.recv_timeout(left) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => self.seen.push(line),
                Err(_) => panic!("{text:?} is not in the log: {:#?}", self.seen),
            }
        }
    }

    /// Everything that it logged and that was not waited for.
    pub(crate) fn log(&mut self) -> String {
        self.seen.extend(self.log.try_iter());
        self.seen.join("\n")
    }

    /// How many descriptors it has open.
    pub(crate) fn descriptors(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.child.id());
        std::fs::read_dir(folder)
            .expect("a running process")
            .count()
    }

    /// Waits until it has no more descriptors than that.
    pub(crate) fn expect_descriptors(&self, count: usize) {
        expect_soon(
            || self.descriptors() <= count,
            || format!("{} are open, {count} were before", self.descriptors()),
        );
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Lets it stand still, and waits until it does: a process that was told so may go on for a moment, and
    /// see what is sent to it then. SIGCONT lets it go on.
    pub(crate) fn hold_still(&self) {
        self.signal(Signal::STOP);
        let path = format!("/proc/{}/stat", self.child.id());
        let stands = || {
            let stat = std::fs::read_to_string(&path).expect("it runs");
            let behind_name = stat.rsplit(')').next();
            behind_name.is_some_and(|rest| rest.trim_start().starts_with('T'))
        };
        expect_soon(stands, || "it goes on".to_owned());
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("an exit status") {
                return status;
            }
            assert!(Instant::now() < end, "it does not end: {}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends SIGTERM and waits for its end, which must be in good order.
    pub(crate) fn stop(mut self) {
        self.terminate();
        let status = self.wait();
        assert!(status.success(), "{status}");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended long since.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until something is so that nothing tells of.
pub(crate) fn expect_soon(so: impl Fn() -> bool, otherwise: impl Fn() -> String) {
    let end = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < end, "{}", otherwise());
        thread::sleep(Duration::from_millis(5));
    }
}

/// A program that we did not write; it is killed at the end of the test.
pub(crate) struct Peer(pub(crate) Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that was free a moment ago, for programs that cannot choose one themselves.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
        .port()
}

/// Waits until somebody listens.
pub(crate) fn await_listener(port: u16) {
    expect_soon(
        || TcpStream::connect(("127.0.0.1", port)).is_ok(),
        || format!("nobody listens at {port}"),
    );
}

/// nginx, which serves a folder.
pub(crate) struct Nginx {
    pub(crate) port: u16,
    _peer: Peer,
    _dir: TempDir,
}

impl Nginx {
    /// `directives` are those of its `http` block.
    pub(crate) fn start(root: &Path, directives: &str) -> Self {
        let (dir, port) = (temp_dir(), free_port());
        let (own, root) = (dir.path().display(), root.display());
        let config = format!(
            "daemon off; master_process off; pid {own}/pid; error_log {own}/log; events {{}}\n\
             http {{ access_log off; client_body_temp_path {own}/t1; proxy_temp_path {own}/t2;\n\
             fastcgi_temp_path {own}/t3; uwsgi_temp_path {own}/t4; scgi_temp_path {own}/t5; {directives}\n\
             server {{ listen 127.0.0.1:{port}; root {root}; }} }}\n"
        );
        let file = dir.path().join("nginx.conf");
        std::fs::write(&file, config).expect("a file");
        let nginx = Command::new("nginx")
            .arg("-c")
            .arg(&file)
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx is installed");
        await_listener(port);
        Self {
            port,
            _peer: Peer(nginx),
            _dir: dir,
        }
    }
}

/// Runs a script of `tests/python`, which must end well; what it printed.
pub(crate) fn python(script: &str, address: SocketAddr, arguments: &[&str]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/python")
        .join(script);
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new("python3")
        .arg(path)
        .arg(address.ip().to_string())
        .arg(address.port().to_string())
        .args(arguments)
        .output()
        .expect("python3");
    let (out, err) = (
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr),
    );
    assert!(status.success(), "{script}: {status}\n{out}{err}");
    out.into_owned()
}
