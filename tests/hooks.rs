//! Commands of listeners, with the real program.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use common::{Program, expect_soon, temp_dir};
use netlab_reactor::wire::user_file::UserInfo;
use rustix::process::{Pid, Signal, kill_process};

/// A script in a folder of its own; its path.
fn script(folder: &tempfile::TempDir, text: &str) -> String {
    let path = folder.path().join("hook");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
    path.to_str().expect("UTF-8").to_owned()
}

fn beats(more: &str) -> String {
    format!(
        "[[listener]]\nkind = \"udp-heartbeat\"\nname = \"lab\"\nbind = \"127.0.0.1:0\"\n{more}\n"
    )
}

fn metric(server: &Program, name: &str) -> f64 {
    let mut stream = server.connect("admin");
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("a connection");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(&format!("netlab_{name} ")));
    line.unwrap_or_else(|| panic!("no {name} in {text}"))
        .parse()
        .expect("a number")
}

const ADMIN: &str = "[[listener]]\nkind = \"admin\"\nbind = \"127.0.0.1:0\"\n";

#[test]
fn a_command_is_told_of_each_change_of_a_sender() {
    let folder = temp_dir();
    let told = folder.path().join("told");
    let hook = script(
        &folder,
        "echo \"$1 $NETLAB_EVENT $NETLAB_LISTENER $NETLAB_CHANGE $NETLAB_SENDER $NETLAB_SECRET\" >> \"$2\"",
    );
    let command = format!("on_change = [{hook:?}, \"an argument\", {told:?}]\ntimeout = \"200ms\"");
    let server = Program::start(&(beats(&command) + ADMIN));
    let socket = server.datagrams("udp-heartbeat");
    let sender = socket.local_addr().expect("an address");
    socket.send(b"Heartbeat 1 1.0").expect("a datagram");
    let lines = || fs::read_to_string(&told).unwrap_or_default();
    expect_soon(|| lines().lines().count() == 2, lines);
    socket.send(b"Heartbeat 2 2.0").expect("a datagram");
    expect_soon(|| lines().lines().count() == 4, lines);
    let mut all: Vec<String> = lines().lines().map(str::to_owned).collect();
    // They run beside one another, so the order of those of one moment is nobody's to say.
    all.sort();
    let of = |change: &str| format!("an argument on_change lab {change} {sender} ");
    assert_eq!(all, [of("back"), of("dead"), of("dead"), of("new")]);
    expect_soon(
        || metric(&server, "hooks_running") == 0.0,
        || "a command still runs".to_owned(),
    );
    assert_eq!(metric(&server, "hooks_started_total"), 4.0);
    assert_eq!(metric(&server, "hooks_failed_total{cause=\"code\"}"), 0.0);
    server.stop();
}

