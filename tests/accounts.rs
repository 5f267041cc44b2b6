//! Users of an upload listener, with the real program: `passwd --login` writes them, the server takes
//! them at the next login, and over TLS.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use common::Program;
use netlab_reactor::wire::argon2id::Hash;
use netlab_reactor::wire::challenge::Secret;
use netlab_reactor::wire::user_file::UserInfo;

fn netlab(arguments: &[&str], password: Option<&str>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netlab-reactor"));
    command.args(arguments).env_remove("NETLAB_PASSWORD");
    if let Some(password) = password {
        command.env("NETLAB_PASSWORD", password);
    }
    command.output().expect("the binary runs")
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn passwd(file: &Path, user: &str, password: &str) -> Output {
    let file = file.to_str().expect("UTF-8");
    netlab(&["passwd", "--login", file, user], Some(password))
}

#[test]
fn passwd_writes_a_line_in_one_step_and_keeps_what_else_there_is() {
    let folder = common::temp_dir();
    let path = folder.path().join("userinfo");
    let output = passwd(&path, "ann", "tulip");
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert!(told(&output).ends_with("userinfo: \"ann\" added\n"));
    let line = fs::read_to_string(&path).expect("a file");
    assert!(
        line.starts_with("ann|$argon2id$v=19$m=19456,t=2,p=1$"),
        "{line}"
    );
    let mode = |path: &Path| fs::metadata(path).expect("a file").permissions().mode() & 0o7777;
    assert_eq!(mode(&path), 0o600);

    let md5 = UserInfo::line("bob", &Secret::from("rose"));
    fs::write(&path, format!("# the lab\n{line}{md5}")).expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("a mode");
    let link = folder.path().join("link");
    symlink("userinfo", &link).expect("a link");
    let output = passwd(&link, "ann", "tulip");
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert!(told(&output).ends_with("link: \"ann\" changed\n"));
    let text = fs::read_to_string(&path).expect("a file");
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0] == "# the lab" && lines[2] == md5 && lines.len() == 3,
        "{text}"
    );
    assert!(lines[1].starts_with("ann|$argon2id$") && lines[1] != line.trim_end());
    assert_eq!(mode(&path), 0o640);
    assert!(link.is_symlink());

    let password = folder.path().join("password");
    fs::write(&password, "lily\n").expect("a file");
    let arguments = ["passwd", "cyd", "--login", path.to_str().expect("UTF-8")];
    let from_file = ["--password-file", password.to_str().expect("UTF-8")];
    let output = netlab(&[&arguments[..], &from_file].concat(), None);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert_eq!(
        fs::read_to_string(&path).expect("a file").lines().count(),
        4
    );
    // No half-written file stays behind.
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 3);
}

#[test]
fn passwd_asks_twice_without_an_echo() {
    let folder = common::temp_dir();
    let path = folder.path().join("userinfo");
    let typed = |first: &str, second: &str| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/passwd.py");
        let mut python = Command::new("python3");
        python.args([script, env!("CARGO_BIN_EXE_netlab-reactor")]);
        python.arg(&path).args([first, second]);
        let output = python.output().expect("python3 runs");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    };
    let (code, shown) = typed("tulip", "rose");
    assert_eq!(code, Some(2), "{shown}");
    assert!(
        shown.ends_with("the two are not the same; the password stays what it was\n"),
        "{shown}"
    );
    assert!(!path.exists());
    let (code, shown) = typed("tulip", "tulip");
    let name = path.display();
    let expected = format!("password: \nthe same password again: \n{name}: \"ann\" added\n");
    assert_eq!((code, shown), (Some(0), expected));
    let line = fs::read_to_string(&path).expect("a file");
    let hash = Hash::parse(line.trim_end().strip_prefix("ann|").expect("ann")).expect("a hash");
    assert!(hash.is_of(b"tulip"));
}

