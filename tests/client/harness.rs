//! Running the binary with a watchdog, and servers on threads.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// A client that ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit code; -1 after a signal.
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) elapsed: Duration,
}

/// The binary with these arguments, without the environment's secrets and proxies.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netlab-reactor"));
    command
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .stdin(Stdio::piped());
    for variable in [
        "NETLAB_SECRET",
        "NETLAB_PASSWORD",
        "http_proxy",
        "HTTP_PROXY",
        "https_proxy",
        "HTTPS_PROXY",
    ] {
        command.env_remove(variable);
    }
    command
}

/// Runs a client to its end, which must come within a minute.
pub(crate) fn run(arguments: &[&str]) -> Ended {
    run_with(command(arguments), b"")
}

/// The same with standard input.
pub(crate) fn run_with(mut command: Command, input: &[u8]) -> Ended {
    let started = Instant::now();
    let mut child = command.spawn().expect("the binary starts");
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_vec();
    thread::spawn(move || stdin.write_all(&input));
    wait(child, started)
}

/// Waits for a child and what it printed; kills it after a minute.
pub(crate) fn wait(mut child: Child, started: Instant) -> Ended {
    let mut stdout = child.stdout.take().expect("piped");
    let mut stderr = child.stderr.take().expect("piped");
    let (send, receive) = mpsc::channel();
    let errors = thread::spawn(move || {
        let mut text = Vec::new();
        let _ = stderr.read_to_end(&mut text);
        text
    });
    thread::spawn(move || {
        let mut text = Vec::new();
        let _ = stdout.read_to_end(&mut text);
        let _ = send.send(text);
    });
    let printed = receive.recv_timeout(Duration::from_secs(60));
    if printed.is_err() {
        let _ = child.kill();
    }
    let code = child.wait().expect("waited").code().unwrap_or(-1);
    let elapsed = started.elapsed();
    let stderr = String::from_utf8_lossy(&errors.join().expect("read")).into_owned();
    let stdout = printed.unwrap_or_else(|_| panic!("the client did not end: {stderr}"));
    Ended {
        code,
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr,
        elapsed,
    }
}

/// A TCP server that treats each connection on a thread of its own, as long as the test process
/// lives.
pub(crate) fn tcp_server(serve: impl Fn(TcpStream) + Send + Sync + Clone + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            thread::spawn(move || serve(stream));
        }
    });
    address
}

/// A UDP server that answers the datagrams with those that `answer` makes of them, in turn.
pub(crate) fn udp_server(
    mut answer: impl FnMut(&[u8]) -> Vec<Vec<u8>> + Send + 'static,
) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let address = socket.local_addr().expect("bound");
    thread::spawn(move || {
        let mut buffer = [0; 65_536];
        while let Ok((bytes, peer)) = socket.recv_from(&mut buffer) {
            for datagram in answer(&buffer[..bytes]) {
                let _ = socket.send_to(&datagram, peer);
            }
        }
    });
    address
}

/// One thing that a scripted server does.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// Sends these bytes.
    Say(Vec<u8>),
    /// Reads until this many bytes came.
    Hear(usize),
    /// Reads up to and including these bytes.
    HearTo(&'static str),
}

/// How a scripted server says things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pacing {
    /// Each at once.
    Whole,
    /// Each byte in a segment of its own.
    Pieces,
    /// A byte, then a pause much shorter than the client's time-out, and so on.
    Drip(Duration),
}

pub(crate) fn say(text: &str) -> Act {
    Act::Say(text.as_bytes().to_vec())
}

/// Does it; false when the client went away.
pub(crate) fn act(stream: &mut TcpStream, act: &Act, pacing: Pacing) -> bool {
    let mut heard = Vec::new();
    let mut byte = [0; 1];
    loop {
        let is_enough = match act {
            Act::Say(bytes) => return speak(stream, bytes, pacing),
            Act::Hear(bytes) => heard.len() >= *bytes,
            Act::HearTo(end) => heard.ends_with(end.as_bytes()),
        };
        if is_enough {
            return true;
        }
        match stream.read(&mut byte) {
            Ok(0) | Err(_) => return false,
            Ok(_) => heard.push(byte[0]),
        }
    }
}

fn speak(stream: &mut TcpStream, bytes: &[u8], pacing: Pacing) -> bool {
    if pacing == Pacing::Whole {
        return stream.write_all(bytes).is_ok();
    }
    let _ = stream.set_nodelay(true);
    bytes.iter().all(|byte| {
        if let Pacing::Drip(pause) = pacing {
            thread::sleep(pause);
        }
        stream.write_all(std::slice::from_ref(byte)).is_ok()
    })
}

/// The file of the authority that signed the test server's certificate.
pub(crate) const CA_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/client/tls/ca.pem");

/// Does the server's side of a TLS handshake with a certificate for `localhost`, `mail.test` and
/// 127.0.0.1.
pub(crate) fn accept_tls(
    stream: TcpStream,
) -> rustls::StreamOwned<rustls::ServerConnection, TcpStream> {
    use rustls_pki_types::pem::PemObject as _;
    let certificate =
        CertificateDer::from_pem_slice(include_bytes!("tls/server.pem")).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("tls/server.key")).expect("a key");
    accept_tls_as(stream, certificate, key)
}

/// The same with another certificate.
pub(crate) fn accept_tls_as(
    stream: TcpStream,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
) -> rustls::StreamOwned<rustls::ServerConnection, TcpStream> {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("they belong together");
    let connection =
        rustls::ServerConnection::new(std::sync::Arc::new(config)).expect("a connection");
    rustls::StreamOwned::new(connection, stream)
}

/// Reads up to and including `end`; what came before the stream ended otherwise.
pub(crate) fn read_to(stream: &mut impl Read, end: &str) -> String {
    let mut text = Vec::new();
    let mut byte = [0; 1];
    while !text.ends_with(end.as_bytes()) && matches!(stream.read(&mut byte), Ok(1)) {
        text.push(byte[0]);
    }
    String::from_utf8_lossy(&text).into_owned()
}
