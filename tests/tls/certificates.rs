//! Which certificate is served, on which kinds of listeners, and how it is changed under way.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::path::Path;
use std::slice::from_ref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use rustix::process::Signal;
use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, DEFAULT_VERSIONS, HandshakeKind};

use super::common::{InThread, Program, command};
use super::{
    Stream, answer, ask, certificate, certificate_for, client, connect_named, connect_tls,
    fixture_with, trusting,
};

/// An entry of `tls` with files in a folder.
fn table(folder: &Path, file: &str) -> String {
    let folder = folder.display();
    format!("{{ cert = '{folder}/{file}.pem', key = '{folder}/{file}.key' }}")
}

/// Makes these files; the certificate.
fn make(folder: &Path, file: &str, names: &[&str]) -> CertificateDer<'static> {
    let path = |extension: &str| folder.join(format!("{file}.{extension}"));
    certificate_for(names, &path("pem"), &path("key"))
}

fn handshake(stream: &mut Stream) -> std::io::Result<()> {
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(())
}

#[test]
fn each_name_gets_its_certificate_and_others_the_first() {
    let files = tempfile::tempdir().expect("a folder");
    let path = files.path();
    let made = [
        make(path, "a", &["a.example", "127.0.0.1"]),
        make(path, "b", &["b.example"]),
        make(path, "c", &["*.w.example", "*.b.example"]),
    ];
    let list = ["a", "b", "c"].map(|file| table(path, file)).join(", ");
    let server = InThread::start(&format!(
        "[[listener]]\nkind = 'http'\nbind = '127.0.0.1:0'\ntls = [{list}]\n"
    ));
    for versions in [&[&TLS12][..], &[&TLS13]] {
        for (name, served) in [
            ("a.example", 0),
            ("b.example", 1),
            ("B.EXAMPLE", 1),
            ("x.w.example", 2),
            ("x.b.example", 2),
            ("127.0.0.1", 0), // a client asks for no address
        ] {
            for (index, certificate) in made.iter().enumerate() {
                let config = Arc::new(client(from_ref(certificate), versions));
                let mut stream = connect_named(&config, name, server.address(0));
                let is_good = handshake(&mut stream).is_ok();
                assert_eq!(is_good, index == served, "{name}: {index}");
            }
        }
    }
    // One that asks for another name sees the first, and finds itself that it is not for it.
    let config = Arc::new(client(&made, DEFAULT_VERSIONS));
    let mut stream = connect_named(&config, "x.x.w.example", server.address(0));
    handshake(&mut stream).expect_err("no certificate is for it");
    server.stop();
}

