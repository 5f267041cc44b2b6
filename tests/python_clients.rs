//! The plain clients as they are: Python scripts over `socket` that send raw bytes and trust one
//! `recv` to be one message.

mod common;

use std::fs;

use common::{Program, python};

#[test]
#[ignore = "needs python3"]
fn echoes() {
    let program = Program::start(
        "[[listener]]\nkind = \"tcp-echo\"\nbind = \"127.0.0.1:0\"\n\
         [[listener]]\nkind = \"udp-echo\"\nbind = \"127.0.0.1:0\"\n",
    );
    for (script, kind) in [("tcp.py", "tcp-echo"), ("udp.py", "udp-echo")] {
        let address = program.address(kind);
        let printed = python(script, address, &["hello, world", "stra\u{df}e"]);
        assert_eq!(printed, "HELLO, WORLD\nSTRASSE\n", "{script}");
    }
    program.stop();
}

#[test]
#[ignore = "needs python3"]
fn pings() {
    let program = Program::start(
        "[[listener]]\nkind = \"udp-ping\"\nbind = \"127.0.0.1:0\"\nname = \"good\"\nloss = 0\n\
         [[listener]]\nkind = \"udp-ping\"\nbind = \"127.0.0.1:0\"\nname = \"bad\"\nloss = 1.0\n\
         [[listener]]\nkind = \"udp-ping\"\nbind = \"127.0.0.1:0\"\nname = \"usual\"\nseed = 1\n",
    );
    let [good, bad, usual] = program.addresses("udp-ping")[..] else {
        panic!("three listeners");
    };
    assert_eq!(python("ping.py", good, &["20"]), "10\n");
    assert_eq!(python("ping.py", bad, &["0.05"]), "0\n");
    let came_back = python("ping.py", usual, &["0.5"]);
    let came_back: u32 = came_back.trim().parse().expect("a number");
    assert!((1..10).contains(&came_back), "{came_back} of ten");
    program.stop();
}

#[test]
#[ignore = "needs python3"]
fn heartbeats() {
    let mut program = Program::start(
        "[[listener]]\nkind = \"udp-heartbeat\"\nbind = \"127.0.0.1:0\"\ntimeout = \"200ms\"\ngrace = \"100ms\"\n",
    );
    let address = program.address("udp-heartbeat");
    let port = python("heartbeat.py", address, &[]);
    let port = port.trim();
    for state in ["new", "late", "dead"] {
        program.wait_log(&format!("heartbeat 127.0.0.1:{port} {state}"));
    }
    python("heartbeat.py", address, &[port]);
    program.wait_log(&format!("heartbeat 127.0.0.1:{port} back"));
    program.stop();
}

#[test]
#[ignore = "needs python3"]
fn hellos() {
    let program = Program::start(
        "[[listener]]\nkind = \"hello\"\nbind = \"127.0.0.1:0\"\ncount = 4\ninterval = \"5ms\"\n",
    );
    let printed = python("hello.py", program.address("hello"), &[]);
    assert_eq!(printed, "hello0\nhello1\nhello2\nhello3\n");
    program.stop();
}

#[test]
#[ignore = "needs python3"]
fn uploads() {
    let handshakes = ["none", "sha1", "hmac-md5", "hmac-sha1", "hmac-sha256"];
    let files = common::temp_dir();
    let users = files.path().join("users");
    let hash = python_md5("anntulip");
    fs::write(&users, format!("# staff\nann|{hash}\n")).expect("a file");
    let path = files.path().join("pic\u{e4}.bin");
    let body: Vec<u8> = (0..70_001u32).map(|i| (i * 7 % 256) as u8).collect();
    fs::write(&path, &body).expect("a file");
    let path = path.to_str().expect("UTF-8");

    let listener = |handshake: &str, more: &str| {
        format!(
            "[[listener]]\nkind = \"upload\"\nbind = \"127.0.0.1:0\"\nhandshake = \"{handshake}\"\n\
             secret = \"open sesame\"\n{more}\n"
        )
    };
    let config: String = handshakes
        .iter()
        .flat_map(|handshake| {
            [
                listener(handshake, &format!("dir = \"{handshake}\"")),
                listener(
                    handshake,
                    &format!("dir = \"{handshake}-login\"\nlogin = {users:?}"),
                ),
            ]
        })
        .collect();
    let mut program = Program::start(&config);
    let addresses = program.addresses("upload");
    for (handshake, listeners) in handshakes.iter().zip(addresses.chunks(2)) {
        let upload = |address, user, password| {
            python(
                "upload.py",
                address,
                &[handshake, "open sesame", user, password, path],
            )
        };
        assert_eq!(upload(listeners[0], "", ""), "");
        program.wait_log("stored pic\u{e4}.bin, 70001 bytes");
        assert_eq!(upload(listeners[1], "ann", "tulip"), "True\n");
        program.wait_log("stored pic\u{e4}.bin, 70001 bytes");
        assert_eq!(upload(listeners[1], "ann", "rose"), "False\n");
        program.wait_log("login of \"ann\" refused");
        for dir in [(*handshake).to_owned(), format!("{handshake}-login")] {
            let stored = fs::read(program.path(&dir).join("pic\u{e4}.bin")).expect("a file");
            assert!(stored == body, "{dir}");
        }
    }
    program.stop();
}

/// The hash of a line of a user file, as whoever keeps the file would make it.
fn python_md5(text: &str) -> String {
    let program = format!("import hashlib; print(hashlib.md5({text:?}.encode()).hexdigest())");
    let output = std::process::Command::new("python3")
        .args(["-c", &program])
        .output()
        .expect("python3");
    String::from_utf8(output.stdout)
        .expect("digits")
        .trim()
        .to_owned()
}
