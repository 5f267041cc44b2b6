//! The file server on the real kernel: files that change under a slow reader, and a log that is
//! moved away.

mod common;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use common::{InThread, Program, connect, expect_soon, temp_dir};
use netlab_reactor::config::{Config, Overrides};
use netlab_reactor::reactor::Reactor;
use netlab_reactor::serve;
use netlab_reactor::sys::Bind;
use netlab_reactor::sys::unix::Unix;
use rustix::process::Signal;

/// More than all socket buffers on the way hold together.
const LARGE_BYTES: usize = 32 << 20;

fn http(root: &Path, lines: &str) -> String {
    format!("[[listener]]\nkind = \"http\"\nbind = \"127.0.0.1:0\"\nroot = {root:?}\n{lines}\n")
}

/// Asks for a file and reads the head; the connection stands at the body's first byte.
fn ask(stream: &mut TcpStream, target: &str) -> String {
    let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("a connection");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a head");
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("text")
}

/// Asks for a large file, reads its first bytes, lets `change` happen, and reads the rest.
fn under_a_slow_reader(change: impl FnOnce(&Path)) -> Vec<u8> {
    let root = temp_dir();
    let file = root.path().join("large");
    fs::write(&file, vec![b'a'; LARGE_BYTES]).expect("a file");
    let server = InThread::start(&http(root.path(), ""));
    let mut stream = connect(server.address(0));
    let head = ask(&mut stream, "/large");
    assert!(
        head.contains(&format!("Content-Length: {LARGE_BYTES}\r\n")),
        "{head}"
    );
    let mut body = vec![0; 64 * 1024];
    stream.read_exact(&mut body).expect("a body");
    change(&file);
    let ended = stream.read_to_end(&mut body);
    if let Err(error) = ended {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    server.stop();
    body
}

#[test]
fn a_file_written_anew_under_a_slow_reader_ends_short() {
    let body = under_a_slow_reader(|file| {
        fs::write(file, vec![b'b'; LARGE_BYTES]).expect("a write");
    });
    assert!(
        body.len() < LARGE_BYTES,
        "a complete answer of two versions"
    );
    assert!(
        body.iter().all(|byte| *byte == b'a'),
        "a piece of the other version"
    );
}

#[test]
fn a_file_cut_under_a_slow_reader_ends_short() {
    let body = under_a_slow_reader(|file| {
        let file = fs::File::options().write(true).open(file).expect("a file");
        file.set_len(LARGE_BYTES as u64 - 1).expect("a cut");
    });
    assert!(body.len() < LARGE_BYTES);
}

/// Asks for a folder as an archive, reads its first bytes, rewrites a file of it, and reads the
/// rest; whether a reset ended it.
fn archive_under_a_slow_reader(request: &str) -> (Vec<u8>, bool) {
    let root = temp_dir();
    fs::create_dir(root.path().join("d")).expect("a folder");
    for name in ["d/1", "d/2"] {
        fs::write(root.path().join(name), vec![b'a'; LARGE_BYTES]).expect("a file");
    }
    let server = InThread::start(&http(root.path(), "listing = true"));
    let mut stream = connect(server.address(0));
    stream.write_all(request.as_bytes()).expect("a connection");
    let mut answer = vec![0; 64 * 1024];
    stream.read_exact(&mut answer).expect("an answer");
    fs::write(root.path().join("d/1"), vec![b'b'; LARGE_BYTES]).expect("a write");
    let ended = stream.read_to_end(&mut answer);
    server.stop();
    (answer, ended.is_err())
}

#[test]
fn an_archive_of_a_file_rewritten_under_a_slow_reader_looks_cut() {
    for format in ["tar", "zip"] {
        let new = format!("GET /d.{format} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let (answer, _) = archive_under_a_slow_reader(&new);
        assert!(answer.len() < LARGE_BYTES, "{format}");
        assert!(
            !answer.ends_with(b"\r\n0\r\n\r\n"),
            "{format}: it looks whole"
        );
        // Where only the end of the connection says that it is whole, there is none.
        let old = format!("GET /d.{format} HTTP/1.0\r\n\r\n");
        let (answer, is_reset) = archive_under_a_slow_reader(&old);
        assert!(is_reset && answer.len() < LARGE_BYTES, "{format}");
    }
}

/// Asks for a file and reads nothing, until the socket is full; how much it then holds.
fn fill_the_socket(reactor: &mut Reactor<Unix>, address: SocketAddr) -> (TcpStream, usize) {
    let counted = |reactor: &mut Reactor<Unix>| reactor.metrics().listeners[0].bytes_out;
    let before = counted(reactor);
    let mut client = connect(address);
    client.set_nonblocking(true).expect("a mode");
    let request = b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n";
    client.write_all(request).expect("room");
    while counted(reactor) == before || reactor.metrics().gauges.runnable > 0 {
        reactor.turn().expect("a turn");
    }
    let held = counted(reactor) - before;
    (client, usize::try_from(held).expect("a length"))
}

/// What waits because the socket was full from the start was promised like what waits because a
/// send was cut short.
#[test]
fn an_answer_that_waits_behind_another_is_one_version_or_ends_short() {
    const OTHER_BYTES: usize = 100_000;
    let root = temp_dir();
    let (large, other) = (root.path().join("large"), root.path().join("other"));
    fs::write(&large, vec![b'a'; LARGE_BYTES]).expect("a file");
    fs::write(&other, vec![b'a'; OTHER_BYTES]).expect("a file");
    let file = root.path().join("netlab.toml");
    let config = Config::parse(&http(root.path(), ""), &file, &Overrides::default());
    let sys = Unix::new(false).expect("a poll");
    let opened = serve::open(sys, &config.expect("a configuration"));
    let (mut reactor, bound) = opened.expect("a listener");
    let Bind::Inet(address) = bound[0] else {
        panic!("an address was asked for");
    };
    // A little more than fits, so that the rest and the next answer leave in one go.
    let (probe, held) = fill_the_socket(&mut reactor, address);
    fs::write(&large, vec![b'a'; held + 10_000]).expect("a file");
    drop(probe);
    let (mut client, _) = fill_the_socket(&mut reactor, address);

    let request = b"GET /other HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let before = reactor.metrics().listeners[0].bytes_in;
    client.write_all(request).expect("room");
    while reactor.metrics().listeners[0].bytes_in == before {
        reactor.turn().expect("a turn");
    }
    fs::write(&other, vec![b'b'; OTHER_BYTES]).expect("a write");
    let (mut received, mut buffer) = (Vec::new(), vec![0; 1 << 20]);
    loop {
        match client.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => received.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                reactor.turn().expect("a turn");
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                break;
            }
        }
    }
    let body = |answer: &[u8]| {
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
        end.map_or(answer.len(), |end| end + 4)
    };
    let second = received.split_off(body(&received) + held + 10_000);
    let short = second.len() - body(&second);
    assert!(short < OTHER_BYTES, "one version's head, another's body");
}

