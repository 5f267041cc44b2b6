//! `explain`: one exchange with the running program, step by step; and what lets a client look.

mod common;

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Output};

use common::Program;

const CONFIG: &str = "\
[disk]
engine = \"inline\"
[[listener]]
kind = \"admin\"
bind = \"127.0.0.1:0\"
[[listener]]
kind = \"http\"
bind = \"127.0.0.1:0\"
root = \"site\"
[[listener]]
kind = \"tcp-echo\"
bind = \"127.0.0.1:0\"
[[listener]]
kind = \"udp-echo\"
bind = \"127.0.0.1:0\"
[[listener]]
kind = \"udp-ping\"
bind = \"127.0.0.1:0\"
loss = 1.0
[[listener]]
kind = \"upload\"
bind = \"127.0.0.1:0\"
dir = \"uploads\"
handshake = \"sha1\"
secret = \"tulip\"
";

/// The program, with a folder to serve.
fn server() -> Program {
    Program::start_beside(CONFIG, &[("site/page.html", b"<p>tulip")])
}

/// Runs a client against the server's admin listener.
fn client(server: &Program, arguments: &[&str]) -> Output {
    let admin = format!("http://{}", server.address("admin"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_netlab-reactor"));
    command
        .env("NETLAB_ADMIN", admin)
        .env("NETLAB_SECRET", "tulip");
    command.args(arguments).output().expect("a client")
}

/// The standard output of `explain`, which succeeds.
fn explain(server: &Program, arguments: &[&str]) -> String {
    let ended = client(server, &[&["explain"], arguments].concat());
    assert!(ended.status.success(), "{arguments:?}: {ended:?}");
    String::from_utf8(ended.stdout).expect("text")
}

/// A step of what was printed: words and place.
fn steps(printed: &str) -> Vec<(&str, &str)> {
    let of_line = |line: &'_ str| -> Option<(usize, usize)> {
        let (at, _) = line.split_once(" µs  ")?;
        at.trim().parse::<f64>().ok()?;
        let words = at.len() + " µs  ".len();
        Some((words, line.rfind("  src/")?))
    };
    let lines = printed.lines();
    lines
        .filter_map(|line| {
            let (words, place) = of_line(line)?;
            Some((line[words..place].trim(), line[place..].trim()))
        })
        .collect()
}

/// Each of these steps follows the one before it, among others; every place is one in the source.
fn expect(printed: &str, expected: &[(&str, &str)]) {
    let steps = steps(printed);
    let mut rest = steps.iter();
    for (words, place) in expected {
        let is_it = |step: &&(&str, &str)| step.0.contains(words) && step.1 == *place;
        assert!(
            rest.any(|step| is_it(&step)),
            "no {words:?} at {place}, or not in this order, in\n{printed}"
        );
    }
    for (words, place) in steps {
        let (file, function) = place.split_once(' ').expect("a file and a function");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
        let is_there = [format!("fn {function}("), format!("fn {function}<")];
        assert!(
            is_there.iter().any(|of| text.contains(of)),
            "{words}: {file} has no {function}"
        );
    }
}

#[test]
fn a_get_is_explained() {
    let server = server();
    let url = format!("http://{}/page.html", server.address("http"));
    let printed = explain(&server, &[&url]);
    assert!(
        printed.starts_with("200 OK, 8 bytes of body\n"),
        "{printed}"
    );
    expect(
        &printed,
        &[
            ("turn begins with", "src/reactor/mod.rs turn"),
            ("accept", "src/reactor/mod.rs accept"),
            ("begins: http #", "src/reactor/listeners.rs accept"),
            ("is woken: accepted", "src/reactor/mod.rs began"),
            ("run", "src/reactor/mod.rs run_queue"),
            ("is pumped", "src/reactor/session.rs pump"),
            ("recv: ", "src/reactor/half.rs fill"),
            (
                "request: GET /page.html",
                "src/services/web/mod.rs answer_next",
            ),
            ("file: page.html", "src/services/web/files/mod.rs respond"),
            (
                "answers 200, 8 bytes",
                "src/services/web/respond.rs respond",
            ),
            ("Idle: ", "src/services/web/mod.rs advance"),
            ("bytes in", "src/reactor/half.rs flush"),
            ("ends: done", "src/reactor/mod.rs remove"),
            ("turn ends", "src/reactor/mod.rs turn"),
        ],
    );
    server.stop();
}

#[test]
fn an_echo_over_tcp_is_explained() {
    let server = server();
    let port = server.address("tcp-echo").port().to_string();
    let printed = explain(&server, &["tcp", "127.0.0.1", &port, "hello"]);
    assert!(printed.starts_with("HELLO\n"), "{printed}");
    expect(
        &printed,
        &[
            ("begins: tcp-echo #", "src/reactor/listeners.rs accept"),
            ("recv: 6 bytes in", "src/reactor/half.rs fill"),
            (
                "stays Echoing: 6 bytes consumed, 6 queued",
                "src/services/tcp_echo.rs advance",
            ),
            ("send: 6 bytes in", "src/reactor/half.rs flush"),
            ("parks: waits for protocol", "src/reactor/session.rs park"),
            ("turn ends", "src/reactor/mod.rs turn"),
            ("is woken: event", "src/reactor/mod.rs note"),
            ("recv: end of stream", "src/reactor/half.rs fill"),
            ("ends: done", "src/reactor/mod.rs remove"),
        ],
    );
    server.stop();
}

#[test]
fn datagrams_are_explained_answered_or_not() {
    let server = server();
    let port = server.address("udp-echo").port().to_string();
    let printed = explain(&server, &["udp", "127.0.0.1", &port, "hello"]);
    assert!(printed.starts_with("HELLO\n"), "{printed}");
    expect(
        &printed,
        &[
            ("turn begins", "src/reactor/mod.rs turn"),
            ("datagrams", "src/reactor/mod.rs serve_datagrams"),
            (
                "recvmmsg: 1 datagrams, 5 bytes for udp-echo",
                "src/reactor/datagram.rs receive",
            ),
            (
                "5 bytes from 127.0.0.1:",
                "src/services/udp_echo.rs receive",
            ),
            (
                "sendmmsg: 1 datagrams, 5 bytes of udp-echo",
                "src/reactor/datagram.rs send",
            ),
            ("turn ends", "src/reactor/mod.rs turn"),
        ],
    );
    let port = server.address("udp-ping").port().to_string();
    let arguments = [
        "explain",
        "udp",
        "--timeout",
        "300ms",
        "127.0.0.1",
        &port,
        "x",
    ];
    let lost = client(&server, &arguments);
    assert_eq!(lost.status.code(), Some(1), "{lost:?}");
    let printed = String::from_utf8(lost.stdout).expect("text");
    expect(
        &printed,
        &[
            (
                "1 bytes from 127.0.0.1:",
                "src/services/udp_ping.rs receive",
            ),
            ("not served: loss", "src/reactor/datagram.rs answer"),
        ],
    );
    server.stop();
}

#[test]
fn an_upload_is_explained() {
    let server = server();
    let folder = common::temp_dir();
    let file = folder.path().join("notes.txt");
    fs::write(&file, "Remember the milk.\n").expect("a file");
    let (port, file) = (
        server.address("upload").port().to_string(),
        file.to_str().expect("UTF-8"),
    );
    let arguments = ["upload", "--handshake", "sha1", "127.0.0.1", &port, file];
    let printed = explain(&server, &arguments);
    assert!(printed.contains("19 B stored as notes.txt\n"), "{printed}");
    expect(
        &printed,
        &[
            ("begins: upload #", "src/reactor/listeners.rs accept"),
            ("send: 32 bytes", "src/reactor/half.rs flush"),
            ("recv: ", "src/reactor/half.rs fill"),
            ("file: ", "src/services/upload/receiving.rs header"),
            ("becomes ", "src/services/upload/mod.rs advance"),
            ("the disk is asked to ", "src/reactor/disk.rs start"),
            ("the disk has done ", "src/reactor/disk.rs finish"),
            ("is woken: disk answered", "src/reactor/mod.rs finish_jobs"),
            ("ends: done", "src/reactor/mod.rs remove"),
        ],
    );
    server.stop();
}

/// A step without what differs from run to run: its numbers, and how long a call took.
fn kind((words, place): (&str, &str)) -> String {
    let words = words.split(" in ").next().unwrap_or_default();
    let plain: String = words
        .chars()
        .map(|c| if c.is_ascii_digit() { '#' } else { c })
        .collect();
    let words: Vec<&str> = plain.split('#').filter(|part| !part.is_empty()).collect();
    format!("{} @ {place}", words.join("#"))
}

/// What the README shows is what is printed, but for steps that a run may have besides: a request
/// may come a turn later than its connection.
#[test]
fn the_example_of_the_readme_is_true() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(readme).expect("the README");
    let command = "$ netlab-reactor explain http://127.0.0.1:6789/HelloWorld.html\n";
    let (_, rest) = readme.split_once(command).expect("the example");
    let (shown, _) = rest.split_once("\n```").expect("its end");
    let site = CONFIG.replacen("root = \"site\"\n", "", 1);
    let server = Program::start(&site);
    let url = format!("http://{}/HelloWorld.html", server.address("http"));
    let printed = explain(&server, &[&url]);
    assert_eq!(shown.lines().next(), printed.lines().next());
    let actual = steps(&printed);
    let mut actual = actual.into_iter().map(kind);
    let shown = steps(shown);
    assert!(
        shown.len() > 12,
        "the README has only {} steps",
        shown.len()
    );
    for step in shown {
        let wanted = kind(step);
        assert!(
            actual.any(|kind| kind == wanted),
            "the README has {wanted:?}, which does not follow in\n{printed}"
        );
    }
    server.stop();
}

