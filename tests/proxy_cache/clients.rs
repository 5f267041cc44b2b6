//! Programs that others use, through the proxy to a site beside it, and squid on both sides of it.
//! Each leaves its trace in the proxy's log, so that none can have gone past it.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::common::{Peer, Program, await_listener, free_port, python, temp_dir};
use crate::http::origin;
use crate::{STORES, proxy_keys};

/// A proxy that logs, and a site whose files are in the folder `site`, with an echo below it.
struct Lab {
    program: Program,
    proxy: String,
    /// The site's address.
    site: String,
}

impl Lab {
    fn start(files: &[(&str, &[u8])]) -> Self {
        Self::start_with("", files)
    }

    fn start_with(more: &str, files: &[(&str, &[u8])]) -> Self {
        Self::start_as("", more, files)
    }

    /// The same with further keys of the proxy.
    fn start_as(keys: &str, more: &str, files: &[(&str, &[u8])]) -> Self {
        let config = format!(
            "{}{keys}access_log = \"access.log\"\n\
             [[listener]]\nkind = \"http\"\nbind = \"127.0.0.1:0\"\nroot = \"site\"\n\
             [[listener]]\nkind = \"http\"\nname = \"echo\"\nbind = \"127.0.0.1:0\"\nroutes = \"probe\"\n{more}",
            proxy_keys("cache")
        );
        let page: (&str, &[u8]) = ("site/page.html", b"<p>hello</p>\n");
        let files: Vec<_> = files.iter().copied().chain([page]).collect();
        let program = Program::start_beside(&config, &files);
        Self {
            proxy: format!("http://{}", program.address("proxy")),
            site: format!("http://{}", program.address("http")),
            program,
        }
    }

    /// A program that takes its proxy from nowhere but its arguments, in the lab's folder.
    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        for variable in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
            command.env_remove(variable);
            command.env_remove(variable.to_uppercase());
        }
        command
            .stdin(Stdio::null())
            .current_dir(self.program.path(""));
        command
    }

    fn curl(&self, arguments: &[&str]) -> String {
        let mut curl = self.command("curl");
        output(
            curl.args(["-sS", "--max-time", "20", "-x", &self.proxy])
                .args(arguments),
        )
    }

    /// Ends it; the log has to have these texts in it.
    fn stop(mut self, logged: &[&str]) {
        self.program.terminate();
        assert!(self.program.wait().success());
        let log = fs::read_to_string(self.program.path("access.log")).expect("a log");
        for text in logged {
            assert!(log.contains(text), "{text} is not in\n{log}");
        }
    }
}

/// What a command prints; it must succeed.
fn output(command: &mut Command) -> String {
    let output = command.output().expect("the tool is there");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    let status = output.status;
    assert!(status.success(), "{command:?}: {status}\n{text}{errors}");
    text
}

/// An origin whose only page may be kept for an hour.
fn keepable() -> String {
    let address = origin(|_, stream| {
        let head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=3600\r\nContent-Type: text/plain";
        write!(stream, "{head}\r\nContent-Length: 4\r\n\r\nkept")?;
        Ok(true)
    });
    format!("http://{address}/kept")
}

#[test]
#[ignore = "needs curl"]
fn curl_asks_twice_and_by_a_tunnel() {
    let lab = Lab::start(&[]);
    let kept = keepable();
    let first = lab.curl(&["-i", &kept]);
    let second = lab.curl(&["-i", &kept]);
    for answer in [&first, &second] {
        assert!(
            answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nkept"),
            "{answer}"
        );
    }
    if STORES {
        let is_hit = |answer: &str| {
            let mut lines = answer.lines();
            lines.any(|line| line.starts_with("Cache-Status:") && line.contains("; hit"))
        };
        assert!(!is_hit(&first) && is_hit(&second), "{first}{second}");
    }
    let page = format!("{}/page.html", lab.site);
    assert_eq!(lab.curl(&["-p", &page]), "<p>hello</p>\n");
    lab.stop(&["/kept", "CONNECT "]);
}

#[test]
#[ignore = "needs python3 with requests and aiohttp"]
fn libraries_of_python_fetch_and_post() {
    let lab = Lab::start(&[]);
    let (page, echo) = (
        format!("{}/page.html", lab.site),
        format!("http://{}/", lab.program.addresses("http")[1]),
    );
    let address = lab.program.address("proxy");
    assert_eq!(python("proxied.py", address, &[&page, &echo]), "ok\n");
    lab.stop(&["/page.html", "\"POST "]);
}

