//! Servers that misbehave, generated: every client ends within its time-outs and names the step.
//!
//! Each dialogue below is a script of a good server. It is played as it should be (also a byte at a
//! time), and then broken at each of its steps in each way.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use netlab_reactor::wire::frame;
use netlab_reactor::wire::upload::Answer;

use crate::harness::{Act, Ended, Pacing, act, command, run_with, say, tcp_server};

/// The client's time-out of each step.
const TIMEOUT: &str = "250ms";

/// A client and a good server's side of its dialogue.
struct Dialogue {
    name: &'static str,
    /// `PORT` stands for the server's port.
    arguments: Vec<String>,
    script: Vec<Act>,
    /// The client goes on for this many time-outs at most.
    steps: u32,
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

fn framed(answer: &Answer) -> Act {
    let mut bytes = Vec::new();
    frame::encode(&answer.to_json(), &mut bytes).unwrap();
    Act::Say(bytes)
}

fn dialogues(file: &str) -> Vec<Dialogue> {
    let mut all = lines_and_hellos();
    all.push(upload(file));
    all.extend(gets());
    all.push(mail());
    all
}

fn lines_and_hellos() -> Vec<Dialogue> {
    vec![
        Dialogue {
            name: "tcp",
            arguments: words("tcp 127.0.0.1 PORT hello"),
            script: vec![Act::HearTo("hello\n"), say("HELLO\n")],
            steps: 2,
        },
        Dialogue {
            name: "tcp --frames",
            arguments: words("tcp 127.0.0.1 PORT --frames hello"),
            script: vec![Act::Hear(9), Act::Say(b"\x05\0\0\0HELLO".to_vec())],
            steps: 2,
        },
        Dialogue {
            name: "hello",
            arguments: words("hello 127.0.0.1 PORT --count 2"),
            script: vec![
                say("hello0"),
                Act::HearTo("byebye"),
                say("hello1"),
                Act::HearTo("byebye"),
            ],
            steps: 4,
        },
    ]
}

fn upload(file: &str) -> Dialogue {
    // SHA-256 of the letter x.
    let sha256 = netlab_reactor::wire::hex::decode(
        b"2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881",
    )
    .unwrap();
    Dialogue {
        name: "upload",
        arguments: words(&format!(
            "upload --retries 0 --user ann 127.0.0.1 PORT {file}"
        )),
        script: vec![
            Act::Say(vec![9; 32]),
            Act::Hear(16),
            Act::HearTo("}"),
            say("{\"flag\": true}"),
            Act::HearTo("}"),
            framed(&Answer::Ready { offset: 0 }),
            Act::Hear(1),
            framed(&Answer::Stored {
                filename: "x".into(),
                size_bytes: 1,
                sha256,
            }),
        ],
        steps: 8,
    }
}

fn gets() -> Vec<Dialogue> {
    vec![
        Dialogue {
            name: "get HOST",
            arguments: words("get 127.0.0.1 PORT /x"),
            script: vec![
                Act::HearTo("\r\n\r\n"),
                say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
            ],
            steps: 2,
        },
        Dialogue {
            name: "get URL",
            arguments: words("get http://127.0.0.1:PORT/x"),
            script: vec![
                Act::HearTo("\r\n\r\n"),
                say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
            ],
            steps: 2,
        },
    ]
}

fn mail() -> Dialogue {
    Dialogue {
        name: "mail",
        arguments: words(
            "mail --server 127.0.0.1:PORT --from a@x --to b@y --tls off --user u --force-clear-auth --auth login",
        ),
        script: vec![
            say("220-mx\r\n220 ready\r\n"),
            Act::HearTo("\r\n"),
            say("250-mx\r\n250 AUTH LOGIN\r\n"),
            Act::HearTo("\r\n"),
            say("334 VXNlcm5hbWU6\r\n"),
            Act::HearTo("\r\n"),
            say("334 UGFzc3dvcmQ6\r\n"),
            Act::HearTo("\r\n"),
            say("235 in\r\n"),
            Act::HearTo("\r\n"),
            say("250 sender\r\n"),
            Act::HearTo("\r\n"),
            say("250 recipient\r\n"),
            Act::HearTo("\r\n"),
            say("354 go\r\n"),
            Act::HearTo("\r\n.\r\n"),
            say("250 taken\r\n"),
        ],
        steps: 10,
    }
}

fn run_against(
    dialogue: &Dialogue,
    serve: impl Fn(TcpStream) + Send + Sync + Clone + 'static,
) -> Ended {
    let port = tcp_server(serve).port().to_string();
    let arguments: Vec<String> = dialogue
        .arguments
        .iter()
        .map(|word| word.replace("PORT", &port))
        .collect();
    let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    arguments.extend(["--timeout", TIMEOUT]);
    let mut command = command(&arguments);
    command
        .env("NETLAB_SECRET", "s")
        .env("NETLAB_PASSWORD", "p");
    run_with(command, b"a text\n")
}

/// The client failed in time, and said where.
fn assert_failed(dialogue: &Dialogue, how: &str, ended: &Ended) {
    let name = dialogue.name;
    assert!([69, 77].contains(&ended.code), "{name}, {how}: {ended:?}");
    let names_the_step = ended.stderr.contains(" while ") || ended.stderr.contains("at the step");
    assert!(names_the_step, "{name}, {how}: {:?}", ended.stderr);
    assert!(
        !ended.stderr.contains("panicked"),
        "{name}, {how}: {:?}",
        ended.stderr
    );
    // Generous, because the machine may be busy; endless is what it must not be.
    let allowed = Duration::from_millis(250) * dialogue.steps + Duration::from_secs(5);
    assert!(
        ended.elapsed < allowed,
        "{name}, {how}: {:?}",
        ended.elapsed
    );
}

fn each(check: impl Fn(&Dialogue)) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x");
    std::fs::write(&file, "x").unwrap();
    for dialogue in dialogues(file.to_str().unwrap()) {
        check(&dialogue);
    }
}

