//! A keep-alive request allocates nothing once the server has warmed up: what its allocator is
//! asked for is counted here, with the client in the same thread, so that every turn of the loop is
//! in the count.
//!
//! Once a second the server looks whether a cached file is still the same; that look may allocate.
//! So requests are counted in batches, and there may be no more batches with an allocation than
//! seconds went by.

#[path = "common/allocations.rs"]
mod counted;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use netlab_reactor::config::{Config, Overrides};
use netlab_reactor::reactor::Reactor;
use netlab_reactor::serve;
use netlab_reactor::sys::Bind;
use netlab_reactor::sys::unix::Unix;

const BATCHES: u64 = 20;
const REQUESTS: usize = 250;

/// Sends `request` so often on one connection, and turns the reactor until each answer of
/// `answer_bytes` is whole.
fn exchange(
    reactor: &mut Reactor<Unix>,
    client: &mut TcpStream,
    request: &[u8],
    answer_bytes: usize,
    buffer: &mut [u8],
) {
    for _ in 0..REQUESTS {
        client.write_all(request).expect("room");
        let mut received = 0;
        while received < answer_bytes {
            reactor.turn().expect("a turn");
            loop {
                match client.read(buffer) {
                    Ok(0) => panic!("the server closed"),
                    Ok(count) => received += count,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
        assert_eq!(received, answer_bytes);
    }
}

/// How long an answer is, once its head is there.
fn whole_bytes(answer: &[u8]) -> Option<usize> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = str::from_utf8(&answer[..end]).expect("a head in ASCII");
    let length = head
        .lines()
        .find_map(|l| l.strip_prefix("Content-Length: "));
    Some(end + 4 + length?.parse::<usize>().expect("a length"))
}

#[test]
fn a_keep_alive_request_allocates_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let config =
        "[[listener]]\nkind = 'http'\nbind = '127.0.0.1:0'\nroot = '.'\ncompress = ['gzip']\n";
    let file = folder.path().join("netlab.toml");
    let config = Config::parse(config, &file, &Overrides::default()).expect("a configuration");
    let sys = Unix::new(false).expect("a poll");
    let (mut reactor, bound) = serve::open(sys, &config).expect("a listener");
    let Bind::Inet(address) = &bound[0] else {
        panic!("an address was asked for");
    };
    let mut buffer = vec![0; 256 * 1024];
    // The last two are sent in a form of them: one behind its head, one by reference.
    for (name, bytes) in [
        ("small", 1024),
        ("large", 64 * 1024),
        ("small.txt", 4 * 1024),
        ("large.txt", 64 * 1024),
    ] {
        let lines = (0_u32..).map(|i| format!("{:x}\n", i.wrapping_mul(2_654_435_761)));
        let text: Vec<u8> = lines.flat_map(String::into_bytes).take(bytes).collect();
        fs::write(folder.path().join(name), text).expect("a file");
        let request = format!(
            "GET /{name} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: test\r\nAccept: */*\r\n\
             Accept-Encoding: gzip\r\n\r\n"
        );
        let mut client = TcpStream::connect(address).expect("a connection");
        client.set_nonblocking(true).expect("a mode");
        // The first answer tells how long all of them are.
        client.write_all(request.as_bytes()).expect("room");
        let mut answer_bytes = 0;
        let mut whole = None;
        while whole.is_none_or(|whole| answer_bytes < whole) {
            reactor.turn().expect("a turn");
            while let Ok(count @ 1..) = client.read(&mut buffer[answer_bytes..]) {
                answer_bytes += count;
            }
            let answer = &buffer[..answer_bytes];
            whole = whole_bytes(answer);
        }
        let head = String::from_utf8_lossy(&buffer[..512]);
        let is_coded = head.contains("Content-Encoding: gzip");
        assert_eq!(is_coded, name.ends_with(".txt"), "{name}: {head}");
        exchange(
            &mut reactor,
            &mut client,
            request.as_bytes(),
            answer_bytes,
            &mut buffer,
        );

        let (began, mut allocated) = (Instant::now(), 0);
        for _ in 0..BATCHES {
            let before = counted::allocations();
            exchange(
                &mut reactor,
                &mut client,
                request.as_bytes(),
                answer_bytes,
                &mut buffer,
            );
            allocated += u64::from(counted::allocations() > before);
        }
        let looks = began.elapsed().as_secs() + 1;
        assert!(
            allocated <= looks,
            "{name}: allocations in {allocated} of {BATCHES} batches, within {looks} s"
        );
        assert!(
            allocated < BATCHES / 2,
            "{name}: the machine is too slow for this test"
        );
    }
}
