//! Step 4: bounded buffers, and backpressure.
//!
//! New: each client has a buffer for what is to be sent, with a limit. Nothing is read while it is
//! full, so the kernel's buffers fill, TCP closes its window, and the client has to wait. Step 3
//! lost what the socket did not take.
//!
//! With edges this takes memory: that a socket is readable or writable is told once, so it is
//! written down (`readable`, `writable`) and struck out only when a call would block.
//!
//! ```sh
//! cargo run --example step4_buffers
//! head -c 50000000 /dev/zero | nc -N 127.0.0.1 PORT | (sleep 3; wc -c)        # 50000000
//! nc 127.0.0.1 PORT                           # type nothing: it stays for ever
//! ```
//!
//! What is wrong: nobody ever ends who does not want to. A few thousand silent clients, and there
//! are no descriptors left for others.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::Shutdown;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const LISTENER: Token = Token(0);
/// Bytes that may wait for a client.
const WAITING_BYTES_MAX: usize = 64 * 1024;

struct Client {
    stream: TcpStream,
    readable: bool,
    writable: bool,
    /// It has sent its last byte.
    ended: bool,
    /// What is to be sent.
    waiting: Vec<u8>,
}

fn main() -> io::Result<()> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    eprintln!("listening on {}", listener.local_addr()?);
    serve(listener)
}

/// Serves all clients at once.
pub(crate) fn serve(listener: std::net::TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut listener = TcpListener::from_std(listener);
    let mut poll = Poll::new()?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(64);
    let mut clients: HashMap<Token, Client> = HashMap::new();
    let mut next = 1;
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    let token = Token(next);
                    next += 1;
                    let both = Interest::READABLE | Interest::WRITABLE;
                    poll.registry().register(&mut stream, token, both)?;
                    clients.insert(token, Client::new(stream));
                }
            } else if let Some(client) = clients.get_mut(&event.token()) {
                client.readable |= event.is_readable();
                client.writable |= event.is_writable();
                if !matches!(client.pump(), Ok(true)) {
                    clients.remove(&event.token());
                }
            }
        }
    }
}

impl Client {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            readable: false,
            writable: false,
            ended: false,
            waiting: Vec::new(),
        }
    }

    /// Reads and writes as far as can be. Whether the client stays.
    fn pump(&mut self) -> io::Result<bool> {
        let mut bytes = [0; 4096];
        loop {
            let has_room = self.waiting.len() + bytes.len() <= WAITING_BYTES_MAX;
            let may_read = self.readable && !self.ended && has_room;
            let may_write = self.writable && !self.waiting.is_empty();
            if !may_read && !may_write {
                break;
            }
            if may_read {
                match self.stream.read(&mut bytes) {
                    Ok(0) => self.ended = true,
                    Ok(count) => self.waiting.extend(bytes[..count].to_ascii_uppercase()),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                    Err(error) => return Err(error),
                }
            }
            if may_write {
                match self.stream.write(&self.waiting) {
                    Ok(count) => _ = self.waiting.drain(..count),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                    Err(error) => return Err(error),
                }
            }
        }
        let is_done = self.ended && self.waiting.is_empty();
        if is_done {
            self.stream.shutdown(Shutdown::Write)?;
        }
        Ok(!is_done)
    }
}