#[test]
fn every_kind_over_streams_speaks_tls() {
    let files = tempfile::tempdir().expect("a folder");
    let trusted = make(files.path(), "a", &["localhost"]);
    let listeners = [
        ("tcp-echo", ""),
        ("frame-echo", ""),
        ("hello", "count = 1"),
        ("upload", "handshake = 'hmac-md5'\nsecret = 'x'"),
        ("admin", ""),
        ("http", ""),
        (
            "proxy",
            "cache = 'off'\nallow_destinations = ['127.0.0.0/8']",
        ),
    ];
    let tls = table(files.path(), "a");
    let text: String = listeners
        .iter()
        .map(|(kind, more)| {
            format!("[[listener]]\nkind = '{kind}'\nbind = '127.0.0.1:0'\n{more}\ntls = {tls}\n")
        })
        .collect();
    let server = InThread::start(&text);
    let config = trusting(trusted);
    let mut streams: Vec<Stream> = (0..listeners.len())
        .map(|index| connect_tls(&config, server.address(index)))
        .collect();
    let [echo, frames, hello, upload, admin, http, proxy] = &mut streams[..] else {
        panic!("one of each");
    };
    let mut bytes = [0; 32];
    echo.write_all("straße".as_bytes()).expect("room");
    echo.read_exact(&mut bytes[..7]).expect("an answer");
    assert_eq!(&bytes[..7], b"STRASSE");
    frames.write_all(b"\x01\0\0\0x").expect("room");
    frames.read_exact(&mut bytes[..5]).expect("an answer");
    assert_eq!(&bytes[..5], b"\x01\0\0\0X");
    // In these two the server speaks first.
    hello.read_exact(&mut bytes[..6]).expect("a greeting");
    assert_eq!(&bytes[..6], b"hello0");
    upload.read_exact(&mut bytes).expect("a challenge");
    assert_eq!(ask(admin, "/livez").expect("an answer"), b"ok\n");
    ask(http, "/HelloWorld.html").expect("an answer");
    proxy
        .write_all(b"GET ftp://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .expect("room");
    assert!(answer(proxy).0.starts_with("HTTP/1.1 501 "));
    let spoken: Vec<_> = streams.iter().map(|s| s.conn.alpn_protocol()).collect();
    let http = Some(&b"http/1.1"[..]);
    assert_eq!(spoken, [None, None, None, None, http, http, http]);
    drop(streams);
    server.stop();
}

#[test]
fn what_came_before_the_end_of_an_echo_is_still_answered() {
    let files = tempfile::tempdir().expect("a folder");
    let config = trusting(make(files.path(), "a", &["localhost"]));
    let server = InThread::start(&format!(
        "[[listener]]\nkind = 'tcp-echo'\nbind = '127.0.0.1:0'\ntls = {}\n",
        table(files.path(), "a")
    ));
    let mut stream = connect_tls(&config, server.address(0));
    stream.write_all(b"abc").expect("room");
    stream.conn.send_close_notify();
    stream.flush().expect("room");
    stream.sock.shutdown(Shutdown::Write).expect("a connection");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an orderly end");
    assert_eq!(bytes, b"ABC");
    server.stop();
}

#[test]
fn a_session_is_resumed_however_many_others_there_were() {
    let fixture = fixture_with("", "");
    let at = fixture.server.address(0);
    let kind = |config: &Arc<ClientConfig>| {
        let mut stream = connect_tls(config, at);
        ask(&mut stream, "/small").expect("an answer");
        stream.conn.handshake_kind().expect("a handshake")
    };
    for version in [&TLS12, &TLS13] {
        let of_version = || Arc::new(client(from_ref(&fixture.trusted), &[version]));
        let config = of_version();
        assert_eq!(kind(&config), HandshakeKind::Full);
        for _ in 0..300 {
            handshake(&mut connect_tls(&of_version(), at)).expect("a handshake");
        }
        assert_eq!(kind(&config), HandshakeKind::Resumed);
    }
    fixture.server.stop();
}

#[test]
fn another_certificate_is_served_after_sighup_and_a_broken_one_stays_what_it_was() {
    let files = tempfile::tempdir().expect("a folder");
    let path = files.path();
    let (a, b) = (
        make(path, "a", &["localhost"]),
        make(path, "b", &["b.localhost"]),
    );
    let mut server = Program::start(&format!(
        "[[listener]]\nkind = 'http'\nbind = '127.0.0.1:0'\ntls = [{}, {}]\n",
        table(path, "a"),
        table(path, "b")
    ));
    let at = server.address("http");
    // No session is resumed: the certificate counts.
    let asked = |trusted: &CertificateDer<'static>, name| {
        let mut stream = connect_named(&trusting(trusted.clone()), name, at);
        ask(&mut stream, "/HelloWorld.html").map(|_| stream)
    };
    let page = "/HelloWorld.html";
    let mut open = asked(&a, "localhost").expect("a certificate that is trusted");
    let resumes = trusting(a.clone());
    ask(&mut connect_tls(&resumes, at), page).expect("an answer");

    let a_2 = make(path, "a", &["localhost"]);
    server.signal(Signal::HUP);
    server.wait_log(&format!("http at {at}: certificates read again"));
    asked(&a_2, "localhost").expect("the new certificate");
    asked(&a, "localhost").expect_err("the old one is gone");
    ask(&mut open, page).expect("what was open goes on");
    let mut again = connect_tls(&resumes, at);
    ask(&mut again, page).expect("an answer");
    assert_eq!(again.conn.handshake_kind(), Some(HandshakeKind::Resumed));

    // Each on its own: one is torn, the other new.
    fs::write(path.join("a.pem"), "torn").expect("a file");
    let b_2 = make(path, "b", &["b.localhost"]);
    for _ in 0..2 {
        server.signal(Signal::HUP);
        let told = server.wait_log("it holds no certificate");
        assert!(told.contains("a.pem"), "{told}");
        server.wait_log("an old certificate stays in use");
        server.wait_log("certificates read again");
        asked(&a_2, "localhost").expect("the certificate of before");
        asked(&b_2, "b.localhost").expect("the new certificate");
        asked(&b, "b.localhost").expect_err("the old one is gone");
    }
    server.stop();
}

