//! What whoever runs the program can tell it: how its log is, who it is, and what it may reach.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use common::{PATIENCE, Program, connect, expect_soon, run, temp_dir};
use rustix::process::{Signal, geteuid};
use serde_json::Value;

const ADMIN: &str = "[[listener]]\nkind = \"admin\"\nbind = \"127.0.0.1:0\"\n";
const FRAMES: &str =
    "[[listener]]\nkind = \"frame-echo\"\nname = \"frames\"\nbind = \"127.0.0.1:0\"\n";

/// Sends a request; its status and body.
fn ask(address: SocketAddr, request: &str, headers: &str) -> (u16, String) {
    let mut stream = connect(address);
    let text =
        format!("{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(text.as_bytes()).expect("it listens");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let status = answer[9..12].parse().expect("a status");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
    (status, body.to_owned())
}

/// Sends a length that is none: the log tells of it.
fn misbehave(program: &Program) {
    let mut client = program.connect("frame-echo");
    client.write_all(b"GET ").expect("it listens");
    common::expect_closed(&mut client);
}

#[test]
fn each_line_of_the_log_is_an_object_and_says_whom_it_is_about() {
    let config = format!("[log]\nformat = \"json\"\n{ADMIN}{FRAMES}");
    let mut program = Program::start(&config);
    misbehave(&program);
    let line = program.wait_log("frame length");
    let object: Value = serde_json::from_str(&line).expect("a JSON object");
    assert_eq!(object["level"], "info");
    assert_eq!(object["target"], "netlab_reactor::services::frame_echo");
    assert_eq!(object["listener"], "frames");
    assert!(
        object["session"].as_u64().is_some_and(|id| id > 0),
        "{line}"
    );
    let message = object["message"].as_str().expect("a text");
    assert!(message.contains("is above the limit"), "{message}");
    let time = object["time"].as_str().expect("a text");
    assert_eq!(
        (time.len(), &time[10..11], &time[19..20], &time[26..]),
        (27, "T", ".", "Z")
    );
    for line in program.log().lines() {
        let object: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        assert!(object["message"].is_string());
    }
    program.stop();
}

#[test]
fn the_session_of_a_line_is_the_one_of_the_list() {
    let config = format!("[log]\nfilter = \"debug\"\n{ADMIN}{FRAMES}");
    let mut program = Program::start(&config);
    let mut client = program.connect("frame-echo");
    client.write_all(&2_i32.to_le_bytes()).expect("it listens");
    let find = || {
        let (_, body) = ask(program.address("admin"), "GET /sessions.json", "");
        let list: Value = serde_json::from_str(&body).expect("JSON");
        let all = list.as_array().cloned().unwrap_or_default();
        all.into_iter().find(|row| row["listener"] == "frames")
    };
    expect_soon(|| find().is_some(), || "no session is listed".to_owned());
    let id = find().expect("a session")["id"].as_u64().expect("a number");
    client.write_all(b"ab").expect("it listens");
    client
        .write_all(&(-1_i32).to_le_bytes())
        .expect("it listens");
    let line = program.wait_log("frame length");
    assert!(
        line.contains(&format!("frame_echo frames#{id}] ")),
        "{line}"
    );
    program.stop();
}

#[test]
fn a_flag_and_the_environment_win_over_the_file() {
    let script = "NETLAB_LOG_FORMAT=json NETLAB_LOG=error exec \"$0\" \"$@\"";
    let config = format!("[log]\nfilter = \"debug\"\n{ADMIN}");
    let program = Program::start_by(&config, script);
    assert_eq!(
        ask(program.address("admin"), "GET /log", ""),
        (200, "error\n".to_owned())
    );
    program.stop();
    let wrong =
        run("[log]\nformat = \"xml\"\nfilter = \"debgu\"\n[[listener]]\nkind = \"hello\"\n");
    let told = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert_eq!(wrong.status.code(), Some(78));
    assert!(
        told.contains("netlab.toml:2:10:") && told.contains("\"text\", \"json\""),
        "{told}"
    );
    assert!(
        told.contains("netlab.toml:3:10:") && told.contains("expected filters"),
        "{told}"
    );
}

#[test]
fn what_is_logged_is_changed_while_it_runs_and_comes_back_with_a_reload() {
    let config = format!("[log]\nfilter = \"warn\"\n{ADMIN}{FRAMES}");
    let mut program = Program::start(&config);
    let admin = program.address("admin");
    assert_eq!(ask(admin, "GET /log", ""), (200, "warn\n".to_owned()));
    misbehave(&program);
    let told = "info,netlab_reactor::dns=trace";
    let (status, body) = ask(admin, &format!("PUT /log?filter={told}"), "");
    assert_eq!((status, &*body), (200, &*format!("{told}\n")));
    misbehave(&program);
    let line = program.wait_log("frame length");
    assert!(line.contains("frames#"), "{line}");
    assert!(
        !program.log().contains("frame length"),
        "it was not logged before"
    );
    for (request, headers, status, what) in [
        (
            "PUT /log?filter=loud",
            "",
            400,
            "expected parts between commas",
        ),
        ("PUT /log", "", 400, "expected filter="),
        (
            "POST /log?filter=off",
            "Origin: http://evil.example\r\n",
            403,
            "another site",
        ),
        (
            "PUT /log?filter=off",
            "Sec-Fetch-Site: cross-site\r\n",
            403,
            "another site",
        ),
        ("DELETE /log", "", 405, "Allow"),
        ("PUT /metrics", "", 405, "Allow"),
    ] {
        let (got, body) = ask(admin, request, headers);
        assert_eq!(got, status, "{request}: {body}");
        assert!(body.contains(what), "{request}: {body}");
    }
    assert_eq!(ask(admin, "GET /log", "").1, format!("{told}\n"));
    program.signal(Signal::HUP);
    let is_back = || ask(admin, "GET /log", "").1 == "warn\n";
    expect_soon(is_back, || "the log stays as it was told".to_owned());
    program.stop();
}

/// Whether this test can be run; the reason is told if not.
fn is_root() -> bool {
    let is_root = geteuid().is_root();
    if !is_root {
        eprintln!("not run: only root can become another user");
    }
    is_root
}

fn status_of(program: &Program, key: &str) -> Vec<u32> {
    let path = format!("/proc/{}/status", program.child.id());
    let text = fs::read_to_string(path).expect("it runs");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key))
        .expect("a line");
    line.split_whitespace()
        .map(|number| number.parse().expect("a number"))
        .collect()
}

