//! The clients against servers that we did not write: nginx, Python's http.server, plain Python
//! scripts over `socket`, aiosmtpd and exim. Ignored by default, since they need those programs;
//! continuous integration runs them.
//!
//! `NETLAB_TEST_PYTHON` names a Python that has aiosmtpd (default `python3`), `NETLAB_TEST_EXIM` an
//! exim (default `/usr/sbin/exim4`, which must be installed as a package, for its user).

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{Nginx, Peer, await_listener, free_port};
use crate::harness::{CA_FILE, Ended, command, run, run_with};

/// Starts a Python script that prints its port as the first line.
fn python(script: &str, arguments: &[&str]) -> (Peer, String) {
    let python = std::env::var("NETLAB_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let mut child = Command::new(python)
        .args(["-u", "-c", script])
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is installed");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped"))
        .read_line(&mut line)
        .expect("a port");
    (Peer(child), line.trim().to_owned())
}

fn assert_gets_everything(port: &str, folder: &Path) {
    let big: Vec<u8> = (0..3_000_000_u32)
        .map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    std::fs::write(folder.join("HelloWorld.html"), "<h1>Hello</h1>\n").unwrap();
    std::fs::create_dir_all(folder.join("dir")).unwrap();
    std::fs::write(folder.join("dir/big.bin"), &big).unwrap();
    let ended = run(&["get", "127.0.0.1", port, "/HelloWorld.html"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(
        ended.stdout.starts_with("HTTP/1.") && ended.stdout.ends_with("\r\n\r\n<h1>Hello</h1>\n"),
        "{ended:?}"
    );
    let url = |path: &str| format!("http://127.0.0.1:{port}{path}");
    assert_eq!(
        run(&["get", &url("/HelloWorld.html")]).stdout,
        "<h1>Hello</h1>\n"
    );
    // Both redirect a folder without its slash.
    assert_eq!(
        run(&["get", "-I", "--max-redirects", "0", &url("/dir")])
            .stdout
            .split(' ')
            .nth(1),
        Some("301")
    );
    assert_eq!(run(&["get", "--fail", &url("/missing")]).code, 1);
    let out = folder.join("out");
    let ended = run(&["get", &url("/dir/big.bin"), "-o", out.to_str().unwrap()]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(std::fs::read(&out).unwrap() == big);
}

#[test]
#[ignore = "needs nginx"]
fn get_against_nginx() {
    let folder = tempfile::tempdir().unwrap();
    let nginx = Nginx::start(folder.path(), "gzip on; gzip_types *; gzip_min_length 1;");
    let port = nginx.port;
    assert_gets_everything(&port.to_string(), folder.path());
    let url = format!("http://127.0.0.1:{port}/dir/big.bin");
    // Resuming, and a chunked gzip body.
    let out = folder.path().join("out");
    let big = std::fs::read(&out).unwrap();
    std::fs::write(&out, &big[..1_000_000]).unwrap();
    assert_eq!(
        run(&["get", &url, "-C", "-o", out.to_str().unwrap()]).code,
        0
    );
    assert!(std::fs::read(&out).unwrap() == big);
    let ended = run(&[
        "get",
        &url,
        "--compressed",
        "-i",
        "-o",
        out.to_str().unwrap(),
    ]);
    assert!(
        ended.stdout.contains("Content-Encoding: gzip"),
        "{}",
        ended.stdout
    );
    assert!(std::fs::read(&out).unwrap() == big);
}

#[test]
#[ignore = "needs python3"]
fn get_against_python() {
    let folder = tempfile::tempdir().unwrap();
    let script = "
import http.server, sys, os
os.chdir(sys.argv[1])
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler)
print(server.server_port)
server.serve_forever()
";
    let (_server, port) = python(script, &[folder.path().to_str().unwrap()]);
    assert_gets_everything(&port, folder.path());
}

#[test]
#[ignore = "needs python3"]
fn ping_against_a_plain_python_server() {
    // Drops four of eleven, by lot.
    let script = "
import random, socket
random.seed(3)
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(('127.0.0.1', 0))
print(server.getsockname()[1])
while True:
    message, address = server.recvfrom(1024)
    if random.randint(0, 10) >= 4:
        server.sendto(message.upper(), address)
";
    let (_server, port) = python(script, &[]);
    let ended = run(&[
        "ping",
        "127.0.0.1",
        &port,
        "-c",
        "200",
        "-i",
        "2ms",
        "-W",
        "500ms",
        "--json",
    ]);
    let summary: serde_json::Value =
        serde_json::from_str(ended.stdout.lines().last().unwrap()).unwrap();
    let loss = summary["loss_percent"].as_f64().unwrap();
    assert!((25.0..50.0).contains(&loss), "{summary}");
    assert_eq!(
        summary["lost"].as_u64().unwrap() + summary["received"].as_u64().unwrap(),
        200
    );
    assert_eq!(summary["corrupt"].as_u64(), Some(0));
}

#[test]
#[ignore = "needs python3"]
fn upload_to_a_plain_python_server() {
    let folder = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..3_000_000_u32)
        .map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let file = folder.path().join("Grüße.bin");
    std::fs::write(&file, &bytes).unwrap();
    let target = folder.path().join("target");
    std::fs::create_dir(&target).unwrap();
    // Knows nothing but the plain protocol: one file per connection, then it closes.
    let script = "
import hashlib, hmac, json, os, socket, struct, sys
server = socket.socket()
server.bind(('127.0.0.1', 0))
server.listen()
print(server.getsockname()[1])
def exactly(connection, count):
    data = b''
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece: raise SystemExit('short')
        data += piece
    return data
while True:
    connection, _ = server.accept()
    challenge = os.urandom(32)
    connection.sendall(challenge)
    if exactly(connection, 16) == hmac.new(b'sesame', challenge, 'md5').digest():
        header = json.loads(exactly(connection, struct.unpack('i', exactly(connection, 4))[0]))
        with open(os.path.join(sys.argv[1], header['filename']), 'wb') as file:
            file.write(exactly(connection, header['filesize']))
    connection.close()
";
    let (_server, port) = python(script, &[target.to_str().unwrap()]);
    for flags in [&["--plain"][..], &[]] {
        let mut arguments = vec!["upload"];
        arguments.extend(flags);
        arguments.extend(["127.0.0.1", &port, file.to_str().unwrap()]);
        let mut upload = command(&arguments);
        upload.env("NETLAB_SECRET", "sesame");
        let ended = run_with(upload, b"");
        assert_eq!(
            (
                ended.code,
                ended.stdout.ends_with("sent, not acknowledged\n")
            ),
            (0, true),
            "{ended:?}"
        );
        assert!(std::fs::read(target.join("Grüße.bin")).unwrap() == bytes);
        std::fs::remove_file(target.join("Grüße.bin")).unwrap();
    }
    let mut wrong = command(&["upload", "127.0.0.1", &port, file.to_str().unwrap()]);
    wrong.env("NETLAB_SECRET", "barley");
    assert_eq!(run_with(wrong, b"").code, 77);
}

/// The message with all that makes it hard: UTF-8 in the subject, a body full of dots, an image, a
/// Bcc.
fn send(port: &str, folder: &Path, flags: &[&str]) -> Ended {
    let image: Vec<u8> = (0..5000_u32)
        .map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let path = folder.join("image.png");
    std::fs::write(&path, image).unwrap();
    let server = format!("127.0.0.1:{port}");
    let mut arguments = vec![
        "mail",
        "--server",
        &server,
        "--from",
        "Änn <a@x.test>",
        "--to",
        "b@y.test",
        "--bcc",
        "c@y.test",
        "--subject",
        "Grüße von ☃",
        "--inline",
        path.to_str().unwrap(),
        "--timeout",
        "30s",
    ];
    arguments.extend(flags);
    let mut mail = command(&arguments);
    mail.env("NETLAB_PASSWORD", "tulip");
    run_with(mail, ".\n..\n.dot at the start\nhellö\n.\n".as_bytes())
}

/// Reads a message back with Python's own parser and prints what it found.
const READ_BACK: &str = "
import email, email.policy, hashlib, json
def read_back(data):
    message = email.message_from_bytes(data, policy=email.policy.default)
    text = message.get_body(('plain',)).get_content()
    image = [part.get_payload(decode=True) for part in message.walk() if part.get_content_type() == 'image/png'][0]
    return json.dumps({'subject': message['subject'], 'from': str(message['from']), 'text': text,
        'image': hashlib.sha256(image).hexdigest(), 'bcc': message['bcc'], 'date': message['date'].datetime is not None})
";

fn assert_read_back(json: &str, folder: &Path) {
    use sha2::Digest as _;
    let found: serde_json::Value =
        serde_json::from_str(json).unwrap_or_else(|error| panic!("{error} in {json:?}"));
    assert_eq!(found["subject"], "Grüße von ☃");
    assert_eq!(found["from"], "Änn <a@x.test>");
    assert_eq!(
        found["text"]
            .as_str()
            .unwrap()
            .replace("\r\n", "\n")
            .trim_end(),
        ".\n..\n.dot at the start\nhellö\n."
    );
    let image = sha2::Sha256::digest(std::fs::read(folder.join("image.png")).unwrap());
    assert_eq!(found["image"], netlab_reactor::wire::hex::encode(&image));
    assert!(found["bcc"].is_null() && found["date"] == true, "{found}");
}

/// A mail server that wants STARTTLS, then a login with LOGIN; `mail.json` is what it read back.
const AIOSMTPD: &str = "
import asyncio, ssl, sys
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
class Handler:
    async def handle_DATA(self, server, session, envelope):
        with open(sys.argv[1] + '/mail.json', 'w') as file:
            file.write(read_back(envelope.content))
        return '250 taken for ' + ' '.join(envelope.rcpt_tos)
def check(server, session, envelope, mechanism, data):
    return AuthResult(success=data == LoginPassword(b'ann', b'tulip'), handled=False)
async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2] + '/server.pem', sys.argv[2] + '/server.key')
    factory = lambda: SMTP(Handler(), require_starttls=True, tls_context=context, authenticator=check,
        auth_required=True, enable_SMTPUTF8=True, auth_exclude_mechanism=['PLAIN'], hostname='mx.test')
    server = await asyncio.get_running_loop().create_server(factory, '127.0.0.1', 0)
    print(server.sockets[0].getsockname()[1])
    await server.serve_forever()