#[test]
#[ignore = "needs git"]
fn git_clones() {
    let lab = Lab::start(&[("work/file", b"in a repository\n")]);
    let git = |arguments: &[&str]| {
        let mut git = lab.command("git");
        git.env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1");
        git.env("GIT_TERMINAL_PROMPT", "0");
        output(git.args(arguments))
    };
    git(&["init", "-q", "work"]);
    git(&["-C", "work", "add", "file"]);
    let who = ["-c", "user.name=Ann", "-c", "user.email=ann@example.org"];
    git(&[&["-C", "work"], &who[..], &["commit", "-q", "-m", "one"]].concat());
    git(&["clone", "-q", "--bare", "work", "site/work.git"]);
    git(&["-C", "site/work.git", "update-server-info"]);
    let proxy = format!("http.proxy={}", lab.proxy);
    let from = format!("{}/work.git", lab.site);
    for copy in ["first", "second"] {
        git(&["-c", &proxy, "clone", "-q", &from, copy]);
        let file = fs::read_to_string(lab.program.path(copy).join("file"));
        assert_eq!(file.expect("a file"), "in a repository\n");
        git(&["-C", copy, "fsck", "--strict"]);
    }
    lab.stop(&["/work.git/info/refs"]);
}

#[test]
#[ignore = "needs python3 with pip"]
fn pip_downloads_from_a_local_index() {
    const WHEEL: &str = "tiny_thing-1.0-py3-none-any.whl";
    let index = format!("<!DOCTYPE html><a href=\"/files/{WHEEL}\">{WHEEL}</a>\n");
    let lab = Lab::start(&[
        ("site/simple/tiny-thing/index.html", index.as_bytes()),
        ("site/files/empty", b""),
    ]);
    let make = "import sys, zipfile\n\
                z = zipfile.ZipFile(sys.argv[1], 'w')\n\
                z.writestr('tiny_thing.py', 'x = 1\\n' * 100000)\n\
                z.writestr('tiny_thing-1.0.dist-info/METADATA', 'Metadata-Version: 2.1\\nName: tiny-thing\\nVersion: 1.0\\n')\n\
                z.writestr('tiny_thing-1.0.dist-info/WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')\n\
                z.writestr('tiny_thing-1.0.dist-info/RECORD', '')\n";
    let wheel = format!("site/files/{WHEEL}");
    output(lab.command("python3").args(["-c", make, &wheel]));
    let (index, proxy) = (
        format!("{}/simple/", lab.site),
        format!("--proxy={}", lab.proxy),
    );
    for folder in ["first", "second"] {
        let mut pip = lab.command("python3");
        pip.env("PIP_CONFIG_FILE", "/dev/null")
            .env_remove("PIP_INDEX_URL");
        pip.args([
            "-m",
            "pip",
            "--isolated",
            "download",
            "--no-cache-dir",
            "--no-deps",
            "-q",
        ]);
        pip.args(["--disable-pip-version-check", &proxy, "--index-url", &index]);
        output(pip.args(["--trusted-host", "127.0.0.1", "-d", folder, "tiny-thing"]));
        let [got, made] = [Path::new(folder).join(WHEEL), wheel.clone().into()]
            .map(|path| fs::read(lab.program.path("").join(path)).expect("a wheel"));
        assert!(got == made, "{folder}");
    }
    lab.stop(&["/simple/tiny-thing/", WHEEL]);
}

