//! haproxy in front, which tells of its clients by the PROXY protocol.

use std::fs;
use std::process::{Command, Stdio};

use crate::common::{Peer, Program, await_listener, free_port, temp_dir};
use crate::proxy_keys;

/// Whom haproxy connects as, and the client that it tells of.
const BALANCER: &str = "127.0.0.3";
const CLIENT: &str = "127.0.0.2";

/// haproxy with a frontend for each backend; the ports of these, in their order. It looks after its
/// backends all the time, by connections of its own.
fn haproxy(backends: &[u16]) -> (Vec<u16>, Peer, tempfile::TempDir) {
    let dir = temp_dir();
    let mut config =
        "defaults\n mode tcp\n timeout connect 10s\n timeout client 20s\n timeout server 20s\n\
                      \x20timeout check 5s\n"
            .to_owned();
    let mut ports = Vec::new();
    for backend in backends {
        let port = free_port();
        config.push_str(&format!(
            "listen l{port}\n bind 127.0.0.1:{port}\n \
             server s 127.0.0.1:{backend} source {BALANCER} send-proxy-v2 check inter 50ms\n"
        ));
        ports.push(port);
    }
    let file = dir.path().join("haproxy.cfg");
    fs::write(&file, config).expect("a file");
    let mut haproxy = Command::new("haproxy");
    haproxy.args(["-db", "-q", "-f"]).arg(&file);
    haproxy.stdout(Stdio::null()).stderr(Stdio::null());
    let peer = Peer(haproxy.spawn().expect("haproxy"));
    ports.iter().for_each(|&port| await_listener(port));
    (ports, peer, dir)
}

/// What curl shows, asked by the client's address.
fn curl(arguments: &[&str]) -> String {
    let mut curl = Command::new("curl");
    for variable in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
        curl.env_remove(variable)
            .env_remove(variable.to_uppercase());
    }
    curl.args(["-sS", "--max-time", "20", "--interface", CLIENT]);
    let output = curl.args(arguments).output().expect("curl");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
#[ignore = "needs haproxy and curl"]
fn haproxy_tells_of_its_clients_ahead_of_http_and_of_tls() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]);
    let made = made.expect("a certificate");
    let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let believes = format!(
        "access_log = \"access.log\"\naccept_proxy = true\ntrusted_proxies = [\"{BALANCER}\"]\n"
    );
    let web = "kind = \"http\"\nbind = \"127.0.0.1:0\"\nroot = \"site\"\n";
    let config = format!(
        "{}{believes}[[listener]]\n{web}{believes}\
         [[listener]]\nname = \"https\"\n{web}{believes}tls = {{ cert = \"cert.pem\", key = \"key.pem\" }}\n",
        proxy_keys("cache")
    );
    let files: &[(&str, &[u8])] = &[
        ("site/page.html", b"<p>hello</p>\n"),
        ("cert.pem", cert.as_bytes()),
        ("key.pem", key.as_bytes()),
    ];
    let mut program = Program::start_beside(&config, files);
    let ports: Vec<u16> = ["proxy", "http", "https"]
        .iter()
        .zip(program.listening())
        .map(|(_, (_, address))| {
            let port = address.rsplit(':').next().expect("a port");
            port.parse().expect("a port")
        })
        .collect();
    let (fronts, _haproxy, _dir) = haproxy(&ports);
    let [proxy, http, https] = fronts[..] else {
        panic!("{fronts:?}");
    };
    let page = format!("http://127.0.0.1:{http}/page.html");
    assert_eq!(curl(&[&page]), "<p>hello</p>\n");
    let page = format!("https://localhost:{https}/page.html");
    assert_eq!(curl(&["-k", "-4", &page]), "<p>hello</p>\n");
    // The origin is the web server, which is told of nobody: this machine is not trusted there.
    let page = format!("http://127.0.0.1:{}/page.html", ports[1]);
    let through = format!("http://127.0.0.1:{proxy}");
    assert_eq!(curl(&["-x", &through, &page]), "<p>hello</p>\n");
    program.terminate();
    assert!(program.wait().success());
    let log = fs::read_to_string(program.path("access.log")).expect("a log");
    let (theirs, others): (Vec<_>, Vec<_>) = log
        .lines()
        .partition(|line| line.starts_with(&format!("{CLIENT} ")));
    assert_eq!(theirs.len(), 3, "{log}");
    // The proxy's own request to the web server; what haproxy's checks do is no request.
    assert_eq!(others.len(), 1, "{log}");
    assert!(others[0].starts_with("127.0.0.1 "), "{log}");
}
