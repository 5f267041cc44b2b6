//! Sockets that the program is given when it is started (`man 3 sd_listen_fds`).

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use common::{PATIENCE, Peer, Program, connect, expect_soon, temp_dir};
use rustix::process::Signal;

const TWO: &str = "[[listener]]\nkind = \"tcp-echo\"\nname = \"echo\"\nbind = \"127.0.0.1:1\"\n\
                   [[listener]]\nkind = \"udp-echo\"\nname = \"datagrams\"\nbind = \"127.0.0.1:1\"\n";

fn launcher() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/give.py");
    format!("exec python3 {}", path.display())
}

fn start(config: &str, given: &str) -> Program {
    Program::start_by(config, &format!("{} {given} -- \"$0\" \"$@\"", launcher()))
}

/// What the program says when it does not start.
fn refused(config: &str, given: &str) -> (Option<i32>, String) {
    let folder = temp_dir();
    let file = folder.path().join("netlab.toml");
    fs::write(&file, config).expect("a file");
    let script = format!("{} {given} -- \"$0\" --config \"$1\"", launcher());
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_netlab-reactor")]);
    let output = command.arg(&file).output().expect("sh");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), text)
}

fn echoes(mut stream: impl Read + Write) {
    stream.write_all(b"abc").expect("a connection");
    let mut answer = [0; 3];
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"ABC");
}

#[test]
#[ignore = "needs python3"]
fn sockets_are_served_by_the_listeners_of_their_names_across_reloads() {
    let mut program = start(TWO, "--names datagrams:echo udp tcp");
    let (echo, datagrams) = (program.address("tcp-echo"), program.address("udp-echo"));
    assert!(
        echo.port() > 1 && datagrams.port() > 1,
        "their own are refused to all but root"
    );
    let serves = |program: &Program| {
        echoes(connect(echo));
        let socket = program.datagrams("udp-echo");
        socket.send(b"abc").expect("a datagram");
        let mut answer = [0; 10];
        let count = socket.recv(&mut answer).expect("an answer");
        assert_eq!(&answer[..count], b"ABC");
    };
    serves(&program);
    let descriptors = program.descriptors();
    let mut open = connect(echo);
    echoes(&open);
    // A listener serves anew, and the addresses in the file say nothing.
    let other = TWO.replace("127.0.0.1:1", "127.0.0.1:2") + "source_rate_max = 77\n";
    fs::write(program.path("netlab.toml"), other).expect("a file");
    program.signal(Signal::HUP);
    program.wait_log("configured anew");
    serves(&program);
    echoes(&mut open);
    drop(open);
    program.expect_descriptors(descriptors);
    // Nobody wants it any more.
    let gone = "[[listener]]\nkind = \"udp-echo\"\nname = \"datagrams\"\nbind = \"127.0.0.1:1\"\n";
    fs::write(program.path("netlab.toml"), gone).expect("a file");
    program.signal(Signal::HUP);
    let warning = program.wait_log("it is closed");
    let expected = format!("the given socket 4 \"echo\" (TCP {echo}): no listener");
    assert!(warning.contains(&expected), "{warning}");
    expect_soon(
        || TcpStream::connect(echo).is_err(),
        || "it still listens".to_owned(),
    );
    program.stop();
}

#[test]
#[ignore = "needs python3"]
fn a_socket_at_a_path_is_served_and_its_path_stays() {
    let folder = temp_dir();
    let path = folder.path().join("echo.sock");
    let config = format!(
        "[[listener]]\nkind = \"tcp-echo\"\nbind = \"unix:{}\"\n",
        path.display()
    );
    let program = start(&config, &format!("unix:{}", path.display()));
    let expected = format!("unix:{}", path.display());
    assert_eq!(program.listening(), [("tcp-echo".to_owned(), expected)]);
    let stream = std::os::unix::net::UnixStream::connect(&path).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    echoes(stream);
    program.stop();
    assert!(path.exists(), "it belongs to whoever made it");
}

#[test]
#[ignore = "needs python3"]
fn what_no_listener_can_use_is_an_error_that_says_what_was_expected() {
    let cases = [
        (
            "--names nobody tcp",
            "the given socket 3 \"nobody\" (TCP 127.0.0.1:",
        ),
        (
            "--names nobody tcp",
            "expected one of the names \"echo\", \"datagrams\", or one of the addresses",
        ),
        (
            "--names echo udp",
            "is of kind \"tcp-echo\"; expected a listening stream socket",
        ),
        ("connected", "the given socket 3: it does not listen"),
        (
            "--names echo:datagrams:more tcp udp",
            "LISTEN_FDNAMES has 3 names for the 2 sockets",
        ),
    ];
    for (given, expected) in cases {
        let (code, text) = refused(TWO, given);
        assert_eq!(code, Some(69), "{given}: {text}");
        assert!(text.contains(expected), "{given}: {text}");
    }
}

#[test]
fn variables_that_are_for_another_process_are_not_heeded() {
    let config = TWO.replace("127.0.0.1:1", "127.0.0.1:0");
    let script = "LISTEN_PID=1 LISTEN_FDS=3 exec \"$0\" \"$@\"";
    let mut program = Program::start_by(&config, script);
    program.wait_log("LISTEN_FDS is for process 1, not for this one");
    echoes(program.connect("tcp-echo"));
    program.stop();
}