asyncio.run(main())
";

#[test]
#[ignore = "needs a python3 with aiosmtpd"]
fn mail_to_aiosmtpd_with_starttls_and_login_required() {
    let folder = tempfile::tempdir().unwrap();
    let script = READ_BACK.to_owned() + AIOSMTPD;
    let certificates = Path::new(CA_FILE).parent().unwrap().to_str().unwrap();
    let (_server, port) = python(&script, &[folder.path().to_str().unwrap(), certificates]);
    let flags = [
        "--user",
        "ann",
        "--tls",
        "required",
        "--ca-file",
        CA_FILE,
        "-v",
    ];
    let ended = send(&port, folder.path(), &flags);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (
            0,
            "taken for b@y.test, c@y.test: 250 taken for b@y.test c@y.test\n"
        ),
        "{ended:?}"
    );
    assert!(
        ended.stderr.contains("> AUTH LOGIN\n") && !ended.stderr.contains("dHVsaXA="),
        "{}",
        ended.stderr
    );
    assert_read_back(
        &std::fs::read_to_string(folder.path().join("mail.json")).unwrap(),
        folder.path(),
    );
    let ended = send(
        &port,
        folder.path(),
        &["--user", "eve", "--tls", "required", "--ca-file", CA_FILE],
    );
    assert_eq!(
        (ended.code, ended.stderr.contains("at the step log-in")),
        (77, true),
        "{ended:?}"
    );
    let ended = send(&port, folder.path(), &["--tls", "off"]);
    assert_eq!(
        (ended.code, ended.stderr.contains("at the step sender")),
        (77, true),
        "{ended:?}"
    );
}

