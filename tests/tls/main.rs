//! TLS over the real kernel, with rustls as the client and, in `peers`, with others.

#[path = "../common/mod.rs"]
mod common;

mod certificates;
mod crowd;
mod peers;
mod plain;

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use common::{InThread, Seen, connect};
use netlab_reactor::ending::Phase;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A certificate for `localhost`, written where the configuration expects it.
fn certificate(dir: &Path) -> CertificateDer<'static> {
    certificate_for(&["localhost"], &dir.join("cert.pem"), &dir.join("key.pem"))
}

/// A certificate for these names, in these files.
fn certificate_for(names: &[&str], cert: &Path, key: &Path) -> CertificateDer<'static> {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    fs::write(cert, made.cert.pem()).expect("a file");
    fs::write(key, made.signing_key.serialize_pem()).expect("a file");
    made.cert.der().clone()
}

struct Fixture {
    server: InThread,
    trusted: CertificateDer<'static>,
    config: Arc<ClientConfig>,
    _files: tempfile::TempDir,
}

fn fixture() -> Fixture {
    fixture_with("", "")
}

/// With these lines in the listener, and these before it.
fn fixture_with(lines: &str, before: &str) -> Fixture {
    let files = tempfile::tempdir().expect("a folder");
    let trusted = certificate(files.path());
    let root = files.path().join("site");
    fs::create_dir(&root).expect("a folder");
    let large: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
    fs::write(root.join("large"), large).expect("a file");
    fs::write(root.join("small"), "small").expect("a file");
    let text = format!(
        "{before}\n[[listener]]\nkind = 'http'\nbind = '127.0.0.1:0'\nroot = '{0}/site'\ntls = {{ cert = '{0}/cert.pem', key = '{0}/key.pem' }}\n{lines}\n",
        files.path().display()
    );
    Fixture {
        server: InThread::start(&text),
        config: trusting(trusted.clone()),
        trusted,
        _files: files,
    }
}

/// A client that trusts one certificate.
fn trusting(certificate: CertificateDer<'static>) -> Arc<ClientConfig> {
    Arc::new(client(&[certificate], rustls::DEFAULT_VERSIONS))
}

/// A client that trusts these certificates and speaks these versions.
fn client(
    trusted: &[CertificateDer<'static>],
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for certificate in trusted {
        roots.add(certificate.clone()).expect("our own certificate");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

fn connect_tls(config: &Arc<ClientConfig>, to: SocketAddr) -> Stream {
    connect_named(config, "localhost", to)
}

fn connect_named(config: &Arc<ClientConfig>, name: &str, to: SocketAddr) -> Stream {
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let client = ClientConnection::new(Arc::clone(config), name).expect("a client");
    StreamOwned::new(client, connect(to))
}

/// Sends a request; its answer must be good. The connection stays open.
fn ask(stream: &mut Stream, path: &str) -> std::io::Result<Vec<u8>> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let (head, body) = answer(stream);
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    Ok(body)
}

impl Fixture {
    fn connect(&self) -> Stream {
        connect_tls(&self.config, self.server.address(0))
    }
}

/// One answer: its head, and as much body as it announces.
fn answer(stream: &mut Stream) -> (String, Vec<u8>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a head");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("text");
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))
        .expect("a length");
    let mut body = vec![0; length.parse().expect("a number")];
    stream.read_exact(&mut body).expect("a body");
    (head, body)
}

