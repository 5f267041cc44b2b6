//! The proxy and origins over TLS, on the real kernel: this server, or rustls in a thread, is the
//! origin.

#[path = "common/mod.rs"]
mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;

use common::{InThread, PATIENCE, connect};
use rustls::pki_types::PrivateKeyDer;
use rustls::{HandshakeKind, ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;

/// A certificate that signs itself, for this name, and its key, in a folder of its own.
struct Own {
    dir: TempDir,
    config: ServerConfig,
}

impl Own {
    fn of(name: &str) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let mut params = rcgen::CertificateParams::new([name.to_owned()]).expect("a name");
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        let signing_key = rcgen::KeyPair::generate().expect("a key");
        let cert = params.self_signed(&signing_key).expect("a certificate");
        fs::write(dir.path().join("cert.pem"), cert.pem()).expect("a file");
        fs::write(dir.path().join("key.pem"), signing_key.serialize_pem()).expect("a file");
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("a key");
        let config = ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(vec![cert.into()], key);
        Self {
            dir,
            config: config.expect("a certificate"),
        }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// An origin with this certificate: files `small` and `large`.
    fn serve(&self) -> InThread {
        let dir = self.path().display();
        fs::create_dir(self.path().join("site")).expect("a folder");
        fs::write(self.path().join("site/small"), "small").expect("a file");
        fs::write(self.path().join("site/large"), large()).expect("a file");
        InThread::start(&format!(
            "[[listener]]\nkind = 'http'\nbind = '127.0.0.1:0'\nroot = '{dir}/site'\n\
             tls = {{ cert = '{dir}/cert.pem', key = '{dir}/key.pem' }}\n"
        ))
    }
}

fn large() -> Vec<u8> {
    (0..3_000_000_u32).map(|i| (i % 251) as u8).collect()
}

fn proxy(keys: &str) -> InThread {
    InThread::start(&format!(
        "[[listener]]\nkind = 'proxy'\nbind = '127.0.0.1:0'\ncache = 'off'\n\
         allow_destinations = ['127.0.0.0/8', '::1']\n{keys}\n"
    ))
}

/// A gateway to this origin, which its own certificate vouches for.
fn gateway(own: &Own, origin: SocketAddr, keys: &str) -> InThread {
    let (file, port) = (own.path().join("cert.pem"), origin.port());
    let file = file.display();
    proxy(&format!(
        "upstream = 'https://localhost:{port}'\nca_file = '{file}'\n{keys}"
    ))
}

/// The head and the body of the answer to a request for this target.
fn get(proxy: &InThread, target: &str) -> (String, Vec<u8>) {
    let mut stream = connect(proxy.address(0));
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nAccept: text/plain\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("room");
    stream.shutdown(Shutdown::Write).expect("a half-close");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("the end");
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let body = bytes.split_off(end.expect("a head") + 4);
    (String::from_utf8(bytes).expect("text"), body)
}

/// The status and the text of a refusal.
fn refused(proxy: &InThread, target: &str) -> (String, String) {
    let (head, body) = get(proxy, target);
    let status = head.get(9..12).expect("a status").to_owned();
    (status, String::from_utf8(body).expect("text"))
}

#[test]
fn a_gateway_speaks_tls_and_keeps_its_connection() {
    let own = Own::of("localhost");
    let origin = own.serve();
    let gateway = gateway(&own, origin.address(0), "");
    for _ in 0..3 {
        let (head, body) = get(&gateway, "/small");
        assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
        assert_eq!(body, b"small");
    }
    assert_eq!(get(&gateway, "/large").1, large());
    gateway.wait(|seen| seen.gauges.idle_upstreams == 1);
    assert_eq!(origin.wait(|seen| seen.accepted > 0).accepted, 1);
}

#[test]
fn https_is_fetched_in_the_forward_form_and_in_the_address_bar() {
    let own = Own::of("localhost");
    let origin = own.serve();
    let port = origin.address(0).port();
    let file = own.path().join("cert.pem");
    let proxy = proxy(&format!("ca_file = '{}'", file.display()));
    let form = format!("https://localhost:{port}/small");
    assert_eq!(get(&proxy, &form).1, b"small");
    assert_eq!(get(&proxy, &format!("/{form}")).1, b"small");
    // What is kept over TLS is not for plain requests.
    let (status, _) = refused(&proxy, &format!("http://localhost:{port}/small"));
    assert_ne!(status, "200");
}

#[test]
fn a_certificate_that_proves_nothing_is_told() {
    let (own, other) = (Own::of("other.example"), Own::of("localhost"));
    let origin = own.serve();
    let wrong_name = gateway(&own, origin.address(0), "");
    let (status, text) = refused(&wrong_name, "/small");
    assert_eq!(status, "502");
    assert!(
        text.contains("it is for other.example, not for localhost"),
        "{text}"
    );
    let stranger = gateway(&other, origin.address(0), "");
    let (status, text) = refused(&stranger, "/small");
    assert_eq!(status, "502");
    assert!(
        text.contains("no authority that is trusted has signed it; `ca_file` names others"),
        "{text}"
    );
}

#[test]
fn an_origin_that_speaks_no_tls_or_nothing_is_told_in_time() {
    let own = Own::of("localhost");
    let plain = InThread::start("[[listener]]\nkind = 'http'\nbind = '127.0.0.1:0'\n");
    let talker = gateway(&own, plain.address(0), "");
    let (status, text) = refused(&talker, "/");
    assert_eq!(status, "502");
    assert!(text.contains("does not speak TLS"), "{text}");
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("an address");
    let waiter = gateway(&own, address, "connect_timeout = '300ms'");
    let (status, text) = refused(&waiter, "/");
    assert_eq!(status, "504");
    assert!(text.contains("handshake took too long"), "{text}");
}

#[test]
fn a_session_is_resumed_on_the_next_connection() {
    let own = Own::of("localhost");
    let config = Arc::new(own.config.clone());
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let (told, kinds) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let tls = ServerConnection::new(Arc::clone(&config)).expect("a connection");
            let mut stream = StreamOwned::new(tls, stream);
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).expect("a request");
                head.extend_from_slice(&byte);
            }
            told.send(stream.conn.handshake_kind()).expect("a test");
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
            stream.write_all(answer).expect("room");
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    let gateway = gateway(&own, address, "");
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        assert_eq!(get(&gateway, "/").1, b"ok");
        assert_eq!(kinds.recv_timeout(PATIENCE), Ok(Some(kind)));
    }
}
