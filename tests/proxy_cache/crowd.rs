//! A thousand clients at once for one object that is not there yet.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::SockRef;

use crate::http::{Client, content, get, origin};
use crate::{STORES, proxy};

/// Without a store each makes a request of its own, which is another matter.
const CLIENTS: usize = if STORES { 1000 } else { 100 };
/// More than the sockets on the way can hold for a client that does not read.
const OBJECT_BYTES: usize = 1 << 20;
/// The origin's: what it takes to send the object, so that all ask before it is there.
const PIECES: usize = 16;
const PIECE_TIME: Duration = Duration::from_millis(30);
/// The longest that an object may take to all clients beside the slow one: a GB in a debug build
/// on a busy machine. The slow one would take a quarter of an hour.
const BOUND: Duration = Duration::from_secs(60);

/// Both ends of a thousand connections are in this process and the program's.
fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).expect("what is allowed");
}

/// Reads 1 KiB a second, of a connection that holds little, until told to stop.
fn read_slowly(proxy: SocketAddr, target: &str, stop: &AtomicBool) -> io::Result<usize> {
    let mut client = Client::connect(proxy)?;
    SockRef::from(&*client.stream()).set_recv_buffer_size(4096)?;
    client.send(&format!("GET {target} HTTP/1.1\nHost: origin"), b"")?;
    let mut taken = 0;
    while !stop.load(Ordering::SeqCst) {
        let mut piece = [0; 128];
        taken += client.stream().read(&mut piece)?;
        thread::sleep(Duration::from_millis(125));
    }
    Ok(taken)
}

#[test]
#[ignore = "a thousand clients"]
fn a_thousand_clients_make_one_request_and_a_slow_one_delays_nobody() {
    raise_descriptors();
    let asked = Arc::new(AtomicUsize::new(0));
    let origin = origin({
        let asked = Arc::clone(&asked);
        move |_, stream| {
            asked.fetch_add(1, Ordering::SeqCst);
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nCache-Control: max-age=3600\r\nContent-Length: {OBJECT_BYTES}\r\n\r\n"
            )?;
            for piece in content("the object", OBJECT_BYTES).chunks(OBJECT_BYTES / PIECES) {
                stream.write_all(piece)?;
                thread::sleep(PIECE_TIME);
            }
            Ok(true)
        }
    });
    let program = proxy("");
    let (proxy, target) = (program.address("proxy"), format!("http://{origin}/object"));
    let stop = AtomicBool::new(false);
    let barrier = Barrier::new(CLIENTS);
    let mut times = Vec::new();
    thread::scope(|scope| {
        // The first, so that it is its miss.
        let slow = scope.spawn(|| read_slowly(proxy, &target, &stop));
        while asked.load(Ordering::SeqCst) == 0 {
            assert!(!slow.is_finished(), "the slow reader gave up");
            thread::sleep(Duration::from_millis(1));
        }
        let clients: Vec<_> = (1..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    let began = Instant::now();
                    let response = get(proxy, &target).expect("an answer");
                    let whole = response.body == content("the object", OBJECT_BYTES);
                    assert!(whole, "{:?}", response.head);
                    began.elapsed()
                })
            })
            .collect();
        barrier.wait();
        for client in clients {
            times.push(client.join().expect("the object"));
        }
        stop.store(true, Ordering::SeqCst);
        let taken = slow.join().expect("no panic").expect("bytes");
        assert!(taken > 0 && taken < OBJECT_BYTES, "it was slow: {taken}");
    });
    times.sort_unstable();
    let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
    assert!(longest < BOUND, "{median:?}, {longest:?}");
    let asked = asked.load(Ordering::SeqCst);
    if STORES {
        assert_eq!(asked, 1, "requests at the origin");
        assert!(get(proxy, &target).expect("an answer").head.is_hit());
    } else {
        assert_eq!(asked, CLIENTS);
    }
    program.stop();
}