/// A port below 1024 that is free.
fn low_port() -> u16 {
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (700..1000).find(is_free).expect("a port")
}

#[test]
fn root_becomes_another_user_once_it_has_its_ports() {
    if !is_root() {
        return;
    }
    let port = low_port();
    let config = format!(
        "user = \"nobody\"\n[sandbox]\nlandlock = \"auto\"\n{ADMIN}[[listener]]\nkind = \"tcp-echo\"\nbind = \"127.0.0.1:{port}\"\n\
         [[listener]]\nkind = \"upload\"\nbind = \"127.0.0.1:0\"\nhandshake = \"none\"\ndir = \"in\"\n"
    );
    let script = "chmod 755 .; mkdir in; chown nobody in; exec \"$0\" \"$@\"";
    let mut program = Program::start_by(&config, script);
    let nobody = fs::metadata(program.path("in")).expect("a folder").uid();
    assert_ne!(nobody, 0);
    assert_eq!(status_of(&program, "Uid:"), [nobody; 4]);
    assert!(status_of(&program, "Gid:").iter().all(|group| *group != 0));
    assert!(!status_of(&program, "Groups:").contains(&0));
    let threads = format!("/proc/{}/task", program.child.id());
    for thread in fs::read_dir(threads).expect("it runs") {
        let path = thread.expect("a thread").path().join("status");
        let text = fs::read_to_string(path).expect("it runs");
        assert!(
            text.contains(&format!("Uid:\t{nobody}\t{nobody}\t{nobody}\t{nobody}\n")),
            "{text}"
        );
    }
    let mut client = program.connect("tcp-echo");
    client.write_all(b"a low port").expect("it listens");
    assert_eq!(common::recv(&mut client), b"A LOW PORT");
    // What it makes is the user's.
    let mut client = program.connect("upload");
    let header = br#"{"filename":"a.txt","filesize":2,"ack":true}"#;
    client
        .write_all(&(header.len() as i32).to_le_bytes())
        .expect("it listens");
    client.write_all(header).expect("it listens");
    client.write_all(b"hi").expect("it listens");
    let stored = program.path("in/a.txt");
    expect_soon(|| stored.exists(), || "nothing is stored".to_owned());
    assert_eq!(fs::metadata(&stored).expect("a file").uid(), nobody);
    // A reload keeps the port that there is, and tells of the one that there cannot be.
    let other = low_port();
    let more = format!("[[listener]]\nkind = \"hello\"\nbind = \"127.0.0.1:{other}\"\n");
    fs::write(program.path("netlab.toml"), config + &more).expect("a file");
    program.signal(Signal::HUP);
    let free_from = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    if free_from.is_ok_and(|port| port.trim() == "1024") {
        let line = program.wait_log("ports below 1024 are for root");
        assert!(
            line.contains(&format!("listener hello: 127.0.0.1:{other}")),
            "{line}"
        );
    }
    let mut client = program.connect("tcp-echo");
    client.write_all(b"still").expect("it listens");
    assert_eq!(common::recv(&mut client), b"STILL");
    program.stop();
}

