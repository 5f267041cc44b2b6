//! Step 6: the protocol without sockets and without a clock.
//!
//! New: what the protocol does stands in one method, `advance` in `upper.rs`, of facts: what came, what
//! waits to be sent, whether the client has ended, what time it is. It may be called at any time, and
//! does what the facts allow. The loop knows sockets and no protocol. In step 5 both were one, and
//! to test "silent for 5 s" took a socket and 5 s.
//!
//! ```sh
//! cargo run --example step6_sans_io
//! cargo test --test course step6              # any pieces, any time, and no socket
//! ```
//!
//! What is wrong: the protocol can be tested, the loop cannot: whether it forgets an edge depends on
//! how the network cuts the bytes, and on this machine it hardly cuts them.

use std::collections::HashMap;
use std::io::ErrorKind::WouldBlock;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

#[path = "upper.rs"]
pub(crate) mod upper;
use upper::{BYTES_MAX, Link, Protocol, Upper};

const LISTENER: Token = Token(0);

fn main() -> io::Result<()> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    eprintln!("listening on {}", listener.local_addr()?);
    serve(listener, |now| Upper::new(Duration::from_secs(5), now))
}

/// A client: its socket with what is known of it, and the state of its protocol.
struct Client<P>(TcpStream, [bool; 2], Link, P);

/// Serves a protocol to all clients at once.
pub(crate) fn serve<P: Protocol>(
    listener: std::net::TcpListener,
    begin: impl Fn(Instant) -> P,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut listener = TcpListener::from_std(listener);
    let mut poll = Poll::new()?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(64);
    let mut clients: HashMap<Token, Client<P>> = HashMap::new();
    let mut next = 1;
    loop {
        // All of them are looked at: short, and slow with many clients. Step 5 has the heap.
        let first = clients.values().map(|client| client.3.deadline()).min();
        poll.poll(
            &mut events,
            first.map(|at| at.saturating_duration_since(Instant::now())),
        )?;
        let now = Instant::now();
        for event in &events {
            if let Some(Client(_, ready, ..)) = clients.get_mut(&event.token()) {
                ready[0] |= event.is_readable();
                ready[1] |= event.is_writable();
            }
        }
        while let Ok((mut stream, _)) = listener.accept() {
            let (token, both) = (Token(next), Interest::READABLE | Interest::WRITABLE);
            next += 1;
            poll.registry().register(&mut stream, token, both)?;
            clients.insert(
                token,
                Client(stream, [false; 2], Link::default(), begin(now)),
            );
        }
        clients.retain(|_, client| matches!(client.pump(now), Ok(true)));
    }
}

impl<P: Protocol> Client<P> {
    /// Fill, advance, flush, until nothing moves. Whether the client stays.
    fn pump(&mut self, now: Instant) -> io::Result<bool> {
        let Self(stream, [readable, writable], link, protocol) = self;
        let mut bytes = [0; 4096];
        loop {
            let mut moved = false;
            if *readable && !link.ended && link.received.len() + bytes.len() <= BYTES_MAX {
                match stream.read(&mut bytes) {
                    Ok(0) => (link.ended, moved) = (true, true),
                    Ok(count) => (moved, _) = (true, link.received.extend(&bytes[..count])),
                    Err(e) if e.kind() == WouldBlock => *readable = false,
                    Err(error) => return Err(error),
                }
            }
            protocol.advance(link, now);
            if *writable && !link.to_send.is_empty() {
                match stream.write(&link.to_send) {
                    Ok(count) => (moved, _) = (true, link.to_send.drain(..count)),
                    Err(e) if e.kind() == WouldBlock => *writable = false,
                    Err(error) => return Err(error),
                }
            }
            if !moved {
                return Ok(!link.closed || !link.to_send.is_empty());
            }
        }
    }
}
