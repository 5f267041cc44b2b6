//! Step 2: many clients on one thread, by readiness.
//!
//! New: no call waits but `poll`, which tells which sockets have something to say. Step 1 waited in
//! `read` for one client while others had spoken.
//!
//! ```sh
//! cargo run --example step2_readiness
//! nc 127.0.0.1 PORT                           # type nothing: others are served all the same
//! head -c 3000 /dev/zero | tr '\0' a | nc 127.0.0.1 PORT | wc -c    # 1024, and then nothing more
//! ```
//!
//! What is wrong: it reads once for an event. The kernel tells of a *change* (edge-triggered:
//! `EPOLLET`, `man 7 epoll`), not of what is: nothing changes any more when 3,000 bytes have come
//! and 1,024 were read. The rest waits for ever, and so does the client.

use std::collections::HashMap;
use std::io::{self, Read, Write};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const LISTENER: Token = Token(0);

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
    let mut clients: HashMap<Token, TcpStream> = HashMap::new();
    let mut next = 1;
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                // Several may have come: of these, too, there is one event.
                while let Ok((mut client, _)) = listener.accept() {
                    let token = Token(next);
                    next += 1;
                    poll.registry()
                        .register(&mut client, token, Interest::READABLE)?;
                    clients.insert(token, client);
                }
            } else if let Some(client) = clients.get_mut(&event.token())
                && !answer(client)
            {
                clients.remove(&event.token());
            }
        }
    }
}

/// Answers what has come: once. Whether the client stays.
fn answer(client: &mut TcpStream) -> bool {
    let mut bytes = [0; 1024];
    match client.read(&mut bytes) {
        Ok(0) => false,
        Ok(count) => {
            let answer = bytes[..count].to_ascii_uppercase();
            client.write(&answer).is_ok()
        }
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}