#[test]
#[ignore = "needs apt-get, dpkg-deb and sha256sum"]
fn apt_downloads_from_a_local_mirror() {
    let control = "Package: tiny-thing\nVersion: 1.0\nArchitecture: all\n\
                   Maintainer: Ann <ann@example.org>\nDescription: next to nothing\n";
    let lab = Lab::start(&[
        ("package/DEBIAN/control", control.as_bytes()),
        ("site/debian/empty", b""),
        ("apt/state/lists/partial/empty", b""),
        ("apt/cache/archives/partial/empty", b""),
        ("apt/etc/preferences.d/empty", b""),
        ("apt/status", b""),
    ]);
    let deb = "site/debian/tiny-thing_1.0_all.deb";
    output(lab.command("dpkg-deb").args([
        "-Znone",
        "--root-owner-group",
        "--build",
        "package",
        deb,
    ]));
    let sum = output(lab.command("sha256sum").arg(deb));
    let sum = sum.split(' ').next().expect("a sum");
    let made = fs::read(lab.program.path(deb)).expect("a package");
    let index = format!(
        "{control}Filename: ./tiny-thing_1.0_all.deb\nSize: {}\nSHA256: {sum}\n\n",
        made.len()
    );
    fs::write(lab.program.path("site/debian/Packages"), index).expect("a file");
    let source = format!("deb [trusted=yes] {}/debian ./\n", lab.site);
    fs::write(lab.program.path("apt/sources.list"), source).expect("a file");
    let folder = lab.program.path("apt");
    let folder = folder.display();
    let settings = [
        format!("Acquire::http::Proxy={}", lab.proxy),
        format!("Dir::State={folder}/state"),
        format!("Dir::State::status={folder}/status"),
        format!("Dir::Cache={folder}/cache"),
        format!("Dir::Etc={folder}/etc"),
        format!("Dir::Etc::sourcelist={folder}/sources.list"),
        "Dir::Etc::sourceparts=-".to_owned(),
        "APT::Sandbox::User=root".to_owned(),
    ];
    let apt = |arguments: &[&str]| {
        let mut apt = lab.command("apt-get");
        apt.args(settings.iter().flat_map(|setting| ["-o", setting]));
        output(apt.args(["-q"]).args(arguments))
    };
    apt(&["update"]);
    apt(&["download", "tiny-thing"]);
    let got = fs::read(lab.program.path("tiny-thing_1.0_all.deb"));
    assert!(got.expect("a package") == made);
    lab.stop(&["/debian/./Packages", "tiny-thing_1.0_all.deb"]);
}

/// What a page of the browser looks like when all of it is loaded.
fn dump(lab: &Lab, url: &str) -> String {
    let profile = temp_dir();
    let mut chromium = lab.command("chromium");
    chromium.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
    ]);
    chromium.args([
        "--ignore-certificate-errors",
        "--proxy-bypass-list=<-loopback>",
    ]);
    chromium.arg(format!("--proxy-server={}", lab.proxy));
    chromium.arg(format!("--user-data-dir={}", profile.path().display()));
    output(chromium.args(["--dump-dom", url]))
}

/// Answers a WebSocket's opening, RFC 6455 section 4.2.2, and sends back its first message, which is
/// short. Any other request is answered a moment after that: what waits for its answer is there when
/// the message is.
fn echo_websocket() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let is_echoed = Arc::new(AtomicBool::new(false));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let is_echoed = Arc::clone(&is_echoed);
            std::thread::spawn(move || {
                let _ = serve_websocket(&stream, &is_echoed); // it is the browser that judges
            });
        }
    });
    port
}

fn serve_websocket(mut stream: &TcpStream, is_echoed: &AtomicBool) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let (mut line, mut key) = (String::new(), String::new());
    while reader.read_line(&mut line)? > 2 {
        if let Some(value) = line.strip_prefix("Sec-WebSocket-Key: ") {
            value.trim().clone_into(&mut key);
        }
        line.clear();
    }
    if key.is_empty() {
        let until = Instant::now() + Duration::from_secs(20);
        while !is_echoed.load(Ordering::Relaxed) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        std::thread::sleep(Duration::from_millis(500));
        return stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
    }
    let accept = websocket_accept(&key);
    let opening = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(opening.as_bytes())?;
    let mut start = [0; 6];
    reader.read_exact(&mut start)?;
    let mut message = vec![0; usize::from(start[1] & 0x7f)];
    reader.read_exact(&mut message)?;
    for (at, byte) in message.iter_mut().enumerate() {
        *byte ^= start[2 + at % 4];
    }
    // A text of one frame, without a mask.
    stream.write_all(&[0x81, message.len() as u8])?;
    stream.write_all(&message)?;
    is_echoed.store(true, Ordering::Relaxed);
    reader.read(&mut start).map(|_| ()) // until it closes
}

fn websocket_accept(key: &str) -> String {
    use base64::Engine;
    use sha1::Digest;
    let sum = sha1::Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
    base64::engine::general_purpose::STANDARD.encode(sum)
}

