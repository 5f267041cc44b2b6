//! The same with other implementations of TLS: OpenSSL's, and curl with whatever it was built with.
//! Ignored by default, since they need those programs; continuous integration installs and runs
//! them.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::certificate_for;
use super::common::{Program, command};

struct Site {
    server: Program,
    port: u16,
}

impl Site {
    /// An http listener with two certificates, one of them with a wildcard, beside their files.
    fn new() -> Site {
        let files = tempfile::tempdir().expect("a folder");
        let (folder, path) = (files.path().display(), files.path());
        for (file, names) in [
            ("a", ["a.example", "www.a.example"]),
            ("b", ["b.example", "*.b.example"]),
        ] {
            let [cert, key] = ["pem", "key"].map(|end| path.join(format!("{file}.{end}")));
            certificate_for(&names, &cert, &key);
        }
        let server = Program::start(&format!(
            "[[listener]]\nkind = 'http'\nbind = '127.0.0.1:0'\n\
             [[listener.tls]]\ncert = '{folder}/a.pem'\nkey = '{folder}/a.key'\n\
             [[listener.tls]]\ncert = '{folder}/b.pem'\nkey = '{folder}/b.key'\n"
        ));
        for file in ["a.pem", "b.pem"] {
            fs::copy(path.join(file), server.path(file)).expect("a file");
        }
        let port = server.address("http").port();
        Site { server, port }
    }

