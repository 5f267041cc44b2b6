//! The limits of the web server that need more than one connection, or a kernel that holds bytes
//! back; those of one dialogue are transcripts.

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use common::{InThread, PATIENCE, connect};
use netlab_reactor::buffer::PAGE_BYTES;
use socket2::{Domain, Socket, Type};

const GET: &[u8] = b"GET /HelloWorld.html HTTP/1.1\r\nHost: h\r\n\r\n";

/// A client at another loopback address, with a small receive buffer if it is to be slow.
fn connect_from(ip: [u8; 4], receive_bytes: Option<usize>, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    if let Some(bytes) = receive_bytes {
        socket.set_recv_buffer_size(bytes).expect("a buffer size");
    }
    socket
        .bind(&SocketAddr::from((ip, 0)).into())
        .expect("an address");
    socket.connect(&to.into()).expect("a connection");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream
}

/// The status of the next answer; its body is left alone.
fn status(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("a head");
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head[9..12]).into_owned()
}

fn get(stream: &mut TcpStream) -> String {
    stream.write_all(GET).expect("room");
    status(stream)
}

#[test]
fn a_full_server_says_so_and_serves_again_when_somebody_leaves() {
    let server = InThread::start(
        "[[listener]]\nkind = \"http\"\nbind = \"127.0.0.1:0\"\nmax_connections = 2\n\
         root = \".\"\nerror_pages = { 503 = \"full.html\" }\n",
    );
    for name in ["HelloWorld.html", "full.html"] {
        std::fs::write(server.dir.path().join(name), name).expect("a file");
    }
    let address = server.address(0);
    let (mut one, mut two) = (connect(address), connect(address));
    assert_eq!((get(&mut one), get(&mut two)), ("200".into(), "200".into()));
    let mut three = connect(address);
    assert_eq!(status(&mut three), "503", "before it asked for anything");
    let mut rest = Vec::new();
    three.read_to_end(&mut rest).expect("the end");
    assert_eq!(rest, b"full.html");
    drop((one, three));
    server.wait(|seen| seen.active == 1);
    assert_eq!(get(&mut connect(address)), "200");
    server.stop();
}

#[test]
fn one_address_has_so_many_connections_and_others_theirs() {
    let server = InThread::start(
        "[[listener]]\nkind = \"http\"\nbind = \"127.0.0.1:0\"\nmax_connections_per_address = 2\n",
    );
    let address = server.address(0);
    let mut clients: Vec<_> = (0..2)
        .map(|_| connect_from([127, 0, 0, 1], None, address))
        .collect();
    for client in &mut clients {
        assert_eq!(get(client), "200");
    }
    assert_eq!(
        status(&mut connect_from([127, 0, 0, 1], None, address)),
        "429"
    );
    assert_eq!(get(&mut connect_from([127, 0, 0, 2], None, address)), "200");
    drop(clients);
    server.wait(|seen| seen.active == 0);
    assert_eq!(get(&mut connect_from([127, 0, 0, 1], None, address)), "200");
    server.stop();
}

#[test]
fn what_a_limit_ended_is_counted_by_its_cause() {
    let server = InThread::start(
        "[[listener]]\nkind = \"http\"\nbind = \"127.0.0.1:0\"\nmax_connections = 1\nhead_timeout = \"500ms\"\n\
         [[listener]]\nkind = \"admin\"\nbind = \"127.0.0.1:0\"\n",
    );
    let mut slow = connect(server.address(0));
    slow.write_all(b"GET / HT").expect("room");
    server.wait(|seen| seen.active == 1);
    let mut refused = connect(server.address(0));
    assert_eq!(
        (status(&mut refused), status(&mut slow)),
        ("503".into(), "408".into())
    );
    drop((refused, slow));
    server.wait(|seen| seen.accepted == 2 && seen.active == 0);
    let mut admin = connect(server.address(1));
    let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    admin.write_all(request).expect("room");
    let mut text = String::new();
    admin.read_to_string(&mut text).expect("metrics");
    let of = format!(
        "listener=\"http\",kind=\"http\",address=\"{}\"",
        server.address(0)
    );
    for line in [
        format!("netlab_timeouts_total{{{of},phase=\"head\"}} 1"),
        format!("netlab_timeouts_total{{{of},phase=\"idle\"}} 0"),
        format!("netlab_refusals_total{{{of},limit=\"connections\"}} 1"),
        format!("netlab_refusals_total{{{of},limit=\"connections_per_address\"}} 0"),
        format!("netlab_sessions_ended_total{{{of},reason=\"ok\"}} 0"),
        format!("netlab_sessions_ended_total{{{of},reason=\"refused\"}} 1"),
        format!("netlab_sessions_ended_total{{{of},reason=\"timed_out\"}} 1"),
    ] {
        assert!(text.lines().any(|one| one == line), "{line} in {text}");
    }
    server.stop();
}

