//! Uploads over the real kernel: blocking clients that send in whatever pieces, read once, and go
//! away as they please.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use common::{InThread, PATIENCE, Program, connect, expect_closed, recv};
use netlab_reactor::wire::challenge::{Handshake, Secret};
use netlab_reactor::wire::user_file::UserInfo;
use socket2::SockRef;

const LISTENER: &str = "[[listener]]\nkind = \"upload\"\nbind = \"127.0.0.1:0\"\n";

fn framed(name: &str, size: usize) -> Vec<u8> {
    let json = format!("{{\"filename\": {name:?}, \"filesize\": {size}}}");
    let mut bytes = (json.len() as i32).to_le_bytes().to_vec();
    bytes.extend_from_slice(json.as_bytes());
    bytes
}

fn file(name: &str, body: &[u8]) -> Vec<u8> {
    [framed(name, body.len()), body.to_vec()].concat()
}

fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    (0..len)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect()
}

/// The files of a folder; the hidden folder of partial files must be empty.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let partials = fs::read_dir(dir.join(".partial")).expect("a folder");
    assert_eq!(partials.count(), 0, "a partial file is left");
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).expect("the folder") {
        let entry = entry.expect("an entry");
        if entry.file_type().expect("a type").is_file() {
            let name = entry.file_name().into_string().expect("UTF-8");
            files.insert(name, fs::read(entry.path()).expect("a file"));
        }
    }
    files
}

/// Sends in pieces of the given sizes, over and over, each a segment of its own.
fn send_in_pieces(stream: &mut TcpStream, mut bytes: &[u8], sizes: &[usize]) {
    stream.set_nodelay(true).expect("no delay");
    for &size in sizes.iter().cycle() {
        if bytes.is_empty() {
            return;
        }
        let (piece, rest) = bytes.split_at(size.min(bytes.len()));
        stream.write_all(piece).expect("the server reads");
        bytes = rest;
    }
}

fn answer(stream: &mut TcpStream, handshake: Handshake, secret: &str) -> Vec<u8> {
    let challenge = recv(stream).try_into().expect("32 bytes in one read");
    handshake.answer(&Secret::from(secret), &challenge)
}

#[test]
fn every_handshake_and_a_login_in_pieces_and_in_one() {
    let users = common::temp_dir();
    let path = users.path().join("users");
    fs::write(&path, UserInfo::line("ann", &Secret::from("tulip"))).expect("a file");
    let handshakes: Vec<Handshake> = Handshake::ALL.to_vec();
    let config: String = handshakes
        .iter()
        .map(|handshake| {
            format!(
                "{LISTENER}name = \"{handshake}\"\ndir = \"{handshake}\"\nhandshake = \"{handshake}\"\n\
                 secret = \"tiger\"\nlogin = {path:?}\n"
            )
        })
        .collect();
    let server = InThread::start(&config);
    let login = br#"{"operate": "login", "user": "ann", "passwd": "tulip"}"#;
    let body = pattern(100_000, 1);
    let mut stored = 0;
    for (index, &handshake) in handshakes.iter().enumerate() {
        for sizes in [&[1, 2, 3, 30_000][..], &[usize::MAX], &[1400]] {
            let mut client = connect(server.address(index));
            let answer = match handshake {
                Handshake::None => Vec::new(),
                _ => answer(&mut client, handshake, "tiger"),
            };
            send_in_pieces(&mut client, &answer, sizes);
            send_in_pieces(&mut client, login, sizes);
            assert_eq!(recv(&mut client), b"{\"flag\": true}");
            send_in_pieces(&mut client, &file("a.bin", &body), sizes);
            drop(client);
            stored += 1;
            server.wait(|seen| seen.files_stored == stored);
        }
        // Everything in one segment, the last byte together with the end.
        let mut client = connect(server.address(index));
        let answer = match handshake {
            Handshake::None => Vec::new(),
            _ => answer(&mut client, handshake, "tiger"),
        };
        let all = [&answer[..], login, &file("a.bin", b"one"), &file("b", b"")].concat();
        client.write_all(&all).expect("the server reads");
        client.shutdown(Shutdown::Write).expect("the end");
        assert_eq!(recv(&mut client), b"{\"flag\": true}");
        expect_closed(&mut client);
        stored += 2;
    }
    server.wait(|seen| seen.files_stored == stored && seen.active == 0);
    for handshake in handshakes {
        let files = files(&server.dir.path().join(handshake.name()));
        assert!(files["a.bin"] == body, "{handshake}");
        assert!(files["a.2.bin"] == body, "{handshake}");
        assert_eq!(files["a.3.bin"], b"one", "{handshake}");
        assert_eq!(files["b"], b"", "{handshake}");
    }
    server.stop();
}

