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
use std::time::{Duration, Instant};

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
        self.serve_with("")
    }

    fn serve_with(&self, keys: &str) -> InThread {
        let dir = self.path().display();
        fs::create_dir(self.path().join("site")).expect("a folder");
        fs::write(self.path().join("site/small"), "small").expect("a file");
        fs::write(self.path().join("site/large"), large()).expect("a file");
        InThread::start(&format!(
            "[[listener]]\nkind = 'http'\nbind = '127.0.0.1:0'\nroot = '{dir}/site'\n\
             tls = {{ cert = '{dir}/cert.pem', key = '{dir}/key.pem' }}\n{keys}\n"
        ))
    }
}

/// A log, once it has so many lines.
fn logged(path: &Path, count: usize) -> String {
    let until = Instant::now() + PATIENCE;
    loop {
        let lines = fs::read_to_string(path).expect("a log");
        if lines.lines().count() >= count || Instant::now() > until {
            return lines;
        }
        thread::sleep(Duration::from_millis(5));
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
    let (status, _, text) = refused_for(proxy, target);
    (status, text)
}

/// The same, and in between the error that `Proxy-Status` names.
fn refused_for(proxy: &InThread, target: &str) -> (String, String, String) {
    let (head, body) = get(proxy, target);
    let status = head.get(9..12).expect("a status").to_owned();
    let named = head.split("; error=").nth(1).unwrap_or_default();
    let error = named.split(';').next().unwrap_or_default().to_owned();
    (status, error, String::from_utf8(body).expect("text"))
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
fn an_origin_learns_of_the_client_before_tls_on_a_connection_for_each_request() {
    for version in ["v1", "v2"] {
        let own = Own::of("localhost");
        let log = own.path().join("log");
        let (believes, log_path) = (
            "accept_proxy = true\ntrusted_proxies = ['127.0.0.1']\n",
            log.display(),
        );
        let origin = own.serve_with(&format!("access_log = '{log_path}'\n{believes}"));
        let keys = format!("send_proxy = '{version}'\n{believes}");
        let gateway = gateway(&own, origin.address(0), &keys);
        let mut stream = connect(gateway.address(0));
        let from = "PROXY TCP4 198.51.100.7 192.0.2.1 4711 80\r\n";
        let get = "GET /small HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream
            .write_all(format!("{from}{get}{get}").as_bytes())
            .expect("room");
        stream.shutdown(Shutdown::Write).expect("a half-close");
        let mut answers = String::new();
        stream.read_to_string(&mut answers).expect("text");
        assert_eq!(answers.matches("\r\n\r\nsmall").count(), 2, "{answers}");
        assert_eq!(origin.wait(|seen| seen.accepted >= 2).accepted, 2);
        gateway.wait(|seen| seen.gauges.idle_upstreams == 0 && seen.gauges.sessions == 0);
        origin.wait(|seen| seen.gauges.sessions == 0);
        let lines = logged(&log, 2);
        let theirs = |line: &str| line.starts_with("198.51.100.7 ");
        assert_eq!(
            (lines.lines().count(), lines.lines().all(theirs)),
            (2, true),
            "{lines}"
        );
    }
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
    let (status, error, text) = refused_for(&wrong_name, "/small");
    assert_eq!((&*status, &*error), ("502", "tls_certificate_error"));
    assert!(
        text.contains("it is for other.example, not for localhost"),
        "{text}"
    );
    let stranger = gateway(&other, origin.address(0), "");
    let (status, error, text) = refused_for(&stranger, "/small");
    assert_eq!((&*status, &*error), ("502", "tls_certificate_error"));
    assert!(
        text.contains("no authority that is trusted has signed it; `ca_file` names others"),
        "{text}"
    );
}

/// A proxy that is asked for a password, by TLS with this certificate or not, and the address with
/// which it is a parent.
fn parent(own: &Own, password: &str, tls: bool) -> (InThread, String) {
    let users = own.path().join("users");
    let line = netlab_reactor::http::basic::user_line("ann", b"tulip", &[7; 16], 10);
    fs::write(&users, line).expect("a file");
    let dir = own.path().display();
    let tls = match tls {
        true => format!("tls = {{ cert = '{dir}/cert.pem', key = '{dir}/key.pem' }}"),
        false => String::new(),
    };
    let parent = proxy(&format!(
        "connect_ports = []\nauth = {{ realm = 'p', file = '{}' }}\n{tls}",
        users.display()
    ));
    let address = format!("ann:{password}@{}", name_of(&parent, &tls));
    let scheme = if tls.is_empty() { "http" } else { "https" };
    (parent, format!("{scheme}://{address}"))
}

/// The parent as it is told of: by TLS it is the one that its certificate names.
fn name_of(parent: &InThread, tls: &str) -> String {
    let address = parent.address(0);
    match tls {
        "" => address.to_string(),
        _ => format!("localhost:{}", address.port()),
    }
}

#[test]
fn a_parent_opens_a_tunnel_in_which_tls_is_spoken_and_which_is_kept() {
    for tls in [false, true] {
        let own = Own::of("localhost");
        let origin = own.serve();
        let (parent, address) = parent(&own, "tulip", tls);
        let file = own.path().join("cert.pem");
        let file = file.display();
        let child = proxy(&format!("parent = '{address}'\nca_file = '{file}'"));
        let url = format!("https://localhost:{}", origin.address(0).port());
        for _ in 0..3 {
            let (head, body) = get(&child, &format!("{url}/small"));
            assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
            assert_eq!(body, b"small");
        }
        assert_eq!(get(&child, &format!("{url}/large")).1, large());
        assert_eq!(parent.wait(|seen| seen.accepted > 0).accepted, 1);
        assert_eq!(origin.wait(|seen| seen.accepted > 0).accepted, 1);
        // A plain origin is asked for on another connection.
        let plain = InThread::start("[[listener]]\nkind = 'http'\nbind = '127.0.0.1:0'\n");
        let url = format!("http://{}/HelloWorld.html", plain.address(0));
        for _ in 0..2 {
            let (head, _) = get(&child, &url);
            assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
            assert_eq!(head.matches("\r\nVia: 1.1 ").count(), 2, "{head}");
        }
        assert_eq!(parent.wait(|seen| seen.accepted > 1).accepted, 2);
        child.wait(|seen| seen.gauges.idle_upstreams == 2);
    }
}

/// More than any buffer holds, both ways at once, in TLS within TLS.
#[test]
fn what_is_sent_up_comes_back_through_two_layers_of_tls() {
    let own = Own::of("localhost");
    let config = Arc::new(own.config.clone());
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let body = large();
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
            let length = "Content-Length: 3000000\r\n";
            write!(stream, "HTTP/1.1 200 OK\r\n{length}\r\n").expect("room");
            let mut piece = [0; 7000];
            let mut left = 3_000_000;
            while left > 0 {
                let count = stream.read(&mut piece).expect("a body");
                stream.write_all(&piece[..count]).expect("room");
                left -= count;
            }
            stream.flush().expect("room");
        }
    });
    let (_parent, address) = parent(&own, "tulip", true);
    let file = own.path().join("cert.pem");
    let file = file.display();
    let child = proxy(&format!("parent = '{address}'\nca_file = '{file}'"));
    let mut stream = connect(child.address(0));
    let mut sender = stream.try_clone().expect("a stream");
    let sent = body.clone();
    let sending = thread::spawn(move || {
        let head = format!(
            "POST https://localhost:{port}/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n",
            sent.len()
        );
        sender.write_all(head.as_bytes()).expect("room");
        sender.write_all(&sent).expect("room");
    });
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("the end");
    sending.join().expect("sent");
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    assert!(bytes[end.expect("a head") + 4..] == body);
}

