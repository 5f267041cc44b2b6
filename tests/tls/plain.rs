//! What is sent in plain text to a listener that speaks TLS.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use super::common::{InThread, connect};
use super::{ask, certificate, fixture, fixture_with};
use netlab_reactor::ending::Phase;

/// All that the server sends until its end.
fn read_all(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an orderly end");
    String::from_utf8(bytes).expect("text")
}

fn expect_told(answer: &str, link: &str) {
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{head}");
    assert!(head.ends_with("\r\nConnection: close"), "{head}");
    assert!(head.contains("\r\nContent-Type: text/plain"), "{head}");
    let length = format!("\r\nContent-Length: {}\r\n", body.len());
    assert!(head.contains(&length), "{answer}");
    let expected = format!("The plain HTTP request was sent to HTTPS port\n{link}");
    assert_eq!(body, expected);
}

#[test]
fn a_plain_request_is_told_so_however_it_is_split() {
    let fixture = fixture();
    let at = fixture.server.address(0);
    let request = format!("GET /a?b HTTP/1.1\r\nHost: {at}\r\n\r\n");
    let link = format!("Use https://{at}/a?b\n");
    let request = request.as_bytes();
    let mut sent = 0;
    let mut count = 0;
    let mut send = |stream: &mut TcpStream, part: &[u8]| {
        stream.write_all(part).expect("room");
        sent += part.len() as u64;
        fixture.server.wait(|seen| seen.bytes_in == sent);
    };
    for cut in 1..=request.len() {
        let mut stream = connect(at);
        send(&mut stream, &request[..cut]);
        if cut < request.len() {
            send(&mut stream, &request[cut..]);
        }
        expect_told(&read_all(&mut stream), &link);
        count += 1;
    }
    let mut stream = connect(at);
    for byte in request {
        send(&mut stream, &[*byte]);
    }
    expect_told(&read_all(&mut stream), &link);
    let answered = fixture.server.wait(|seen| seen.active == 0);
    assert_eq!(
        (answered.refused, answered.accepted),
        (count + 1, count + 1)
    );
    assert_eq!(answered.gauges.pages_held, 0);
    fixture.server.stop();
}

#[test]
fn a_plain_request_that_ends_early_or_goes_on_is_told_so_too() {
    let fixture = fixture();
    let at = fixture.server.address(0);
    for part in ["GET / HTTP/1.1\r\nHost: h\r\n", "PUT /x", "OPTIONS *"] {
        let mut stream = connect(at);
        stream.write_all(part.as_bytes()).expect("room");
        stream.shutdown(Shutdown::Write).expect("a connection");
        expect_told(&read_all(&mut stream), "");
    }
    // Most clients send all of a body before they look for an answer.
    let mut stream = connect(at);
    let head = "PUT /x HTTP/1.1\r\nHost: h\r\nContent-Length: 20000000\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("room");
    stream
        .write_all(&vec![b'x'; 20_000_000])
        .expect("a server that reads");
    expect_told(&read_all(&mut stream), "Use https://h:80/x\n");
    // What is no request yet is not waited for beyond its end; that is told as TLS does.
    let mut stream = connect(at);
    stream.write_all(b"GE").expect("room");
    stream.shutdown(Shutdown::Write).expect("a connection");
    let mut alert = [0; 7];
    stream.read_exact(&mut alert).expect("an alert");
    assert_eq!(alert, [21, 3, 3, 0, 2, 1, 0], "close_notify");
    fixture
        .server
        .wait(|seen| seen.active == 0 && seen.refused == 4);
    fixture.server.stop();
}

#[test]
fn a_plain_request_that_stays_away_times_out_as_a_handshake_does() {
    let fixture = fixture_with("head_timeout = '100ms'", "");
    let mut begun = connect(fixture.server.address(0));
    begun.write_all(b"GET / HTTP/1.1\r\nHost:").expect("room");
    let timed_out = |phase: Phase, seen: &super::Seen| seen.timed_out[phase as usize];
    let seen = fixture
        .server
        .wait(|seen| timed_out(Phase::Handshake, seen) == 1);
    assert_eq!(timed_out(Phase::Idle, &seen), 0);
    fixture.server.stop();
}

/// An alert (RFC 8446 section 5.1), as far as it is read before the reset.
fn expect_alert(at: SocketAddr, sent: &[u8]) {
    let mut stream = connect(at);
    stream.write_all(sent).expect("room");
    let mut alert = Vec::new();
    match stream.read_to_end(&mut alert) {
        Ok(_) => assert_eq!(alert.first(), Some(&21), "{sent:?}: {alert:?}"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

#[test]
fn other_plain_text_gets_an_alert_and_the_listener_goes_on() {
    let fixture = fixture();
    let at = fixture.server.address(0);
    for other in [
        &b"SSH-2.0-OpenSSH_9.6p1 Ubuntu-3\r\n"[..],
        b"EHLO localhost\r\n",
        b"get / http/1.1\r\n\r\n",
        &[0; 64],
        &[255; 5000],
    ] {
        expect_alert(at, other);
    }
    assert_eq!(
        ask(&mut fixture.connect(), "/small").expect("an answer"),
        b"small"
    );
    let seen = fixture
        .server
        .wait(|seen| seen.active == 0 && seen.gauges.pages_held == 0);
    assert_eq!(seen.refused, 0);
    fixture.server.stop();
}

#[test]
fn a_listener_that_speaks_no_http_does_not_answer_in_it() {
    let files = tempfile::tempdir().expect("a folder");
    certificate(files.path());
    let server = InThread::start(&format!(
        "[[listener]]\nkind = 'tcp-echo'\nbind = '127.0.0.1:0'\n\
         tls = {{ cert = '{0}/cert.pem', key = '{0}/key.pem' }}\n",
        files.path().display()
    ));
    expect_alert(server.address(0), b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    server.stop();
}