#[test]
fn a_file_replaced_or_deleted_under_a_slow_reader_is_sent_whole() {
    let replaced = under_a_slow_reader(|file| {
        let other = file.with_extension("new");
        fs::write(&other, vec![b'b'; LARGE_BYTES]).expect("a file");
        fs::rename(&other, file).expect("a rename");
    });
    let deleted = under_a_slow_reader(|file| fs::remove_file(file).expect("removed"));
    for body in [replaced, deleted] {
        assert_eq!(body.len(), LARGE_BYTES);
        assert!(body.iter().all(|byte| *byte == b'a'));
    }
}

fn append(file: &Path, bytes: &[u8]) {
    let mut file = fs::File::options().append(true).open(file).expect("a file");
    file.write_all(bytes).expect("a write");
}

#[test]
fn a_file_that_grows_or_moves_under_a_slow_reader_is_sent_as_promised() {
    let line = b"one line more\n";
    let grown = under_a_slow_reader(|file| append(file, line));
    let doubled = under_a_slow_reader(|file| append(file, &vec![b'b'; LARGE_BYTES]));
    let rotated = under_a_slow_reader(|file| {
        append(file, line);
        let old = file.with_extension("1");
        fs::rename(file, &old).expect("a rename");
        append(&old, line);
        fs::write(file, line).expect("a file");
    });
    let moved = under_a_slow_reader(|file| {
        fs::rename(file, file.with_extension("1")).expect("a rename");
    });
    let linked = under_a_slow_reader(|file| {
        fs::hard_link(file, file.with_extension("1")).expect("a link");
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("a mode");
    });
    for body in [grown, doubled, rotated, moved, linked] {
        assert_eq!(body.len(), LARGE_BYTES);
        assert!(body.iter().all(|byte| *byte == b'a'));
    }
}

#[test]
fn a_file_rewritten_under_a_slow_reader_ends_short_whatever_its_length_and_time() {
    let modified = |file: &Path| fs::metadata(file).and_then(|found| found.modified());
    let rewrite = |file: &Path, len: usize, keeps_time: bool| {
        let before = modified(file).expect("a time");
        fs::write(file, vec![b'b'; len]).expect("a write");
        if keeps_time {
            let file = fs::File::options().write(true).open(file).expect("a file");
            file.set_modified(before).expect("a time");
        }
    };
    for (len, keeps_time) in [
        (LARGE_BYTES, false),
        (LARGE_BYTES, true),
        (LARGE_BYTES + 1, false),
        (LARGE_BYTES + 1, true),
        (2 * LARGE_BYTES, false),
        (LARGE_BYTES - 1, true),
        (0, false),
    ] {
        let body = under_a_slow_reader(|file| rewrite(file, len, keeps_time));
        assert!(
            body.len() < LARGE_BYTES,
            "{len} {keeps_time}: of two versions"
        );
        assert!(body.iter().all(|byte| *byte == b'a'));
    }
}

#[test]
fn a_log_that_was_moved_away_is_made_anew_on_a_signal() {
    let root = temp_dir();
    fs::write(root.path().join("a"), "abc").expect("a file");
    let server = Program::start(&http(root.path(), "access_log = \"log\""));
    let lines = |name: &str| {
        let text = fs::read_to_string(server.path(name)).unwrap_or_default();
        text.lines().count()
    };
    let get = || {
        let mut stream = server.connect("http");
        ask(&mut stream, "/a");
    };
    get();
    expect_soon(|| lines("log") == 1, || "no line".to_owned());
    for (signal, old) in [(Signal::USR1, "log.1"), (Signal::HUP, "log.2")] {
        fs::rename(server.path("log"), server.path(old)).expect("a rename");
        server.signal(signal);
        expect_soon(
            || server.path("log").exists(),
            || format!("no log after {signal:?}"),
        );
        get();
        expect_soon(|| lines("log") == 1, || format!("no line after {signal:?}"));
        assert_eq!(lines(old), 1);
    }
    server.stop();
}