#[test]
fn a_clients_tunnel_leads_through_the_parents() {
    for tls in [false, true] {
        let own = Own::of("localhost");
        let (_parent, address) = parent(&own, "tulip", tls);
        let file = own.path().join("cert.pem");
        let file = file.display();
        let child = proxy(&format!(
            "connect_ports = []\nparent = '{address}'\nca_file = '{file}'"
        ));
        let origin = InThread::start("[[listener]]\nkind = 'tcp-echo'\nbind = '127.0.0.1:0'\n");
        let mut stream = connect(child.address(0));
        let to = origin.address(0);
        let open = "HTTP/1.1 200 Connection established\r\n\r\n";
        write!(stream, "CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\nearly").expect("room");
        let mut came = vec![0; open.len() + 5];
        stream.read_exact(&mut came).expect("an answer");
        assert_eq!(String::from_utf8_lossy(&came), format!("{open}EARLY"));
        stream.write_all(b"late").expect("room");
        stream.shutdown(Shutdown::Write).expect("a half-close");
        let mut rest = String::new();
        stream.read_to_string(&mut rest).expect("the end");
        assert_eq!(rest, "LATE");
    }
}

#[test]
fn what_goes_wrong_with_or_behind_a_parent_is_told() {
    let (own, other) = (Own::of("localhost"), Own::of("localhost"));
    let origin = own.serve();
    let (ours, theirs) = (own.path().join("cert.pem"), other.path().join("cert.pem"));
    let url = format!("https://localhost:{}/small", origin.address(0).port());
    for tls in [false, true] {
        // The origin proves nothing to those who trust the parent alone.
        let (known, address) = parent(&other, "tulip", tls);
        let file = theirs.display();
        let stranger = proxy(&format!("parent = '{address}'\nca_file = '{file}'"));
        let (status, error, text) = refused_for(&stranger, &url);
        assert_eq!((&*status, &*error), ("502", "tls_certificate_error"));
        let begins = format!(
            "localhost:{}: no connection over TLS",
            origin.address(0).port()
        );
        assert!(text.contains(&begins), "{text}");
        let (unknown, address) = parent(&other, "rose", tls);
        let child = proxy(&format!("parent = '{address}'\nca_file = '{file}'"));
        let (status, error, text) = refused_for(&child, &url);
        let expected = ("502", "proxy_configuration_error");
        assert_eq!((&*status, &*error), expected, "{text}");
        let name = name_of(&unknown, if tls { "tls" } else { "" });
        let told = format!(
            "parent {name}: CONNECT localhost:{}: it refused with 407",
            origin.address(0).port()
        );
        assert!(text.contains(&told), "{text}");
        drop(known);
    }
    // Nor does a parent to those who trust the origin alone, whatever is asked for.
    let (known, address) = parent(&other, "tulip", true);
    let file = ours.display();
    let stranger = proxy(&format!("parent = '{address}'\nca_file = '{file}'"));
    for url in [&url, "http://127.0.0.1:9999/"] {
        let (status, error, text) = refused_for(&stranger, url);
        assert_eq!((&*status, &*error), ("502", "tls_certificate_error"));
        let begins = format!("parent {}: no connection over TLS", name_of(&known, "tls"));
        assert!(text.contains(&begins), "{text}");
    }
    // One that answers nothing, in plain text and by TLS.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("an address");
    for (scheme, expected) in [
        ("http", ("504", "http_response_timeout")),
        ("https", ("504", "connection_timeout")),
    ] {
        let waiter = proxy(&format!(
            "parent = '{scheme}://{address}'\nparent_timeout = '200ms'\nconnect_timeout = '300ms'\n\
             ca_file = '{file}'"
        ));
        let (status, error, text) = refused_for(&waiter, &url);
        assert_eq!((&*status, &*error), expected, "{text}");
    }
}

#[test]
fn an_origin_that_speaks_no_tls_or_nothing_is_told_in_time() {
    let own = Own::of("localhost");
    let plain = InThread::start("[[listener]]\nkind = 'http'\nbind = '127.0.0.1:0'\n");
    let talker = gateway(&own, plain.address(0), "");
    let (status, error, text) = refused_for(&talker, "/");
    assert_eq!((&*status, &*error), ("502", "tls_protocol_error"));
    assert!(text.contains("does not speak TLS"), "{text}");
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("an address");
    let waiter = gateway(&own, address, "connect_timeout = '300ms'");
    let (status, error, text) = refused_for(&waiter, "/");
    assert_eq!((&*status, &*error), ("504", "connection_timeout"));
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