#[test]
fn who_asks_the_wrong_server_is_told() {
    let (server, other) = (server(), server());
    let url = format!("http://{}/page.html", other.address("http"));
    let ended = client(&server, &["explain", "--timeout", "1s", &url]);
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let told = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(told.contains("belong to that server?"), "{told}");
    server.stop();
    other.stop();
}

#[test]
fn an_admin_listener_with_a_token_is_for_those_who_have_it() {
    let locked = CONFIG.replacen(
        "kind = \"admin\"\n",
        "kind = \"admin\"\ntoken_file = \"token\"\n",
        1,
    );
    let locked = locked.replacen(
        "root = \"site\"\n",
        "root = \"site\"\nroute = [{ prefix = \"/admin/\", admin = true, token = \"route-token\" }]\n",
        1,
    );
    let files: [(&str, &[u8]); 2] = [("token", b"s3cret-token\n"), ("site/page.html", b"")];
    let mut server = Program::start_beside(&locked, &files);
    let path = server.path("token");
    let path = path.to_str().expect("UTF-8");
    let mut stream = server.connect("admin");
    stream
        .write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")
        .expect("a connection");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    assert!(
        answer.contains("\r\nWWW-Authenticate: Bearer realm=\"admin\"\r\n"),
        "{answer}"
    );
    let trace = ["trace", "--text", "--seconds", "1"];
    let without = client(&server, &trace);
    assert_eq!(without.status.code(), Some(77), "{without:?}");
    let told = String::from_utf8_lossy(&without.stderr).into_owned();
    assert!(
        told.contains("401: ") && told.contains("a token is needed here"),
        "{told}"
    );
    let with = client(&server, &[&trace[..], &["--token-file", path]].concat());
    assert!(with.status.success(), "{with:?}");
    let port = server.address("tcp-echo").port().to_string();
    let echo = [
        "explain",
        "--token-file",
        path,
        "tcp",
        "127.0.0.1",
        &port,
        "x",
    ];
    let explained = client(&server, &echo);
    assert!(explained.status.success(), "{explained:?}");
    let wrong = Command::new(env!("CARGO_BIN_EXE_netlab-reactor"))
        .args(trace)
        .env(
            "NETLAB_ADMIN",
            format!("http://{}", server.address("admin")),
        )
        .env("NETLAB_ADMIN_TOKEN", "s3cret-guess")
        .output()
        .expect("a client");
    assert_eq!(wrong.status.code(), Some(77), "{wrong:?}");
    for (token, status) in [("route-token", 200), ("s3cret-token", 401)] {
        let mut stream = server.connect("http");
        let request = format!(
            "GET /admin/livez HTTP/1.0\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).expect("a connection");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let expected = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&expected), "{token}: {answer}");
    }
    let log = server.wait_log("wrong token from 127.0.0.1");
    assert!(!log.contains("s3cret"), "it is logged: {log}");
    server.stop();
}

/// One request; head and body of the answer.
fn ask(server: &Program, request: &str) -> (String, String) {
    let mut stream = server.connect("http");
    let request = format!("{request} HTTP/1.0\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("a connection");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.to_owned(), body.to_owned())
}

#[test]
fn admin_pages_and_probe_routes_are_the_same_below_the_prefix_of_a_route() {
    let server = Program::start(
        "[[listener]]\nkind = \"http\"\nbind = \"127.0.0.1:0\"\n\
         [[listener.route]]\nprefix = \"/in/side/\"\nadmin = true\n\
         [[listener.route]]\nprefix = \"/load/\"\nroutes = \"probe\"\n",
    );
    let (head, page) = ask(&server, "GET /in/side/");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(page.contains("<title>netlab-reactor</title>"), "{page}");
    let mut links = 0;
    for attribute in ["href=\"", "src=\""] {
        for link in page.split(attribute).skip(1) {
            let link = link.split('"').next().expect("an end");
            assert!(!link.starts_with('/'), "{link} leads past the prefix");
            let short = link.replace("seconds=5", "seconds=1");
            let (head, _) = ask(&server, &format!("GET /in/side/{short}"));
            assert!(head.starts_with("HTTP/1.1 200 "), "{link}: {head}");
            links += 1;
        }
    }
    assert_eq!(links, 12, "{page}");
    for script in ["dashboard.js", "inspect.js"] {
        let (_, text) = ask(&server, &format!("GET /in/side/{script}"));
        for call in ["fetch('/", "EventSource('/", "EventSource(`/"] {
            assert!(!text.contains(call), "{script}: {call}");
        }
    }
    for (request, status) in [
        ("GET /in/side", "301"),
        ("PUT /in/side/log?filter=info", "200"),
        ("PUT /in/side/metrics", "405"),
        ("GET /in/side/turns.json?last=x", "400"),
        ("GET /in/side/sessions/1000.json", "404"),
        ("GET /in/side/side/livez", "404"),
        ("GET /%69n/side/livez", "200"),
        ("GET /metrics", "404"),
        ("GET /load/echo", "200"),
        ("POST /load", "200"),
        ("GET /load/nothing", "404"),
    ] {
        let (head, _) = ask(&server, request);
        assert_eq!(&head[9..12], status, "{request}: {head}");
        let leads_on = head.contains("\r\nLocation: /in/side/\r\n");
        assert_eq!(leads_on, status == "301", "{request}: {head}");
    }
    assert_eq!(ask(&server, "GET /load/").1, "OK");
    server.stop();
}

#[test]
fn the_clients_ask_admin_pages_over_tls_and_below_a_path() {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let (key, cert) = (own.signing_key.serialize_pem(), own.cert.pem());
    let config = "[[listener]]\nkind = \"tcp-echo\"\nbind = \"127.0.0.1:0\"\n\
                  [[listener]]\nkind = \"http\"\nbind = \"127.0.0.1:0\"\n\
                  tls = { cert = \"cert.pem\", key = \"key.pem\" }\n\
                  [[listener.route]]\nprefix = \"/admin/\"\nadmin = true\n";
    let files: [(&str, &[u8]); 2] = [("cert.pem", cert.as_bytes()), ("key.pem", key.as_bytes())];
    let server = Program::start_beside(config, &files);
    let at = format!("https://localhost:{}", server.address("http").port());
    let trusted = server.path("cert.pem");
    let trusted = trusted.to_str().expect("UTF-8");
    let port = server.address("tcp-echo").port().to_string();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_netlab-reactor"));
        command.args(arguments).output().expect("a client")
    };
    let trace = [
        "trace",
        "--text",
        "--seconds",
        "1",
        "--ca-file",
        trusted,
        "--admin",
    ];
    for path in ["/admin/", "/admin"] {
        let traced = run(&[&trace[..], &[&format!("{at}{path}")]].concat());
        assert!(traced.status.success(), "{traced:?}");
        let told = String::from_utf8_lossy(&traced.stdout).into_owned();
        assert!(told.contains("turn begins with"), "{told}");
    }
    let admin = format!("{at}/admin/");
    let explained = run(&[
        "explain",
        "--ca-file",
        trusted,
        "--admin",
        &admin,
        "tcp",
        "127.0.0.1",
        &port,
        "tulip",
    ]);
    assert!(explained.status.success(), "{explained:?}");
    let told = String::from_utf8_lossy(&explained.stdout).into_owned();
    assert!(told.contains("begins: tcp-echo"), "{told}");
    for (wrong, code, expected) in [
        (format!("{at}/elsewhere/"), 77, "404"),
        (
            format!("{at}/admin/?a=b"),
            2,
            "expected a URL without a query",
        ),
        (
            "ftp://localhost/".to_owned(),
            2,
            "--admin ftp://localhost/: ",
        ),
    ] {
        let refused = run(&[&trace[..], &[&wrong]].concat());
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(code), "{wrong}: {told}");
        assert!(told.contains(expected), "{wrong}: {told}");
    }
    let untrusted = run(&["trace", "--text", "--seconds", "1", "--admin", &admin]);
    assert_eq!(untrusted.status.code(), Some(69), "{untrusted:?}");
    server.stop();
}