/// The steps at which a server can go wrong: before each of its acts that sends something.
fn speaking_steps(script: &[Act]) -> Vec<usize> {
    (0..script.len())
        .filter(|&step| matches!(script[step], Act::Say(_)))
        .collect()
}

fn play(stream: &mut TcpStream, script: &[Act], pacing: Pacing) {
    for one in script {
        if !act(stream, one, pacing) {
            return;
        }
    }
}

#[test]
fn good_servers_succeed_whole_and_in_pieces() {
    each(|dialogue| {
        for pacing in [Pacing::Whole, Pacing::Pieces] {
            let script = dialogue.script.clone();
            let ended = run_against(dialogue, move |mut stream| {
                play(&mut stream, &script, pacing);
                let _ = stream.read_to_end(&mut Vec::new());
            });
            assert_eq!(ended.code, 0, "{}, {pacing:?}: {ended:?}", dialogue.name);
        }
    });
}

#[test]
fn silence_at_every_step_ends_in_a_time_out() {
    each(|dialogue| {
        for step in speaking_steps(&dialogue.script) {
            let script = dialogue.script[..step].to_vec();
            let ended = run_against(dialogue, move |mut stream| {
                play(&mut stream, &script, Pacing::Whole);
                let _ = stream.read_to_end(&mut Vec::new());
            });
            // A server that does not say `ready` is a plain one: nothing is wrong with its silence
            // then.
            if dialogue.name == "upload" && step == 5 {
                continue;
            }
            assert_failed(dialogue, &format!("silent at {step}"), &ended);
            assert!(
                ended.stderr.contains("timed out after 250ms"),
                "{}: {}",
                dialogue.name,
                ended.stderr
            );
        }
    });
}