#[test]
fn passwd_refuses_what_a_server_would_and_changes_nothing() {
    let folder = common::temp_dir();
    let path = folder.path().join("userinfo");
    for (user, password, why) in [
        ("a|b", "x", "it has a `|`"),
        ("a\nb", "x", "it has a line ending"),
        ("", "x", "it is empty"),
        ("ann", "", "the password is empty"),
    ] {
        let output = passwd(&path, user, password);
        assert_eq!(output.status.code(), Some(2), "{user:?}");
        assert!(told(&output).contains(why), "{}", told(&output));
    }
    assert!(!path.exists());
    fs::write(&path, "ann|tulip\n").expect("a file");
    let output = passwd(&path, "bob", "rose");
    assert_eq!(output.status.code(), Some(2));
    assert!(told(&output).contains("userinfo: line 1: the hash of \"ann\" is not 32"));
    assert_eq!(fs::read_to_string(&path).expect("a file"), "ann|tulip\n");
    let nowhere = folder.path().join("none/userinfo");
    assert_eq!(passwd(&nowhere, "bob", "rose").status.code(), Some(74));
}

/// An upload server without a handshake; its users stand in `userinfo`.
fn server(more: &str) -> (Program, tempfile::TempDir, PathBuf) {
    let folder = common::temp_dir();
    let users = folder.path().join("userinfo");
    fs::write(&users, UserInfo::line("ann", &Secret::from("tulip"))).expect("a file");
    let config = format!(
        "[[listener]]\nkind = \"upload\"\nbind = \"127.0.0.1:0\"\ndir = \"up\"\nhandshake = \"none\"\n\
         login = {users:?}\n{more}\n"
    );
    (Program::start(&config), folder, users)
}