#[test]
fn one_that_hangs_is_killed_and_one_that_fails_is_logged_and_the_loop_goes_on() {
    let folder = temp_dir();
    let hook = script(
        &folder,
        "if [ $NETLAB_CHANGE = new ]; then exec sleep 600; else exit 7; fi",
    );
    let config = beats(&format!("on_change = [{hook:?}]\ntimeout = \"200ms\""))
        + ADMIN
        + "[[listener]]\nkind = \"tcp-echo\"\nbind = \"127.0.0.1:0\"\n[limits]\nhook_timeout = \"700ms\"\n";
    let mut server = Program::start(&config);
    let socket = server.datagrams("udp-heartbeat");
    socket.send(b"Heartbeat 1 1.0").expect("a datagram");
    let mut echo = server.connect("tcp-echo");
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(1) {
        echo.write_all(b"x").expect("a connection");
        let sent = Instant::now();
        echo.read_exact(&mut [0; 1]).expect("an answer");
        assert!(
            sent.elapsed() < Duration::from_millis(500),
            "the loop stood still"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    let failed = server.wait_log("ended with code 7, after ");
    assert!(failed.contains("lab: on_change: "), "{failed}");
    server.wait_log("ended by signal 9, killed after ");
    for cause in ["code", "timed_out"] {
        let name = format!("hooks_failed_total{{cause=\"{cause}\"}}");
        assert_eq!(metric(&server, &name), 1.0, "{cause}");
    }
    server.stop();
}

#[test]
fn what_is_beyond_the_places_is_dropped_and_told() {
    let folder = temp_dir();
    let hook = script(&folder, "echo $$ >> \"$1\"; exec sleep 600");
    let pids = folder.path().join("pids");
    let config = beats(&format!(
        "on_change = [{hook:?}, {pids:?}]\ntimeout = \"1h\""
    )) + ADMIN
        + "[limits]\nmax_hooks = 2\nmax_waiting_hooks = 3\nlast_jobs_timeout = \"100ms\"\n";
    let mut server = Program::start(&config);
    for number in 0..10 {
        let socket = server.datagrams("udp-heartbeat");
        socket
            .send(format!("Heartbeat {number} 1.0").as_bytes())
            .expect("a datagram");
    }
    server.wait_log("lab: on_change: 1 dropped: too many commands wait");
    // How many of them came before the first could be begun is the kernel's to say.
    let all = || {
        let names = ["hooks_dropped_total", "hooks_running", "hooks_waiting"];
        names.map(|name| metric(&server, name) as u32)
    };
    expect_soon(
        || all().iter().sum::<u32>() == 10,
        || format!("{:?}", all()),
    );
    let [dropped, running, waiting] = all();
    assert!((5..=7).contains(&dropped) && running == 2, "{:?}", all());
    expect_soon(
        || fs::read_to_string(&pids).is_ok_and(|pids| pids.lines().count() == 2),
        || "they do not run".to_owned(),
    );
    // The end of the server is not theirs to delay.
    server.terminate();
    assert!(server.wait().success());
    server.wait_log(&format!(
        "2 commands go on by themselves, {waiting} are not run"
    ));
    let pids = fs::read_to_string(&pids).expect("a file");
    let pids: Vec<i32> = pids
        .lines()
        .map(|pid| pid.parse().expect("a number"))
        .collect();
    assert_eq!(pids.len(), 2);
    for pid in pids {
        let pid = Pid::from_raw(pid).expect("a process");
        kill_process(pid, Signal::KILL).expect("it goes on");
    }
}

#[test]
fn a_program_that_is_not_there_is_logged_and_a_wrong_one_refused_at_the_start() {
    let mut server = Program::start(&beats("on_change = [\"./none\"]"));
    let socket = server.datagrams("udp-heartbeat");
    socket.send(b"Heartbeat 1 1.0").expect("a datagram");
    let told = server.wait_log("cannot be run: No such file or directory");
    let program = server.path("./none");
    assert!(told.contains(program.to_str().expect("UTF-8")), "{told}");
    server.stop();
    for (wrong, why) in [
        (
            "[]",
            "`on_change` names no program; expected a program and its arguments",
        ),
        ("[\"\"]", "`on_change` names no program"),
        ("\"mail root\"", "`on_change` is a string; expected a list"),
        ("[\"a\\u0000b\"]", "an entry of `on_change` contains a NUL"),
    ] {
        let output = common::run(&beats(&format!("on_change = {wrong}")));
        assert_eq!(output.status.code(), Some(78));
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(told.contains(why), "{told}");
    }
}

#[test]
fn a_command_is_told_of_a_file_that_is_there_by_then() {
    let folder = temp_dir();
    let told = folder.path().join("told");
    let hook = script(
        &folder,
        "echo \"$NETLAB_EVENT|$NETLAB_NAME|$NETLAB_SIZE|$NETLAB_FILE|$NETLAB_USER|${NETLAB_SHA256-unknown}|$(cat \"$NETLAB_FILE\")\" >> \"$1\"",
    );
    let users = folder.path().join("userinfo");
    fs::write(&users, UserInfo::line("ann lee", &"tulip".into())).expect("a file");
    let server = Program::start(&format!(
        "[[listener]]\nkind = \"upload\"\nbind = \"127.0.0.1:0\"\ndir = \"up\"\nhandshake = \"none\"\n\
         login = {users:?}\nuser_folders = true\non_stored = [{hook:?}, {told:?}]\n"
    ));
    let mut stream = server.connect("upload");
    let login = br#"{"operate": "login", "user": "ann lee", "passwd": "tulip"}"#;
    let header = b"\x2a\0\0\0{\"filename\": \"$(id) x.txt\", \"filesize\": 5}";
    stream
        .write_all(&[&login[..], header, b"hello"].concat())
        .expect("a connection");
    let lines = || fs::read_to_string(&told).unwrap_or_default();
    expect_soon(|| lines().ends_with('\n'), lines);
    let path = server.path("up/ann%20lee/$(id) x.txt");
    let path = fs::canonicalize(path).expect("a file");
    let first = format!(
        "on_stored|$(id) x.txt|5|{}|ann lee|unknown|hello\n",
        path.display()
    );
    assert_eq!(lines(), first);
    // Of a file that is answered the digest is known, whether or not its client sent one; and it stands in
    // the folder that the client named.
    let json = r#"{"filename": "y", "filesize": 5, "ack": true, "folder": "a/b"}"#;
    let length = (json.len() as i32).to_le_bytes();
    stream
        .write_all(&[&length[..], json.as_bytes(), b"hello"].concat())
        .expect("a connection");
    expect_soon(|| lines().matches('\n').count() == 2, lines);
    let path = path.with_file_name("a/b/y");
    let sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    let second = format!("on_stored|y|5|{}|ann lee|{sha256}|hello\n", path.display());
    assert_eq!(lines(), first + &second);
    server.stop();
}

/// Sockets, logs and the poll of the server are not for its commands.
#[test]
fn a_command_has_no_descriptor_of_the_server() {
    let folder = temp_dir();
    let told = folder.path().join("told");
    // The descriptor by which the shell lists the folder is gone when it is looked at.
    let hook = script(
        &folder,
        "for fd in /proc/$$/fd/*; do readlink $fd || true; done > \"$1.new\"; mv \"$1.new\" \"$1\"",
    );
    let more = format!("on_change = [{hook:?}, {told:?}]");
    let http = "[[listener]]\nkind = \"http\"\nbind = \"127.0.0.1:0\"\naccess_log = \"log\"\n";
    let server = Program::start(&(beats(&more) + ADMIN + http));
    let _stream = server.connect("http");
    metric(&server, "hooks_running");
    let socket = server.datagrams("udp-heartbeat");
    socket.send(b"Heartbeat 1 1.0").expect("a datagram");
    expect_soon(|| told.exists(), || "it was not told".to_owned());
    let text = fs::read_to_string(&told).expect("a file");
    // What the server was begun with by others is not its own.
    let is_ours = |line: &str| {
        line.starts_with("socket:") || line.starts_with("anon_inode:") || line.ends_with("/log")
    };
    assert!(text.lines().count() >= 3, "{text}");
    assert!(!text.lines().any(is_ours), "{text}");
    server.stop();
}