#[test]
fn a_byte_now_and_then_does_not_refresh_a_step() {
    each(|dialogue| {
        for step in speaking_steps(&dialogue.script) {
            let script = dialogue.script[..step].to_vec();
            let Act::Say(bytes) = dialogue.script[step].clone() else {
                continue;
            };
            // Slow enough that even a short text outlasts the time-out.
            let pause = Duration::from_millis(600) / bytes.len() as u32;
            let ended = run_against(dialogue, move |mut stream| {
                play(&mut stream, &script, Pacing::Whole);
                act(&mut stream, &Act::Say(bytes.clone()), Pacing::Drip(pause));
                let _ = stream.read_to_end(&mut Vec::new());
            });
            assert_failed(dialogue, &format!("dripping at {step}"), &ended);
        }
    });
}

#[test]
fn closing_at_every_step_is_told() {
    each(|dialogue| {
        for step in speaking_steps(&dialogue.script) {
            let script = dialogue.script[..step].to_vec();
            let ended = run_against(dialogue, move |mut stream| {
                play(&mut stream, &script, Pacing::Whole);
            });
            assert_failed(dialogue, &format!("closing at {step}"), &ended);
        }
    });
}

#[test]
fn garbage_at_every_step_is_told() {
    each(|dialogue| {
        for step in speaking_steps(&dialogue.script) {
            // A challenge is random bytes, so garbage is as good as any; what follows is not.
            if dialogue.name == "upload" && step == 0 {
                continue;
            }
            let script = dialogue.script[..step].to_vec();
            let ended = run_against(dialogue, move |mut stream| {
                play(&mut stream, &script, Pacing::Whole);
                let garbage: Vec<u8> = (0..5000_u32)
                    .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8 | 0x80)
                    .collect();
                let _ = stream.write_all(&garbage);
                let _ = stream.read_to_end(&mut Vec::new());
            });
            assert_failed(dialogue, &format!("garbage at {step}"), &ended);
        }
    });
}

#[test]
fn a_greeting_without_end_is_told() {
    each(|dialogue| {
        let ended = run_against(dialogue, |mut stream| {
            let megabyte = vec![b'A'; 1 << 20];
            for _ in 0..100 {
                if stream.write_all(&megabyte).is_err() {
                    return;
                }
            }
        });
        assert_failed(dialogue, "an endless greeting", &ended);
    });
}

fn spoil_handshake(mut stream: TcpStream, how: &str) {
    match how {
        "closing" => return,
        "garbage" => {
            let _ = stream.write_all(&[b'x'; 3000]);
        }
        // The beginning of a record of 16 KiB that never comes.
        "dripping" => {
            let record = Act::Say([&[22, 3, 3, 64, 0][..], &[0; 40]].concat());
            let pacing = Pacing::Drip(Duration::from_millis(50));
            act(&mut stream, &record, pacing);
        }
        _ => {}
    }
    let _ = stream.read_to_end(&mut Vec::new());
}

#[test]
fn tls_handshakes_that_go_wrong_end_in_time() {
    let greeting = vec![
        say("220 ready\r\n"),
        Act::HearTo("\r\n"),
        say("250-mx\r\n250 STARTTLS\r\n"),
        Act::HearTo("\r\n"),
        say("220 go\r\n"),
    ];
    let starts = [
        (
            "get https",
            words("get https://127.0.0.1:PORT/"),
            Vec::new(),
        ),
        (
            "mail",
            words("mail --server 127.0.0.1:PORT --from a@x --to b@y --tls required"),
            greeting,
        ),
        (
            "mail implicit",
            words("mail --server 127.0.0.1:PORT --from a@x --to b@y --tls implicit"),
            Vec::new(),
        ),
    ];
    for (name, mut arguments, script) in starts {
        arguments.extend(["--ca-file".to_owned(), crate::harness::CA_FILE.to_owned()]);
        let dialogue = Dialogue {
            name,
            arguments,
            script,
            steps: 5,
        };
        for how in ["silent", "closing", "garbage", "dripping"] {
            let script = dialogue.script.clone();
            let ended = run_against(&dialogue, move |mut stream| {
                play(&mut stream, &script, Pacing::Whole);
                spoil_handshake(stream, how);
            });
            assert_failed(&dialogue, how, &ended);
            assert!(
                ended.stderr.contains("while starting TLS"),
                "{name}, {how}: {}",
                ended.stderr
            );
        }
    }
}