/// Bytes of a file that no kernel holds for a client that does not read.
const LARGE_BYTES: u64 = 24 << 20;

/// A server whose clients must take 100,000 bytes a second, looked at every second, and a client
/// that asked for a large file.
fn slow_reader() -> (InThread, TcpStream) {
    let server = InThread::start(
        "[limits]\nwrite_timeout = \"1s\"\nmin_write_rate = 100_000\n\
         [[listener]]\nkind = \"http\"\nbind = \"127.0.0.1:0\"\nroot = \".\"\n",
    );
    let file = std::fs::File::create(server.dir.path().join("large")).expect("a file");
    file.set_len(LARGE_BYTES).expect("a length");
    let mut client = connect_from([127, 0, 0, 1], Some(64 << 10), server.address(0));
    let request = b"GET /large HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    client.write_all(request).expect("room");
    (server, client)
}

#[test]
fn a_reader_that_sips_is_dropped() {
    let (server, mut client) = slow_reader();
    let began = Instant::now();
    let mut some = [0; 1000];
    let end = loop {
        // 20,000 bytes a second: some progress at every look, but too little.
        thread::sleep(Duration::from_millis(50));
        match client.read(&mut some) {
            Ok(0) => break ErrorKind::UnexpectedEof,
            Ok(_) => assert!(began.elapsed() < PATIENCE, "it was never dropped"),
            Err(error) => break error.kind(),
        }
        if server.wait(|_| true).active == 0 {
            break ErrorKind::ConnectionReset;
        }
    };
    let expected = [ErrorKind::ConnectionReset, ErrorKind::UnexpectedEof];
    assert!(expected.contains(&end), "{end}");
    server.wait(|seen| seen.active == 0);
    server.stop();
}

#[test]
fn a_reader_that_takes_nothing_is_dropped() {
    let (server, client) = slow_reader();
    server.wait(|seen| seen.active == 1);
    server.wait(|seen| seen.active == 0);
    drop(client);
    server.stop();
}

/// The kernel tells of room only when much of its queue is free, which takes this client longer
/// than a look: what counts is what the client took.
#[test]
fn a_steady_reader_gets_everything() {
    let (server, mut client) = slow_reader();
    let mut received = 0;
    let mut some = vec![0; 20_000];
    for _ in 0..80 {
        thread::sleep(Duration::from_millis(50)); // 400,000 bytes a second, for four seconds
        received += client.read(&mut some).expect("the connection stays") as u64;
    }
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).expect("all of it");
    received += rest.len() as u64;
    assert!(received > LARGE_BYTES, "{received}");
    server.stop();
}

/// A body that is to be sent back waits for its end in memory: what all of them hold is bounded, and
/// whoever comes when there is none left is told so.
#[test]
fn bodies_that_are_to_be_sent_back_count_like_all_that_waits() {
    const CLIENTS: usize = 8;
    const BODY_BYTES: usize = 400 << 10;
    let server = InThread::start(
        "[limits]\nmax_page_bytes = \"1MiB\"\n[[listener]]\nkind = \"http\"\nbind = \"127.0.0.1:0\"\nroutes = \"probe\"\n",
    );
    let head = format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {BODY_BYTES}\r\n\r\n");
    let read = |mut client: TcpStream| {
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer); // one that is refused may be reset
        String::from_utf8_lossy(&answer[..answer.len().min(12)]).into_owned()
    };
    // All but the end of each body.
    let mut clients: Vec<TcpStream> = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = connect(server.address(0));
        let _ = client.write_all(head.as_bytes());
        let _ = client.write_all(&vec![b'x'; BODY_BYTES - 1]);
        clients.push(client);
    }
    server.wait(|seen| seen.active <= 3);
    let mut answers = Vec::new();
    for mut client in clients {
        let _ = client.write_all(b"x");
        let _ = client.shutdown(Shutdown::Write);
        answers.push(read(client));
    }
    let is = |status: &str| {
        answers
            .iter()
            .filter(|answer| answer.contains(status))
            .count()
    };
    // Several may find at once that there is too little.
    assert!(is("200") >= 1 && is("503") >= 1, "{answers:?}");
    assert_eq!(is("200") + is("503"), CLIENTS, "{answers:?}");
    let peak = server.wait(|seen| seen.active == 0).page_bytes_peak;
    let most = (1 << 20) + CLIENTS * 2 * PAGE_BYTES;
    assert!(peak <= most, "{peak} bytes of pages, at most {most}");
    server.stop();
}

