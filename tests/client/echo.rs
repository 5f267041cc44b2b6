//! `tcp` and `udp` against echo servers.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::harness::{command, run, run_with, tcp_server, udp_server};

/// Echoes in ASCII upper case until the client half-closes.
fn upper(mut stream: TcpStream) {
    let mut buffer = [0; 1000];
    while let Ok(bytes @ 1..) = stream.read(&mut buffer) {
        if stream
            .write_all(&buffer[..bytes].to_ascii_uppercase())
            .is_err()
        {
            return;
        }
    }
}

/// Echoes unchanged.
fn plain(mut stream: TcpStream) {
    let mut buffer = [0; 1000];
    while let Ok(bytes @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..bytes]).is_err() {
            return;
        }
    }
}

#[test]
fn tcp_sends_an_argument_and_prints_the_reply() {
    let port = tcp_server(upper).port().to_string();
    let ended = run(&["tcp", "127.0.0.1", &port, "hello", "world"]);
    assert_eq!(
        (ended.code, ended.stdout.as_str(), ended.stderr.as_str()),
        (0, "HELLO WORLD\n", "")
    );
}

#[test]
fn tcp_sends_each_line_of_standard_input() {
    let port = tcp_server(upper).port().to_string();
    let ended = run_with(
        command(&["tcp", "localhost", &port, "-4"]),
        b"one\r\ntwo\n\nlast",
    );
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (0, "ONE\nTWO\n\nLAST\n")
    );
}

#[test]
fn tcp_pumps_bytes_both_ways() {
    let port = tcp_server(plain).port().to_string();
    let mut child = command(&["tcp", "127.0.0.1", &port, "-"]).spawn().unwrap();
    let input: Vec<u8> = (0..3_000_000_u32)
        .map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let mut stdin = child.stdin.take().unwrap();
    let sent = input.clone();
    std::thread::spawn(move || stdin.write_all(&sent));
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        output.stdout == input,
        "{} bytes came back",
        output.stdout.len()
    );
}

#[test]
fn tcp_speaks_frames_json_and_statistics() {
    let port = tcp_server(plain).port().to_string();
    let ended = run(&["tcp", "127.0.0.1", &port, "--frames", "a\nb"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (0, "a\nb\n"));
    let ended = run(&["tcp", "127.0.0.1", &port, "--json", "--repeat", "3", "x"]);
    let lines: Vec<serde_json::Value> = ended
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 4, "{ended:?}");
    assert_eq!(
        (lines[2]["sequence"].as_u64(), lines[2]["reply"].as_str()),
        (Some(3), Some("x"))
    );
    assert_eq!(lines[3]["statistics"]["count"].as_u64(), Some(3));
    let ended = run(&["tcp", "127.0.0.1", &port, "--repeat", "3", "x"]);
    assert_eq!(ended.stdout, "x\nx\nx\n");
    assert!(
        ended
            .stderr
            .starts_with("3 round trips\nrtt min/avg/max/mdev = "),
        "{}",
        ended.stderr
    );
}

#[test]
fn tcp_over_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("echo.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = [0; 100];
        let bytes = stream.read(&mut buffer).unwrap();
        stream.write_all(&buffer[..bytes]).unwrap();
    });
    let ended = run(&["tcp", &format!("unix:{}", path.display()), "hello"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (0, "hello\n"));
}

#[test]
fn what_is_wrong_is_said_with_its_exit_code() {
    let ended = run(&["tcp", "127.0.0.1", "1", "x"]);
    assert_eq!(ended.code, 69);
    assert_eq!(
        ended.stderr,
        "netlab-reactor tcp: 127.0.0.1:1: cannot connect: connection refused\n"
    );
    let ended = run(&["tcp", "127.0.0.1", "99999", "x"]);
    assert_eq!(
        (ended.code, ended.stderr.contains("is not a port")),
        (2, true),
        "{ended:?}"
    );
    assert_eq!(run(&["tcp", "127.0.0.1"]).code, 2);
    assert_eq!(run(&["tcp", "--no-such-flag"]).code, 2);
}

#[test]
fn udp_sends_arguments_and_lines() {
    let port = udp_server(|datagram| vec![datagram.to_ascii_uppercase()])
        .port()
        .to_string();
    let ended = run(&["udp", "127.0.0.1", &port, "hello"]);
    assert_eq!(
        (ended.code, ended.stdout.as_str(), ended.stderr.as_str()),
        (0, "HELLO\n", "")
    );
    let ended = run_with(command(&["udp", "127.0.0.1", &port]), b"a\n\nb\n");
    assert_eq!((ended.code, ended.stdout.as_str()), (0, "A\n\nB\n"));
    let ended = run_with(command(&["udp", "127.0.0.1", &port, "-"]), b"a\nb");
    assert_eq!(ended.stdout, "A\nB\n");
}

#[test]
fn udp_tells_a_lost_datagram_and_goes_on() {
    let mut number = 0;
    let server = udp_server(move |datagram| {
        number += 1;
        if number == 2 {
            Vec::new()
        } else {
            vec![datagram.to_vec()]
        }
    });
    let port = server.port().to_string();
    let ended = run_with(
        command(&["udp", "127.0.0.1", &port, "--timeout", "200ms"]),
        b"a\nb\nc\n",
    );
    assert_eq!((ended.code, ended.stdout.as_str()), (1, "a\nc\n"));
    assert_eq!(
        ended.stderr,
        format!("netlab-reactor udp: {server}: no reply to datagram 2 within 200ms\n")
    );
}

#[test]
fn udp_where_nobody_listens() {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port().to_string();
    drop(socket);
    let ended = run(&["udp", "127.0.0.1", &port, "x"]);
    assert_eq!(
        (ended.code, ended.stderr.contains("connection refused")),
        (69, true),
        "{ended:?}"
    );
}

#[test]
fn flood_measures_both_carriers() {
    let udp = udp_server(|datagram| vec![datagram.to_ascii_uppercase()])
        .port()
        .to_string();
    let tcp = tcp_server(upper).port().to_string();
    for (carrier, port) in [("udp", &udp), ("tcp", &tcp)] {
        let arguments = [
            "flood",
            carrier,
            "127.0.0.1",
            port,
            "--count",
            "2000",
            "-w",
            "16",
            "-c",
            "2",
            "--json",
        ];
        let ended = run(&arguments);
        assert_eq!(ended.code, 0, "{ended:?}");
        let figures: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!(figures["sent"], 4000, "{carrier}");
        assert_eq!(figures["received"], 4000, "{carrier}");
        assert_eq!(figures["rtt"]["count"], 4000, "{carrier}");
    }
    let ended = run(&[
        "flood",
        "udp",
        "127.0.0.1",
        &udp,
        "--rate",
        "500",
        "--duration",
        "200ms",
    ]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(
        ended.stdout.contains("open loop, 500 messages/s"),
        "{}",
        ended.stdout
    );
    // A busy machine sends late, but sends all.
    assert!(
        ended.stdout.contains("sent 100 (") && ended.stdout.contains("received 100 ("),
        "{}",
        ended.stdout
    );
}
