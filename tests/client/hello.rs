//! `hello` and `heartbeat`.

use std::net::UdpSocket;
use std::time::Duration;

use crate::harness::{Act, Pacing, act, command, run, run_with, say, tcp_server};

#[test]
fn hello_follows_the_stream_however_it_is_cut() {
    for pacing in [Pacing::Whole, Pacing::Pieces] {
        let port = tcp_server(move |mut stream| {
            for number in 0..12 {
                assert!(act(&mut stream, &say(&format!("hello{number}")), pacing));
                assert!(act(&mut stream, &Act::HearTo("byebye"), pacing));
            }
        });
        let ended = run(&["hello", "127.0.0.1", &port.port().to_string()]);
        let expected: String = (0..12).map(|number| format!("hello{number}\n")).collect();
        assert_eq!(
            (ended.code, ended.stdout, ended.stderr.as_str()),
            (0, expected, "")
        );
    }
}

#[test]
fn hello_stops_at_a_count_and_answers_as_told() {
    let port = tcp_server(|mut stream| {
        for number in 0.. {
            let script = [say(&format!("hello{number}")), Act::HearTo("thanks")];
            if !script
                .iter()
                .all(|one| act(&mut stream, one, Pacing::Whole))
            {
                return;
            }
        }
    });
    let ended = run(&[
        "hello",
        "127.0.0.1",
        &port.port().to_string(),
        "--count",
        "2",
        "--reply",
        "thanks",
        "--json",
    ]);
    assert_eq!(ended.code, 0);
    assert_eq!(
        ended.stdout,
        "{\"number\":0,\"message\":\"hello0\"}\n{\"number\":1,\"message\":\"hello1\"}\n"
    );
}

#[test]
fn heartbeats_arrive_numbered_named_and_signed() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let port = socket.local_addr().unwrap().port().to_string();
    let mut heartbeat = command(&[
        "heartbeat",
        "127.0.0.1",
        &port,
        "-c",
        "3",
        "-i",
        "10ms",
        "--id",
        "roof",
    ]);
    heartbeat.env("NETLAB_SECRET", "key");
    let ended = run_with(heartbeat, b"");
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    let mut buffer = [0; 1000];
    for (number, line) in (1..=3).zip(ended.stdout.lines()) {
        let bytes = socket.recv(&mut buffer).unwrap();
        assert_eq!(std::str::from_utf8(&buffer[..bytes]).unwrap(), line);
        assert!(
            line.starts_with(&format!("Heartbeat {number} ")) && line.contains(" id=roof hmac="),
            "{line}"
        );
        let secret = netlab_reactor::wire::challenge::Secret::from("key");
        assert!(netlab_reactor::wire::heartbeat::is_authentic(
            &buffer[..bytes],
            &secret
        ));
    }
}

#[test]
fn a_heartbeat_that_nobody_hears_is_told() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port().to_string();
    drop(socket);
    let ended = run(&["heartbeat", "127.0.0.1", &port, "--once"]);
    assert_eq!(ended.code, 69, "{ended:?}");
    assert!(
        ended.stderr.contains("cannot be sent: connection refused"),
        "{}",
        ended.stderr
    );
}