/// Starts an exim that delivers to `box/mail` in the folder.
fn start_exim(folder: &Path, port: u16) -> Peer {
    let root = folder.display();
    let configuration = format!(
        "spool_directory = {root}/spool\nlog_file_path = {root}/spool/log_%slog\npid_file_path = {root}/spool/pid\n\
         local_interfaces = 127.0.0.1\ndaemon_smtp_ports = {port}\nprimary_hostname = mx.y.test\ntls_advertise_hosts =\n\
         acl_smtp_rcpt = recipients\nacl_smtp_data = accept\nbegin acl\nrecipients:\n  deny local_parts = nobody\n\
         message = no such mailbox\n  accept domains = y.test\n  deny message = relay not permitted\n\
         begin routers\nmailbox:\n  driver = accept\n  domains = y.test\n  local_parts = b\n  transport = mailbox\n\
         nowhere:\n  driver = redirect\n  data = :blackhole:\n\
         begin transports\nmailbox:\n  driver = appendfile\n  file = {root}/box/mail\n  user = Debian-exim\n  group = Debian-exim\n  mode = 0644\n"
    );
    let path = folder.join("exim.conf");
    std::fs::write(&path, configuration).unwrap();
    std::fs::create_dir(folder.join("box")).unwrap();
    let shell = format!(
        "chmod 755 {root} && chown Debian-exim {root}/box && mkdir {root}/spool && chown Debian-exim {root}/spool"
    );
    assert!(
        Command::new("sh")
            .args(["-c", &shell])
            .status()
            .unwrap()
            .success(),
        "the exim package makes its user"
    );
    let exim = std::env::var("NETLAB_TEST_EXIM").unwrap_or_else(|_| "/usr/sbin/exim4".into());
    let exim = Command::new(exim)
        .arg("-C")
        .arg(&path)
        .args(["-bdf", "-q1h"])
        .spawn()
        .expect("exim is installed");
    await_listener(port);
    Peer(exim)
}

#[test]
#[ignore = "needs exim4 and root"]
fn mail_to_exim_is_found_in_the_mailbox() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let _exim = start_exim(folder.path(), port);
    let ended = send(
        &port.to_string(),
        folder.path(),
        &["--to", "nobody@y.test", "-v"],
    );
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(
        ended
            .stderr
            .contains("nobody@y.test was refused: 550 no such mailbox"),
        "{}",
        ended.stderr
    );
    let mailbox = folder.path().join("box/mail");
    let until = Instant::now() + Duration::from_secs(20);
    while std::fs::metadata(&mailbox).map_or(0, |file| file.len()) == 0 {
        let log =
            || std::fs::read_to_string(folder.path().join("spool/log_mainlog")).unwrap_or_default();
        assert!(Instant::now() < until, "exim does not deliver: {}", log());
        std::thread::sleep(Duration::from_millis(50));
    }
    let script = READ_BACK.to_owned()
        + "\nimport mailbox, sys\nprint(read_back(bytes(list(mailbox.mbox(sys.argv[1]))[0])))\n";
    let (_reader, found) = python(&script, &[mailbox.to_str().unwrap()]);
    assert_read_back(&found, folder.path());
}