#[test]
fn a_descriptor_that_is_not_open_is_an_error_that_names_it() {
    let script = "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" serve 3<&-";
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_netlab-reactor")]);
    let output = command.output().expect("sh");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{text}");
    assert!(
        text.contains("descriptor 3 of LISTEN_FDS is not open"),
        "{text}"
    );
}

/// One request on a connection of its own; the first line of the answer.
fn request(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let head = "GET /HelloWorld.html HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(head.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// A server whose socket is held outside, and that is started again with each order.
struct Held {
    holder: Peer,
    orders: std::process::ChildStdin,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    address: SocketAddr,
}

impl Held {
    fn start(folder: &Path) -> Self {
        let file = folder.join("netlab.toml");
        fs::write(&file, "[[listener]]\nkind = \"http\"\nname = \"web\"\n").expect("a file");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/give.py");
        let mut holder = Command::new("python3")
            .arg(path)
            .args(["--keep", "--names", "web", "tcp", "--"])
            .args([env!("CARGO_BIN_EXE_netlab-reactor"), "-q", "--config"])
            .arg(&file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let orders = holder.stdin.take().expect("a pipe");
        let mut lines = BufReader::new(holder.stdout.take().expect("a pipe")).lines();
        let at = lines.next().expect("a line").expect("UTF-8");
        let port = at.trim_end_matches(')').rsplit(' ').next().expect("a port");
        let address = format!("127.0.0.1:{port}").parse().expect("an address");
        Self {
            holder: Peer(holder),
            orders,
            lines,
            address,
        }
    }

    fn start_again(&mut self) {
        self.orders.write_all(b"\n").expect("it runs");
        let line = self.lines.next().expect("a line").expect("UTF-8");
        assert_eq!(line, "again");
    }

    fn stop(self) {
        let Self {
            mut holder, orders, ..
        } = self;
        drop(orders);
        let status = holder.0.wait().expect("an exit status");
        assert!(status.success(), "{status}");
    }
}

#[test]
#[ignore = "needs python3 and wrk"]
fn restarts_with_a_socket_that_is_held_outside_lose_no_request_of_a_kept_connection() {
    let folder = temp_dir();
    let mut held = Held::start(folder.path());
    let url = format!("http://{}/HelloWorld.html", held.address);
    let load = Command::new("wrk")
        .args(["-t", "2", "-c", "16", "-d", "12", &url])
        .stdout(Stdio::piped())
        .spawn()
        .expect("wrk");
    for _ in 0..6 {
        thread::sleep(std::time::Duration::from_millis(1500));
        held.start_again();
    }
    let output = load.wait_with_output().expect("wrk");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && told.contains("Requests/sec"),
        "{told}"
    );
    let is_clean = !told.contains("Socket errors") || told.contains("read 0, write 0, timeout 0");
    assert!(is_clean && !told.contains("Non-2xx"), "{told}");
    held.stop();
}

#[test]
#[ignore = "needs python3"]
fn restarts_with_a_socket_that_is_held_outside_lose_no_connection() {
    let folder = temp_dir();
    let mut held = Held::start(folder.path());
    let address = held.address;
    let (is_over, answered) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (is_over, answered) = (Arc::clone(&is_over), Arc::clone(&answered));
            thread::spawn(move || {
                while !is_over.load(Ordering::SeqCst) {
                    let status = request(address).expect("no connection is lost");
                    assert_eq!(status, "HTTP/1.1 200 OK");
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    for restart in 1..=10 {
        let before = answered.load(Ordering::SeqCst);
        expect_soon(
            || answered.load(Ordering::SeqCst) >= before + 50,
            || format!("restart {restart}: no answers, or a client failed"),
        );
        held.start_again();
    }
    is_over.store(true, Ordering::SeqCst);
    for client in clients {
        client.join().expect("no connection is lost");
    }
    held.stop();
}

#[test]
#[ignore = "needs systemd-socket-activate"]
fn systemd_socket_activate_gives_a_socket_at_the_first_connection() {
    let tool = "systemd-socket-activate";
    if Command::new(tool).arg("--version").output().is_err() {
        eprintln!("skipped: there is no {tool} (package systemd)");
        return;
    }
    // Free a moment ago: the tool tells nobody which port it got.
    let address = TcpListener::bind("127.0.0.1:0")
        .and_then(|socket| socket.local_addr())
        .expect("an address");
    let folder = temp_dir();
    let file = folder.path().join("netlab.toml");
    fs::write(
        &file,
        TWO.split("[[listener]]\nkind = \"udp")
            .next()
            .expect("a part"),
    )
    .expect("a file");
    let mut child = Command::new(tool)
        .args(["--fdname=echo", "--listen", &address.to_string()])
        .arg(env!("CARGO_BIN_EXE_netlab-reactor"))
        .arg("--config")
        .arg(&file)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the tool");
    let stdout = child.stdout.take().expect("a pipe");
    let _peer = Peer(child);
    // Whoever connects before it listens is refused.
    expect_soon(
        || TcpStream::connect(address).is_ok(),
        || "nobody listens".to_owned(),
    );
    let said: Vec<String> = BufReader::new(stdout)
        .lines()
        .map_while(Result::ok)
        .take(2)
        .collect();
    assert_eq!(
        said,
        [format!("listening tcp-echo {address}"), "ready".to_owned()]
    );
    echoes(connect(address));
}
