//! Step 3: an edge is an invitation to find out.
//!
//! New: after an event the socket is read until the kernel says that it would block. Step 2 read
//! once, and what was left had no event of its own.
//!
//! ```sh
//! cargo run --example step3_edges
//! head -c 3000 /dev/zero | tr '\0' a | nc -N 127.0.0.1 PORT | wc -c            # 3000
//! head -c 50000000 /dev/zero | nc -N 127.0.0.1 PORT | (sleep 3; wc -c)        # fewer than 50000000
//! ```
//!
//! What is wrong: the answer is written once, and what the socket does not take is gone. A client
//! that reads slowly gets an answer with holes. To keep all of it in memory instead lets any client
//! fill the memory of the server: it has to be read no faster than it reads.

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

/// Answers all that has come. Whether the client stays.
fn answer(client: &mut TcpStream) -> bool {
    let mut bytes = [0; 1024];
    loop {
        match client.read(&mut bytes) {
            Ok(0) => return false,
            Ok(count) => {
                let answer = bytes[..count].to_ascii_uppercase();
                // What the socket does not take now is lost.
                let _ = client.write(&answer);
            }
            Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
        }
    }
}
