//! The web server and the tools that others use: curl, ApacheBench, Python's http.client, httplint.
//!
//! `pip install httplint` puts a linter of responses on the path; it reads one from its standard input.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::process::{Command, Stdio};

use common::{Program, connect, python};

const CONFIG: &str = "[[listener]]\nkind = \"http\"\nbind = \"127.0.0.1:0\"\nroot = \".\"\nlisting = true\n\
                      [[listener]]\nkind = \"http\"\nname = \"probe\"\nbind = \"127.0.0.1:0\"\nroutes = \"probe\"\n";

/// A server with a text, a page and a large file; the second listener has the probe routes.
fn server() -> Program {
    let server = Program::start(CONFIG);
    fs::write(server.path("text.txt"), "one line\n".repeat(1000)).expect("a file");
    fs::write(server.path("page.html"), "<p>hello</p>\n").expect("a file");
    let large: Vec<u8> = (0..3_000_000u32).map(|i| (i / 7) as u8).collect();
    fs::write(server.path("large.bin"), large).expect("a file");
    server
}

/// What a command prints; it must succeed.
fn output(command: &mut Command) -> String {
    let output = command.output().expect("the tool is there");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{text}{errors}",
        output.status
    );
    text
}

fn curl(server: &Program) -> Command {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--max-time", "20"]);
    curl.current_dir(server.path(""));
    curl
}

#[test]
#[ignore = "needs curl"]
fn curl_resumes_asks_again_and_keeps_its_connection() {
    let server = server();
    let urls: Vec<_> = server
        .addresses("http")
        .iter()
        .map(|a| format!("http://{a}"))
        .collect();
    let (site, probe) = (&urls[0], &urls[1]);
    let large = fs::read(server.path("large.bin")).expect("a file");

    fs::write(server.path("part"), &large[..1_234_567]).expect("a file");
    output(curl(&server).args(["-C", "-", "-o", "part", &format!("{site}/large.bin")]));
    assert!(
        fs::read(server.path("part")).expect("a file") == large,
        "resumed"
    );

    let code = ["-o", "/dev/null", "-w", "%{http_code} %{num_connects} "];
    let again =
        output(
            curl(&server)
                .args(code)
                .args(["-z", "text.txt", &format!("{site}/text.txt")]),
        );
    assert_eq!(again, "304 1 ");
    let ranges = output(curl(&server).args(["-r", "0-3,5000-5003", &format!("{site}/text.txt")]));
    assert_eq!(
        ranges.matches("Content-Range: bytes").count(),
        2,
        "{ranges}"
    );

    let (page, nothing) = (format!("{site}/page.html"), format!("{site}/nothing"));
    let three = [
        "-o",
        "/dev/null",
        &page,
        "-o",
        "/dev/null",
        &nothing,
        "-o",
        "/dev/null",
        &page,
    ];
    let kept = output(
        curl(&server)
            .args(["-w", "%{http_code} %{num_connects} "])
            .args(three),
    );
    assert_eq!(kept, "200 1 404 0 200 0 ");
    let old = output(
        curl(&server)
            .args(["--http1.0", "-H", "Connection: keep-alive"])
            .args(code)
            .arg(&page),
    );
    assert_eq!(old, "200 1 ");
    let head = output(curl(&server).args(["-I", &page]));
    assert!(head.contains("Content-Length: 13\r\n"), "{head}");
    let options =
        output(curl(&server).args(["-i", "-X", "OPTIONS", "--request-target", "*", site]));
    assert!(options.contains("Allow: GET, HEAD, OPTIONS"), "{options}");

    // A body of this size makes curl expect 100 Continue first; the second goes in chunks.
    fs::write(server.path("body"), &large[..1_048_576]).expect("a file");
    for header in ["Expect: 100-continue", "Transfer-Encoding: chunked"] {
        fs::remove_file(server.path("echo")).ok();
        let body = if header.starts_with('T') {
            "@page.html"
        } else {
            "@body"
        };
        output(curl(&server).args(["-H", header, "--data-binary", body, "-o", "echo", probe]));
        let sent = fs::read(server.path(&body[1..])).expect("a file");
        assert!(
            fs::read(server.path("echo")).expect("a file") == sent,
            "{header}"
        );
    }
    let refused = output(
        curl(&server)
            .args(code)
            .args(["--data-binary", "@large.bin", probe]),
    );
    assert!(refused.starts_with("413"), "{refused}");
    server.stop();
}

#[test]
#[ignore = "needs ab (apache2-utils)"]
fn apache_bench_keeps_http_1_0_connections() {
    let server = server();
    let url = format!("http://{}/page.html", server.address("http"));
    let report = output(Command::new("ab").args(["-q", "-k", "-n", "2000", "-c", "8", &url]));
    let figure = |name: &str| {
        let line = report
            .lines()
            .find(|line| line.starts_with(name))
            .expect("a figure");
        line.split_whitespace().last().expect("a figure").to_owned()
    };
    assert_eq!(figure("Failed requests:"), "0", "{report}");
    assert_eq!(figure("Keep-Alive requests:"), "2000", "{report}");
    assert_eq!(figure("Complete requests:"), "2000", "{report}");
    server.stop();
}

#[test]
#[ignore = "needs python3"]
fn http_client_of_python_works_on_one_connection() {
    let server = server();
    let addresses = server.addresses("http");
    assert_eq!(
        python(
            "http_client.py",
            addresses[0],
            &[&addresses[1].port().to_string()]
        ),
        "ok\n"
    );
    server.stop();
}

#[test]
#[ignore = "needs httplint (pip install httplint)"]
fn httplint_finds_nothing_bad() {
    // What it says of any server that does not send Cache-Control, nginx among them.
    const OF_ALL: &str =
        "This response allows caches to assign their own freshness lifetimes to it.";
    let server = server();
    let requests = [
        "GET /page.html HTTP/1.1",
        "GET /large.bin HTTP/1.1\r\nRange: bytes=5-99",
        "GET /nothing HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "DELETE /page.html HTTP/1.1",
        "GET /page.html HTTP/1.1\r\nRange: bytes=99-",
        "BREW / HTTP/1.1",
        "GET /page.html HTTP/1.1\r\nIf-None-Match: *",
        "GET /page.html HTTP/1.1\r\nIf-Match: \"x\"",
    ];
    let mut bad = Vec::new();
    for request in requests {
        let mut stream = connect(server.address("http"));
        write!(stream, "{request}\r\nHost: h\r\nConnection: close\r\n\r\n").expect("room");
        stream.shutdown(Shutdown::Write).expect("the end");
        let mut response = Vec::new();
        stream.read_to_end(&mut response).expect("a response");
        let mut lint = Command::new("httplint");
        let mut lint = lint
            .arg("-n")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("httplint");
        lint.stdin
            .take()
            .expect("a pipe")
            .write_all(&response)
            .expect("room");
        let notes = lint.wait_with_output().expect("notes").stdout;
        let notes = String::from_utf8_lossy(&notes).into_owned();
        assert!(notes.contains("* ["), "no notes: {notes}");
        let wrong = |line: &&str| {
            (line.contains("[BAD]") || line.contains("[WARN]")) && !line.contains(OF_ALL)
        };
        bad.extend(
            notes
                .lines()
                .filter(wrong)
                .map(|line| format!("{request:?}: {line}")),
        );
    }
    assert!(bad.is_empty(), "{bad:#?}");
    server.stop();
}
