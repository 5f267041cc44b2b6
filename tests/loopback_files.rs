//! The file server on the real kernel: files that change under a slow reader, and a log that is moved away.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use common::{InThread, Program, connect, expect_soon, temp_dir};
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
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
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