#[test]
fn who_cannot_become_another_user_is_told_and_serves_nothing() {
    let echo = "[[listener]]\nkind = \"tcp-echo\"\nbind = \"127.0.0.1:0\"\n";
    let told = |keys: &str| {
        let output = run(&format!("{keys}{echo}"));
        assert_eq!(output.status.code(), Some(69));
        assert!(output.stdout.is_empty(), "nothing is served");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let unknown = told("user = \"no-such-user\"\n");
    assert!(unknown.contains("whom nobody knows; expected"), "{unknown}");
    let group = told("user = \"nobody\"\ngroup = \"no-such-group\"\n");
    assert!(
        group.contains("expected the name or number of a group"),
        "{group}"
    );
    let root = told("user = \"root\"\n");
    assert!(root.contains("who is root"), "{root}");
    if !geteuid().is_root() {
        let told = told("user = \"nobody\"\n");
        assert!(told.contains("expected to be started by root"), "{told}");
    }
}

/// A program that is kept to its files; `None`, and why, where the kernel has no Landlock.
fn start_kept(config: &str, files: &[(&str, &[u8])]) -> Option<Program> {
    let probe = run("[sandbox]\nlandlock = \"on\"\n[[listener]]\nkind = \"nothing\"\n");
    assert_eq!(probe.status.code(), Some(78), "the key is known");
    let probe = Program::start(
        "[sandbox]\nlandlock = \"auto\"\n[[listener]]\nkind = \"hello\"\nbind = \"127.0.0.1:0\"\n",
    );
    let (mut probe, kept) = (probe, "kept to its files");
    expect_soon_log(&mut probe, "[sandbox]: ");
    let is_kept = probe.log().contains(kept);
    probe.stop();
    if !is_kept {
        eprintln!("not run: the kernel has no Landlock");
        return None;
    }
    Some(Program::start_beside(
        &format!("[sandbox]\nlandlock = \"on\"\n{config}"),
        files,
    ))
}

/// Waits until the log has such a line, which stays to be looked at.
fn expect_soon_log(program: &mut Program, text: &str) {
    let end = std::time::Instant::now() + PATIENCE;
    while !program.log().contains(text) {
        assert!(std::time::Instant::now() < end, "{}", program.log());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

fn store(program: &Program, name: &str) {
    let mut client = program.connect("upload");
    let header = format!(r#"{{"filename":"{name}","filesize":2,"ack":true}}"#);
    client
        .write_all(&(header.len() as i32).to_le_bytes())
        .expect("it listens");
    client.write_all(header.as_bytes()).expect("it listens");
    client.write_all(b"hi").expect("it listens");
    let stored = program.path("in").join(name);
    expect_soon(|| stored.exists(), || "nothing is stored".to_owned());
}

#[test]
fn a_process_that_is_kept_does_all_that_is_configured_and_reaches_nothing_else() {
    let outside = temp_dir();
    let secret = outside.path().join("secret");
    fs::write(&secret, "ann:x\n").expect("a file");
    for engine in ["io_uring", "threads", "inline"] {
        let config = format!(
            "[disk]\nengine = \"{engine}\"\n\
             {ADMIN}[[listener]]\nkind = \"http\"\nbind = \"127.0.0.1:0\"\nroot = \"site\"\naccess_log = \"log/access.log\"\n\
             [[listener]]\nkind = \"proxy\"\nbind = \"127.0.0.1:0\"\ncache_dir = \"cache\"\nallow_destinations = [\"127.0.0.0/8\"]\n\
             [[listener]]\nkind = \"upload\"\nbind = \"127.0.0.1:0\"\nhandshake = \"none\"\ndir = \"in\"\n\
             on_stored = [\"./hook.sh\", \"{}\"]\n",
            secret.display()
        );
        let hook = "#!/bin/sh\n{ cat \"$1\" || echo refused; touch ../touched || echo refused; } > in/told 2>&1\nmv in/told in/done\n";
        let files: [(&str, &[u8]); 3] = [
            ("site/a.txt", b"a page"),
            ("log/keep", b""),
            ("hook.sh", hook.as_bytes()),
        ];
        let Some(mut program) = start_kept_after(&config, &files, |program: &Program| {
            let hook = program.path("hook.sh");
            fs::set_permissions(hook, fs::Permissions::from_mode(0o755)).expect("a mode");
        }) else {
            return;
        };
        let http = program.address("http");
        assert_eq!(
            ask(http, "GET /a.txt", ""),
            (200, "a page".to_owned()),
            "{engine}"
        );
        let through = format!("GET http://{http}/a.txt");
        let proxy = program.address("proxy");
        assert_eq!(ask(proxy, &through, ""), (200, "a page".to_owned()));
        store(&program, "a.txt");
        let done = program.path("in/done");
        expect_soon(|| done.exists(), || "the command did not run".to_owned());
        let told = fs::read_to_string(&done).expect("a file");
        assert_eq!(told.matches("refused").count(), 2, "{told}");
        assert!(!told.contains("ann:"), "{told}");
        let log = program.path("log/access.log");
        let is_logged = || fs::read_to_string(&log).is_ok_and(|text| text.contains("/a.txt"));
        expect_soon(is_logged, || "nothing is logged".to_owned());
        refuses_what_is_outside(&mut program, &config, outside.path());
        program.stop();
    }
}

/// Starts it as [`start_kept`] does, with something done between.
fn start_kept_after(
    config: &str,
    files: &[(&str, &[u8])],
    then: impl Fn(&Program),
) -> Option<Program> {
    let program = start_kept(config, files)?;
    then(&program);
    Some(program)
}

/// A reload cannot bring in what was not granted; what was configured goes on.
fn refuses_what_is_outside(program: &mut Program, config: &str, outside: &Path) {
    let file = program.path("netlab.toml");
    let before = fs::read_to_string(&file).expect("a file");
    let moved = config.replace("root = \"site\"", &format!("root = {outside:?}"));
    fs::write(&file, format!("[sandbox]\nlandlock = \"on\"\n{moved}")).expect("a file");
    program.signal(Signal::HUP);
    let line = program.wait_log("was not granted at the start");
    assert!(
        line.contains(&*outside.to_string_lossy()) && line.contains("restart"),
        "{line}"
    );
    // The process itself is refused a file there.
    let auth = format!(
        "root = \"site\"\nauth = {{ file = {:?} }}",
        outside.join("secret")
    );
    let read = config.replace("root = \"site\"", &auth);
    fs::write(&file, format!("[sandbox]\nlandlock = \"on\"\n{read}")).expect("a file");
    program.signal(Signal::HUP);
    let line = program.wait_log("Permission denied");
    assert!(line.contains("secret"), "{line}");
    program.wait_log("is granted by a restart");
    let http = program.address("http");
    assert_eq!(ask(http, "GET /a.txt", "").0, 200);
    // The configuration and what it names may be replaced by files of their names.
    let next = program.path("next.toml");
    fs::write(
        &next,
        before + "[[listener]]\nkind = \"hello\"\nbind = \"127.0.0.1:0\"\n",
    )
    .expect("a file");
    fs::rename(&next, &file).expect("a file");
    program.signal(Signal::HUP);
    program.wait_log("hello: listening on");
}