    /// Runs openssl or curl beside the certificates.
    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.server.path(""));
        command
            .stdin(Stdio::null())
            .output()
            .expect("the tool is there")
    }

    /// What openssl says of a connection.
    fn openssl(&self, arguments: &[&str]) -> String {
        let to = format!("127.0.0.1:{}", self.port);
        let all = [&["s_client", "-connect", &to], arguments].concat();
        text(&self.run("openssl", &all).stdout)
    }

    /// What curl prints for a name and a page.
    fn curl(&self, authority: &str, name: &str, more: &[&str]) -> Output {
        let port = self.port;
        let resolve = format!("{name}:{port}:127.0.0.1");
        let url = format!("https://{name}:{port}/HelloWorld.html");
        let given = [
            "-sS",
            "--max-time",
            "20",
            "--cacert",
            authority,
            "--resolve",
            &resolve,
            &url,
        ];
        self.run("curl", &[&given[..], more].concat())
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
#[ignore = "needs openssl"]
fn openssl_gets_the_certificate_for_the_name_that_it_asks_for() {
    let site = Site::new();
    for version in ["-tls1_2", "-tls1_3"] {
        for (name, good) in [
            ("a.example", "a.pem"),
            ("www.a.example", "a.pem"),
            ("b.example", "b.pem"),
            ("x.b.example", "b.pem"),
            ("unknown.example", "a.pem"),
        ] {
            for file in ["a.pem", "b.pem"] {
                let asked = ["-servername", name, "-CAfile", file, version];
                let said = site.openssl(&asked);
                let is_good = said.contains("Verify return code: 0 (ok)");
                assert_eq!(is_good, file == good, "{name} {file} {version}: {said}");
            }
        }
        let said = site.openssl(&["-noservername", "-CAfile", "a.pem", version]);
        assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
    }
    for version in ["-tls1", "-tls1_1"] {
        let said = site.openssl(&[
            "-servername",
            "a.example",
            "-cipher",
            "ALL:@SECLEVEL=0",
            version,
        ]);
        assert!(said.contains("Cipher is (NONE)"), "{version}: {said}");
    }
    let said = site.openssl(&["-servername", "a.example", "-alpn", "h2,http/1.1"]);
    assert!(said.contains("ALPN protocol: http/1.1"), "{said}");
    site.server.stop();
}

#[test]
#[ignore = "needs openssl"]
fn openssl_resumes_its_sessions() {
    let site = Site::new();
    fs::write(
        site.server.path("request"),
        "GET /HelloWorld.html HTTP/1.0\r\n\r\n",
    )
    .expect("a file");
    for version in ["-tls1_2", "-tls1_3"] {
        let ask = |file: &str| {
            let to = format!("127.0.0.1:{}", site.port);
            let request = fs::File::open(site.server.path("request")).expect("a file");
            let output = Command::new("openssl")
                .args([
                    "s_client",
                    "-connect",
                    &to,
                    "-servername",
                    "a.example",
                    "-ign_eof",
                ])
                .args([version, file, "session"])
                .current_dir(site.server.path(""))
                .stdin(request)
                .output();
            text(&output.expect("the tool is there").stdout)
        };
        let said = ask("-sess_out");
        assert!(said.contains("\nNew, TLSv1."), "{version}: {said}");
        let said = ask("-sess_in");
        assert!(said.contains("\nReused, TLSv1."), "{version}: {said}");
    }
    site.server.stop();
}

#[test]
#[ignore = "needs curl"]
fn curl_gets_pages_by_name_and_is_told_of_plain_text() {
    let site = Site::new();
    for (authority, name, is_good) in [
        ("a.pem", "a.example", true),
        ("b.pem", "b.example", true),
        ("b.pem", "x.b.example", true),
        ("a.pem", "b.example", false),
        ("b.pem", "x.x.b.example", false),
    ] {
        let output = site.curl(authority, name, &[]);
        let told = text(&output.stderr);
        assert_eq!(
            output.status.success(),
            is_good,
            "{authority} {name}: {told}"
        );
        assert_eq!(text(&output.stdout).contains("Hello, world!"), is_good);
    }
    let url = format!("http://localhost:{}/HelloWorld.html", site.port);
    let output = site.run(
        "curl",
        &["-sS", "--max-time", "20", "-w", "%{http_code}", "-4", &url],
    );
    let link = format!("Use https://localhost:{}/HelloWorld.html", site.port);
    let expected = format!("The plain HTTP request was sent to HTTPS port\n{link}\n400");
    assert_eq!(text(&output.stdout), expected);
    site.server.stop();
}

#[test]
#[ignore = "needs openssl"]
fn an_rsa_key_that_makes_handshakes_slow_is_told_at_start() {
    let files = tempfile::tempdir().expect("a folder");
    for (bits, is_slow) in [("2048", false), ("3072", true), ("4096", true)] {
        make_rsa(files.path(), bits);
        let file = files.path().join("netlab.toml");
        let tls = "tls = { cert = 'rsa.pem', key = 'rsa.key' }";
        fs::write(&file, format!("[[listener]]\nkind = 'http'\n{tls}\n")).expect("a file");
        let output = command(&["check", "--config"]).arg(&file).output();
        let output = output.expect("the program runs");
        assert!(output.status.success());
        let warning = format!(
            "warning: listener \"http\": `cert` names {}/rsa.pem: its RSA key has {bits} bits",
            files.path().display()
        );
        let told = text(&output.stderr);
        assert_eq!(told.contains(&warning), is_slow, "{told}");
    }
    let folder = files.path().display();
    let mut server = Program::start(&format!(
        "[[listener]]\nkind = 'http'\nbind = '127.0.0.1:0'\n\
         tls = {{ cert = '{folder}/rsa.pem', key = '{folder}/rsa.key' }}\n"
    ));
    server.wait_log("its RSA key has 4096 bits");
    server.stop();
}

fn make_rsa(folder: &Path, bits: &str) {
    let key = format!("rsa:{bits}");
    let output = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            &key,
            "-nodes",
            "-subj",
            "/CN=localhost",
        ])
        .args([
            "-addext",
            "subjectAltName=DNS:localhost",
            "-keyout",
            "rsa.key",
            "-out",
            "rsa.pem",
        ])
        .current_dir(folder)
        .output();
    assert!(output.expect("the tool is there").status.success());
}