#[test]
fn a_listener_that_is_changed_keeps_a_certificate_that_cannot_be_read() {
    let files = tempfile::tempdir().expect("a folder");
    let trusted = make(files.path(), "a", &["localhost"]);
    let text = |more: &str| {
        let tls = table(files.path(), "a");
        format!("[[listener]]\nkind = 'http'\nbind = '127.0.0.1:0'\ntls = {tls}\n{more}\n")
    };
    let mut server = Program::start(&text(""));
    let at = server.address("http");
    fs::remove_file(files.path().join("a.key")).expect("a file");
    fs::write(server.path("netlab.toml"), text("idle_timeout = '7s'")).expect("a file");
    server.signal(Signal::HUP);
    server.wait_log("an old certificate stays in use");
    server.wait_log(&format!("http at {at}: configured anew"));
    ask(&mut connect_tls(&trusting(trusted), at), "/HelloWorld.html").expect("an answer");
    server.stop();
}

#[test]
fn certificates_are_changed_under_load() {
    let files = tempfile::tempdir().expect("a folder");
    let path = files.path();
    // Two that take turns; both are trusted.
    let pairs = ["x", "y"].map(|file| (make(path, file, &["localhost"]), file));
    let put = |file: &str| {
        for extension in ["pem", "key"] {
            let [from, to] = [file, "a"].map(|name| path.join(format!("{name}.{extension}")));
            fs::copy(from, to).expect("a file");
        }
    };
    put("x");
    let mut server = Program::start(&format!(
        "[[listener]]\nkind = 'http'\nbind = '127.0.0.1:0'\ntls = {}\n",
        table(path, "a")
    ));
    let at = server.address("http");
    let trusted = pairs.clone().map(|(certificate, _)| certificate);
    let mut full = client(&trusted, DEFAULT_VERSIONS);
    full.resumption = Resumption::disabled();
    let full = Arc::new(full);
    let resumes = Arc::new(client(&trusted, DEFAULT_VERSIONS));
    let (done, answers) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for config in [&full, &full, &resumes] {
            let (done, answers) = (&done, &answers);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let mut stream = connect_tls(config, at);
                    for _ in 0..2 {
                        ask(&mut stream, "/HelloWorld.html").expect("an answer");
                    }
                    answers.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for round in 0..12 {
            let before = answers.load(Ordering::Relaxed);
            match round % 3 {
                0 => put("y"),
                1 => put("x"),
                _ => fs::write(path.join("a.key"), "torn").expect("a file"),
            }
            server.signal(Signal::HUP);
            server.wait_log("certificates read again");
            // Each state is met by connections.
            while answers.load(Ordering::Relaxed) < before + 6 {
                thread::yield_now();
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    server.stop();
}

#[test]
fn check_warns_of_what_can_be_used_and_refuses_what_cannot() {
    let files = tempfile::tempdir().expect("a folder");
    let file = files.path().join("netlab.toml");
    let check = |text: &str| {
        fs::write(&file, text).expect("a file");
        let output = command(&["check", "--config"])
            .arg(&file)
            .output()
            .expect("the program runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        let printed = (text(output.stdout), text(output.stderr));
        (output.status.code(), printed.0, printed.1)
    };
    let of = |tls: &str| format!("[[listener]]\nkind = 'tcp-echo'\ntls = {tls}\n");
    certificate(files.path());
    let good = of("{ cert = 'cert.pem', key = 'key.pem' }");
    let ok = "ok: 1 listener\n".to_owned();
    assert_eq!(check(&good), (Some(0), ok.clone(), String::new()));

    let mut params = rcgen::CertificateParams::new(vec!["old.example".to_owned()]).expect("a name");
    params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    let key = rcgen::KeyPair::generate().expect("a key");
    let old = params.self_signed(&key).expect("a certificate");
    fs::write(files.path().join("old.pem"), old.pem()).expect("a file");
    fs::write(files.path().join("old.key"), key.serialize_pem()).expect("a file");
    let (code, out, warning) = check(&of("{ cert = 'old.pem', key = 'old.key' }"));
    assert_eq!((code, out), (Some(0), ok));
    assert!(
        warning.contains("netlab.toml:3:16: warning: listener \"tcp-echo\": "),
        "{warning}"
    );
    assert!(
        warning.contains("it expired on Mon, 01 Jan 2001 00:00:00 GMT"),
        "{warning}"
    );

    for (tls, what) in [
        (
            "{ cert = 'old.pem', key = 'key.pem' }",
            "it is another one's key",
        ),
        ("{ cert = 'none.pem', key = 'key.pem' }", "No such file"),
        (
            "{ cert = 'key.pem', key = 'key.pem' }",
            "it holds no certificate",
        ),
        (
            "[{ cert = 'cert.pem', key = 'key.pem' }, { cert = 'cert.pem', key = 'key.pem' }]",
            "expected one certificate for a name",
        ),
    ] {
        let (code, out, wrong) = check(&of(tls));
        assert_eq!((code, out), (Some(78), String::new()), "{tls}");
        assert!(wrong.contains(what), "{tls}: {wrong}");
    }
}
