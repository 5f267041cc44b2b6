//! `ping` against a server that answers as it should, and in all the ways that it should not.

use std::time::Instant;

use crate::harness::{command, run, udp_server, wait};

#[test]
fn ten_pings_and_a_summary() {
    // Of eleven in a row, four are dropped, as the course's server does on average.
    let mut number = 0;
    let server = udp_server(move |datagram| {
        number += 1;
        if number % 5 == 0 {
            Vec::new()
        } else {
            vec![datagram.to_ascii_uppercase()]
        }
    });
    let port = server.port().to_string();
    let ended = run(&["ping", "127.0.0.1", &port, "-i", "5ms", "-W", "200ms"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    let lines: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(
        lines
            .iter()
            .filter(|line| line.contains(": Reply from 127.0.0.1 RTT = 0.0"))
            .count(),
        8,
        "{lines:?}"
    );
    assert!(
        lines.contains(&"Sequence 5: Request timed out")
            && lines.contains(&"Sequence 10: Request timed out")
    );
    assert!(
        lines[0].starts_with("Sequence 1: Reply from 127.0.0.1 RTT = 0.0")
            && lines[0].ends_with('s')
    );
    assert_eq!(lines[11], "--- 127.0.0.1 ping statistics ---");
    assert!(
        lines[12].starts_with("10 packets transmitted, 8 received, 20% packet loss, time "),
        "{}",
        lines[12]
    );
    assert!(lines[13].starts_with("rtt min/avg/max/mdev = "));
}

#[test]
fn the_default_is_ten_pings_a_second_apart() {
    let server = udp_server(|datagram| vec![datagram.to_ascii_uppercase()]);
    let ended = run(&["ping", "127.0.0.1", &server.port().to_string(), "-q"]);
    assert!(
        ended
            .stdout
            .contains("10 packets transmitted, 10 received, 0% packet loss"),
        "{}",
        ended.stdout
    );
    assert!(
        (9.0..12.0).contains(&ended.elapsed.as_secs_f64()),
        "{:?}",
        ended.elapsed
    );
}

#[test]
fn odd_answers_are_told_apart() {
    let mut kept = Vec::new();
    let mut number = 0;
    let server = udp_server(move |datagram| {
        number += 1;
        let answer = datagram.to_ascii_uppercase();
        match number {
            1 => vec![answer.clone(), answer],
            2 => {
                kept = answer;
                Vec::new()
            }
            3 => vec![answer, std::mem::take(&mut kept)],
            4 => {
                let mut bent = answer;
                *bent.last_mut().unwrap() ^= 1;
                vec![bent]
            }
            5 => Vec::new(),
            _ => vec![answer],
        }
    });
    let port = server.port().to_string();
    let command = format!("ping 127.0.0.1 {port} -c 6 -i 50ms -W 300ms -s 100 --json");
    let ended = run(&command.split(' ').collect::<Vec<_>>());
    assert_eq!(ended.code, 0, "{ended:?}");
    let events: Vec<serde_json::Value> = ended
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let told: Vec<_> = events
        .iter()
        .map(|event| (event["event"].as_str().unwrap(), event["sequence"].as_u64()))
        .collect();
    assert!(
        told.contains(&("duplicate", Some(1))) && told.contains(&("corrupt", Some(4))),
        "{told:?}"
    );
    assert!(told.contains(&("timeout", Some(5))), "{told:?}");
    let summary = events.last().unwrap();
    assert_eq!(
        (summary["sent"].as_u64(), summary["received"].as_u64()),
        (Some(6), Some(4)),
        "{summary}"
    );
    for (key, count) in [
        ("lost", 1),
        ("duplicates", 1),
        ("reordered", 1),
        ("corrupt", 1),
        ("late", 0),
    ] {
        assert_eq!(summary[key].as_u64(), Some(count), "{key} in {summary}");
    }
}

#[test]
fn a_late_answer_is_not_a_lost_one() {
    let mut kept = None;
    let server = udp_server(move |datagram| {
        let answer = datagram.to_ascii_uppercase();
        match kept.take() {
            None => {
                kept = Some(answer);
                Vec::new()
            }
            Some(earlier) => vec![earlier, answer],
        }
    });
    let port = server.port().to_string();
    let ended = run(&[
        "ping",
        "127.0.0.1",
        &port,
        "-c",
        "2",
        "-i",
        "300ms",
        "-W",
        "100ms",
    ]);
    assert!(
        ended.stdout.contains("Sequence 1: Request timed out"),
        "{}",
        ended.stdout
    );
    assert!(
        ended
            .stdout
            .contains("Sequence 1: Late reply from 127.0.0.1 RTT = 0.3"),
        "{}",
        ended.stdout
    );
    assert!(
        ended
            .stdout
            .contains("2 packets transmitted, 2 received, 0% packet loss"),
        "{}",
        ended.stdout
    );
    assert!(ended.stdout.contains("1 late"), "{}", ended.stdout);
}

#[test]
fn silence_and_nobody_differ() {
    let silent = udp_server(|_| Vec::new()).port().to_string();
    let ended = run(&[
        "ping",
        "127.0.0.1",
        &silent,
        "-c",
        "2",
        "-i",
        "10ms",
        "-W",
        "50ms",
    ]);
    assert_eq!(
        (ended.code, ended.stdout.contains("100% packet loss")),
        (1, true),
        "{ended:?}"
    );
    let ended = run(&[
        "ping",
        "127.0.0.1",
        "1",
        "-c",
        "2",
        "-i",
        "50ms",
        "-W",
        "100ms",
    ]);
    assert_eq!(ended.code, 69, "{ended:?}");
    assert!(
        ended
            .stdout
            .contains("Sequence 1: 127.0.0.1 is unreachable (connection refused)"),
        "{}",
        ended.stdout
    );
}

#[test]
fn several_hosts_flood_and_graph() {
    let one = udp_server(|datagram| vec![datagram.to_vec()]);
    let two = udp_server(|datagram| vec![datagram.to_ascii_uppercase()]);
    let port = one.port().to_string();
    let ended = run(&[
        "ping",
        "127.0.0.1",
        &port,
        &two.to_string(),
        "-q",
        "--flood",
        "-c",
        "300",
    ]);
    assert_eq!(ended.code, 0);
    assert_eq!(
        ended
            .stdout
            .matches("300 packets transmitted, 300 received")
            .count(),
        2,
        "{}",
        ended.stdout
    );
    let ended = run(&[
        "ping",
        "127.0.0.1",
        &port,
        "--graph",
        "-c",
        "5",
        "-i",
        "1ms",
    ]);
    assert!(ended.stdout.starts_with("127.0.0.1 "), "{}", ended.stdout);
}

#[test]
fn an_interrupted_ping_prints_its_summary() {
    use std::io::{BufRead, BufReader};
    let server = udp_server(|datagram| vec![datagram.to_ascii_uppercase()]);
    let started = Instant::now();
    let mut child = command(&[
        "ping",
        "127.0.0.1",
        &server.port().to_string(),
        "-c",
        "0",
        "-i",
        "10s",
    ])
    .spawn()
    .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(
        lines
            .next()
            .unwrap()
            .unwrap()
            .starts_with("Sequence 1: Reply")
    );
    // The first answer was printed, so the handlers are in place.
    assert!(
        std::process::Command::new("kill")
            .args(["-INT", &child.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    assert!(
        rest.iter()
            .any(|line| line.starts_with("1 packets transmitted, 1 received, 0% packet loss")),
        "{rest:?}"
    );
    child.stdout = Some(
        std::process::Command::new("true")
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap()
            .stdout
            .take()
            .unwrap(),
    );
    assert_eq!(wait(child, started).code, 0);
}