#[test]
fn a_wrong_answer_closes_and_writes_nothing() {
    let server = InThread::start(&format!("{LISTENER}secret = \"tiger\"\n"));
    let mut client = connect(server.address(0));
    let mut wrong = answer(&mut client, Handshake::HmacMd5, "tiger");
    wrong[15] ^= 1;
    client.write_all(&wrong).expect("the server reads");
    expect_closed(&mut client);
    server.wait(|seen| seen.active == 0);
    assert!(files(&server.dir.path().join("uploads")).is_empty());
    server.stop();
}

#[test]
fn clients_that_vanish_leave_nothing_and_harm_nobody() {
    let server = InThread::start(&format!("{LISTENER}handshake = \"none\"\n"));
    let bytes = file("a.bin", &pattern(500_000, 2));
    let mut abrupt = connect(server.address(0));
    let mut orderly = connect(server.address(0));
    let mut patient = connect(server.address(0));
    for client in [&mut abrupt, &mut orderly, &mut patient] {
        client
            .write_all(&bytes[..300_000])
            .expect("the server reads");
    }
    server.wait(|seen| seen.bytes_in == 900_000);
    // A process that is killed with unread input resets its connection; one that ends sends the end
    // of the stream.
    SockRef::from(&abrupt)
        .set_linger(Some(Duration::ZERO))
        .expect("a reset on close");
    drop(abrupt);
    drop(orderly);
    server.wait(|seen| seen.active == 1);
    patient
        .write_all(&bytes[300_000..])
        .expect("the server reads");
    drop(patient);
    let seen = server.wait(|seen| seen.files_stored == 1 && seen.active == 0);
    assert_eq!(seen.gauges.pages_held, 0, "a page leaked");
    let files = files(&server.dir.path().join("uploads"));
    assert_eq!(files.len(), 1);
    assert!(files["a.bin"] == pattern(500_000, 2));
    server.stop();
}

#[test]
fn a_race_for_one_name_loses_no_file() {
    const CLIENTS: u8 = 40;
    let server = InThread::start(&format!("{LISTENER}handshake = \"none\"\n"));
    let address = server.address(0);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|i| thread::spawn(move || send_plainly(address, "x.txt", &[i; 3000])))
        .collect();
    for client in clients {
        client.join().expect("a client");
    }
    server.wait(|seen| seen.files_stored == u64::from(CLIENTS));
    let mut bodies: Vec<Vec<u8>> = files(&server.dir.path().join("uploads"))
        .into_values()
        .collect();
    bodies.sort();
    let expected: Vec<Vec<u8>> = (0..CLIENTS).map(|i| vec![i; 3000]).collect();
    assert!(bodies == expected);
    server.stop();
}

/// The plain client: one file, reads nothing, closes.
fn send_plainly(address: SocketAddr, name: &str, body: &[u8]) {
    let mut client = connect(address);
    client
        .write_all(&framed(name, body.len()))
        .expect("the server reads");
    client.write_all(body).expect("the server reads");
}

#[test]
fn large_files_arrive_whole_with_pipes_and_without() {
    let bodies = [48 << 20, 1, (3 << 20) + 1, 70_001, 20_000].map(|len| pattern(len, 3));
    let names = ["a", "b", "c", "d", "e"];
    let sent: Vec<u8> = names
        .iter()
        .zip(&bodies)
        .flat_map(|(name, body)| file(name, body))
        .collect();
    for pipes in ["", "[limits]\nmax_pipes = 1\n", "[limits]\nmax_pipes = 0\n"] {
        let server = InThread::start(&format!("{pipes}{LISTENER}handshake = \"none\"\n"));
        let address = server.address(0);
        let mut clients = [connect(address), connect(address)];
        let [whole, pieces] = &mut clients;
        thread::scope(|scope| {
            scope.spawn(|| whole.write_all(&sent).expect("the server reads"));
            let sizes = [700_000, 1_448, 65_536, 9, 300_000];
            send_in_pieces(pieces, &sent, &sizes);
        });
        drop(clients);
        let seen = server.wait(|seen| seen.files_stored == 10 && seen.active == 0);
        assert_eq!(seen.gauges.pages_held, 0, "a page leaked");
        let files = files(&server.dir.path().join("uploads"));
        assert_eq!(files.len(), 10);
        for (name, body) in names.iter().zip(&bodies) {
            let same = files.iter().filter(|(stored, _)| stored.starts_with(name));
            assert_eq!(
                same.filter(|(_, stored)| *stored == body).count(),
                2,
                "{name}"
            );
        }
        server.stop();
    }
}