#[test]
#[ignore = "needs chromium"]
fn chromium_browses_by_http_https_and_a_websocket() {
    let port = echo_websocket();
    let page = format!(
        "<body><p id=said>nothing</p><script>\n\
         const socket = new WebSocket('ws://127.0.0.1:{port}/');\n\
         socket.onopen = () => socket.send('there and back');\n\
         socket.onmessage = event => {{ document.getElementById('said').textContent = event.data; }};\n\
         </script><img src='http://127.0.0.1:{port}/'></body>\n"
    );
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]);
    let made = made.expect("a certificate");
    let lab = Lab::start_with(
        "[[listener]]\nkind = \"http\"\nname = \"https\"\nbind = \"127.0.0.1:0\"\nroot = \"site\"\n\
         tls = { cert = \"cert.pem\", key = \"key.pem\" }\n",
        &[
            ("site/socket.html", page.as_bytes()),
            ("cert.pem", made.cert.pem().as_bytes()),
            ("key.pem", made.signing_key.serialize_pem().as_bytes()),
        ],
    );
    let secure = lab
        .program
        .listening()
        .last()
        .expect("a listener")
        .1
        .clone();
    let shown = dump(&lab, &format!("{}/page.html", lab.site));
    assert!(shown.contains("<p>hello</p>"), "{shown}");
    let shown = dump(&lab, &format!("https://{secure}/page.html"));
    assert!(shown.contains("<p>hello</p>"), "{shown}");
    let shown = dump(&lab, &format!("{}/socket.html", lab.site));
    assert!(shown.contains("there and back</p>"), "{shown}");
    lab.stop(&[
        "/page.html",
        &format!("CONNECT {secure}"),
        &format!("CONNECT 127.0.0.1:{port}"),
    ]);
}

/// squid with this configuration, beside what every one needs.
fn squid(port: u16, lines: &str) -> (Peer, tempfile::TempDir) {
    let dir = temp_dir();
    let own = dir.path().display();
    let config = format!(
        "{lines}\nhttp_access allow all\ncache_mem 16 MB\naccess_log none\ncache_log {own}/log\n\
         pid_filename {own}/pid\ncoredump_dir {own}\npinger_enable off\nicp_port 0\n\
         shutdown_lifetime 1 second\nvisible_hostname squid.test\ndns_nameservers 127.0.0.1\n"
    );
    let file = dir.path().join("squid.conf");
    fs::write(&file, config).expect("a file");
    // It becomes somebody else, who writes there.
    let everybody = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o777);
    fs::set_permissions(dir.path(), everybody).expect("our own folder");
    let mut squid = Command::new("squid");
    squid
        .args(["-N", "-n", &format!("netlab{port}"), "-f"])
        .arg(&file);
    squid.stdout(Stdio::null()).stderr(Stdio::null());
    let peer = Peer(squid.spawn().expect("squid"));
    await_listener(port);
    (peer, dir)
}

#[test]
#[ignore = "needs squid and curl"]
fn squid_has_it_as_a_parent() {
    let lab = Lab::start(&[]);
    let (port, parent) = (free_port(), lab.program.address("proxy").port());
    let _squid = squid(
        port,
        &format!(
            "http_port 127.0.0.1:{port}\nnever_direct allow all\n\
             cache_peer 127.0.0.1 parent {parent} 0 no-query no-digest default"
        ),
    );
    let through = format!("http://127.0.0.1:{port}");
    let page = format!("{}/page.html", lab.site);
    for tunnel in [&[][..], &["-p"]] {
        let mut curl = lab.command("curl");
        curl.args(["-sS", "--max-time", "20", "-x", &through])
            .args(tunnel);
        // squid lets CONNECT through to any port here.
        assert_eq!(output(curl.arg(&page)), "<p>hello</p>\n");
    }
    lab.stop(&["/page.html", "CONNECT "]);
}

/// A squid that lets through who says `ann:tulip`, with its port; which is spoken to by TLS under this
/// certificate, or without.
fn squid_with_a_password(
    own: Option<&rcgen::CertifiedKey<rcgen::KeyPair>>,
) -> (u16, Peer, [tempfile::TempDir; 2]) {
    let (port, users) = (free_port(), temp_dir());
    let everybody = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
    fs::set_permissions(users.path(), everybody).expect("our own folder");
    let hash = output(Command::new("openssl").args(["passwd", "-apr1", "tulip"]));
    let file = users.path().join("users");
    fs::write(&file, format!("ann:{hash}")).expect("a file");
    let listens = match own {
        None => format!("http_port 127.0.0.1:{port}"),
        Some(own) => {
            let [cert, key] = ["cert.pem", "key.pem"].map(|name| users.path().join(name));
            fs::write(&cert, own.cert.pem()).expect("a file");
            fs::write(&key, own.signing_key.serialize_pem()).expect("a file");
            let (cert, key) = (cert.display(), key.display());
            format!("https_port 127.0.0.1:{port} tls-cert={cert} tls-key={key}")
        }
    };
    let (peer, dir) = squid(
        port,
        &format!(
            "{listens}\n\
             auth_param basic program /usr/lib/squid/basic_ncsa_auth {}\n\
             acl known proxy_auth REQUIRED\nhttp_access deny !known\ncache deny all\nvia on",
            file.display()
        ),
    );
    (port, peer, [users, dir])
}