fn login(server: &Program, user: &str, password: &str) -> String {
    let mut stream = server.connect("upload");
    let object = format!(r#"{{"operate": "login", "user": {user:?}, "passwd": {password:?}}}"#);
    stream.write_all(object.as_bytes()).expect("a connection");
    let mut answer = [0; 64];
    let count = stream.read(&mut answer).expect("an answer");
    String::from_utf8_lossy(&answer[..count]).into_owned()
}

const RIGHT: &str = "{\"flag\": true}";
const WRONG: &str = "{\"flag\": false}";

#[test]
fn a_server_takes_a_new_user_and_keeps_the_old_ones_where_the_file_is_broken() {
    let (mut server, _folder, users) = server("max_failures = 0");
    assert_eq!(login(&server, "ann", "tulip"), RIGHT);
    assert_eq!(login(&server, "bob", "rose"), WRONG);
    server.wait_log("login of \"bob\" refused");
    let output = passwd(&users, "bob", "rose");
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    common::expect_soon(
        || login(&server, "bob", "rose") == RIGHT,
        || "bob cannot log in".to_owned(),
    );
    server.wait_log("has changed: 2 users");
    assert_eq!(login(&server, "bob", "Rose"), WRONG);
    assert_eq!(login(&server, "ann", "tulip"), RIGHT);
    assert_eq!(login(&server, "eve", "tulip"), WRONG);
    let good = fs::read(&users).expect("a file");
    fs::write(&users, "ann|tulip\n").expect("a file");
    for _ in 0..3 {
        assert_eq!(login(&server, "bob", "rose"), RIGHT);
        std::thread::sleep(Duration::from_millis(500)); // it is believed for a second
    }
    server.wait_log("line 1: the hash of \"ann\" is not 32");
    fs::write(&users, good).expect("a file");
    assert_eq!(login(&server, "bob", "rose"), RIGHT);
    server.stop();
}

#[test]
fn failures_from_an_address_are_logged_with_it_and_stop_more_from_being_checked() {
    let (mut server, _folder, _users) = server("max_failures = 2");
    for _ in 0..2 {
        assert_eq!(login(&server, "ann", "x"), WRONG);
    }
    assert!(
        server
            .wait_log("login of \"ann\" refused")
            .contains("upload 127.0.0.1:")
    );
    assert_eq!(login(&server, "ann", "tulip"), WRONG);
    server.wait_log("refused unchecked: too many failed from this address");
    server.stop();
}

#[test]
fn a_file_of_users_with_an_absurd_cost_is_refused_at_the_start() {
    let folder = common::temp_dir();
    let path = folder.path().join("userinfo");
    let line = "ann|$argon2id$v=19$m=4194304,t=3,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEg\n";
    fs::write(&path, line).expect("a file");
    let output = common::run(&format!(
        "[[listener]]\nkind = \"upload\"\nbind = \"127.0.0.1:0\"\nhandshake = \"none\"\nlogin = {path:?}\n"
    ));
    assert_eq!(output.status.code(), Some(78));
    let told = told(&output);
    assert!(
        told.contains("line 1: the hash of \"ann\" is refused: m=4194304; expected 8 to 65536"),
        "{told}"
    );
    assert!(!told.contains("nf65EOgLrQMR"), "{told}");
}

#[test]
fn the_upload_client_speaks_tls_with_a_handshake_and_a_login() {
    let files = common::temp_dir();
    let key = rcgen::generate_simple_self_signed(vec!["upload.example".to_owned()]).expect("a key");
    let (cert, private) = (files.path().join("cert.pem"), files.path().join("key.pem"));
    fs::write(&cert, key.cert.pem()).expect("a file");
    fs::write(&private, key.signing_key.serialize_pem()).expect("a file");
    let (server, _folder, users) =
        server(&format!("tls = {{ cert = {cert:?}, key = {private:?} }}"));
    let output = passwd(&users, "bob", "rose");
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let payload = files.path().join("a.bin");
    fs::write(&payload, vec![7; 300_000]).expect("a file");
    let port = server.address("upload").port().to_string();
    let upload = |more: &[&str]| {
        let payload = payload.to_str().expect("UTF-8");
        let rest = [
            "--handshake",
            "none",
            "--user",
            "bob",
            "--retries",
            "0",
            "127.0.0.1",
            &port,
            payload,
        ];
        netlab(&[&["upload"], more, &rest].concat(), Some("rose"))
    };
    let trusted = cert.to_str().expect("UTF-8");
    let output = upload(&[
        "--tls",
        "--ca-file",
        trusted,
        "--tls-name",
        "upload.example",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    common::expect_soon(
        || fs::read(server.path("up/a.bin")).is_ok_and(|bytes| bytes == vec![7; 300_000]),
        || "the file is not there".to_owned(),
    );
    // Another name, nobody to trust, and no TLS at all.
    let output = upload(&["--tls", "--ca-file", trusted]);
    assert_eq!(output.status.code(), Some(69), "{}", told(&output));
    let output = upload(&["--tls-name", "upload.example"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(told(&output).contains("--ca-file and --tls-name are for --tls"));
    let output = upload(&["--timeout", "3s"]);
    assert_ne!(output.status.code(), Some(0));
    server.stop();
}

/// What checks passwords is not the loop: an echo client beside it goes on.
#[test]
fn an_echo_beside_a_crowd_that_logs_in_is_answered() {
    let (server, _folder, users) =
        server("max_failures = 0\n[[listener]]\nkind = \"tcp-echo\"\nbind = \"127.0.0.1:0\"");
    let output = passwd(&users, "bob", "rose");
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    common::expect_soon(
        || login(&server, "bob", "rose") == RIGHT,
        || "bob cannot log in".to_owned(),
    );
    let mut crowd: Vec<_> = (0..20).map(|_| server.connect("upload")).collect();
    for (number, stream) in crowd.iter_mut().enumerate() {
        let object = format!(r#"{{"operate": "login", "user": "bob", "passwd": "{number}"}}"#);
        stream.write_all(object.as_bytes()).expect("a connection");
    }
    let mut echo = server.connect("tcp-echo");
    let mut answers = 0;
    let mut byte = [0; 1];
    crowd[19].set_nonblocking(true).expect("an option");
    let mut last = [0; 64];
    while crowd[19].read(&mut last).is_err() {
        echo.write_all(b"x").expect("a connection");
        echo.read_exact(&mut byte).expect("an answer");
        answers += 1;
        std::thread::sleep(Duration::from_millis(1));
    }
    // If the loop made the checks, the echo would have been answered once for each at most.
    assert!(
        answers > 40,
        "{answers} echoes while 20 passwords were checked"
    );
    server.stop();
}
