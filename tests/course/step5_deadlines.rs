//! Step 5: deadlines.
//!
//! New: each client has a moment until which something must have happened; `poll` waits no longer
//! than until the next one. Step 4 kept silent clients for ever.
//!
//! The deadline is a field of the client. The heap has reminders, which may be too early or for
//! somebody who is gone: whoever is reminded looks at the field. So nothing is ever cancelled.
//!
//! ```sh
//! cargo run --example step5_deadlines
//! nc 127.0.0.1 PORT                           # type nothing: after 5 s it is closed
//! ```
//!
//! What is wrong: what the protocol is (upper case, until when one may be silent) stands between
//! the calls of the kernel. It cannot be tested without sockets and without waiting.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const LISTENER: Token = Token(0);
const WAITING_BYTES_MAX: usize = 64 * 1024;

struct Client {
    stream: TcpStream,
    readable: bool,
    writable: bool,
    ended: bool,
    waiting: Vec<u8>,
    /// Until when something must have moved.
    until: Instant,
}

fn main() -> io::Result<()> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    eprintln!("listening on {}", listener.local_addr()?);
    serve(listener, Duration::from_secs(5))
}

/// Serves all clients at once, each for as long as it is not silent for `idle`.
pub(crate) fn serve(listener: std::net::TcpListener, idle: Duration) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut listener = TcpListener::from_std(listener);
    let mut poll = Poll::new()?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(64);
    let mut clients: HashMap<Token, Client> = HashMap::new();
    let mut reminders: BinaryHeap<Reverse<(Instant, Token)>> = BinaryHeap::new();
    let mut next = 1;
    loop {
        let now = Instant::now();
        while let Some(Reverse((at, token))) = reminders.peek().copied().filter(|r| r.0.0 <= now) {
            reminders.pop();
            match clients.get(&token).map(|client| client.until) {
                Some(until) if until <= at => _ = clients.remove(&token),
                Some(until) => reminders.push(Reverse((until, token))),
                None => {} // it is gone
            }
        }
        let first = reminders.peek().map(|Reverse((at, _))| *at);
        poll.poll(
            &mut events,
            first.map(|at| at.saturating_duration_since(now)),
        )?;
        let now = Instant::now();
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    let token = Token(next);
                    next += 1;
                    let both = Interest::READABLE | Interest::WRITABLE;
                    poll.registry().register(&mut stream, token, both)?;
                    clients.insert(token, Client::new(stream, now + idle));
                    reminders.push(Reverse((now + idle, token)));
                }
            } else if let Some(client) = clients.get_mut(&event.token()) {
                client.readable |= event.is_readable();
                client.writable |= event.is_writable();
                if !matches!(client.pump(now + idle), Ok(true)) {
                    clients.remove(&event.token());
                }
            }
        }
    }
}

impl Client {
    fn new(stream: TcpStream, until: Instant) -> Self {
        Self {
            stream,
            readable: false,
            writable: false,
            ended: false,
            waiting: Vec::new(),
            until,
        }
    }

    /// Reads and writes as far as can be; what moves bytes gets until `until`. Whether the client
    /// stays.
    fn pump(&mut self, until: Instant) -> io::Result<bool> {
        let mut bytes = [0; 4096];
        loop {
            let has_room = self.waiting.len() + bytes.len() <= WAITING_BYTES_MAX;
            let may_read = self.readable && !self.ended && has_room;
            let may_write = self.writable && !self.waiting.is_empty();
            if !may_read && !may_write {
                return Ok(!self.ended || !self.waiting.is_empty());
            }
            if may_read {
                match self.stream.read(&mut bytes) {
                    Ok(0) => self.ended = true,
                    Ok(count) => {
                        self.waiting.extend(bytes[..count].to_ascii_uppercase());
                        self.until = until;
                    }
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                    Err(error) => return Err(error),
                }
            }
            if may_write {
                match self.stream.write(&self.waiting) {
                    Ok(count) => {
                        self.waiting.drain(..count);
                        self.until = until;
                    }
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                    Err(error) => return Err(error),
                }
            }
        }
    }
}