#[test]
#[ignore = "needs squid, openssl and curl"]
fn squid_is_the_parent() {
    squid_is_the_parent_by("http");
}

#[test]
#[ignore = "needs squid with TLS, openssl and curl"]
fn squid_is_the_parent_and_tls_is_spoken_with_it() {
    squid_is_the_parent_by("https");
}

fn squid_is_the_parent_by(scheme: &str) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]);
    let made = made.expect("a certificate");
    let (port, _squid, _dirs) = squid_with_a_password((scheme == "https").then_some(&made));
    let start = |password: &str| {
        Lab::start_as(
            &format!(
                "parent = \"{scheme}://ann:{password}@127.0.0.1:{port}\"\nno_proxy = [\"localhost\"]\n\
                 ca_file = \"cert.pem\"\n"
            ),
            "[[listener]]\nkind = \"http\"\nname = \"https\"\nbind = \"127.0.0.1:0\"\nroot = \"site\"\n\
             tls = { cert = \"cert.pem\", key = \"key.pem\" }\n",
            &[
                ("cert.pem", made.cert.pem().as_bytes()),
                ("key.pem", made.signing_key.serialize_pem().as_bytes()),
            ],
        )
    };
    let (right, wrong) = (start("tulip"), start("rose"));
    let page = |lab: &Lab| format!("{}/page.html", lab.site);
    let secure = |lab: &Lab| {
        let address = &lab.program.listening().last().expect("a listener").1;
        format!("https://{address}/page.html")
    };
    // In the absolute form; the same twice, so that the connection to squid is used again.
    for _ in 0..2 {
        let answer = right.curl(&["-i", "-H", "Cache-Control: no-store", &page(&right)]);
        assert!(answer.ends_with("<p>hello</p>\n"), "{answer}");
        assert!(answer.contains("squid.test"), "squid's Via: {answer}");
    }
    let directly = page(&right).replace("127.0.0.1", "localhost");
    let answer = right.curl(&["-i", &directly]);
    assert!(answer.ends_with("<p>hello</p>\n"), "{answer}");
    assert!(!answer.contains("squid.test"), "no Via of squid: {answer}");
    // By CONNECT: the client's, and the proxy's own.
    let file = right.program.path("cert.pem").display().to_string();
    let answer = right.curl(&["--cacert", &file, &secure(&right)]);
    assert_eq!(answer, "<p>hello</p>\n");
    let in_bar = |lab: &Lab| format!("{}/{}", lab.proxy, secure(lab));
    for _ in 0..2 {
        let mut curl = right.command("curl");
        let answer = output(curl.args(["-sS", "--max-time", "20", &in_bar(&right)]));
        assert_eq!(answer, "<p>hello</p>\n");
    }
    // With a wrong password.
    let answer = wrong.curl(&["-i", &page(&wrong)]);
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert!(
        answer.contains("the parent wants other credentials"),
        "{answer}"
    );
    let mut curl = wrong.command("curl");
    let answer = output(curl.args(["-sS", "-i", "--max-time", "20", &in_bar(&wrong)]));
    let told = format!("parent 127.0.0.1:{port}: CONNECT ");
    assert!(
        answer.starts_with("HTTP/1.1 502 ") && answer.contains(&told),
        "{answer}"
    );
    assert!(answer.contains("it refused with 407 "), "{answer}");
    let via = format!(" via \"127.0.0.1:{port}\"");
    right.stop(&[&via, "CONNECT "]);
    wrong.stop(&[" 502 ", &via]);
}

#[test]
#[ignore = "needs squid and curl"]
fn squid_is_the_upstream_of_a_gateway() {
    let kept = keepable();
    let origin = kept.split(['/', ':']).nth(4).expect("a port").to_owned();
    let port = free_port();
    let _squid = squid(
        port,
        &format!(
            "http_port 127.0.0.1:{port} accel defaultsite=127.0.0.1 no-vhost\nnever_direct allow all\n\
             cache_peer 127.0.0.1 parent {origin} 0 no-query no-digest originserver"
        ),
    );
    let program = Program::start(&format!(
        "{}upstream = \"http://127.0.0.1:{port}\"\n",
        proxy_keys("cache")
    ));
    let url = format!("http://{}/kept", program.address("proxy"));
    for _ in 0..2 {
        let mut curl = Command::new("curl");
        let answer = output(curl.args(["-sS", "-i", "--max-time", "20", "--noproxy", "*", &url]));
        assert!(answer.ends_with("\r\n\r\nkept"), "{answer}");
        assert!(answer.contains("squid.test"), "squid's Via: {answer}");
    }
    program.stop();
}