#[test]
fn clients_that_read_nothing_hold_no_more_memory_than_all_of_them_may() {
    const CLIENTS: usize = 50;
    const REQUESTS: usize = 80;
    const FILE_BYTES: usize = 8192;
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("file"), [b'f'; FILE_BYTES]).expect("a file");
    let server = InThread::start(&format!(
        "[limits]\nmax_page_bytes = \"1MiB\"\n[[listener]]\nkind = \"http\"\nbind = \"127.0.0.1:0\"\nroot = {:?}\n",
        folder.path()
    ));
    let requests = b"GET /file HTTP/1.1\r\nHost: h\r\n\r\n".repeat(REQUESTS);
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = connect(server.address(0));
        client.write_all(&requests).expect("room");
        client.shutdown(Shutdown::Write).expect("a connection");
        clients.push(client);
    }
    server.wait(|seen| seen.bytes_in == (CLIENTS * requests.len()) as u64);
    let read = |mut client: TcpStream| {
        thread::spawn(move || {
            let mut answers = Vec::new();
            client.read_to_end(&mut answers).expect("all answers");
            assert!(answers.len() > REQUESTS * FILE_BYTES, "{}", answers.len());
        })
    };
    let readers: Vec<_> = clients.into_iter().map(read).collect();
    for reader in readers {
        reader.join().expect("a reader that is content");
    }
    // Beyond the limit each has its requests and one answer, and one had room for a queue just
    // before.
    let peak = server.wait(|seen| seen.active == 0).page_bytes_peak;
    let most = (1 << 20) + (256 << 10) + CLIENTS * 3 * PAGE_BYTES;
    assert!(peak <= most, "{peak} bytes of pages, at most {most}");
    server.stop();
}

#[test]
fn an_early_answer_reaches_a_client_that_is_still_sending() {
    let server = InThread::start(
        "[[listener]]\nkind = \"http\"\nbind = \"127.0.0.1:0\"\nmax_body_bytes = 1000\n\
         [[listener]]\nkind = \"proxy\"\nbind = \"127.0.0.1:0\"\n",
    );
    let put = "PUT /x HTTP/1.1\r\nHost: h";
    let cases = [
        (0, put, "413", 1001),
        (0, put, "413", 60_000_000),
        (
            0,
            "PUT /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip",
            "501",
            5_000_000,
        ),
        (
            1,
            "PUT http://127.0.0.1/ HTTP/1.1\r\nHost: h",
            "403",
            5_000_000,
        ),
    ];
    for (listener, head, code, body_bytes) in cases {
        let mut stream = connect(server.address(listener));
        write!(stream, "{head}\r\nContent-Length: {body_bytes}\r\n\r\n").expect("room");
        let body = vec![b'x'; body_bytes];
        stream.write_all(&body).expect("a server that reads");
        assert_eq!(status(&mut stream), code, "{head}");
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).expect("an orderly end");
    }
    server.stop();
}

/// A client that was answered for the last time, and leaves its connection open.
fn answered_last(limits: &str) -> (InThread, TcpStream) {
    let config = "[[listener]]\nkind = \"http\"\nbind = \"127.0.0.1:0\"\n";
    let server = InThread::start(&format!("[limits]\n{limits}\n{config}"));
    let mut stream = connect(server.address(0));
    let request = b"PUT /x HTTP/1.1\r\nHost: h\r\nContent-Length: 10000000000\r\n\r\n";
    stream.write_all(request).expect("room");
    assert_eq!(status(&mut stream), "413");
    (server, stream)
}

#[test]
fn a_closed_connection_is_read_until_nothing_comes_or_it_lasts_too_long() {
    // Silence ends it.
    let (server, stream) = answered_last("linger_timeout = '100ms'\nmax_linger_time = '1h'");
    server.wait(|seen| seen.active == 0);
    drop(stream);
    server.stop();
    // What goes on coming does not keep it for ever.
    for limits in [
        "linger_timeout = '1h'\nmax_linger_time = '300ms'",
        "linger_timeout = '1h'\nmax_linger_time = '1h'\nmax_linger_bytes = 100000",
    ] {
        let (server, mut stream) = answered_last(limits);
        // The end shows as a broken connection, for what was sent behind it was not read.
        let piece = [b'x'; 1000];
        while stream.write_all(&piece).is_ok() {}
        server.wait(|seen| seen.active == 0);
        server.stop();
    }
}