#[test]
fn a_file_under_way_at_the_end_of_the_process_is_finished() {
    let mut program = Program::start(&format!("{LISTENER}secret = \"tiger\"\n"));
    let address = program.address("upload");
    let bytes = file("a.bin", &pattern(3 << 20, 4));
    let (first, rest) = bytes.split_at(1 << 20);
    let [mut client, mut idle] = [(); 2].map(|()| {
        // Whoever has a challenge was accepted: what only waits in the kernel's queue is reset when
        // the listener closes.
        let mut client = connect(address);
        let answer = answer(&mut client, Handshake::HmacMd5, "tiger");
        client.write_all(&answer).expect("the server reads");
        client
    });
    client.write_all(first).expect("the server reads");
    program.terminate();
    program.wait_log("draining");
    expect_closed(&mut idle);
    let refused = TcpStream::connect_timeout(&address, PATIENCE);
    assert!(refused.is_err(), "it still accepts");
    client.write_all(rest).expect("the server reads on");
    expect_closed(&mut client);
    program.wait_log("stored a.bin, 3145728 bytes");
    assert!(program.wait().success());
    assert!(files(&program.path("uploads"))["a.bin"] == pattern(3 << 20, 4));
}

#[test]
fn what_a_client_sent_is_logged_on_one_line_of_bounded_length() {
    let mut server = Program::start_beside(
        &format!(
            "{LISTENER}handshake = \"none\"\n\n{LISTENER}handshake = \"none\"\nname = \"login\"\nlogin = \"users\"\n"
        ),
        &[("users", b"ann|32b449036da766d44b77aac4e4b082f7\n")],
    );
    let addresses = server.addresses("upload");
    let json = |text: &str| serde_json::to_string(text).expect("a text");
    let mut send = |address, bytes: &[u8], told: &str| {
        let mut client = connect(address);
        client.write_all(bytes).expect("the server reads");
        let line = server.wait_log(told);
        let is_plain = |c: char| (' '..='~').contains(&c) || c == '…';
        assert!(
            line.starts_with('[') && line.chars().all(is_plain),
            "{line}"
        );
        assert!(line.len() < 2300, "{} bytes", line.len());
        line
    };
    let long = "x".repeat(60_000);
    let line = send(addresses[0], &framed(&long, 1), "longer than 255 bytes");
    assert!(line.contains("xxx… [59744 bytes more]\""), "{line}");
    let json_text = json(&long);
    let bytes = [
        &(json_text.len() as i32).to_le_bytes(),
        json_text.as_bytes(),
    ]
    .concat();
    send(addresses[0], &bytes, "not a JSON object: it is a text");
    for (name, told) in [
        (
            "invoice\u{202e}fdp.exe",
            "\"invoice\\u{202e}fdp.exe\": the name holds a character that is not seen: U+202E",
        ),
        (
            "a\r\n[2026-01-01T00:00:00Z ERROR x] b",
            "\"a\\r\\n[2026-01-01T00:00:00Z ERROR x] b\"",
        ),
        ("com1.txt", "that of a device"),
    ] {
        let header = format!("{{\"filename\": {}, \"filesize\": 0}}", json(name));
        let bytes = [&(header.len() as i32).to_le_bytes(), header.as_bytes()].concat();
        send(addresses[0], &bytes, told);
    }
    for (user, told) in [
        (
            "eve\u{1b}[2J\u{2028}\u{feff}\u{9b}",
            "login of \"eve\\u{1b}[2J\\u{2028}\\u{feff}\\u{9b}\" refused",
        ),
        (&long[..4000], "bytes more]\" refused"),
    ] {
        let login = format!(
            "{{\"operate\": \"login\", \"user\": {}, \"passwd\": \"\"}}\n",
            json(user)
        );
        send(addresses[1], login.as_bytes(), told);
    }
    server.stop();
}