#[test]
fn files_of_every_size_arrive_whole_over_one_connection() {
    let fixture = fixture();
    let mut stream = fixture.connect();
    for _ in 0..2 {
        stream
            .write_all(b"GET /small HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .expect("room");
        let (head, body) = answer(&mut stream);
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert_eq!(body, b"small");
        stream
            .write_all(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .expect("room");
        let (_, body) = answer(&mut stream);
        assert!(
            body.len() == 3_000_000
                && body
                    .iter()
                    .enumerate()
                    .all(|(i, byte)| *byte == (i % 251) as u8)
        );
    }
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    fixture.server.stop();
}

#[test]
fn the_end_is_announced_so_that_a_cut_answer_can_be_told() {
    let fixture = fixture();
    let mut stream = fixture.connect();
    stream
        .write_all(b"GET /small HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .expect("room");
    let mut bytes = Vec::new();
    // Without a close_notify rustls would call this an unexpected end.
    stream.read_to_end(&mut bytes).expect("an orderly end");
    assert!(bytes.ends_with(b"\r\n\r\nsmall"));
    fixture.server.stop();
}

#[test]
fn a_client_that_ends_first_is_told_the_end_of_the_answer_too() {
    let fixture = fixture();
    let mut stream = fixture.connect();
    stream
        .write_all(b"GET /small HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .expect("room");
    stream.conn.send_close_notify();
    stream.flush().expect("room");
    stream.sock.shutdown(Shutdown::Write).expect("a connection");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an orderly end");
    assert!(bytes.ends_with(b"\r\n\r\nsmall"));
    fixture
        .server
        .wait(|seen| seen.accepted == 1 && seen.active == 0);
    fixture.server.stop();
}

#[test]
fn what_a_turn_may_move_counts_the_records_and_not_what_is_in_them() {
    let fixture = fixture();
    let mut stream = fixture.connect();
    let request = b"GET /small HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for byte in request {
        stream.write_all(&[*byte]).expect("room");
        stream.flush().expect("room");
    }
    assert_eq!(answer(&mut stream).1, b"small");
    // RFC 8446 section 5.2: a head of 5, the byte, its type, a tag of 16.
    let sent = (request.len() * 23) as u64;
    fixture.server.wait(|seen| seen.bytes_in >= sent);
    fixture.server.stop();
}

/// A client that sends all of its request before it looks for an answer, as most libraries do, is
/// answered early.
#[test]
fn an_early_answer_reaches_a_client_that_is_still_sending() {
    let fixture = fixture_with("max_body_bytes = 1000", "");
    for body_bytes in [1001, 300_000, 5_000_000, 60_000_000] {
        let mut stream = fixture.connect();
        let head = format!(
            "PUT /small HTTP/1.1\r\nHost: localhost\r\nContent-Length: {body_bytes}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).expect("room");
        let piece = vec![b'x'; 100_000];
        let mut left = body_bytes;
        while left > 0 {
            let count = stream.write(&piece[..left.min(piece.len())]);
            left -= count.expect("a server that reads");
        }
        let (head, _) = answer(&mut stream);
        assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
        assert_eq!(stream.read(&mut [0]).expect("an orderly end"), 0);
    }
    fixture.server.wait(|seen| seen.accepted == 4);
    fixture.server.stop();
}

#[test]
fn a_client_beyond_the_limit_is_told_so_once_it_can_be() {
    let fixture = fixture_with("max_connections = 1", "");
    let mut first = fixture.connect();
    first
        .write_all(b"GET /small HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .expect("room");
    assert_eq!(answer(&mut first).1, b"small");
    let mut second = fixture.connect();
    second
        .write_all(b"GET /small HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .expect("room");
    let (head, _) = answer(&mut second);
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert_eq!(second.read(&mut [0]).expect("an orderly end"), 0);
    fixture.server.stop();
}

#[test]
fn a_handshake_that_takes_too_long_is_counted_as_one() {
    let fixture = fixture_with("head_timeout = '100ms'", "");
    let timed_out = |phase: Phase| move |seen: &Seen| seen.timed_out[phase as usize];
    let (handshakes, idle) = (timed_out(Phase::Handshake), timed_out(Phase::Idle));
    // Nothing, the beginning of a first record, and one that is not answered.
    let silent = connect(fixture.server.address(0));
    let mut begun = connect(fixture.server.address(0));
    begun.write_all(&[22, 3, 1]).expect("room");
    let mut stream = fixture.connect();
    stream.conn.write_tls(&mut stream.sock).expect("room");
    fixture.server.wait(|seen| handshakes(seen) == 3);
    drop((silent, begun, stream));
    fixture.server.stop();
    // One that is done, after which nothing comes.
    let fixture = fixture_with("head_timeout = '2s'", "");
    let mut stream = fixture.connect();
    while stream.conn.is_handshaking() {
        stream
            .conn
            .complete_io(&mut stream.sock)
            .expect("a handshake");
    }
    let seen = fixture.server.wait(|seen| idle(seen) == 1);
    assert_eq!(handshakes(&seen), 0);
    fixture.server.stop();
}
